"""Products of a processor's matrix unit, where there is one, against torch's in bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from asr.model import matrix_unit
from asr.model.cells import equations, make_cell, run_cells

needs_unit = pytest.mark.skipif(not matrix_unit.is_there(), reason="this processor has no matrix unit for bfloat16")


def product(rows: Tensor, weight: Tensor) -> Tensor:
    result = torch.full((len(rows), len(weight)), torch.nan)
    matrix_unit.products(rows.numpy(), matrix_unit.tiles_of(weight, torch.bfloat16).numpy(), result.numpy())
    return result


@needs_unit
@given(batch=st.integers(1, 40), terms=st.integers(1, 100), columns=st.integers(1, 200), seed=st.integers(0, 99))
def test_factors_are_rounded_and_sums_are_not(batch: int, terms: int, columns: int, seed: int) -> None:
    torch.manual_seed(seed)
    rows, weight = torch.randn(batch, terms), torch.randn(columns, terms)
    expected = rows.bfloat16().double() @ weight.bfloat16().double().T
    torch.testing.assert_close(product(rows, weight).double(), expected, rtol=1e-5, atol=1e-4)


@needs_unit
def test_rounding_is_that_of_torch() -> None:
    # Every value between two neighbours of bfloat16, their middles among them; one at a time, so that nothing is summed.
    bits = np.arange(0x3F800000, 0x3F800000 + 4 * 0x10000, 0x80, dtype=np.int32)
    values = torch.from_numpy(np.concatenate([bits, bits | np.int32(-0x80000000)]).view(np.float32))
    found = product(values[:, None], torch.ones(1, 1))[:, 0]
    assert torch.equal(found, values.bfloat16().float())


@needs_unit
def test_what_is_no_number_stays_that() -> None:
    rows = torch.randn(3, 40)
    rows[1, 3] = torch.from_numpy(np.array([0x7FFFFFFF], dtype=np.int32).view(np.float32))[
        0
    ]  # rounds to 0 if taken for one
    rows[2, 5] = torch.inf
    found = product(rows, torch.randn(64, 40))
    assert found[0].isfinite().all()
    assert found[1].isnan().all()
    assert found[2].isinf().all()


def test_no_tiles_where_products_are_to_be_exact() -> None:
    weight = torch.randn(8, 4)
    assert matrix_unit.tiles_of(weight, torch.float32).numel() == 0
    assert matrix_unit.tiles_of(weight, torch.float16).numel() == 0
    assert (matrix_unit.tiles_of(weight, torch.bfloat16).numel() > 0) == matrix_unit.is_there()


@pytest.mark.parametrize("name", ["gru", "ligru", "sligru"])
def test_autocast_changes_a_cell_by_rounding_only(name: str) -> None:
    torch.manual_seed(0)
    cell: nn.Module = make_cell(name, 20, 48)
    frames = torch.randn(30, 19, 20, requires_grad=True)
    weights = torch.randn(30, 19, 48)

    def outcome() -> list[Tensor]:
        (outputs,) = run_cells([cell], [frames])
        assert outputs.dtype == torch.float32
        gradients = torch.autograd.grad((outputs * weights).sum(), [frames, cell.get_parameter("weight_hh_l0")])
        return [outputs.detach(), *gradients]

    exact = outcome()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outcome()
    for one, other in zip(rounded, exact, strict=True):
        difference = (one - other).norm() / other.norm()
        assert difference < 0.1, "a wrong tile would be worth as much as the numbers themselves"
    if matrix_unit.is_there():
        assert not torch.equal(rounded[0], exact[0])


@pytest.mark.parametrize("name", ["ligru", "sligru"])
def test_a_state_that_fades_away_is_zero_before_it_slows_the_processor_down(name: str) -> None:
    # Candidate silent, gate at one half: the state halves at each step, and after 126 of them is no normal number.
    cell = equations(name)(1, 4).eval()
    nn.init.zeros_(cell.weight_hh_l0)
    projected = torch.cat([torch.full((150, 2, 4), -1.0), torch.zeros(150, 2, 4)], dim=-1)
    outputs, _ = cell.recur(projected, (torch.ones(2, 4),))
    assert outputs[90].gt(0).all()
    assert torch.equal(outputs[-1], torch.zeros(2, 4))
    assert not ((outputs > 0) & (outputs < 1e-37)).any()
