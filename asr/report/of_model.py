"""The report of a trained model: what its folder and checkpoint tell goes into the title, the notes and the curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.model.checkpoint import find_checkpoint, folder_of, load_checkpoint
from asr.report.content import grouped
from asr.report.details import System
from asr.report.write import write_report
from asr.scoring import beside_each_other, compare
from asr.text.normalize import NormalizerConfig, normalization_steps
from asr.training.run_log import METRICS_FILE


def write_model_report(path: Path, model: Path, systems: Sequence[System], others: Sequence[Path] = ()) -> None:
    """Write the report of `systems`, each a decoder of `model` (a run folder or checkpoint) on a subset, to `path`.

    Where `others` were averaged with it, they are named; pictures and the learning curve are those of `model`.

    Raises:
        CheckpointError: no model at `model` or one of `others`.
    """
    file = find_checkpoint(model)
    checkpoint = load_checkpoint(file)
    folder = folder_of(file)
    other_files = [find_checkpoint(other) for other in others]
    added = ", ".join(map(str, other_files))
    names = " + ".join(folder_of(each).resolve().name for each in (file, *other_files))
    normalizer = NormalizerConfig.model_validate(checkpoint.tokenizer["config"]["normalizer"])
    # A step that is done twice is told once.
    steps = ", ".join(dict.fromkeys(step.__name__.replace("_", " ") for step in normalization_steps(normalizer)))
    subsets = ", ".join(dict.fromkeys(system.result.subset for system in systems))
    write_report(
        path,
        title=f"{names}: {subsets}",
        systems=systems,
        comparisons=list(_comparisons(systems)),
        notes=(
            f"Model: {file}{f', {checkpoint.note}' if checkpoint.note else ''}.",
            *([f"Its probabilities are averaged with those of {len(others)} more: {added}."] if others else []),
            f"What is done to the references before they are compared: {steps}.",
            "How sure the model is of a text: the geometric mean of its tokens' probabilities, each in its surest frame.",
        ),
        metrics=folder / METRICS_FILE,
    )


def _comparisons(systems: Sequence[System]) -> Iterator[str]:
    """What tests say of the decoders of each subset, each against the first."""
    groups = grouped(systems)
    for group in groups:
        first, *others = group.systems
        where = f"{group.subset}: " if len(groups) > 1 else ""
        comparisons = []
        for other in others:
            if [score.hypothesis for score in first.scores] == [score.hypothesis for score in other.scores]:
                yield f"{where}{first.name} and {other.name} heard the same."
            else:
                comparisons.append(compare(first.scores, other.scores, names=(first.name, other.name)))
        for comparison in beside_each_other(comparisons):
            yield f"{where}{comparison.sentence()}."
            yield from (f"{where}{warning}." for warning in comparison.warnings())
