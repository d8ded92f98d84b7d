"""Decoding with the attention decoder: the texts that it finds most probable, alone or together with CTC.

Texts grow token by token, all of a beam by one at a time. Together, each beginning of a text is scored by both: by attention
with the probability of its tokens, by CTC with that of all texts that begin so. CTC keeps attention from skipping, repeating
and ending early, all of which an alignment forbids.

Source: Watanabe et al. 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", section III.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from asr.compiled import Floats
from asr.config import Section
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.log_probs import refuse_nan
from asr.model.attention import END, AttentionDecoder
from asr.text.tokenizer import Tokenizer

# Together with CTC, of how many tokens per text in the beam CTC is asked: so many times the width, the best for attention.
_TRIED_PER_WIDTH = 2
# What is impossible for CTC counts as this: attention may say it, and it must have an alignment.
_LOWEST = -1e4


class _SearchConfig(Section):
    width: int = Field(default=8, ge=1, le=4096, description="texts kept after each token")
    num_best: int = Field(default=1, ge=1, description="different texts to return, at most; up to width")

    @model_validator(mode="after")
    def _check_num_best(self) -> _SearchConfig:
        if self.num_best > self.width:
            raise ValueError(f"num_best={self.num_best} texts cannot come out of a beam of width={self.width}")
        return self


_LENGTH_POWER = "scores are divided by (tokens + 1, for the end) to this power: 0 favours short texts, 1 takes the mean"


class AttentionDecoderConfig(_SearchConfig):
    """Beam search over the attention decoder's tokens; the model must have one (section `attention`)."""

    kind: Literal["attention"] = "attention"
    # Without it, a sentence cut short was the usual mistake: it has fewer tokens to be unsure of.
    length_power: float = Field(default=0.5, ge=0, le=1, description=_LENGTH_POWER)


class JointDecoderConfig(_SearchConfig):
    """Beam search over what the attention decoder and CTC say together; the model must have both (section `attention`)."""

    kind: Literal["joint"] = "joint"
    ctc_weight: float = Field(default=0.3, gt=0, lt=1, description="CTC's share of the score")
    # CTC knows by itself that speech is left over.
    length_power: float = Field(default=0.0, ge=0, le=1, description=_LENGTH_POWER)


@dataclass(frozen=True)
class _Text:
    """The beginning of a text: tokens, attention's log-probability, the score with CTC's share, alignments (S + 1, 2)."""

    tokens: tuple[int, ...] = ()
    attention: float = 0.0
    score: float = 0.0
    alignments: Floats | None = None
    frames_needed: int = 0

    @property
    def last(self) -> int:
        return self.tokens[-1] if self.tokens else END


