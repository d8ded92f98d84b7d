"""Words in, token ids out, and back.

In: any Unicode text. Out: the normalised text and its tokens, 1 .. V-1; 0 is CTC's blank and never in a text.
Decided here: which spellings count as the same, and that a text with an unknown character is refused, not mended.
"""

from asr.text.normalize import NormalizerConfig, normalize
from asr.text.tokenizer import (
    BpeTokenizerConfig,
    CharacterTokenizerConfig,
    Tokenizer,
    TokenizerConfig,
    tokenizer_from_state,
    train_tokenizer,
)

__all__ = [
    "BpeTokenizerConfig",
    "CharacterTokenizerConfig",
    "NormalizerConfig",
    "Tokenizer",
    "TokenizerConfig",
    "normalize",
    "tokenizer_from_state",
    "train_tokenizer",
]
