"""What augmentation draws, what it does to sound and features, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ragged import ragged_batch
from torch import Tensor

from asr.config import validated
from asr.errors import ConfigError
from asr.features import AugmentConfig, Augmenter
from asr.lengths import valid_mask

LENGTHS = [4000, 1, 2999, 80, 1601]
ALL = {
    "speed": {"factors": [0.9, 1.1, 1.5]},
    "silence": {"probability": 1.0, "high_seconds": 0.1},
    "gain": {"low_db": -20, "high_db": 10},
    "reverberation": {"probability": 1.0},
    "noise": {"probability": 1.0},
    "spec_augment": {"frequency_width": 4, "time_width": 6, "time_share": 0.5},
}
KINDS = sorted(ALL)


def only(**sections: object) -> AugmentConfig:
    """A configuration in which only `sections` are on."""
    return AugmentConfig.model_validate({"spec_augment": None, **sections})


def augmented(
    config: AugmentConfig, seed: int, waveforms: Tensor, num_samples: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Waveforms, lengths, and masked features that are 1 wherever no mask is."""
    augmenter = Augmenter(config, seed)
    waveforms, num_samples = augmenter.waveforms(waveforms, num_samples)
    return (
        waveforms,
        num_samples,
        augmenter.features(torch.ones(len(waveforms), 40, 10), torch.tensor([40, 1, 30, 2, 20]), 10),
    )


def test_it_is_a_function_of_configuration_and_seed() -> None:
    config, batch = AugmentConfig.model_validate(ALL), ragged_batch(LENGTHS)
    torch.manual_seed(1)
    first = augmented(config, 5, *batch)
    torch.manual_seed(2)
    again = augmented(config, 5, *batch)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    before = torch.get_rng_state()
    augmented(config, 5, *batch)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_follows_the_seed(kind: str) -> None:
    config, batch = only(**{kind: ALL[kind]}), ragged_batch(LENGTHS)
    results = [augmented(config, seed, *batch) for seed in range(4)]
    seen = {
        (tuple(lengths.tolist()), waveforms.sum().item(), masked.sum().item()) for waveforms, lengths, masked in results
    }
    assert len(seen) == 4


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_padding_stays_zero_and_sound_stays_finite(kind: str) -> None:
    config = AugmentConfig.model_validate(ALL) if kind == "all" else only(**{kind: ALL[kind]})
    batch = ragged_batch(LENGTHS, extra=100)
    original = batch[0].clone()
    for seed in range(8):
        waveforms, num_samples, masked = augmented(config, seed, *batch)
        assert num_samples.dtype == torch.int64
        assert num_samples.min() >= 1
        assert waveforms.shape[1] >= num_samples.max()
        inside = valid_mask(num_samples, waveforms.shape[1])
        assert waveforms[~inside].abs().sum() == 0
        assert torch.isfinite(waveforms).all()
        assert torch.isfinite(masked).all()
    assert torch.equal(batch[0], original), "the caller's batch was changed"


def test_nothing_is_on_but_masks_unless_asked_for() -> None:
    assert {name for name, section in AugmentConfig() if section is not None} == {"spec_augment"}
    waveforms, num_samples = ragged_batch(LENGTHS)
    same, same_lengths, masked = augmented(only(), 1, waveforms, num_samples)
    assert torch.equal(same, waveforms)
    assert torch.equal(same_lengths, num_samples)
    assert masked.min() == 1


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"spec_augment"}))
def test_silence_stays_silent(kind: str) -> None:
    waveforms, num_samples, _ = augmented(
        only(**{kind: ALL[kind]}), 1, torch.zeros(5, 900), torch.tensor([900, 1, 2, 3, 80])
    )
    assert waveforms.abs().max() == 0
    assert num_samples.min() >= 1


# Silence


