"""Pictures of what `gates.py`, `gradients.py` and `saliency.py` found.

Time runs from left to right on a common axis: below the tokens stands the log-mel picture, below that what is shown. Nothing
here computes more than sums and medians.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.inspection.drawing import (
    Picture,
    Theme,
    draw,
    heat,
    label_features,
    make_figure,
    mark_tokens,
    over_time,
    show_sound,
    write_token,
)
from asr.inspection.gates import Gates
from asr.inspection.gradients import Gradients
from asr.inspection.saliency import Saliency
from asr.inspection.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a gradient is shown to be at least, of the largest: below that, float32 says little.
_SMALLEST = 1e-6
# Seconds around a token in its own picture.
_AROUND = 0.6
_COLORS = ("#0072b2", "#d55e00")  # Okabe and Ito's blue and vermilion


# Gates


def gate_pictures(subject: Subject, gates: Sequence[Gates]) -> Iterator[Picture]:
    """An overview, the horizons, and one picture for each layer and direction."""
    if gates[0].keep is not None:
        yield draw(
            "gates_overview",
            "When is memory kept?",
            "Each row is one direction of one layer, its colour the mean share of the state that the units keep in a frame. "
            "Dark columns are moments at which a layer lets go of what it knew.",
            lambda theme: _gates_overview(subject, gates, theme),
        )
        yield draw(
            "horizons",
            "How long do units remember?",
            "Filled: memory horizon, the time after which the gate's mean leaves half of a state. Outline: the longest "
            "stretch of this recording over which a unit did keep half; at the left edge the units that did not once do so "
            "from one frame to the next. Where the two lie far apart, units hold on to something for a while and then erase "
            "it at once.",
            lambda theme: _horizons(gates, theme),
        )
    for each in gates:
        keeps = "keeps the state" if each.keeps else "replaces the state"
        kept = f" The {each.keep_name} gate {keeps} where it is near 1 (yellow)." if each.keep_name else ""
        yield draw(
            f"gates_{each.layer}_{each.direction}",
            f"Layer {each.layer}, {each.direction}",
            f"One row per unit, in all parts in the same order: neighbours keep and let go together.{kept} Patches "
            "are groups of units that follow the same sounds; compare their edges with the tokens. Lines from left to right "
            "are units that do one thing all the time."
            + (" Time is read from right to left here." if each.direction == "backward" else ""),
            lambda theme, each=each: _gates_of_one(subject, each, theme),  # type: ignore[misc]
        )


def _gates_overview(subject: Subject, gates: Sequence[Gates], theme: Theme) -> Figure:
    figure, (sound, axis) = over_time(subject, [0.24 * len(gates) + 0.5])
    show_sound(figure, sound, subject, theme)
    kept = [(each.keep.mean(1), each.frame_seconds) for each in gates if each.keep is not None]
    image = heat(axis, *side_by_side(kept), cmap="viridis")
    figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, label="mean share kept")
    axis.set_yticks(range(len(gates)), [each.name for each in gates])
    axis.set_title(f"Share of the state that a frame keeps, by the {gates[0].keep_name} gate, mean over units")
    mark_tokens([axis], subject, theme)
    return figure


def _gates_of_one(subject: Subject, gates: Gates, theme: Theme) -> Figure:
    names = sorted(gates.gates, key=lambda name: name != gates.keep_name)
    figure, (sound, *axes) = over_time(subject, [1.9] * len(names))
    show_sound(figure, sound, subject, theme)
    for axis, name in zip(axes, names, strict=True):
        rows = gates.gates[name][:, gates.order].T.numpy()
        image = heat(axis, rows, gates.frame_seconds, cmap="viridis", vmin=0, vmax=1)
        figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, label=f"{name} gate", ticks=[0, 0.5, 1])
        axis.set_title(f"{name} gate of layer {gates.name}, mean {rows.mean():.2f}")
        axis.set_ylabel("units, sorted")
    mark_tokens(axes, subject, theme)
    return figure


def _horizons(gates: Sequence[Gates], theme: Theme) -> Figure:
    columns = len({each.direction for each in gates})
    rows = -(-len(gates) // columns)
    figure = make_figure(4.6 * columns + 0.4, 1.9 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    whole = 1000 * max(each.seconds for each in gates)
    bins = np.geomspace(100 * min(each.frame_seconds for each in gates), 1.0001 * whole, 28)
    for axis, each in zip(axes, gates, strict=False):
        if each.horizons is None or each.longest_holds is None:
            continue
        horizons, holds = (1000 * each.horizons).numpy(), (1000 * each.longest_holds).numpy()
        frame = 1000 * each.frame_seconds
        axis.hist(horizons.clip(bins[0], whole), bins, color=_COLORS[0], alpha=0.85, label="memory horizon")
        axis.hist(
            holds.clip(bins[0], whole), bins, histtype="step", color=_COLORS[1], linewidth=1.4, label="longest hold"
        )
        axis.axvline(frame, color=theme.ink, linewidth=0.8, linestyle=":")
        axis.text(frame, 0.97, " 1 frame", transform=axis.get_xaxis_transform(), va="top", fontsize=8)
        axis.set(xscale="log", title=f"layer {each.name}")
        axis.xaxis.set_major_formatter("{x:g}")
        medians = f"medians {np.median(horizons):.0f} and {np.median(holds):.0f} ms"
        axis.set_title(medians, loc="right", fontsize=8)
        axis.grid(axis="y")
    axes[0].legend(loc="best")
    for axis in axes[-columns:]:
        axis.set_xlabel("milliseconds; the last bar: at least the recording")
    for axis in axes[::columns]:
        axis.set_ylabel("units")
    return figure


def side_by_side(rows: Sequence[tuple[Tensor, float]]) -> tuple[npt.NDArray[np.float32], float]:
    """Rows (R, S) of values (S,) by frame, each with the duration of its frames, in the shortest of these, and that.

    Where layers have frames of different duration, a long one stands below all the short ones that it was joined from.

    Example:
        >>> rows, seconds = side_by_side([(torch.tensor([1.0, 2.0]), 0.5), (torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.25)])
        >>> rows.tolist(), seconds
        ([[1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]], 0.25)
    """
    shortest = min(seconds for _, seconds in rows)
    places = torch.arange(max(len(values) for values, seconds in rows if seconds == shortest))
    joined = [values[(places // round(seconds / shortest)).clamp(max=len(values) - 1)] for values, seconds in rows]
    return torch.stack(joined).numpy(), shortest


# Gradients


def gradient_pictures(subject: Subject, gradients: Sequence[Gradients], token: int) -> Iterator[Picture]:
    """The loss's gradient over time, the gradient of the chosen `token` (from 0) over time, and by distance."""
    yield draw(
        "loss",
        "Which moments does the loss hang on?",
        "Norm of the gradient of the CTC loss with respect to the state of each layer and direction, in nats per unit of "
        "the state. Bright: a small change of the state there would change the loss most: training would mend that first. "
        "Black: less than a ten-thousandth of the largest, or nothing at all.",
        lambda theme: _norms_over_time(subject, [each.loss for each in gradients], gradients, theme, None),
    )
    name = f"“{subject.pieces[token]}”, token {token + 1} at {subject.times[token]:.2f} s"
    yield draw(
        "token",
        f"What does one token hang on? {name}",
        "The same for the log-probability of one token in its own frame (the line). A forward state can only matter before "
        "that frame, a backward state after it, except where a higher layer carries it over; black is nothing.",
        lambda theme: _norms_over_time(subject, [each.tokens[token] for each in gradients], gradients, theme, token),
    )
    yield draw(
        "vanishing",
        f"How does the gradient vanish with distance? {name}",
        "The same norms by distance from the token's frame, each relative to the largest of its row; thin: the median over "
        "all tokens. A straight line on this logarithmic scale is exponential vanishing, a factor lost with every frame.",
        lambda theme: _vanishing(gradients, token, theme),
    )


