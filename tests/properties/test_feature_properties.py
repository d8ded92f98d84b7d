"""Features of any speech, in any batch."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import ragged_batch

from asr.features import AugmentConfig, Augmenter, FeatureExtractor, LogMelConfig, MfccConfig
from asr.features.frames import with_deltas
from asr.lengths import valid_mask

unhurried = settings(max_examples=40)
SEEDS = st.integers(0, 2**32)
LENGTHS = st.lists(st.integers(1, 1500), min_size=1, max_size=4)
CONFIGS = st.builds(
    lambda kind, **values: kind.model_validate(values),
    st.sampled_from([LogMelConfig, MfccConfig]),
    sample_rate=st.just(8000),
    n_mels=st.just(20),
    preemphasis=st.sampled_from([0.0, 0.97]),
    deltas=st.integers(0, 2),
    normalization=st.sampled_from(["utterance", "speech", "global", "none"]),
    hop_seconds=st.sampled_from([0.005, 0.01, 0.0125]),
)
LOUD = LogMelConfig(sample_rate=8000, n_mels=10, preemphasis=0.0, normalization="none")


@unhurried
@given(CONFIGS, LENGTHS, st.integers(0, 700), SEEDS)
def test_batch_equals_each_utterance_alone(config: LogMelConfig, lengths: list[int], extra: int, seed: int) -> None:
    extractor = FeatureExtractor(config).eval()
    waveforms, num_samples = ragged_batch(lengths, seed=seed, extra=extra)
    together, num_frames = extractor(waveforms, num_samples)
    for index, length in enumerate(lengths):
        alone, _ = extractor(waveforms[index : index + 1, :length], num_samples[index : index + 1])
        # Normalising raises what is rounded, some 1e-5, where few frames hardly differ, by up to the root of 1 / its floor.
        tolerance = 1e-4 if num_frames[index] >= 5 else 3e-3
        torch.testing.assert_close(together[index, : num_frames[index]], alone[0], atol=tolerance, rtol=0)
        assert together[index, num_frames[index] :].abs().sum() == 0


@unhurried
@given(CONFIGS, st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=300))
def test_any_finite_sound_gives_finite_features(config: LogMelConfig, samples: list[float]) -> None:
    features, _ = FeatureExtractor(config).eval()(torch.tensor([samples]), torch.tensor([len(samples)]))
    assert torch.isfinite(features).all()


@unhurried
@given(CONFIGS, st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 1e-4), SEEDS)
def test_speech_is_normalised_alike_with_any_silence_around_it(
    config: LogMelConfig, before: int, behind: int, level: float, seed: int
) -> None:
    extractor = FeatureExtractor(config.model_copy(update={"normalization": "speech"})).eval()
    before, behind = (each // config.hop_length * config.hop_length for each in (before, behind))
    generator = torch.Generator().manual_seed(seed)
    hum = level * torch.randn(1, before + 12_000 + behind, generator=generator)
    hum[:, before + 4800 : before + 6400] += 0.1 * torch.randn(1, 1600, generator=generator)
    around, num_around = extractor(hum, torch.tensor([hum.shape[1]]))
    within, num_within = extractor(hum[:, before : before + 12_000], torch.tensor([12_000]))
    skipped = before // config.hop_length
    edge = 10  # frames that a window or a derivative reaches beyond the cut
    inside = slice(edge, int(num_within) - edge)
    assert int(num_around) == int(num_within) + (before + behind) // config.hop_length
    torch.testing.assert_close(around[:, skipped:][:, inside], within[:, inside], atol=1e-3, rtol=1e-3)


@unhurried
@given(st.integers(1, 20), SEEDS)
def test_sound_that_starts_later_gives_the_same_frames_later(num_frames: int, seed: int) -> None:
    extractor = FeatureExtractor(LOUD).eval()
    waveforms, num_samples = ragged_batch([1600], seed=seed)
    delay = num_frames * LOUD.hop_length
    early, _ = extractor(waveforms, num_samples)
    late, _ = extractor(torch.nn.functional.pad(waveforms, (delay, 0)), num_samples + delay)
    torch.testing.assert_close(late[:, num_frames + 2 :], early[:, 2:], atol=1e-4, rtol=0)


@unhurried
@given(st.floats(1.0, 20.0), SEEDS)
def test_louder_sound_is_higher_by_the_same_step_everywhere(factor: float, seed: int) -> None:
    """The logarithm of the power rises by 2 log(factor), but for the floor under silence."""
    extractor = FeatureExtractor(LOUD).eval()
    waveforms, num_samples = ragged_batch([1600], seed=seed)
    plain, _ = extractor(waveforms, num_samples)
    louder, _ = extractor(waveforms * factor, num_samples)
    torch.testing.assert_close(louder - plain, torch.full_like(plain, 2 * np.log(factor)), atol=2e-2, rtol=0)


@unhurried
@given(LENGTHS, st.randoms(), SEEDS)
def test_global_statistics_do_not_depend_on_batches(lengths: list[int], random: Random, seed: int) -> None:
    config = LOUD.model_copy(update={"normalization": "global"})
    waveforms, num_samples = ragged_batch(lengths, seed=seed, extra=100)
    whole, parts = (FeatureExtractor(config).eval() for _ in range(2))
    whole.fit_normalization([(waveforms, num_samples)])
    order = random.sample(range(len(lengths)), len(lengths))
    parts.fit_normalization((waveforms[[row], : lengths[row]], num_samples[[row]]) for row in order)
    torch.testing.assert_close(parts.mean, whole.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.scale, whole.scale, atol=1e-4, rtol=1e-4)


@unhurried
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 2), st.floats(-3, 3), st.floats(-3, 3))
def test_deltas_of_a_line_are_its_slope(lengths: list[int], order: int, slope: float, offset: float) -> None:
    steps = torch.arange(max(lengths), dtype=torch.float64)
    line = (offset + slope * steps)[None, :, None].repeat(len(lengths), 1, 1)
    found = with_deltas(line, torch.tensor(lengths), order)
    assert found.shape == (len(lengths), max(lengths), 1 + order)
    for row, length in zip(found, lengths, strict=True):
        inner = row[:length, 1][2:-2]
        torch.testing.assert_close(inner, torch.full_like(inner, slope))


AUGMENTS = st.builds(
    lambda **sections: AugmentConfig.model_validate(sections),
    speed=st.none() | st.just({}) | st.just({"factors": [0.5, 2.0, 1.03]}),
    gain=st.none() | st.just({}),
    noise=st.none() | st.just({"probability": 1.0, "low_db": -10, "high_db": 40}),
    spec_augment=st.none() | st.just({}) | st.just({"time_share": 1.0, "frequency_width": 10}),
)


@unhurried
@given(AUGMENTS, LENGTHS, SEEDS)
def test_augmented_speech_is_finite_and_its_padding_zero(config: AugmentConfig, lengths: list[int], seed: int) -> None:
    augmenter, extractor = Augmenter(config, seed), FeatureExtractor(LogMelConfig(sample_rate=8000, n_mels=20)).eval()
    waveforms, num_samples = augmenter.waveforms(*ragged_batch(lengths, seed=seed))
    assert torch.isfinite(waveforms).all()
    assert waveforms[~valid_mask(num_samples, waveforms.shape[1])].abs().sum() == 0
    features, num_frames = extractor(waveforms, num_samples)
    masked = augmenter.features(features, num_frames, 20)
    assert torch.isfinite(masked).all()
    assert ((masked == features) | (masked == 0)).all()
