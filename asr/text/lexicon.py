"""A pronunciation lexicon: words in, phones out, for what only training needs.

A file like CMUdict's has a line for each word, `WORD PH1 PH2 ...`. Of several pronunciations (`WORD(2) ...`) the first one
counts; lines that begin with `;;;` and what follows a ` #` are comments.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asr.errors import TextError


class Lexicon:
    """The pronunciations in the file at `path`, of words in the form that `normalize` gives them.

    Raises:
        TextError: the file cannot be read, a word has no phones, or there is no word.
    """

    def __init__(self, path: Path, normalize: Callable[[str], str]) -> None:
        self._normalize = normalize
        self._phones: dict[str, list[str]] = {}
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"{path}: cannot read the lexicon: {error}") from error
        for number, line in enumerate(lines, start=1):
            words = line.partition(" #")[0].split()
            if not words or line.startswith(";;;"):
                continue
            word, *phones = words
            if not phones:
                raise TextError(f"{path}:{number}: expected a word and its phones, found only '{word}'")
            if not word.endswith(")") or "(" not in word[1:]:
                self._phones.setdefault(normalize(word), phones)
        if not self._phones:
            raise TextError(f"{path}: no word in this lexicon; each line should read WORD PH1 PH2 ...")
        names = sorted({phone for phones in self._phones.values() for phone in phones})
        self._ids = {name: number for number, name in enumerate(names, start=1)}

    @property
    def size(self) -> int:
        """Number of phones, the blank at 0 included."""
        return len(self._ids) + 1

    @property
    def phones(self) -> list[str]:
        """Names of the phones in the order of their numbers, which begin at 1."""
        return list(self._ids)

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that have no pronunciation."""
        return [word for word in self._normalize(text).split() if word not in self._phones]

    def encode(self, text: str) -> list[int]:
        """The phones of `text`, from 1 on; none where any of its words has no pronunciation."""
        if self.unknown_words(text):
            return []
        return [self._ids[phone] for word in self._normalize(text).split() for phone in self._phones[word]]
