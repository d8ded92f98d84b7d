"""The page of a search: what was tried in which order, what it brought, and which settings mattered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from asr.report.static import card, note, table
from asr.studies.grammar import Space
from asr.studies.page import write_study_page
from asr.studies.svg import Series, bar, chart

_SHOWN_TRIALS = 50


def trial_number(trial: FrozenTrial) -> int:
    """The number by which `trial` is called everywhere: that of its folder."""
    return int(trial.user_attrs["folder"])


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial with the lowest metric, None where none was finished."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # On a small development set many trials have the same number of errors.
    return min(complete, key=lambda trial: (trial.value or 0.0, trial.user_attrs["loss"]), default=None)


def write_search_page(
    path: Path, spaces: Sequence[Space], trials: Sequence[FrozenTrial], importances: Mapping[str, float], metric: str
) -> None:
    """Write the page to `path`.

    Args:
        path: the file.
        spaces: the settings that were searched for.
        trials: those that have ended, in the order of their numbers.
        importances: how much each setting bears on the result, in all 1; empty where that is unknown.
        metric: what is to be low on the development set, "wer" or "loss".
    """
    # Shown in per cent, as everywhere.
    scale, name = (100.0, "dev WER, %") if metric == "wer" else (1.0, "dev loss")
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    cards = [
        card("The trials", _counts(trials), _trials(spaces, trials, scale, name), wide=True),
        card("In the order of trials", _history(complete, scale, name)),
        card("While they were trained", _curves(trials, scale, name)),
        card("What mattered", *_importances(importances)),
        *(card(space.key, _slice(space, complete, scale, name)) for space in spaces),
    ]
    write_study_page(path, f"{path.parent.name}: {', '.join(space.key for space in spaces)}", cards)


def _counts(trials: Sequence[FrozenTrial]) -> str:
    states = [trial.state for trial in trials]
    return note(
        f"{states.count(TrialState.COMPLETE)} trained to the end, {states.count(TrialState.PRUNED)} stopped early because "
        f"others were better by then, {states.count(TrialState.FAIL)} failed. The error is that of the best epoch on the "
        "development set, which was searched for and is thus too low: measure what comes out on a test set, with several "
        "seeds."
    )


def _trials(spaces: Sequence[Space], trials: Sequence[FrozenTrial], scale: float, name: str) -> str:
    def order(trial: FrozenTrial) -> tuple[bool, float]:
        is_complete = trial.state == TrialState.COMPLETE
        return not is_complete, (trial.value or 0.0) if is_complete else min(
            trial.intermediate_values.values(), default=0
        )

    head = ("trial", name, "epochs", *(space.key for space in spaces), "")
    rows = []
    for trial in sorted(trials, key=order)[:_SHOWN_TRIALS]:
        values = trial.intermediate_values
        value = trial.value if trial.state == TrialState.COMPLETE else min(values.values(), default=None)
        rows.append(
            (
                escape(str(trial.user_attrs["folder"])),
                "-" if value is None else f"{scale * value:.4g}",
                str(max(values, default=0)),
                *(_short(trial.params.get(space.key, "-")) for space in spaces),
                {
                    TrialState.PRUNED: "stopped early",
                    TrialState.FAIL: escape(trial.user_attrs.get("error", "failed")),
                }.get(trial.state, ""),
            )
        )
    return table(head, rows, numbers=range(1, 3 + len(spaces)))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _history(complete: Sequence[FrozenTrial], scale: float, name: str) -> str:
    points: list[tuple[float, float]] = []
    best: list[tuple[float, float]] = []
    for trial in complete:
        number, value = float(trial_number(trial)), scale * (trial.value or 0.0)
        points.append((number, value))
        best.append((number, min(value, *(each for _, each in best)) if best else value))
    dots = Series(points=points, colour=0, style="dots", labels=[_label(trial, scale) for trial in complete])
    return chart([Series(points=best, colour=1), dots], title=f"{name} by trial; line: best so far", x="trial", y=name)


def _curves(trials: Sequence[FrozenTrial], scale: float, name: str) -> str:
    best = best_trial(trials)
    series = [
        Series(
            points=[(float(epoch), scale * value) for epoch, value in sorted(trial.intermediate_values.items())],
            colour=1 if trial is best else 0 if trial.state == TrialState.COMPLETE else 6,
            style="line" if trial is best else "thin",
        )
        for trial in sorted(trials, key=lambda trial: trial is best)  # the best lies on top
    ]
    what = f"{name} by epoch of each trial; bold: the best; grey: stopped early"
    picture = chart(series, title=what, x="epoch", y=name)
    return picture and note(what) + picture


def _importances(importances: Mapping[str, float]) -> Iterator[str]:
    if importances:
        rows = [(escape(key), bar(share), f"{share:.2f}") for key, share in importances.items()]
        yield table(("setting", "", "share"), rows, numbers=(2,))
        yield note(
            "How much each setting alone bears on being among the best trials (PED-ANOVA, Watanabe et al. 2023)."
        )


def _slice(space: Space, complete: Sequence[FrozenTrial], scale: float, name: str) -> str:
    """Every trial's result against its value of `space`."""
    kept = [trial for trial in complete if space.key in trial.params]
    choices = list(space.values) if space.kind == "choice" else []

    def place(trial: FrozenTrial) -> float:
        value = trial.params[space.key]
        return float(choices.index(value) if choices else value)

    def show(value: float) -> str:
        if not choices:
            return f"{value:g}"
        return choices[int(value)] if value == int(value) and 0 <= value < len(choices) else ""

    dots = Series(
        points=[(place(trial), scale * (trial.value or 0.0)) for trial in kept],
        style="dots",
        labels=[_label(trial, scale) for trial in kept],
    )
    return chart([dots], title=f"{name} by {space.key}", x=space.key, y=name, x_log=space.kind == "log", show_x=show)


def _label(trial: FrozenTrial, scale: float) -> str:
    chosen = ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    return f"trial {trial.user_attrs['folder']}: {scale * (trial.value or 0.0):.4g}; {chosen}"
