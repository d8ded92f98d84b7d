"""Arithmetic of lengths: samples to frames to encoder frames, always in integers.

Lengths kept as fractions of the longest utterance lose a frame now and then in float32; CTC then reads padding or drops
the last sound. Every formula here takes Python integers or int64 tensors and is checked against the real layers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

IntOrTensor = TypeVar("IntOrTensor", int, "torch.Tensor")


def frames_of_samples(num_samples: IntOrTensor, hop_length: int) -> IntOrTensor:
    """Number of feature frames that `num_samples` samples give in a centred short-time Fourier transform.

    Source: `torch.stft(center=True)`, one frame at every multiple of `hop_length` from sample 0 on.

    Example:
        >>> frames_of_samples(16000, hop_length=160)
        101
    """
    return 1 + num_samples // hop_length


def frames_after_subsampling(num_frames: IntOrTensor, factor: int) -> IntOrTensor:
    """Number of encoder frames that `num_frames` feature frames leave behind.

    Each stride-2 convolution (kernel 3, padding 1) turns n frames into ceil(n / 2), so strides that multiply to
    `factor` give ceil(n / factor). CTC must be given this number: one too many reads padding, one too few drops the
    last sound.

    Raises:
        ValueError: `factor` is not a power of two.

    Example:
        >>> frames_after_subsampling(101, factor=4)
        26
    """
    if factor < 1 or factor & (factor - 1):
        raise ValueError(f"factor must be a power of two, got {factor}")
    return (num_frames + factor - 1) // factor


def frames_needed_by_ctc(tokens: list[int] | tuple[int, ...]) -> int:
    """Fewest encoder frames in which CTC can say `tokens`: one each, and a blank between equal neighbours.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.

    Example:
        >>> frames_needed_by_ctc([3, 5, 5, 2])
        5
    """
    return len(tokens) + sum(1 for left, right in pairwise(tokens) if left == right)


def valid_mask(lengths: torch.Tensor, max_length: int, device: torch.device | None = None) -> torch.Tensor:
    """A boolean mask (B, max_length), True where position < length, on `device`; None: on that of `lengths` (B,).

    Example:
        >>> import torch
        >>> valid_mask(torch.tensor([1, 3]), 3).int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    import torch

    if device is not None:
        # Lengths stay on the CPU. A plain copy to a GPU would wait until that has done all it was given before.
        lengths = lengths.to(device, non_blocking=True)
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]
