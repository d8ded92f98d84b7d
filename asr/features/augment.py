"""Augmentation of waveforms and features, each kind an option of its own, all drawn from one seeded generator.

An `Augmenter` is made for one batch. It takes every draw but the samples of the noise from a generator on the CPU, so
that a seed means nearly the same on every device, and a training run that resumes needs no random state: the seed of a
batch follows from its number.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
import torchaudio.functional as audio_functional
from pydantic import Field, model_validator
from torch import Tensor, nn

from asr.config import Section
from asr.lengths import valid_mask

_HUNDREDTHS = 100
_FAST_MULTIPLE = 4096


class _RangeConfig(Section):
    """Something that is drawn between a lowest and a highest value."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        values = dict(self)
        for low in (name for name in values if name.startswith("low")):
            high = low.replace("low", "high", 1)
            if values[low] > values[high]:
                raise ValueError(f"{low} is {values[low]:g}: expected at most {high}, {values[high]:g}")
        return self


class SpeedConfig(Section):
    """Speed perturbation: play each utterance faster or slower, pitch included; of stored features, only the tempo.

    Source: Ko et al. 2015, "Audio Augmentation for Speech Recognition".
    """

    factors: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = Field(
        default=(0.9, 1.0, 1.1), min_length=1, description="drawn with equal chance; rounded to hundredths"
    )


class SilenceConfig(_RangeConfig):
    """Silence before and behind an utterance, up to faint noise, as recordings have it and corpora cut it away.

    Where features are normalised over the utterance, silence shifts all of them, and costs a model that heard none words.
    Source: this project's own measurements, in its changelog; no paper.
    """

    probability: float = Field(default=0.3, ge=0, le=1, description="chance of silence before, and again behind")
    low_seconds: float = Field(default=0.0, ge=0, le=10, description="shortest silence on one side")
    high_seconds: float = Field(default=2.0, ge=0, le=10, description="longest silence on one side")
    low_db: float = Field(default=20.0, description="least distance of its noise below the utterance")
    high_db: float = Field(default=100.0, description="greatest distance; at 100, nothing of 16-bit sound is left")


class GainConfig(_RangeConfig):
    """A change of level, drawn for each utterance.

    Source: Peddinti et al. 2015, "JHU ASpIRE system: Robust LVCSR with TDNNs, iVector adaptation and RNN-LMs".
    """

    low_db: float = Field(default=-12.0, description="lowest gain")
    high_db: float = Field(default=6.0, description="highest gain")


class NoiseConfig(_RangeConfig):
    """Additive noise at a drawn signal-to-noise ratio and a drawn slope between white and brown.

    Source: Yin et al. 2015, "Noisy training for deep neural networks in speech recognition".
    """

    probability: float = Field(default=0.5, ge=0, le=1, description="share of the utterances that get noise")
    low_db: float = Field(default=5.0, description="lowest signal-to-noise ratio")
    high_db: float = Field(default=30.0, description="highest signal-to-noise ratio")


class ReverberationConfig(_RangeConfig):
    """A room around the speaker: the sound plus a tail of noise that dies away, of drawn length and level.

    Source: Polack 1988 describes rooms by decaying noise; Ko et al. 2017 compare simulated rooms with real ones in training.
    """

    probability: float = Field(default=0.3, ge=0, le=1, description="share of the utterances that get a room")
    low_seconds: float = Field(default=0.1, gt=0, le=3, description="shortest time in which the tail falls by 60 dB")
    high_seconds: float = Field(default=0.6, gt=0, le=3, description="longest such time")
    low_db: float = Field(default=0.0, description="lowest level of the direct sound over the tail")
    high_db: float = Field(default=20.0, description="highest such level")


class WarpConfig(_RangeConfig):
    """Vocal tract length perturbation: the bands of each utterance, stretched or squeezed by a drawn factor.

    Source: Jaitly & Hinton 2013, "Vocal Tract Length Perturbation (VTLP) improves speech recognition". There the axis is
    warped in hertz before the mel bands are taken; here the bands themselves are, which also works for stored features.
    """

    low: float = Field(default=0.9, ge=0.5, le=2, description="least factor")
    high: float = Field(default=1.1, ge=0.5, le=2, description="greatest factor")


