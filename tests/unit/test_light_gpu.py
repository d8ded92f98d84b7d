"""The light GRU's kernels for a GPU: by Triton's interpreter equal to those for a CPU, and compiled for a GPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.model import light_recurrence
from asr.model.cells import equations, run_cells

triton = pytest.importorskip("triton", reason="Triton comes with torch for GPUs")
NAME = "asr.model.light_gpu"


def kernels(monkeypatch: pytest.MonkeyPatch, *, interpreted: bool) -> ModuleType:
    """The module anew: how its functions run is decided where they are decorated."""
    monkeypatch.setenv("TRITON_INTERPRET", str(int(interpreted)))
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    return importlib.import_module(NAME)


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield kernels(monkeypatch, interpreted=True)


@settings(max_examples=12)
@given(num_steps=st.integers(1, 4), batch=st.integers(1, 18), size=st.integers(1, 70), seed=st.integers(0, 99))
def test_they_do_what_those_for_a_cpu_do(
    interpreted: ModuleType, num_steps: int, batch: int, size: int, seed: int
) -> None:
    torch.manual_seed(seed)
    weight = (torch.randn(2 * size, size) / size**0.5).requires_grad_()
    inputs = torch.randn(num_steps, batch, 2 * size, requires_grad=True)
    start = torch.randn(batch, size, requires_grad=True)
    expected = light_recurrence.light_gru(inputs, weight, start)
    d_states = torch.randn_like(expected)
    expected.backward(d_states)

    def unset(*shape: int) -> Tensor:
        return torch.full(shape, torch.nan)

    with torch.no_grad():
        states, gates = torch.cat([start[None], unset(num_steps, batch, size)]), unset(num_steps, batch, 2 * size)
        interpreted.forward(inputs, weight, states, gates)
        d_inputs, kept = torch.full_like(gates, torch.nan), torch.zeros(batch, size)
        interpreted.backward(d_states, weight, states, gates, d_inputs, kept)
        found = (states[1:], d_inputs, kept + d_inputs[0] @ weight)
    for one, other in zip(found, (expected.detach(), inputs.grad, start.grad), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_is_no_number_stays_that(interpreted: ModuleType) -> None:
    inputs, states = torch.randn(3, 2, 8), torch.zeros(4, 2, 4)
    inputs[1, 0, 1] = torch.nan
    interpreted.forward(inputs, torch.randn(8, 4), states, torch.empty(3, 2, 8))
    assert states[2:, 0].isnan().any(-1).all()
    assert states[:2].isfinite().all()
    assert states[:, 1].isfinite().all()


@pytest.mark.parametrize("chip", [80, 86, 90])
@pytest.mark.parametrize(("name", "num_tensors"), [("_forward", 4), ("_backward", 6)])
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_they_compile_for_gpus(
    chip: int, name: str, num_tensors: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = kernels(monkeypatch, interpreted=False)
    kernel: Any = getattr(module, name)
    constants = {"size": 320, "precision": precision, **module._TILES}
    numbers = {"num_steps": "i32", "batch": "i32", **dict.fromkeys(constants, "constexpr")}
    signature = {argument: numbers.get(argument, "*fp32") for argument in kernel.arg_names}
    assert list(signature.values()).count("*fp32") == num_tensors
    source = ASTSource(kernel, signature, constexprs=constants)
    options = {"num_warps": 8, "num_stages": 3}
    made = triton.compile(source, target=GPUTarget("cuda", chip, 32), options=options)
    assert made.asm["cubin"]
    assert made.metadata.shared <= 99 * 1024  # what a program may have on the smallest of these


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("batch", [1, 16, 37])
def test_a_gpu_computes_what_a_cpu_computes(batch: int) -> None:
    torch.manual_seed(0)
    cells = [equations("ligru")(40, 200) for _ in range(2)]
    frames = torch.randn(50, batch, 40)
    expected = run_cells(cells, [frames, frames.flip(0)])
    sum(output.square().sum() for output in expected).backward()  # type: ignore[union-attr]
    gradients = [cell.weight_hh_l0.grad for cell in cells]
    there = [equations("ligru")(40, 200).cuda() for _ in cells]
    for cell, copy in zip(cells, there, strict=True):
        copy.load_state_dict(cell.state_dict())
    found = run_cells(there, [frames.cuda(), frames.flip(0).cuda()])
    assert light_recurrence.takes(frames.cuda(), there[0].weight_hh_l0, 0.0)
    sum(output.square().sum() for output in found).backward()  # type: ignore[union-attr]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-2, rtol=1e-2)  # TF32 has ten bits
    for copy, gradient in zip(there, gradients, strict=True):
        assert gradient is not None
        difference = (copy.weight_hh_l0.grad.cpu() - gradient).norm()
        assert difference < 0.02 * gradient.norm()


@pytest.fixture
def untried() -> Iterator[None]:
    light_recurrence._runs_on.cache_clear()
    yield
    light_recurrence._runs_on.cache_clear()


@pytest.mark.usefixtures("untried")
def test_where_the_kernel_does_not_run_the_equations_do_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> ModuleType:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(light_recurrence, "_gpu", broken)
    assert not light_recurrence._runs_on(torch.device("cuda"))
    assert not light_recurrence._runs_on(torch.device("cuda"))
    (record,) = caplog.records
    assert "frame by frame" in record.message
    assert "C compiler" in record.message


@pytest.mark.usefixtures("untried")
def test_where_memory_is_short_nothing_is_found_out(
    interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that is too large is halved and tried again; what failed because of it must not stay slow for good."""

    def full() -> ModuleType:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(light_recurrence, "_gpu", full)
    with pytest.raises(torch.OutOfMemoryError):
        light_recurrence._runs_on(torch.device("cpu"))
    monkeypatch.setattr(light_recurrence, "_gpu", lambda: interpreted)
    assert light_recurrence._runs_on(torch.device("cpu"))
    assert not caplog.records


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("inference", [False, True])
def test_a_kernel_that_is_right_is_taken(
    interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, inference: bool
) -> None:
    monkeypatch.setattr(light_recurrence, "_gpu", lambda: interpreted)
    with torch.inference_mode(inference):
        assert light_recurrence._runs_on(torch.device("cpu"))
    assert not caplog.records


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("at", ["forward", "backward"])
@pytest.mark.parametrize("wrong", [torch.nan, 1.0])
def test_a_kernel_that_computes_something_else_is_not_taken(
    interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: str, wrong: float
) -> None:
    right, written = getattr(interpreted, at), {"forward": 2, "backward": 4}[at]

    def miscompiled(*tensors: Tensor) -> None:
        right(*tensors)
        tensors[written][-1, -1, -1] += wrong

    monkeypatch.setattr(interpreted, at, miscompiled)
    monkeypatch.setattr(light_recurrence, "_gpu", lambda: interpreted)
    assert not light_recurrence._runs_on(torch.device("cpu"))
    (record,) = caplog.records
    assert "wrong" in record.message
