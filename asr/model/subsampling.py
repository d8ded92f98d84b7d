"""Convolutional subsampling: fewer, richer frames for the recurrent layers.

Recurrence is sequential, so halving the frames halves the time; CTC only needs a frame per token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from asr.config import Section
from asr.lengths import frames_after_subsampling, valid_mask


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"expected an odd number of frames, found {number}")
    return number


OddNumber = Annotated[int, AfterValidator(_odd)]
"""Frames that a filter sees, as many before the one in its middle as behind it."""


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
    kernel: OddNumber = Field(default=5, ge=3, description="frames that each convolution sees, an odd number")


AnySubsamplingConfig = Annotated[SubsamplingConfig | TimeSubsamplingConfig, Field(discriminator="kind")]


class Subsampling(nn.Module):
    """Features (B, T, F) to frames (B, ceil(T / factor), output_size); no sound is in frames behind an utterance's end."""

    def __init__(self, config: SubsamplingConfig | TimeSubsamplingConfig, num_features: int, output_size: int) -> None:
        super().__init__()
        self.config = config
        convolution: type[nn.Conv1d | nn.Conv2d]
        if config.kind == "conv1d":
            convolution, kernel, channels, rest = nn.Conv1d, config.kernel, num_features, 1
        else:
            convolution, kernel, channels, rest = nn.Conv2d, 3, 1, frames_after_subsampling(num_features, config.factor)
        sizes = [channels] + [config.channels] * (config.factor.bit_length() - 1)
        self.convolutions = nn.ModuleList(
            convolution(before, after, kernel, stride=2, padding=kernel // 2) for before, after in pairwise(sizes)
        )
        self.projection = nn.Linear(sizes[-1] * rest, output_size)

    def extra_repr(self) -> str:
        """What it does, for people."""
        what = f"{self.config.kernel} stride 2 over time" if self.config.kind == "conv1d" else "3x3 stride 2"
        return f"{len(self.convolutions)} x conv {what}, linear"

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, S, output_size) of `features` (B, T, F), which are zero behind `num_frames` (B,), and S each (B,)."""
        # (B, F, T), or (B, 1, T, F) where filters move along the frequencies too
        hidden = features.transpose(1, 2) if self.config.kind == "conv1d" else features[:, None]
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden))
            num_frames = frames_after_subsampling(num_frames, 2)
            # The bias makes padding non-zero; the next convolution must see there the zeros that it pads with itself.
            mask = valid_mask(num_frames, hidden.shape[2], hidden.device)[:, None]
            hidden = hidden * (mask if hidden.dim() == 3 else mask[..., None])
        return self.projection(hidden.transpose(1, 2).flatten(2)), num_frames
