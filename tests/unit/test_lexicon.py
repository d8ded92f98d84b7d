"""Pronunciations: what a file may hold, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import TextError
from asr.text.lexicon import Lexicon


def lexicon(tmp_path: Path, content: str) -> Lexicon:
    path = tmp_path / "words.dict"
    path.write_text(content, encoding="utf-8")
    return Lexicon(path, str.lower)


def test_texts_become_phones(tmp_path: Path) -> None:
    found = lexicon(
        tmp_path,
        ";;; comment\nTHE  DH AH0\nTHE(2)  DH IY0 # before vowels\nThe DH IY0\n\nc# K\ncat K AE1 T\n(x) EH1 K S\n",
    )
    assert found.size == 8
    assert lexicon(tmp_path, "\ufeff;;; the CMU dictionary\nTHE DH AH0\n").size == 3
    # In the order of their names: AE1 AH0 DH EH1 K S T, from 1 on; IY0 stands in no first pronunciation.
    assert found.encode("The CAT") == [3, 2, 5, 1, 7]
    assert found.encode("C#") == [5]
    assert found.encode("the dog") == []
    assert found.unknown_words("the dog, the cow") == ["dog,", "cow"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a AH0\nb\n", r"words\.dict:2: expected a word and its phones, found only 'b'"),
        (";;; nothing\n", "no word in this lexicon; each line should read WORD PH1 PH2"),
    ],
)
def test_what_is_no_lexicon_is_told(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        lexicon(tmp_path, content)


def test_a_missing_lexicon_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nowhere\.dict: cannot read the lexicon"):
        Lexicon(tmp_path / "nowhere.dict", str.lower)
