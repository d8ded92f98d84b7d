"""Words with their times and how sure the model was of them, from the tokens of a reading."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from asr.text.normalize import SPACE_MARK

# What a probability that has vanished in float32 counts as.
_SMALLEST = 1e-30


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a reading.

    CTC says when a token is certain, not how long it lasts: a word goes from its first token's frame to its last one's,
    which is about right in the middle and short at both ends.

    Attributes:
        text: the word.
        first_frame, last_frame: encoder frames (from 0) in which its first and its last token are most certain.
        confidence: geometric mean of the probabilities of its tokens in their frames.
    """

    text: str
    first_frame: int
    last_frame: int
    confidence: float


def words_of(tokens: Iterable[tuple[str, int, float]]) -> tuple[Word, ...]:
    """The words that `tokens` spell: of each what it stands for, the space as `▁`, its frame, and its probability there.

    Example:
        >>> words = words_of([("a", 3, 1.0), ("t", 5, 0.25), ("▁", 6, 0.3), ("a", 9, 0.5)])
        >>> [(word.text, word.first_frame, word.last_frame, word.confidence) for word in words]
        [('at', 3, 5, 0.5), ('a', 9, 9, 0.5)]
    """
    words: list[list[tuple[str, int, float]]] = [[]]
    for piece, frame, probability in tokens:
        if piece.startswith(SPACE_MARK):
            words.append([])
        if letters := piece.removeprefix(SPACE_MARK):
            words[-1].append((letters, frame, probability))
    return tuple(_word(spelt) for spelt in words if spelt)


def _word(spelt: list[tuple[str, int, float]]) -> Word:
    letters, frames, probabilities = zip(*spelt, strict=True)
    logarithms = [math.log(max(probability, _SMALLEST)) for probability in probabilities]
    return Word(
        text="".join(letters),
        first_frame=frames[0],
        last_frame=frames[-1],
        confidence=math.exp(sum(logarithms) / len(logarithms)),
    )
