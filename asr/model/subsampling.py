"""Convolutional subsampling: fewer, richer frames for the recurrent layers.

Recurrence is sequential, so halving the frames halves the time; CTC only needs a frame per token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Section
from asr.lengths import frames_after_subsampling, valid_mask


class SubsamplingConfig(Section):
    """Stride-2 convolutions over time and features."""

    factor: Literal[1, 2, 4, 8] = Field(default=4, description="feature frames per encoder frame")
    channels: int = Field(default=32, ge=1, description="channels of each convolution")


class ConvSubsampling(nn.Module):
    """Features (B, T, F) to frames (B, ceil(T / factor), output_size); no sound is in frames behind an utterance's end."""

    def __init__(self, config: SubsamplingConfig, num_features: int, output_size: int) -> None:
        super().__init__()
        self.factor = config.factor
        num_convolutions = config.factor.bit_length() - 1
        channels = [1] + [config.channels] * num_convolutions
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.projection = nn.Linear(channels[-1] * frames_after_subsampling(num_features, config.factor), output_size)

    def num_output_frames(self, num_frames: Tensor) -> Tensor:
        """Encoder frames (B,) for `num_frames` feature frames (B,)."""
        return frames_after_subsampling(num_frames, self.factor)

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, S, output_size) of `features` (B, T, F), which are zero behind `num_frames` (B,), and S each (B,)."""
        hidden = features[:, None]
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden))
            num_frames = frames_after_subsampling(num_frames, 2)
            # The bias makes padding non-zero; the next convolution must see there the zeros that it pads with itself.
            hidden = hidden * valid_mask(num_frames.to(hidden.device), hidden.shape[2])[:, None, :, None]
        hidden = hidden.transpose(1, 2).flatten(2)
        return self.projection(hidden), num_frames
