"""The learning curve as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asr.atomic import replaced
from asr.training.run_log import read_metrics

PLOT_FILE = "training.png"


def plot_training(folder: Path) -> Path | None:
    """The picture drawn from the metrics of the run in `folder` (loss, error rates, learning rate, gradients), if any."""
    from matplotlib.figure import Figure

    updates, validations = read_metrics(folder, "train"), read_metrics(folder, "validation")
    if not validations:
        return None
    figure = Figure(figsize=(11, 7), layout="constrained")
    loss, errors, rate, gradients = axes = figure.subplots(2, 2).ravel()
    _draw(loss, updates, "loss", "train, per update", alpha=0.4)
    _draw(loss, validations, "train_loss", "train, epoch mean")
    _draw(loss, validations, "loss", "dev")
    loss.set(title="CTC loss", ylabel="nats per token", yscale="log")
    for name in ("wer", "cer"):
        points = [(record["update"], 100 * record[name]) for record in validations]
        errors.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.upper())
    errors.set(title="Error rates on the development set", ylabel="per cent", ylim=(0, None))
    _draw(rate, updates, "lr", "learning rate")
    rate.set(title="Learning rate", ylim=(0, None))
    for part in updates[0]["gradient_norms"] if updates else ():
        norms = [{"update": record["update"], part: record["gradient_norms"][part]} for record in updates]
        _draw(gradients, norms, part, part)
    gradients.set(title="Gradient norm by part of the model", yscale="log")
    for axis in axes:
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    with replaced(folder / PLOT_FILE) as file:
        figure.savefig(file, dpi=110, format="png")
    return folder / PLOT_FILE


def _draw(axis: Any, records: list[dict[str, Any]], key: str, label: str, alpha: float = 1.0) -> None:
    points = [(record["update"], record[key]) for record in records if isinstance(record[key], int | float)]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, alpha=alpha, linewidth=1.2)
