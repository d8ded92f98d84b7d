"""Long recordings, cut where nobody speaks into pieces that are heard one after another, and what is heard put together.

A bidirectional layer keeps every frame until it has seen the last, so that its memory grows with the recording.
`benchmarks/long_recordings.py` measures what cutting does to memory and errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import product

import numpy as np
import numpy.typing as npt

from asr.decoding import Hypothesis
from asr.recognizer.recognized import Recognized
from asr.text.normalize import SPACE_MARK
from asr.text.tokenizer import Tokenizer

LONGEST_SECONDS = 40.0
"""Of a piece, where the model has learnt from longer utterances or one does not know."""

_SHORTEST_SECONDS = 1.0

# About what a reader pauses at the end of a sentence; shorter than that, a plosive is a pause too.
_PAUSE_SECONDS = 0.4


def longest_piece_for(learnt_from: Sequence[float | None]) -> float:
    """Seconds of the longest pieces for models that have learnt from utterances of up to so many seconds; None: unknown.

    Who never heard a pause between sentences writes the words around it together, and has no idea of what is far away.
    """
    known = [seconds for seconds in learnt_from if seconds is not None]
    return max(_SHORTEST_SECONDS, min([LONGEST_SECONDS, *known]))


def cut_at_pauses(waveform: npt.NDArray[np.float32], longest: int, step: int, rate: int) -> list[int]:
    """The samples at which the pieces of `waveform` (N,) begin, rising from 0; each at the quietest place near by.

    Pieces are no longer than `longest` samples and, where there are several, no shorter than a quarter of that. So that
    there is a place to choose, `longest` is four steps at least.

    Args:
        waveform: the recording.
        longest: in samples.
        step: samples per frame of the encoder, of which every beginning is a multiple: frames of pieces are then frames of
            the recording.
        rate: samples per second.

    Example:
        >>> speech = np.ones(100, dtype=np.float32)
        >>> speech[68:76] = 0
        >>> cut_at_pauses(speech, longest=80, step=4, rate=20)
        [0, 72]
    """
    blocks = waveform[: len(waveform) // step * step].reshape(-1, step)
    energy = np.concatenate([[0.0], np.cumsum(np.einsum("bs,bs->b", blocks, blocks, dtype=np.float64))])
    reach = max(1, round(_PAUSE_SECONDS * rate / step / 2))
    places = np.arange(len(energy))
    around = energy[np.minimum(places + reach, len(blocks))] - energy[np.maximum(places - reach, 0)]
    longest = max(longest, 4 * step)
    starts = [0]
    while len(waveform) - starts[-1] > longest:
        first = starts[-1] + longest // 2
        last = min(starts[-1] + longest, len(waveform) - longest // 4)
        near = range(-(-first // step), last // step + 1)
        starts.append(step * (near.start + int(np.argmin(around[near.start : near.stop]))))
    return starts


def put_together(pieces: Sequence[Recognized], first_frames: Sequence[int], tokenizer: Tokenizer) -> Recognized:
    """What is heard in a recording, of what is heard in its `pieces`, which begin at `first_frames`.

    A word never goes on from one piece into the next. Readings of the whole are the most probable combinations of those of
    the pieces, as many as the piece has that has most, each text once.
    """
    if len(pieces) == 1:
        return pieces[0]
    space = tokenizer.pieces.index(SPACE_MARK)
    parts = [
        [_moved(reading, first, space, tokenizer) for reading in piece.hypotheses]
        for piece, first in zip(pieces, first_frames, strict=True)
    ]
    number = max(map(len, parts))

    def most_probable(left: list[Hypothesis], right: list[Hypothesis]) -> list[Hypothesis]:
        pairs = sorted(product(left, right), key=lambda pair: -(pair[0].score + pair[1].score))
        by_text: dict[str, Hypothesis] = {}
        for reading in (_joined(*pair) for pair in pairs):  # where a piece may be empty, several pairs make one text
            by_text.setdefault(reading.text, reading)
            if len(by_text) == number:
                break
        return list(by_text.values())

    readings = reduce(most_probable, parts)
    return replace(
        pieces[0],
        hypotheses=readings,
        seconds=sum(piece.seconds for piece in pieces),
        pieces=tuple(tokenizer.pieces[token] for token in readings[0].tokens),
        probabilities=sum((_with_space(piece, part[0]) for piece, part in zip(pieces, parts, strict=True)), ()),
    )


def _moved(reading: Hypothesis, first_frame: int, space: int, tokenizer: Tokenizer) -> Hypothesis:
    """`reading` with its frames counted from the recording's beginning, and a space before what begins with none."""
    tokens, frames = reading.tokens, tuple(first_frame + frame for frame in reading.frames)
    if first_frame and tokens and not tokenizer.pieces[tokens[0]].startswith(SPACE_MARK):
        tokens, frames = (space, *tokens), (first_frame, *frames)
    return replace(reading, tokens=tokens, frames=frames)


def _with_space(piece: Recognized, moved: Hypothesis) -> tuple[float, ...]:
    """The probabilities of the tokens of `moved`, the best reading of `piece`; that of a space put before them is 1."""
    return (1.0,) * (len(moved.tokens) - len(piece.probabilities)) + piece.probabilities


def _joined(left: Hypothesis, right: Hypothesis) -> Hypothesis:
    return Hypothesis(
        text=" ".join(text for text in (left.text, right.text) if text),
        score=left.score + right.score,
        tokens=left.tokens + right.tokens,
        frames=left.frames + right.frames,
    )
