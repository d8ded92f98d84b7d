"""Normalisers: named steps that make two spellings of the same words alike, applied in the order asked for, to both sides.

None is applied unless asked for, and the ones that were are printed with the result: an error rate without them is another
number. Steps that know a language know English, as their names say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from asr.errors import ScoringError, did_you_mean
from asr.text.normalize import (
    collapse_spaces,
    drop_invisible,
    drop_vowel_marks,
    lowercase,
    lowercase_turkic,
    nfkc,
    strip_punctuation,
    unify_apostrophes,
)

Step = Callable[[str], str]

_NUMBER = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(st|nd|rd|th)?(?!\w|\.\d)")
_MOST_DIGITS = 30  # more are no number that anybody says, and English has no words for them
_BRACKETS = re.compile(r"\[[^\[\]]*\]|<[^<>]*>|\([^()]*\)|\{[^{}]*\}")
_FILLERS = frozenset("ah eh er erm hm hmm mhm mm mmm uh uhm um".split())
# Han with its marks of repetition and its zero, kana, half-width kana, and their extensions: scripts that are written
# without spaces between words. Marks of voicing and variants belong to the character before.
_IDEOGRAPH = re.compile(
    "([\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u3098\u309b-\u30ff\uff66-\uff9d]"
    "[\u3099\u309a\uff9e\uff9f\ufe00-\ufe0f\U000e0100-\U000e01ef]*)"
)


def normalizer(names: Sequence[str]) -> Step:
    """One function that does the steps called `names` in that order, and leaves single spaces between words.

    Raises:
        ScoringError: there is no step of that name.

    Example:
        >>> normalizer(["brackets", "case", "punctuation", "numbers-en"])("[noise] Don’t take 21, Bob!")
        "don't take twenty one bob"
    """
    for name in names:
        if name not in NORMALIZERS:
            raise ScoringError(f"--normalize {name}: no such step{did_you_mean(name, NORMALIZERS)}")
    steps = [NORMALIZERS[name] for name in names]

    def apply(text: str) -> str:
        for step in steps:
            text = step(text)
        return " ".join(text.split())

    return apply


def _without_fillers(text: str) -> str:
    """No uh, um, hm and the like."""
    return " ".join(word for word in text.split() if strip_punctuation(word).strip().lower() not in _FILLERS)


def _number_in_words(match: re.Match[str]) -> str:
    """Digits as English words: 1,200 as one thousand two hundred, 3.5 as three point five, 2nd as second."""
    from num2words import num2words  # a tenth of a second, for those who need it

    whole, fraction, ordinal = match.groups()
    digits = whole.replace(",", "")
    if len(digits + (fraction or "")) > _MOST_DIGITS:
        return match[0]
    if ordinal and not fraction:
        spoken = num2words(int(digits), to="ordinal")
    else:
        # Digit by digit: as a number, a fraction would lose its zeros at the end.
        behind = ["point", *(num2words(int(digit)) for digit in fraction[1:])] if fraction else []
        spoken = " ".join([num2words(int(digits)), *behind, *filter(None, [ordinal])])
    return str(spoken).replace("-", " ").replace(",", "").replace(" and ", " ")


def _american_spelling(text: str) -> str:
    """Colour as color, in small letters where it differs."""
    from breame.spelling import british_spelling_exists, get_american_spelling

    def american(word: str) -> str:
        # Any other word would come back in small letters.
        return str(get_american_spelling(word)) if british_spelling_exists(word) else word

    return " ".join(american(word) for word in text.split())


NORMALIZERS: dict[str, Step] = {
    # One form for each letter, nothing invisible.
    "unicode": lambda text: nfkc(drop_invisible(text)),
    # Small letters, in Turkish and Azeri ı for I, i for İ.
    "case-tr": lowercase_turkic,
    "case": lowercase,
    # No [noise], <unk>, (laughs) and {such}.
    "brackets": lambda text: _BRACKETS.sub(" ", text),
    "fillers-en": _without_fillers,
    "numbers-en": lambda text: _NUMBER.sub(_number_in_words, text),
    # None, except apostrophes inside words and % & @ #.
    "punctuation": lambda text: collapse_spaces(strip_punctuation(unify_apostrophes(drop_vowel_marks(text)))),
    "spelling-en": _american_spelling,
    # Chinese and Japanese ones each a word, so that the word error rate is by character.
    "characters": lambda text: _IDEOGRAPH.sub(r" \1 ", text),
}
"""The steps by name, in an order that works: punctuation takes away brackets, and the commas and points of numbers."""
