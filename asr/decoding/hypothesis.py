"""What a decoder returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One reading of an utterance.

    Attributes:
        text: the tokens as text.
        score: natural logarithm of the probability that the decoder gives this reading; of the kinds `attention` and
            `joint`, what they rank readings by: with CTC's share, and over a power of the length.
        tokens: token ids without blanks.
        frames: for each token the encoder frame (from 0) at which it is most certain; frame times seconds per
            frame is its time.
    """

    text: str
    score: float
    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
