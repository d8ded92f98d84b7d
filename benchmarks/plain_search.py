"""Prefix beam search in plain Python, with a dictionary of prefixes: what the compiled one is measured and checked against.

It takes the same short cuts as the compiled search: only tokens that can still enter the beam are tried.
"""

from __future__ import annotations

import heapq
import math

Prefix = tuple[int, ...]
Scores = tuple[float, float]
"""Log-probabilities of a prefix over its alignments that end in a blank, and that end in its last token."""


def search(log_probs: list[list[float]], width: int) -> list[tuple[Prefix, float]]:
    """Prefixes and scores of the last beam, the best first; the older first among equals."""
    beam: dict[Prefix, Scores] = {(): (0.0, -math.inf)}
    for row in log_probs:
        candidates = {prefix: _staying(prefix, scores, row, beam) for prefix, scores in beam.items()}
        worst = min(log_add(*scores) for scores in candidates.values()) if len(beam) == width else -math.inf
        highest = max(log_add(*scores) for scores in beam.values())
        able = [token for token in range(1, len(row)) if highest + row[token] > worst]
        likely = heapq.nsmallest(width + 1, able, key=lambda token: (-row[token], token))
        for prefix, scores in beam.items():
            for token in likely:
                score = _extension(prefix, scores, token, row)
                if score > worst and (*prefix, token) not in candidates:
                    candidates[(*prefix, token)] = -math.inf, score
        beam = dict(sorted(candidates.items(), key=lambda item: -log_add(*item[1]))[:width])
    return [(prefix, log_add(*scores)) for prefix, scores in beam.items()]


def log_add(left: float, right: float) -> float:
    """log(exp(left) + exp(right))."""
    high, low = (left, right) if left > right else (right, left)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _staying(prefix: Prefix, scores: Scores, row: list[float], beam: dict[Prefix, Scores]) -> Scores:
    """Scores of `prefix` one frame later, when that frame holds a blank or its last token."""
    if not prefix:
        return log_add(*scores) + row[0], -math.inf
    spoken = scores[1] + row[prefix[-1]]
    if prefix[:-1] in beam:
        spoken = log_add(spoken, _extension(prefix[:-1], beam[prefix[:-1]], prefix[-1], row))
    return log_add(*scores) + row[0], spoken


def _extension(prefix: Prefix, scores: Scores, token: int, row: list[float]) -> float:
    """Log-probability of `prefix` followed by `token` in this frame: after a blank only, where it repeats the last."""
    return (scores[0] if prefix and prefix[-1] == token else log_add(*scores)) + row[token]
