"""The words that a decoder may write and how probable each is, as a tree of characters in arrays, for compiled code to walk.

Tokens are walked along character by character, so that every spelling of a word in tokens is allowed, whatever the
tokenizer. A space leads from the end of a word back to the root. On the way through a word each place is worth the most
probable word that it may become, so that an improbable beginning is known as such before the word is over (Ortmanns, Ney &
Eiden 1996, "Language-model look-ahead for large vocabulary speech recognition").
"""

from __future__ import annotations

import gzip
import logging
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.compiled import Floats, Integers, compiled
from asr.errors import ConfigError, first_of
from asr.text.normalize import SPACE_MARK
from asr.text.tokenizer import Tokenizer

NONE = -1
ROOT = 0
AHEAD, ENDED = range(2)
_MOST_DIGITS = 15  # of a count: no text is longer, and logarithms of it are finite
# Other tables than those with a tab: a word, a number and whatever else; or the number first, as `uniq -c` has it.
_LIKE_A_COUNT = re.compile(r"\s*(?:\S+\s+[0-9]+(?:\s.*)?|[0-9]+\s+\S+\s*)", re.DOTALL)
_LOG = logging.getLogger(__name__)


class WordTree(NamedTuple):
    """Where each character leads, what that is worth, and what characters tokens are made of.

    Of the characters only those are kept that some word goes on with: where a language has thousands of them, a table of
    places by characters would take gigabytes.

    Attributes:
        first: row in `branches` with the first of each place, and behind all rows (P + 1,); empty if all may be written.
        branches: character, and the place behind it (B, 2); those of a place in order of their characters.
        worth: weighted log-probabilities (P, 2) of the most probable word through each place, and of the word that ends
            there, -inf if none does; 0 at the root.
        spelling: the characters (V, L) of each token, then NONE.
    """

    first: Integers
    branches: Integers
    worth: Floats
    spelling: Integers


ANYTHING = WordTree(np.zeros(0, np.int32), np.zeros((0, 2), np.int32), np.zeros((1, 2)), np.zeros((0, 0), np.int32))


# What compiled code knows a `WordTree` as.
Words = tuple[Integers, Integers, Floats, Integers]
WORDS_TYPE = "Tuple((int32[::1], int32[:, ::1], float64[:, ::1], int32[:, ::1]))"


