"""Convolutional subsampling: shapes, lengths, and padding that no convolution sees."""

from __future__ import annotations

import pytest
import torch
from ragged import ragged_features, shaken
from torch import nn

from asr.config import validated
from asr.errors import ConfigError
from asr.lengths import valid_mask
from asr.model.subsampling import Subsampling, SubsamplingConfig


def make(factor: int, num_features: int = 10) -> Subsampling:
    return shaken(Subsampling(SubsamplingConfig.model_validate({"factor": factor, "channels": 3}), num_features, 6))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("num_features", [1, 7, 8, 13])
def test_output_has_the_promised_shape(factor: int, num_features: int) -> None:
    module = make(factor, num_features)
    for length in (1, 2, 7, 8, 9, 17):
        hidden, frames = module(*ragged_features([length], num_features))
        assert hidden.shape == (1, -(-length // factor), 6)
        assert frames.tolist() == [hidden.shape[1]]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_batch_equals_each_utterance_alone(factor: int) -> None:
    module, lengths = make(factor), [17, 1, 8, 9, 16]
    features, num_frames = ragged_features(lengths, 10, extra=5)
    together, frames = module(features, num_frames)
    for row, count, length, alone in zip(together, frames.tolist(), lengths, features, strict=True):
        expected, _ = module(alone[None, :length], torch.tensor([length]))
        torch.testing.assert_close(row[:count], expected[0], atol=1e-5, rtol=0)


def test_nothing_of_the_sound_is_behind_its_end() -> None:
    module = make(4)
    hidden, frames = module(*ragged_features([17, 1, 8], 10, extra=9))
    behind = hidden[~valid_mask(frames, hidden.shape[1])]
    assert len(behind) > 3
    torch.testing.assert_close(behind, module.projection.bias.expand_as(behind))


def test_each_convolution_halves() -> None:
    assert [len(make(factor).convolutions) for factor in (1, 2, 4, 8)] == [0, 1, 2, 3]


def test_factor_one_is_a_projection_alone() -> None:
    module = make(1)
    features, num_frames = ragged_features([5], 10)
    torch.testing.assert_close(module(features, num_frames)[0], module.projection(features))


def test_frame_sees_its_neighbours_and_no_others() -> None:
    """Two convolutions of width 3 and stride 2 look 3 frames back and 3 ahead of the frame in their middle."""
    module = make(4)
    features, num_frames = ragged_features([33], 10)
    features.requires_grad_()
    module(features, num_frames)[0][0, 4].sum().backward()
    touched = features.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert touched.min() >= 13
    assert touched.max() <= 19
    assert 16 in touched


def test_equals_plain_convolutions_on_a_full_batch() -> None:
    module = make(4)
    features, num_frames = ragged_features([16, 16], 10)
    expected = features[:, None]
    for convolution in module.convolutions:
        expected = torch.relu(
            nn.functional.conv2d(
                nn.functional.pad(expected, (1, 1, 1, 1)), convolution.weight, convolution.bias, stride=2
            )
        )
    expected = torch.stack([expected[:, channel] for channel in range(3)], dim=2).flatten(2)
    torch.testing.assert_close(module(features, num_frames)[0], module.projection(expected))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"factor": 3}, "factor: input should be 1, 2, 4 or 8, found 3"), ({"channels": 0}, "channels: .* found 0")],
)
def test_impossible_settings_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        validated(SubsamplingConfig, settings, where="test")
