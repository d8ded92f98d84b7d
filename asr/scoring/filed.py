"""Transcripts by utterance id in a temporary file: a million of them take up disk, not memory."""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from asr.errors import ScoringError
from asr.scoring.transcripts import Segment, Transcript, WordTime

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_SCHEMA = "CREATE TABLE transcripts (id BLOB NOT NULL UNIQUE, line INTEGER NOT NULL, content BLOB NOT NULL)"


def temporary_database(*statements: str) -> sqlite3.Connection:
    """A database without a name, after `statements`: in memory while it is small, else in the folder of temporary files.

    The file is gone with the connection, however the process ends. Nothing is ever rolled back.
    """
    database = sqlite3.connect("", isolation_level=None)
    for statement in ("PRAGMA journal_mode = OFF", "BEGIN", *statements):
        database.execute(statement)
    return database


@contextmanager
def told_where_full() -> Iterator[None]:
    """While it lasts, a temporary database that finds no more room is a mistake of which people are told.

    Raises:
        ScoringError: there is no room.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ScoringError(
            f"the transcripts do not fit into the folder of temporary files: {error}; make room there, or name another "
            "folder in the environment variable TMPDIR"
        ) from error


class FiledTranscripts(Mapping[str, Transcript]):
    """Transcripts by utterance id, in the order in which they were added; what they hold lies in a temporary file."""

    def __init__(self) -> None:
        self._database = temporary_database(_SCHEMA)
        weakref.finalize(self, self._database.close)

    def add(self, utterance_id: str, transcript: Transcript, line: int = 0) -> int | None:
        """Adds the transcript in that line of a file, unless there is one of this id: then the line of that is returned.

        Raises:
            ScoringError: there is no room for it.
        """
        segment = transcript.segment
        content = (
            transcript.text,
            transcript.speaker,
            transcript.seconds,
            segment and (segment.recording, segment.channel, segment.start, segment.end),
            transcript.times,
            dict(transcript.columns),
        )
        try:
            with told_where_full():
                self._database.execute(
                    "INSERT INTO transcripts VALUES (?, ?, ?)", (utterance_id.encode(), line, _encode(content).encode())
                )
        except sqlite3.IntegrityError:
            return int(self._row("line", utterance_id)[0])
        return None

    def __getitem__(self, utterance_id: str) -> Transcript:
        return _transcript(self._row("content", utterance_id)[0])

    def __contains__(self, utterance_id: object) -> bool:
        return isinstance(utterance_id, str) and self._find("1", utterance_id) is not None

    def __iter__(self) -> Iterator[str]:
        for (utterance_id,) in self._database.execute("SELECT id FROM transcripts ORDER BY rowid"):
            yield utterance_id.decode()

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM transcripts").fetchone()[0])

    def _row(self, columns: str, utterance_id: str) -> tuple[Any, ...]:
        row = self._find(columns, utterance_id)
        if row is None:
            raise KeyError(utterance_id)
        return row

    def _find(self, columns: str, utterance_id: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._database.execute(
            f"SELECT {columns} FROM transcripts WHERE id = ?",  # noqa: S608 - the columns are constants
            (utterance_id.encode(),),
        ).fetchone()
        return row


def _transcript(content: bytes) -> Transcript:
    text, speaker, seconds, segment, times, columns = json.loads(content)
    if segment is not None:
        recording, channel, start, end = segment
        segment = Segment(recording=recording, channel=channel, start=start, end=end)
    return Transcript(
        text=text,
        speaker=speaker,
        seconds=seconds,
        segment=segment,
        times=tuple(WordTime(*time) for time in times),
        columns=columns,
    )
