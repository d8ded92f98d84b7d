"""Batch normalisation never hears padding, and the compiled one is torch's, forward, backward and what it remembers."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from asr.model import norm as norms
from asr.model.norm import make_norm, normalize

HALF, WHOLE = torch.bfloat16, torch.float32


def batch_norm(size: int) -> nn.BatchNorm1d:
    norm = make_norm("batch", size)
    assert isinstance(norm, nn.BatchNorm1d)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


def result(norm: nn.BatchNorm1d, normed: Tensor, hidden: Tensor, weights: Tensor) -> list[Tensor]:
    """What was normalised, the gradients of a number made of it, and what `norm` remembers."""
    gradients = torch.autograd.grad((normed.float() * weights).sum(), [hidden, norm.weight, norm.bias])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [normed.detach(), *gradients, norm.running_mean, norm.running_var]


@settings(max_examples=60)
@given(
    num_steps=st.integers(1, 9),
    batch=st.integers(1, 5),
    size=st.integers(1, 40),
    seed=st.integers(0, 99),
    num_threads=st.sampled_from([1, 3]),
    types=st.tuples(st.sampled_from([WHOLE, HALF]), st.sampled_from([WHOLE, HALF])),
    padding=st.sampled_from([0.0, -2.5]),
    is_compiled=st.booleans(),
)
def test_it_is_torchs_on_the_valid_frames(
    num_steps: int,
    batch: int,
    size: int,
    seed: int,
    num_threads: int,
    types: tuple[torch.dtype, torch.dtype],
    padding: float,
    is_compiled: bool,
) -> None:
    torch.manual_seed(seed)
    before, after = types
    hidden = (3 + 2 * torch.randn(num_steps, batch, size)).to(before)
    mask = torch.rand(num_steps, batch) < 0.7
    mask.view(-1)[: min(2, mask.numel())] = True
    if mask.sum() < 2:
        return  # one lone frame: another test
    hidden[~mask] = torch.inf
    weights = torch.randn(num_steps, batch, size).to(after).float()
    norm, other = batch_norm(size), batch_norm(size)
    other.load_state_dict(norm.state_dict())
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        leaf = hidden.clone().requires_grad_()
        with patch.object(norms, "_is_compiled_for", lambda *_: is_compiled):
            found = result(norm, normalize(norm, leaf, mask, dtype=after, padding=padding), leaf, weights)
    finally:
        torch.set_num_threads(threads)
    assert found[0].dtype == after
    assert (found[0][~mask] == padding).all()
    leaf = hidden.float().requires_grad_()
    normed = torch.full_like(leaf, padding).masked_scatter(mask[..., None], other(leaf[mask]))
    expected = result(other, normed, leaf, weights)
    # Two equal frames have no variance, and gradients divided by next to nothing.
    widest = max(1.0, expected[1].abs().max().item())
    for one, right, is_half in zip(found, expected, (after == HALF, before == HALF, *4 * [False]), strict=True):
        torch.testing.assert_close(
            one.float(), right, rtol=1e-2 if is_half else 1e-3, atol=(1e-2 if is_half else 1e-4) * widest
        )
    assert norm.num_batches_tracked == other.num_batches_tracked


def test_frames_and_gradients_may_lie_in_memory_in_any_way() -> None:
    """Every second number of a row, and one number for all gradients of a sum."""
    norm, every = batch_norm(3), torch.randn(4, 2, 6, requires_grad=True)
    mask = torch.ones(4, 2, dtype=torch.bool)
    found, expected = (
        torch.autograd.grad(normalize(norm, hidden, mask).sum(), [every, norm.weight, norm.bias])
        for hidden in (every[..., ::2], every[..., ::2].contiguous())
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found[2], torch.full((3,), 8.0))


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_gradients_also_of_a_lone_frame(num_frames: int) -> None:
    torch.manual_seed(0)
    norm = batch_norm(3).double()
    mask = torch.arange(9).view(3, 3) < num_frames
    with torch.no_grad():
        norm.get_buffer("running_var").fill_(2.0)

    def normed(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(norm, {"weight": weight, "bias": bias}, (hidden,))

    with patch.object(norm, "forward", lambda hidden: normalize(norm, hidden, mask, remember=False)):
        hidden = torch.randn(3, 3, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(normed, (hidden, norm.weight, norm.bias), fast_mode=False)
        if num_frames == 1:
            torch.testing.assert_close(norm(hidden)[0, 0], norm.eval()(hidden)[0, 0])


def test_a_lone_frame_moves_nothing() -> None:
    for norm in (batch_norm(3), batch_norm(3).double()):
        before = {name: value.clone() for name, value in norm.state_dict().items()}
        normalize(norm, torch.randn(4, 1, 3, dtype=norm.weight.dtype), torch.arange(4)[:, None] == 2)
        assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


class Questions(TorchDispatchMode):
    """What is asked of tensors meanwhile whose answer a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.ops.aten.nonzero.default, torch.ops.aten._local_scalar_dense.default):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


def test_a_gpu_is_asked_nothing() -> None:
    norm, mask = batch_norm(3).double(), torch.arange(6).view(3, 2) < 5
    hidden = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    with Questions() as questions:
        normalize(norm, hidden, mask).sum().backward()
    assert not questions.found


def test_a_mean_far_from_zero_costs_no_precision() -> None:
    torch.manual_seed(0)
    hidden = 1000 + torch.randn(400, 2, 3)
    double = batch_norm(3).double()
    norm = batch_norm(3)
    double.load_state_dict(norm.state_dict())
    normed = normalize(norm, hidden, None)
    torch.testing.assert_close(normed.double(), normalize(double, hidden.double(), None), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [WHOLE, HALF])
def test_the_compiled_norm_is_what_runs_on_a_cpu(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    norm = batch_norm(4)

    def not_called(frames: Tensor) -> Tensor:
        raise AssertionError("torch's")

    monkeypatch.setattr(norm, "forward", not_called)
    normalize(norm, torch.randn(5, 2, 4).to(dtype), torch.ones(5, 2, dtype=torch.bool))
    assert not norms._is_compiled_for(norm.double(), torch.randn(5, 4).double())


def test_what_is_no_number_is_seen_in_its_feature_alone() -> None:
    hidden = torch.randn(6, 2, 3)
    hidden[2, 1, 1] = torch.nan
    normed = normalize(batch_norm(3), hidden, None)
    assert normed[..., 1].isnan().all()
    assert normed[..., [0, 2]].isfinite().all()
