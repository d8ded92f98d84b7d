"""What a recogniser says of an utterance."""

from __future__ import annotations

from dataclasses import dataclass

from asr.decoding import Hypothesis
from asr.recognizer.words import Word, words_of


@dataclass(frozen=True, kw_only=True)
class Recognized:
    """What was heard in one utterance.

    Attributes:
        id: of the utterance.
        audio: the file as it was named, "" where there was none.
        channel: which of the file's was heard, counted from 1; None: the mean of all.
        hypotheses: readings, the best first; never empty.
        seconds: duration of the audio.
        models: how many models' probabilities were averaged.
        pieces: what each token of the best reading stands for, the space shown as `▁`.
        probabilities: of each of these tokens, in its frame.
    """

    id: str
    hypotheses: list[Hypothesis]
    seconds: float
    audio: str = ""
    channel: int | None = None
    models: int = 1
    pieces: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()

    @property
    def best(self) -> Hypothesis:
        """The best reading."""
        return self.hypotheses[0]

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the best reading, with their frames and how sure they are."""
        return words_of(zip(self.pieces, self.best.frames, self.probabilities, strict=True))
