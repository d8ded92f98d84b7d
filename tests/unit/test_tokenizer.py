"""Tokenizers: vocabularies, refusals and what the messages say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from asr.errors import TextError
from asr.text import (
    BpeTokenizerConfig,
    CharacterTokenizerConfig,
    NormalizerConfig,
    tokenizer_from_state,
    train_tokenizer,
)

TEXTS = ["hello world", "hello there"]


def test_characters_are_sorted_with_blank_and_space_first() -> None:
    tokenizer = train_tokenizer(["Ba-c", "é"], CharacterTokenizerConfig())
    assert tokenizer.pieces == ("<blank>", "▁", "a", "b", "c", "é")
    assert tokenizer.encode("cab Bé!") == [4, 2, 3, 1, 3, 5]
    assert tokenizer.decode([4, 1, 1, 2, 1]) == "c a"


def test_combining_marks_are_tokens_of_their_own() -> None:
    tokenizer = train_tokenizer(["नि"], CharacterTokenizerConfig())
    assert tokenizer.size == 4
    assert tokenizer.decode(tokenizer.encode("नि")) == "नि"


def test_space_is_a_token_even_if_no_training_text_has_one() -> None:
    for config in (CharacterTokenizerConfig(), BpeTokenizerConfig(size=5)):
        tokenizer = train_tokenizer(["ab", "ba", "ab"], config)
        assert tokenizer.decode(tokenizer.encode("ab ba")) == "ab ba"


def test_bpe_joins_frequent_strings() -> None:
    tokenizer = train_tokenizer(TEXTS, BpeTokenizerConfig(size=20))
    assert tokenizer.size == len(tokenizer.pieces) == 20
    assert tokenizer.pieces[0] == "<blank>"
    assert len(tokenizer.encode("hello")) < len("hello")
    assert tokenizer.decode(tokenizer.encode("there held")) == "there held"


@pytest.mark.parametrize(("texts", "size"), [(TEXTS, 4), (TEXTS, 9), (["abcdef"], 7)])
def test_bpe_too_small_names_a_size_that_works(texts: list[str], size: int) -> None:
    with pytest.raises(TextError, match="too small") as caught:
        train_tokenizer(texts, BpeTokenizerConfig(size=size))
    needed = int(re.findall(r"\d+", str(caught.value))[-1])
    assert train_tokenizer(texts, BpeTokenizerConfig(size=needed)).size == needed


def test_bpe_too_large_names_a_size_that_works() -> None:
    with pytest.raises(TextError, match="too large") as caught:
        train_tokenizer(TEXTS, BpeTokenizerConfig(size=256))
    possible = int(re.findall(r"\d+", str(caught.value))[-1])
    assert train_tokenizer(TEXTS, BpeTokenizerConfig(size=possible)).size == possible


def test_bpe_learns_from_long_texts_too() -> None:
    """Sentencepiece skips lines beyond a limit without a word, unless it is told otherwise."""
    tokenizer = train_tokenizer(["abc " * 3000, "d"], BpeTokenizerConfig(size=7))
    assert tokenizer.decode(tokenizer.encode("abcd")) == "abcd"


@pytest.mark.parametrize("texts", [["a▅b"], ["ab", "a▅b"]])
def test_bpe_refuses_the_character_for_which_sentencepiece_skips_a_text(texts: list[str]) -> None:
    with pytest.raises(TextError, match=r"'▅' \(U\+2585\), found in 'a▅b'"):
        train_tokenizer(texts, BpeTokenizerConfig(size=5))
    tokenizer = train_tokenizer(texts, CharacterTokenizerConfig())
    assert tokenizer.decode(tokenizer.encode("a▅b")) == "a▅b"


def test_bpe_takes_no_text_for_a_control_symbol() -> None:
    config = BpeTokenizerConfig(size=12, normalizer=NormalizerConfig(strip_punctuation=False))
    tokenizer = train_tokenizer(["<unk> <s> </s>"], config)
    assert tokenizer.decode(tokenizer.encode("<unk>")) == "<unk>"


@pytest.mark.parametrize("config", [CharacterTokenizerConfig(), BpeTokenizerConfig(size=10)])
def test_unknown_characters_are_named(config: CharacterTokenizerConfig | BpeTokenizerConfig) -> None:
    tokenizer = train_tokenizer(TEXTS, config)
    with pytest.raises(TextError, match=r"'q' \(U\+0071\), 'ß' \(U\+00DF\), in 'hello ßq'"):
        tokenizer.encode("Hello ßq")


@pytest.mark.parametrize("texts", [[], ["", "  ", "?!"]])
@pytest.mark.parametrize("config", [CharacterTokenizerConfig(), BpeTokenizerConfig()])
def test_nothing_to_learn_from(texts: list[str], config: CharacterTokenizerConfig | BpeTokenizerConfig) -> None:
    with pytest.raises(TextError, match="no words in the training texts"):
        train_tokenizer(texts, config)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"config": {"kind": "characters"}},
        {"config": {"kind": "characters"}, "vocabulary": ""},
        {"config": {"kind": "words"}, "vocabulary": "ab"},
        {"config": {"kind": "bpe"}, "vocabulary": "no base 64!"},
        {"config": {"kind": "bpe"}, "vocabulary": "YWJj"},
        {"config": {"kind": "bpe"}, "vocabulary": "é"},
    ],
)
def test_foreign_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(TextError, match="stored tokenizer"):
        tokenizer_from_state(state)


def test_state_keeps_the_normaliser() -> None:
    config = CharacterTokenizerConfig(normalizer=NormalizerConfig(lowercase=False))
    restored = tokenizer_from_state(train_tokenizer(["Ab"], config).state())
    assert restored.normalize("B!") == "B"
    assert restored.decode(restored.encode("bA")) == "bA"


@pytest.mark.parametrize(
    ("text", "settings", "is_told"),
    [
        ("İzmir", {}, True),
        ("Ilık", {}, True),
        ("I am", {}, False),
        ("ılık", {}, False),
        ("Ilık", {"dotless_i": True}, False),
        ("Ilık", {"lowercase": False}, False),
    ],
)
def test_capitals_of_turkish_are_told_where_the_vocabulary_is_made(
    text: str, settings: dict[str, bool], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    train_tokenizer([text, "x"], CharacterTokenizerConfig(normalizer=NormalizerConfig.model_validate(settings)))
    assert ("1 training texts have İ or ı" in caplog.text) == is_told
