"""What in the sound a token rests on: its log-probability taken apart into shares of the input's features."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asr.errors import ConfigError
from asr.inspection.observe import log_probs_of
from asr.inspection.subject import Subject, require_tokens
from asr.terminal import Advance, progress_bar

_CLOSE = 0.1
# Frames of all points that are computed at once: bounds the memory for long recordings.
_FRAMES_AT_A_TIME = 20_000
# Pieces of the way where nobody says how many: so many at first, and, halved where that is needed, hardly more than these.
_FIRST_STEPS, _MOST_STEPS = 32, 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Saliency:
    """The input's shares in one token.

    Attributes:
        number: of the token, from 1.
        piece: its letters.
        seconds: when it stands.
        log_prob: of the token in its frame.
        baseline_log_prob: the same for the recording's mean spectrum in every frame; None for plain gradients.
        shares: (T, F) integrated gradients, in nats, which add up to the difference of the two, up to the error of the
            sum; or the plain gradient.
        steps: pieces of the way from the mean spectrum to the sound, with one gradient each; 0 for plain gradients.
        hop_seconds: duration of a feature frame.
    """

    number: int
    piece: str
    seconds: float
    log_prob: float
    baseline_log_prob: float | None
    shares: Tensor
    steps: int
    hop_seconds: float

    @property
    def by_time(self) -> Tensor:
        """Sum of the absolute shares of each frame (T,)."""
        return self.shares.abs().sum(1)

    @property
    def centre_seconds(self) -> float:
        """When half of the absolute shares have come, from the token's own time on: below 0 it rests on what came before."""
        sums = self.by_time.cumsum(0)
        return int((sums < sums[-1] / 2).sum()) * self.hop_seconds - self.seconds

    @property
    def width_seconds(self) -> float:
        """Duration of the shortest stretch that holds half of the absolute shares."""
        sums = torch.cat([torch.zeros(1), self.by_time.cumsum(0)])
        ends = torch.searchsorted(sums, sums + sums[-1] / 2)
        starts = torch.arange(len(sums))
        fits = ends < len(sums)
        return (ends - starts)[fits].min().item() * self.hop_seconds

    @property
    def adds_up(self) -> bool:
        """Whether the shares sum to what they are of, within a tenth of that, or of a nat where it is less than one."""
        if self.baseline_log_prob is None:
            return True
        worth = self.log_prob - self.baseline_log_prob
        return abs(self.shares.sum().item() - worth) <= _CLOSE * max(1.0, abs(worth))

    @property
    def band(self) -> int:
        """The feature (from 0) with the largest sum of absolute shares."""
        return int(self.shares.abs().sum(0).argmax())

    def record(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        explained = None if self.baseline_log_prob is None else round(self.shares.sum().item(), 4)
        return {
            "number": self.number,
            "token": self.piece,
            "seconds": round(self.seconds, 3),
            "log_prob": round(self.log_prob, 4),
            "baseline_log_prob": None if self.baseline_log_prob is None else round(self.baseline_log_prob, 4),
            "sum_of_shares": explained,
            "adds_up": self.adds_up,
            "steps": self.steps,
            "centre_ms": round(1000 * self.centre_seconds, 1),
            "width_ms": round(1000 * self.width_seconds, 1),
            "strongest_feature": self.band + 1,
            "shares_by_frame": [round(value, 5) for value in self.shares.sum(1).tolist()],
            "absolute_shares_by_frame": [round(value, 5) for value in self.by_time.tolist()],
        }


def saliency_of(subject: Subject, numbers: Sequence[int], steps: int | None = None) -> list[Saliency]:
    """The shares of the features in the tokens `numbers` (from 1) of `subject`.

    With x the features, x' the recording's mean in each feature, and p the token's log-probability in its frame:

        share = (x - x') * sum over k of (b - a) * 2 u * the gradient of p at x' + u^2 * (x - x'),    u = (a + b) / 2

    over the pieces k from a to b of the way from 0 to 1, which adds up to p(x) - p(x') where these are small enough; with
    `steps` of 0, the gradient at x alone. The points u^2 of the way lie densely near x', since there layers that normalise
    make much of what little sound there is. Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks".

    Args:
        subject: what is looked at.
        numbers: of the tokens.
        steps: so many pieces of equal size for every token; None: for each token the pieces over which p changes by another
            amount than their shares say are halved, until all shares add up (`Saliency.adds_up`) or there are `_MOST_STEPS`.

    Raises:
        AudioError: no tokens were recognised.
        ConfigError: the recording is the same in every frame.
    """
    require_tokens(subject)
    way = _Way(subject)
    # Not by the differences from their mean, which is rounded.
    if steps != 0 and bool((subject.features == subject.features[0]).all()):
        raise ConfigError(f"{subject.name}: every frame is the same, so nothing in it tells tokens apart")
    found = []
    with progress_bar(f"gradients of {len(numbers)} tokens", len(numbers)) as advance:
        for number in numbers:
            found.append(_refined(way, number) if steps is None else _in_steps(way, number, steps, advance))
            if not steps:
                advance(1)
    return found


def _in_steps(way: _Way, number: int, steps: int, advance: Advance) -> Saliency:
    """The shares in a token, by so many steps; 0: the plain gradient."""
    if not steps:
        return way.saliency(number, way.gradients(number, way.subject.features[None])[0], 0)
    shares = torch.zeros_like(way.difference)
    for piece in way.measured(number, _evenly(steps)):
        shares += piece.shares
        advance(1 / steps)
    return way.saliency(number, shares, steps)


def _refined(way: _Way, number: int) -> Saliency:
    """The shares in a token, by steps that are small where its log-probability asks for that."""
    pieces = list(way.measured(number, _evenly(_FIRST_STEPS)))
    while True:
        found = way.saliency(number, torch.stack([piece.shares for piece in pieces]).sum(0), len(pieces))
        if found.adds_up or len(pieces) >= _MOST_STEPS:
            return found
        errors = [way.error(number, piece) for piece in pieces]
        # Several at once: they are computed together.
        coarse = [piece for piece, error in zip(pieces, errors, strict=True) if error >= max(errors) / 2]
        halves = [half for piece in coarse for half in piece.halves]
        pieces = [piece for piece in pieces if piece not in coarse]
        pieces += way.measured(number, halves)


def _evenly(steps: int) -> Iterator[tuple[float, float]]:
    return ((k / steps, (k + 1) / steps) for k in range(steps))


@dataclass(frozen=True, eq=False)
class _Piece:
    """A piece of the way, from `start` to `end`, with its shares (T, F)."""

    start: float
    end: float
    shares: Tensor

    @property
    def halves(self) -> list[tuple[float, float]]:
        """Where its halves start and end."""
        middle = (self.start + self.end) / 2
        return [(self.start, middle), (middle, self.end)]


class _Way:
    """The way from the mean spectrum of `subject`, 0, to its sound, 1: at u, u^2 of the difference is there."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.baseline = subject.features.mean(0).expand_as(subject.features)
        self.difference = subject.features - self.baseline
        self._log_probs: dict[float, Tensor] = {}

    def log_prob(self, number: int, place: float) -> float:
        """Of the token, at `place`; one forward pass tells it for all tokens."""
        if place not in self._log_probs:
            with torch.no_grad():
                point = self.baseline + place**2 * self.difference
                log_probs = log_probs_of(self.subject.model, point[None])[0]
            self._log_probs[place] = log_probs[torch.tensor(self.subject.frames), torch.tensor(self.subject.tokens)]
        return self._log_probs[place][number - 1].item()

    def measured(self, number: int, ends: Iterable[tuple[float, float]]) -> Iterator[_Piece]:
        """The pieces between `ends` with their shares in the token, by the gradient in the middle of each."""
        size = max(1, _FRAMES_AT_A_TIME // len(self.difference))
        remaining = iter(ends)
        while some := list(itertools.islice(remaining, size)):
            middles = torch.tensor([(start + end) / 2 for start, end in some])[:, None, None]
            gradients = self.gradients(number, self.baseline + middles**2 * self.difference)
            for (start, end), middle, gradient in zip(some, middles, gradients, strict=True):
                yield _Piece(start, end, (end - start) * 2 * middle * gradient * self.difference)

    def error(self, number: int, piece: _Piece) -> float:
        """By how much the shares of `piece` differ in sum from the change of the token's log-probability over it."""
        change = self.log_prob(number, piece.end) - self.log_prob(number, piece.start)
        return abs(piece.shares.sum().item() - change)

    def gradients(self, number: int, points: Tensor) -> Tensor:
        """The gradient (N, T, F) of the token's log-probability in its frame at each of `points` (N, T, F)."""
        # Each point is an utterance of a batch, none of which sees another.
        inputs = points.clone().requires_grad_()
        log_probs = log_probs_of(self.subject.model, inputs)
        value = log_probs[:, self.subject.frames[number - 1], self.subject.tokens[number - 1]].sum()
        return torch.autograd.grad(value, inputs)[0]

    def saliency(self, number: int, shares: Tensor, steps: int) -> Saliency:
        """What was found, with `shares` (T, F) by so many steps."""
        subject, place = self.subject, number - 1
        return Saliency(
            number=number,
            piece=subject.pieces[place],
            seconds=subject.times[place],
            log_prob=subject.log_probs[subject.frames[place], subject.tokens[place]].item(),
            baseline_log_prob=self.log_prob(number, 0.0) if steps else None,
            shares=shares,
            steps=steps,
            hop_seconds=subject.hop_seconds,
        )
