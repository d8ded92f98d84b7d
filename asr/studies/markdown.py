"""A comparison as Markdown, to be pasted into a README, a paper's draft or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asr.scoring import interval_note
from asr.studies.outcome import Outcome
from asr.studies.page import cost_figures, notes_on_costs

_COSTS = ("parameters", "M mult-adds/s", "s/epoch", "s training", "memory MB", "RTF")


def markdown(outcome: Outcome) -> str:
    """Tables of costs and of error rates, and below each what it says."""
    return "\n".join(_lines(outcome)) + "\n"


def _lines(outcome: Outcome) -> Iterator[str]:
    yield from _table(
        ("variant", *_COSTS), ((variant.name, *cost_figures(variant, outcome)) for variant in outcome.variants)
    )
    yield ""
    yield from notes_on_costs(outcome)
    seeds = ", ".join(map(str, outcome.seeds))
    for subset, decoder in outcome.parts():
        pooled = outcome.pooled_of(subset, decoder)
        yield ""
        yield from _table(
            (f"{subset}, {decoder}", "WER %", "95 %", "CER %", f"WER % of seeds {seeds}"),
            (
                (
                    each.variant,
                    f"{100 * each.result.wer:.2f}",
                    f"{100 * each.result.wer_low:.2f}-{100 * each.result.wer_high:.2f}",
                    f"{100 * each.result.cer:.2f}",
                    ", ".join(f"{100 * rate:.2f}" for rate in each.wer_by_seed.values()),
                )
                for each in pooled
            ),
        )
        one = pooled[0].result
        yield ""
        yield f"{one.utterances} utterances, {one.words} words. {interval_note([one])}"
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
