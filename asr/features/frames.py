"""What all features have in common: derivatives over time and normalisation, each utterance by its own length."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Section

VARIANCE_FLOOR = 1e-5
"""What a feature that never varies is divided by the root of."""

_DELTA_REACH = 2
_LOUD_NATS = 6.0  # of power: 26 dB


class FrameConfig(Section):
    """What is done to the frames of any front end."""

    deltas: int = Field(default=0, ge=0, le=2, description="0: none, 1: velocity, 2: velocity and acceleration")
    normalization: Literal["utterance", "speech", "global", "none"] = Field(
        default="utterance",
        description="zero mean and unit variance per utterance; or per utterance without what is quiet before and behind "
        "the speech; or with the training data's statistics (of a hundred batches of it, drawn at random)",
    )


def normalized_per_utterance(features: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
    """`features` (B, T, F) with zero mean and unit variance over each utterance's frames that are `counted` (B, T, 1).

    Those that are not valid, where `mask` (B, T, 1) is not, are zero.
    """
    count = counted.sum(1, keepdim=True).clamp(min=1)
    mean = (features * counted).sum(1, keepdim=True) / count
    centred = (features - mean) * mask
    inside = centred if counted is mask else centred * counted
    variance = inside.square().sum(1, keepdim=True) / count
    return centred * (variance + VARIANCE_FLOOR).rsqrt()


def spoken(loudness: Tensor, mask: Tensor, reach: int) -> Tensor:
    """Which valid frames (B, T, 1) lie between the first and the last loud one, or up to `reach` frames beside these.

    Loud is what lies at most `_LOUD_NATS` below the loudest: where noise does, all of the utterance counts.

    Args:
        loudness: logarithm of the power, mean over bands (B, T), in nats.
        mask: the valid frames (B, T, 1).
        reach: in frames.
    """
    num_frames = mask.shape[1]
    loudness = loudness[..., None].masked_fill(~mask, -math.inf)
    loud = loudness >= loudness.amax(1, keepdim=True) - _LOUD_NATS
    steps = torch.arange(num_frames, device=mask.device)[:, None]
    first = torch.where(loud, steps, num_frames).amin(1, keepdim=True)
    last = torch.where(loud, steps, -1).amax(1, keepdim=True)
    return mask & (steps >= first - reach) & (steps <= last + reach)


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
            ahead = static.gather(1, torch.minimum(steps + n, last)[..., None].expand_as(static))
            behind = static[:, (steps - n).clamp(min=0)]
            delta = delta + n * (ahead - behind)
        parts.append(delta / scale)
    return torch.cat(parts, dim=-1)
