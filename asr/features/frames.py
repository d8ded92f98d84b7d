"""What all features have in common: derivatives over time and normalisation, each utterance by its own length."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Section

VARIANCE_FLOOR = 1e-5
"""What a feature that never varies is divided by the root of."""

_DELTA_REACH = 2


class FrameConfig(Section):
    """What is done to the frames of any front end."""

    deltas: int = Field(default=0, ge=0, le=2, description="0: none, 1: velocity, 2: velocity and acceleration")
    normalization: Literal["utterance", "global", "none"] = Field(
        default="utterance",
        description="zero mean and unit variance per utterance, or with the training data's statistics (of a hundred "
        "batches of it, drawn at random)",
    )


def normalized_per_utterance(features: Tensor, mask: Tensor) -> Tensor:
    """`features` (B, T, F) with zero mean and unit variance over each utterance's valid frames, where `mask` (B, T, 1)."""
    count = mask.sum(1, keepdim=True).clamp(min=1)
    mean = (features * mask).sum(1, keepdim=True) / count
    centred = (features - mean) * mask
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * (variance + VARIANCE_FLOOR).rsqrt()


def with_deltas(features: Tensor, num_frames: Tensor, order: int) -> Tensor:
    """`features` (B, T, F) followed by `order` derivatives over time: (B, T, F * (1 + order)).

    d[t] = sum_{n=1..2} n * (c[t+n] - c[t-n]) / (2 * sum n^2), with the first and last valid frame repeated at the edges.

    Source: Young et al., The HTK Book, equation 5.16.
    """
    parts = [features]
    steps = torch.arange(features.shape[1], device=features.device)
    last = (num_frames.to(features.device, non_blocking=True) - 1)[:, None]
    scale = 2 * sum(n * n for n in range(1, _DELTA_REACH + 1))
    for _ in range(order):
        static = parts[-1]
        delta = torch.zeros_like(static)
        for n in range(1, _DELTA_REACH + 1):
            ahead = _frames_at(static, torch.minimum(steps + n, last))
            behind = _frames_at(static, torch.minimum((steps - n).clamp(min=0), last))
            delta = delta + n * (ahead - behind)
        parts.append(delta / scale)
    return torch.cat(parts, dim=-1)


def _frames_at(features: Tensor, index: Tensor) -> Tensor:
    """Frames of `features` (B, T, F) at `index` (B, T)."""
    return features.gather(1, index[..., None].expand_as(features))
