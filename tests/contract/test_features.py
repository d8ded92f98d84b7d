"""What every kind of feature must do, with every number of deltas and every normalisation."""

from __future__ import annotations

import pytest
import torch
from ragged import assert_batch_equals_alone, feature_config, ragged_signals, small_model

from asr.config import sections_in
from asr.features import FeatureConfig, FeatureExtractor, LogMelConfig, MfccConfig, StoredConfig
from asr.lengths import valid_mask

KINDS = list(sections_in(FeatureConfig))
LENGTHS = (2401, 1, 800, 1599, 79)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.model_fields["kind"].default)
def kind(request: pytest.FixtureRequest) -> type[LogMelConfig]:
    return request.param


@pytest.fixture(params=["utterance", "speech", "global", "none"])
def normalization(request: pytest.FixtureRequest, kind: type[LogMelConfig]) -> str:
    if request.param == "speech" and issubclass(kind, StoredConfig):
        pytest.skip("of stored frames nobody knows how loud they are")
    return request.param


@pytest.fixture(params=[0, 1, 2])
def deltas(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def config(kind: type[LogMelConfig], normalization: str, deltas: int) -> LogMelConfig:
    return feature_config(kind, normalization=normalization, deltas=deltas)


def frames_of(config: LogMelConfig, num_samples: int) -> int:
    """Frames that `num_samples` samples, or stored frames, give."""
    return num_samples if isinstance(config, StoredConfig) else 1 + num_samples // config.hop_length


def make_extractor(config: LogMelConfig) -> FeatureExtractor:
    """The extractor in evaluation mode, its global statistics taken from other speech."""
    extractor = FeatureExtractor(config).eval()
    extractor.fit_normalization([ragged_signals(config, [4000, 3000], seed=7)])
    return extractor


def test_batch_equals_each_utterance_alone(config: LogMelConfig) -> None:
    extractor = make_extractor(config)
    waveforms, num_samples = ragged_signals(config, LENGTHS, extra=500)
    # Whatever stands behind the end must not matter, not even what spoils every sum that it enters.
    filled = waveforms.clone()
    filled[~valid_mask(num_samples, waveforms.shape[1])] = torch.nan
    together, num_frames = extractor(filled, num_samples)
    for index, length in enumerate(LENGTHS):
        alone, frames = extractor(waveforms[index : index + 1, :length], num_samples[index : index + 1])
        assert frames.item() == num_frames[index] == alone.shape[1]
        torch.testing.assert_close(together[index, : frames.item()], alone[0], atol=1e-4, rtol=0)


def test_log_probabilities_do_not_depend_on_the_batch(config: LogMelConfig) -> None:
    model = small_model(features=config)
    model.features.fit_normalization([ragged_signals(config, [4000, 3000], seed=7)])
    assert_batch_equals_alone(model, *ragged_signals(config, LENGTHS, extra=333))


def test_shape_follows_the_formulas_and_padding_is_zero(config: LogMelConfig) -> None:
    extractor = make_extractor(config)
    waveforms, num_samples = ragged_signals(config, LENGTHS, extra=500)
    features, num_frames = extractor(waveforms, num_samples)
    assert features.shape == (5, frames_of(config, waveforms.shape[1]), extractor.num_features)
    assert extractor.num_features == config.num_static * (1 + config.deltas)
    assert num_frames.tolist() == [frames_of(config, length) for length in LENGTHS]
    inside = valid_mask(num_frames, features.shape[1])
    assert features[~inside].abs().max() == 0
    assert features[inside].abs().sum() > 0


@pytest.mark.parametrize("num_samples", [1, 2, 79, 80, 4000])
@pytest.mark.parametrize("level", ["silence", "one click", "constant", "full scale", "far too loud"])
def test_odd_sound_gives_finite_features(
    kind: type[LogMelConfig], normalization: str, num_samples: int, level: str
) -> None:
    config = feature_config(kind, normalization=normalization, deltas=2)
    signal = torch.zeros_like(ragged_signals(config, [num_samples])[0])
    if level == "one click":
        signal[:, -1:] = 1.0
    elif level == "constant":
        signal[:] = 0.5
    elif level == "full scale":
        signal[:] = 1.0
        signal[:, ::2] = -1.0
    elif level == "far too loud":
        signal[:] = 1e6 * torch.randn(signal.shape, generator=torch.Generator().manual_seed(0))
    features, num_frames = make_extractor(config)(signal, torch.tensor([num_samples]))
    assert features.shape[1] == num_frames.item() == frames_of(config, num_samples)
    assert torch.isfinite(features).all()
    # A logarithm bounds what is computed here; what was stored is as large as it was stored.
    if not isinstance(config, StoredConfig):
        assert features.abs().max() < 1e3


@pytest.mark.parametrize("kind", [LogMelConfig, MfccConfig])
def test_dither_is_noise_of_training_alone(kind: type[LogMelConfig]) -> None:
    config = feature_config(kind, dither=0.01)
    batch = ragged_signals(config, LENGTHS)
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
    batch = ragged_signals(config, LENGTHS)
    assert torch.equal(restored(*batch)[0], extractor(*batch)[0])
