"""The frames of a text: Viterbi alignment, compiled, over those alignments that a beam search looked at.

A prefix lives in the beam for a few frames out of many, so a table with a row for each prefix and a column for each of its
frames has a size that grows with the duration, not with its square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asr.compiled import Floats, Integers, compiled
from asr.decoding.prefix_scores import BLANK, SPOKEN


@compiled("Tuple((float64[:, ::1], int64[::1]))(float32[:, ::1], int64[:, ::1])")
def _viterbi(log_probs: Floats, path: Integers) -> tuple[Floats, Integers]:
    """The table of the best alignments (cells, 2), and for each prefix what to add to a frame to get its cell.

    A cell holds the log-probabilities of the best alignment of the prefix up to its frame that ends in a blank and that
    ends in its last token.
    """
    cell_of = np.empty(len(path), np.int64)
    num_cells = 0
    for place in range(len(path)):
        cell_of[place] = num_cells - path[place, 1]
        num_cells += 1 + path[place, 2] - path[place, 1]
    table = np.full((num_cells, 2), -math.inf)
    table[0, BLANK] = 0.0
    for place in range(len(path)):
        token, first, last = path[place]
        for frame in range(max(0, first), last + 1):
            here = table[cell_of[place] + frame]
            if frame > first:
                before = table[cell_of[place] + frame - 1]
                here[BLANK] = max(before[BLANK], before[SPOKEN]) + log_probs[frame, 0]
                here[SPOKEN] = before[SPOKEN] + log_probs[frame, token]
            if place > 0 and frame - 1 <= path[place - 1, 2]:
                above = table[cell_of[place - 1] + frame - 1]
                entry = above[BLANK] if path[place - 1, 0] == token else max(above[BLANK], above[SPOKEN])
                here[SPOKEN] = max(here[SPOKEN], entry + log_probs[frame, token])
    return table, cell_of


@compiled("int64[::1](float32[:, ::1], int64[:, ::1])")
def surest_frames(log_probs: Floats, path: Integers) -> Integers:
    """For each token the frame (U,) of its highest probability within the best alignment; the earliest among equals.

    Args:
        log_probs: (S, V), blank at 0, with S of at least 1.
        path: token, first and last frame in the beam (1 + U, 3) of the empty prefix (0, -1, ...) and each longer one, the
            last of them alive to the end; the score of the last is above -inf.
    """
    table, cell_of = _viterbi(log_probs, path)
    frames = np.empty(len(path) - 1, np.int64)
    place, peak = len(path) - 1, -math.inf
    cell = table[cell_of[place] + len(log_probs) - 1]
    spoken = cell[SPOKEN] >= cell[BLANK]
    for frame in range(len(log_probs) - 1, -1, -1):
        here = cell_of[place] + frame
        if spoken:
            token, first = path[place, 0], path[place, 1]
            log_prob = log_probs[frame, token]
            if log_prob >= peak:
                peak = log_prob
                frames[place - 1] = frame
            if frame > first and table[here - 1, SPOKEN] + log_prob == table[here, SPOKEN]:
                continue
            place, peak = place - 1, -math.inf
            above = table[cell_of[place] + frame - 1]
            spoken = path[place, 0] != token and above[SPOKEN] > above[BLANK]
        else:
            spoken = table[here - 1, SPOKEN] > table[here - 1, BLANK]
    return frames


def frames_of_text(log_probs: Floats, tokens: Sequence[int]) -> tuple[int, ...]:
    """For each of `tokens` its surest frame in their best alignment to `log_probs` (S, V), whose frames must suffice."""
    # Any frame from that of its own number on is open to each token; the empty text stands before the first frame.
    path = np.full((1 + len(tokens), 3), len(log_probs) - 1, np.int64)
    path[:, 0] = (0, *tokens)
    path[:, 1] = range(-1, len(tokens))
    return tuple(surest_frames(log_probs, path).tolist()) if tokens else ()
