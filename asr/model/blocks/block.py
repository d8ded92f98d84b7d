"""The stream of frames between the encoder's layers, and where in it a block stands."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from asr.config import Section
from asr.lengths import valid_mask


class BlockConfig(Section):
    """A block that follows some of the recurrent layers."""

    after: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="recurrent layers that it follows, counted from 1, below the last: one, or a list"
    )

    @field_validator("after", mode="before")
    @classmethod
    def _from_number(cls, after: object) -> object:
        return (after,) if isinstance(after, int) else after

    @field_validator("after")
    @classmethod
    def _check_repetition(cls, after: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(after)) < len(after):
            raise ValueError(f"each layer may stand once, found {list(after)}")
        return after


class Stream(NamedTuple):
    """Frames between two layers, time first: the layout in which recurrent kernels read.

    Attributes:
        hidden: the frames (S, B, D); whatever stands behind an utterance's end.
        num_frames: valid frames of each utterance (B,), on any device.
        mask: True on valid frames (S, B).
        reversal: for each frame the one that takes its place when utterances are read from their end (S, B).
        divergence: what bottlenecks so far let through of each utterance (B,), in nats.
    """

    hidden: Tensor
    num_frames: Tensor
    mask: Tensor
    reversal: Tensor
    divergence: Tensor


class Frames(NamedTuple):
    """What a layer gives: frames (B, S, D), zero behind the first `num_frames` (B,) of each utterance."""

    hidden: Tensor
    num_frames: Tensor


class Encoded(NamedTuple):
    """What the encoder gives after some of its layers, and what its bottlenecks let through (B,), in nats."""

    layers: list[Frames]
    divergence: Tensor


def make_stream(hidden: Tensor, num_frames: Tensor, divergence: Tensor) -> Stream:
    """The stream of frames `hidden` (S, B, D), of which `num_frames` (B,) are valid."""
    lengths = num_frames.to(hidden.device, non_blocking=True)
    mask = valid_mask(lengths, len(hidden)).T
    return Stream(hidden, num_frames, mask, reversed_frames(lengths, len(hidden)), divergence)


def reversed_frames(lengths: Tensor, max_length: int) -> Tensor:
    """Frame numbers (S, B): those of each utterance of `lengths` (B,) from last to first, then the padding's own.

    Example:
        >>> reversed_frames(torch.tensor([3, 2]), 3).T.tolist()
        [[2, 1, 0], [1, 0, 2]]
    """
    frames = torch.arange(max_length, device=lengths.device)[:, None]
    return torch.where(frames < lengths, lengths - 1 - frames, frames)
