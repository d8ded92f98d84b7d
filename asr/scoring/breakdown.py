"""What an error rate is made of: by speaker, by duration, by any column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asr.errors import ScoringError, did_you_mean
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.report import UtteranceScore
from asr.scoring.significance import FEWEST_BLOCKS, Interval, rate_interval, sums_of_blocks
from asr.scoring.tally import Names, Tally, errors_and_lengths, total
from asr.scoring.transcripts import Transcript

if TYPE_CHECKING:
    from rich.table import Table

SPEAKER, DURATION = "speaker", "duration"
UNKNOWN = "(unknown)"

_EDGES_SECONDS = (0, 1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """The word errors of one group of utterances in one subset under one decoder.

    Attributes:
        subset, decoder: as in `Result`.
        column: what the utterances are grouped by, such as "speaker".
        group: what they have in common.
        utterances: number of them.
        words: error counts.
        interval: of the error rate; None where the group's references hold no word, or it is too small to be resampled.
    """

    subset: str
    decoder: str
    column: str
    group: str
    utterances: int
    words: ErrorCounts
    interval: Interval | None


def summarize_groups(scores: Sequence[UtteranceScore], column: str, *, subset: str, decoder: str) -> list[GroupResult]:
    """The results of the groups that `scores` fall into by "speaker", "duration" or the name of a column.

    Durations come from short to long, other groups with the highest error rate first. Where a group holds at least ten
    speakers its interval resamples these, else utterances: for one speaker it tells what to expect of more of him. Of less
    than ten utterances there is none: resampling two, say, covers 62 instead of 95 % of the cases.
    """
    groups = Names()
    for score in scores:
        groups.add(group_of(score, column))
    return groups_of_tally(Tally.of(scores), groups, column, subset=subset, decoder=decoder)


def groups_of_tally(tally: Tally, groups: Names, column: str, *, subset: str, decoder: str) -> list[GroupResult]:
    """The results of the utterances of `tally`, whose groups by `column` are `groups`; see `summarize_groups`."""
    by_group = np.argsort(groups.numbers, kind="stable")
    ends = np.cumsum(np.bincount(groups.numbers, minlength=len(groups.distinct)))
    results = [
        GroupResult(
            subset=subset,
            decoder=decoder,
            column=column,
            group=group,
            utterances=len(members),
            words=total(tally.words[members]),
            interval=_interval(tally, members),
        )
        for group, members in zip(groups.distinct, np.split(by_group, ends[:-1]), strict=True)
    ]
    if column == DURATION:
        names = [_name_of_bin(*edges) for edges in _bins()]
        return sorted(results, key=lambda result: (*names, UNKNOWN).index(result.group))
    return sorted(results, key=lambda result: (-result.words.rate, result.group))


def check_columns(references: Iterable[UtteranceScore | Transcript], by: Sequence[str]) -> None:
    """Accepts columns `by` of which each is known of some of `references`.

    Raises:
        ScoringError: no speaker, no duration or no such column is known.
    """
    known = _known_columns(references) if by else set()
    how = {
        SPEAKER: "no speaker is known here; --speaker-before takes it from the ids, or give the references a column "
        "'speaker'",
        DURATION: "no duration is known here; give the references a column 'seconds'",
    }
    for column in by:
        if column not in known:
            hint = did_you_mean(column, known) if known else "; nothing is known here but texts"
            raise ScoringError(f"--by {column}: {how.get(column) or f'no such column{hint}'}")


def _known_columns(utterances: Iterable[UtteranceScore | Transcript]) -> set[str]:
    """What at least one of `utterances` can be grouped by."""
    known: set[str] = set()
    for each in utterances:
        known.update(name for name, value in each.columns.items() if value)
        known.update(name for name, value in ((SPEAKER, each.speaker), (DURATION, each.seconds)) if value)
    return known


def group_of(score: UtteranceScore, column: str) -> str:
    """The group that `score` falls into by "speaker", "duration" or the name of a column; "(unknown)" where it has none.

    Example:
        >>> from asr.scoring.report import score_utterance
        >>> group_of(score_utterance(id="a", reference="b", hypothesis="b", seconds=2.5), "duration")
        '2-4 s'
    """
    if column == SPEAKER:
        return score.speaker or UNKNOWN
    if column == DURATION:
        known = [] if score.seconds is None else [edges for edges in _bins() if score.seconds >= edges[0]]
        return _name_of_bin(*known[-1]) if known else UNKNOWN
    return score.columns.get(column) or UNKNOWN


def _bins() -> list[tuple[int, int | None]]:
    return [*pairwise(_EDGES_SECONDS), (_EDGES_SECONDS[-1], None)]


def _name_of_bin(low: int, high: int | None) -> str:
    return f"{low} s and more" if high is None else f"{low}-{high} s"


def _interval(tally: Tally, members: npt.NDArray[np.int64]) -> Interval | None:
    counts = errors_and_lengths(tally.words[members])
    if not counts[:, 1].any():
        return None
    blocks, _ = sums_of_blocks(counts, tally.speakers.numbers[members], tally.speakers.distinct)
    if len(blocks) < FEWEST_BLOCKS:
        return None
    return rate_interval(blocks, np.random.default_rng(0))


def groups_tables(results: Iterable[GroupResult], *, systems: str = "decoder") -> list[Table]:
    """Tables of `results` for rich to print: one for each column, with one line per group.

    Args:
        results: the groups.
        systems: what the results of one subset are of, the head of their column.
    """
    from rich.table import Table

    tables: dict[str, Table] = {}
    for result in results:
        if result.column not in tables:
            tables[result.column] = table = Table(
                box=None, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left"
            )
            for name in ("subset", systems, result.column):
                table.add_column(name, overflow="fold")
            for name in ("WER %", "95 %", "sub", "del", "ins", "words", "utts"):
                table.add_column(name, justify="right", no_wrap=True)
        counts, interval = result.words, result.interval
        if result.utterances < FEWEST_BLOCKS:
            tables[result.column].caption = f"-: less than {FEWEST_BLOCKS} utterances, too few for an interval"
        numbers = (counts.substitutions, counts.deletions, counts.insertions, counts.reference_length)
        tables[result.column].add_row(
            result.subset,
            result.decoder,
            result.group,
            f"{100 * counts.rate:.2f}" if counts.reference_length else "-",
            "-" if interval is None else f"{100 * interval.low:.2f}-{100 * interval.high:.2f}",
            *map(str, numbers),
            str(result.utterances),
        )
    return list(tables.values())
