"""Beam decoding: the most probable texts, each with the probability of all its alignments that the beam kept.

The search is compiled, runs without Python's lock and takes several utterances at a time. It is loaded when a decoder is
built, because loading the compiler costs most of a second.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
        default=None, le=0, description="tokens less probable than this in a frame make no new prefixes; null: all do"
    )

    @model_validator(mode="after")
    def _check_num_best(self) -> BeamDecoderConfig:
        if self.num_best > self.width:
            raise ValueError(f"num_best={self.num_best} texts cannot come out of a beam of width={self.width}")
        return self


class LexiconDecoderConfig(BeamDecoderConfig):
    """Prefix beam search that writes nothing but given words, the more probably the more often they are given.

    What the network knows of how frequent tokens are, it has from its own training texts, and the words say it once more;
    so it is partly divided out: in every frame, the probabilities of all tokens but the blank by their frequencies in the
    words to the power `prior_weight`, as hybrid models divide those of states (Bourlard and Morgan 1994, "Connectionist
    Speech Recognition: A Hybrid Approach"). A token gains by it in each frame that it lasts. The idea to divide CTC's
    probabilities, but those of whole texts by what a language model of tokens says of them, is that of Kanda, Lu and Kawai
    2016, "Maximum a posteriori Based Decoding for CTC Acoustic Models".
    """

    kind: Literal["lexicon"] = "lexicon"  # type: ignore[assignment]
    words: Path = Field(
        description="file of the words: a list, any text that has them, or WORD<TAB>NUMBER; .gz is unpacked"
    )
    weight: float = Field(default=0.4, ge=0, description="of the words' log-probabilities beside the frames'; 0: none")
    prior_weight: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="of the tokens' log-probabilities in the words, taken off the frames'; 0: none",
    )
    width: int = Field(default=128, ge=1, le=4096, description="prefixes kept after each frame")


class BeamDecoder:
    """Up to `num_best` different texts, scored with the log-probability of their tokens over all alignments kept.

    Token sequences that read the same (a space at the end, say) count once, with the score of the most probable. With a
    lexicon, texts whose last word is not finished do not count; where there are no others, they are cut off where a word
    could last end, and keep the score of the whole.
    """

    def __init__(self, config: BeamDecoderConfig, tokenizer: Tokenizer) -> None:
        from asr.decoding import alignment, prefix_search, word_tree

        self.config = config
        self.tokenizer = tokenizer
        self._prefix_search = prefix_search
        self._alignment = alignment
        self._ended = word_tree.ENDED
        self._words = word_tree.ANYTHING
        self._priors: Tensor | None = None
        self.vocabulary: frozenset[str] | None = None
        if isinstance(config, LexiconDecoderConfig):
            counts = word_tree.count_words(config.words, tokenizer)
            self.vocabulary = frozenset(counts)
            self._words = word_tree.word_tree(counts, tokenizer, config.weight)
            self._priors = torch.from_numpy(config.prior_weight * word_tree.log_priors(counts, tokenizer)).float()

    def decode(self, log_probs: Tensor, num_frames: Tensor, hidden: Tensor | None = None) -> list[list[Hypothesis]]:
        """The readings of each utterance, as `Decoder.decode` says; as many at a time as torch has threads."""
        refuse_nan(log_probs, num_frames.to(log_probs.device))
        log_probs = log_probs.detach().to("cpu", torch.float32)
        if self._priors is not None:
            log_probs = log_probs - self._priors
            # Probabilities again, which changes no order; a frame in which everything is impossible stays one.
            log_probs = log_probs - log_probs.logsumexp(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)
        batch = log_probs.contiguous().numpy()
        utterances = [batch[row, :length] for row, length in enumerate(num_frames.tolist())]
        num_threads = min(torch.get_num_threads(), len(utterances))
        if num_threads < 2:
            return [self._decode_one(utterance) for utterance in utterances]
        with ThreadPoolExecutor(num_threads) as pool:
            return list(pool.map(self._decode_one, utterances))

    def _decode_one(self, log_probs: npt.NDArray[np.float32]) -> list[Hypothesis]:
        search = self._prefix_search
        floor = self.config.min_token_log_prob
        tree, nodes, scores = search.search(
            log_probs, self.config.width, -math.inf if floor is None else floor, self._words
        )
        totals = scores[:, search.TOTAL]
        # A word that the text's end cuts off was worth what it could still have become.
        ahead, ended = self._words.worth[tree[nodes, search.WORDS]].T
        finished = totals + (ended - ahead)
        if finished.max() > -math.inf:
            totals = finished
        found: dict[str, Hypothesis] = {}
        for place in np.argsort(-totals, kind="stable").tolist():
            node, score = int(nodes[place]), float(totals[place])
            if len(found) == self.config.num_best or score == -math.inf:
                break
            path = search.spell(tree, node)
            tokens = path[1:, 0].tolist()
            length = self._finished_length(tree, node, len(tokens))
            text = self.tokenizer.decode(tokens[:length])
            if text not in found:
                frames = self._alignment.surest_frames(log_probs, path).tolist() if tokens else []
                found[text] = Hypothesis(
                    text=text, score=score, tokens=tuple(tokens[:length]), frames=tuple(frames[:length])
                )
        # Only a frame in which everything is impossible leaves nothing.
        return list(found.values()) or [Hypothesis(text="", score=-math.inf)]

    def _finished_length(self, tree: npt.NDArray[np.int32], node: int, length: int) -> int:
        """How many tokens of the `length` ones up to `node` there are when an unfinished word at their end is left out."""
        search = self._prefix_search
        while self._words.worth[tree[node, search.WORDS], self._ended] == -math.inf:
            node, length = tree[node, search.PARENT], length - 1
        return length
