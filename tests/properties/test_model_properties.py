"""What an utterance gets from the model depends on the utterance alone."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import assert_batch_equals_alone, encoder_config, ragged_batch, small_model

from asr.model import CELLS, AcousticModel

unhurried = settings(max_examples=40)
SEEDS = st.integers(0, 2**32)
LENGTHS = st.lists(st.integers(1, 2500), min_size=1, max_size=5)


@cache
def model_with(cell: str, norm: str, bidirectional: bool, factor: int) -> AcousticModel:
    return small_model(encoder_config(cell=cell, norm=norm, bidirectional=bidirectional, factor=factor))


MODELS = st.builds(
    model_with,
    st.sampled_from(sorted(CELLS)),
    st.sampled_from(["layer", "batch", "none"]),
    st.booleans(),
    st.sampled_from([1, 2, 4, 8]),
)


@unhurried
@given(MODELS, LENGTHS, st.integers(0, 1500), SEEDS)
def test_batch_equals_each_utterance_alone(model: AcousticModel, lengths: list[int], extra: int, seed: int) -> None:
    assert_batch_equals_alone(model, *ragged_batch(lengths, seed=seed, extra=extra))


@unhurried
@given(MODELS, LENGTHS, SEEDS)
def test_every_frame_is_a_distribution(model: AcousticModel, lengths: list[int], seed: int) -> None:
    with torch.no_grad():
        log_probs, _ = model(*ragged_batch(lengths, seed=seed))
    assert (log_probs <= 0).all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]), atol=1e-5, rtol=0)


@unhurried
@given(MODELS, st.integers(1, 2500), st.sampled_from([0.0, 1.0, 1e-30, 1e4]))
def test_odd_sound_gives_finite_log_probabilities(model: AcousticModel, num_samples: int, level: float) -> None:
    with torch.no_grad():
        log_probs, _ = model(torch.full((1, num_samples), level), torch.tensor([num_samples]))
    assert torch.isfinite(log_probs).all()
