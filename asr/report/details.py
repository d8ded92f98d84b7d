"""What a report shows: systems with their scores, and for each utterance what only the recogniser saw of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.scoring import Result, UtteranceScore

Bytes = npt.NDArray[np.uint8]

PICTURE_LEVELS = 64
"""Shades of a log-mel picture: more than the eye tells apart, and a file of half the size that 256 would give."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """One recording as the model met it, the same for all decoders; small enough for thousands of them in one file.

    Attributes:
        audio: the sound file, to be played from where it lies, or the bytes of one, to be put into the report.
        envelope: (E,) the highest sample of each stretch, 255 for the highest of all; the stretches cover the recording.
        picture: (bands, columns) log-mel, low bands first, in levels from 0 to `PICTURE_LEVELS` - 1.
        column_seconds: duration of a column.
        blank: (S,) probability of the blank in each encoder frame, 255 for certainty.
        tokens: (S, K) the most probable other tokens of each frame.
        probabilities: (S, K) theirs, 255 for certainty; 0 where not worth showing.
        frame_seconds: duration of an encoder frame.
    """

    audio: Path | bytes | None
    envelope: Bytes
    picture: Bytes
    column_seconds: float
    blank: Bytes
    tokens: npt.NDArray[np.uint16]
    probabilities: Bytes
    frame_seconds: float


@dataclass(frozen=True, kw_only=True)
class UtteranceDetails:
    """What one system knows of one utterance besides its text.

    Attributes:
        tokens: ids of the best hypothesis, without blanks.
        frames: for each token, the encoder frame at which it is most certain.
        probabilities: for each token, its probability in that frame.
        recording: needed once per utterance, from any of the systems that heard it.
    """

    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    recording: Recording | None = None

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the tokens' probabilities, None without tokens: 1 where the model had no doubt.

        Example:
            >>> UtteranceDetails(tokens=(1, 2), frames=(0, 3), probabilities=(1.0, 0.25)).confidence
            0.5
        """
        if not self.probabilities:
            return None
        logarithms = [math.log(max(probability, 1e-30)) for probability in self.probabilities]
        return math.exp(sum(logarithms) / len(logarithms))


@dataclass(frozen=True, kw_only=True)
class System:
    """Something that turned the utterances of one subset into text.

    Attributes:
        name: as the report calls it, such as "beam".
        result: its error rates.
        scores: one for each utterance.
        details: by utterance id, for those of which something is known.
        pieces: what each token id stands for, the space shown as `▁`; the blank at 0.
    """

    name: str
    result: Result
    scores: Sequence[UtteranceScore]
    details: Mapping[str, UtteranceDetails] = field(default_factory=dict)
    pieces: Sequence[str] = ()
