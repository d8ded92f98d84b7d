"""Beam decoding: the most probable texts, each with the probability of all its alignments that the beam kept.

The search is compiled, runs without Python's lock and takes several utterances at a time. It is loaded when a decoder is
built, because loading the compiler costs most of a second.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from asr.config import Section
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.log_probs import refuse_nan
from asr.text.tokenizer import Tokenizer


class BeamDecoderConfig(Section):
    """Prefix beam search without a language model."""

    kind: Literal["beam"] = "beam"
    width: int = Field(default=16, ge=1, le=4096, description="prefixes kept after each frame")
    num_best: int = Field(default=1, ge=1, description="different texts to return, at most; up to width")
    min_token_log_prob: float | None = Field(
        default=None, le=0, description="tokens less probable than this in a frame are not tried; null: all are"
    )

    @model_validator(mode="after")
    def _check_num_best(self) -> BeamDecoderConfig:
        if self.num_best > self.width:
            raise ValueError(f"num_best={self.num_best} texts cannot come out of a beam of width={self.width}")
        return self


class BeamDecoder:
    """Up to `num_best` different texts, scored with the log-probability of their tokens over all alignments kept.

    Token sequences that read the same (a space at the end, say) count once, with the score of the most probable.
    """

    def __init__(self, config: BeamDecoderConfig, tokenizer: Tokenizer) -> None:
        from asr.decoding import alignment, prefix_search

        self.config = config
        self.tokenizer = tokenizer
        self._prefix_search = prefix_search
        self._alignment = alignment

    def decode(self, log_probs: Tensor, num_frames: Tensor, hidden: Tensor | None = None) -> list[list[Hypothesis]]:
        """The readings of each utterance, as `Decoder.decode` says; as many at a time as torch has threads."""
        refuse_nan(log_probs, num_frames.to(log_probs.device))
        batch = log_probs.detach().to("cpu", torch.float32).contiguous().numpy()
        utterances = [batch[row, :length] for row, length in enumerate(num_frames.tolist())]
        num_threads = min(torch.get_num_threads(), len(utterances))
        if num_threads < 2:
            return [self._decode_one(utterance) for utterance in utterances]
        with ThreadPoolExecutor(num_threads) as pool:
            return list(pool.map(self._decode_one, utterances))

    def _decode_one(self, log_probs: npt.NDArray[np.float32]) -> list[Hypothesis]:
        search = self._prefix_search
        floor = self.config.min_token_log_prob
        tree, nodes, scores = search.search(log_probs, self.config.width, -math.inf if floor is None else floor)
        found: dict[str, Hypothesis] = {}
        for node, score in zip(nodes, scores[:, search.TOTAL].tolist(), strict=True):
            if len(found) == self.config.num_best or score == -math.inf:
                break
            path = search.spell(tree, node)
            tokens = path[1:, 0].tolist()
            text = self.tokenizer.decode(tokens)
            if text not in found:
                frames = self._alignment.surest_frames(log_probs, path).tolist() if tokens else []
                found[text] = Hypothesis(text=text, score=score, tokens=tuple(tokens), frames=tuple(frames))
        # Only a frame in which everything is impossible leaves nothing.
        return list(found.values()) or [Hypothesis(text="", score=-math.inf)]