class SpecAugmentConfig(Section):
    """Masks over bands and times of the features; masked cells become 0, the mean where features are normalised.

    Source: Park et al. 2019, "SpecAugment", which limits time masks by a share of the utterance, too.
    """

    num_frequency_masks: int = Field(default=2, ge=0, description="masks over bands per utterance")
    frequency_width: int = Field(default=27, ge=0, description="widest mask, in bands; each width is drawn from 0 on")
    num_time_masks: int = Field(default=2, ge=0, description="masks over time per utterance")
    time_width: int = Field(default=40, ge=0, description="widest mask, in feature frames")
    time_share: float = Field(default=0.15, ge=0, le=1, description="widest mask as a share of the utterance")


class AugmentConfig(Section):
    """What is done to training speech; null switches one off."""

    speed: SpeedConfig | None = None
    silence: SilenceConfig | None = None
    gain: GainConfig | None = None
    reverberation: ReverberationConfig | None = None
    noise: NoiseConfig | None = None
    warp: WarpConfig | None = None
    spec_augment: SpecAugmentConfig | None = SpecAugmentConfig()


class Augmenter:
    """The augmentation of one batch, a function of `config` and `seed` alone."""

    def __init__(self, config: AugmentConfig, seed: int, sample_rate: int = 16000) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.generator = torch.Generator().manual_seed(seed)

    def waveforms(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented waveforms (B, N') of `waveforms` (B, N) and their lengths (B,), in their own precision."""
        # Autocast would resample in half precision: some utterances would hiss, and float32 noise could not be added.
        with torch.autocast(waveforms.device.type, enabled=False):
            return self._sound(waveforms, num_samples)

    def _sound(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.speed is not None:
            waveforms, num_samples = self._change_speed(self.config.speed, waveforms, num_samples)
        if self.config.silence is not None:
            waveforms, num_samples = self._add_silence(self.config.silence, waveforms, num_samples)
        if self.config.reverberation is not None:
            waveforms = self._reverberate(self.config.reverberation, waveforms, num_samples)
        if self.config.noise is not None:
            waveforms = self._add_noise(self.config.noise, waveforms, num_samples)
        if self.config.gain is not None:
            gain_db = self._uniform(len(waveforms), self.config.gain.low_db, self.config.gain.high_db)
            waveforms = waveforms * (10 ** (gain_db / 20)).to(waveforms.device, non_blocking=True)[:, None]
        return waveforms, num_samples

    def features(self, features: Tensor, num_frames: Tensor, num_static: int) -> Tensor:
        """Warped and masked copy of normalised `features` (B, T, F) of utterances of `num_frames` frames (B,).

        F is `num_static`, or a multiple of it where deltas stand behind; a band that is masked is so in its deltas, too,
        which would tell it.
        """
        if self.config.warp is not None:
            factors = self._uniform(len(features), self.config.warp.low, self.config.warp.high)
            features = _warped(features, factors.to(features.device, non_blocking=True))
        config = self.config.spec_augment
        if config is None:
            return features
        batch, max_frames, num_features = features.shape
        # Apart: together they would be as large as the features, and a GPU waits for a copy of what is not pinned.
        bands = torch.ones(batch, 1, num_static, dtype=torch.bool)
        times = torch.ones(batch, max_frames, 1, dtype=torch.bool)
        for _ in range(config.num_frequency_masks):
            whole = torch.full((batch,), num_static)
            limit = whole.clamp(max=config.frequency_width)
            bands &= ~self._interval(whole, limit, num_static)[:, None, :]
        for _ in range(config.num_time_masks):
            frames = num_frames.cpu()
            limit = (frames * config.time_share).long().clamp(max=config.time_width)
            times &= ~self._interval(frames, limit, max_frames)[:, :, None]
        bands = bands.repeat(1, 1, num_features // num_static)
        keep = bands.to(features.device, non_blocking=True) & times.to(features.device, non_blocking=True)
        return features * keep

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=self.generator)

    def _interval(self, lengths: Tensor, widest: Tensor, size: int) -> Tensor:
        """A boolean (B, size), True in one drawn interval per row, at most `widest` (B,) wide, within `lengths` (B,)."""
        width = (torch.rand(len(lengths), generator=self.generator) * (widest + 1)).long()
        start = (torch.rand(len(lengths), generator=self.generator) * (lengths - width + 1)).long()
        positions = torch.arange(size)[None, :]
        return (positions >= start[:, None]) & (positions < (start + width)[:, None])

    def _change_speed(self, config: SpeedConfig, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        choice = torch.randint(len(config.factors), (len(waveforms),), generator=self.generator)
        rows: list[Tensor] = [waveforms[0]] * len(waveforms)
        lengths = num_samples.clone()
        for number, factor in enumerate(config.factors):
            members = (choice == number).nonzero()[:, 0]
            if len(members) == 0:
                continue
            old, new = round(factor * _HUNDREDTHS), _HUNDREDTHS
            at_device = members.to(waveforms.device, non_blocking=True)
            lengths[members] = (num_samples[members] * new + old - 1) // old
            resampled = waveforms[at_device]
            if old != new:
                resampled = _resampled(resampled, num_samples[members], old, new)
            # The resampling filter rings on behind the end of an utterance, where padding has to stay zero.
            for row, member in zip(resampled, members.tolist(), strict=True):
                rows[member] = row[: int(lengths[member])]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def _add_silence(self, config: SilenceConfig, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        batch, device = len(waveforms), waveforms.device
        chosen = torch.rand(batch, 2, generator=self.generator) < config.probability
        seconds = self._uniform(2 * batch, config.low_seconds, config.high_seconds).view(batch, 2)
        below_db = self._uniform(batch, config.low_db, config.high_db)
        slope = self._uniform(batch, 0.0, 1.0)
        noise_seed = int(torch.randint(2**62, (), generator=self.generator))
        sides = (chosen * seconds * self.sample_rate).long()
        new_lengths = num_samples + sides.sum(1)
        rows = [
            nn.functional.pad(row[:length], side)
            for row, length, side in zip(waveforms, num_samples.tolist(), sides.tolist(), strict=True)
        ]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        before, speech, lengths = (
            each.to(device, non_blocking=True) for each in (sides[:, 0], num_samples, new_lengths)
        )
        size = padded.shape[1]
        is_silent = valid_mask(lengths, size) & ~(valid_mask(before + speech, size) & ~valid_mask(before, size))
        noise = _noise(noise_seed, slope.to(device, non_blocking=True), size)
        noise = noise / torch.linalg.vector_norm(noise, dim=1, keepdim=True) * size**0.5
        level = (
            torch.linalg.vector_norm(padded, dim=1) / speech**0.5 * 10 ** (-below_db.to(device, non_blocking=True) / 20)
        )
        return padded + level[:, None] * noise * is_silent, new_lengths

    def _reverberate(self, config: ReverberationConfig, waveforms: Tensor, num_samples: Tensor) -> Tensor:
        chosen = torch.rand(len(waveforms), generator=self.generator) < config.probability
        seconds = self._uniform(len(waveforms), config.low_seconds, config.high_seconds)
        level_db = self._uniform(len(waveforms), config.low_db, config.high_db)
        length = round(config.high_seconds * self.sample_rate)
        noise = torch.randn(len(waveforms), length, generator=self.generator)
        rows = chosen.nonzero()[:, 0]
        if len(rows) == 0:
            return waveforms
        # A fall by 60 dB is one by a factor of 1000.
        fall = torch.exp(-math.log(1000) / self.sample_rate / seconds[rows, None] * torch.arange(length))
        tails = noise[rows] * fall
        tails = tails / torch.linalg.vector_norm(tails, dim=1, keepdim=True) * 10 ** (-level_db[rows, None] / 20)
        # The direct sound stays where it is, so that the text keeps its frames.
        response = nn.functional.pad(tails, (1, 0), value=1.0).to(waveforms.device, non_blocking=True)
        at_device = rows.to(waveforms.device, non_blocking=True)
        dry = waveforms[at_device]
        # The transform is as long as the result, and of a length with large prime factors it takes several times as long.
        filled = nn.functional.pad(dry, (0, -(dry.shape[1] + length) % _FAST_MULTIPLE))
        wet = audio_functional.fftconvolve(filled, response)[:, : dry.shape[1]]
        # As loud as before, and nothing behind the end, where padding has to stay zero.
        wet = wet * valid_mask(num_samples[rows], wet.shape[1], waveforms.device)
        before, after = (torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (dry, wet))
        return waveforms.index_copy(0, at_device, wet * before / after.clamp(min=1e-6))

    def _add_noise(self, config: NoiseConfig, waveforms: Tensor, num_samples: Tensor) -> Tensor:
        noisy = torch.rand(len(waveforms), generator=self.generator) < config.probability
        snr_db = self._uniform(len(waveforms), config.low_db, config.high_db)
        slope = self._uniform(len(waveforms), 0.0, 1.0)
        noise_seed = int(torch.randint(2**62, (), generator=self.generator))
        rows = noisy.nonzero()[:, 0].to(waveforms.device, non_blocking=True)
        if len(rows) == 0:
            return waveforms
        noise = _noise(noise_seed, slope.to(waveforms.device, non_blocking=True)[rows], waveforms.shape[1])
        noise = noise * valid_mask(num_samples, waveforms.shape[1], waveforms.device)[rows]
        loudness = torch.linalg.vector_norm(waveforms[rows], dim=1)
        noise_loudness = torch.linalg.vector_norm(noise, dim=1).clamp(min=1e-6)
        level = loudness / noise_loudness * 10 ** (-snr_db.to(waveforms.device, non_blocking=True)[rows] / 20)
        return waveforms.index_add(0, rows, level[:, None] * noise)


def _warped(features: Tensor, factors: Tensor) -> Tensor:
    """`features` (B, T, F) with the values of band f taken from band f * `factors` (B,), interpolated; ends repeat."""
    last = features.shape[-1] - 1
    places = (torch.arange(last + 1, device=features.device) * factors[:, None]).clamp(max=last)
    return _between(features.transpose(1, 2), places).transpose(1, 2)


def _resampled(signals: Tensor, lengths: Tensor, old: int, new: int) -> Tensor:
    """Waveforms (B, N) or stored frames (B, T, F) with `new` samples or frames in the place of `old`.

    Of the stored frames `lengths` (B,) are valid. Each lies in the middle of its time, and ends repeat: neither padding nor
    how much of it there is has a part in the valid ones.
    """
    size = -(-signals.shape[1] * new // old)
    if signals.dim() == 2:
        # torchaudio reckons the length in float32, which is one less now and then from 16 s on.
        resampled: Tensor = audio_functional.resample(signals, old, new)
        return nn.functional.pad(resampled, (0, size - resampled.shape[1]))
    places = ((torch.arange(size) + 0.5) * old / new - 0.5).clamp(min=0).minimum(lengths[:, None] - 1)
    return _between(signals, places.to(signals.device, non_blocking=True))


def _between(values: Tensor, places: Tensor) -> Tensor:
    """What `values` (B, N, F) are at the `places` (B, M), from 0 to N - 1, by linear interpolation: (B, M, F)."""
    below = places.long()
    share = (places - below)[..., None]

    def at(rows: Tensor) -> Tensor:
        return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))

    return at(below) * (1 - share) + at((below + 1).clamp(max=values.shape[1] - 1)) * share


def _noise(seed: int, slope: Tensor, size: int) -> Tensor:
    """Noise (B, `size`) of the given `slope` (B,), as `_coloured` has it, on the device of `slope`."""
    generator = torch.Generator(slope.device).manual_seed(seed)
    # A Fourier transform of a length with a large prime factor takes several times longer.
    length = -(-size // _FAST_MULTIPLE) * _FAST_MULTIPLE
    noise = torch.randn(len(slope), length, generator=generator, device=slope.device)
    return _coloured(noise, slope)[:, :size]


def _coloured(noise: Tensor, slope: Tensor) -> Tensor:
    """White `noise` (B, M) with its spectrum multiplied by frequency ** -slope: 0 stays white, 1 is brown.

    The slope begins above the lowest 256th of the band: else nearly all of brown noise would lie where nobody hears it.
    """
    spectrum = torch.fft.rfft(noise)
    size = spectrum.shape[-1]
    bins = torch.arange(1, size + 1, device=noise.device, dtype=noise.dtype).clamp(min=size / 256)
    coloured: Tensor = torch.fft.irfft(spectrum * bins[None, :] ** -slope[:, None], n=noise.shape[-1])
    return coloured
