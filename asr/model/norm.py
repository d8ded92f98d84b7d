"""Normalisation of frames, whose statistics never see padding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["layer", "batch", "none"]


def make_norm(kind: Norm, size: int) -> nn.Module:
    """A normalisation of width `size`: of each frame, of each feature over all valid frames of a batch, or none."""
    if kind == "layer":
        return nn.LayerNorm(size)
    return nn.BatchNorm1d(size) if kind == "batch" else nn.Identity()


def normalize(norm: nn.Module, hidden: Tensor, mask: Tensor | None, *, remember: bool = True) -> Tensor:
    """`norm` applied to frames `hidden` (S, B, D); batch statistics come from the valid frames of `mask` (S, B) alone.

    Without a mask all frames are valid. A batch norm that does not learn, as in a frozen part, keeps the statistics it has;
    so does one that is lent to frames of another kind, which it should not `remember`.
    """
    if not isinstance(norm, nn.BatchNorm1d):
        normed: Tensor = norm(hidden)
        return normed
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    if not (norm.training and norm.weight.requires_grad):
        # Frame by frame, so that no shape depends on the lengths: exporting needs that.
        normed = _with_running_statistics(norm, hidden.flatten(0, 1)).view_as(hidden)
        return normed.masked_fill(~mask[..., None], 0)
    every = hidden.flatten(0, 1)
    rows = mask.flatten().nonzero()[:, 0]
    frames = every.index_select(0, rows)
    # A lone frame has no variance and would stop training: it gets the running statistics, as in evaluation.
    if len(frames) <= 1:
        valid = _with_running_statistics(norm, frames)
    elif remember:
        valid = norm(frames)
    else:
        valid = nn.functional.batch_norm(frames, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    return torch.zeros_like(every, dtype=valid.dtype).index_copy_(0, rows, valid).view_as(hidden)


def _with_running_statistics(norm: nn.BatchNorm1d, frames: Tensor) -> Tensor:
    return nn.functional.batch_norm(frames, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
