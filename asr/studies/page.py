"""The page of a comparison: one HTML file without script that shows what the runs cost and how wrong they are."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from asr.atomic import write_text
from asr.report.static import card, note, sentences, static_page, table
from asr.scoring import interval_note, part_note
from asr.studies.compare import Plan, slug
from asr.studies.outcome import Epoch, Outcome, Pooled, VariantOutcome
from asr.studies.svg import Series, bar, chart, interval, swatch

_STYLE = Path(__file__).parent / "study.css"
_AGAIN = "again"


def write_study_page(path: Path, title: str, cards: Iterable[str]) -> None:
    """Write the page with `cards`, each of them HTML, to `path`."""
    write_text(path, static_page(title=title, body="\n".join(cards), style=_STYLE.read_text(encoding="utf-8")))


def write_comparison(path: Path, plan: Plan, outcome: Outcome) -> None:
    """Write the page of `outcome` to `path`; it points to the reports of single runs, which lie below its folder."""
    names = [variant.name for variant in outcome.variants]
    cards = [
        _failures(outcome),
        card("Runs that other code has made", sentences(notes_on_code(outcome)), wide=True),
        *(_errors(outcome, part, names) for part in outcome.parts()),
        card("What it costs", _costs(outcome), sentences(notes_on_costs(outcome)), wide=True),
        *_curves(outcome),
        _errors_by_cost(outcome),
        card("The runs", _runs(plan, outcome), _how(outcome), wide=True),
    ]
    write_study_page(path, outcome.title, cards)


def _failures(outcome: Outcome) -> str:
    lines = "".join(
        f'<li><span class="failure">{escape(name)}</span> {escape(why)}</li>' for name, why in outcome.failures.items()
    )
    return card(
        "Runs that failed, and are in no figure", f'<ul class="sentences">{lines}</ul>' if lines else "", wide=True
    )


def _errors(outcome: Outcome, part: tuple[str, str], names: list[str]) -> str:
    pooled = outcome.pooled_of(*part)
    most = max(max(each.result.wer_high, *each.wer_by_seed.values()) for each in pooled)
    rows = [_errors_row(each, outcome, names.index(each.variant), most) for each in pooled]
    wer_head, *heads = error_heads(outcome)
    head = ("variant", wer_head, "", *heads)
    return card(
        f"{part[0]}, {part[1]} decoder",
        note(note_on_errors(pooled, outcome)),
        table(head, rows, numbers=(1, 3, 4, 5)),
        sentences(sentence for pair in outcome.pairs_of(*part) for sentence in pair.sentences()),
        wide=True,
    )


def _errors_row(pooled: Pooled, outcome: Outcome, number: int, most: float) -> tuple[str, ...]:
    result = pooled.result
    wer, *figures = error_figures(pooled, outcome)
    return (
        f"{swatch(number)}{escape(pooled.variant)}",
        f'<span class="big">{wer}</span>',
        interval(result.wer, result.wer_low, result.wer_high, pooled.wer_by_seed.values(), most=most, colour=number),
        *figures,
    )


def error_heads(outcome: Outcome) -> tuple[str, ...]:
    """What `error_figures` are of."""
    return "WER %", "95 %", "CER %", f"WER % of {_seeds(outcome)}"


def error_figures(pooled: Pooled, outcome: Outcome) -> tuple[str, ...]:
    """Word error rate with its interval, character error rate, and the word error rate of each seed, "-" without a run.

    Rates of runs that other code has made are marked, as `notes_on_code` tells.
    """
    result, rates, others = pooled.result, pooled.wer_by_seed, outcome.of_other_code()
    marks = {seed: "*" if (pooled.variant, seed) in others else "" for seed in rates}
    return (
        f"{100 * result.wer:.2f}",
        f"{100 * result.wer_low:.2f}-{100 * result.wer_high:.2f}",
        f"{100 * result.cer:.2f}",
        ", ".join(f"{100 * rates[seed]:.2f}{marks[seed]}" if seed in rates else "-" for seed in outcome.seeds),
    )


def notes_on_code(outcome: Outcome) -> Iterator[str]:
    """Which runs other code than this has made, and that they should not stand beside those of this."""
    others = outcome.of_other_code()
    by_reason: dict[str, list[str]] = {}
    for (variant, seed), reason in others.items():
        by_reason.setdefault(reason, []).append(f"{variant} seed {seed}")
    for reason, runs in by_reason.items():
        yield f"* Made by other code than this, {reason}: {', '.join(runs)}."
    if others:
        yield "Figures of different code may differ for that alone, whatever the tests say of them; --fresh makes all anew."


def note_on_errors(pooled: Sequence[Pooled], outcome: Outcome) -> str:
    """On how much speech the rates of one part were measured, what they are means of, and what the intervals tell."""
    one = pooled[0].result
    is_whole = all(each.wer_by_seed.keys() == set(outcome.seeds) for each in pooled)
    missing = "" if is_whole else "; -: that run failed, and the mean is over the others"
    return (
        f"{one.utterances} utterances, {one.words} words; mean over {_seeds(outcome)}{missing}. "
        f"{interval_note([each.result for each in pooled])} Intervals tell of other speech, not of other trainings."
        f"{part_note([one])}"
    )


class Table(NamedTuple):
    """Figures behind a first column of names, what they mean, and the sentences on each pair of variants."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]
    pairs: list[list[str]]


