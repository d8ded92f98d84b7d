"""Error counts: how many words or characters of a reference were heard, exchanged, dropped or made up.

Counts add, rates do not: a corpus's rate is the sum of its errors over the sum of its reference lengths. The mean of
the utterances' rates is another number, in which a word weighs more in a short sentence. So everything here counts,
and `rate` divides once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import add

import jiwer
from rapidfuzz.distance import Levenshtein

Edit = tuple[int, int, int, int]
"""A stretch in which two texts differ: its first word and the one behind its last, in the reference and the hypothesis."""

# Some 5 ms for one stretch of errors. Only a long text against one of something else has more to compare, and no likeness.
_MOST_LIKENESSES = 10_000


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """What became of the units (words or characters) of some references; adds with `+`, starting from `ErrorCounts()`.

    Attributes:
        hits: units that stand in both.
        substitutions: units of the reference that were exchanged for another.
        deletions: units of the reference that are missing in the hypothesis.
        insertions: units of the hypothesis that nobody said.

    Example:
        >>> total = count_words("turn on the light", "turn the lights") + count_words("yes", "yes")
        >>> total
        ErrorCounts(hits=3, substitutions=1, deletions=1, insertions=0)
        >>> total.rate
        0.4
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        """Number of errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Number of units in the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis_length(self) -> int:
        """Number of units in the hypotheses."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the references: 0 is perfect, and insertions can take it beyond 1.

        Where the references are empty there is nothing to divide by: 0 without errors, else infinite. (jiwer returns
        the number of insertions there, a count that looks like a rate.)
        """
        if self.reference_length:
            return self.errors / self.reference_length
        return math.inf if self.errors else 0.0

    @property
    def match_error_rate(self) -> float:
        """Errors per aligned pair, MER, from 0 to 1; 0 where there is no unit at all. Source: Morris et al. 2004."""
        return self.errors / (self.hits + self.errors) if self.errors else 0.0

    @property
    def information_lost(self) -> float:
        """Word information lost, WIL, from 0 to 1: 1 less the product of the shares of hits in both texts.

        0 where both texts are empty. Source: Morris et al. 2004, "From WER and RIL to MER and WIL".
        """
        if not self.errors:
            return 0.0
        lengths = self.reference_length * self.hypothesis_length
        return 1 - self.hits**2 / lengths if lengths else 1.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Words of the reference, and what the hypothesis has in their place; equal where they were heard.

    Exchanged words come in pairs; one side is empty for words that were dropped or made up.
    """

    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


