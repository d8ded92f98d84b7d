"""Padded batches of utterances of unlike lengths, and small models with nothing at zero, for the tests of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asr.features import LogMelConfig, StoredConfig
from asr.features.frames import FrameConfig
from asr.model import AcousticConfig, AcousticModel, EncoderConfig, SubsamplingConfig

SAMPLE_RATE = 8000
SMALL_FEATURES = LogMelConfig(sample_rate=SAMPLE_RATE, n_mels=8)
VOCABULARY_SIZE = 5


def ragged_batch(lengths: Sequence[int], *, seed: int = 0, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Waveforms (B, max + extra), each of its own pitch, level and noise, zero behind its end; and `lengths` (B,)."""
    generator = torch.Generator().manual_seed(seed)
    waveforms = torch.zeros(len(lengths), max(lengths) + extra)
    for row, length in zip(waveforms, lengths, strict=True):
        pitch, level, swing = torch.rand(3, generator=generator).tolist()
        times = torch.arange(length) / SAMPLE_RATE
        tone = torch.sin(2 * torch.pi * (200 + 2000 * pitch) * times) * (
            1 + torch.sin(2 * torch.pi * 9 * swing * times)
        )
        row[:length] = (0.05 + 0.3 * level) * tone + 0.02 * torch.randn(length, generator=generator)
    return waveforms, torch.tensor(lengths)


def ragged_features(
    lengths: Sequence[int], num_features: int, *, seed: int = 0, extra: int = 0
) -> tuple[Tensor, Tensor]:
    """Random features (B, max + extra, F), zero behind each utterance's end; and `lengths` (B,)."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), max(lengths) + extra, num_features, generator=generator)
    for row, length in zip(features, lengths, strict=True):
        row[length:] = 0
    return features, torch.tensor(lengths)


def feature_config(kind: type[FrameConfig], **common: object) -> Any:
    """Settings of any kind of features, small, at `SAMPLE_RATE` where it hears samples."""
    own = {"num_features": 20} if kind is StoredConfig else {"sample_rate": SAMPLE_RATE, "n_mels": 20}
    return kind.model_validate(own | common)


def ragged_signals(
    config: FrameConfig, lengths: Sequence[int], *, seed: int = 0, extra: int = 0
) -> tuple[Tensor, Tensor]:
    """What a model with features of `config` hears: waveforms, or stored frames, of `lengths` samples or frames."""
    if isinstance(config, StoredConfig):
        return ragged_features(lengths, config.num_features, seed=seed, extra=extra)
    return ragged_batch(lengths, seed=seed, extra=extra)


def encoder_config(
    *,
    factor: int = 2,
    cell: str = "gru",
    norm: str = "layer",
    bidirectional: bool = True,
    num_layers: int = 2,
    **changes: object,
) -> EncoderConfig:
    """A small encoder without dropout."""
    return EncoderConfig.model_validate(
        {
            "subsampling": SubsamplingConfig.model_validate({"factor": factor, "channels": 3}),
            "cell": cell,
            "norm": norm,
            "bidirectional": bidirectional,
            "num_layers": num_layers,
            "hidden_size": 6,
            "dropout": 0.0,
            **changes,
        }
    )


@torch.no_grad()
def shaken(module: torch.nn.Module, *, seed: int = 0) -> torch.nn.Module:
    """`module` with every weight and running statistic moved, so that no bias, mean or variance is at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.parameters():
        value.add_(0.3 * torch.randn(value.shape, generator=generator))
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.add_(0.3 * torch.randn(part.running_mean.shape, generator=generator))
            part.running_var.mul_(0.5 + torch.rand(part.running_var.shape, generator=generator))
    return module


def small_model(
    encoder: EncoderConfig | None = None, features: Any = SMALL_FEATURES, *, seed: int = 0
) -> AcousticModel:
    """A small model, shaken, in evaluation mode."""
    torch.manual_seed(seed)
    model = AcousticModel(AcousticConfig(features=features, encoder=encoder or encoder_config()), VOCABULARY_SIZE)
    shaken(model, seed=seed)
    return model.eval()


@torch.no_grad()
def assert_batch_equals_alone(model: AcousticModel, waveforms: Tensor, num_samples: Tensor) -> None:
    """Fail unless every utterance gets in the batch what it gets alone, within 1e-4 in log-probability."""
    together, num_frames = model(waveforms, num_samples)
    for index, length in enumerate(num_samples.tolist()):
        alone, frames = model(waveforms[index : index + 1, :length], num_samples[index : index + 1])
        assert frames.item() == num_frames[index] == alone.shape[1]
        torch.testing.assert_close(together[index, : frames.item()], alone[0], atol=1e-4, rtol=0)
