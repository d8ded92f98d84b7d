"""What every kind of feature must do, with every number of deltas and every normalisation."""

from __future__ import annotations

import pytest
import torch
from ragged import SAMPLE_RATE, assert_batch_equals_alone, ragged_batch, small_model

from asr.config import sections_in
from asr.features import FeatureConfig, FeatureExtractor, LogMelConfig
from asr.lengths import frames_of_samples, valid_mask

KINDS = list(sections_in(FeatureConfig))
LENGTHS = (2401, 1, 800, 1599, 79)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.model_fields["kind"].default)
def kind(request: pytest.FixtureRequest) -> type[LogMelConfig]:
    return request.param


@pytest.fixture(params=["utterance", "global", "none"])
def normalization(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[0, 1, 2])
def deltas(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def config(kind: type[LogMelConfig], normalization: str, deltas: int) -> LogMelConfig:
    values = {"sample_rate": SAMPLE_RATE, "n_mels": 20, "normalization": normalization, "deltas": deltas}
    return kind.model_validate(values)


def make_extractor(config: LogMelConfig) -> FeatureExtractor:
    """The extractor in evaluation mode, its global statistics taken from other speech."""
    extractor = FeatureExtractor(config).eval()
    extractor.fit_normalization([ragged_batch([4000, 3000], seed=7)])
    return extractor


def test_batch_equals_each_utterance_alone(config: LogMelConfig) -> None:
    extractor = make_extractor(config)
    waveforms, num_samples = ragged_batch(LENGTHS, extra=500)
    # Whatever stands behind the end must not matter, not even what spoils every sum that it enters.
    filled = torch.where(valid_mask(num_samples, waveforms.shape[1]), waveforms, torch.nan)
    together, num_frames = extractor(filled, num_samples)
    for index, length in enumerate(LENGTHS):
        alone, frames = extractor(waveforms[index : index + 1, :length], num_samples[index : index + 1])
        assert frames.item() == num_frames[index] == alone.shape[1]
        torch.testing.assert_close(together[index, : frames.item()], alone[0], atol=1e-4, rtol=0)


def test_log_probabilities_do_not_depend_on_the_batch(config: LogMelConfig) -> None:
    model = small_model(features=config)
    model.features.fit_normalization([ragged_batch([4000, 3000], seed=7)])
    assert_batch_equals_alone(model, *ragged_batch(LENGTHS, extra=333))


def test_shape_follows_the_formulas_and_padding_is_zero(config: LogMelConfig) -> None:
    extractor = make_extractor(config)
    waveforms, num_samples = ragged_batch(LENGTHS, extra=500)
    features, num_frames = extractor(waveforms, num_samples)
    assert features.shape == (5, frames_of_samples(waveforms.shape[1], config.hop_length), extractor.num_features)
    assert extractor.num_features == config.num_static * (1 + config.deltas)
    assert num_frames.tolist() == [1 + length // config.hop_length for length in LENGTHS]
    inside = valid_mask(num_frames, features.shape[1])
    assert features[~inside].abs().max() == 0
    assert features[inside].abs().sum() > 0


@pytest.mark.parametrize("num_samples", [1, 2, 79, 80, 4000])
@pytest.mark.parametrize("level", ["silence", "one click", "constant", "full scale", "far too loud"])
def test_odd_sound_gives_finite_features(
    kind: type[LogMelConfig], normalization: str, num_samples: int, level: str
) -> None:
    config = kind.model_validate(
        {"sample_rate": SAMPLE_RATE, "n_mels": 20, "normalization": normalization, "deltas": 2}
    )
    waveform = torch.zeros(1, num_samples)
    if level == "one click":
        waveform[:, -1:] = 1.0
    elif level == "constant":
        waveform[:] = 0.5
    elif level == "full scale":
        waveform[:] = 1.0
        waveform[:, ::2] = -1.0
    elif level == "far too loud":
        waveform[:] = 1e6 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(0))
    features, num_frames = make_extractor(config)(waveform, torch.tensor([num_samples]))
    assert features.shape[1] == num_frames.item() == 1 + num_samples // 80
    assert torch.isfinite(features).all()
    assert features.abs().max() < 1e3


def test_order_of_a_batch_does_not_matter(config: LogMelConfig) -> None:
    extractor = make_extractor(config)
    waveforms, num_samples = ragged_batch(LENGTHS)
    order = torch.tensor([4, 2, 0, 1, 3])
    features, _ = extractor(waveforms, num_samples)
    permuted, _ = extractor(waveforms[order], num_samples[order])
    torch.testing.assert_close(permuted, features[order], atol=1e-5, rtol=0)


def test_dither_is_noise_of_training_alone(kind: type[LogMelConfig]) -> None:
    config = kind.model_validate({"sample_rate": SAMPLE_RATE, "n_mels": 20, "dither": 0.01})
    batch = ragged_batch(LENGTHS)
    extractor, plain = FeatureExtractor(config), FeatureExtractor(config.model_copy(update={"dither": 0.0})).eval()
    torch.manual_seed(1)
    one, other = extractor(*batch)[0], extractor(*batch)[0]
    assert (one - other).abs().max() > 1e-3
    torch.manual_seed(1)
    assert torch.equal(extractor(*batch)[0], one)
    assert torch.equal(extractor.eval()(*batch)[0], plain(*batch)[0])


def test_only_the_statistics_are_saved(config: LogMelConfig) -> None:
    extractor = make_extractor(config)
    assert set(extractor.state_dict()) == {"mean", "scale"}
    restored = FeatureExtractor(config).eval()
    restored.load_state_dict(extractor.state_dict())
    batch = ragged_batch(LENGTHS)
    assert torch.equal(restored(*batch)[0], extractor(*batch)[0])
