"""Normalisation of frames, whose statistics never see padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model import norm_kernel
from asr.model.threads import run_in_parts

Norm = Literal["layer", "batch", "none"]


def make_norm(kind: Norm, size: int) -> nn.Module:
    """A normalisation of width `size`: of each frame, of each feature over all valid frames of a batch, or none."""
    if kind == "layer":
        return nn.LayerNorm(size)
    return nn.BatchNorm1d(size) if kind == "batch" else nn.Identity()


class SeparateNorms(nn.ModuleList):
    """Layer normalisation of the parts of a vector, `widths` wide, each part by itself."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__(nn.LayerNorm(width) for width in widths)
        self.widths = list(widths)

    def forward(self, hidden: Tensor) -> Tensor:
        """`hidden` (..., sum of the widths), normalised."""
        parts = zip(self, torch.split(hidden, self.widths, -1), strict=True)
        return torch.cat([norm(part) for norm, part in parts], -1)


def normalize(
    norm: nn.Module,
    hidden: Tensor,
    mask: Tensor | None,
    *,
    remember: bool = True,
    dtype: torch.dtype | None = None,
    padding: float = 0.0,
) -> Tensor:
    """`norm` applied to frames `hidden` (S, B, D); batch statistics come from the valid frames of `mask` (S, B) alone.

    Without a mask all frames are valid. A batch norm that does not learn, as in a frozen part, keeps the statistics it has;
    so does one that is lent to frames of another kind, which it should not `remember`. The result is of type `dtype`, which
    costs least if asked for here; None: whatever comes out. A batch norm puts `padding` where there is no valid frame.
    """
    normed = _normalized(norm, hidden, mask, remember, dtype, padding)
    return normed if dtype is None else normed.to(dtype)


def _normalized(
    norm: nn.Module,
    hidden: Tensor,
    mask: Tensor | None,
    remember: bool,
    dtype: torch.dtype | None,
    padding: float,
) -> Tensor:
    if not isinstance(norm, nn.BatchNorm1d):
        normed: Tensor = norm(hidden)
        return normed
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    every, is_valid = hidden.flatten(0, 1), mask.flatten()
    if not (norm.training and norm.weight.requires_grad):
        # Frame by frame, so that no shape depends on the lengths: exporting needs that.
        normed = nn.functional.batch_norm(
            every, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        return normed.view_as(hidden).masked_fill(~mask[..., None], padding)
    if _is_compiled_for(norm, every) and int(is_valid.sum()) > 1:
        normed, mean, variance = _CompiledBatchNorm.apply(
            every, is_valid, norm.weight, norm.bias, norm.eps, dtype, padding
        )
    else:
        normed, mean, variance = _BatchNorm.apply(
            every, is_valid, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps, dtype, padding
        )
    if remember:
        _remember(norm, mean, variance, is_valid.sum())
    return normed.view_as(hidden)


def _is_compiled_for(norm: nn.BatchNorm1d, frames: Tensor) -> bool:
    types = (torch.float32, torch.bfloat16)
    return frames.device.type == "cpu" and frames.dtype in types and norm.weight.dtype == torch.float32


@torch.no_grad()
def _remember(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, num_frames: Tensor) -> None:
    """Moves the running statistics as `norm` would, had it been called; a lone frame does not."""
    counts = num_frames > 1
    norm.get_buffer("num_batches_tracked").add_(counts)
    step = counts * (norm.momentum or 0.0)
    variance = variance * (num_frames.to(variance.dtype) / (num_frames - 1).clamp(min=1))
    for name, found in (("running_mean", mean), ("running_var", variance)):
        running = norm.get_buffer(name)
        running.lerp_(found.to(running.dtype), step.to(running.dtype))


class _BatchNorm(torch.autograd.Function):
    """Valid rows of frames (N, D) normalised, the others `padding`, with each feature's mean and variance (D).

    For a GPU: to take the valid rows out, as torch's own norm would have it, it has to be asked how many they are, and to
    wait for the answer until it has done all that it was given before. A lone frame has no variance and would stop training:
    it gets the running statistics, as in evaluation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        valid: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_variance: Tensor,
        eps: float,
        dtype: torch.dtype | None,
        padding: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, outside = valid.sum(), ~valid[:, None]
        wide = frames.to(weight.dtype).masked_fill(outside, 0)
        mean = wide.sum(0) / count.clamp(min=1)
        variance = (wide - mean).masked_fill(outside, 0).square().sum(0) / count.clamp(min=1)
        mean = torch.where(count > 1, mean, running_mean)
        variance = torch.where(count > 1, variance, running_variance)
        normed = torch.addcmul(bias, wide - mean, weight * torch.rsqrt(variance + eps))
        ctx.eps = eps
        ctx.save_for_backward(frames, valid, weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        return normed.masked_fill(outside, padding).to(dtype or frames.dtype), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_normed: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """As `norm_kernel.backward` says."""
        frames, valid, weight, mean, variance = ctx.saved_tensors
        count, outside = valid.sum(), ~valid[:, None]
        inverse = torch.rsqrt(variance + ctx.eps)
        x = ((frames.to(weight.dtype) - mean) * inverse).masked_fill(outside, 0)
        gradient = d_normed.to(weight.dtype).masked_fill(outside, 0)
        d_bias, d_weight = gradient.sum(0), (gradient * x).sum(0)
        through_statistics = torch.where(count > 1, 1 / count.clamp(min=1), 0.0).to(weight.dtype)
        d_frames = weight * inverse * (gradient - (d_bias + x * d_weight) * through_statistics)
        d_frames = d_frames.masked_fill(outside, 0).to(frames.dtype)
        return d_frames, None, d_weight, d_bias, None, None, None, None, None


class _CompiledBatchNorm(torch.autograd.Function):
    """The same on a CPU, in one pass over the frames each way; mean and variance in float64."""

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        valid: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dtype: torch.dtype | None,
        padding: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        frames = frames.contiguous()
        size = frames.shape[1]
        mean, variance = (torch.empty(size, dtype=torch.float64) for _ in range(2))
        normed = torch.empty_like(frames, dtype=frames.dtype if dtype is None else dtype)
        given = (frames, valid, weight, bias, mean, variance, normed)
        run_in_parts(partial(norm_kernel.forward, eps, padding), [given], size)
        ctx.eps = eps
        ctx.save_for_backward(frames, valid, weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        return normed, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_normed: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        frames, valid, weight, mean, variance = ctx.saved_tensors
        d_frames, d_weight, d_bias = torch.empty_like(frames), torch.empty_like(weight), torch.empty_like(weight)
        given = (d_normed.contiguous(), frames, valid, weight, mean, variance, d_frames, d_weight, d_bias)
        run_in_parts(partial(norm_kernel.backward, ctx.eps), [given], len(weight))
        return d_frames, None, d_weight, d_bias, None, None, None
