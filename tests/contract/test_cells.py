"""What every recurrent cell must do inside the encoder, with every normalisation, direction and subsampling."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from ragged import assert_batch_equals_alone, encoder_config, ragged_batch, ragged_features, shaken, small_model
from torch import Tensor, nn

from asr.lengths import valid_mask
from asr.model import CELLS, Encoder
from asr.model.blocks import reversed_frames
from asr.model.cells import equations, make_cell, run_cells

NORMS = ("layer", "batch", "none")
FACTORS = (1, 2, 4, 8)
LENGTHS = (1601, 800, 1, 1279, 79)


# What stands around a cell does not depend on which it is: for these it is tried in every combination.
KERNELS = ("gru", "lstm", "rnn")
FROM_EQUATIONS = tuple(sorted(set(CELLS) - set(KERNELS)))

WITH_NORMS = (*itertools.product(KERNELS, NORMS), *((cell, "layer") for cell in FROM_EQUATIONS))

with_norms = pytest.mark.parametrize(("cell", "norm"), WITH_NORMS)
# Also with layer normalisation inside, where a kernel is its reference.
with_norms_inside = pytest.mark.parametrize(
    ("cell", "norm", "cell_norm"),
    [*((*each, False) for each in WITH_NORMS), *((cell, "layer", True) for cell in FROM_EQUATIONS)],
)
with_norms_and_factors = pytest.mark.parametrize(
    ("cell", "norm", "factor"),
    [*itertools.product(KERNELS, NORMS, FACTORS), *((cell, "layer", 2) for cell in FROM_EQUATIONS)],
)


@pytest.fixture(params=sorted(CELLS))
def cell(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[True, False], ids=["both", "forward"])
def bidirectional(request: pytest.FixtureRequest) -> bool:
    return request.param


@with_norms_and_factors
def test_batch_equals_each_utterance_alone(cell: str, norm: str, bidirectional: bool, factor: int) -> None:
    model = small_model(encoder_config(cell=cell, norm=norm, bidirectional=bidirectional, factor=factor))
    assert_batch_equals_alone(model, *ragged_batch(LENGTHS, extra=333))


def _trained_step(encoder: Encoder, features: Tensor, num_frames: Tensor) -> dict[str, Tensor]:
    """All that one training step sees: valid output, running statistics and gradients."""
    encoder = copy.deepcopy(encoder).train()
    hidden, lengths = encoder(features, num_frames)
    weights = torch.linspace(-1, 1, hidden.shape[-1])
    (hidden * weights).square().sum().backward()
    seen = {f"gradient of {name}": value.grad for name, value in encoder.named_parameters()}
    seen |= dict(encoder.named_buffers())
    return seen | {"output": hidden[valid_mask(lengths, hidden.shape[1])]}


@with_norms_inside
@pytest.mark.parametrize("factor", [1, 4])
def test_padding_changes_nothing_in_training(cell: str, norm: str, cell_norm: bool, factor: int) -> None:
    encoder = shaken(Encoder(encoder_config(cell=cell, norm=norm, cell_norm=cell_norm, factor=factor), num_features=8))
    features, num_frames = ragged_features([11, 20, 5], 8)
    expected = _trained_step(encoder, features, num_frames)
    padded = nn.functional.pad(features, (0, 0, 0, 23))
    for name, found in _trained_step(encoder, padded, num_frames).items():
        torch.testing.assert_close(
            found, expected[name], rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@with_norms
def test_frames_behind_the_end_are_zero(cell: str, norm: str, bidirectional: bool) -> None:
    encoder = shaken(Encoder(encoder_config(cell=cell, norm=norm, bidirectional=bidirectional), num_features=8)).eval()
    hidden, num_frames = encoder(*ragged_features([9, 1, 16], 8, extra=7))
    inside = valid_mask(num_frames, hidden.shape[1])
    assert hidden[~inside].abs().max() == 0
    assert hidden[inside].abs().amax(-1).min() > 0


def test_only_the_backward_direction_sees_later_frames(cell: str, bidirectional: bool) -> None:
    encoder = shaken(Encoder(encoder_config(cell=cell, bidirectional=bidirectional, factor=1), num_features=8)).eval()
    features, num_frames = ragged_features([12], 8)
    changed = features.clone()
    changed[:, 7] += 1
    before, after = (encoder(each, num_frames)[0][0] for each in (features, changed))
    moved = [frame for frame in range(12) if not torch.equal(before[frame], after[frame])]
    assert moved == (list(range(12)) if bidirectional else list(range(7, 12)))


@with_norms
def test_every_weight_learns(cell: str, norm: str, bidirectional: bool) -> None:
    model = small_model(encoder_config(cell=cell, norm=norm, bidirectional=bidirectional)).train()
    log_probs, num_frames = model(*ragged_batch(LENGTHS))
    log_probs[valid_mask(num_frames, log_probs.shape[1])][:, 2].sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@with_norms_inside
def test_gradients_agree_with_finite_differences(cell: str, norm: str, cell_norm: bool) -> None:
    # A norm over two units, as in a plain network of two, would leave nothing but their order.
    config = encoder_config(cell=cell, norm=norm, cell_norm=cell_norm, num_layers=1, hidden_size=3 if cell_norm else 2)
    encoder = shaken(Encoder(config, num_features=4)).double().train()
    features, num_frames = ragged_features([6, 3], 4)
    names, parameters = zip(*encoder.named_parameters(), strict=True)

    def output(inputs: Tensor, *values: Tensor) -> Tensor:
        inputs = inputs * valid_mask(num_frames, inputs.shape[1])[..., None]
        return torch.func.functional_call(encoder, dict(zip(names, values, strict=True)), (inputs, num_frames))[0]

    # Rectifiers have a kink at 0, where differences mean nothing: `shaken` and the small step keep away from it.
    assert torch.autograd.gradcheck(
        output, (features.double().requires_grad_(), *parameters), eps=1e-6, atol=1e-5, fast_mode=True
    )


@with_norms
def test_residual_connection_adds_what_came_in(cell: str, norm: str) -> None:
    with_residual = shaken(Encoder(encoder_config(cell=cell, norm=norm, num_layers=1), num_features=8)).eval()
    without = Encoder(encoder_config(cell=cell, norm=norm, num_layers=1, residual=False), num_features=8).eval()
    without.load_state_dict(with_residual.state_dict())
    hidden = torch.randn(7, 2, 12, generator=torch.Generator().manual_seed(1))
    arguments = (hidden, torch.ones(7, 2, dtype=torch.bool), torch.arange(7).flip(0)[:, None].expand(7, 2))
    torch.testing.assert_close(with_residual.layers[0](*arguments), hidden + without.layers[0](*arguments))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_both_directions_equal_a_packed_bidirectional_layer(cell: str) -> None:
    """torch's own bidirectional layer over a packed batch is an independent way to the same numbers and gradients."""
    layer = shaken(
        Encoder(encoder_config(cell=cell, norm="none", residual=False, num_layers=1), num_features=8)
    ).layers[0]
    reference = CELLS[cell](12, 6, bidirectional=True)
    forward, backward = layer.directions
    state = dict(forward.state_dict()) | {f"{name}_reverse": value for name, value in backward.state_dict().items()}
    reference.load_state_dict(state)
    hidden, lengths = ragged_features([9, 4, 1, 7], 12)
    mask = valid_mask(lengths, 9)
    found_input, expected_input = (hidden.clone().requires_grad_() for _ in range(2))

    found = layer(found_input.transpose(0, 1), mask.T, reversed_frames(lengths, 9)).transpose(0, 1)
    packed = nn.utils.rnn.pack_padded_sequence(expected_input, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    torch.testing.assert_close(found[mask], expected[mask])

    gradient = torch.randn(found[mask].shape, generator=torch.Generator().manual_seed(3))
    found[mask].backward(gradient)
    expected[mask].backward(gradient)
    torch.testing.assert_close(found_input.grad, expected_input.grad)
    for direction, suffix in ((forward, ""), (backward, "_reverse")):
        for name, parameter in direction.named_parameters():
            torch.testing.assert_close(parameter.grad, getattr(reference, name + suffix).grad)


def test_dropout_acts_in_training_alone(cell: str) -> None:
    encoder = Encoder(encoder_config(cell=cell, dropout=0.5), num_features=8)
    batch = ragged_features([20, 9], 8)
    one, other = (encoder(*batch)[0] for _ in range(2))
    assert not torch.equal(one, other)
    encoder.eval()
    one, other = (encoder(*batch)[0] for _ in range(2))
    assert torch.equal(one, other)


def test_cells_differ() -> None:
    """References are their kernels, with the same weights from the same seed; all other pairs differ."""
    outputs = {}
    for cell in CELLS:
        torch.manual_seed(0)
        encoder = shaken(Encoder(encoder_config(cell=cell), num_features=8))  # some start alike
        outputs[cell] = encoder.eval()(*ragged_features([9], 8))[0]
    alike = {pair for pair in itertools.combinations(CELLS, 2) if torch.allclose(*map(outputs.get, pair), atol=1e-6)}
    assert alike == {(cell, f"{cell}_reference") for cell in KERNELS}


def _state_of(found: object) -> list[Tensor]:
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_recording_in_pieces_gives_what_it_gives_in_one(cell: str, layer_norm: bool) -> None:
    """With the state carried on, as in streaming; torch's kernels keep the same contract."""
    module = shaken(make_cell(cell, 3, 4, layer_norm=layer_norm)).double().eval()
    frames = torch.randn(11, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    expected, last = module(frames)
    state, outputs = None, []
    for piece in frames.split([1, 4, 3, 3]):
        output, state = module(piece, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), expected)
    for one, other in zip(_state_of(state), _state_of(last), strict=True):
        assert one.shape == (1, 2, 4)
        torch.testing.assert_close(one, other)


def test_what_runs_is_the_step_of_the_class(cell: str) -> None:
    rules = equations(cell)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(7, 2, 3, generator=generator)

    class Halved(rules):  # type: ignore[misc, valid-type]
        def step(self, x: Tensor, states: tuple[Tensor, ...], products: tuple[object, ...]) -> tuple[Tensor, object]:
            output, states = super().step(x, states, products)
            return output, tuple(0.5 * each for each in states)

    torch.manual_seed(0)
    plain, changed = rules(3, 4), Halved(3, 4)
    changed.load_state_dict(plain.state_dict())
    outputs = [module.eval()(frames)[0] for module in (plain, changed)]
    assert not torch.allclose(*outputs, atol=1e-3)
    # And without a change, the loop over the class's own step says what its scan or compiled loop says.
    looped = type("Looped", (rules,), {"step": rules.step})(3, 4)
    looped.load_state_dict(plain.state_dict())
    torch.testing.assert_close(looped.eval()(frames)[0], outputs[0], rtol=1e-5, atol=1e-5)


def test_a_step_that_is_edited_is_what_runs(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody does who changes an equation where it stands, or puts a class with another one before it."""
    rules = equations(cell)
    frames = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(1))
    step, plain = rules.step, shaken(rules(3, 4)).eval()

    def halved(
        self: object, x: Tensor, states: tuple[Tensor, ...], products: tuple[object, ...]
    ) -> tuple[Tensor, object]:
        output, states = step(self, x, states, products)
        return output, tuple(0.5 * each for each in states)

    mixed = type("Mixed", (type("Halving", (), {"step": halved}), rules), {})(3, 4).eval()
    mixed.load_state_dict(plain.state_dict())
    expected = mixed(frames)[0]
    assert not torch.allclose(plain(frames)[0], expected, atol=1e-3)
    monkeypatch.setattr(rules, "step", halved)
    edited = rules(3, 4).eval()
    edited.load_state_dict(plain.state_dict())
    torch.testing.assert_close(edited(frames)[0], expected)
    # The same in one, as written by hand.
    outputs, state = [], None
    for frame in frames:
        output, state = edited(frame[None], state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), expected)


@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize(("num_calls", "found"), [(0, 0), (2, 6)])
def test_a_product_that_is_not_called_once_a_frame_is_told(num_calls: int, found: int, *, with_gradient: bool) -> None:
    class Wrong(equations("rnn")):  # type: ignore[misc]
        def step(self, x: Tensor, states: tuple[Tensor, ...], products: tuple[Any, ...]) -> tuple[Tensor, object]:
            h = x + sum(products[0](states[0]) for _ in range(num_calls))
            return h, (h,)

    with (
        torch.set_grad_enabled(with_gradient),
        pytest.raises(TypeError, match=f"once, found {found} calls .* in 5 frames"),
    ):
        Wrong(3, 4)(torch.randn(5, 2, 3))


def test_a_step_that_writes_into_what_it_multiplies_is_told() -> None:
    """The gradient of the product would be wrong, and autograd does not see it."""

    class Wrong(equations("gru_reference")):  # type: ignore[misc]
        def step(self, x: Tensor, states: tuple[Tensor, ...], products: tuple[Any, ...]) -> tuple[Tensor, object]:
            n, h = torch.tanh(products[0](states[0])[:, :4]), states[0]
            return h.mul_(0.5).add_(n), (h,)

    with pytest.raises(TypeError, match="must not write into what it multiplies"):
        Wrong(3, 4)(torch.randn(5, 2, 3))


def test_a_norm_that_is_put_on_the_product_is_what_runs() -> None:
    cell = shaken(equations("ligru")(3, 4)).eval()
    frames = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(1))
    before, _ = cell(frames)
    normed = shaken(equations("ligru")(3, 4)).eval()
    normed.load_state_dict(cell.state_dict())
    normed.norms_hh[0] = nn.LayerNorm(8)
    after, _ = normed(frames)
    assert not torch.allclose(after, before, atol=1e-3)
    after.sum().backward()
    assert normed.norms_hh[0].weight.grad is not None


def test_a_cell_never_looks_ahead(cell: str) -> None:
    module = shaken(CELLS[cell](3, 4)).eval()
    frames = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(5))
    changed = frames.clone()
    changed[5] += 1
    moved = (module(frames)[0] != module(changed)[0]).flatten(1).any(1)
    assert moved.tolist() == [False] * 5 + [True] * 4


def test_gradients_of_a_cell_and_its_first_state(cell: str) -> None:
    module = shaken(CELLS[cell](3, 2)).double()
    generator = torch.Generator().manual_seed(6)
    frames = torch.randn(5, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    states = [
        torch.rand(1, 2, 2, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(equations(cell).num_states)
    ]

    def outputs(frames: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        output, last = module(frames, states if len(states) > 1 else states[0])
        return output, *_state_of(last)

    assert torch.autograd.gradcheck(outputs, (frames, *states), eps=1e-6, atol=1e-6, fast_mode=True)


def test_half_precision_is_near_full_precision(cell: str) -> None:
    encoder = shaken(Encoder(encoder_config(cell=cell, initial_state="learnt"), num_features=8)).train()
    features, num_frames = ragged_features([20, 9, 3], 8)
    expected, _ = encoder(features, num_frames)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = encoder(features, num_frames)
        found.float().square().sum().backward()
    assert (found - expected).norm() < 0.1 * expected.norm()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_states_keep_full_precision_under_autocast(cell: str, device: str, has_state: bool) -> None:
    """Frames come in bfloat16, as a layer's norm gives them; a state that is rounded at each step forgets small changes."""
    module = shaken(CELLS[cell](8, 6)).to(device)
    num_states = equations(cell).num_states
    state = tuple(torch.full((1, 3, 6), 0.1, device=device) for _ in range(num_states))
    given = [(state if num_states > 1 else state[0]) if has_state else None]
    frames = torch.randn(9, 3, 8, generator=torch.Generator().manual_seed(7)).bfloat16().to(device)
    (expected,) = run_cells([module], [frames.float()], None, given)
    with torch.autocast(device, torch.bfloat16):
        (found,) = run_cells([module], [frames], None, given)
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    assert (found - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize(
    ("norm", "bidirectional"), [("layer", False), pytest.param("batch", True, marks=pytest.mark.slow)]
)
def test_exported_program_is_the_model(cell: str, norm: str, bidirectional: bool) -> None:
    config = encoder_config(cell=cell, norm=norm, bidirectional=bidirectional, num_layers=1, factor=1)
    encoder = shaken(Encoder(config, num_features=8)).eval()
    batch = ragged_features([2, 3], 8)
    with torch.no_grad():
        program = torch.export.export(encoder, batch)
        torch.testing.assert_close(program.module()(*batch)[0], encoder(*batch)[0], atol=1e-5, rtol=0)


def test_numbers_do_not_depend_on_whether_gradients_are_wanted(cell: str, bidirectional: bool) -> None:
    """A cell may have a faster path for training; it must be the same cell."""
    encoder = shaken(Encoder(encoder_config(cell=cell, bidirectional=bidirectional), num_features=8)).eval()
    batch = ragged_features([20, 9, 1], 8)
    with torch.no_grad():
        expected, _ = encoder(*batch)
    torch.testing.assert_close(encoder(*batch)[0].detach(), expected, atol=1e-5, rtol=0)
