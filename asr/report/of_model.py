"""The report of a trained model: what its folder and checkpoint tell goes into the title, the notes and the curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.model.checkpoint import find_checkpoint, load_checkpoint
from asr.report.content import grouped
from asr.report.details import System
from asr.report.write import write_report
from asr.scoring import compare
from asr.text.normalize import NormalizerConfig, normalization_steps
from asr.training.loop import CHECKPOINT_FOLDER
from asr.training.run_log import METRICS_FILE


def write_model_report(path: Path, model: Path, systems: Sequence[System]) -> None:
    """Write the report of `systems`, each a decoder of `model` (a run folder or checkpoint) on a subset, to `path`.

    Raises:
        CheckpointError: no model at `model`.
    """
    file = find_checkpoint(model)
    checkpoint = load_checkpoint(file)
    folder = file.parent.parent if file.parent.name == CHECKPOINT_FOLDER else file.parent
    normalizer = NormalizerConfig.model_validate(checkpoint.tokenizer["config"]["normalizer"])
    # A step that is done twice is told once.
    steps = ", ".join(dict.fromkeys(step.__name__.replace("_", " ") for step in normalization_steps(normalizer)))
    subsets = ", ".join(dict.fromkeys(system.result.subset for system in systems))
    write_report(
        path,
        title=f"{folder.resolve().name}: {subsets}",
        systems=systems,
        comparisons=list(_comparisons(systems)),
        notes=(
            f"Model: {file}{f', {checkpoint.note}' if checkpoint.note else ''}.",
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
        for other in others:
            if [score.hypothesis for score in first.scores] == [score.hypothesis for score in other.scores]:
                yield f"{where}{first.name} and {other.name} heard the same."
                continue
            comparison = compare(first.scores, other.scores, names=(first.name, other.name))
            yield f"{where}{comparison.sentence()}."
            yield from (f"{where}{warning}." for warning in comparison.warnings())
