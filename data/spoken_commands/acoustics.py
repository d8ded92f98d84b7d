"""The room, the microphone and the noise that stand between a synthesiser and the corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

SAMPLE_RATE = 16000
NOISES = ("white", "pink", "hum", "babble")
Waveform = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """How a recording sounds.

    Attributes:
        level_db: root mean square of the speech, in dB relative to full scale.
        noise: white, pink, hum, babble or none.
        snr_db: speech to noise; means nothing without noise.
        decay_seconds: reverberation time (to -60 dB); 0 without a room.
        direct_db: direct sound to everything that the walls send back; means nothing without a room.
        tilt_db: level at 8 kHz against that at 0 Hz.
        band_hz: what the microphone passes, lower and upper end.
        silence_seconds: before and behind the speech.
    """

    level_db: float
    noise: str
    snr_db: float
    decay_seconds: float
    direct_db: float
    tilt_db: float
    band_hz: tuple[float, float]
    silence_seconds: tuple[float, float]

    def described(self) -> dict[str, str]:
        """The scene in words, for the metadata of an utterance; what means nothing is left out."""
        row = {"level_db": f"{self.level_db:.1f}", "tilt_db": f"{self.tilt_db:.1f}", "noise": self.noise}
        row["band_hz"] = f"{self.band_hz[0]:.0f}-{self.band_hz[1]:.0f}"
        if self.noise != "none":
            row["snr_db"] = f"{self.snr_db:.1f}"
        if self.decay_seconds:
            row |= {"decay_seconds": f"{self.decay_seconds:.2f}", "direct_db": f"{self.direct_db:.1f}"}
        return row


def draw_scene(split: str, generator: np.random.Generator) -> Scene:
    """A scene for one utterance of `split`: training hears more extremes than the tests."""
    train = split == "train"
    draw = generator.uniform
    noisy, roomy, narrow = generator.random(3) < ((0.4, 0.3, 0.2) if train else (0.4, 0.3, 0.0))
    return Scene(
        level_db=draw(-34, -16) if train else draw(-30, -18),
        noise=str(generator.choice(NOISES)) if noisy else "none",
        snr_db=draw(14, 40) if train else draw(18, 40),
        decay_seconds=draw(0.1, 0.5) if roomy else 0.0,
        direct_db=draw(3, 15) if train else draw(6, 15),
        tilt_db=draw(-10, 5) if train else draw(-5, 2),
        band_hz=(draw(50, 250), draw(3800, 7000)) if narrow else (50.0, 8000.0),
        silence_seconds=(draw(0.08, 0.35), draw(0.1, 0.4)),
    )


def record(speech: Waveform, rate: float, scene: Scene, generator: np.random.Generator) -> Waveform:
    """Samples (N,) at 16 kHz of `speech` at `rate` hertz as heard in `scene`, never clipped."""
    heard = _trimmed(np.asarray(soxr.resample(speech, rate, SAMPLE_RATE)))
    speech_rms = np.sqrt(np.mean(heard**2))
    before, behind = (np.zeros(round(seconds * SAMPLE_RATE)) for seconds in scene.silence_seconds)
    heard = np.concatenate([before, heard / speech_rms, behind])
    if scene.decay_seconds:
        heard = _reverberant(heard, scene.decay_seconds, scene.direct_db, generator)
    heard = _filtered(heard, scene)
    if scene.noise != "none":
        heard += _noise(scene.noise, len(heard), generator) * 10 ** (-scene.snr_db / 20)
    heard *= 10 ** (scene.level_db / 20)
    return heard * min(1.0, 0.95 / float(np.abs(heard).max()))


def _trimmed(samples: Waveform) -> Waveform:
    """`samples` without the silence that the synthesiser put around them, 45 dB below the loudest."""
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 10 ** (-45 / 20))
    return np.asarray(samples[max(0, loud[0] - 160) : loud[-1] + 160])


def _reverberant(samples: Waveform, decay_seconds: float, direct_db: float, generator: np.random.Generator) -> Waveform:
    """`samples` in a room: the direct sound, then noise that falls by 60 dB in `decay_seconds`.

    Source: Polack 1988, the statistical model of late reverberation.
    """
    times = np.arange(1, round(decay_seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / decay_seconds)
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    size = 1 << (len(samples) + len(response)).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(samples)])


def _filtered(samples: Waveform, scene: Scene) -> Waveform:
    """`samples` through a microphone: a tilted spectrum that falls by 12 dB an octave outside of its band."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    low, high = scene.band_hz
    gains = 10 ** (scene.tilt_db * frequencies / SAMPLE_RATE * 2 / 20)
    gains *= np.minimum(1.0, (frequencies / low) ** 2) / np.maximum(1.0, (frequencies / high) ** 2)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * gains, len(samples)))


def _noise(kind: str, size: int, generator: np.random.Generator) -> Waveform:
    """Noise (size,) of root mean square 1."""
    if kind == "hum":
        times = np.arange(size) / SAMPLE_RATE
        base_hz = generator.choice([50.0, 60.0])
        samples = 0.05 * generator.standard_normal(size)
        for harmonic in range(1, 9):
            samples += np.sin(2 * np.pi * (base_hz * harmonic * times + generator.random())) / harmonic
    elif kind == "babble":
        samples = np.sum([_murmur(size, generator) for _ in range(5)], axis=0)
    else:
        samples = _shaped(generator.standard_normal(size), 0.0 if kind == "white" else 0.5)
    return np.asarray(samples / np.sqrt(np.mean(samples**2)))


def _murmur(size: int, generator: np.random.Generator) -> Waveform:
    """One voice of a babble: noise with the long-term spectrum of speech that comes and goes like syllables."""
    times = np.arange(size) / SAMPLE_RATE
    syllables: Waveform = np.sin(np.pi * (generator.uniform(2.5, 5.0) * times + generator.random())) ** 2
    return _shaped(generator.standard_normal(size), 1.0, flat_below_hz=500.0) * syllables


def _shaped(samples: Waveform, slope: float, flat_below_hz: float = 20.0) -> Waveform:
    """`samples` whose amplitudes fall with frequency to the power of `slope`."""
    frequencies = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), flat_below_hz)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) / frequencies**slope, len(samples)))
