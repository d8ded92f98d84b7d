"""Convolutional subsampling: fewer, richer frames for the recurrent layers.

Recurrence is sequential, so halving the frames halves the time; CTC only needs a frame per token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from asr.config import Section
from asr.lengths import frames_after_subsampling, valid_mask


class SubsamplingConfig(Section):
    """Stride-2 convolutions over time and features."""

    kind: Literal["conv2d"] = "conv2d"
    factor: Literal[1, 2, 4, 8] = Field(default=4, description="feature frames per encoder frame")
    channels: int = Field(default=32, ge=1, description="channels of each convolution; with factor 1 there is none")


class TimeSubsamplingConfig(Section):
    """Stride-2 convolutions over time, each of which sees all features: filters that do not move along the frequencies.

    Source: Waibel et al. 1989, "Phoneme recognition using time-delay neural networks".
    """

    kind: Literal["conv1d"] = "conv1d"
    factor: Literal[2, 4, 8] = Field(default=4, description="feature frames per encoder frame")
    channels: int = Field(default=256, ge=1, description="channels of each convolution")
    kernel: int = Field(default=5, ge=3, description="frames that each convolution sees, an odd number")

    @field_validator("kernel")
    @classmethod
    def _check_odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"expected an odd number of frames, found {kernel}")
        return kernel


AnySubsamplingConfig = Annotated[SubsamplingConfig | TimeSubsamplingConfig, Field(discriminator="kind")]


class ConvSubsampling(nn.Module):
    """Features (B, T, F) to frames (B, ceil(T / factor), output_size); no sound is in frames behind an utterance's end."""

    def __init__(self, config: SubsamplingConfig, num_features: int, output_size: int) -> None:
        super().__init__()
        num_convolutions = config.factor.bit_length() - 1
        channels = [1] + [config.channels] * num_convolutions
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.projection = nn.Linear(channels[-1] * frames_after_subsampling(num_features, config.factor), output_size)

    def extra_repr(self) -> str:
        """What it does, for people."""
        return f"{len(self.convolutions)} x conv 3x3 stride 2, linear"

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, S, output_size) of `features` (B, T, F), which are zero behind `num_frames` (B,), and S each (B,)."""
        hidden = features[:, None]
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden))
            num_frames = frames_after_subsampling(num_frames, 2)
            # The bias makes padding non-zero; the next convolution must see there the zeros that it pads with itself.
            hidden = hidden * valid_mask(num_frames, hidden.shape[2], hidden.device)[:, None, :, None]
        hidden = hidden.transpose(1, 2).flatten(2)
        return self.projection(hidden), num_frames


class TimeConvSubsampling(nn.Module):
    """As `ConvSubsampling`: features (B, T, F) to frames (B, ceil(T / factor), output_size)."""

    def __init__(self, config: TimeSubsamplingConfig, num_features: int, output_size: int) -> None:
        super().__init__()
        self.kernel = config.kernel
        channels = [num_features] + [config.channels] * (config.factor.bit_length() - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, config.kernel, stride=2, padding=config.kernel // 2)
            for before, after in pairwise(channels)
        )
        self.projection = nn.Linear(config.channels, output_size)

    def extra_repr(self) -> str:
        """What it does, for people."""
        return f"{len(self.convolutions)} x conv {self.kernel} stride 2 over time, linear"

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, S, output_size) of `features` (B, T, F), which are zero behind `num_frames` (B,), and S each (B,)."""
        hidden = features.transpose(1, 2)
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden))
            num_frames = frames_after_subsampling(num_frames, 2)
            # As in two dimensions: what the bias makes of padding must not be heard.
            hidden = hidden * valid_mask(num_frames, hidden.shape[2], hidden.device)[:, None]
        return self.projection(hidden.transpose(1, 2)), num_frames


def make_subsampling(
    config: SubsamplingConfig | TimeSubsamplingConfig, num_features: int, output_size: int
) -> ConvSubsampling | TimeConvSubsampling:
    """The convolutions of `config` on so many features, which give frames of `output_size`."""
    match config:
        case SubsamplingConfig():
            return ConvSubsampling(config, num_features, output_size)
        case TimeSubsamplingConfig():
            return TimeConvSubsampling(config, num_features, output_size)
