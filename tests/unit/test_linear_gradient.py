"""The recurrence of any cell by frame graphs: states and gradients are those of the loop over its equations."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import encoder_config, ragged_features, shaken
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from asr.lengths import valid_mask
from asr.model import CELLS, Encoder
from asr.model.cells import RecurrentCell, equations, linear_gradient
from asr.model.frame_graph import NUM_FRAMES, FrameGraph

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
Step = tuple[Tensor, tuple[Tensor, ...]]


def made(name: str, *, layer_norm: bool = False) -> RecurrentCell:
    return shaken(equations(name)(3, 5, layer_norm=layer_norm)).double()


def computed(
    cell: RecurrentCell, num_frames: int, batch: int, seed: int = 0, *, by_step: bool
) -> dict[str, Tensor | None]:
    """Outputs, last states and every gradient for random frames."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(cell.weight_ih_l0).requires_grad_()

    frames, states = drawn(num_frames, batch, 3), tuple(drawn(batch, 5) for _ in range(cell.num_states))
    projected = cell.project(frames, None)
    outputs, last = cell.loop(projected, states) if by_step else linear_gradient.recur(cell, projected, states)
    cell.zero_grad()
    torch.autograd.backward([outputs, *last], [drawn(*each.shape).detach() for each in (outputs, *last)])
    values: dict[str, Tensor | None] = {"outputs": outputs, "frames": frames.grad}
    for number, (one, start) in enumerate(zip(last, states, strict=True)):
        values |= {f"state {number}": one, f"start {number}": start.grad}
    return values | {name: parameter.grad for name, parameter in cell.named_parameters()}


def assert_same(cell: RecurrentCell, num_frames: int, batch: int, seed: int = 0) -> None:
    expected = computed(cell, num_frames, batch, seed, by_step=True)
    found = computed(cell, num_frames, batch, seed, by_step=False)
    assert found.keys() == expected.keys()
    for name, one in found.items():
        assert one is not None, name
        torch.testing.assert_close(one, expected[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", sorted(CELLS))
def test_states_and_gradients_are_those_of_the_equations(name: str, layer_norm: bool) -> None:
    assert_same(made(name, layer_norm=layer_norm), NUM_FRAMES + 3, 2)


@settings(max_examples=15, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 2 * NUM_FRAMES + 1), st.integers(1, 18)), min_size=1, max_size=3),
    name=st.sampled_from(["gru_reset_before", "lstm_peephole", "sru"]),
)
def test_what_a_graph_has_done_before_does_not_matter(shapes: list[tuple[int, int]], name: str) -> None:
    """Its tensors are used again: what is left of a longer or a larger batch must not be seen."""
    cell = made(name)
    for seed, (num_frames, batch) in enumerate(shapes):
        assert_same(cell, num_frames, batch, seed)
    paddings = {-(-batch // 16) for _, batch in shapes}
    assert len(cell.known.graphs) == 2 * len(paddings)


def test_frozen_weights_have_no_gradient() -> None:
    cell = made("gru_peephole")
    cell.weight_peephole.requires_grad_(False)
    found = computed(cell, 5, 2, by_step=False)
    assert found.pop("weight_peephole") is None
    torch.testing.assert_close(found["weight_hh_l0"], computed(cell, 5, 2, by_step=True)["weight_hh_l0"])


def test_weights_that_change_before_the_backward_pass_are_told() -> None:
    cell = made("mgu")
    projected = cell.project(torch.randn(3, 2, 3).double(), None)
    outputs, _ = linear_gradient.recur(cell, projected, (torch.zeros(2, 5).double(),))
    with torch.no_grad():
        cell.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_what_was_made_under_inference_mode_serves_training() -> None:
    cell = made("gru_reference")
    with torch.inference_mode():
        assert linear_gradient._is_usable(cell, torch.zeros(1, 1, 15))
        linear_gradient.recur(cell, torch.randn(3, 2, 15).double(), (torch.zeros(2, 5).double(),))
    assert_same(cell, 3, 2)


def test_a_copy_starts_anew_and_moved_weights_need_new_graphs() -> None:
    cell = made("gru_reference")
    computed(cell, 3, 2, by_step=False)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert not other.known.graphs
    before = list(cell.known.graphs.values())
    cell.weight_hh_l0.data = cell.weight_hh_l0.data.clone()
    assert_same(cell, 3, 2)
    assert len(cell.known.graphs) == 2
    assert not set(before) & set(cell.known.graphs.values())


class Mixing(equations("gru_reference")):  # type: ignore[misc]
    def step(self, x: Tensor, states: tuple[Tensor, ...], products: tuple[Any, ...]) -> Step:
        _, (h,) = super().step(x, states, products)
        return h, (h - h.mean(-1, keepdim=True),)


class Twice(equations("rnn")):  # type: ignore[misc]
    def step(self, x: Tensor, states: tuple[Tensor, ...], products: tuple[Any, ...]) -> Step:
        h = torch.tanh(x + products[0](states[0]) + products[0](states[0]))
        return h, (h,)


class OtherOutput(equations("lstm_peephole")):  # type: ignore[misc]
    """Element-wise, with an output that is none of the states, and a state that nothing needs."""

    def step(self, x: Tensor, states: tuple[Tensor, ...], products: tuple[Any, ...]) -> Step:
        _, (h, memory) = super().step(x, states, products)
        return torch.relu(h + memory * x[:, :5]), (h, memory)


def batch_normed() -> RecurrentCell:
    cell = equations("rnn")(3, 5)
    cell.norms_hh[0] = nn.BatchNorm1d(5)
    return cell


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Mixing(3, 5), "Mixing on cpu: frame by frame and slow, since .* is off by [0-9]"),
        (Twice(3, 5), "Twice on cpu: frame by frame and slow, since .* cannot be computed"),
        (batch_normed(), "cannot be computed .a product under a BatchNorm1d"),
    ],
    ids=["mixes units", "calls a product twice", "another norm"],
)
def test_a_step_that_does_not_allow_for_it_is_found_and_told(
    cell: RecurrentCell, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not linear_gradient._is_usable(cell, torch.zeros(1, 1, len(cell.weight_ih_l0)))
    (record,) = caplog.records
    assert re.search(reason, record.message), record.message


def test_where_memory_is_short_nothing_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that is too large is halved and tried again; what failed because of it must not stay slow for good."""
    cell = equations("gru_reference")(3, 5)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(linear_gradient, "FrameGraph", full)
        with pytest.raises(torch.OutOfMemoryError):
            linear_gradient._is_usable(cell, torch.zeros(1, 1, 15))
    assert not caplog.records
    assert linear_gradient._is_usable(cell, torch.zeros(1, 1, 15))


@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("name", [*sorted(CELLS), "other"])
def test_every_cell_allows_for_it(name: str, scale: float, caplog: pytest.LogCaptureFixture) -> None:
    """Also with gates as steep as training makes them."""
    cell = shaken(OtherOutput(3, 5) if name == "other" else equations(name)(3, 5))
    with torch.no_grad():
        for weight in cell.parameters():
            weight.mul_(scale)
    projected = cell.project(torch.zeros(1, 2, 3), None)
    assert linear_gradient._is_usable(cell, projected), caplog.text


@pytest.mark.parametrize("name", sorted(CELLS))
def test_an_encoder_learns_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In double precision: gradients of the convolutions are sums of terms that nearly cancel."""
    encoder = Encoder(encoder_config(cell=name, cell_norm=True, initial_state="learnt"), num_features=8)
    encoder = shaken(encoder).double().train()
    features, num_frames = ragged_features([40, 20, 9], 8)
    features = features.double()
    ran: list[str] = []

    def trained() -> dict[str, Tensor]:
        run = copy.deepcopy(encoder)
        hidden, lengths = run(features, num_frames)
        (hidden * torch.linspace(-1, 1, hidden.shape[-1])).square().sum().backward()
        values = {name: value.grad for name, value in run.named_parameters()}
        return values | {"output": hidden[valid_mask(lengths, hidden.shape[1])]}

    def takes(cell: RecurrentCell, projected: Tensor) -> bool:
        ran.append(type(cell).__name__)
        return True

    expected = trained()
    monkeypatch.setattr(linear_gradient, "takes", takes)
    found = trained()
    assert ran or name in ("mingru", "sligru"), "all but what is computed at once or compiled goes this way"
    for key, value in found.items():
        torch.testing.assert_close(
            value, expected[key], rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}"
        )


