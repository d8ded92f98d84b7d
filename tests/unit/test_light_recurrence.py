"""The compiled recurrence of the light GRU is the loop over the cell's equations, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.model.cells import equations
from asr.model.cells.recurrent import RecurrentCell

CELLS = ["ligru", "sligru"]


def gradients(cell: RecurrentCell, projected: Tensor, state: Tensor, *, by_equations: bool) -> list[Tensor]:
    """Outputs, and the gradients of a random number made of them and of the last state."""
    leaves = [projected.clone().requires_grad_(), state.clone().requires_grad_(), cell.weight_hh_l0]
    recur = RecurrentCell.recur if by_equations else type(cell).recur
    outputs, (last,) = recur(cell, leaves[0], (leaves[1],))
    value = (outputs * torch.linspace(-1, 2, outputs.numel()).view_as(outputs)).sum() + last.square().sum()
    return [outputs.detach(), *torch.autograd.grad(value, leaves)]


@settings(max_examples=30)
@given(
    name=st.sampled_from(CELLS),
    num_steps=st.integers(1, 12),
    batch=st.integers(1, 9),
    size=st.integers(3, 9),  # rounding decides what a norm over fewer units gives
    seed=st.integers(0, 99),
    num_threads=st.sampled_from([1, 2]),
)
def test_it_is_the_loop_over_the_equations(
    name: str, num_steps: int, batch: int, size: int, seed: int, num_threads: int
) -> None:
    torch.manual_seed(seed)
    cell = equations(name)(3, size)
    projected, state = 2 * torch.randn(num_steps, batch, 2 * size), torch.randn(batch, size)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        found, looped = (gradients(cell, projected, state, by_equations=way) for way in (False, True))
    finally:
        torch.set_num_threads(before)
    exact = gradients(cell.double(), projected.double(), state.double(), by_equations=True)
    for one, loop, other in zip(found, looped, exact, strict=True):
        atol = 2e-5 * max(1, other.abs().max().item()) + 4 * (loop - other).abs().max().item()
        torch.testing.assert_close(one.double(), other, atol=atol, rtol=1e-4)


@pytest.mark.parametrize(("name", "layer_norm"), [("ligru", False), ("sligru", False), ("sligru", True)])
def test_it_is_what_runs_in_single_precision_and_only_there(
    name: str, layer_norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = equations(name)(3, 4, layer_norm=layer_norm)
    cell(torch.randn(5, 2, 3))  # once, step is asked whether it is what is compiled

    def no_step(*arguments: object) -> None:
        raise AssertionError("frame by frame")

    monkeypatch.setattr(cell, "step", no_step)
    cell(torch.randn(5, 2, 3))
    with pytest.raises(AssertionError, match="frame by frame"):
        cell.double()(torch.randn(5, 2, 3).double())


@pytest.mark.parametrize("activation", [torch.nn.functional.leaky_relu, torch.nn.functional.relu6])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CELLS)
def test_a_small_edit_is_what_runs_too(
    name: str, seed: int, activation: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """These two differ from the rectifier by little or seldom."""

    def edited(
        self: object, x: Tensor, states: tuple[Tensor, ...], products: tuple[Callable[[Tensor], Tensor], ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        a, z = (x + products[0](states[0])).chunk(2, -1)
        h = torch.lerp(activation(a), states[0], torch.sigmoid(z))
        return h, (h,)

    torch.manual_seed(seed)
    cell, frames = equations(name)(3, 40).eval(), 50 * torch.randn(30, 4, 3)
    before, _ = cell(frames)
    monkeypatch.setattr(equations("ligru"), "step", edited)
    cell._is_compiled_right = None  # as in another process
    after, _ = cell(frames)
    expected, _ = RecurrentCell.recur(cell, cell.project(frames, None), (torch.zeros(4, 40),))
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize(("seed", "steepness"), [(9, 32), (26, 32), (58, 32), (0, 64), (32, 64)])
def test_steep_gates_of_trained_weights_are_no_edited_equation(
    seed: int, steepness: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Which make of a rounding in the last place what lies above the tolerance, in the equations themselves too."""
    torch.manual_seed(seed)
    cell = equations("ligru")(8, 64)
    with torch.no_grad():
        cell.weight_hh_l0.mul_(steepness)
    cell(torch.randn(5, 2, 8))
    assert not caplog.records


def test_a_norm_that_is_asked_for_is_no_edited_equation(caplog: pytest.LogCaptureFixture) -> None:
    equations("ligru")(3, 4, layer_norm=True)(torch.randn(5, 2, 3))
    assert not caplog.records


# The compiled sigmoid of what is far below 0 is next to 0; two normalised vectors of eight are no larger than this.
@pytest.mark.parametrize(
    ("is_training", "layer_norm", "bound"), [(True, False, 1e-3), (False, False, 1e-3), (True, True, 2 * 8**0.5)]
)
@pytest.mark.parametrize("name", CELLS)
def test_no_state_runs_on_behind_an_end(name: str, is_training: bool, layer_norm: bool, bound: float) -> None:
    """With a gain above 1 it would grow there until gradients are no numbers, those of other utterances among them."""
    torch.manual_seed(0)
    cell = equations(name)(3, 4, layer_norm=layer_norm).train(is_training)
    with torch.no_grad():
        cell.weight_hh_l0[:4] = 1.5 * torch.eye(4)
    mask = torch.zeros(900, 2, dtype=torch.bool)
    mask[:5] = True
    frames = torch.randn(900, 2, 3, generator=torch.Generator().manual_seed(0))
    outputs, _ = cell(frames, mask=mask)
    assert outputs[5:].abs().max() < bound
    outputs[:5].sum().backward()
    assert cell.weight_hh_l0.grad is not None
    assert cell.weight_hh_l0.grad.isfinite().all()


@pytest.mark.parametrize("name", CELLS)
def test_what_is_no_number_stays_that(name: str) -> None:
    cell = equations(name)(3, 4)
    projected = torch.randn(6, 2, 8)
    projected[2, 0, 1] = torch.nan
    outputs, _ = cell.recur(projected, (torch.zeros(2, 4),))
    assert outputs[2:, 0].isnan().any(-1).all()
    assert outputs[:2].isfinite().all()
    assert outputs[:, 1].isfinite().all()


@pytest.mark.parametrize("gate", [-9.0, -1.0, 1.0, 9.0])
def test_gates_near_0_and_1_are_learnt_through_in_half_precision(gate: float) -> None:
    """Between 0.996 and 1 bfloat16 has nothing: what is kept for the gradient must not be rounded to a gate of 1."""
    torch.manual_seed(0)
    cell = equations("ligru")(3, 4)
    projected = torch.rand(6, 2, 8)
    projected[..., 4:] += gate
    outcomes = []
    for dtype in (torch.bfloat16, torch.float32):
        leaf = projected.bfloat16().to(dtype).requires_grad_()
        outputs, _ = cell.recur(leaf, (torch.zeros(2, 4),))
        outcomes.append(torch.autograd.grad(outputs.sum(), leaf)[0].float())
    for found, exact in zip(outcomes[0].chunk(2, dim=-1), outcomes[1].chunk(2, dim=-1), strict=True):
        assert (found - exact).norm() < 0.01 * exact.norm()
