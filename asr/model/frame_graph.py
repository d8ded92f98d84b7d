"""Some frames' work as one CUDA graph, which a GPU repeats without waiting for Python to launch each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# Frames of a graph: with more there is more memory for their numbers, with fewer there are more copies between graphs. A
# batch is filled up to a multiple of utterances, so that few graphs serve batches of all sizes.
NUM_FRAMES, _UTTERANCES = 16, 16
_WARM_UPS = 2  # before they are captured, libraries set up what they need

FrameFunction = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]
"""Of tensors (F, B, ...) with a row per frame, and of what is carried (B, ...) from frame to frame; gives rows (F, B, ...).

The first of these are, for each frame, what is carried on. No utterance may matter to another.
"""


class FrameGraph:
    """`function` of frames as they are in `frames` (S, B, ...) and `carried` (B, ...), from the first or from the last on.

    Captured on a GPU; elsewhere called, with the same chunks and the same filling.
    """

    def __init__(
        self, function: FrameFunction, frames: Sequence[Tensor], carried: Sequence[Tensor], *, backwards: bool = False
    ) -> None:
        batch = padded_batch(frames[0].shape[1])
        self._backwards = backwards
        with torch.inference_mode(False), torch.no_grad():
            self._frames = [each.new_zeros(NUM_FRAMES, batch, *each.shape[2:]) for each in frames]
            self._carried = [each.new_zeros(batch, *each.shape[1:]) for each in carried]

            def run() -> Sequence[Tensor]:
                return function(self._frames, self._carried)

            self._run = run if carried[0].device.type == "cpu" else _captured(run, carried[0].device)

    def __call__(self, frames: Sequence[Tensor], carried: Sequence[Tensor]) -> list[Tensor]:
        """The rows (S, B, ...) for all of `frames` (S, B, ...), of any number."""
        starts = range(0, len(frames[0]), NUM_FRAMES)
        chunks: list[list[Tensor]] = []
        with torch.inference_mode(False), torch.no_grad():
            for start in reversed(starts) if self._backwards else starts:
                chunk = self._chunk([each[start : start + NUM_FRAMES] for each in frames], carried)
                carried = [rows[0 if self._backwards else -1] for rows in chunk[: len(carried)]]
                chunks.append(chunk)
            return [torch.cat(rows[::-1] if self._backwards else rows) for rows in map(list, zip(*chunks, strict=True))]

    def _chunk(self, frames: Sequence[Tensor], carried: Sequence[Tensor]) -> list[Tensor]:
        """A copy of the rows for some of the frames; those that are missing come last in the order of the work."""
        count, batch = frames[0].shape[:2]
        rows = slice(NUM_FRAMES - count, None) if self._backwards else slice(count)
        for own, given in zip(self._frames, frames, strict=True):
            own[rows, :batch].copy_(given)
        for own, given in zip(self._carried, carried, strict=True):
            own[:batch].copy_(given)
        return [each[rows, :batch].clone() for each in self._run()]


def padded_batch(size: int) -> int:
    """The utterances of the graph that takes a batch of `size`.

    Example:
        >>> padded_batch(1), padded_batch(16), padded_batch(17)
        (16, 16, 32)
    """
    return -(-size // _UTTERANCES) * _UTTERANCES


def _captured(run: Callable[[], Sequence[Tensor]], gpu: torch.device) -> Callable[[], Sequence[Tensor]]:
    """What repeats `run`, and gives its tensors, which hold other numbers then."""
    aside, pool = _aside(gpu)
    with torch.cuda.device(gpu):
        here = torch.cuda.current_stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside), torch.cuda.use_mem_pool(pool):
            for _ in range(_WARM_UPS):
                run()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, of a loader or of NCCL, may talk to the GPU meanwhile.
            name: Any = pool.id
            with torch.cuda.graph(graph, pool=name, stream=aside, capture_error_mode="thread_local"):
                outputs = run()
        except RuntimeError as error:
            # Where the end of a capture fails, torch goes on aside.
            torch.cuda.set_stream(here)
            # When `run` fails, as where memory is short, so does the end of the capture, which says nothing of that.
            raise (error.__context__ or error) from None

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return outputs

    return replay


@lru_cache
def _aside(gpu: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.MemPool]:
    """Where all graphs of `gpu` are made, and the memory that they share on the way: they run one after the other.

    Their matrix products write into a workspace of the stream's, which torch gives away as soon as any graph of that stream
    is gone, whatever others there are (https://github.com/pytorch/pytorch/issues/193402). The warm-up takes it out of this
    memory, which is kept for good, so that what takes its place is only what another graph needs on the way.
    """
    with torch.cuda.device(gpu):
        return torch.cuda.Stream(), torch.cuda.MemPool()  # type: ignore[no-untyped-call]
