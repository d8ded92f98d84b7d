"""What every front end, and every block between recurrent layers, must do inside the encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from ragged import assert_batch_equals_alone, encoder_config, ragged_batch, ragged_features, shaken, small_model
from torch import Tensor, nn

from asr.config import sections_in
from asr.lengths import valid_mask
from asr.model import Encoder, EncoderConfig
from asr.model.blocks import BlockConfig, Bottleneck

LENGTHS = (1601, 800, 1, 1279, 79)
CONV1D: dict[str, object] = {"subsampling": {"kind": "conv1d", "factor": 4, "channels": 4, "kernel": 3}}
BLOCKS: dict[str, dict[str, object]] = {
    "pyramid": {"pyramid": {"after": [1]}},
    "self_attention": {"self_attention": {"after": [1], "heads": 3, "dropout": 0.0}},
    "bottleneck": {"bottleneck": {"after": [1], "size": 4}},
}
TOGETHER: dict[str, object] = {name: block for settings in BLOCKS.values() for name, block in settings.items()}
CHOICES = {"conv1d": CONV1D, **BLOCKS, "together": TOGETHER}


@pytest.fixture(params=list(CHOICES))
def choice(request: pytest.FixtureRequest) -> dict[str, object]:
    return CHOICES[request.param]


@pytest.fixture(params=[True, False], ids=["both", "forward"])
def bidirectional(request: pytest.FixtureRequest) -> bool:
    return request.param


def without_noise(module: nn.Module) -> nn.Module:
    """`module` in training, but for what draws at random."""
    for part in module.train().modules():
        if isinstance(part, Bottleneck):
            part.training = False
    return module


def test_nothing_is_left_out() -> None:
    members = [(name, list(sections_in(field.annotation))) for name, field in EncoderConfig.model_fields.items()]
    assert {name for name, sections in members if any(issubclass(each, BlockConfig) for each in sections)} == set(
        BLOCKS
    )
    kinds = [each.model_fields["kind"].default for each in dict(members)["subsampling"]]
    assert kinds == ["conv2d", "conv1d"]


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_batch_equals_each_utterance_alone(choice: dict[str, object], norm: str, bidirectional: bool) -> None:
    model = small_model(encoder_config(norm=norm, bidirectional=bidirectional, **choice))
    assert_batch_equals_alone(model, *ragged_batch(LENGTHS, extra=333))


def _trained_step(encoder: Encoder, features: Tensor, num_frames: Tensor) -> dict[str, Tensor]:
    """All that one training step sees: valid output, divergence, running statistics and gradients."""
    encoder = without_noise(copy.deepcopy(encoder))
    (last,), divergence = encoder.after_layers(features, num_frames, (2,))
    weights = torch.linspace(-1, 1, last.hidden.shape[-1])
    ((last.hidden * weights).square().sum() + divergence.sum()).backward()
    seen = {f"gradient of {name}": value.grad for name, value in encoder.named_parameters()}
    seen |= dict(encoder.named_buffers())
    return seen | {"output": last.hidden[valid_mask(last.num_frames, last.hidden.shape[1])], "divergence": divergence}


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_padding_changes_nothing_in_training(choice: dict[str, object], norm: str) -> None:
    encoder = shaken(Encoder(encoder_config(norm=norm, **choice), num_features=8))
    features, num_frames = ragged_features([11, 20, 5], 8)
    expected = _trained_step(encoder, features, num_frames)
    for name, found in _trained_step(encoder, nn.functional.pad(features, (0, 0, 0, 23)), num_frames).items():
        torch.testing.assert_close(
            found, expected[name], rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_frames_behind_the_end_are_zero(choice: dict[str, object]) -> None:
    encoder = shaken(Encoder(encoder_config(**choice), num_features=8)).eval()
    hidden, num_frames = encoder(*ragged_features([9, 1, 16], 8, extra=7))
    inside = valid_mask(num_frames, hidden.shape[1])
    assert hidden[~inside].abs().max() == 0
    assert hidden[inside].abs().amax(-1).min() > 0


# Frame 7 is in the fourth pair; two convolutions over three frames, each of every second one, look three frames ahead.
@pytest.mark.parametrize(("name", "first"), [("conv1d", 1), ("pyramid", 3), ("self_attention", 7), ("bottleneck", 7)])
def test_only_the_backward_direction_sees_later_frames(name: str, first: int, bidirectional: bool) -> None:
    encoder = Encoder(encoder_config(bidirectional=bidirectional, factor=1, **CHOICES[name]), num_features=8)
    shaken(encoder).eval()
    features, num_frames = ragged_features([12], 8)
    changed = features.clone()
    changed[:, 7] += 1
    before, after = (encoder(each, num_frames)[0][0] for each in (features, changed))
    moved = [frame for frame in range(len(before)) if not torch.equal(before[frame], after[frame])]
    assert moved == list(range(0 if bidirectional else first, len(before)))


def test_every_weight_learns(choice: dict[str, object], bidirectional: bool) -> None:
    model = small_model(encoder_config(bidirectional=bidirectional, **choice)).train()
    log_probs, num_frames = model(*ragged_batch(LENGTHS))
    log_probs[valid_mask(num_frames, log_probs.shape[1])][:, 2].sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_agree_with_finite_differences(choice: dict[str, object]) -> None:
    encoder = shaken(Encoder(encoder_config(hidden_size=3, norm="batch", **choice), num_features=4)).double().train()
    features, num_frames = ragged_features([6, 3], 4)
    names, parameters = zip(*encoder.named_parameters(), strict=True)

    def output(inputs: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        inputs = inputs * valid_mask(num_frames, inputs.shape[1])[..., None]
        torch.manual_seed(0)
        state = {f"encoder.{name}": value for name, value in zip(names, values, strict=True)}
        (last,), divergence = torch.func.functional_call(_AfterLast(encoder), state, (inputs, num_frames))
        return (last.hidden, divergence) if divergence.requires_grad else (last.hidden,)

    inputs = (features.double().requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(output, inputs, eps=1e-6, atol=1e-5, fast_mode=True)


class _AfterLast(nn.Module):
    """The encoder with all that it gives."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor, num_frames: Tensor) -> object:
        return self.encoder.after_layers(features, num_frames, (2,))


def test_half_precision_is_near_full_precision(choice: dict[str, object]) -> None:
    encoder = without_noise(shaken(Encoder(encoder_config(**choice), num_features=8)))
    features, num_frames = ragged_features([20, 9, 3], 8)
    (expected,), divergence = encoder.after_layers(features, num_frames, (2,))
    with torch.autocast("cpu", torch.bfloat16):
        (found,), half_divergence = encoder.after_layers(features, num_frames, (2,))
        found.hidden.float().square().sum().backward()
    assert (found.hidden - expected.hidden).norm() < 0.1 * expected.hidden.norm()
    assert (half_divergence - divergence).norm() <= 0.1 * divergence.norm()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


@pytest.mark.parametrize("changes", [{}, {"pyramid": {"after": [1, 2]}}])
def test_every_layer_announces_its_frames(choice: dict[str, object], changes: dict[str, object]) -> None:
    model = small_model(encoder_config(num_layers=3, **(choice | changes)))
    waveforms, num_samples = ragged_batch(LENGTHS)
    layers = model.after_layers(waveforms, num_samples, (1, 2, 3)).layers
    rates = {row.name: row.frames for row in model.describe()}
    for number, (hidden, num_frames) in enumerate(layers, start=1):
        assert torch.equal(model.num_encoder_frames(num_samples, number), num_frames)
        assert hidden.shape[1] == num_frames.max()
        assert rates[f"layer {number}"] == 100 / model.config.encoder.factor_of(number)
    assert torch.equal(model.num_encoder_frames(num_samples), num_frames)
    assert rates["head"] * model.seconds_per_frame == pytest.approx(1)
    assert sum(row.parameters for row in model.describe()) == sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("name", ["self_attention", "bottleneck"])
def test_randomness_is_of_training_alone(name: str) -> None:
    settings = {name: {**CHOICES[name][name], **({"dropout": 0.5} if name == "self_attention" else {})}}
    encoder = Encoder(encoder_config(**settings), num_features=8).train()
    batch = ragged_features([20, 9], 8)
    torch.manual_seed(1)
    one, other = (encoder(*batch)[0] for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(encoder(*batch)[0], one)
    assert not torch.equal(one, other)
    encoder.eval()
    one, other = (encoder(*batch)[0] for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_other_weights_are_drawn_as_without(name: str) -> None:
    states = []
    for settings in ({}, BLOCKS[name]):
        torch.manual_seed(0)
        states.append(Encoder(encoder_config(**settings), num_features=8).state_dict())
    plain, changed = states
    assert {key.split(".")[0] for key in changed.keys() - plain.keys()} == {"blocks"}
    assert all(torch.equal(changed[key], value) for key, value in plain.items())


@pytest.mark.slow
def test_exported_program_is_the_model(choice: dict[str, object]) -> None:
    encoder = shaken(Encoder(encoder_config(**choice), num_features=8)).eval()
    batch = ragged_features([7, 9], 8)
    with torch.no_grad():
        program = torch.export.export(encoder, batch)
        torch.testing.assert_close(program.module()(*batch)[0], encoder(*batch)[0], atol=1e-5, rtol=0)
