"""What can be learnt besides CTC at the top of the model: the terms of the loss, each with its own section.

A term is given all that was computed of a batch and answers with a sum over its utterances, in nats. Those with weights of
their own, which only training needs, stand in `heads.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.config import Section
from asr.lengths import frames_needed_by_ctc, valid_mask
from asr.model.acoustic import AcousticModel
from asr.model.attention import AttentionDecoder
from asr.model.blocks import BottleneckConfig, Frames


class Speller(Protocol):
    """Whatever makes token ids of a text: a tokenizer, a lexicon."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, from 1 on."""


class CtcTargets:
    """The token ids of some utterances (B, U), zero behind their `lengths` (B,), and which of them CTC can say at all."""

    def __init__(self, texts: Sequence[str], speller: Speller, device: torch.device) -> None:
        tokens = [speller.encode(text) for text in texts]
        self.lengths = torch.tensor([len(ids) for ids in tokens])
        self.frames_needed = torch.tensor([frames_needed_by_ctc(ids) for ids in tokens])
        padded = pad_sequence([torch.tensor(ids, dtype=torch.int64) for ids in tokens], batch_first=True)
        self.tokens = padded.to(device, non_blocking=True)

    def num_counted(self, which: Tensor | None = None) -> int:
        """Tokens that losses are divided by, of all utterances or of those `which` (B,): an empty text counts as one."""
        lengths = self.lengths if which is None else self.lengths[which]
        return int(lengths.clamp(min=1).sum())

    def losses(self, log_probs: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """CTC loss of each utterance (B,) in nats, 0 where it is impossible, and which are impossible (B,), on the CPU.

        `log_probs` (B, S, V) must be float32: in half precision the sums over paths lose the small ones.
        """
        num_frames = num_frames.cpu()
        losses = nn.functional.ctc_loss(
            log_probs.transpose(0, 1),
            self.tokens,
            num_frames,
            self.lengths,
            blank=0,
            reduction="none",
            zero_infinity=True,
        )
        impossible = num_frames < self.frames_needed
        return losses.masked_fill(impossible.to(losses.device, non_blocking=True), 0.0), impossible


@dataclass(frozen=True)
class Material:
    """What was computed of a batch, or of several views of it one after the other, for the terms of the loss.

    Attributes:
        layers: the encoder's frames after each layer that a term asked for, and after the last.
        log_probs: of tokens at the top (B, S, V), float32.
        num_frames: valid frames at the top (B,).
        targets: the tokens.
        impossible: utterances (B,) that CTC cannot say, on the CPU.
        texts, speakers: one each per utterance.
        divergence: what the encoder's bottlenecks let through of each utterance (B,), in nats.
        update: number of the update, from 0.
    """

    layers: dict[int, Frames]
    log_probs: Tensor
    num_frames: Tensor
    targets: CtcTargets
    impossible: Tensor
    texts: Sequence[str]
    speakers: Sequence[str]
    divergence: Tensor
    update: int

    @property
    def num_frames_said(self) -> Tensor:
        """Valid frames at the top (B,) of what CTC can say: none of the others, from which nothing should be learnt."""
        return self.num_frames.masked_fill(self.impossible.to(self.num_frames.device, non_blocking=True), 0)


class Term(Protocol):
    """One summand of the loss.

    Attributes:
        name: for the log.
        weight: what its value counts.
        is_share: whether what stands before it counts that much less, so that the weight is a share of the whole.
        layers: recurrent layers, counted from 1, whose frames it needs.
    """

    name: str
    weight: float
    is_share: bool
    layers: tuple[int, ...]

    def __call__(self, material: Material) -> Tensor:
        """The loss in nats, summed over the utterances."""


class IntermediateCtcConfig(Section):
    """A CTC loss on lower layers too, through the same head: they learn earlier, and the top layers refine.

    Source: Lee & Watanabe 2021, "Intermediate Loss Regularization for CTC-based Speech Recognition".
    """

    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="recurrent layers, counted from 1, below the last"
    )
    weight: float = Field(default=0.3, gt=0, lt=1, description="their share of the loss, together")


class IntermediateCtc:
    """The mean CTC loss of lower layers."""

    name, is_share = "intermediate_ctc", True

    def __init__(self, config: IntermediateCtcConfig, model: AcousticModel) -> None:
        self.weight = config.weight
        self.layers = tuple(sorted(set(config.layers)))
        self.model = model

    def __call__(self, material: Material) -> Tensor:
        """The loss in nats, summed over the utterances."""
        each = [
            material.targets.losses(self.model.log_probs(frames.hidden), frames.num_frames)[0]
            for frames in (material.layers[layer] for layer in self.layers)
        ]
        # Below a pyramid there are more frames, enough for what the top cannot say.
        unsaid = material.impossible.to(each[0].device, non_blocking=True)
        return torch.stack(each).masked_fill(unsaid, 0.0).mean(0).sum()


