"""How strongly a loss, or one token, hangs on the state of each layer at each moment: gradients through time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asr.inspection.gates import rounded
from asr.inspection.observe import Track, log_probs_of, observed, tracks_of
from asr.inspection.subject import Subject, require_tokens
from asr.model.acoustic import AcousticModel

# Frames of all tokens that are computed at once: bounds the memory for long recordings.
_FRAMES_AT_A_TIME = 4000


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """The gradients of one direction of one layer over a recording.

    The state is all that the cell hands on to its next frame (of an LSTM h and the memory); the gradient is the whole one,
    through the frame's own output and through all later states.

    Attributes:
        layer: its number, from 1.
        direction: "forward" or "backward".
        loss: (S,) norm of the gradient of the CTC loss, in nats per unit of the state.
        tokens: (U, S) norm of the gradient of each token's log-probability in its own frame.
        frames: of the tokens, the first of this layer's that each comes from.
        frame_seconds: duration of a frame.
        frames_of_token: how many frames of this layer make one of the last, where tokens are; several below a pyramid.
    """

    layer: int
    direction: str
    loss: Tensor
    tokens: Tensor
    frames: tuple[int, ...]
    frame_seconds: float
    frames_of_token: int = 1

    @property
    def name(self) -> str:
        """Such as `2 forward`."""
        return f"{self.layer} {self.direction}"

    def reach_seconds(self, token: int) -> float | None:
        """The distance within which half of the gradient of `token` (from 0) lies, in the direction that was read before.

        The norms of its own frame (of all that it was joined from, below a pyramid) and of all frames read before are
        summed, nearest first, up to half of their sum; within a frame it counts evenly. None where no gradient arrives.

        Example:
            >>> norms = torch.tensor([[0.0, 1.0, 1.0, 2.0, 0.0]])
            >>> one = Gradients(layer=1, direction="forward", loss=norms[0], tokens=norms, frames=(3,), frame_seconds=0.5)
            >>> one.reach_seconds(0)
            0.5
        """
        frame = self.frames[token]
        row = self.tokens[token].double()
        behind = row[: frame + self.frames_of_token].flip(0) if self.direction == "forward" else row[frame:]
        sums = behind.cumsum(0)
        half = sums[-1] / 2
        if half == 0:
            return None
        place = int((sums < half).sum())
        inside = 1 - (sums[place] - half) / behind[place]
        return (place + inside.item()) * self.frame_seconds

    def record(self, token: int) -> dict[str, Any]:
        """The numbers, for JSON, with the vanishing of the chosen `token` (from 0)."""
        reach = self.reach_seconds(token)
        return {
            "layer": self.layer,
            "direction": self.direction,
            "frame_seconds": self.frame_seconds,
            "mean_norm_of_loss": self.loss.mean().item(),
            "loss_by_frame": rounded(self.loss, 6),
            "token_by_frame": [float(f"{value:.4g}") for value in self.tokens[token].tolist()],
            "token_reach_ms": None if reach is None else round(1000 * reach, 1),
            "median_reach_ms": self.median_reach_ms,
        }

    @property
    def median_reach_ms(self) -> float | None:
        """The median of `reach_seconds` over all tokens, in milliseconds."""
        reaches = [reach for token in range(len(self.frames)) if (reach := self.reach_seconds(token)) is not None]
        return round(1000 * torch.tensor(reaches).quantile(0.5).item(), 1) if reaches else None


def ctc_loss(log_probs: Tensor, tokens: Sequence[int]) -> Tensor:
    """The CTC loss of `tokens`, in nats, under `log_probs` (1, S, V)."""
    lengths = torch.tensor([log_probs.shape[1]]), torch.tensor([len(tokens)])
    return nn.functional.ctc_loss(log_probs.transpose(0, 1), torch.tensor([tokens]), *lengths, reduction="sum")


def state_gradient_norms(
    model: AcousticModel, features: Tensor, objective: Callable[[Tensor], Tensor]
) -> list[tuple[Track, Tensor]]:
    """For each layer and direction, the norms (S, B) of the gradient of `objective` with respect to each frame's state.

    Args:
        model: made by `observed`.
        features: (B, T, F), all of full length.
        objective: gives a number for log-probabilities (B, S, V).
    """
    # A leaf that needs a gradient, so that there is a graph down to the first state.
    value = objective(log_probs_of(model, features.clone().requires_grad_()))
    tracks = tracks_of(model)
    states = [state for track in tracks for frame in track.states for state in frame]
    gradients = iter(torch.autograd.grad(value, states, materialize_grads=True))
    return [(track, _norms(track, gradients)) for track in tracks]


def _norms(track: Track, gradients: Iterator[Tensor]) -> Tensor:
    squares = [sum(next(gradients).square().sum(-1) for _ in frame) for frame in track.states]
    return torch.stack(squares).sqrt()  # type: ignore[arg-type]


def gradients_of(subject: Subject, layers: Sequence[int]) -> tuple[float, list[Gradients]]:
    """The CTC loss of the text of `subject` in nats, and the gradients of `layers` (from 1).

    Raises:
        AudioError: no tokens were recognised.
    """
    require_tokens(subject)
    model, features = observed(subject.model), subject.features[None]
    of_loss = state_gradient_norms(model, features, lambda log_probs: ctc_loss(log_probs, subject.tokens))
    parts = list(_of_tokens(model, subject))
    of_tokens = [torch.cat([part[place] for part in parts], dim=1).T for place in range(len(of_loss))]
    loss = ctc_loss(subject.log_probs[None], subject.tokens).item()
    return loss, [
        Gradients(
            layer=track.layer,
            direction=track.direction,
            loss=norms[:, 0],
            tokens=tokens,
            frames=tuple(frame * subject.frames_of_layer(track.layer) for frame in subject.frames),
            frame_seconds=subject.frame_seconds / subject.frames_of_layer(track.layer),
            frames_of_token=subject.frames_of_layer(track.layer),
        )
        for (track, norms), tokens in zip(of_loss, of_tokens, strict=True)
        if track.layer in layers
    ]


def _of_tokens(model: AcousticModel, subject: Subject) -> Iterator[list[Tensor]]:
    """For each layer and direction the norms (S, U'), for as many tokens at once as fit.

    Each token is an utterance of a batch, none of which sees another.
    """
    size = max(1, _FRAMES_AT_A_TIME // len(subject.log_probs))
    chosen = zip(subject.frames, subject.tokens, strict=True)
    while places := list(itertools.islice(chosen, size)):

        def objective(log_probs: Tensor, places: list[tuple[int, int]] = places) -> Tensor:
            return torch.stack([log_probs[row, frame, token] for row, (frame, token) in enumerate(places)]).sum()

        features = subject.features.expand(len(places), -1, -1)
        yield [norms for _, norms in state_gradient_norms(model, features, objective)]
