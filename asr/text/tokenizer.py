"""Tokenizers: normalised text to token ids and back. Id 0 is CTC's blank; a text has ids from 1 on.

A tokenizer owns its normaliser, and its state (plain types) lives in the checkpoint: what was trained transcribes.
"""

from __future__ import annotations

import base64
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from asr.config import Section, validated
from asr.errors import ConfigError, TextError
from asr.text.normalize import SPACE_MARK, NormalizerConfig, normalize

_LOG = logging.getLogger(__name__)
BLANK_PIECE = "<blank>"
# What sentencepiece calls id 0. A control character cannot stand in a normalised text, so nothing is taken for it.
_UNKNOWN_PIECE = "\x01"
# Sentencepiece counts unknown characters as this one, and skips texts that have it without a word.
_RESERVED = "▅"


class CharacterTokenizerConfig(Section):
    """Every character (code point) of the training texts is a token, the space too."""

    kind: Literal["characters"] = "characters"
    normalizer: NormalizerConfig = NormalizerConfig()


class BpeTokenizerConfig(Section):
    """Byte-pair encoding: frequent strings of characters inside words are tokens.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", by SentencePiece.
    """

    kind: Literal["bpe"] = "bpe"
    normalizer: NormalizerConfig = NormalizerConfig()
    size: int = Field(default=256, ge=4, le=65536, description="tokens, the blank included")


TokenizerConfig = Annotated[CharacterTokenizerConfig | BpeTokenizerConfig, Field(discriminator="kind")]


