"""The compiled recurrence of the GRU against numpy and against torch's own GRU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import shaken
from torch import Tensor, nn

from asr.model import gru_kernel
from asr.model.cells import equations, run_cells
from asr.model.gru_recurrence import gru_directions


def test_tanh_is_that_of_numpy_within_a_few_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-12, 12, 20_001), [0, 1e-30, -1e-6, 1e30, np.inf, -np.inf]]).astype(np.float32)
    found = np.array([gru_kernel.tanh(value) for value in x])
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=6e-7, atol=1e-30)
    assert np.isnan(gru_kernel.tanh(np.float32("nan")))


@pytest.mark.parametrize("num_rows", range(1, 10))
@pytest.mark.parametrize("num_columns", [1, 2, 3, 8])
def test_products_of_any_size_are_those_of_numpy(num_rows: int, num_columns: int) -> None:
    random = np.random.default_rng(num_rows)
    rows = random.standard_normal((num_rows, 13), dtype=np.float32)
    columns = random.standard_normal((num_columns, 13), dtype=np.float32)
    result = np.full((num_rows, num_columns), np.nan, dtype=np.float32)
    gru_kernel.products(rows, columns, result)
    np.testing.assert_allclose(result, rows @ columns.T, rtol=1e-5, atol=1e-5)


def gradients(outputs: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Gradients of a sum in which every output frame and direction has a weight of its own."""
    generator = torch.Generator().manual_seed(1)
    total = sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs)
    return list(torch.autograd.grad(total, leaves))  # type: ignore[arg-type]


@settings(max_examples=60)
@given(
    num_steps=st.integers(1, 12),
    batch=st.integers(1, 18),
    hidden=st.integers(1, 33),
    num_threads=st.sampled_from([1, 2, 5]),
    starts=st.lists(st.sampled_from(["zeros", "own", "shared"]), min_size=1, max_size=2),
)
def test_outputs_and_gradients_are_those_of_torch(
    num_steps: int, batch: int, hidden: int, num_threads: int, starts: list[str]
) -> None:
    torch.manual_seed(0)
    cells = [nn.GRU(6, hidden) for _ in starts]
    inputs = torch.randn(num_steps, batch, 6, requires_grad=True)
    of_each = [inputs, inputs.flip(0)][: len(starts)]
    given_states = {
        place: torch.randn(1, batch if start == "own" else 1, hidden, requires_grad=True)
        for place, start in enumerate(starts)
        if start != "zeros"
    }
    states = [given_states[each].expand(1, batch, hidden) if each in given_states else None for each in range(2)]
    leaves = [inputs, *given_states.values(), *(parameter for cell in cells for parameter in cell.parameters())]
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        found = gru_directions(cells, of_each, states)
        found_gradients = gradients(found, leaves)
    finally:
        torch.set_num_threads(before)
    expected = [cell(frames, state)[0] for cell, frames, state in zip(cells, of_each, states, strict=False)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found_gradients, gradients(expected, leaves), rtol=1e-4, atol=1e-5)


def test_outputs_and_gradients_are_those_of_the_equations_in_double_precision_to_a_few_millionths() -> None:
    """Outputs lie within 1; each gradient is measured by its own largest value."""
    cell = shaken(nn.GRU(20, 33))
    exact = equations("gru")(20, 33).double()
    exact.load_state_dict(cell.state_dict())
    generator = torch.Generator().manual_seed(0)
    frames, state = torch.randn(200, 5, 20, generator=generator), torch.rand(1, 5, 33, generator=generator)
    (found,) = gru_directions([cell], [frames], [state])
    expected, _ = exact(frames.double(), state.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-6)
    weights = torch.randn(found.shape, generator=generator)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in cell.named_parameters():
        of_equations = exact.get_parameter(name).grad
        error = (parameter.grad - of_equations).abs().max() / of_equations.abs().max()
        assert error < 3e-6, name


@pytest.mark.parametrize("state", [None, torch.ones(1, 2, 3)], ids=["zeros", "given"])
def test_it_is_what_runs(state: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, frames = nn.GRU(4, 3), torch.randn(5, 2, 4)
    expected, _ = cell(frames, state)
    monkeypatch.setattr(nn.GRU, "forward", None)
    (found,) = run_cells([cell], [frames], None, [state])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_is_not_a_number_stays_so() -> None:
    # A clamp that swallowed it would hide a broken batch from the count of skipped updates.
    cell = nn.GRU(4, 8)
    frames = torch.randn(5, 6, 4)
    frames[2, 3] = float("nan")
    (output,) = gru_directions([cell], [frames])
    assert output[2:, 3].isnan().all()
    assert output[:2].isfinite().all()
    assert output[:, [0, 1, 2, 4, 5]].isfinite().all()


def test_half_precision_inputs_leave_the_sum_over_time_in_full_precision() -> None:
    cell = nn.GRU(6, 8)
    frames = torch.randn(40, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        (output,) = gru_directions([cell], [frames])
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, cell(frames)[0], rtol=0.05, atol=0.02)


def test_gradient_of_a_gradient_is_refused() -> None:
    # The compiled backward pass leaves no trace, so that what is missing of it would be taken for zero.
    cell, inputs = nn.GRU(2, 3), torch.randn(4, 1, 2, requires_grad=True)
    (output,) = gru_directions([cell], [inputs])
    (gradient,) = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
