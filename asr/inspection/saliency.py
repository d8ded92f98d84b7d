"""What in the sound a token rests on: its log-probability taken apart into shares of the input's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asr.errors import ConfigError
from asr.inspection.observe import log_probs_of
from asr.inspection.subject import Subject, require_tokens
from asr.terminal import progress_bar

_CLOSE = 0.1
# Frames of all tokens that are computed at once: bounds the memory for long recordings.
_FRAMES_AT_A_TIME = 20_000


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
        hop_seconds: duration of a feature frame.
    """

    number: int
    piece: str
    seconds: float
    log_prob: float
    baseline_log_prob: float | None
    shares: Tensor
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
            "centre_ms": round(1000 * self.centre_seconds, 1),
            "width_ms": round(1000 * self.width_seconds, 1),
            "strongest_feature": self.band + 1,
            "shares_by_frame": [round(value, 5) for value in self.shares.sum(1).tolist()],
            "absolute_shares_by_frame": [round(value, 5) for value in self.by_time.tolist()],
        }


def saliency_of(subject: Subject, numbers: Sequence[int], steps: int) -> list[Saliency]:
    """The shares of the features in the tokens `numbers` (from 1) of `subject`.

    With x the features, x' the recording's mean in each feature, and p the token's log-probability in its frame:

        share = (x - x') * mean over k of 2 u * the gradient of p at x' + u^2 * (x - x'),    u = (k - 1/2) / steps

    with k = 1 ... steps, which adds up to p(x) - p(x') when `steps` is large; with `steps` of 0, the gradient at x alone.
    The points u^2 of the way lie densely near x', since there layers that normalise make much of what little sound there is.
    Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks".

    Raises:
        AudioError: no tokens were recognised.
        ConfigError: the recording is the same in every frame.
    """
    require_tokens(subject)
    features = subject.features
    baseline = features.mean(0).expand_as(features)
    if steps and torch.equal(features, baseline):
        raise ConfigError(f"{subject.name}: every frame is the same, so nothing in it tells tokens apart")
    places = torch.tensor(numbers) - 1
    tokens, frames = torch.tensor(subject.tokens)[places], torch.tensor(subject.frames)[places]
    evenly = [(k - 0.5) / steps for k in range(1, steps + 1)]
    points = [(u**2, 2 * u / steps) for u in evenly] or [(1.0, 1.0)]
    gradients = torch.zeros(len(tokens), *features.shape)
    with progress_bar(f"gradients of {len(tokens)} tokens", len(points)) as advance:
        for distance, weight in points:
            point = baseline + distance * (features - baseline)
            gradients += weight * _token_gradients(subject, point, tokens, frames)
            advance(1)
    shares = gradients * (features - baseline) if steps else gradients
    with torch.no_grad():
        without = log_probs_of(subject.model, baseline[None])[0]
    return [
        Saliency(
            number=number,
            piece=subject.pieces[number - 1],
            seconds=subject.times[number - 1],
            log_prob=subject.log_probs[frame, token].item(),
            baseline_log_prob=without[frame, token].item() if steps else None,
            shares=share,
            hop_seconds=subject.hop_seconds,
        )
        for number, token, frame, share in zip(numbers, tokens, frames, shares, strict=True)
    ]


def _token_gradients(subject: Subject, features: Tensor, tokens: Tensor, frames: Tensor) -> Tensor:
    """The gradient (U, T, F) of each token's log-probability in its frame at `features` (T, F)."""
    parts: list[Tensor] = []
    size = max(1, _FRAMES_AT_A_TIME // len(features))
    # Each token is an utterance of a batch, none of which sees another.
    for some_tokens, some_frames in zip(torch.split(tokens, size), torch.split(frames, size), strict=True):
        inputs = features.expand(len(some_tokens), -1, -1).clone().requires_grad_()
        log_probs = log_probs_of(subject.model, inputs)
        value = log_probs[torch.arange(len(some_tokens)), some_frames, some_tokens].sum()
        parts += torch.autograd.grad(value, [inputs])
    return torch.cat(parts)
