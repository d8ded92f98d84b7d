"""The words that were confused, missed and made up, and how often."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from asr.scoring.report import UtteranceScore

if TYPE_CHECKING:
    from rich.table import Table

Substitution = tuple[str, str, int]
"""A word that was said, what was heard in its place, and how many times."""

_FEWEST_TO_SUM = 1 << 16
_SECOND = (1 << 32) - 1


class Substitutions(Sequence[Substitution]):
    """Pairs of words with their counts, which become objects when somebody looks: there may be millions of them.

    Args:
        vocabulary: words by their numbers.
        pairs: number of the word that was said, times 2^32, plus that of the one that was heard (P,).
        counts: how often (P,).
    """

    def __init__(self, vocabulary: Sequence[str], pairs: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        self._vocabulary, self._pairs, self._counts = vocabulary, pairs, counts

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> Substitution: ...
    @overload
    def __getitem__(self, index: slice) -> list[Substitution]: ...
    def __getitem__(self, index: int | slice) -> Substitution | list[Substitution]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        said, heard = divmod(int(self._pairs[index]), 1 << 32)
        return self._vocabulary[said], self._vocabulary[heard], int(self._counts[index])

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """How often each word was taken for which other, missed, or made up; the most frequent first, then by the alphabet.

    Attributes:
        substitutions: (said, heard, times).
        deletions: (said, times).
        insertions: (heard, times).
    """

    substitutions: Sequence[Substitution]
    deletions: tuple[tuple[str, int], ...]
    insertions: tuple[tuple[str, int], ...]


class ConfusionCounter:
    """Counts what was confused in utterances, one after another: 16 bytes for each pair of words."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        # Pairs as in `Substitutions`: those that were counted, in order, and those that came since.
        self._pairs = self._counts = np.zeros(0, dtype=np.int64)
        self._recent = array("q")
        self._deletions: Counter[str] = Counter()
        self._insertions: Counter[str] = Counter()

    def add(self, score: UtteranceScore) -> None:
        """Counts the errors of an utterance."""
        if not score.edits:
            return
        for part in score.differences:
            if not part.hypothesis:
                self._deletions.update(part.reference)
            elif not part.reference:
                self._insertions.update(part.hypothesis)
            elif part.reference != part.hypothesis:
                self._recent.extend(
                    self._number(said) << 32 | self._number(heard)
                    for said, heard in zip(part.reference, part.hypothesis, strict=True)
                )
        # Rarely, since it copies what was counted before; soon enough to be small beside that.
        if len(self._recent) > max(_FEWEST_TO_SUM, len(self._pairs) // 4):
            self._sum_up()

    def confusions(self) -> Confusions:
        """What was counted so far."""
        self._sum_up()
        vocabulary = sorted(self._numbers)
        rank = np.empty(len(vocabulary), dtype=np.int64)
        rank[[self._numbers[word] for word in vocabulary]] = np.arange(len(vocabulary))
        # Words by their place in the alphabet, so that pairs are in its order too.
        pairs = rank[self._pairs >> 32] << 32 | rank[self._pairs & _SECOND]
        order = np.lexsort((pairs, -self._counts))
        return Confusions(
            substitutions=Substitutions(vocabulary, pairs[order], self._counts[order]),
            deletions=tuple(_ranked(self._deletions)),
            insertions=tuple(_ranked(self._insertions)),
        )

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def _sum_up(self) -> None:
        recent, counts = np.unique(np.asarray(self._recent), return_counts=True)
        self._recent = array("q")
        places = np.searchsorted(self._pairs, recent)
        is_known = np.append(self._pairs, -1)[places] == recent
        self._counts[places[is_known]] += counts[is_known]
        self._pairs = np.insert(self._pairs, places[~is_known], recent[~is_known])
        self._counts = np.insert(self._counts, places[~is_known], counts[~is_known])


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def confusions_table(found: Confusions, limit: int) -> Table:
    """The `limit` most frequent confusions of each kind, side by side, for rich to print."""
    from rich.table import Table

    columns = {
        "substituted": [f"{said} → {heard}  {count}" for said, heard, count in found.substitutions[:limit]],
        "deleted": [f"{word}  {count}" for word, count in found.deletions[:limit]],
        "inserted": [f"{word}  {count}" for word, count in found.insertions[:limit]],
    }
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in range(max(map(len, columns.values()))):
        table.add_row(*(cells[row] if row < len(cells) else "" for cells in columns.values()))
    return table
