"""Several processes that train one model together, one per GPU or core, as `torchrun` starts them.

    torchrun --nproc-per-node 4 -m asr.cli run librispeech --config librispeech_960h

Gradients travel through DistributedDataParallel, once those of an update are all there; a second group, of gloo, carries the
few numbers that the processes have to agree on, so that nothing waits for a GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asr.errors import ConfigError, TrainingError

Item = TypeVar("Item")

# What gloo calls a connection to a process that has ended.
_LOST = ("Connection closed by peer", "Connection reset by peer")
# The first process prepares a corpus, averages and evaluates while the others wait.
_LONGEST_WAIT = timedelta(days=7)


@dataclass(eq=False)
class Workers:
    """The processes that train together; what is here does nothing in a process that trains alone.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        numbers: the group that carries numbers between CPUs; None when alone, and when they have parted.
    """

    rank: int = 0
    size: int = 1
    numbers: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes files and speaks."""
        return self.rank == 0

    def check_device(self, name: str) -> None:
        """Complain of a setting by which all processes would train on one GPU.

        Raises:
            ConfigError: there are several processes, and `name` is that of one device.
        """
        if self.size > 1 and ":" in name:
            raise ConfigError(
                f"device={name}: each of {self.size} processes has a GPU of its own; say auto, cuda or cpu"
            )

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.sum(0.0)

    def part(self) -> None:
        """Give up the group that carries numbers, whose threads end with it.

        They may not have let go of the last sum yet, and one that does so while the interpreter ends aborts the process
        (https://github.com/pytorch/pytorch/issues/190489).
        """
        if self.numbers is not None:
            dist.destroy_process_group(self.numbers)
            self.numbers = None

    def sum(self, *values: float) -> list[float]:
        """The sum of each of `values` over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.numbers)
        return tensor.tolist()

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, each on its own device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """The `items` of all processes, by rank."""
        if self.size == 1:
            return list(items)
        lists: list[list[Item]] = [[] for _ in range(self.size)]
        dist.all_gather_object(lists, list(items), group=self.numbers)
        return [item for each in lists for item in each]

    def from_first(self, item: Item) -> Item:
        """What the first process passes here."""
        if self.size == 1:
            return item
        items = [item]
        dist.broadcast_object_list(items, src=0, group=self.numbers)
        return items[0]

    def agree(self, item: object, complaint: str) -> None:
        """Do nothing where all processes pass an equal `item`, which can be pickled.

        Raises:
            TrainingError: they do not, with `complaint` and the numbers of those that differ from the first.
        """
        items = self.gather([item])
        others = [str(rank) for rank, each in enumerate(items) if each != items[0]]
        if others:
            raise TrainingError(f"{complaint} (process {', '.join(others)}, others than process 0)")

    def averaging(self, module: nn.Module) -> Callable[[], None]:
        """What sets the gradients of `module`, which all processes have alike, to their mean, when all have called it.

        DistributedDataParallel would send them while the last backward pass is under way. But then no process could try
        again what does not fit into its memory, as half of its gradients would be on their way. What it would save is their
        journey: of 20 million weights 80 MB, once per update.
        """
        if self.size == 1:
            return lambda: None
        nothing = DistributedDataParallel(_Nothing(module))
        return lambda: nothing().backward()


class _Nothing(nn.Module):
    """A loss whose gradient is 0 for all weights of `module`: a backward pass of it sends what they have added up."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self) -> Tensor:
        """0, of all weights."""
        weights = [weight.flatten()[0] for weight in self.module.parameters() if weight.requires_grad]
        return 0 * torch.stack(weights).sum()


@contextlib.contextmanager
def join_workers() -> Iterator[Workers]:
    """The processes that `torchrun` started together with this one; a lone one where it did not.

    Only the first one prints: what the others would say is the same.

    Raises:
        ConfigError: there are GPUs on this machine, but fewer than processes.
        TrainingError: another process has ended, for a reason that it tells itself.
    """
    if not dist.is_torchelastic_launched():
        yield Workers()
        return
    local_rank = dist.get_node_local_rank()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        if local_rank >= (num_gpus := torch.cuda.device_count()):
            raise ConfigError(
                f"torchrun started {local_rank + 1} processes or more on this machine, which has {num_gpus} GPUs, and each "
                f"needs one of its own: take --nproc-per-node {num_gpus}, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
            )
        torch.cuda.set_device(local_rank)
    # Both, because device=cpu may be asked for where there is a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    workers = Workers(dist.get_rank(), dist.get_world_size())
    try:
        workers.numbers = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT)
        with contextlib.ExitStack() as stack:
            if not workers.is_first:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield workers
        workers.meet()  # all have done what there was to do
    except RuntimeError as error:
        if not any(lost in str(error) for lost in _LOST):
            raise
        raise TrainingError(
            f"process {dist.get_rank()} stops, since another one has: see what that one said"
        ) from error
    finally:
        workers.part()
    # Not after an error: NCCL would wait here for processes that wait for this one's gradients, and nobody would be told.
    dist.destroy_process_group()
