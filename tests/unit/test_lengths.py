"""Arithmetic of lengths: tables, and agreement of integers with tensors."""

from __future__ import annotations

import pytest
import torch

from asr.lengths import frames_after_subsampling, frames_needed_by_ctc, frames_of_samples, valid_mask


@pytest.mark.parametrize(("num_samples", "frames"), [(0, 1), (1, 1), (159, 1), (160, 2), (161, 2), (16000, 101)])
def test_a_frame_stands_at_every_multiple_of_the_hop(num_samples: int, frames: int) -> None:
    assert frames_of_samples(num_samples, 160) == frames


@pytest.mark.parametrize(
    ("num_frames", "factor", "left"),
    [(101, 1, 101), (101, 2, 51), (101, 4, 26), (101, 8, 13), (1, 8, 1), (8, 8, 1), (9, 8, 2)],
)
def test_subsampling_rounds_up(num_frames: int, factor: int, left: int) -> None:
    assert frames_after_subsampling(num_frames, factor) == left


@pytest.mark.parametrize("factor", [0, -2, 3, 6, 12])
def test_factor_must_be_a_power_of_two(factor: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, got {factor}"):
        frames_after_subsampling(10, factor)


def test_tensors_and_integers_agree_and_stay_int64() -> None:
    lengths = torch.tensor([0, 1, 79, 80, 81, 2**40 + 3])
    frames = frames_of_samples(lengths, 80)
    left = frames_after_subsampling(frames, 4)
    assert frames.dtype == left.dtype == torch.int64
    assert frames.tolist() == [frames_of_samples(length, 80) for length in lengths.tolist()]
    assert left.tolist() == [frames_after_subsampling(length, 4) for length in frames.tolist()]


@pytest.mark.parametrize(("tokens", "frames"), [([], 0), ([3], 1), ([3, 3], 3), ([3, 5, 3], 3), ([3, 3, 3, 5, 5], 8)])
def test_ctc_needs_a_blank_between_equal_neighbours(tokens: list[int], frames: int) -> None:
    assert frames_needed_by_ctc(tokens) == frames
    assert frames_needed_by_ctc(tuple(tokens)) == frames


def test_mask_covers_what_is_valid() -> None:
    mask = valid_mask(torch.tensor([0, 2, 4, 9]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
