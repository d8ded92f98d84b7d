"""How a frame graph is made, on a GPU that is only pretended: where its memory comes from, and what an error leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr.model import frame_graph

GPU = torch.device("cuda:0")


class PretendedGpu:
    """What of `torch.cuda` making a graph needs. As there, a stream stays the current one where a capture fails.

    Attributes:
        stream: the current one.
        pool: what memory is taken from now; None: from what all share.
        ran: stream and pool of each run.
    """

    def __init__(self) -> None:
        self.stream, self.pool = self.made("here"), None
        self.ran: list[tuple[str, str | None]] = []
        self.num_made = 0

    def made(self, name: str) -> Any:
        return SimpleNamespace(name=name, id=name, wait_stream=lambda other: None)

    def one_more(self) -> Any:
        self.num_made += 1
        return self.made(f"number {self.num_made}")

    def set_stream(self, stream: Any) -> None:
        self.stream = stream

    @contextlib.contextmanager
    def using(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream
        yield
        self.stream = before

    @contextlib.contextmanager
    def use_mem_pool(self, pool: Any) -> Iterator[None]:
        self.pool = pool.id
        try:
            yield
        finally:
            self.pool = None

    @contextlib.contextmanager
    def graph(self, graph: object, *, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        before, self.stream, self.pool = self.stream, stream, pool
        try:
            yield
        except ValueError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        finally:
            self.pool = None
        self.stream = before

    def run(self) -> list[torch.Tensor]:
        self.ran.append((self.stream.name, self.pool))
        return []


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    pretended = PretendedGpu()
    for name, value in {
        "device": lambda gpu: contextlib.nullcontext(),
        "Stream": pretended.one_more,
        "MemPool": pretended.one_more,
        "CUDAGraph": pretended.one_more,
        "current_stream": lambda: pretended.stream,
        "set_stream": pretended.set_stream,
        "stream": pretended.using,
        "use_mem_pool": pretended.use_mem_pool,
        "graph": pretended.graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    frame_graph._aside.cache_clear()
    yield pretended
    frame_graph._aside.cache_clear()


def test_all_graphs_are_made_on_one_stream_and_take_what_they_need_on_the_way_from_one_pool(gpu: PretendedGpu) -> None:
    """The warm-up too: what a library keeps of it, a graph goes on writing into when others are gone."""
    for _ in range(3):
        frame_graph._captured(gpu.run, GPU)
    assert len(set(gpu.ran)) == 1, gpu.ran
    assert gpu.ran[0][0] != "here"
    assert gpu.ran[0][1] is not None
    assert gpu.stream.name == "here"
    assert gpu.pool is None


def test_a_capture_that_fails_tells_why_and_leaves_the_stream_as_it_was(gpu: PretendedGpu) -> None:
    def reads_back() -> list[torch.Tensor]:
        if len(gpu.ran) == frame_graph._WARM_UPS:
            raise ValueError("operation not permitted when stream is capturing")
        return gpu.run()

    with pytest.raises(ValueError, match="not permitted when stream is capturing"):
        frame_graph._captured(reads_back, GPU)
    assert gpu.stream.name == "here"
