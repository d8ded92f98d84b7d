"""From the signal to normalised features: a front end by kind, then deltas and normalisation, the same for all kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.errors import TrainingError
from asr.features.frames import VARIANCE_FLOOR, normalized_per_utterance, spoken, with_deltas
from asr.features.spectral import LogMelConfig, MfccConfig, SpectralFrontEnd
from asr.features.stored import StoredConfig, StoredFrontEnd
from asr.lengths import valid_mask

# About as much silence as LibriSpeech has around its utterances: what is cut so, no normalisation hears as longer.
_MARGIN_SECONDS = 0.5

FeatureConfig = Annotated[LogMelConfig | MfccConfig | StoredConfig, Field(discriminator="kind")]


class FeatureExtractor(nn.Module):
    """Signals, waveforms (B, N) or stored frames (B, T, F), to normalised features (B, T, F), zero behind each end."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: LogMelConfig | MfccConfig | StoredConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_static * (1 + config.deltas)
        self.front_end = StoredFrontEnd(config) if isinstance(config, StoredConfig) else SpectralFrontEnd(config)
        self.register_buffer("mean", torch.zeros(self.num_features))
        self.register_buffer("scale", torch.ones(self.num_features))

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Feature frames (B,) that signals of `num_samples` samples or stored frames (B,) give."""
        frames: Tensor = self.front_end.num_frames(num_samples)
        return frames

    def forward(self, signals: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features (B, T, F) of `signals` of `num_samples` (B,), and the frames of each utterance (B,).

        What stands behind an utterance's end does not matter, whatever it is.
        """
        with torch.autocast(signals.device.type, enabled=False):
            features, num_frames = self.unnormalized(signals.float(), num_samples)
            mask = valid_mask(num_frames, features.shape[1], features.device)[..., None]
            # Not a product: what stands behind the end may be infinite.
            features = features.masked_fill(~mask, 0.0)
            if self.config.normalization in ("utterance", "speech"):
                features = normalized_per_utterance(features, mask, self._counted(features, mask))
            elif self.config.normalization == "global":
                features = (features - self.mean) * self.scale
            return features * mask, num_frames

    def unnormalized(self, signals: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, F) before normalisation, anything behind each utterance's end, and its frames (B,)."""
        num_frames = self.num_frames(num_samples)
        return with_deltas(self.front_end(signals, num_samples), num_frames, self.config.deltas), num_frames

    def _counted(self, features: Tensor, mask: Tensor) -> Tensor:
        """The frames (B, T, 1), of those where `mask` is, that an utterance's mean and variance are taken over."""
        if self.config.normalization != "speech" or not isinstance(self.front_end, SpectralFrontEnd):
            return mask
        return spoken(
            self.front_end.loudness(features), mask, round(_MARGIN_SECONDS / self.front_end.config.hop_seconds)
        )

    @torch.no_grad()
    def fit_normalization(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set the global mean and variance from `batches` of signals and their lengths (B,).

        Raises:
            TrainingError: `batches` is empty.
        """
        total = torch.zeros(self.num_features, dtype=torch.float64)
        squares = torch.zeros(self.num_features, dtype=torch.float64)
        count = 0
        for signals, num_samples in batches:
            features, num_frames = self.unnormalized(signals.to(self.mean.device), num_samples)
            valid = features[valid_mask(num_frames, features.shape[1], features.device)].double().cpu()
            total += valid.sum(0)
            squares += valid.square().sum(0)
            count += len(valid)
        if count == 0:
            raise TrainingError("cannot compute the global mean and variance: there is no training speech")
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=VARIANCE_FLOOR)
        self.mean.copy_(mean)
        self.scale.copy_(variance.rsqrt())
