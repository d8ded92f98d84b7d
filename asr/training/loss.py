"""The loss of a batch: CTC at the top of the model, and the terms that a configuration adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field
from torch import Tensor, nn

from asr.config import Section
from asr.corpus.batches import Batch
from asr.features.augment import Augmenter
from asr.model.acoustic import AcousticModel
from asr.training.heads import PhonesConfig, SpeakerConfig
from asr.training.terms import (
    AttentionLoss,
    AttentionLossConfig,
    BottleneckPrice,
    Consistency,
    ConsistencyConfig,
    CtcTargets,
    IntermediateCtc,
    IntermediateCtcConfig,
    LabelSmoothing,
    Material,
    Term,
)


class LossConfig(Section):
    """What is learnt besides CTC at the top; null switches it off."""

    intermediate_ctc: IntermediateCtcConfig | None = None
    consistency: ConsistencyConfig | None = None
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the divergence from an even distribution over tokens, per frame, against over-confidence "
        "(Kim, Seltzer, Li & Zhao 2018); 0: off",
    )
    attention: AttentionLossConfig = AttentionLossConfig()
    speaker: SpeakerConfig | None = None
    phones: PhonesConfig | None = None


class Losses(NamedTuple):
    """What the loss of a batch is made of, in nats, summed over its utterances.

    Attributes:
        whole: what gradients are taken of.
        ctc: at the top of the model, of each utterance (B,), 0 where it is impossible; several views one after the other.
        impossible: utterances (B,) with fewer frames than CTC needs for their text, on the CPU.
        terms: value of each further term.
    """

    whole: Tensor
    ctc: Tensor
    impossible: Tensor
    terms: list[Tensor]


class Objective(nn.Module):
    """The loss as a module, which holds all that learns: a model, and `heads` that only training needs.

    Attributes:
        model: the model.
        heads: terms with weights of their own; their state is kept with the optimiser's, not in the model.
        terms: what is added to CTC, in this order.
        views: how often each utterance is masked anew.
    """

    def __init__(self, model: AcousticModel, config: LossConfig, heads: Sequence[Term] = ()) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleList(head for head in heads if isinstance(head, nn.Module))
        self.views = 1 if config.consistency is None else 2
        terms: list[Term] = []
        if config.intermediate_ctc is not None:
            terms.append(IntermediateCtc(config.intermediate_ctc, model))
        if config.label_smoothing:
            terms.append(LabelSmoothing(config.label_smoothing))
        if config.consistency is not None:
            terms.append(Consistency(config.consistency))
        if model.attention is not None:
            terms.append(AttentionLoss(config.attention, model, model.attention))
        if model.config.encoder.bottleneck is not None:
            terms.append(BottleneckPrice(model.config.encoder.bottleneck))
        self.terms = (*terms, *heads)
        last = len(model.encoder.layers)
        self.layers = tuple(sorted({last, *(layer for term in self.terms for layer in term.layers)}))

    def forward(self, batch: Batch, targets: CtcTargets, augmenter: Augmenter, update: int) -> Losses:
        """The losses of `batch`, whose waveforms are on the model's device; `targets` of all its views."""
        frames, divergence = self.model.after_layers(
            batch.waveforms, batch.num_samples, self.layers, augmenter, self.views
        )
        log_probs = self.model.log_probs(frames[-1].hidden)
        ctc, impossible = targets.losses(log_probs, frames[-1].num_frames)
        material = Material(
            layers=dict(zip(self.layers, frames, strict=True)),
            log_probs=log_probs,
            num_frames=frames[-1].num_frames,
            targets=targets,
            impossible=impossible,
            texts=batch.texts * self.views,
            speakers=batch.speakers * self.views,
            divergence=divergence,
            update=update,
        )
        whole, values = ctc.sum(), []
        for term in self.terms:
            value = term(material)
            whole = (1 - term.weight) * whole if term.is_share else whole
            whole = whole + term.weight * value
            values.append(value.detach())
        return Losses(whole, ctc.detach(), impossible, values)