def tables(outcome: Outcome) -> Iterator[Table]:
    """What the page shows, for where there are no pictures: the costs, and the errors of each part."""
    costs = [(variant.name, *cost_figures(variant, outcome)) for variant in outcome.variants]
    yield Table(("variant", *COST_HEADS), costs, list(notes_on_costs(outcome)), [])
    for subset, decoder in outcome.parts():
        pooled = outcome.pooled_of(subset, decoder)
        errors = [(each.variant, *error_figures(each, outcome)) for each in pooled]
        pairs = [pair.sentences() for pair in outcome.pairs_of(subset, decoder)]
        yield Table((f"{subset}, {decoder}", *error_heads(outcome)), errors, [note_on_errors(pooled, outcome)], pairs)


def _seeds(outcome: Outcome) -> str:
    return f"{'seed' if len(outcome.seeds) == 1 else 'seeds'} {', '.join(map(str, outcome.seeds))}"


def _costs(outcome: Outcome) -> str:
    costs = [_cost_values(variant, outcome) for variant in outcome.variants]
    # Each column has a scale of its own: bars start at 0, and the longest is the most that a variant costs.
    most = [max((value or 0.0 for value in column), default=0.0) or 1.0 for column in zip(*costs, strict=True)]
    rows = []
    for number, (variant, values) in enumerate(zip(outcome.variants, costs, strict=True)):
        shares = [0.0 if value is None else value / top for value, top in zip(values, most, strict=True)]
        figures = zip(cost_figures(variant, outcome), map(bar, shares), strict=True)
        rows.append((f"{swatch(number)}{escape(variant.name)}", *map("".join, figures)))
    return table(("variant", *COST_HEADS), rows, numbers=range(1, 1 + len(COST_HEADS)))


_COST_FORMATS = {
    "parameters": "{:,}",
    "M mult-adds/s": "{:.1f}",
    "s/epoch": "{:.1f}",
    "s training": "{:.0f}",
    "memory MB": "{:.0f}",
    "RTF": "{:.4f}",
}
COST_HEADS = tuple(_COST_FORMATS)
"""What `cost_figures` are."""


def cost_figures(variant: VariantOutcome, outcome: Outcome) -> tuple[str, ...]:
    """What `variant` costs, as it is shown below `COST_HEADS`; "-" for what is unknown."""
    values = zip(_COST_FORMATS.values(), _cost_values(variant, outcome), strict=True)
    return tuple("-" if value is None else form.format(value) for form, value in values)


def _cost_values(variant: VariantOutcome, outcome: Outcome) -> tuple[float | None, ...]:
    """Parameters, millions of multiplications with additions, seconds per epoch and in all, megabytes, real-time factor."""
    memory, parts = variant.training_memory_bytes, outcome.parts()
    return (
        variant.parameters,
        variant.multiply_adds / 1e6,
        variant.mean(lambda run: run.seconds_per_epoch),
        variant.mean(lambda run: run.train_seconds),
        None if memory is None else memory / 1e6,
        variant.real_time_factor(parts[0][1]) if parts else None,
    )


def notes_on_costs(outcome: Outcome) -> Iterator[str]:
    """What the figures of costs mean."""
    if outcome.match == "parameters":
        yield "Matched: the hidden size of each variant is the one whose number of parameters is nearest to the first's."
    if outcome.match == "time":
        yield (
            "Matched: each variant has as many whole epochs as should take the first one's seconds, by some timed updates; "
            "the column tells what they took."
        )
    on_gpu = any(run.measures.device.startswith("cuda") for variant in outcome.variants for run in variant.runs)
    what = "what torch took of the GPU" if on_gpu else "of the training, over what the program took before it"
    parts = outcome.parts()
    yield (
        f"Seconds: updates and validations, mean over seeds. Memory: {what}, most of any seed. "
        f"RTF: computing time / audio time{f', {parts[0][1]} decoder' if parts else ''}. "
        "Mult-adds: matrices and convolutions of the network, without features, per second of audio."
    )
    at_once = outcome.circumstances["runs at a time"]
    if at_once != 1:
        yield f"{at_once} runs went on at a time: where they share a processor, their seconds say less."


