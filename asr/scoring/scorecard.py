"""One or several systems on the same references: everything that is to be said about their errors."""

from __future__ import annotations

import csv
import io
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from asr.atomic import write_parts, write_text
from asr.scoring.breakdown import GroupResult, check_columns, group_of, groups_of_tally
from asr.scoring.comparison import Comparison, beside_each_other, compare_tallies, matched_segments
from asr.scoring.confusion import ConfusionCounter, Confusions
from asr.scoring.error_counts import count_words
from asr.scoring.normalizers import normalizer
from asr.scoring.report import Result, UtteranceScore, result_of_tally, score_utterance
from asr.scoring.tally import Names, Tally
from asr.scoring.transcripts import Transcript, ignored

SPELLING = ("unicode", "case", "punctuation")
"""Steps that leave out what is mere spelling."""


@dataclass(frozen=True, kw_only=True)
class SystemScores:
    """One system's result and what its errors are made of.

    Attributes:
        name: of the system.
        result: of all utterances.
        scores: of each utterance, in the order of the references; empty unless they were to be kept.
        groups: results of the groups of utterances that were asked for.
        confusions: words that were confused.
        errors_of_spelling: how many word errors Unicode forms, case and punctuation make, 0 where these were normalised.
    """

    name: str
    result: Result
    scores: tuple[UtteranceScore, ...]
    groups: tuple[GroupResult, ...]
    confusions: Confusions
    errors_of_spelling: int


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Systems on the same references.

    Attributes:
        systems: in the order given.
        comparisons: of every further system with the first.
        normalizers: names of the steps that both sides went through.
        notes: what was left out or counted without having been there, in words.
    """

    systems: tuple[SystemScores, ...]
    comparisons: tuple[Comparison, ...]
    normalizers: tuple[str, ...]
    notes: tuple[str, ...] = ()


class _Gathered:
    """What is kept of one system's utterances while they go by."""

    def __init__(self, simplify: Callable[[str], str] | None, *, keep_scores: bool) -> None:
        self.tally = Tally()
        self.stretches = array("i")
        self._confusions = ConfusionCounter()
        self._scores: list[UtteranceScore] = []
        self._errors_of_spelling = 0
        self._keep_scores = keep_scores
        self._simplify = simplify

    def add(self, score: UtteranceScore, first: UtteranceScore) -> None:
        """Adds an utterance, and what the first system made of the same one."""
        self.tally.add(score)
        self._confusions.add(score)
        if score.edits and self._simplify is not None:
            said, heard = self._simplify(score.reference), self._simplify(score.hypothesis)
            # Aligning is dear, and most texts are plain.
            if (said, heard) != (score.reference, score.hypothesis):
                self._errors_of_spelling += score.words.errors - count_words(said, heard).errors
        if score is not first:
            self.stretches.extend(one - other for one, other in matched_segments(first, score))
        if self._keep_scores:
            self._scores.append(score)

    def scores_of(self, name: str, groups: Mapping[str, Names], *, subset: str) -> SystemScores:
        """All that there is to say of the system, with groups of utterances by the names of columns."""
        return SystemScores(
            name=name,
            result=result_of_tally(self.tally, subset=subset, decoder=name),
            scores=tuple(self._scores),
            groups=tuple(
                group
                for column, of_each in groups.items()
                for group in groups_of_tally(self.tally, of_each, column, subset=subset, decoder=name)
            ),
            confusions=self._confusions.confusions(),
            errors_of_spelling=self._errors_of_spelling,
        )


def score_systems(
    said: Mapping[str, Transcript],
    heard: Mapping[str, Mapping[str, Transcript]],
    *,
    subset: str,
    normalizers: Sequence[str] = (),
    normalize: Callable[[str], str] = str,
    notes: Sequence[str] = (),
    by: Sequence[str] = (),
    keep_scores: bool = True,
) -> Scorecard:
    """The scorecard of systems; it takes some 100 bytes of memory for each utterance, unless scores are kept.

    Args:
        said: references by utterance id; those that are to be ignored are left out.
        heard: by the systems' names, their hypotheses by utterance id; a missing one is one that says nothing.
        subset: name of the references.
        normalizers: names of the steps of `normalize`, to be told with the result.
        normalize: what both sides go through.
        notes: what was left out beforehand, to be told with the result.
        by: columns by which each system's utterances are grouped.
        keep_scores: whether the scores of all utterances are wanted too, with their texts.

    Raises:
        ScoringError: the references hold no word, or no utterance has one of the columns `by`.
    """
    check_columns((transcript for transcript in said.values() if not ignored(transcript)), by)
    simplify = None if set(SPELLING) <= set(normalizers) else normalizer(SPELLING)
    systems = {name: _Gathered(simplify, keep_scores=keep_scores) for name in heard}
    groups = {column: Names() for column in by}
    for scores in _scores(said, heard.values(), normalize):
        for system, score in zip(systems.values(), scores, strict=True):
            system.add(score, scores[0])
        for column, of_column in groups.items():
            of_column.add(group_of(scores[0], column))
    (name, first), *others = systems.items()
    comparisons = [
        compare_tallies(first.tally, other.tally, other.stretches, names=(name, its_name)) for its_name, other in others
    ]
    return Scorecard(
        systems=tuple(system.scores_of(name, groups, subset=subset) for name, system in systems.items()),
        comparisons=tuple(beside_each_other(comparisons)),
        normalizers=tuple(normalizers),
        notes=tuple(notes),
    )


def _scores(
    said: Mapping[str, Transcript], heard: Iterable[Mapping[str, Transcript]], normalize: Callable[[str], str]
) -> Iterator[list[UtteranceScore]]:
    """The scores of each utterance by all systems."""
    nothing = Transcript(text="")
    for utterance_id, reference in said.items():
        if ignored(reference):
            continue
        text = normalize(reference.text)
        yield [
            score_utterance(
                id=utterance_id,
                speaker=reference.speaker,
                reference=text,
                hypothesis=normalize(of_system.get(utterance_id, nothing).text),
                seconds=reference.seconds,
                columns=reference.columns,
            )
            for of_system in heard
        ]


def write_scorecard(path: Path, card: Scorecard) -> None:
    """Writes `card` to `path` as JSON, without its utterances."""
    record = {
        "normalizers": card.normalizers,
        "notes": card.notes,
        "systems": [
            {
                **asdict(system.result),
                "groups": [_group(group) for group in system.groups],
                # `asdict` would make objects of all of them, which the encoder does for one system after another.
                "confusions": vars(system.confusions),
            }
            for system in card.systems
        ],
        "comparisons": [
            {**asdict(comparison), "p": comparison.p, "sentence": comparison.sentence()}
            for comparison in card.comparisons
        ],
    }
    encoder = json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False, default=list)
    write_parts(path, (part.encode("utf-8", "backslashreplace") for part in chain(encoder.iterencode(record), "\n")))


def _group(group: GroupResult) -> dict[str, object]:
    counts = group.words
    return {
        "column": group.column,
        "group": group.group,
        "utterances": group.utterances,
        "wer": counts.rate if counts.reference_length else None,
        "wer_low": None if group.interval is None else group.interval.low,
        "wer_high": None if group.interval is None else group.interval.high,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "words": counts.reference_length,
    }


def write_table(path: Path, card: Scorecard) -> None:
    """Writes the results of `card` to `path` as CSV, one line per system."""
    rows = [asdict(system.result) for system in card.systems]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
