"""Log-mel, MFCC, deltas and statistics against independent references, and the settings that make no sense."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from ragged import ragged_batch

from asr.config import validated
from asr.errors import ConfigError, TrainingError
from asr.features import FeatureExtractor, LogMelConfig, MfccConfig, StoredConfig
from asr.features.frames import with_deltas
from asr.features.spectral import SpectralFrontEnd
from asr.lengths import valid_mask

POWER_FLOOR = 1e-6


def speech(num_samples: int = 8000, seed: int = 3) -> np.ndarray:
    """Samples (N,) with a swelling harmonic tone over noise."""
    return ragged_batch([num_samples], seed=seed)[0][0].double().numpy()


def librosa_log_mel(waveform: np.ndarray, config: LogMelConfig | MfccConfig) -> np.ndarray:
    """Log-mel (T, F) as librosa computes it."""
    if config.preemphasis:
        waveform = librosa.effects.preemphasis(waveform, coef=config.preemphasis, zi=np.zeros(1))
    spectrum = librosa.stft(
        waveform,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.window_length,
        window="hann",
        center=True,
        pad_mode="constant",
    )
    high_hz = config.sample_rate / 2 if config.high_hz is None else config.high_hz
    bands = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.low_hz,
        fmax=high_hz,
        htk=True,
        norm=None,
    )
    return np.log(bands @ np.abs(spectrum) ** 2 + POWER_FLOOR).T


def extracted(waveform: np.ndarray, config: LogMelConfig | MfccConfig) -> np.ndarray:
    features, _ = FeatureExtractor(config).eval()(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    return features[0].numpy()


SETTINGS = [
    {},
    {"sample_rate": 8000, "n_mels": 40},
    {"preemphasis": 0.0},
    {"window_seconds": 0.032, "hop_seconds": 0.008, "n_mels": 23},
    {"low_hz": 0.0, "high_hz": 3800.0},
    {"sample_rate": 22050, "n_mels": 64},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_log_mel_agrees_with_librosa(settings: dict[str, float]) -> None:
    """As powers: single precision rounds by a part of the largest, and the logarithm of a weak band shows that enlarged."""
    config = LogMelConfig.model_validate({"normalization": "none", **settings})
    waveform = speech()
    expected = np.exp(librosa_log_mel(waveform, config))
    found = np.exp(extracted(waveform, config))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=5e-6 * expected.max())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_mfcc_agrees_with_librosa(settings: dict[str, float]) -> None:
    common, waveform = {"normalization": "none", **settings}, speech()
    log_mel = extracted(waveform, LogMelConfig.model_validate(common))
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=13, dct_type=2, norm="ortho").T
    found = extracted(waveform, MfccConfig.model_validate({"n_mfcc": 13, **common}))
    np.testing.assert_allclose(found, expected, atol=3e-4)


def test_all_coefficients_hold_all_of_log_mel() -> None:
    waveform = speech()
    cepstrum = extracted(waveform, MfccConfig(n_mels=20, n_mfcc=20, normalization="none"))
    log_mel = extracted(waveform, LogMelConfig(n_mels=20, normalization="none"))
    np.testing.assert_allclose(scipy.fft.idct(cepstrum, type=2, norm="ortho", axis=1), log_mel, atol=1e-4)


def test_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    config = LogMelConfig(n_mels=40, normalization="none", preemphasis=0.0, low_hz=0.0)
    edges_mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)
    centres_hz = 700 * (10 ** (edges_mel[1:-1] / 2595) - 1)
    for band in (5, 17, 33):
        waveform = 0.3 * np.sin(2 * np.pi * centres_hz[band] * np.arange(8000) / 16000)
        assert extracted(waveform, config)[10:40].mean(0).argmax() == band


def test_silence_is_the_logarithm_of_the_floor() -> None:
    found = extracted(np.zeros(1600), LogMelConfig(normalization="none"))
    np.testing.assert_allclose(found, np.log(POWER_FLOOR), rtol=1e-6)


def slow_deltas(features: np.ndarray) -> np.ndarray:
    """Equation 5.16 of the HTK Book, one frame at a time."""
    last = len(features) - 1
    result = np.zeros_like(features)
    for frame in range(len(features)):
        for n in (1, 2):
            result[frame] += n * (features[min(frame + n, last)] - features[max(frame - n, 0)]) / 10
    return result


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 30])
def test_deltas_agree_with_a_slow_reference_inside_padding(num_frames: int) -> None:
    valid = np.random.default_rng(1).normal(size=(num_frames, 3))
    padded = torch.full((2, 35, 3), 1e9, dtype=torch.float64)
    padded[0, :num_frames] = torch.from_numpy(valid)
    found = with_deltas(padded, torch.tensor([num_frames, 35]), order=2)[0, :num_frames].numpy()
    expected = np.concatenate([valid, slow_deltas(valid), slow_deltas(slow_deltas(valid))], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_deltas_agree_with_librosa() -> None:
    features = np.random.default_rng(2).normal(size=(40, 6))
    found = with_deltas(torch.from_numpy(features)[None], torch.tensor([40]), order=1)[0, :, 6:].numpy()
    np.testing.assert_allclose(found, librosa.feature.delta(features.T, width=5, mode="nearest").T, atol=1e-12)


def test_deltas_follow_the_static_features() -> None:
    waveform = speech()
    static = extracted(waveform, LogMelConfig(normalization="none"))
    found = extracted(waveform, LogMelConfig(normalization="none", deltas=1))
    np.testing.assert_allclose(found[:, :80], static)
    np.testing.assert_allclose(found[:, 80:], slow_deltas(static), atol=1e-5)


@pytest.mark.parametrize("config", [LogMelConfig(deltas=1), MfccConfig(deltas=2)])
def test_each_utterance_gets_zero_mean_and_unit_variance(config: LogMelConfig | MfccConfig) -> None:
    features, num_frames = FeatureExtractor(config).eval()(*ragged_batch([9000, 16000, 5000]))
    for utterance, frames in zip(features, num_frames.tolist(), strict=True):
        np.testing.assert_allclose(utterance[:frames].mean(0).numpy(), 0, atol=1e-4)
        np.testing.assert_allclose(utterance[:frames].std(0, correction=0).numpy(), 1, atol=1e-2)


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [2, 4], [3, 1, 2]], ids=str)
def test_global_statistics_equal_numpy_over_all_frames(sizes: list[int]) -> None:
    config = LogMelConfig(n_mels=12, deltas=1, normalization="global")
    lengths = [3000, 800, 1, 2500, 4000, 1111]
    waveforms, num_samples = ragged_batch(lengths)
    plain = FeatureExtractor(config.model_copy(update={"normalization": "none"})).eval()
    frames = np.concatenate(
        [
            plain(row[None, :length], torch.tensor([length]))[0][0].numpy()
            for row, length in zip(waveforms, lengths, strict=True)
        ]
    ).astype(np.float64)

    extractor = FeatureExtractor(config).eval()
    batches = zip(waveforms.split(sizes), num_samples.split(sizes), strict=True)
    extractor.fit_normalization(batches)
    np.testing.assert_allclose(extractor.mean.numpy(), frames.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(extractor.scale.numpy(), 1 / frames.std(0), rtol=1e-4)

    features, num_frames = extractor(waveforms, num_samples)
    valid = features[valid_mask(num_frames, features.shape[1])].numpy()
    np.testing.assert_allclose(valid, (frames - frames.mean(0)) / frames.std(0), atol=1e-3)


def test_global_statistics_of_silence_are_finite() -> None:
    extractor = FeatureExtractor(LogMelConfig(normalization="global")).eval()
    extractor.fit_normalization([(torch.zeros(1, 1600), torch.tensor([1600]))])
    features, _ = extractor(*ragged_batch([1600]))
    assert torch.isfinite(features).all()


def test_global_statistics_of_features_far_from_zero_are_exact() -> None:
    frames = 3000 + torch.randn(1, 5000, 4, generator=torch.Generator().manual_seed(0))
    extractor = FeatureExtractor(StoredConfig(num_features=4, normalization="global")).eval()
    extractor.fit_normalization([(frames, torch.tensor([5000]))])
    torch.testing.assert_close(extractor.scale, frames[0].double().std(0, correction=0).reciprocal().float())


def test_global_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(TrainingError, match="no training speech"):
        FeatureExtractor(LogMelConfig(normalization="global")).fit_normalization([])


def test_preemphasis_starts_from_silence() -> None:
    """y[0] = x[0], y[n] = x[n] - p x[n-1], and nothing of the last sample runs into the padding."""
    waveform = torch.from_numpy(speech(400))[None]
    filtered = waveform.clone()
    filtered[:, 1:] -= 0.9 * waveform[:, :-1]
    emphasised = LogMelConfig(preemphasis=0.9)
    plain = emphasised.model_copy(update={"preemphasis": 0.0})
    found, expected = (
        SpectralFrontEnd(config).double()(signal, torch.tensor([400]))
        for config, signal in ((emphasised, waveform), (plain, filtered))
    )
    torch.testing.assert_close(found, expected)


def test_features_stay_in_float32_under_mixed_precision() -> None:
    extractor, batch = FeatureExtractor(LogMelConfig()).eval(), ragged_batch([3000, 2000])
    expected, _ = extractor(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = extractor(*batch)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [LogMelConfig, MfccConfig])
@pytest.mark.parametrize("db_below", [20, 35])
def test_normalised_by_its_speech_an_utterance_has_the_statistics_of_what_is_loud_and_half_a_second_around(
    kind: type[LogMelConfig], db_below: float
) -> None:
    """Noise 20 dB below is as loud as soft speech: then all counts, as in normalising by the utterance."""
    generator = np.random.default_rng(0)
    waveform = 10 ** (-1 - db_below / 20) * generator.standard_normal(64_000)
    waveform[30_000:32_000] += 0.1 * generator.standard_normal(2000)
    waveform[40_000:42_000] += 0.1 * generator.standard_normal(2000)
    plain = extracted(waveform, kind(normalization="none", preemphasis=0.0, deltas=1))
    found = extracted(waveform, kind(normalization="speech", preemphasis=0.0, deltas=1))
    # The speech lasts from 1.875 s to 2.625 s, and half of its windows reach into the frames beside.
    inside = plain[187 - 50 : 263 + 50 + 1] if db_below > 26 else plain
    expected = (plain - inside.mean(0)) / np.sqrt(inside.var(0) + 1e-5)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("kind", [LogMelConfig, MfccConfig])
def test_quiet_speech_is_found_beside_louder_speech_that_lasts_longer(kind: type[LogMelConfig]) -> None:
    extractor = FeatureExtractor(kind(normalization="speech")).eval()
    waveforms, num_samples = ragged_batch([16_000, 40_000])
    waveforms[0] *= 1e-3
    alone, _ = extractor(waveforms[:1, :16_000], num_samples[:1])
    together, _ = extractor(waveforms, num_samples)
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-3, rtol=0)


def test_dither_is_white_noise_of_its_standard_deviation() -> None:
    extractor = FeatureExtractor(LogMelConfig(n_mels=8, normalization="none", preemphasis=0.0, dither=0.01)).train()
    torch.manual_seed(0)
    features, _ = extractor(torch.zeros(1, 80_000), torch.tensor([80_000]))
    front_end = extractor.front_end
    expected = 0.01**2 * front_end.window.square().sum() * front_end.bands.sum(0)
    torch.testing.assert_close(features[0].exp().mean(0), expected, rtol=0.2, atol=0)


@pytest.mark.parametrize(
    ("kind", "settings", "complaint"),
    [
        (LogMelConfig, {"low_hz": 9000}, "from 9000 to 8000 Hz do not fit below half the sample rate, 8000 Hz"),
        (LogMelConfig, {"sample_rate": 8000, "high_hz": 8000}, "from 20 to 8000 Hz do not fit below half .*, 4000 Hz"),
        (LogMelConfig, {"low_hz": 500, "high_hz": 500}, "from 500 to 500 Hz"),
        (LogMelConfig, {"window_seconds": 0.005}, "window must be at least as long as the hop"),
        (LogMelConfig, {"hop_seconds": 1e-5, "window_seconds": 1e-4}, "hop at least one sample"),
        (LogMelConfig, {"deltas": 3}, "deltas: input should be less than or equal to 2, found 3"),
        (LogMelConfig, {"n_mels": 2}, "n_mels: .* found 2"),
        (LogMelConfig, {"normalization": "batch"}, "normalization: .* found 'batch'"),
        (StoredConfig, {"normalization": "speech"}, "normalization=speech needs sound"),
        (MfccConfig, {"n_mfcc": 81}, "n_mfcc=81 needs at least as many mel bands, found n_mels=80"),
        (LogMelConfig, {"n_mfcc": 13}, "n_mfcc: unknown key; known: deltas, .*, n_mels,"),
    ],
)
def test_impossible_settings_are_refused(kind: type[LogMelConfig], settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        validated(kind, settings, where="test")


@pytest.mark.parametrize(
    ("rate", "seconds", "samples", "n_fft"),
    [(8000, 0.025, 200, 256), (16000, 0.032, 512, 512), (44100, 0.025, 1102, 2048), (11025, 0.025, 276, 512)],
)
def test_transform_is_the_first_power_of_two_that_holds_the_window(
    rate: int, seconds: float, samples: int, n_fft: int
) -> None:
    config = LogMelConfig(sample_rate=rate, window_seconds=seconds, hop_seconds=seconds)
    assert config.window_length == config.hop_length == samples
    assert config.n_fft == n_fft
