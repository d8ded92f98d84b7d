"""What CTC thinks of the beginning of a text: the probability of all texts that begin so, compiled.

A prefix keeps, for each number of frames passed, two log-probabilities (S + 1, 2): of all its alignments with so many frames
that end in a blank, and that end in its last token.

Source: Watanabe et al. 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", algorithm 2.
"""

from __future__ import annotations

import math

import numpy as np

from asr.compiled import Floats, Integers, compiled

BLANK, SPOKEN = range(2)


@compiled("float64(float64, float64)")
def log_add(left: float, right: float) -> float:
    """log(exp(left) + exp(right)), also where one or both are -inf."""
    high, low = max(left, right), min(left, right)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@compiled("float64[:, ::1](float32[:, ::1])")
def empty_prefix(log_probs: Floats) -> Floats:
    """The log-probabilities (S + 1, 2) of the empty prefix in `log_probs` (S, V), blank at 0."""
    alignments = np.full((len(log_probs) + 1, 2), -math.inf)
    alignments[0, BLANK] = 0.0
    for frame in range(len(log_probs)):
        alignments[frame + 1, BLANK] = alignments[frame, BLANK] + log_probs[frame, 0]
    return alignments


@compiled("Tuple((float64[:, :, ::1], float64[::1]))(float32[:, ::1], float64[:, ::1], int64, int64[::1])")
def extended(log_probs: Floats, alignments: Floats, last: int, tokens: Integers) -> tuple[Floats, Floats]:
    """What becomes of a prefix that is followed by each of `tokens` (K,).

    Args:
        log_probs: (S, V), blank at 0.
        alignments: of the prefix (S + 1, 2).
        last: its last token, 0 for the empty prefix.
        tokens: none of them the blank.

    Returns:
        The alignments of each longer prefix (K, S + 1, 2), and the log-probability that the text begins so (K,).
    """
    num_frames = len(log_probs)
    longer = np.full((len(tokens), num_frames + 1, 2), -math.inf)
    begins = np.full(len(tokens), -math.inf)
    for place in range(len(tokens)):
        token, own = tokens[place], longer[place]
        for frame in range(num_frames):
            # A token can follow itself only after a blank: without one it is the same sound going on.
            entry = alignments[frame, BLANK]
            if token != last:
                entry = log_add(entry, alignments[frame, SPOKEN])
            begins[place] = log_add(begins[place], entry + log_probs[frame, token])
            own[frame + 1, SPOKEN] = log_add(own[frame, SPOKEN], entry) + log_probs[frame, token]
            own[frame + 1, BLANK] = log_add(own[frame, BLANK], own[frame, SPOKEN]) + log_probs[frame, 0]
    return longer, begins
