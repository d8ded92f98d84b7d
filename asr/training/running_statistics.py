"""The running statistics of batch norms, as an update of several batches and processes moves them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.training.distributed import Workers


class RunningStatistics:
    """Those of all batch norms in `module`, which an update moves once: by the mean of what each of its batches would.

    The mean is over their audio. So it makes no difference how the batches of an update are shared among processes, one that
    was halved for lack of memory counts no more than whole, and an update that is left out moves nothing: else one infinite
    frame would stay in every later validation.
    """

    def __init__(self, module: nn.Module) -> None:
        self._norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm1d)]
        self._before: list[Tensor] = []
        self._counted: list[Tensor] = []
        self._moves: list[Tensor] = []
        self._length = 0.0

    def _values(self) -> list[Tensor]:
        return [norm.get_buffer(name) for norm in self._norms for name in ("running_mean", "running_var")]

    def _counters(self) -> list[Tensor]:
        return [norm.get_buffer("num_batches_tracked") for norm in self._norms]

    def begin(self) -> None:
        """From here on, what batches do to the statistics is only taken down."""
        self._before = [value.clone() for value in self._values()]
        self._counted = [counter.clone() for counter in self._counters()]
        self.begin_again()

    def begin_again(self) -> None:
        """As if nothing had been taken since `begin`."""
        self._put_back()
        self._moves = [torch.zeros_like(value) for value in self._before]
        self._length = 0.0

    def take(self, length: float) -> None:
        """Take down what a batch of that `length` did, 0 for one that only keeps others company; put the statistics back."""
        if length and self._norms:
            torch._foreach_add_(self._moves, torch._foreach_sub(self._values(), self._before), alpha=length)
        self._length += length
        self._put_back()

    def finish(self, workers: Workers) -> None:
        """Move the statistics by the mean over the batches of all processes."""
        if not self._norms:
            return
        sizes = [value.numel() for value in self._moves]
        length = self._moves[0].new_full((1,), self._length)
        summed = workers.sum_tensor(torch.cat([*(value.flatten() for value in self._moves), length]))
        moves = list(torch.split(summed[:-1], sizes))
        torch._foreach_add_(self._values(), torch._foreach_div(moves, summed[-1]))
        torch._foreach_add_(self._counters(), 1)

    def _put_back(self) -> None:
        if self._norms:
            torch._foreach_copy_([*self._values(), *self._counters()], [*self._before, *self._counted])
