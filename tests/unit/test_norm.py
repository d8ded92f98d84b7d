"""Batch normalisation never hears padding, and the compiled one is torch's, forward, backward and what it remembers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

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
)
def test_the_compiled_norm_is_torchs_on_the_valid_frames(
    num_steps: int,
    batch: int,
    size: int,
    seed: int,
    num_threads: int,
    types: tuple[torch.dtype, torch.dtype],
    padding: float,
) -> None:
    torch.manual_seed(seed)
    before, after = types
    hidden = (3 + 2 * torch.randn(num_steps, batch, size)).to(before)
    mask = torch.rand(num_steps, batch) < 0.7
    mask.view(-1)[: min(2, mask.numel())] = True
    if mask.sum() < 2:
        return  # one lone frame: another test
    weights = torch.randn(num_steps, batch, size).to(after).float()
    norm, other = batch_norm(size), batch_norm(size)
    other.load_state_dict(norm.state_dict())
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        leaf = hidden.clone().requires_grad_()
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
