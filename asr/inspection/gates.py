"""The gates of a recurrent model while it listens, and how long its units remember."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asr.errors import ConfigError
from asr.inspection.observe import cell_gates, deviations, observed, tracks_of
from asr.inspection.subject import Subject
from asr.model.cells import equations

LONG_SECONDS = 1.0
"""A unit that remembers so long spans words, not sounds."""


def half_life_frames(keep: Tensor) -> Tensor:
    """Frames (H,) until each unit has lost half of what it held, from the shares (S, H) that its gate keeps of its state.

    After n frames the product of the n shares is left, so with their mean logarithm m, exp(m n) = 1/2 gives
    n = -ln 2 / m. This is what the gate alone keeps: a unit may also write its old state back, through the candidate.
    A unit that keeps all has infinity.

    Example:
        >>> half_life_frames(torch.tensor([[0.5, 0.25, 1.0], [0.5, 1.0, 1.0]])).tolist()
        [1.0, 1.0, inf]
    """
    lost = keep.double().log().mean(0).neg().abs()
    return math.log(2) / lost


def longest_hold_frames(keep: Tensor) -> Tensor:
    """The most frames (H,) over which each unit ever kept half of what it held, from the shares (S, H) that it keeps.

    Where gates open and close, the mean that `half_life_frames` takes is ruled by the few frames that erase everything;
    this tells what a unit can do between two of them.

    Example:
        >>> longest_hold_frames(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.6], [0.9, 0.1]])).tolist()
        [2, 1]
    """
    # Not minus infinity, which would stay in all later sums; and half is half in spite of rounding.
    logs = keep.double().clamp(min=1e-30).log()
    sums = torch.cat([logs.new_zeros(1, keep.shape[1]), logs]).cumsum(0)
    longest = torch.zeros(keep.shape[1], dtype=torch.long)
    for start in range(len(keep)):
        kept = sums[start + 1 :] - sums[start] >= -math.log(2) - 1e-9
        longest = torch.maximum(longest, kept.sum(0))
    return longest


def likeness_order(gate: Tensor) -> Tensor:
    """Units (H,) in an order in which neighbours move together over time, from the values (S, H) of a gate.

    The deviations of each unit from its mean are projected on the two courses over time that explain most of them all (the
    principal components); the angle in that plane tells when a unit is open.

    Example:
        >>> gate = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.1, 0.9, 0.2, 0.8], [0.5, 0.5, 0.6, 0.4]])
        >>> order = likeness_order(gate).tolist()
        >>> abs(order.index(0) - order.index(2)), abs(order.index(1) - order.index(3))
        (1, 1)
    """
    if min(gate.shape) < 2:
        return gate.mean(0).argsort()
    places, sizes, _ = torch.linalg.svd((gate - gate.mean(0)).T, full_matrices=False)
    x, y = (places[:, :2] * sizes[:2]).unbind(1)
    angles, order = torch.atan2(y, x).sort()
    # A circle has no end: it is cut where units are farthest apart.
    gaps = torch.cat([angles[1:], angles[:1] + 2 * math.pi]) - angles
    return order.roll(-int(gaps.argmax()) - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gates:
    """The gates of one direction of one layer over a recording.

    Attributes:
        layer: its number, from 1.
        direction: "forward" or "backward".
        gates: by name, (S, H), in the order of the recording.
        keep: (S, H) share of the state that each frame keeps; None for a cell without such a gate.
        keep_name: of the gate that decides on this.
        keeps: whether that gate keeps where it is near 1; else it replaces.
        frame_seconds: duration of a frame.
        deviation: the largest difference between the layer's output in the model as it runs and through the equations.
    """

    layer: int
    direction: str
    gates: dict[str, Tensor]
    keep: Tensor | None
    keep_name: str
    keeps: bool
    frame_seconds: float
    deviation: float

    @property
    def name(self) -> str:
        """Such as `2 forward`."""
        return f"{self.layer} {self.direction}"

    @property
    def seconds(self) -> float:
        """Duration of the recording, in whole frames."""
        return len(next(iter(self.gates.values()))) * self.frame_seconds

    @property
    def horizons(self) -> Tensor | None:
        """Memory horizon (H,) in seconds: `half_life_frames`, at most the recording's duration."""
        if self.keep is None:
            return None
        return (half_life_frames(self.keep) * self.frame_seconds).clamp(max=self.seconds)

    @property
    def longest_holds(self) -> Tensor | None:
        """Longest hold (H,) in seconds: `longest_hold_frames`."""
        return None if self.keep is None else longest_hold_frames(self.keep).double() * self.frame_seconds

    @property
    def order(self) -> Tensor:
        """Units (H,) in an order in which neighbours keep and let go together: by `likeness_order`."""
        return likeness_order(next(iter(self.gates.values())) if self.keep is None else self.keep)

    def share_above(self, seconds: float) -> float | None:
        """Share of the units whose horizon is at least `seconds`; None where the recording is too short to tell."""
        horizons = self.horizons
        if horizons is None or seconds > self.seconds:
            return None
        return (horizons >= seconds).double().mean().item()

    def record(self) -> dict[str, Any]:
        """The numbers, for JSON: for each gate its mean per frame and per unit, horizons in milliseconds."""
        horizons, holds = self.horizons, self.longest_holds
        return {
            "layer": self.layer,
            "direction": self.direction,
            "frame_seconds": self.frame_seconds,
            "keep_gate": self.keep_name,
            "mean": {name: round(gate.mean().item(), 4) for name, gate in self.gates.items()},
            "mean_keep": None if self.keep is None else round(self.keep.mean().item(), 4),
            "median_horizon_ms": None if horizons is None else round(1000 * horizons.quantile(0.5).item(), 1),
            "share_above_1_s": self.share_above(LONG_SECONDS),
            "share_of_whole_recording": self.share_above(self.seconds),
            "horizons_ms": None if horizons is None else rounded(1000 * horizons, 1),
            "median_longest_hold_ms": None if holds is None else round(1000 * holds.quantile(0.5).item(), 1),
            "longest_holds_ms": None if holds is None else rounded(1000 * holds, 1),
            "gates_by_frame": {name: rounded(gate.mean(1)) for name, gate in self.gates.items()},
            "gates_by_unit": {name: rounded(gate.mean(0)) for name, gate in self.gates.items()},
            "largest_deviation_from_the_model": self.deviation,
        }


