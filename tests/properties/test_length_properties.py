"""Formulas of lengths equal what the layers do, for any length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from asr.features import FeatureExtractor, LogMelConfig
from asr.lengths import frames_after_subsampling, frames_needed_by_ctc, frames_of_samples, valid_mask
from asr.model import Subsampling, SubsamplingConfig

unhurried = settings(max_examples=60)
FACTORS = st.sampled_from([1, 2, 4, 8])


@unhurried
@given(st.integers(0, 3000), st.integers(1, 400), st.integers(1, 9))
def test_frames_of_samples_equal_those_of_torch(num_samples: int, hop: int, log_n_fft: int) -> None:
    n_fft = 2**log_n_fft
    waveform = torch.zeros(1, num_samples)
    spectrum = torch.stft(
        waveform, n_fft, hop, window=torch.ones(n_fft), center=True, pad_mode="constant", return_complex=True
    )
    assert spectrum.shape[-1] == frames_of_samples(num_samples, hop)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@unhurried
@given(st.integers(1, 4000), st.integers(1, 200), st.integers(1, 200))
def test_frames_of_samples_equal_those_of_the_features(num_samples: int, hop: int, more: int) -> None:
    config = LogMelConfig(sample_rate=8000, n_mels=4, hop_seconds=hop / 8000, window_seconds=(hop + more) / 8000)
    features, num_frames = FeatureExtractor(config).eval()(torch.zeros(1, num_samples), torch.tensor([num_samples]))
    assert config.hop_length == hop
    assert features.shape[1] == num_frames.item() == frames_of_samples(num_samples, hop)


@unhurried
@given(st.integers(1, 200), FACTORS, st.integers(1, 12))
def test_frames_after_subsampling_equal_those_of_the_convolutions(
    num_frames: int, factor: int, num_features: int
) -> None:
    module = Subsampling(SubsamplingConfig(factor=factor, channels=1), num_features, 2)
    hidden, frames = module(torch.zeros(1, num_frames, num_features), torch.tensor([num_frames]))
    assert hidden.shape[1] == frames.item() == frames_after_subsampling(num_frames, factor)


@given(st.integers(0, 2**40), st.integers(0, 6))
def test_halving_again_and_again_equals_one_division(num_frames: int, halvings: int) -> None:
    left = num_frames
    for _ in range(halvings):
        left = frames_after_subsampling(left, 2)
    assert left == frames_after_subsampling(num_frames, 2**halvings)


@unhurried
@given(st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_ctc_is_possible_from_the_needed_frames_on(tokens: list[int]) -> None:
    needed = frames_needed_by_ctc(tokens)
    log_probs = torch.zeros(needed, 1, 4).log_softmax(-1)

    def loss(num_frames: int) -> torch.Tensor:
        targets, length = torch.tensor([tokens]), torch.tensor([len(tokens)])
        return nn.functional.ctc_loss(log_probs, targets, torch.tensor([num_frames]), length, reduction="sum")

    assert torch.isfinite(loss(needed))
    assert torch.isinf(loss(needed - 1))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(1, 20))
def test_mask_counts_the_valid_positions(lengths: list[int], size: int) -> None:
    mask = valid_mask(torch.tensor(lengths), size)
    assert mask.sum(1).tolist() == [min(length, size) for length in lengths]
    assert not (mask[:, 1:] & ~mask[:, :-1]).any(), "valid positions come first"