class Overheard(TorchDispatchMode):
    """Names all operations but those that only look at a tensor in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view and function is not torch.ops.aten._unsafe_view.default:
            self.names.append(str(function).split(".")[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", sorted(CELLS))
def test_nothing_in_a_graph_waits_for_the_host(name: str, layer_norm: bool) -> None:
    cell = made(name, layer_norm=layer_norm)
    projected, start = cell.project(torch.zeros(2, 3, 3).double(), None), torch.zeros(3, 5).double()
    with torch.no_grad(), Overheard() as overheard:
        linear_gradient._step_frames(cell, [projected], [start] * cell.num_states)
    # Numbers that are read back, and tensors that come from elsewhere.
    assert not {"_local_scalar_dense", "_to_copy", "lift_fresh", "nonzero"} & set(overheard.names)


def test_a_gru_takes_few_operations_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a launch in a graph, which is what its time is made of."""
    counts: list[float] = []

    class Counted(FrameGraph):
        def __call__(self, frames: Any, carried: Any) -> list[Tensor]:
            with Overheard() as overheard:
                self._run()
            counts.append(len(overheard.names) // NUM_FRAMES)
            return super().__call__(frames, carried)

    monkeypatch.setattr(linear_gradient, "FrameGraph", Counted)
    computed(made("gru_reference"), 3, 2, by_step=False)
    assert counts == [9, 5]


@needs_gpu
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", sorted(CELLS))
def test_a_gpu_computes_what_a_cpu_computes(name: str, layer_norm: bool) -> None:
    cell = made(name, layer_norm=layer_norm)
    expected = computed(cell, NUM_FRAMES + 3, 17, by_step=True)
    there = copy.deepcopy(cell).cuda()
    assert linear_gradient.takes(there, there.project(torch.zeros(NUM_FRAMES, 1, 3).double().cuda(), None))
    for key, found in computed(there, NUM_FRAMES + 3, 17, by_step=False).items():
        assert found is not None, key
        torch.testing.assert_close(found.cpu(), expected[key], msg=lambda text, key=key: f"{key}: {text}")