def rounded(values: Tensor, digits: int = 4) -> list[float]:
    """`values` (N,) as rounded numbers."""
    return [round(value, digits) for value in values.tolist()]


@torch.no_grad()
def gates_of(subject: Subject, layers: Sequence[int]) -> list[Gates]:
    """The gates of `layers` (from 1) while the model hears `subject`, each layer's directions one after the other.

    Raises:
        ConfigError: the model's cell has no gates.
    """
    cell = subject.model.config.encoder.cell
    keeping = cell_gates(equations(cell)).keeping
    if not cell_gates(equations(cell)).names:
        raise ConfigError(f"cell '{cell}' has no gates to look at; `asr inspect gradients` shows what its states do")
    copied = observed(subject.model)
    by_layer = deviations(subject.model, copied, subject.features[None])
    return [
        Gates(
            layer=track.layer,
            direction=track.direction,
            gates={name: gate[:, 0] for name, gate in track.gates.items()},
            keep=None if track.keep is None else track.keep[:, 0],
            keep_name=keeping,
            keeps=track.rules.keep_gate is not None and track.rules.keep_gate[1] > 0,
            frame_seconds=subject.frame_seconds / subject.frames_of_layer(track.layer),
            deviation=by_layer[track.layer - 1],
        )
        for track in tracks_of(copied)
        if track.layer in layers
    ]
