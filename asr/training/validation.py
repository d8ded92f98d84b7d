"""What the model makes of the development set while it learns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from asr.corpus.batches import Batch
from asr.recognizer.recognizer import Recognizer
from asr.scoring import ErrorCounts, count_characters, count_words
from asr.training.terms import CtcTargets


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The result of one pass over the development set.

    Attributes:
        words, characters: error counts of the greedy best readings.
        loss: CTC loss in nats per token, of the utterances that the vocabulary can spell; NaN where there is none.
        tokens: of the utterances that have a loss; those with fewer frames than CTC needs have none.
        utterances: how many were heard.
        unspellable: how many have characters that the vocabulary lacks; they count in the error rates, not in the loss.
    """

    words: ErrorCounts
    characters: ErrorCounts
    loss: float
    tokens: int
    utterances: int
    unspellable: int

    @property
    def rank(self) -> tuple[float, float]:
        """What models are chosen by, the lowest first: the word error rate and, where that is equal, the loss."""
        return choosing_rate(self.words.rate), self.loss

    def __add__(self, other: Validation) -> Validation:
        """The result of both passes together."""
        tokens = self.tokens + other.tokens
        return Validation(
            words=self.words + other.words,
            characters=self.characters + other.characters,
            loss=_mean(sum(each.loss * each.tokens for each in (self, other) if each.tokens), tokens),
            tokens=tokens,
            utterances=self.utterances + other.utterances,
            unspellable=self.unspellable + other.unspellable,
        )


def choosing_rate(wer: float) -> float:
    """The word error rate `wer` as models are chosen by it.

    From 100 % on all rates are equal: a model that writes nothing has that, one that begins to learn has more.
    """
    return min(wer, 1.0)


def validate(recognizer: Recognizer, batches: Iterable[Batch]) -> Validation:
    """Error rates and loss of `recognizer` on `batches`."""
    words = characters = ErrorCounts()
    loss, num_tokens, utterances, unspellable = 0.0, 0, 0, 0
    for batch in batches:
        log_probs, num_frames, hidden = recognizer.encode(batch)
        for text, hypotheses in zip(batch.texts, recognizer.decoder.decode(log_probs, num_frames, hidden), strict=True):
            reference = recognizer.normalize(text)
            words += count_words(reference, hypotheses[0].text)
            characters += count_characters(reference, hypotheses[0].text)
        spelt = [index for index, text in enumerate(batch.texts) if not recognizer.tokenizer.complaint(text)]
        utterances += len(batch.texts)
        unspellable += len(batch.texts) - len(spelt)
        if spelt:
            targets = CtcTargets([batch.texts[index] for index in spelt], recognizer.tokenizer, log_probs.device)
            losses, impossible = targets.losses(log_probs[spelt], num_frames[spelt])
            loss += float(losses.sum())
            num_tokens += targets.num_counted(~impossible)
    return Validation(
        words=words,
        characters=characters,
        loss=_mean(loss, num_tokens),
        tokens=num_tokens,
        utterances=utterances,
        unspellable=unspellable,
    )


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan
