"""Terms of the loss with weights of their own, which only training needs: who speaks, and in which phones.

They stand beside the model, not in it. Their state is kept with the optimiser's, so that no model in use has any of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Section
from asr.corpus.utterance import Utterance
from asr.errors import TrainingError, first_of
from asr.lengths import frames_needed_by_ctc
from asr.model.acoustic import AcousticModel
from asr.text.lexicon import Lexicon
from asr.text.tokenizer import Tokenizer
from asr.training.terms import CtcTargets, Material, Term


class _HeadConfig(Section):
    layer: int | None = Field(default=None, ge=1, description="recurrent layer that it hears, from 1; null: the last")


class SpeakerConfig(_HeadConfig):
    """Telling the training speakers apart by the mean of the encoder's frames; or, if adversarial, unlearning to.

    An adversary learns to tell them apart while the layers below learn that it cannot, so that they hear words, not voices.

    Source: Ganin & Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation".
    """

    weight: float = Field(default=0.5, gt=0, description="of an utterance's cross entropy beside its CTC loss")
    adversarial: bool = Field(default=False, description="turn the gradient round below the head")


class PhonesConfig(_HeadConfig):
    """A second CTC loss over the phones of the text, through a head of its own; of what the lexicon can pronounce.

    Source: Fernández, Graves & Schmidhuber 2007, "Sequence labelling in structured domains with hierarchical recurrent
    neural networks"; Sanabria & Metze 2018, "Hierarchical Multitask Learning with CTC".
    """

    lexicon: str = Field(description="file with lines WORD PH1 PH2 ..., as CMUdict has them")
    weight: float = Field(default=0.3, gt=0, lt=1, description="its share of the loss")


class _Head(nn.Module):
    """Answers with one of `labels`, whose names are kept with its weights: numbers alone would fit others too."""

    def __init__(self, config: _HeadConfig, model: AcousticModel, labels: Sequence[str], num_others: int = 0) -> None:
        super().__init__()
        self.labels = list(labels)
        self.layers: tuple[int, ...] = (config.layer or len(model.encoder.layers),)
        self.output = nn.Linear(model.config.encoder.output_size, len(self.labels) + num_others)

    def get_extra_state(self) -> list[str]:
        """The labels."""
        return self.labels

    def set_extra_state(self, state: list[str]) -> None:
        """Compares the labels.

        Raises:
            RuntimeError: as torch does for other sizes.
        """
        if state != self.labels:
            raise RuntimeError(f"expected the labels {self.labels}, found {state}")


class SpeakerHead(_Head):
    """Cross entropy of the speaker; an utterance by somebody else than `speakers` has none."""

    name, is_share = "speaker", False

    def __init__(self, config: SpeakerConfig, model: AcousticModel, speakers: Sequence[str]) -> None:
        super().__init__(config, model, speakers)
        self.weight = config.weight
        self.adversarial = config.adversarial
        self.numbers = {speaker: number for number, speaker in enumerate(speakers)}

    def forward(self, material: Material) -> Tensor:
        """The loss in nats, summed over the utterances."""
        hidden, num_frames = material.layers[self.layers[0]]
        mean = hidden.float().sum(dim=1) / num_frames.to(hidden.device, non_blocking=True)[:, None]
        if self.adversarial:
            # Forward this is the mean, backward its negative.
            mean = 2 * mean.detach() - mean
        numbers = torch.tensor([self.numbers.get(speaker, -1) for speaker in material.speakers])
        numbers = numbers.to(hidden.device, non_blocking=True)
        return nn.functional.cross_entropy(self.output(mean).float(), numbers, ignore_index=-1, reduction="sum")


class PhoneHead(_Head):
    """CTC loss of the phones; an utterance that cannot be pronounced, or has too few frames for it, has none."""

    name, is_share = "phones", True

    def __init__(self, config: PhonesConfig, model: AcousticModel, lexicon: Lexicon) -> None:
        super().__init__(config, model, lexicon.phones, num_others=1)  # the blank
        self.weight = config.weight
        self.lexicon = lexicon

    def forward(self, material: Material) -> Tensor:
        """The loss in nats, summed over the utterances."""
        hidden, num_frames = material.layers[self.layers[0]]
        log_probs = torch.log_softmax(self.output(hidden).float(), dim=-1)
        targets = CtcTargets(material.texts, self.lexicon, log_probs.device)
        losses, _ = targets.losses(log_probs, num_frames)
        return losses.masked_fill((targets.lengths == 0).to(losses.device, non_blocking=True), 0.0).sum()


def make_heads(
    speaker: SpeakerConfig | None,
    phones: PhonesConfig | None,
    model: AcousticModel,
    tokenizer: Tokenizer,
    utterances: Iterable[tuple[Utterance, int]],
) -> tuple[list[Term], list[str]]:
    """The heads that are wanted, and what should be said of those training `utterances` that teach them nothing.

    With each utterance stands its number of samples; augmentation that speeds speech up may leave a few more too short.

    Raises:
        TextError: the lexicon cannot be used.
        TrainingError: there are no two speakers, or no utterance that can be pronounced.
    """
    if speaker is None and phones is None:
        return [], []
    lexicon = None if phones is None else Lexicon(Path(phones.lexicon), tokenizer.normalize)
    speakers: Counter[str] = Counter()
    words: Counter[str] = Counter()
    pronounced: list[tuple[int, int]] = []
    for utterance, num_samples in utterances:
        speakers[utterance.speaker] += 1
        if lexicon is not None and (ids := lexicon.encode(utterance.text)):
            pronounced.append((num_samples, frames_needed_by_ctc(ids)))
        elif lexicon is not None:
            words.update(lexicon.unknown_words(utterance.text))
    heads: list[Term] = []
    notes: list[str] = []
    if speaker is not None:
        names = sorted(speakers.keys() - {""})
        if len(names) < 2:
            raise TrainingError(f"loss.speaker: expected two speakers or more in the training data, found {len(names)}")
        heads.append(SpeakerHead(speaker, model, names))
        notes.append(f"speaker head: {len(names)} speakers" + _left_out(speakers[""], "no speaker is named"))
    if phones is not None and lexicon is not None:
        if not pronounced:
            raise TrainingError(f"loss.phones: {phones.lexicon} does not pronounce a single training text")
        heads.append(PhoneHead(phones, model, lexicon))
        common = first_of([word for word, _ in words.most_common()])
        num_samples, needed = torch.tensor(pronounced).T
        num_short = int((model.num_encoder_frames(num_samples, phones.layer) < needed).sum())
        notes.append(
            f"phone head: {lexicon.size - 1} phones"
            + _left_out(speakers.total() - len(pronounced), f"words that {phones.lexicon} lacks: {common}")
            + _left_out(num_short, "fewer encoder frames than their phones need")
        )
    return heads, notes


def _left_out(count: int, why: str) -> str:
    return f"; utterances that teach it nothing: {count} ({why})" if count else ""
