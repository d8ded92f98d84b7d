"""Error counts of many utterances in little memory: numbers in arrays, no texts and no objects."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asr.compiled import Integers
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.significance import Unit, sums_of_blocks

if TYPE_CHECKING:
    from asr.scoring.report import UtteranceScore

_KINDS = 4


class Names:
    """One name for each of many things, four bytes for each: the names themselves are kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._of_each = array("i")

    def add(self, name: str) -> None:
        """Adds the name of the next thing."""
        self._of_each.append(self._numbers.setdefault(name, len(self._numbers)))

    @property
    def distinct(self) -> list[str]:
        """The names, each once, by their numbers."""
        return list(self._numbers)

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        """The number of each thing's name; while somebody holds them, nothing can be added."""
        return np.asarray(self._of_each)


class Tally:
    """Error counts and speakers of the utterances of one system, in the order in which they were added.

    Attributes:
        speakers: of each utterance, "" where unknown.
        ids: of each utterance where one may come several times, heard by several trainings of a system; else None.
    """

    def __init__(self, *, repeated: bool = False) -> None:
        self.speakers = Names()
        self.ids = Names() if repeated else None
        self._counts = array("i")

    @classmethod
    def of(cls, scores: Sequence[UtteranceScore]) -> Tally:
        """That of `scores`, with ids if some come several times."""
        tally = cls(repeated=len({score.id for score in scores}) < len(scores))
        for score in scores:
            tally.add(score)
        return tally

    def add(self, score: UtteranceScore) -> None:
        """Adds an utterance."""
        for count in (score.words, score.characters):
            self._counts.extend((count.hits, count.substitutions, count.deletions, count.insertions))
        self.speakers.add(score.speaker)
        if self.ids is not None:
            self.ids.add(score.id)

    def __len__(self) -> int:
        return len(self._counts) // (2 * _KINDS)

    @property
    def repetitions(self) -> float:
        """How often each utterance comes, on average."""
        return 1.0 if self.ids is None else len(self) / max(len(self.ids.distinct), 1)

    @property
    def words(self) -> npt.NDArray[np.int32]:
        """Hits, substitutions, deletions and insertions (U, 4) of words in each of U utterances."""
        return self._by_utterance[:, :_KINDS]

    @property
    def characters(self) -> npt.NDArray[np.int32]:
        """The same (U, 4) of characters."""
        return self._by_utterance[:, _KINDS:]

    def sums_of_blocks(self, counts: npt.NDArray[np.int32]) -> tuple[Integers, Unit]:
        """Sums (K, C) of `counts` (U, C) of the utterances over the K blocks that are resampled, and what these are."""
        ids = None if self.ids is None else self.ids.numbers
        return sums_of_blocks(counts, self.speakers.numbers, self.speakers.distinct, ids)

    @property
    def _by_utterance(self) -> npt.NDArray[np.int32]:
        return np.asarray(self._counts).reshape(-1, 2 * _KINDS)


def total(counts: npt.NDArray[np.int32]) -> ErrorCounts:
    """The sum of error counts (U, 4)."""
    return ErrorCounts(*map(int, counts.sum(axis=0, dtype=np.int64)))


def errors_and_lengths(counts: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Errors and lengths of the references (U, 2) of error counts (U, 4)."""
    hits, substitutions, deletions, insertions = counts.T
    return np.stack([substitutions + deletions + insertions, hits + substitutions + deletions], axis=1)