def _norms_over_time(
    subject: Subject, norms: Sequence[Tensor], gradients: Sequence[Gradients], theme: Theme, token: int | None
) -> Figure:
    from matplotlib.colors import LogNorm

    figure, (sound, axis) = over_time(subject, [0.24 * len(norms) + 0.5])
    show_sound(figure, sound, subject, theme)
    rows, seconds = side_by_side([(row, each.frame_seconds) for row, each in zip(norms, gradients, strict=True)])
    highest = max(float(rows.max()), 1e-30)
    scale = LogNorm(vmin=max(float(rows.min()), 1e-4 * highest), vmax=highest, clip=True)
    image = heat(axis, rows, seconds, cmap="inferno", norm=scale)
    figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, label="norm")
    axis.set_yticks(range(len(norms)), [each.name for each in gradients])
    if token is None:
        axis.set_title(f"Norm of the gradient of the CTC loss of “{subject.text}”", parse_math=False)
        mark_tokens([axis], subject, theme)
    else:
        axis.set_title(
            f"Norm of the gradient of the log-probability of “{subject.pieces[token]}” in its frame", parse_math=False
        )
        axis.axvline(subject.times[token], color=theme.line, linewidth=1.2)
        sound.axvline(subject.times[token], color=theme.line, linewidth=2)
    return figure


