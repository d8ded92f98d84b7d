"""Recognised words with times: which utterance of the references each belongs to.

Words are sorted in a temporary database: there are many more of them than of utterances.
"""

from __future__ import annotations

import json
import math
import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

from asr.errors import ScoringError
from asr.scoring.filed import temporary_database, told_where_full
from asr.scoring.transcripts import Transcript, WordTime, ignored

_SCHEMA = (
    "CREATE TABLE segments (number INTEGER PRIMARY KEY, name TEXT, recording TEXT, channel TEXT, start REAL, end REAL,"
    " ignored INTEGER, heard INTEGER DEFAULT 0)",
    "CREATE INDEX place ON segments (recording, channel)",
    "CREATE TABLE words (segment INTEGER, middle REAL, channel TEXT, start REAL, duration REAL, word TEXT, confidence REAL)",
)
_INSERT_WORD = "INSERT INTO words VALUES (?, ?, ?, ?, ?, ?, ?)"
_HEARD = "UPDATE segments SET heard = 1 WHERE recording = ? AND channel = ?"
_INSERT_RECORDING = "INSERT INTO segments (name, recording, channel) VALUES (?, ?, ?)"
_BY_PLACE = (
    "SELECT recording, channel, start, end, number FROM segments WHERE NOT ignored OR ?"
    " ORDER BY recording, channel, start, number DESC"
)
_IN_ORDER = """
    SELECT number, name, recording, words.channel, words.start, duration, word, confidence
    FROM segments LEFT JOIN words ON segment = number
    WHERE heard ORDER BY number, middle, words.rowid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedWord:
    """A word, its time in the recording, and the place in a file that says so.

    Its confidence, from 0 to 1, is None where the file has none.
    """

    time: WordTime
    word: str
    where: str
    confidence: float | None = None


class _Segments:
    """The segments of one channel of a recording, to look up which one a moment belongs to."""

    def __init__(self, segments: Iterable[tuple[float, float, int]]) -> None:
        """Keeps start, end and number of `segments`, which come by their starts, and of equal ones the first comes last."""
        self.starts, self.ends, self.numbers = array("d"), array("d"), array("q")
        self.latest = array("q")  # of those up to here, the place of the one that ends last
        for place, (start, end, number) in enumerate(segments):
            self.starts.append(start)
            self.ends.append(end)
            self.numbers.append(number)
            latest = self.latest[-1] if place else 0
            self.latest.append(place if end >= self.ends[latest] else latest)

    def holding(self, moment: float) -> int | None:
        """The number of the segment that holds `moment`, if any does; of several the one that began last, or the first."""
        place = bisect_right(self.starts, moment) - 1
        if place < 0 or self.ends[self.latest[place]] < moment:
            return None
        while self.ends[place] < moment:
            place -= 1
        return self.numbers[place]

    def nearest(self, moment: float) -> int:
        """The number of the segment nearest to `moment`, which none holds; of alike, the first."""
        num_begun = bisect_right(self.starts, moment)
        if num_begun:
            place = self.latest[num_begun - 1]
            if num_begun == len(self.starts) or moment - self.ends[place] < self.starts[num_begun] - moment:
                return self.numbers[place]
        return self.numbers[bisect_right(self.starts, self.starts[num_begun]) - 1]


def words_of_recordings(
    words: Iterable[TimedWord], references: Collection[str] = ()
) -> Iterator[tuple[str, Transcript]]:
    """The names of recordings and what was heard in each, in the order of time.

    A channel is a recording of its own, called `recording-channel` but for the first; where there are `references`, only one
    that they have by that name: else they are of all channels together.

    Example:
        >>> said = (("1", 2, "no"), ("B", 0, "yes"), ("1", 1, "oh"))
        >>> words = [TimedWord(time=WordTime("r", *place, 0.5), word=word, where="") for *place, word in said]
        >>> [(name, heard.text) for name, heard in words_of_recordings(words)]
        [('r', 'oh no'), ('r-2', 'yes')]
        >>> [(name, heard.text) for name, heard in words_of_recordings(words, ["r"])]
        [('r', 'yes oh no')]
    """
    numbers: dict[tuple[str, str], int] = {}
    with told_where_full(), closing(temporary_database(*_SCHEMA)) as database:
        for word in words:
            name, channel = word.time.recording, numbered_channel(word.time.channel)
            of_channel = name if channel == "1" else f"{name}-{channel}"
            is_apart = not references or of_channel in references
            number = numbers.setdefault((of_channel if is_apart else name, name), len(numbers))
            database.execute(_INSERT_WORD, _row(number, word))
        for (name, recording), number in numbers.items():
            database.execute(
                "INSERT INTO segments (number, name, recording, heard) VALUES (?, ?, ?, 1)", (number, name, recording)
            )
        yield from _texts(database)


def words_in_segments(
    words: Iterable[TimedWord], references: Mapping[str, Transcript], *, keep_extra: bool = False
) -> Iterator[tuple[str, Transcript]]:
    """The names of those `references` that are segments of the recordings that `words` have, and what was heard in each.

    Segments of others are not there, as an utterance that a file lacks: nobody knows what would have been heard.

    A word belongs to the segment that holds its middle, the one that began last where several do, and where none does to
    the nearest of its recording and channel, of those that are not to be ignored if there are such, so that no word is lost:
    there it counts as one that nobody said. Words of a recording or channel without segments are one text, called
    `recording-channel`, where such are to be kept.

    Raises:
        ScoringError: a word of a recording or channel that has no segment, unless `keep_extra`.

    Example:
        >>> from asr.scoring.transcripts import Segment
        >>> starts = (("a", 0), ("b", 5))
        >>> segments = {name: Segment(recording="r", channel="1", start=at, end=at + 2) for name, at in starts}
        >>> said = {name: Transcript(text="", segment=segment) for name, segment in segments.items()}
        >>> heard = ((1, "yes"), (3.2, "uh"), (6, "no"))
        >>> words = [TimedWord(time=WordTime("r", "1", start, 0), word=word, where="") for start, word in heard]
        >>> [(name, found.text) for name, found in words_in_segments(words, said)]
        [('a', 'yes uh'), ('b', 'no')]
    """
    with told_where_full(), closing(temporary_database(*_SCHEMA)) as database:
        for name, said in references.items():
            if said.segment is not None:
                place = (said.segment.recording, said.segment.channel, said.segment.start, said.segment.end)
                database.execute(
                    "INSERT INTO segments VALUES (NULL, ?, ?, ?, ?, ?, ?, 0)", (name, *place, ignored(said))
                )
        segments = _segments(database, with_ignored=True)
        scored = segments | _segments(database, with_ignored=False)
        heard = set()
        for word in words:
            recording = (word.time.recording, numbered_channel(word.time.channel))
            if recording not in segments:
                if not keep_extra:
                    raise ScoringError(
                        f"{word.where}: recording '{recording[0]}', channel '{recording[1]}' is not in the references; "
                        "take it out, or let `asr score --ignore-extra` leave it out"
                    )
                added = database.execute(_INSERT_RECORDING, ("-".join(recording), *recording))
                segments[recording] = scored[recording] = _Segments([(0.0, math.inf, added.lastrowid or 0)])
            number = segments[recording].holding(word.time.middle)
            if number is None:
                number = scored[recording].nearest(word.time.middle)
            database.execute(_INSERT_WORD, _row(number, word))
            heard.add(recording)
        database.executemany(_HEARD, heard)
        yield from _texts(database)


def _segments(database: sqlite3.Connection, *, with_ignored: bool) -> dict[tuple[str, str], _Segments]:
    """The segments by recording and channel, or those that are not to be ignored."""
    by_place = groupby(database.execute(_BY_PLACE, (with_ignored,)), key=lambda row: row[:2])
    return {place: _Segments(row[2:] for row in rows) for place, rows in by_place}


def numbered_channel(name: str) -> str:
    """The channel called `name`: NIST's tools call the first and the second of a recording by letters or by numbers."""
    return {"A": "1", "B": "2"}.get(name, name)


def _row(number: int, word: TimedWord) -> tuple[object, ...]:
    """`word` as it stands in the table, in the segment of that number."""
    time = word.time
    return (number, time.middle, time.channel, time.start, time.duration, word.word, word.confidence)


def _texts(database: sqlite3.Connection) -> Iterator[tuple[str, Transcript]]:
    for (_, name), rows in groupby(database.execute(_IN_ORDER), key=lambda row: row[:2]):
        found = [(word, confidence, WordTime(*time)) for _, _, *time, word, confidence in rows if word is not None]
        confidences = [confidence for _, confidence, _ in found if confidence is not None]
        # As a table's cell would hold them; where a word has none, the others are of no use.
        columns = {"confidence": json.dumps(confidences)} if found and len(confidences) == len(found) else {}
        text = " ".join(word for word, _, _ in found)
        yield name, Transcript(text=text, times=tuple(time for _, _, time in found), columns=columns)