def count_words(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors of `hypothesis`; words are what stands between white space of any kind, and are compared as they are.

    Example:
        >>> count_words("the cat sat", "the  cat sat down")
        ErrorCounts(hits=3, substitutions=0, deletions=0, insertions=1)
    """
    return _counts(_align_words(reference, hypothesis))


def count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors of `hypothesis`; the space between two words is a character, other white space is not counted.

    Characters are code points: `é` is one or two, as the text has it. Normalise both sides alike first.

    Example:
        >>> count_characters("on", "in  a")
        ErrorCounts(hits=1, substitutions=1, deletions=0, insertions=2)
    """
    said, heard = _single_spaced(reference), _single_spaced(hypothesis)
    # What jiwer does too, without a list of characters: the larger part of the time of scoring.
    kinds = [edit.tag for edit in Levenshtein.editops(said, heard)]
    substitutions, deletions, insertions = (kinds.count(kind) for kind in ("replace", "delete", "insert"))
    return ErrorCounts(len(said) - substitutions - deletions, substitutions, deletions, insertions)


def word_edits(reference: str, hypothesis: str) -> tuple[tuple[Edit, ...], ErrorCounts]:
    """Where two texts differ, in order, and the word errors that this makes.

    Among alignments with the fewest errors jiwer's choice is taken as to which words were heard and how many are exchanged;
    which these are, where that is open between two words that were heard, their letters say.

    Example:
        >>> word_edits("a b c", "a x c d")[0]
        ((1, 2, 1, 2), (3, 3, 3, 4))
        >>> word_edits("the cat sat", "cats sat")[0]
        ((0, 1, 0, 0), (1, 2, 0, 1))
    """
    aligned = _align_words(reference, hypothesis)
    edits: list[Edit] = []
    for is_equal, chunks in groupby(aligned.alignments[0], key=lambda chunk: chunk.type == "equal"):
        if not is_equal:
            first, *others = chunks
            last = others[-1] if others else first
            stretch = (first.ref_start_idx, last.ref_end_idx, first.hyp_start_idx, last.hyp_end_idx)
            edits += _most_alike(stretch, aligned.references[0], aligned.hypotheses[0]) if others else [stretch]
    return tuple(edits), _counts(aligned)


def _most_alike(stretch: Edit, said: Sequence[str], heard: Sequence[str]) -> list[Edit]:
    """The edits of a `stretch` without a hit, in which one side has more words: each of the other is exchanged for one."""
    said_start, said_end, heard_start, heard_end = stretch
    if said_end - said_start > heard_end - heard_start:
        mirrored = _most_alike((heard_start, heard_end, said_start, said_end), heard, said)
        return [(start, end, first, behind) for first, behind, start, end in mirrored]
    skipped = _words_skipped(said[said_start:said_end], heard[heard_start:heard_end])
    runs = [(number, len(list(run))) for number, run in groupby(skipped)]
    edits: list[Edit] = []
    position, place = said_start, heard_start
    for number, length in [*runs, (heard_end - heard_start - len(skipped), 0)]:
        after = heard_start + number + position - said_start
        edits.append((position, position, place, after))
        edits.append((position, position + length, after, after + length))
        position, place = position + length, after + length
    return [edit for edit in edits if edit[3] > edit[2]]


def _words_skipped(fewer: Sequence[str], more: Sequence[str]) -> list[int]:
    """For each of the `fewer` words how many of `more` are left out before the one that it is exchanged for.

    So that the sum of their likenesses is the highest: the share of the longer word's letters that need no change.
    """
    spare = len(more) - len(fewer)
    if len(fewer) * spare > _MOST_LIKENESSES:
        return [0] * len(fewer)
    # Of the best choice for so many words, by how many of the others were left out before the last.
    best = [[0.0] * (spare + 1)]
    for number, word in enumerate(fewer):
        likeness = (Levenshtein.normalized_similarity(word, other) for other in more[number : number + spare + 1])
        best.append(list(accumulate(map(add, best[-1], likeness), max)))
    skipped = [spare]
    for row in best[:0:-1]:
        skipped.append(row.index(row[skipped[-1]]))
    return skipped[:0:-1]


def differences(reference: str, hypothesis: str, edits: Iterable[Edit]) -> list[Difference]:
    """All of both texts, stretch by stretch: those that `edits` tell of, and between them what is equal.

    Example:
        >>> parts = differences("a b c", "a x c d", word_edits("a b c", "a x c d")[0])
        >>> [(part.reference, part.hypothesis) for part in parts]
        [(('a',), ('a',)), (('b',), ('x',)), (('c',), ('c',)), ((), ('d',))]
    """
    said, heard = reference.split(), hypothesis.split()
    parts: list[Difference] = []
    done_said, done_heard = 0, 0
    for said_start, said_end, heard_start, heard_end in (*edits, (len(said), len(said), len(heard), len(heard))):
        for words, others in (
            (said[done_said:said_start], heard[done_heard:heard_start]),
            (said[said_start:said_end], heard[heard_start:heard_end]),
        ):
            if words or others:
                parts.append(Difference(tuple(words), tuple(others)))
        done_said, done_heard = said_end, heard_end
    return parts


def _align_words(reference: str, hypothesis: str) -> jiwer.WordOutput:
    # jiwer splits at U+0020 only: "a\tb" would be one word.
    return jiwer.process_words(_single_spaced(reference), _single_spaced(hypothesis))


def _counts(aligned: jiwer.WordOutput) -> ErrorCounts:
    return ErrorCounts(aligned.hits, aligned.substitutions, aligned.deletions, aligned.insertions)


def _single_spaced(text: str) -> str:
    return " ".join(text.split())
