"""A comparison as Markdown, to be pasted into a README, a paper's draft or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asr.studies.outcome import Outcome
from asr.studies.page import (
    COST_HEADS,
    cost_figures,
    error_figures,
    error_heads,
    note_on_errors,
    notes_on_code,
    notes_on_costs,
)


def markdown(outcome: Outcome) -> str:
    """Tables of costs and of error rates, and below each what it says."""
    return "\n".join(_lines(outcome)) + "\n"


def _lines(outcome: Outcome) -> Iterator[str]:
    yield from _table(
        ("variant", *COST_HEADS), ((variant.name, *cost_figures(variant, outcome)) for variant in outcome.variants)
    )
    yield ""
    yield from notes_on_costs(outcome)
    yield from notes_on_code(outcome)
    for subset, decoder in outcome.parts():
        pooled = outcome.pooled_of(subset, decoder)
        yield ""
        yield from _table(
            (f"{subset}, {decoder}", *error_heads(outcome)),
            ((each.variant, *error_figures(each, outcome)) for each in pooled),
        )
        yield ""
        yield note_on_errors(pooled, outcome)
        yield ""
        for pair in outcome.pairs_of(subset, decoder):
            yield f"- {' '.join(pair.sentences())}"
    for name, why in outcome.failures.items():
        yield f"- {name} failed: {why}"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Numbers to the right, behind a first column of names."""
    yield _row(head)
    yield "|---|" + "---:|" * (len(head) - 1)
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