def _vanishing(gradients: Sequence[Gradients], token: int, theme: Theme) -> Figure:
    layers = sorted({each.layer for each in gradients})
    figure = make_figure(3.5 * max(2, len(layers)) + 0.6, 3.6)
    axes = figure.subplots(1, len(layers), sharey=True, squeeze=False).ravel()
    for axis, layer in zip(axes, layers, strict=True):
        for each in gradients:
            if each.layer != layer:
                continue
            color = _COLORS[each.direction == "backward"]
            distances, chosen = by_distance(each, token)
            axis.plot(distances, chosen, color=color, linewidth=1.6, label=each.direction)
            distances, median = median_by_distance(each)
            axis.plot(distances, median, color=color, linewidth=0.8, alpha=0.7)
        axis.axvline(0, color=theme.line, linewidth=0.8)
        axis.set(yscale="log", xlabel="seconds from the token's frame", title=f"layer {layer}")
        axis.set_ylim(max(axis.get_ylim()[0], _SMALLEST), 1.5)
        axis.grid()
    axes[0].set_ylabel("norm, of the largest")
    axes[0].legend(loc="upper left")
    return figure


def by_distance(gradients: Gradients, token: int) -> tuple[list[float], list[float]]:
    """Distances in seconds from the frame of `token` (from 0), and the norm there, of the largest; NaN for none."""
    row = gradients.tokens[token]
    shares = (row / row.max().clamp(min=1e-30)).tolist()
    distances = [(frame - gradients.frames[token]) * gradients.frame_seconds for frame in range(len(row))]
    return distances, [share if share > 0 else float("nan") for share in shares]


def median_by_distance(gradients: Gradients) -> tuple[list[float], list[float]]:
    """As `by_distance`, the median over all tokens that have a frame at that distance; at least a third of them."""
    num_tokens, num_frames = gradients.tokens.shape
    shifted = torch.full((num_tokens, 2 * num_frames - 1), float("nan"))
    for number, (row, frame) in enumerate(zip(gradients.tokens, gradients.frames, strict=True)):
        start = num_frames - 1 - frame
        shifted[number, start : start + num_frames] = row / row.max().clamp(min=1e-30)
    known = (~shifted.isnan()).sum(0)
    median = torch.where(3 * known >= num_tokens, shifted.nanmedian(0).values, float("nan"))
    distances = [(place - num_frames + 1) * gradients.frame_seconds for place in range(2 * num_frames - 1)]
    return distances, [share if share > 0 else float("nan") for share in median.tolist()]