def test_silence_stands_around_speech_that_stays_what_it_was() -> None:
    waveforms, num_samples = ragged_batch(LENGTHS, extra=70)
    config = only(silence={"probability": 1.0, "low_seconds": 0.05, "high_seconds": 0.1, "low_db": 30, "high_db": 30})
    together, lengths = Augmenter(config, 3).waveforms(waveforms, num_samples)
    sides = []
    for row, length, before, size in zip(together, lengths.tolist(), waveforms, LENGTHS, strict=True):
        # Where it begins: speech is 30 dB louder than what stands before it.
        (start,) = [at for at in range(800, 1601) if torch.equal(row[at : at + size], before[:size])]
        behind = length - start - size
        assert 800 <= behind <= 1600
        sides += [start, behind]
        around = torch.cat([row[:start], row[start + size : length]])
        assert around.all(), "there is noise on both sides"
        level_db = 10 * torch.log10(before[:size].square().mean() / around.square().mean())
        assert level_db.item() == pytest.approx(30, abs=4)
    assert len(set(sides)) > 5, "each side of each utterance has a draw of its own"


def test_as_many_sides_are_silent_as_asked_for() -> None:
    waveforms, num_samples = torch.ones(600, 10), torch.full((600,), 10)
    config = only(
        silence={"probability": 0.25, "low_seconds": 0.01, "high_seconds": 0.01, "low_db": 200, "high_db": 200}
    )
    together, lengths = Augmenter(config, 1).waveforms(waveforms, num_samples)
    assert set(lengths.tolist()) == {10, 170, 330}
    begins_late = together[:, 0] < 0.5
    assert begins_late.float().mean().item() == pytest.approx(0.25, abs=0.06)
    ends_early = lengths - 10 - 160 * begins_late == 160
    assert ends_early.float().mean().item() == pytest.approx(0.25, abs=0.06)


# Speed


@pytest.mark.parametrize("factor", [0.5, 0.87, 0.9, 1.1, 1.25, 2.0])
def test_speed_changes_length_and_pitch_by_its_factor(factor: float) -> None:
    rate, pitch, length = 8000, 600.0, 8000
    tone = torch.sin(2 * torch.pi * pitch * torch.arange(length) / rate)[None]
    sound, num_samples = Augmenter(only(speed={"factors": [factor]}), 0).waveforms(tone, torch.tensor([length]))
    assert num_samples.item() == -(-length * 100 // round(factor * 100))
    assert num_samples.item() == pytest.approx(length / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(sound[0].numpy() * np.hanning(len(sound[0]))))
    assert spectrum.argmax() * rate / len(sound[0]) == pytest.approx(pitch * factor, abs=rate / len(sound[0]))
    assert sound[0, 200:-200].square().mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("length", "factor"), [(2323199, 1.1), (254302, 0.97), (254400, 0.97)])
def test_speed_leaves_as_many_samples_of_long_sound_as_it_says(length: int, factor: float) -> None:
    """torchaudio resamples the first two of these to one sample less."""
    sound = torch.zeros(1, length)
    changed, num_samples = Augmenter(only(speed={"factors": [factor]}), 0).waveforms(sound, torch.tensor([length]))
    assert changed.shape[1] == num_samples.item() == -(-length * 100 // round(factor * 100))


def test_speed_acts_on_each_utterance_as_if_alone() -> None:
    waveforms, num_samples = ragged_batch(LENGTHS, extra=50)
    together, lengths = Augmenter(only(speed={"factors": [1.1]}), 0).waveforms(waveforms, num_samples)
    for row, length, before in zip(together, lengths.tolist(), zip(waveforms, LENGTHS, strict=True), strict=True):
        waveform, old_length = before
        alone, _ = Augmenter(only(speed={"factors": [1.1]}), 0).waveforms(
            waveform[None, :old_length], torch.tensor([old_length])
        )
        torch.testing.assert_close(row[:length], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.25])
