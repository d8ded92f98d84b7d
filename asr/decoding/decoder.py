"""The decoders that there are, and what all of them promise."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field
from torch import Tensor

from asr.decoding.attention import AttentionDecoderConfig, AttentionSearch, JointDecoderConfig
from asr.decoding.beam import BeamDecoder, BeamDecoderConfig, LexiconDecoderConfig
from asr.decoding.greedy import GreedyDecoder, GreedyDecoderConfig
from asr.decoding.hypothesis import Hypothesis
from asr.errors import ConfigError
from asr.model.attention import AttentionDecoder
from asr.text.tokenizer import Tokenizer

DecoderConfig = Annotated[
    GreedyDecoderConfig | BeamDecoderConfig | LexiconDecoderConfig | AttentionDecoderConfig | JointDecoderConfig,
    Field(discriminator="kind"),
]


class Decoder(Protocol):
    """What every decoder does."""

    vocabulary: frozenset[str] | None
    """The only words that it writes; None: any."""

    def decode(self, log_probs: Tensor, num_frames: Tensor, hidden: Tensor | None = None) -> list[list[Hypothesis]]:
        """Readings of each utterance, the best first and at least one; no text stands twice.

        Without frames the reading is the empty text with score 0.

        Args:
            log_probs: natural logarithms of probabilities (B, S, V), blank at 0, on any device; -inf is impossible.
            num_frames: frames of each utterance (B,), from 0 to S; what lies behind them is not looked at.
            hidden: the encoder's frames (B, S, D), which decoders of the kinds `attention` and `joint` need.

        Raises:
            AsrError: NaN among the log-probabilities.
        """


def build_decoder(config: DecoderConfig, tokenizer: Tokenizer, attention: AttentionDecoder | None = None) -> Decoder:
    """The decoder that `config` describes, writing with `tokenizer`, and asking the model's `attention` where it has one.

    Raises:
        ConfigError: the model has no attention decoder, and `config` asks for it; or there are no words in its file.
    """
    match config:
        case GreedyDecoderConfig():
            return GreedyDecoder(tokenizer)
        case BeamDecoderConfig():
            return BeamDecoder(config, tokenizer)
        case AttentionDecoderConfig() | JointDecoderConfig():
            if attention is None:
                raise ConfigError(
                    f"decoder '{config.kind}': this model has no attention decoder; take greedy, beam or lexicon, or train "
                    "a model with attention={}"
                )
            return AttentionSearch(config, tokenizer, attention)