# Saliency


def saliency_pictures(subject: Subject, saliency: Sequence[Saliency]) -> Iterator[Picture]:
    """An overview of all tokens, then a picture of each."""
    integrated = saliency[0].baseline_log_prob is not None
    meaning = (
        "red raised the token's log-probability, blue lowered it, compared with the recording's mean spectrum"
        if integrated
        else "red: more there would raise the token's log-probability; blue: lower it"
    )
    what = "shares in the log-probability" if integrated else "gradient of the log-probability"
    yield draw(
        "saliency_overview",
        "Where does the model look for each token?",
        f"One row per token, from the top: the sum over features of the absolute {what}, each row relative to its largest. "
        "The dot is the frame in which the token is spoken out. Bright left of the dot: the token rests on sound before it. "
        f"In the pictures of single tokens, {meaning}.",
        lambda theme: _saliency_overview(subject, saliency, theme),
    )
    for each in saliency:
        letters = each.piece.replace("▁", "space" if each.piece == "▁" else " ").strip()
        yield draw(
            f"token_{each.number:03d}",
            f"{each.number}. “{letters}” at {each.seconds:.2f} s",
            "",
            lambda theme, each=each: _saliency_of_one(subject, each, theme),  # type: ignore[misc]
            small=True,
        )


def _saliency_overview(subject: Subject, saliency: Sequence[Saliency], theme: Theme) -> Figure:
    figure, (sound, axis) = over_time(subject, [0.17 * len(saliency) + 0.5])
    show_sound(figure, sound, subject, theme)
    rows = torch.stack([each.by_time / each.by_time.max().clamp(min=1e-30) for each in saliency]).numpy()
    image = heat(axis, rows, subject.hop_seconds, cmap="inferno")
    figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, label="of the row's largest")
    axis.set_yticks(
        range(len(saliency)), [f"{each.piece} {each.number}" for each in saliency], fontsize=8, parse_math=False
    )
    axis.invert_yaxis()
    axis.plot([each.seconds for each in saliency], range(len(saliency)), ".", color="#4dd0ff", markersize=5)
    axis.set_title("Saliency of the features over time, by token")
    axis.set_ylabel("token")
    return figure


def _saliency_of_one(subject: Subject, saliency: Saliency, theme: Theme) -> Figure:
    figure = make_figure(3.6, 3.1)
    sound, axis = figure.subplots(2, 1, sharex=True)
    heat(sound, subject.log_mel.T, subject.hop_seconds, cmap=theme.sound)
    label_features(sound, subject, subject.log_mel.shape[1])
    shares = saliency.shares.T.numpy()
    # A few features are far above all others, and would leave the rest pale.
    most = max(float(np.quantile(np.abs(shares), 0.998)), 1e-30)
    image = heat(axis, shares, subject.hop_seconds, cmap=theme.shares, vmin=-most, vmax=most)
    label_features(axis, subject, len(shares))
    bar = figure.colorbar(image, ax=[sound, axis], pad=0.02, fraction=0.05, ticks=[-most, 0, most])
    bar.ax.set_yticklabels([f"{value:+.2g}" for value in (-most, 0, most)], fontsize=7)
    for each in (sound, axis):
        each.axvline(saliency.seconds, color=theme.line, linewidth=1)
    last = max(subject.seconds, 2 * _AROUND)
    start = min(max(saliency.seconds - _AROUND, 0), last - 2 * _AROUND)
    axis.set_xlim(start, start + 2 * _AROUND)
    for number, (piece, time) in enumerate(zip(subject.pieces, subject.times, strict=True), start=1):
        if start <= time <= start + 2 * _AROUND:
            weight = "bold" if number == saliency.number else "normal"
            write_token(sound, time, 1.04, piece, fontsize=8, fontweight=weight)
    axis.set_xlabel("seconds")
    return figure