def _curves(outcome: Outcome) -> Iterator[str]:
    kinds: tuple[tuple[str, Callable[[Epoch], float], bool], ...] = (
        ("loss on the development set", lambda each: each.loss, True),
        ("WER on the development set, %", lambda each: 100 * each.wer, False),
        ("loss in training", lambda each: each.train_loss, True),
    )
    for name, value, is_log in kinds:
        series = [
            line for number, variant in enumerate(outcome.variants) for line in _variant_curve(variant, number, value)
        ]
        # The lines of means lie above those of single seeds, or the last variant's seeds would hide the others' means.
        series.sort(key=lambda line: line.style != "thin")
        picture = chart(series, title=name, x="epoch", y=name, y_log=is_log)
        yield card(name[0].upper() + name[1:], picture and _legend(outcome), picture)


def _variant_curve(variant: VariantOutcome, number: int, value: Callable[[Epoch], float]) -> Iterator[Series]:
    by_epoch: dict[int, list[float]] = {}
    for run in variant.runs:
        for each in run.curve:
            by_epoch.setdefault(each.epoch, []).append(value(each))
        if len(variant.runs) > 1:
            yield Series(points=[(each.epoch, value(each)) for each in run.curve], colour=number, style="thin")
    # Where one seed has stopped early, the mean of the others would jump.
    whole = {epoch: values for epoch, values in by_epoch.items() if len(values) == len(variant.runs)}
    yield Series(points=[(epoch, statistics.mean(values)) for epoch, values in sorted(whole.items())], colour=number)


def _legend(outcome: Outcome, *, curves: bool = True) -> str:
    entries = "".join(
        f"<li>{swatch(number)}{escape(variant.name)}</li>" for number, variant in enumerate(outcome.variants)
    )
    several = '<li class="muted">thin: each seed</li>' if curves and len(outcome.seeds) > 1 else ""
    return f'<ul class="legend">{entries}{several}</ul>'


def _errors_by_cost(outcome: Outcome) -> str:
    parts = outcome.parts()
    if not parts:
        return ""
    subset, decoder = parts[0]
    rates = {each.variant: 100 * each.result.wer for each in outcome.pooled_of(subset, decoder)}
    costs: tuple[tuple[str, Callable[[VariantOutcome], float | None]], ...] = (
        ("million mult-adds per second of audio", lambda variant: variant.multiply_adds / 1e6),
        ("seconds of training", lambda variant: variant.mean(lambda run: run.train_seconds)),
    )
    pictures = []
    for name, cost in costs:
        series = [
            Series(
                points=[(value, rates[variant.name])],
                colour=number,
                style="dots",
                labels=[f"{variant.name}: {value:,.1f} {name}, WER {rates[variant.name]:.2f} %"],
            )
            for number, variant in enumerate(outcome.variants)
            if variant.name in rates and (value := cost(variant)) is not None
        ]
        pictures.append(chart(series, title=f"WER by {name}", x=name, y=f"WER on {subset}, {decoder}, %"))
    return card("Errors against costs", _legend(outcome, curves=False), *pictures)


def _runs(plan: Plan, outcome: Outcome) -> str:
    rows = []
    for number, variant in enumerate(outcome.variants):
        links = ", ".join(f'<a href="{escape(run.folder)}/report.html">seed {run.seed}</a>' for run in variant.runs)
        rows.append(
            (f"{swatch(number)}{escape(variant.name)}", links or "-", f"<code>{escape(command(plan, variant))}</code>")
        )
    return table(("variant", "every utterance", "the first seed's run again"), rows) + note(
        "Paths in the commands are as seen from where the comparison was called; each command writes into a folder of its "
        f"own in {plan.folder / _AGAIN}."
    )


def command(plan: Plan, variant: VariantOutcome) -> str:
    """The `asr run` that does the first seed of `variant` again, beside what the comparison has made."""
    request = plan.request
    options = {
        "--out": plan.folder / _AGAIN / f"{slug(variant.name)}-seed{plan.seeds[0]}",
        "--manifest": request.manifest,
        "--dev": request.dev,
        "--root": request.root,
        "--mirror": request.mirror,
        "--config": request.config,
    }
    words = ["asr", "run", *([request.recipe] if request.recipe else [])]
    words += [word for name, value in options.items() if value is not None for word in (name, str(value))]
    words += [word for path in request.test for word in ("--test", str(path))]
    return shlex.join([*words, *variant.command])


def _how(outcome: Outcome) -> str:
    return note("; ".join(f"{name} {value}" for name, value in outcome.circumstances.items())) + sentences(
        (
            "Intervals: errors are summed over the seeds utterance by utterance, and whole utterances or speakers drawn. Of "
            "other trainings the seeds tell, by Student's t on their word error rates.",
            "Tests: the paired bootstrap draws the same utterances for both variants. The matched-pairs test takes the "
            "stretches of different seeds for independent, and would alone promise too much; a difference counts where both "
            "see it.",
        )
    )
