"""The decoders that there are, and what all of them promise."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field
from torch import Tensor

from asr.decoding.beam import BeamDecoder, BeamDecoderConfig
from asr.decoding.greedy import GreedyDecoder, GreedyDecoderConfig
from asr.decoding.hypothesis import Hypothesis
from asr.text.tokenizer import Tokenizer

DecoderConfig = Annotated[GreedyDecoderConfig | BeamDecoderConfig, Field(discriminator="kind")]


class Decoder(Protocol):
    """What every decoder does."""

    def decode(self, log_probs: Tensor, num_frames: Tensor) -> list[list[Hypothesis]]:
        """Readings of each utterance, the best first and at least one; no text stands twice.

        Without frames the reading is the empty text with score 0.

        Args:
            log_probs: natural logarithms of probabilities (B, S, V), blank at 0, on any device; -inf is impossible.
            num_frames: frames of each utterance (B,), from 0 to S; what lies behind them is not looked at.

        Raises:
            AsrError: NaN among the log-probabilities.
        """


def build_decoder(config: GreedyDecoderConfig | BeamDecoderConfig, tokenizer: Tokenizer) -> Decoder:
    """The decoder that `config` describes, writing with `tokenizer`."""
    match config:
        case GreedyDecoderConfig():
            return GreedyDecoder(tokenizer)
        case BeamDecoderConfig():
            return BeamDecoder(config, tokenizer)