def test_speed_of_stored_frames_acts_on_each_utterance_as_if_alone(factor: float) -> None:
    sizes = torch.tensor([9, 1, 30, 17])
    frames = torch.randn(4, 41, 3) * valid_mask(sizes, 41)[..., None]
    config = only(speed={"factors": [factor]})
    together, lengths = Augmenter(config, 0).waveforms(frames, sizes)
    for row, length, before, size in zip(together, lengths.tolist(), frames, sizes.tolist(), strict=True):
        alone, _ = Augmenter(config, 0).waveforms(before[None, :size], torch.tensor([size]))
        torch.testing.assert_close(row[:length], alone[0], atol=0, rtol=0)
        # Each frame stands in the middle of its time, which is rounded to 1e-5 of a frame, and the ends are repeated.
        places = (np.arange(length) + 0.5) * factor - 0.5
        expected = np.stack(
            [np.interp(places, np.arange(size), before[:size, feature]) for feature in range(3)], axis=1
        )
        np.testing.assert_allclose(row[:length].numpy(), expected, atol=1e-4)
        assert not row[length:].any()


def test_factor_one_leaves_sound_as_it_is() -> None:
    waveforms, num_samples = ragged_batch(LENGTHS)
    same, lengths = Augmenter(only(speed={"factors": [1.0]}), 0).waveforms(waveforms, num_samples)
    assert torch.equal(same, waveforms)
    assert torch.equal(lengths, num_samples)


def test_every_factor_is_drawn() -> None:
    num_samples = torch.full((300,), 90)
    _, lengths = Augmenter(only(speed={}), 0).waveforms(torch.zeros(300, 90), num_samples)
    counts = {length: lengths.tolist().count(length) for length in (100, 90, 82)}
    assert sum(counts.values()) == 300
    assert min(counts.values()) > 70


# Gain and noise


def test_gain_multiplies_each_utterance_within_its_range() -> None:
    waveforms = torch.rand(200, 10) + 0.1
    louder, _ = Augmenter(only(gain={"low_db": -12.0, "high_db": 6.0}), 3).waveforms(waveforms, torch.full((200,), 10))
    ratio_db = 20 * torch.log10(louder / waveforms)
    torch.testing.assert_close(ratio_db, ratio_db[:, :1].expand_as(ratio_db), atol=1e-3, rtol=0)
    assert ratio_db.min() >= -12.001
    assert ratio_db.max() <= 6.001
    assert ratio_db.min() < -11
    assert ratio_db.max() > 5


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_has_the_drawn_power_below_the_speech(snr_db: float) -> None:
    lengths = [4000, 2999, 80, 1601]
    waveforms, num_samples = ragged_batch(lengths, extra=500)
    config = only(noise={"probability": 1.0, "low_db": snr_db, "high_db": snr_db})
    noisy, _ = Augmenter(config, 1).waveforms(waveforms, num_samples)
    noise = noisy - waveforms
    for speech, added, length in zip(waveforms.double(), noise.double(), lengths, strict=True):
        measured_db = 10 * torch.log10(speech[:length].square().mean() / added[:length].square().mean())
        assert measured_db.item() == pytest.approx(snr_db, abs=0.05)


def test_noise_comes_to_the_given_share_of_utterances() -> None:
    waveforms = torch.ones(400, 20)
    noisy, _ = Augmenter(only(noise={"probability": 0.25}), 1).waveforms(waveforms, torch.full((400,), 20))
    assert 0.15 < (noisy != waveforms).any(1).float().mean() < 0.35
    never, _ = Augmenter(only(noise={"probability": 0.0}), 1).waveforms(waveforms, torch.full((400,), 20))
    assert torch.equal(never, waveforms)


