"""What is looked at: one recording as the model hears it, and the tokens of a text at their times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.audio import UnusableAudioError, read_signal
from asr.decoding.alignment import frames_of_text
from asr.errors import AudioError, ConfigError, TextError
from asr.features import FeatureConfig, LogMelConfig
from asr.inspection.observe import log_probs_of
from asr.lengths import frames_needed_by_ctc
from asr.model.acoustic import AcousticModel
from asr.recognizer import Recognizer
from asr.report.collect import as_log_mel

# Beyond that a picture has more columns than a screen, and the work grows with the square of the duration.
_MOST_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A recording and a text.

    Attributes:
        audio: file of the recording.
        model: what hears it, on the CPU.
        features: (T, F) as the encoder gets them, normalised.
        log_mel: (T, bands) for the eye; stored features that are no cepstra are shown as they are.
        log_probs: (S, V) of the model.
        heard: what the model recognised.
        text: what is looked at: the same, or one that was given.
        tokens: of `text`.
        frames: for each token, the encoder frame at which it is most certain.
        pieces: each token in letters.
    """

    audio: Path
    model: AcousticModel
    features: Tensor
    log_mel: npt.NDArray[np.float32]
    log_probs: Tensor
    heard: str
    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    pieces: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the recording."""
        return self.audio.name

    @property
    def config(self) -> FeatureConfig:
        """The settings of the features."""
        return self.model.config.features

    @property
    def hop_seconds(self) -> float:
        """Seconds between feature frames."""
        return self.config.hop_length / self.config.sample_rate

    @property
    def frame_seconds(self) -> float:
        """Seconds between encoder frames."""
        return self.model.seconds_per_frame

    def frames_of_layer(self, layer: int) -> int:
        """How many frames of `layer` (from 1) there are to one of the last; more than one below a pyramid's block."""
        encoder = self.model.config.encoder
        return encoder.factor // encoder.factor_of(layer)

    @property
    def seconds(self) -> float:
        """Duration, in whole encoder frames."""
        return len(self.log_probs) * self.frame_seconds

    @property
    def band_centres_hz(self) -> npt.NDArray[np.float64] | None:
        """Middle frequency of each feature (F,), in hertz; None where features are no mel bands."""
        config = self.config
        if not isinstance(config, LogMelConfig) or config.deltas:
            return None
        # As torchaudio's filters: even on the mel scale of HTK.
        low, high = (2595 * math.log10(1 + hz / 700) for hz in (config.low_hz, config.highest_hz))
        mel = np.linspace(low, high, config.n_mels + 2)[1:-1]
        return np.asarray(700 * (10 ** (mel / 2595) - 1))

    @property
    def times(self) -> list[float]:
        """Seconds at which the tokens stand."""
        return [frame * self.frame_seconds for frame in self.frames]


@torch.no_grad()
def subject_of(recognizer: Recognizer, audio: Path, text: str | None = None) -> Subject:
    """The recording `audio` with what `recognizer`, greedy and on the CPU, hears in it, or with `text`.

    Raises:
        AudioError: missing, damaged, silent, or longer than can be looked at.
        TextError: `text` has characters that the model does not know, or needs more frames than there are.
        ConfigError: `text` is empty.
    """
    model, tokenizer = recognizer.model, recognizer.tokenizer
    signal = torch.from_numpy(read_signal(audio, recognizer.sample_rate, recognizer.num_stored_features))
    if not recognizer.num_stored_features and not signal.any():
        raise UnusableAudioError(str(audio), "silent", "every sample is 0, so there is nothing to look at")
    if len(signal) > _MOST_SECONDS * recognizer.sample_rate:
        seconds = len(signal) / recognizer.sample_rate
        raise AudioError(
            f"{audio}: {seconds:.0f} s long; at most {_MOST_SECONDS:.0f} s can be looked at, cut a part out"
        )
    num_samples = torch.tensor([len(signal)])
    features, _ = model.features(signal[None], num_samples)
    log_probs = log_probs_of(model, features)[0]
    best = recognizer.decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))[0][0]
    tokens, frames = best.tokens, best.frames
    if text is not None:
        tokens = tuple(tokenizer.encode(text))
        frames = _aligned(log_probs, tokens, text)
    front_end = model.features.front_end
    return Subject(
        audio=audio,
        model=model,
        features=features[0],
        log_mel=as_log_mel(front_end(signal[None].float(), num_samples), front_end)[0].numpy(),
        log_probs=log_probs,
        heard=best.text,
        text=best.text if text is None else tokenizer.decode(tokens),
        tokens=tokens,
        frames=frames,
        pieces=tuple(tokenizer.pieces[token] for token in tokens),
    )


def _aligned(log_probs: Tensor, tokens: tuple[int, ...], text: str) -> tuple[int, ...]:
    """The surest frame of each of `tokens` in their best alignment to `log_probs` (S, V)."""
    num_frames = len(log_probs)
    if not tokens:
        raise ConfigError("--text is empty; leave it out to look at what is recognised")
    needed = frames_needed_by_ctc(tokens)
    if needed > num_frames:
        raise TextError(
            f"'{text}' needs {needed} frames, one per token and one between equal ones; this recording has {num_frames}"
        )
    return frames_of_text(log_probs.contiguous().numpy(), tokens)


def require_tokens(subject: Subject) -> None:
    """Accepts a subject with tokens.

    Raises:
        AudioError: the model recognised nothing.
    """
    if not subject.tokens:
        raise AudioError(f"{subject.name}: the model recognises no tokens here; say with --text what to look for")
