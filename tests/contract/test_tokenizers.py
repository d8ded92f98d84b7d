"""What every kind of tokenizer must do, in any script."""

from __future__ import annotations

import json
import random

import pytest

from asr.config import Section, sections_in
from asr.errors import TextError
from asr.text import Tokenizer, TokenizerConfig, tokenizer_from_state, train_tokenizer

SCRIPTS = ["abcdefghij'", "абвгґ'", "αβγδσς", "نمی‌خواهم", "नमस्ते", "ไทยภาษา", "한국어", "日本語", "é̂ñ"]


def make_texts(seed: int = 0) -> list[str]:
    """Texts of random words, each of one script."""
    generator = random.Random(seed)
    words = [
        "".join(generator.choices(generator.choice(SCRIPTS), k=generator.randint(1, 7))).strip("'") for _ in range(400)
    ]
    return [" ".join(generator.choices(words, k=generator.randint(0, 9))) for _ in range(200)]


@pytest.fixture(scope="module", params=list(sections_in(TokenizerConfig)), ids=lambda kind: kind.__name__)
def config(request: pytest.FixtureRequest) -> Section:
    return request.param()


@pytest.fixture(scope="module")
def tokenizer(config: Section) -> Tokenizer:
    return train_tokenizer(make_texts(), config)


def test_decode_gives_back_the_normalised_text(tokenizer: Tokenizer) -> None:
    for text in make_texts():
        assert tokenizer.decode(tokenizer.encode(f" {text.upper()}!  ")) == tokenizer.normalize(text.upper())


def test_ids_are_between_blank_and_size(tokenizer: Tokenizer) -> None:
    ids = [number for text in make_texts() for number in tokenizer.encode(text)]
    assert 1 <= min(ids) <= max(ids) < tokenizer.size == len(tokenizer.pieces) == len(set(tokenizer.pieces))
    assert {type(number) for number in ids} == {int}


def test_empty_text_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == tokenizer.encode(" .\n") == []
    assert tokenizer.decode([]) == ""


def test_any_ids_are_readable_with_single_spaces(tokenizer: Tokenizer) -> None:
    generator = random.Random(1)
    for _ in range(50):
        text = tokenizer.decode(generator.choices(range(1, tokenizer.size), k=12))
        assert text == " ".join(text.split())


def test_unseen_character_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match=r"U\+0416|U\+0436"):
        tokenizer.encode("abc Ж")


def test_state_survives_json(tokenizer: Tokenizer) -> None:
    restored = tokenizer_from_state(json.loads(json.dumps(tokenizer.state())))
    assert restored.state() == tokenizer.state()
    assert restored.pieces == tokenizer.pieces
    assert [restored.encode(text) for text in make_texts()] == [tokenizer.encode(text) for text in make_texts()]


def test_same_texts_give_the_same_tokenizer(tokenizer: Tokenizer, config: Section) -> None:
    assert train_tokenizer(iter(make_texts()), config).state() == tokenizer.state()
