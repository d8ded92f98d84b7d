"""Averages of weights: the exponential moving one, validated and kept while training moves on, and that of checkpoints.

After Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging", who weigh all updates alike; the slow
start is TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asr.errors import TrainingError
from asr.model.checkpoint import Checkpoint


class MovingAverage:
    """The average of the floating-point state of `model` over updates: w <- d w + (1 - d) new.

    In update n, d is at most (1 + n) / (10 + n), so that the random weights of the start are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.num_updates = 0
        self.values = {name: value.clone() for name, value in self._state().items()}

    def _state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights in."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        state = self._state()
        torch._foreach_lerp_(list(self.values.values()), [state[name] for name in self.values], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, the model has the averaged weights."""
        own = {name: value.clone() for name, value in self._state().items()}
        self.model.load_state_dict(self.values, strict=False)
        try:
            yield
        finally:
            self.model.load_state_dict(own, strict=False)

    def state_dict(self) -> dict[str, object]:
        """What resuming needs."""
        return {"num_updates": self.num_updates, "values": self.values}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from what `state_dict` gave."""
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        for name, value in state["values"].items():  # type: ignore[attr-defined]
            self.values[name].copy_(value)


def average_weights(checkpoints: list[Checkpoint]) -> dict[str, torch.Tensor]:
    """The mean of the weights of `checkpoints`, summed in float64, in float32; whole numbers are taken from the first.

    Raises:
        TrainingError: there is no checkpoint.
    """
    if not checkpoints:
        raise TrainingError("there is no epoch to average: train first")
    return {
        name: torch.stack([each.model[name].double() for each in checkpoints]).mean(0).float()
        if first.is_floating_point()
        else first
        for name, first in checkpoints[0].model.items()
    }