class AttentionSearch:
    """Up to `num_best` different texts, scored as the configuration says, each token at its frame in CTC's alignment.

    No text is longer than CTC can say in the frames that there are. Each utterance is searched by itself, so that no result
    depends on others.
    """

    def __init__(
        self, config: AttentionDecoderConfig | JointDecoderConfig, tokenizer: Tokenizer, decoder: AttentionDecoder
    ) -> None:
        from asr.decoding import alignment, prefix_scores

        self.config = config
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.vocabulary: frozenset[str] | None = None
        self.ctc_weight = config.ctc_weight if isinstance(config, JointDecoderConfig) else 0.0
        self._frames_of_text = alignment.frames_of_text
        self._prefix_scores = prefix_scores

    @torch.inference_mode()
    def decode(self, log_probs: Tensor, num_frames: Tensor, hidden: Tensor | None = None) -> list[list[Hypothesis]]:
        """The readings of each utterance, as `Decoder.decode` says."""
        if hidden is None:
            raise TypeError("attention looks at the encoder's frames: they must be given")
        refuse_nan(log_probs, num_frames.to(log_probs.device))
        batch = log_probs.detach().to("cpu", torch.float32).clamp(min=_LOWEST).contiguous().numpy()
        return [
            self._decode_one(frames[None, :length].float(), batch[row, :length])
            for row, (frames, length) in enumerate(zip(hidden, num_frames.tolist(), strict=True))
        ]

    def _decode_one(self, frames: Tensor, log_probs: npt.NDArray[np.float32]) -> list[Hypothesis]:
        if len(log_probs) == 0:
            return [Hypothesis(text="", score=0.0)]
        found: dict[str, tuple[float, _Text]] = {}
        for score, ended in self._search(frames, log_probs):
            text = self.tokenizer.decode(ended.tokens)
            if text not in found or found[text][0] < score:
                found[text] = score, ended
        best = sorted(found.items(), key=lambda item: -item[1][0])[: self.config.num_best]
        return [
            Hypothesis(
                text=text, score=score, tokens=ended.tokens, frames=self._frames_of_text(log_probs, ended.tokens)
            )
            for text, (score, ended) in best
        ]

    def _search(self, frames: Tensor, log_probs: npt.NDArray[np.float32]) -> list[tuple[float, _Text]]:
        """The ended texts with their scores, among them the best."""
        memory = self.decoder.memory(frames, torch.tensor([len(log_probs)]))
        state = self.decoder.start(memory)
        beam = [_Text(alignments=self._prefix_scores.empty_prefix(log_probs) if self.ctc_weight else None)]
        ended: list[tuple[float, _Text]] = []
        while beam and not self._is_decided(beam, ended, len(log_probs)):
            last = torch.tensor([text.last for text in beam], device=frames.device)
            following, after = self.decoder.step(last, state, memory)
            candidates = [
                (row, token, text)
                for row, likely in enumerate(following.cpu().double().numpy())
                for token, text in self._followed(beam[row], likely, log_probs)
            ]
            # Sorting is stable: among equals the better beginning goes first, then the end, then the lower token.
            best = sorted(candidates, key=lambda candidate: -candidate[2].score)[: self.config.width]
            ended += [(self._normalized(text.score, len(text.tokens)), text) for _, token, text in best if token == END]
            going_on = [(row, text) for row, token, text in best if token != END]
            beam = [text for _, text in going_on]
            state = after.rows(torch.tensor([row for row, _ in going_on], dtype=torch.int64, device=frames.device))
        return ended

    def _normalized(self, score: float, num_tokens: int) -> float:
        return score / float((num_tokens + 1) ** self.config.length_power)

    def _is_decided(self, beam: list[_Text], ended: list[tuple[float, _Text]], num_frames: int) -> bool:
        """Whether nothing that the beam may become can be better: scores only fall, and lengths are limited."""
        if len(ended) < self.config.num_best:
            return False
        hope = self._normalized(max(text.score for text in beam), num_frames)
        # Tokens that read the same, as with a space at the end, are one text.
        good = {self.tokenizer.decode(text.tokens) for score, text in ended if score >= hope}
        return len(good) >= self.config.num_best

    def _followed(
        self, text: _Text, likely: npt.NDArray[np.float64], log_probs: npt.NDArray[np.float32]
    ) -> list[tuple[int, _Text]]:
        """What `text` may become, by the end or one token, for which attention has the log-probabilities `likely` (V,)."""
        needed = np.full(len(likely), text.frames_needed + 1)
        needed[text.last] += 1
        needed[END] = text.frames_needed
        attention = np.where(needed <= len(log_probs), text.attention + likely, -np.inf)
        num_tried = self.config.width * (_TRIED_PER_WIDTH if self.ctc_weight else 1)
        tried = np.argsort(-attention[1:], kind="stable")[:num_tried] + 1
        tried = np.concatenate([[END], tried[attention[tried] > -np.inf]])
        scores = attention[tried]
        longer: Sequence[Floats | None] = [None] * len(tried)
        if text.alignments is not None:
            whole = np.logaddexp(text.alignments[-1, 0], text.alignments[-1, 1])
            extended, begins = self._prefix_scores.extended(log_probs, text.alignments, text.last, tried[1:])
            scores = (1 - self.ctc_weight) * scores + self.ctc_weight * np.concatenate([[whole], begins])
            longer = (text.alignments, *extended)
        return [
            (token, _Text(_more(text.tokens, token), float(attention[token]), score, alignments, int(needed[token])))
            for token, score, alignments in zip(tried.tolist(), scores.tolist(), longer, strict=True)
        ]


def _more(tokens: tuple[int, ...], token: int) -> tuple[int, ...]:
    return tokens if token == END else (*tokens, token)
