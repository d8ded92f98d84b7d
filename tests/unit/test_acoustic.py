"""The acoustic model as a whole: probabilities, lengths, gradients, description."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from ragged import encoder_config, ragged_batch, small_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from asr.features import AugmentConfig, Augmenter, LogMelConfig, MfccConfig
from asr.model import AcousticConfig, AcousticModel, EncoderConfig, SubsamplingConfig
from asr.model.acoustic import num_parameters
from asr.training.terms import divergence_from_even

LENGTHS = [1601, 800, 1, 1279]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_announced_frames_are_those_of_the_output(factor: int) -> None:
    model = small_model(encoder_config(factor=factor))
    waveforms, num_samples = ragged_batch(LENGTHS)
    log_probs, num_frames = model(waveforms, num_samples)
    assert torch.equal(model.num_encoder_frames(num_samples), num_frames)
    assert num_frames.max() == log_probs.shape[1]
    assert model.seconds_per_frame == pytest.approx(factor * 0.01)


def test_gradients_agree_with_finite_differences() -> None:
    """Through features, encoder and head, in the loss that training uses."""
    model = small_model(encoder_config(hidden_size=2, num_layers=1, norm="batch")).double().train()
    model.features.float()
    features, num_frames = model.features(*ragged_batch([900, 500]))
    targets = torch.tensor([[1, 2, 2], [3, 0, 0]])

    def loss(features: Tensor) -> Tensor:
        hidden, frames = model.encoder(features, num_frames)
        log_probs = torch.log_softmax(model.head(hidden), dim=-1).transpose(0, 1)
        return nn.functional.ctc_loss(log_probs, targets, frames, torch.tensor([3, 1]), reduction="sum")

    features = features.double()
    loss(features).backward()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            above, below = (_moved(parameter, step * direction, lambda: loss(features)) for step in (1e-6, -1e-6))
        assert float((above - below) / 2e-6) == pytest.approx(
            float((parameter.grad * direction).sum()), rel=1e-4, abs=1e-6
        ), name


def _moved(parameter: Tensor, step: Tensor, function: object) -> Tensor:
    parameter.add_(step)
    result = function()
    parameter.sub_(step)
    return result


def test_half_precision_keeps_float32_at_both_ends() -> None:
    model, batch = small_model(), ragged_batch(LENGTHS)
    exact, _ = model(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = model(*batch)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half.exp(), exact.exp(), atol=0.05, rtol=0)
    torch.testing.assert_close(half.exp().sum(-1), torch.ones(half.shape[:2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [LogMelConfig(), MfccConfig(deltas=1)])
@pytest.mark.parametrize(
    "encoder",
    [
        EncoderConfig(),
        EncoderConfig(bidirectional=False, num_layers=2, norm="batch", subsampling=SubsamplingConfig(factor=1)),
    ],
)
def test_description_counts_every_parameter_once(config: LogMelConfig | MfccConfig, encoder: EncoderConfig) -> None:
    model = AcousticModel(AcousticConfig(features=config, encoder=encoder), 30)
    rows = model.describe()
    assert (
        sum(row.parameters for row in rows)
        == num_parameters(model)
        == sum(value.numel() for value in model.parameters())
    )
    assert [row.name for row in rows] == [
        "features",
        "subsampling",
        *(f"layer {n + 1}" for n in range(encoder.num_layers)),
        "head",
    ]
    assert rows[2].kind.endswith("both directions" if encoder.bidirectional else "forward")
    assert rows[0].frames == pytest.approx(100)
    assert rows[-1].frames == pytest.approx(1 / model.seconds_per_frame)


class Recorder:
    """An augmentation that halves the sound and marks that it was asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def waveforms(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append("waveforms")
        return waveforms[:, ::2], (num_samples + 1) // 2

    def features(self, features: Tensor, num_frames: Tensor, num_static: int) -> Tensor:
        self.seen.append(f"features, {num_static} without deltas")
        return torch.zeros_like(features)


def test_augmentation_stands_before_and_behind_the_features() -> None:
    model, augmentation = small_model(), Recorder()
    waveforms, num_samples = ragged_batch(LENGTHS)
    (frames,), _ = model.after_layers(waveforms, num_samples, (len(model.encoder.layers),), augmentation)
    assert augmentation.seen == ["waveforms", "features, 8 without deltas"]
    assert torch.equal(frames.num_frames, model.num_encoder_frames((num_samples + 1) // 2))
    silent, _ = model.encoder(torch.zeros(4, 11, 8), model.features.num_frames((num_samples + 1) // 2))
    torch.testing.assert_close(frames.hidden, silent)


def test_saved_state_is_weights_and_statistics() -> None:
    names = set(small_model().state_dict())
    assert {name.split(".")[0] for name in names} == {"features", "encoder", "head"}
    assert {name for name in names if name.startswith("features.")} == {"features.mean", "features.scale"}


def test_same_seed_gives_the_same_model() -> None:
    for one, other in zip(small_model(seed=3).parameters(), small_model(seed=3).parameters(), strict=True):
        assert torch.equal(one, other)


class Waiting(TorchFunctionMode):
    """Notes the copies between devices that would wait for all that a GPU was given before."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[tuple[int, ...]] = []

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        is_copy = function is torch.Tensor.to and arguments[0].device != result.device
        if is_copy and not options.get("non_blocking"):
            self.copies.append(tuple(arguments[0].shape))
        return result


def test_lengths_on_the_cpu_let_nothing_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())  # meta knows none
    settings = {
        "features": {"kind": "log_mel", "n_mels": 8, "deltas": 1},
        "encoder": {
            "hidden_size": 4,
            "num_layers": 2,
            "subsampling": {"kind": "conv1d"},
            "pyramid": {"after": 1},
            "self_attention": {"after": 1, "heads": 2},
            "bottleneck": {"after": 1, "size": 3},
        },
        "attention": {},
    }
    model = AcousticModel(AcousticConfig.model_validate(settings), 5).to("meta")
    assert model.attention is not None
    augmenter = Augmenter(AugmentConfig.model_validate({"gain": {}, "spec_augment": {"frequency_width": 2}}), 1)
    with Waiting() as waiting:
        waveforms, num_samples = torch.zeros(2, 8000, device="meta"), torch.tensor([8000, 4000])
        ((hidden, num_frames),), _ = model.after_layers(waveforms, num_samples, (2,), augmenter)
        log_probs = model.log_probs(hidden)
        divergence_from_even(log_probs, num_frames)
        scores = model.attention(hidden, num_frames, torch.ones(2, 3, dtype=torch.int64, device="meta"))
    assert scores.shape == (2, 4, 5)
    assert num_frames.tolist() == [7, 4]
    assert waiting.copies == []


def test_a_pyramid_halves_the_frames_of_what_follows() -> None:
    model = small_model(encoder_config(factor=2, num_layers=3, pyramid={"after": 1}))
    rates = {row.name: row.frames for row in model.describe()}
    expected = {"subsampling": 50, "layer 1": 50, "pyramid 1": 25, "layer 2": 25, "layer 3": 25, "head": 25}
    assert {name: rates[name] for name in expected} == expected
    assert model.seconds_per_frame == pytest.approx(1 / 25), "what the times of words are counted in"
