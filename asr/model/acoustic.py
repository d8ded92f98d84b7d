"""The acoustic model: features, encoder, CTC head and, where there is one, attention decoder in one module.

So one checkpoint holds all that was trained and is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asr.config import Section
from asr.features import Augmenter, FeatureConfig, FeatureExtractor, LogMelConfig, StoredConfig
from asr.model.attention import AttentionConfig, AttentionDecoder
from asr.model.blocks import Encoded
from asr.model.encoder import Encoder, EncoderConfig


class AcousticConfig(Section):
    """Everything that the shape of the model depends on, but the vocabulary."""

    features: FeatureConfig = LogMelConfig()
    encoder: EncoderConfig = EncoderConfig()
    attention: AttentionConfig | None = None

    @property
    def num_stored_features(self) -> int:
        """Values per frame where the input is stored frames, 0 where it is audio."""
        return self.features.num_features if isinstance(self.features, StoredConfig) else 0

    @property
    def highest_hz(self) -> float:
        """Up to where it listens, in hertz; 0 where the input is stored frames."""
        return 0.0 if isinstance(self.features, StoredConfig) else self.features.highest_hz

    def computes_as(self, other: AcousticConfig) -> bool:
        """Whether both make the same of the same weights: dropout and where weights begin matter to training alone."""
        of_training = {"encoder": {"dropout", "dropout_over", "recurrent_init", "gate_bias"}, "attention": {"dropout"}}
        return self.model_dump(exclude=of_training) == other.model_dump(exclude=of_training)


class LayerInfo(NamedTuple):
    """One row of the model's description; `frames` is the output's frames per second, 0 where it has tokens instead."""

    name: str
    kind: str
    output: str
    parameters: int
    frames: float


class AcousticModel(nn.Module):
    """Waveforms (B, N) to log-probabilities of tokens (B, S, V), natural logarithm, blank first."""

    def __init__(self, config: AcousticConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.features = FeatureExtractor(config.features)
        self.encoder = Encoder(config.encoder, self.features.num_features)
        self.head = nn.Linear(config.encoder.output_size, vocabulary_size)
        # Last, so that the other weights are drawn as without it.
        self.attention: AttentionDecoder | None = None
        if config.attention is not None:
            self.attention = AttentionDecoder(config.attention, config.encoder.output_size, vocabulary_size)

    @property
    def seconds_per_frame(self) -> float:
        """Seconds between encoder frames."""
        features = self.config.features
        return self.config.encoder.factor * features.hop_length / features.sample_rate

    def num_encoder_frames(self, num_samples: Tensor, layer: int | None = None) -> Tensor:
        """Encoder frames (B,) that utterances of `num_samples` samples (B,) give; or those of a lower recurrent layer."""
        return self.encoder.num_output_frames(self.features.num_frames(num_samples), layer)

    def forward(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, S, V) in float32, and the encoder frames of each utterance (B,).

        `num_samples` (B,) should stay on the CPU: then nothing here waits for the device.
        """
        hidden, num_frames = self.encode(waveforms, num_samples)
        return self.log_probs(hidden), num_frames

    def encode(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's frames (B, S, D), zero behind the frames of each utterance (B,), of which decoders make texts."""
        (last,), _ = self.after_layers(waveforms, num_samples, (len(self.encoder.layers),))
        return last.hidden, last.num_frames

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (B, S, V), in float32, of tokens in the encoder's frames `hidden` (B, S, D)."""
        # A probability near 1 has a logarithm near 0, which half precision rounds away: the softmax stays in float32.
        return torch.log_softmax(self.head(hidden).float(), dim=-1)

    def after_layers(
        self,
        waveforms: Tensor,
        num_samples: Tensor,
        numbers: Sequence[int],
        augmenter: Augmenter | None = None,
        views: int = 1,
    ) -> Encoded:
        """What `encode` gives if the encoder ended after recurrent layer 1, 2, ...: for each of `numbers`, in rising order.

        With several `views`, each utterance is masked so many times anew: (views * B, S, D), a whole batch after the other.
        """
        if augmenter is not None:
            waveforms, num_samples = augmenter.waveforms(waveforms, num_samples)
        features, num_frames = self.features(waveforms, num_samples)
        features, num_frames = features.repeat(views, 1, 1), num_frames.repeat(views)
        if augmenter is not None:
            features = augmenter.features(features, num_frames, self.config.features.num_static)
        return self.encoder.after_layers(features, num_frames, numbers)

    def describe(self) -> list[LayerInfo]:
        """One row per part of the model, from the waveform to the tokens."""
        features, encoder = self.config.features, self.config.encoder
        frame_rate = features.sample_rate / features.hop_length
        rate = frame_rate / encoder.subsampling.factor
        shape = f"(B, S, {encoder.output_size})"
        arrows = "both directions" if encoder.bidirectional else "forward"
        cell = f"{encoder.norm} norm, {encoder.cell} {encoder.hidden_size}, {arrows}"

        def row(name: str, kind: str, part: nn.Module) -> LayerInfo:
            return LayerInfo(name, kind, shape, num_parameters(part), rate)

        rows = [
            LayerInfo("features", features.kind, f"(B, T, {self.features.num_features})", 0, frame_rate),
            row("subsampling", self.encoder.subsampling.extra_repr(), self.encoder.subsampling),
        ]
        for number, (layer, blocks) in enumerate(zip(self.encoder.layers, self.encoder.blocks, strict=True), start=1):
            rows.append(row(f"layer {number}", cell, layer))
            rate = frame_rate / encoder.factor_of(number + 1)
            rows += [row(f"{name} {number}", block.extra_repr(), block) for name, block in blocks.named_children()]
        head = num_parameters(self.head) + num_parameters(self.encoder.norm)
        rows.append(LayerInfo("head", "norm, linear, log-softmax", f"(B, S, {self.head.out_features})", head, rate))
        if self.attention is not None:
            kind = f"attends to {shape}, gru {self.attention.config.hidden_size}"
            tokens = f"(B, U, {self.head.out_features})"
            rows.append(LayerInfo("attention", kind, tokens, num_parameters(self.attention), 0.0))
        return rows


def num_parameters(module: nn.Module) -> int:
    """Number of learnt values in `module`."""
    return sum(parameter.numel() for parameter in module.parameters())