class LabelSmoothing:
    """How far the distributions over tokens are from an even one."""

    name, is_share = "label_smoothing", True
    layers: tuple[int, ...] = ()

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, material: Material) -> Tensor:
        """The divergence in nats, summed over frames."""
        return divergence_from_even(material.log_probs, material.num_frames_said)


class ConsistencyConfig(Section):
    """Two differently masked views of each utterance, each of which learns from the text and from the other.

    The divergence of the two distributions over tokens, summed over frames and averaged over both directions, is added to
    the mean of their CTC losses. It takes twice the computing, and strong masks in time make the views differ.

    Source: Yao et al. 2024, "CR-CTC: Consistency regularization on CTC for improved speech recognition".
    """

    weight: float = Field(default=0.2, gt=0, description="of the divergence beside the CTC loss")


class Consistency:
    """How much two views of the same utterances disagree."""

    name, is_share = "consistency", False
    layers: tuple[int, ...] = ()

    def __init__(self, config: ConsistencyConfig) -> None:
        self.weight = config.weight

    def __call__(self, material: Material) -> Tensor:
        """The divergence in nats, summed over frames."""
        return divergence_of_views(material.log_probs, material.num_frames_said)


class AttentionLossConfig(Section):
    """How the attention decoder learns, where the model has one (section `attention`).

    Source: Kim, Hori & Watanabe 2017, "Joint CTC-attention based end-to-end speech recognition using multi-task learning".
    """

    weight: float = Field(default=0.3, gt=0, lt=1, description="its share of the loss, beside CTC's")
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="of each token's target that is spread evenly over all tokens"
    )
    sampling: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="how often a token is followed up as the decoder drew it, not as the text has it (scheduled sampling, "
        "Bengio et al. 2015), against learning to rely on what went before",
    )


class AttentionLoss:
    """Cross entropy of the attention decoder's tokens and of the text's end, where CTC can say the text."""

    name, is_share = "attention", True
    layers: tuple[int, ...] = ()

    def __init__(self, config: AttentionLossConfig, model: AcousticModel, decoder: AttentionDecoder) -> None:
        self.config = config
        self.weight = config.weight
        self.model = model
        self.decoder = decoder

    def __call__(self, material: Material) -> Tensor:
        """The loss in nats, summed over the utterances."""
        targets = material.targets
        hidden = material.layers[len(self.model.encoder.layers)].hidden
        logits = self.decoder(hidden, material.num_frames, targets.tokens, sampling=self.config.sampling)
        # The padding is 0, as the end is, so that one more column holds the end of the longest text too.
        wanted = nn.functional.pad(targets.tokens, (0, 1))
        losses = nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted, reduction="none", label_smoothing=self.config.label_smoothing
        )
        counts = valid_mask(targets.lengths + 1, wanted.shape[1]) & ~material.impossible[:, None]
        return losses.masked_fill(~counts.to(losses.device, non_blocking=True), 0.0).sum()


class BottleneckPrice:
    """What the encoder's bottlenecks let through; its gradient grows from nothing in the first updates.

    Source: Bowman et al. 2016, "Generating Sentences from a Continuous Space", section 3.1.
    """

    name, is_share = "bottleneck", False
    layers: tuple[int, ...] = ()

    def __init__(self, config: BottleneckConfig) -> None:
        self.weight = config.weight
        self.annealing_updates = config.annealing_updates

    def __call__(self, material: Material) -> Tensor:
        """The divergence in nats, summed over frames; what is annealed is its gradient, not what is reported."""
        unsaid = material.impossible.to(material.divergence.device, non_blocking=True)
        divergence = material.divergence.masked_fill(unsaid, 0.0).sum()
        share = 1.0 if material.update >= self.annealing_updates else material.update / self.annealing_updates
        return torch.lerp(divergence.detach(), divergence, share)


def divergence_from_even(log_probs: Tensor, num_frames: Tensor) -> Tensor:
    """Kullback-Leibler divergence of `log_probs` (B, S, V) from an even distribution, in nats, summed over valid frames.

    The direction matters: the other way round it has no bound, and its pull does not fade where the network is sure.
    """
    mask = valid_mask(num_frames, log_probs.shape[1], log_probs.device)
    divergence = (log_probs.exp() * log_probs).sum(-1) + math.log(log_probs.shape[-1])
    return divergence.masked_fill(~mask, 0.0).sum()


def divergence_of_views(log_probs: Tensor, num_frames: Tensor) -> Tensor:
    """How much two views of the same utterances disagree, in nats, summed over their valid frames.

    `log_probs` (2B, S, V) holds the first views, then the second; of each pair both learn from the other as it is, so the
    divergence counts once from each side, as the CTC losses of both views do.
    """
    mask = valid_mask(num_frames, log_probs.shape[1], log_probs.device)[..., None]
    others = torch.cat(log_probs.detach().chunk(2)[::-1])
    return nn.functional.kl_div(log_probs, others, reduction="none", log_target=True).masked_fill(~mask, 0.0).sum()
