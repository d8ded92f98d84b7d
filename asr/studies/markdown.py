"""A comparison as Markdown, to be pasted into a README, a paper's draft or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asr.studies.outcome import Outcome
from asr.studies.page import notes_on_code, tables


def markdown(outcome: Outcome) -> str:
    """Tables of costs and of error rates, and below each what it says."""
    return "\n".join(_lines(outcome)) + "\n"


def _lines(outcome: Outcome) -> Iterator[str]:
    yield from notes_on_code(outcome)
    for table in tables(outcome):
        yield from ("", *_table(table.head, table.rows), "", *table.notes, "")
        yield from (f"- {' '.join(sentences)}" for sentences in table.pairs)
    for name, why in outcome.failures.items():
        yield f"- {name} failed: {why}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Numbers to the right, behind a first column of names."""
    yield _row(head)
    yield "|---|" + "---:|" * (len(head) - 1)
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
