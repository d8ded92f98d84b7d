"""Normalisation: one spelling for what is said in one way, in any script, by a short list of named steps.

Only what nobody pronounces is removed. Digits, currency signs, `%`, `&`, `@` and `#` stay: how they are spoken depends
on the language, so a corpus spells them out or keeps them as tokens, and neither happens by accident.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from pydantic import Field, model_validator

from asr.config import Section
from asr.errors import TextError

Step = Callable[[str], str]

SPACE_MARK = "▁"
"""Stands for the space among tokens, therefore never inside a text."""

_SPOKEN = frozenset("%&@#")
# U+02BC is that of Ukrainian; U+02BB, the Hawaiian okina, is a letter.
_APOSTROPHES = frozenset("'’‘‛`´＇｀\u02bc\u1fef\u1ffd")
# The apostrophe, the Catalan middle dot, the Hebrew geresh and gershayim: part of the word that they stand in.
_INSIDE_WORDS = frozenset("'·׳״")
# Zero-width joiner and non-joiner: part of the spelling in Persian and in the scripts of India.
_JOINERS = frozenset("\u200c\u200d")
# Armenian emphasis, exclamation and question.
_OVER_VOWELS = dict.fromkeys(map(ord, "՛՜՞"))
_SPACES = frozenset(f"{SPACE_MARK}\u200b")


class NormalizerConfig(Section):
    """Which spellings count as the same."""

    unicode: Literal["NFC", "NFKC", "none"] = Field(
        default="NFKC",
        description="Unicode form; NFKC also turns ligatures, full-width and styled letters into plain ones",
    )
    lowercase: bool = Field(default=True, description="small letters only")
    dotless_i: bool = Field(
        default=False, description="the small letter of I is ı and that of İ is i, as in Turkish and Azeri"
    )
    strip_punctuation: bool = Field(
        default=True,
        description="punctuation becomes a space, except apostrophes and the like inside words and % & @ #",
    )

    @model_validator(mode="after")
    def _check_case(self) -> NormalizerConfig:
        if self.dotless_i and not self.lowercase:
            raise ValueError("dotless_i says what capitals become, and with lowercase=false they stay")
        return self


def normalize(text: str, config: NormalizerConfig) -> str:
    r"""`text` in the one form that is trained on, recognised and scored; doing it twice changes nothing.

    Raises:
        TextError: half of a surrogate pair, which no file in UTF-8 can hold.

    Example:
        >>> normalize("  “Don’t”, she said:\tＡＢＣ—100% ", NormalizerConfig())
        "don't she said abc 100%"
        >>> normalize("Don’t!", NormalizerConfig(lowercase=False, strip_punctuation=False))
        'Don’t!'
    """
    for step in normalization_steps(config):
        text = step(text)
    return text


def normalization_steps(config: NormalizerConfig) -> list[Step]:
    """The steps that `config` asks for, in order; each is a function from text to text.

    Example:
        >>> config = NormalizerConfig(unicode="none", strip_punctuation=False)
        >>> [step.__name__ for step in normalization_steps(config)]
        ['drop_invisible', 'lowercase', 'collapse_spaces']
    """
    steps: list[Step] = [drop_invisible]
    if config.strip_punctuation:
        # Before the Unicode form, which would tear an acute accent used as an apostrophe off its word, and join a letter
        # and its accent only where nothing stands between them.
        steps += [drop_vowel_marks, unify_apostrophes]
    unicode_form = {"NFC": [nfc], "NFKC": [nfkc], "none": []}[config.unicode]
    steps += unicode_form
    if config.lowercase:
        # Small letters of some capitals are two characters, in an order that the Unicode form has to settle again.
        steps += [lowercase_turkic if config.dotless_i else lowercase, *unicode_form]
    if config.strip_punctuation:
        # The Unicode form brings some apostrophes forth, as that of ŉ.
        steps += [unify_apostrophes, strip_punctuation]
    steps.append(collapse_spaces)
    return steps


def drop_invisible(text: str) -> str:
    r"""`text` without control characters, byte-order marks, soft hyphens and marks of direction.

    Raises:
        TextError: half of a surrogate pair.

    Example:
        >>> drop_invisible("co\u00adoperate\ufeff")
        'cooperate'
    """
    return text.translate({ord(character): None for character in set(text) if _is_invisible(character)})


def drop_vowel_marks(text: str) -> str:
    """`text` without the Armenian marks that stand over a vowel inside a word, and do not separate.

    Example:
        >>> drop_vowel_marks("Ի՞նչ")
        'Ինչ'
    """
    return text.translate(_OVER_VOWELS)


def unify_apostrophes(text: str) -> str:
    """`text` with every mark that is used as an apostrophe inside a word written as `'`.

    Example:
        >>> unify_apostrophes("it’s ‘quoted’")
        "it's ‘quoted’"
    """
    return _replace(text, _with_one_apostrophe)


def nfc(text: str) -> str:
    """`text` in Unicode form NFC: letters and their accents joined."""
    return unicodedata.normalize("NFC", text)


def nfkc(text: str) -> str:
    """`text` in Unicode form NFKC: as NFC, and variants of a letter written as the letter."""
    return unicodedata.normalize("NFKC", text)


def lowercase(text: str) -> str:
    """`text` in small letters, by Unicode's rules that hold for all languages."""
    return text.lower()


