"""Normalisation, by examples from many scripts."""

from __future__ import annotations

import pytest

from asr.config import validated
from asr.errors import ConfigError, TextError
from asr.text.normalize import NormalizerConfig, normalization_steps, normalize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\n\u3000\u00a0", ""),
        ("Hello,   WORLD!", "hello world"),
        ("don’t — DON'T", "don't don't"),
        ("м\u02bcята м’ята", "м'ята м'ята"),
        ("dont´s", "dont's"),
        ("'tis the dogs' “rock‘n’roll”", "tis the dogs rock'n'roll"),
        ("well-known/e.g. so...", "well known e g so"),
        ("100% R&D me@home #1", "100% r&d me@home #1"),
        ("$5 + €3", "$5 + €3"),
        ("ﬁne ＡＢＣ", "fine abc"),
        ("cafe\u0301", "café"),
        ("İstanbul", "i\u0307stanbul"),
        ("ΟΔΟΣ", "οδος"),
        ("Straße", "straße"),
        ("col·lecció · x", "col·lecció x"),
        ('צה"ל צה״ל', "צה ל צה״ל"),
        ("مرحبا، كيف؟", "مرحبا كيف"),
        ("می\u200cخواهم \u200c", "می\u200cخواهم"),
        ("नमस्ते। दुनिया", "नमस्ते दुनिया"),
        ("क्\u200dष", "क्\u200dष"),
        ("你好，世界。", "你好 世界"),
        ("ภาษา\u200bไทย", "ภาษา ไทย"),
        ("Ի՞նչ", "ինչ"),
        ("한국어", "한국어"),
        ("co\u00adop\ufeff \u202aleft\u202c\x00", "coop left"),
        ("a▁b", "a b"),
        ("😀 ok", "😀 ok"),
    ],
)
def test_default_normalisation(text: str, expected: str) -> None:
    assert normalize(text, NormalizerConfig()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lowercase": False}, "Ｎo One’s ﬁne".replace("Ｎ", "N").replace("ﬁ", "fi").replace("’", "'")),
        ({"strip_punctuation": False}, "“no one’s” fine!"),
        ({"unicode": "NFC"}, "ｎo one's ﬁne"),
        ({"unicode": "none", "lowercase": False, "strip_punctuation": False}, "“Ｎo One’s” ﬁne!"),
    ],
)
def test_each_setting_switches_its_step(changes: dict[str, object], expected: str) -> None:
    config = validated(NormalizerConfig, changes, where="test")
    assert normalize("“Ｎo  One’s”\tﬁne!", config) == expected


@pytest.mark.parametrize("unicode", ["NFC", "NFKC", "none"])
def test_turkish_has_two_letters_i(unicode: str) -> None:
    config = validated(NormalizerConfig, {"dotless_i": True, "unicode": unicode}, where="test")
    assert normalize("IŞIK, İZMİR I\u0307zmir ılık iz", config) == "ışık izmir izmir ılık iz"
    with pytest.raises(ConfigError, match="dotless_i says what capitals become"):
        validated(NormalizerConfig, {"dotless_i": True, "lowercase": False}, where="test")


def test_steps_are_named_and_make_up_the_whole() -> None:
    text = "  Ｄon’t\u00ad—STOP "
    for step in normalization_steps(NormalizerConfig()):
        text = step(text)
    assert text == "don't stop"


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(TextError, match=r"U\+D83D"):
        normalize("bad \ud83d", NormalizerConfig())


def test_unknown_unicode_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="unicode"):
        validated(NormalizerConfig, {"unicode": "NFD"}, where="test")
