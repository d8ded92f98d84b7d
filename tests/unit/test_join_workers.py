"""The processes that torchrun starts, and what is said where they cannot work together."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from asr.errors import ConfigError
from asr.training.distributed import Workers, join_workers


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with two GPUs, on which torchrun started this process; what was asked for of torch's processes."""
    asked: list[str] = []
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", asked.append)
    monkeypatch.setattr(dist, "new_group", lambda **options: None)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, group: asked.append("meet"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: asked.append("destroy"))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    return asked


def test_more_processes_than_gpus_is_one_line(backends: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_node_local_rank", lambda: 2)
    with (
        pytest.raises(ConfigError, match=r"3 processes or more.*2 GPUs.*--nproc-per-node 2.*CUDA_VISIBLE_DEVICES="),
        join_workers(),
    ):
        pass
    assert not backends


def test_one_gpu_for_several_processes_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="device=cuda:1: each of 2 processes has a GPU of its own; say auto, cuda or cpu"
    ):
        Workers(rank=1, size=2).check_device("cuda:1")
    Workers(rank=1, size=2).check_device("cuda")
    Workers().check_device("cuda:1")


def test_gradients_travel_also_between_cpus_of_machines_with_gpus(
    backends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With device=cpu there, the model's tensors are none that nccl can send.
    monkeypatch.setattr(dist, "get_node_local_rank", lambda: 1)
    with join_workers():
        pass
    assert backends == ["cpu:gloo,cuda:nccl", "meet", "destroy"]


def test_an_error_does_not_wait_for_processes_that_wait_for_this_one(
    backends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL would, until the others' wait for this one's gradients is over after ten minutes."""
    monkeypatch.setattr(dist, "get_node_local_rank", lambda: 1)
    with pytest.raises(ConfigError, match="mistake"), join_workers():
        raise ConfigError("a mistake")
    assert backends == ["cpu:gloo,cuda:nccl"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("fails", [False, True])
def test_the_threads_that_carry_numbers_end_before_the_process(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """One that still held a tensor when the interpreter ended aborted a process that had done all its work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {"TORCHELASTIC_RUN_ID": "one", "RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_PORT": port}
    for name, value in {**launched, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kept = []  # as whoever runs the stages keeps them
    with pytest.raises(ConfigError) if fails else contextlib.nullcontext(), join_workers() as workers:
        kept.append(workers)
        assert num_gloo_threads(4) == 4
        if fails:
            raise ConfigError("a mistake")
    # After an error those stay that carry gradients, which nothing may wait for.
    expected = 2 if fails else 0
    assert num_gloo_threads(expected) == expected
    if fails:
        dist.destroy_process_group()


def num_gloo_threads(expected: int) -> int:
    """Threads of gloo, two for each group; soon, since a thread begins without its name."""
    deadline = time.monotonic() + 20
    while True:
        names = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
        found = names.count("pt_gloo_runloop")
        if found == expected or time.monotonic() > deadline:
            return found
        time.sleep(0.01)