def lowercase_turkic(text: str) -> str:
    """`text` in small letters, by Unicode's rules for Turkish and Azeri (SpecialCasing.txt, tr and az).

    Example:
        >>> lowercase_turkic("IŞIK İZMİR")
        'ışık izmir'
    """
    return text.replace("I\u0307", "i").replace("İ", "i").replace("I", "ı").lower()


def strip_punctuation(text: str) -> str:
    """`text` with spaces for punctuation that does not belong to a word.

    Example:
        >>> strip_punctuation("l'été: well-known, 'so' col·lecció")
        "l'été  well known   so  col·lecció"
    """
    return _replace(text, _without_punctuation)


def collapse_spaces(text: str) -> str:
    r"""`text` with single spaces between words and none at the ends; joiners outside words count as spaces.

    Example:
        >>> collapse_spaces(" a \u3000 b\n")
        'a b'
    """
    joined = _replace(text, _without_loose_joiners)
    return " ".join(joined.translate({ord(space): " " for space in _SPACES}).split())


def _is_invisible(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cs":
        raise TextError(f"half of a surrogate pair, U+{ord(character):04X}, in a text: write it again as UTF-8")
    if character in _JOINERS or character in _SPACES or character.isspace():
        return False
    return category in {"Cc", "Cf"}


def _with_one_apostrophe(character: str, inside: bool) -> str:
    return "'" if inside and character in _APOSTROPHES else character


def _without_loose_joiners(character: str, inside: bool) -> str:
    return " " if character in _JOINERS and not inside else character


def _without_punctuation(character: str, inside: bool) -> str:
    if character in _SPOKEN or not unicodedata.category(character).startswith("P"):
        return character
    return character if inside and character in _INSIDE_WORDS else " "


def _replace(text: str, replacement: Callable[[str, bool], str]) -> str:
    """`text` with each character replaced, knowing whether it stands between two characters of words."""
    changing = {character for character in set(text) if _may_change(character, replacement)}
    if not changing:
        return text
    result = list(text)
    for position, character in enumerate(text):
        if character in changing:
            inside = _is_of_word(text[position - 1 : position]) and _is_of_word(text[position + 1 : position + 2])
            result[position] = replacement(character, inside)
    return "".join(result)


@lru_cache(maxsize=1 << 16)
def _may_change(character: str, replacement: Callable[[str, bool], str]) -> bool:
    return any(replacement(character, inside) != character for inside in (False, True))


def _is_of_word(character: str) -> bool:
    """Whether `character`, one or none, is a letter, a number or a combining mark."""
    return bool(character) and unicodedata.category(character)[0] in "LNM"
