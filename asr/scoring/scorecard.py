"""One or several systems on the same references: everything that is to be said about their errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.atomic import write_text
from asr.scoring.breakdown import Confusions, GroupResult, check_columns, confusions, summarize_groups
from asr.scoring.comparison import Comparison, compare
from asr.scoring.error_counts import count_words
from asr.scoring.normalizers import normalizer
from asr.scoring.report import Result, UtteranceScore, score_utterance, summarize
from asr.scoring.transcripts import Transcript

_SPELLING = ("case", "punctuation")


@dataclass(frozen=True, kw_only=True)
class SystemScores:
    """One system's result and the scores of its utterances, in the order of the references."""

    name: str
    result: Result
    scores: tuple[UtteranceScore, ...]
    groups: tuple[GroupResult, ...]
    confusions: Confusions


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Systems on the same references.

    Attributes:
        systems: in the order given.
        comparisons: of every further system with the first.
        normalizers: names of the steps that both sides went through.
    """

    systems: tuple[SystemScores, ...]
    comparisons: tuple[Comparison, ...]
    normalizers: tuple[str, ...]


def score_systems(
    systems: Mapping[str, Mapping[str, tuple[Transcript, str]]],
    *,
    subset: str,
    normalizers: Sequence[str] = (),
    normalize: Callable[[str], str] = str,
    by: Sequence[str] = (),
    seed: int = 0,
) -> Scorecard:
    """The scorecard of `systems`: for each, pairs of reference and hypothesis by utterance id, of the same utterances.

    Args:
        systems: pairs by the systems' names.
        subset: name of the references.
        normalizers: names of the steps of `normalize`, to be told with the result.
        normalize: what both sides go through.
        by: columns by which each system's utterances are grouped.
        seed: of the resampling.

    Raises:
        ScoringError: the references hold no word, or no utterance has one of the columns `by`.
    """
    check_columns([said for pairs in systems.values() for said, _ in pairs.values()], by)
    scored = {
        name: tuple(
            score_utterance(
                id=utterance_id,
                speaker=said.speaker,
                reference=normalize(said.text),
                hypothesis=normalize(heard),
                seconds=said.seconds,
                columns=said.columns,
            )
            for utterance_id, (said, heard) in pairs.items()
        )
        for name, pairs in systems.items()
    }
    first, *others = scored
    return Scorecard(
        systems=tuple(
            SystemScores(
                name=name,
                result=summarize(scores, subset=subset, decoder=name, seed=seed),
                scores=scores,
                groups=tuple(
                    group
                    for column in by
                    for group in summarize_groups(scores, column, subset=subset, decoder=name, seed=seed)
                ),
                confusions=confusions(scores),
            )
            for name, scores in scored.items()
        ),
        comparisons=tuple(compare(scored[first], scored[name], names=(first, name), seed=seed) for name in others),
        normalizers=tuple(normalizers),
    )


def errors_of_spelling(card: Scorecard) -> tuple[tuple[str, ...], dict[str, tuple[int, int]]]:
    """Steps that leave case and punctuation out, and for each system how many of its word errors that would take away.

    Returns:
        The steps of `card` with those that it lacks behind them, and by system the errors taken away and all errors.
    """
    steps = (*card.normalizers, *(step for step in _SPELLING if step not in card.normalizers))
    if steps == card.normalizers:
        return steps, {}
    simplify = normalizer(_SPELLING)
    found = {}
    for system in card.systems:
        wrong = [score for score in system.scores if score.edits]
        before = sum(score.words.errors for score in wrong)
        left = sum(count_words(simplify(score.reference), simplify(score.hypothesis)).errors for score in wrong)
        found[system.name] = (before - left, before)
    return steps, found


def write_scorecard(path: Path, card: Scorecard) -> None:
    """Writes `card` to `path` as JSON, without its utterances."""
    record = {
        "normalizers": card.normalizers,
        "systems": [
            {
                **asdict(system.result),
                "groups": [_group(group) for group in system.groups],
                "confusions": asdict(system.confusions),
            }
            for system in card.systems
        ],
        "comparisons": [
            {**asdict(comparison), "p": comparison.p, "sentence": comparison.sentence()}
            for comparison in card.comparisons
        ],
    }
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _group(group: GroupResult) -> dict[str, object]:
    counts = group.words
    return {
        "column": group.column,
        "group": group.group,
        "utterances": group.utterances,
        "wer": None if group.interval is None else counts.rate,
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
