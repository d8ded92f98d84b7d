"""Log-mel and MFCC front ends, computed over padded batches as if each utterance were alone.

The short-time Fourier transform is centred and pads with zeros, not with reflections: the zeros that a batch puts behind a
short utterance are then the same zeros that it would see alone. Pre-emphasis, which could leak from the padding, works on
the true lengths.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torchaudio.functional as audio_functional
from pydantic import Field, model_validator
from torch import Tensor, nn

from asr.features.frames import FrameConfig
from asr.lengths import frames_of_samples, valid_mask

# Added to mel power before the logarithm: above the quantisation noise of 16-bit audio, below speech of usual level. It
# does not follow the level: of a very quiet recording most values lie below.
_POWER_FLOOR = 1e-6


class _SpectralConfig(FrameConfig):
    """What log-mel and MFCC have in common."""

    sample_rate: int = Field(default=16000, ge=4000, le=192000, description="samples per second that the model hears")
    window_seconds: float = Field(default=0.025, gt=0, le=0.2, description="length of the Hann window")
    hop_seconds: float = Field(default=0.010, gt=0, le=0.1, description="distance between frames")
    n_mels: int = Field(default=80, ge=4, le=256, description="mel bands")
    low_hz: float = Field(default=20.0, ge=0, description="lower edge of the lowest mel band")
    high_hz: float | None = Field(default=None, gt=0, description="upper edge of the highest band; null: half the rate")
    preemphasis: float = Field(default=0.97, ge=0, lt=1, description="y[n] = x[n] - preemphasis * x[n-1]; 0: off")
    dither: float = Field(
        default=0.0,
        ge=0,
        le=0.1,
        description="standard deviation of noise added in training, of samples from -1 to 1 (Kaldi's 1.0 is 3e-5); 0: off",
    )

    @property
    def hop_length(self) -> int:
        """Samples between frames."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def window_length(self) -> int:
        """Samples under the window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def n_fft(self) -> int:
        """Points of the Fourier transform: the first power of two that holds the window."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def highest_hz(self) -> float:
        """Upper edge of the highest mel band, in hertz."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    @model_validator(mode="after")
    def _check_band(self) -> _SpectralConfig:
        if not self.low_hz < self.highest_hz <= self.sample_rate / 2:
            raise ValueError(
                f"mel bands from {self.low_hz:g} to {self.highest_hz:g} Hz do not fit below half the sample rate, "
                f"{self.sample_rate / 2:g} Hz"
            )
        if self.hop_length < 1 or self.window_length < self.hop_length:
            raise ValueError("the window must be at least as long as the hop, and the hop at least one sample")
        return self


class LogMelConfig(_SpectralConfig):
    """Logarithm of the power in mel bands."""

    kind: Literal["log_mel"] = "log_mel"

    @property
    def num_static(self) -> int:
        """Features per frame before deltas."""
        return self.n_mels


class MfccConfig(_SpectralConfig):
    """Mel-frequency cepstral coefficients: the cosine transform of the log-mel spectrum."""

    kind: Literal["mfcc"] = "mfcc"
    n_mfcc: int = Field(default=20, ge=2, le=256, description="cepstral coefficients, the zeroth included")

    @property
    def num_static(self) -> int:
        """Features per frame before deltas."""
        return self.n_mfcc

    @model_validator(mode="after")
    def _check_coefficients(self) -> MfccConfig:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc={self.n_mfcc} needs at least as many mel bands, found n_mels={self.n_mels}")
        return self


class SpectralFrontEnd(nn.Module):
    """Waveforms (B, N) to log-mel or MFCC frames (B, T, F), not yet normalised."""

    window: Tensor
    bands: Tensor
    dct: Tensor | None

    def __init__(self, config: LogMelConfig | MfccConfig) -> None:
        super().__init__()
        self.config = config
        # None of these is learnt or drawn, so the configuration alone rebuilds them, and they are not saved.
        self.register_buffer("window", torch.hann_window(config.window_length), persistent=False)
        bands = audio_functional.melscale_fbanks(
            config.n_fft // 2 + 1, config.low_hz, config.highest_hz, config.n_mels, config.sample_rate
        )
        self.register_buffer("bands", bands, persistent=False)
        dct = audio_functional.create_dct(config.n_mfcc, config.n_mels, "ortho") if config.kind == "mfcc" else None
        self.register_buffer("dct", dct, persistent=False)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Feature frames (B,) that utterances of `num_samples` samples (B,) give."""
        return frames_of_samples(num_samples, self.config.hop_length)

    def forward(self, waveforms: Tensor, num_samples: Tensor) -> Tensor:
        """Frames (B, T, F) of `waveforms` (B, N), anything behind each utterance's end.

        Samples behind the end (B,) are taken as zero whatever they hold.
        """
        inside = valid_mask(num_samples, waveforms.shape[1], waveforms.device)
        if self.training and self.config.dither > 0:
            waveforms = waveforms + self.config.dither * torch.randn_like(waveforms)
        if self.config.preemphasis > 0:
            previous = nn.functional.pad(waveforms[:, :-1], (1, 0))
            waveforms = torch.sub(waveforms, previous, alpha=self.config.preemphasis)
        # Not a product: what stands behind the end may be infinite.
        waveforms = waveforms.masked_fill(~inside, 0.0)
        log_mel = torch.log(self._power(waveforms).transpose(1, 2) @ self.bands + _POWER_FLOOR)
        return log_mel if self.dct is None else log_mel @ self.dct

    def loudness(self, frames: Tensor) -> Tensor:
        """Logarithm of the power, mean over the bands (B, T), of `frames` (B, T, F), with or without derivatives behind."""
        if self.config.kind == "log_mel":
            return frames[..., : self.config.n_mels].mean(-1)
        return frames[..., 0] / math.sqrt(self.config.n_mels)  # what the zeroth coefficient is, root n times

    def _power(self, waveforms: Tensor) -> Tensor:
        """Power spectrum (B, n_fft // 2 + 1, T) of `waveforms` (B, N)."""
        spectrum: Tensor = audio_functional.spectrogram(
            waveforms,
            pad=0,
            window=self.window,
            n_fft=self.config.n_fft,
            hop_length=self.config.hop_length,
            win_length=self.config.window_length,
            power=None,
            normalized=False,
            center=True,
            pad_mode="constant",
        )
        # `power=2` would take the root of this sum and square it again, for four times the time.
        return spectrum.real.square() + spectrum.imag.square()