class Tokenizer(ABC):
    """What every tokenizer does; kinds differ in how they find the pieces of a text.

    Attributes:
        config: the settings.
        pieces: what each id stands for, the space shown as `▁`; the blank at 0.
    """

    def __init__(self, config: CharacterTokenizerConfig | BpeTokenizerConfig, pieces: Iterable[str]) -> None:
        self.config = config
        self.pieces = (BLANK_PIECE, *pieces)

    @property
    def size(self) -> int:
        """Number of tokens V, the blank included."""
        return len(self.pieces)

    def normalize(self, text: str) -> str:
        """`text` in the form that `encode` and `decode` agree on.

        Raises:
            TextError: not valid Unicode.
        """
        return normalize(text, self.config.normalizer)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, normalised first; none for an empty text.

        Raises:
            TextError: characters that the texts of its training did not have.
        """

    def complaint(self, text: str) -> str:
        """Why `text` cannot be spelt with these tokens; "" where it can."""
        try:
            self.encode(text)
        except TextError as error:
            return str(error)
        return ""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that `ids` spell, with single spaces."""
        return " ".join("".join([self.pieces[number] for number in ids]).replace(SPACE_MARK, " ").split())

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `tokenizer_from_state` needs, in types that JSON knows."""


class CharacterTokenizer(Tokenizer):
    """One token for each character."""

    def __init__(self, characters: str, config: CharacterTokenizerConfig) -> None:
        super().__init__(config, characters.replace(" ", SPACE_MARK))
        self.characters = characters
        self._ids = {character: number for number, character in enumerate(characters, start=1)}

    @classmethod
    def train(cls, texts: Iterable[str], config: CharacterTokenizerConfig) -> CharacterTokenizer:
        """A tokenizer for the characters in normalised `texts` and the space, in the order of Unicode."""
        return cls("".join(sorted({" "}.union(*texts))), config)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        normal = self.normalize(text)
        _refuse_unknown(normal, self._ids.keys())
        return [self._ids[character] for character in normal]

    def state(self) -> dict[str, Any]:
        """The characters and the configuration."""
        return {"config": self.config.model_dump(mode="json"), "vocabulary": self.characters}


class BpeTokenizer(Tokenizer):
    """Byte-pair encoding by sentencepiece, trained and kept in memory."""

    def __init__(self, model: bytes, config: BpeTokenizerConfig) -> None:
        self._model = model
        self._processor = SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(number) for number in range(1, self._processor.vocab_size())]
        super().__init__(config, pieces)
        self._alphabet = {" "}.union(piece for piece in pieces if len(piece) == 1)

    @classmethod
    def train(cls, texts: Iterable[str], config: BpeTokenizerConfig) -> BpeTokenizer:
        """A tokenizer with the most frequent pieces of normalised `texts`.

        Raises:
            TextError: `texts` has too many characters or too few pieces for the size, or one that cannot be had.
        """
        lines = list(texts)
        for line in lines:
            if _RESERVED in line:
                raise TextError(
                    f"byte pairs cannot spell {_RESERVED!r} (U+{ord(_RESERVED):04X}), found in {line!r}; take it out of the "
                    "training texts, or set tokenizer.kind to characters"
                )
        smallest = len({BLANK_PIECE, " "}.union(*lines))
        if config.size < smallest:
            raise TextError(
                f"tokenizer.size={config.size} is too small: blank and the characters of the training texts alone "
                f"need {smallest}"
            )
        tokenizer = cls(_train_bpe(lines, config.size), config)
        if tokenizer.size < config.size:
            raise TextError(
                f"tokenizer.size={config.size} is too large: the training texts give at most {tokenizer.size} tokens; "
                f"set it to that or less, or tokenizer.kind to characters"
            )
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        normal = self.normalize(text)
        _refuse_unknown(normal, self._alphabet)
        return [int(number) for number in self._processor.encode(normal)]

    def state(self) -> dict[str, Any]:
        """The sentencepiece model in base 64 and the configuration."""
        return {
            "config": self.config.model_dump(mode="json"),
            "vocabulary": base64.b64encode(self._model).decode("ascii"),
        }


def train_tokenizer(texts: Iterable[str], config: CharacterTokenizerConfig | BpeTokenizerConfig) -> Tokenizer:
    """The tokenizer that `config` describes, with the vocabulary of `texts`; the same texts give the same tokenizer.

    Raises:
        TextError: no text at all, or the size asked for does not fit the texts.

    Example:
        >>> tokenizer = train_tokenizer(["Ab ba!", "cab"], CharacterTokenizerConfig())
        >>> tokenizer.pieces
        ('<blank>', '▁', 'a', 'b', 'c')
        >>> tokenizer.encode("A cab.")
        [2, 1, 4, 2, 3]
    """
    normal, num_turkic = [], 0
    for text in texts:
        num_turkic += "İ" in text or {"I", "ı"} <= set(text)
        if line := normalize(text, config.normalizer):
            normal.append(line)
    if num_turkic and config.normalizer.lowercase and not config.normalizer.dotless_i:
        _LOG.warning(
            "%d training texts have İ or ı, and the lower case of I is taken for i and that of İ for i̇, as in most "
            "languages; in Turkish and Azeri set tokenizer.normalizer.dotless_i=true",
            num_turkic,
        )
    if not normal:
        raise TextError("no words in the training texts to make a vocabulary from: are the transcripts empty?")
    match config:
        case CharacterTokenizerConfig():
            return CharacterTokenizer.train(normal, config)
        case BpeTokenizerConfig():
            return BpeTokenizer.train(normal, config)


class _State(Section):
    """What `Tokenizer.state` gives."""

    config: TokenizerConfig
    vocabulary: str = Field(min_length=1)


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `state()` is `state`.

    Raises:
        TextError: not the state of a tokenizer.
    """
    try:
        saved = validated(_State, dict(state), where="tokenizer")
        match saved.config:
            case CharacterTokenizerConfig():
                return CharacterTokenizer(saved.vocabulary, saved.config)
            case BpeTokenizerConfig():
                return BpeTokenizer(base64.b64decode(saved.vocabulary, validate=True), saved.config)
    except (ConfigError, ValueError, RuntimeError) as error:
        raise TextError(f"the stored tokenizer is damaged or of another version: {error}") from error


def _train_bpe(lines: list[str], size: int) -> bytes:
    """The sentencepiece model with at most `size` pieces of `lines`, the blank in the place of its unknown piece."""
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            # Longer lines would be skipped without a word.
            max_sentence_length=max(10, *(len(line.encode()) + 1 for line in lines)),
            num_threads=1,
            minloglevel=2,
            unk_id=0,
            unk_piece=_UNKNOWN_PIECE,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
        )
    except RuntimeError as error:
        raise TextError(f"sentencepiece cannot make a vocabulary of the training texts: {error}") from error
    return model.getvalue()


def _refuse_unknown(text: str, known: Iterable[str]) -> None:
    unknown = sorted(set(text).difference(known))
    if unknown:
        names = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown)
        raise TextError(f"there is no token for {names}, in {text!r}")