@compiled("int64(int32[::1], int32[:, ::1], int64, int64)")
def _behind(first: Integers, branches: Integers, place: int, character: int) -> int:
    """The place behind `place` and `character`, NONE where no word goes on so."""
    low, end = first[place], first[place + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if branches[middle, 0] < character:
            low = middle + 1
        else:
            high = middle
    return int(branches[low, 1]) if low < end and branches[low, 0] == character else NONE


@compiled(f"Tuple((int64, float64))({WORDS_TYPE}, int64, int64)")
def walk(words: Words, place: int, token: int) -> tuple[int, float]:
    """The place behind `token` from `place` on, NONE if there is none, and what is gained on the way, at most 0.

    Where all may be written there are no places: a search that asks nevertheless takes nearly twice the time.
    """
    first, branches, worth, spelling = words
    gain = 0.0
    for character in spelling[token]:
        if character == NONE:
            break
        after = _behind(first, branches, place, character)
        if after == NONE:
            return NONE, gain
        # To the root means that the word is over, and what it could have become is not worth anything any more.
        gain += (
            worth[place, ENDED] - worth[place, AHEAD] if after == ROOT else worth[after, AHEAD] - worth[place, AHEAD]
        )
        place = after
    return place, gain


def count_words(path: Path, tokenizer: Tokenizer) -> Counter[str]:
    """How often each word stands in the text file `path`, as `tokenizer` normalises them; one in .gz is unpacked.

    A line of the form WORD<TAB>NUMBER stands for so many. Words that the tokenizer cannot spell are told and left out.

    Raises:
        ConfigError: the file cannot be read, has no words that can be spelt, or a share such as 0.05 for a number.
    """
    counts: Counter[str] = Counter()
    uncounted: list[int] = []
    num_counted = num_like_counts = num_lines = 0
    for line_number, line in enumerate(_lines(path), start=1):
        text, _, number = line.rstrip().partition("\t")
        count = _count(number, f"{path}:{line_number}")
        if count is None and number:
            uncounted.append(line_number)
        num_counted += count is not None
        num_lines += 1
        num_like_counts += count is None and _LIKE_A_COUNT.fullmatch(line) is not None
        for word in tokenizer.normalize(line if count is None else text).split():
            counts[word] += 1 if count is None else count
    if num_counted > len(uncounted) > 0:
        _LOG.warning(
            "%s:%d: no number stands behind the tab, as in %d other lines: taken for a word like these, seen once",
            *(path, uncounted[0], num_counted),
        )
    if num_like_counts > num_lines / 2:
        _LOG.warning(
            "%s: %d of %d lines are a word and a number, but not WORD<TAB>NUMBER: the numbers are taken for words, and "
            "every word for one that was seen once",
            *(path, num_like_counts, num_lines),
        )
    counts = +counts  # without those that stand there no times
    if not counts:
        raise ConfigError(
            f"{path}: no words; expected a list of them, any text that has them, or lines of WORD<TAB>NUMBER"
        )
    characters = set().union(*_spelt(tokenizer))
    strange = [word for word in counts if not characters.issuperset(word)]
    if strange:
        named = first_of([f"'{word}'" for word in strange])
        complaint = (
            f"words with characters that the model cannot write, {len(strange)} of {len(counts)}, such as {named}"
        )
        if len(strange) == len(counts):
            raise ConfigError(f"{path}: no words are left but {complaint}")
        _LOG.warning("%s: left out: %s", path, complaint)
    return Counter({word: count for word, count in counts.items() if characters.issuperset(word)})


def _lines(path: Path) -> Iterator[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as lines:
            yield from lines
    except (EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot read the words: the file is cut off or damaged") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the words: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the words: expected text in UTF-8") from error


def _count(number: str, where: str) -> int | None:
    """The whole number that stands behind a tab, None where something else does, as in any text."""
    if number.isdecimal() and len(number) <= _MOST_DIGITS:
        return int(number)
    if not any(map(str.isdecimal, number)):  # "nan" and "infinity" are words
        return None
    try:
        float(number.replace(",", ""))
    except ValueError:
        return None
    raise ConfigError(
        f"{where}: expected behind the tab how often the word was seen, a whole number of at most {_MOST_DIGITS} digits, "
        f"found '{number[:20]}'; multiply shares by some large number"
    )


def word_tree(counts: Mapping[str, int], tokenizer: Tokenizer, weight: float) -> WordTree:
    """The tree of the words of `counts`, in the normal form of `tokenizer`, each as probable as it is frequent.

    Logarithms count `weight`.
    """
    pieces = _spelt(tokenizer)
    numbers = {character: number for number, character in enumerate(sorted({" "}.union(*pieces)))}
    # A space before a word is one too many, and changes nothing.
    behind, worth = [{numbers[" "]: ROOT}], [[0.0, 0.0]]
    total = sum(counts.values())
    for word, count in counts.items():
        place, value = ROOT, weight * math.log(count / total)
        for character in word:
            if numbers[character] not in behind[place]:
                behind[place][numbers[character]] = len(behind)
                behind.append({})
                worth.append([-math.inf, -math.inf])
            place = behind[place][numbers[character]]
            worth[place][AHEAD] = max(worth[place][AHEAD], value)
        worth[place][ENDED] = value
        behind[place][numbers[" "]] = ROOT
    first = np.cumsum([0, *map(len, behind)], dtype=np.int32)
    branches = np.array([branch for place in behind for branch in sorted(place.items())], np.int32)
    spelling = np.full((1 + len(pieces), max(map(len, pieces))), NONE, np.int32)
    for row, piece in zip(spelling[1:], pieces, strict=True):
        row[: len(piece)] = [numbers[character] for character in piece]
    return WordTree(first, branches, np.array(worth), spelling)


def log_priors(counts: Mapping[str, int], tokenizer: Tokenizer) -> Floats:
    """Log-probability (V,) of each token in running text of the words of `counts`; 0 for the blank, which no text has.

    Tokens that no word is spelt with are as improbable as the rarest one of the others.
    """
    numbers = np.zeros(tokenizer.size)
    before = next(iter(counts))
    behind = len(tokenizer.encode(before))
    for word, count in counts.items():
        # Behind another word, since its space counts too.
        for token in tokenizer.encode(f"{before} {word}")[behind:]:
            numbers[token] += count
    total = numbers.sum()
    numbers[numbers == 0] = numbers[numbers > 0].min()
    numbers[0] = total
    priors: Floats = np.log(numbers / total)
    return priors


def _spelt(tokenizer: Tokenizer) -> list[str]:
    """What each token but the blank is in a text."""
    return [piece.replace(SPACE_MARK, " ") for piece in tokenizer.pieces[1:]]