@pytest.mark.parametrize("kind", ["noise", "silence"])
def test_noise_differs_between_utterances_and_in_colour(kind: str) -> None:
    length = 4096
    waveforms = torch.sin(torch.arange(length) * 0.5).repeat(60, 1)
    settings = {"probability": 1.0, "low_db": 0.0, "high_db": 0.0}
    if kind == "silence":
        settings |= {"low_seconds": length / 16000, "high_seconds": length / 16000}
    noisy, _ = Augmenter(only(**{kind: settings}), 1).waveforms(waveforms, torch.full((60,), length))
    noise = torch.fft.rfft(noisy[:, :length] - (waveforms if kind == "noise" else 0))
    spectra = noise.abs().square()
    # White noise has half of its power in the upper half of the spectrum, brown noise next to nothing.
    upper = spectra[:, length // 4 :].sum(1) / spectra.sum(1)
    assert upper.max() > 0.4
    assert upper.min() < 0.01
    # Brown all the way down, it would have nine tenths of its power in the lowest 256th, below 31 Hz.
    assert (spectra[:, : length // 512].sum(1) / spectra.sum(1)).max() < 0.75
    # The same noise in another colour would have the same phases.
    assert torch.cos(noise[0].angle() - noise[1].angle()).mean().abs() < 0.1


# SpecAugment


def masked_ones(config: dict[str, object], lengths: list[int], num_features: int, seed: int) -> Tensor:
    """A boolean (B, T, F), True under a mask."""
    features = torch.ones(len(lengths), max(lengths), num_features)
    return Augmenter(only(spec_augment=config), seed).features(features, torch.tensor(lengths), num_features) == 0


def runs(line: Tensor) -> list[tuple[int, int]]:
    """Start and width of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.int().numpy(), [0]])))
    return [(int(start), int(end - start)) for start, end in edges.reshape(-1, 2)]


def test_frequency_masks_are_whole_bands_within_their_width() -> None:
    config = {"num_frequency_masks": 1, "frequency_width": 5, "num_time_masks": 0}
    widths, starts = set(), set()
    for seed in range(60):
        for utterance in masked_ones(config, [7, 30], 12, seed):
            assert (utterance == utterance[:1]).all()
            for start, width in runs(utterance[0]):
                widths.add(width)
                starts.add(start)
            assert len(runs(utterance[0])) <= 1
    assert widths == {1, 2, 3, 4, 5}
    assert starts == set(range(12))


def test_time_masks_are_whole_frames_within_width_share_and_utterance() -> None:
    config = {"num_frequency_masks": 0, "num_time_masks": 1, "time_width": 6, "time_share": 0.25}
    widths: dict[int, set[int]] = {40: set(), 12: set(), 3: set()}
    ends: dict[int, int] = dict.fromkeys(widths, 0)
    for seed in range(300):
        for length, utterance in zip(widths, masked_ones(config, list(widths), 5, seed), strict=True):
            assert (utterance == utterance[:, :1]).all()
            for start, width in runs(utterance[:, 0]):
                widths[length].add(width)
                ends[length] = max(ends[length], start + width)
    assert widths == {40: {1, 2, 3, 4, 5, 6}, 12: {1, 2, 3}, 3: set()}
    assert ends == {40: 40, 12: 12, 3: 0}


def test_number_of_masks_is_that_of_the_configuration() -> None:
    config = {"num_frequency_masks": 3, "frequency_width": 1, "num_time_masks": 0}
    assert max(masked_ones(config, [4], 50, seed)[0, 0].sum() for seed in range(60)) == 3


def test_masks_wider_than_the_features_are_cut() -> None:
    masked = masked_ones({"frequency_width": 27, "num_time_masks": 0, "num_frequency_masks": 1}, [5] * 50, 3, 0)
    assert {int(utterance[0].sum()) for utterance in masked} == {0, 1, 2, 3}


def test_a_band_is_masked_with_its_deltas_which_would_tell_it() -> None:
    masks = only(spec_augment={"num_frequency_masks": 1, "frequency_width": 5, "num_time_masks": 0})
    for seed in range(20):
        masked = Augmenter(masks, seed).features(torch.ones(8, 4, 36), torch.full((8,), 4), 12) == 0
        assert torch.equal(masked, masked[..., :12].repeat(1, 1, 3))
        assert all(len(runs(utterance[0, :12])) <= 1 for utterance in masked)


def test_masks_keep_what_they_do_not_cover() -> None:
    features = torch.randn(4, 30, 10)
    masked = Augmenter(only(spec_augment={"frequency_width": 3}), 0).features(features, torch.full((4,), 30), 10)
    assert ((masked == features) | (masked == 0)).all()
    assert (masked == 0).any()
    assert (masked == features).any()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"speed": {"factors": []}}, "speed.factors: .*at least 1"),
        ({"speed": {"factors": [1.0, 0.0]}}, "speed.factors.1: .*greater than or equal to 0.5, found 0"),
        ({"speed": {"factors": [-1]}}, "speed.factors.0: "),
        ({"noise": {"probability": 1.5}}, "noise.probability: .*less than or equal to 1, found 1.5"),
        ({"spec_augment": {"time_share": 2}}, "spec_augment.time_share: "),
        ({"spec_augment": {"time_widht": 2}}, "spec_augment.time_widht: unknown key, did you mean 'time_width'"),
        ({"gian": {}}, "gian: unknown key, did you mean 'gain'"),
        ({"speed": True}, "speed: .* found True"),
        ({"warp": {"low": 1.2}}, "warp: .*low is 1.2: expected at most high, 1.1"),
        (
            {"reverberation": {"low_seconds": 0.9, "high_seconds": 0.2}},
            "low_seconds is 0.9: expected at most high_seconds",
        ),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        validated(AugmentConfig, settings, where="test")


def test_reverberation_adds_a_tail_of_the_drawn_level_that_dies_away() -> None:
    rate, length = 8000, 8000
    click = torch.zeros(40, length)
    click[:, 100] = 1.0
    room = {"probability": 1.0, "low_seconds": 0.2, "high_seconds": 0.2, "low_db": 6.0, "high_db": 6.0}
    config = only(reverberation=room)
    wet, _ = Augmenter(config, 0, rate).waveforms(click, torch.full((40,), length))
    wet = wet / wet[:, 100:101]
    assert wet[:, :100].abs().max() < 1e-5
    torch.testing.assert_close(wet[:, 101:].norm(dim=1), torch.full((40,), 10 ** (-6 / 20)), rtol=0.01, atol=0)
    # 60 dB in 0.2 s are 30 dB in 0.1 s; the mean over many rooms follows the curve.
    early, late = (wet[:, 101 + at : 101 + at + 80].square().mean() for at in (0, 800))
    assert float(10 * torch.log10(early / late)) == pytest.approx(30, abs=2)
    # Where rooms differ, the longest are not cut off after the shortest time.
    config = only(reverberation=room | {"low_seconds": 0.05})
    wet, _ = Augmenter(config, 0, rate).waveforms(click, torch.full((40,), length))
    assert wet[:, 1300:1700].abs().max() > 1e-5


def test_reverberation_keeps_loudness_and_leaves_the_others_alone() -> None:
    waveforms, num_samples = ragged_batch([4000, 3000, 1000, 5], extra=200)
    wet, _ = Augmenter(only(reverberation={"probability": 1.0}), 3, 8000).waveforms(waveforms, num_samples)
    torch.testing.assert_close(wet.norm(dim=1), waveforms.norm(dim=1), rtol=1e-3, atol=1e-5)
    dry, _ = Augmenter(only(reverberation={"probability": 0.0}), 3, 8000).waveforms(waveforms, num_samples)
    assert torch.equal(dry, waveforms)


def test_warp_takes_bands_from_a_place_further_on() -> None:
    features = torch.arange(20.0).expand(3, 4, 20).clone()
    config = only(warp={"low": 1.05, "high": 1.05})
    warped = Augmenter(config, 0).features(features, torch.full((3,), 4), features.shape[2])
    torch.testing.assert_close(warped, (features * 1.05).clamp(max=19))
    drawn = Augmenter(only(warp={}), 0).features(features, torch.full((3,), 4), features.shape[2])
    factors = drawn[:, 0, 10] / 10
    assert len(set(factors.tolist())) == 3
    assert factors.min() >= 0.9
    assert factors.max() <= 1.1


def test_sound_keeps_its_precision_under_autocast() -> None:
    config = AugmentConfig.model_validate({"speed": {"factors": [0.9, 1.1]}, "noise": {"probability": 1}, "gain": {}})
    waveforms, num_samples = torch.randn(4, 3000, generator=torch.Generator().manual_seed(1)), torch.full((4,), 3000)
    expected, _ = Augmenter(config, 7).waveforms(waveforms, num_samples)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = Augmenter(config, 7).waveforms(waveforms, num_samples)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
