"""The decoder where none is named: one choice for the command line and for Python."""

from __future__ import annotations

from pathlib import Path

from asr.decoding import BeamDecoderConfig, DecoderConfig, LexiconDecoderConfig
from asr.model.checkpoint import find_checkpoint
from asr.resources import WORDS_FILE


def words_beside(model: Path) -> Path | None:
    """The file of the words that came along with `model`, if there is one.

    Raises:
        CheckpointError: there is no such model.
    """
    beside = find_checkpoint(model).with_name(WORDS_FILE)
    return beside if beside.is_file() else None


def default_decoder(words: Path | None) -> DecoderConfig:
    """Of `words` the lexicon decoder, without any a beam search."""
    return BeamDecoderConfig() if words is None else LexiconDecoderConfig(words=words)
