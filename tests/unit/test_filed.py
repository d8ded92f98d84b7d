"""Transcripts in a temporary file: a mapping like any other."""

from __future__ import annotations

import sqlite3

import pytest

from asr.errors import ScoringError
from asr.scoring import FiledTranscripts, Transcript, timed
from asr.scoring.filed import temporary_database
from asr.scoring.transcripts import Segment, WordTime

TRANSCRIPTS = {
    "b": Transcript(text="one two", speaker="s", seconds=1.1, columns={"z": "1", "a": ""}),
    "a": Transcript(text="", segment=Segment(recording="r", channel="1", start=0.1, end=1e99)),
    "": Transcript(text="\0 nothing", seconds=0.0),
    "timed": Transcript(text="x y", times=(WordTime("r", "A", 0.1, 1.0), WordTime("r", "B", 1e9, 0.0))),
    "a\0": Transcript(text="3"),
    "好": Transcript(text="ü\n", seconds=float("inf")),
}


@pytest.fixture
def filed() -> FiledTranscripts:
    """A file of all kinds of transcripts."""
    found = FiledTranscripts()
    for line, (name, transcript) in enumerate(TRANSCRIPTS.items(), start=1):
        assert found.add(name, transcript, line=line) is None
    return found


def test_what_was_added_is_found_in_the_same_order(filed: FiledTranscripts) -> None:
    assert list(filed.items()) == list(TRANSCRIPTS.items())
    assert (list(filed), list(filed.values())) == (list(TRANSCRIPTS), list(TRANSCRIPTS.values()))
    assert len(filed) == len(TRANSCRIPTS)
    for name, transcript in TRANSCRIPTS.items():
        assert name in filed
        assert filed[name] == transcript
    assert "c" not in filed
    assert 1 not in filed
    with pytest.raises(KeyError):
        filed["c"]


def test_of_one_id_the_first_is_kept_and_its_line_told(filed: FiledTranscripts) -> None:
    assert filed.add("a", Transcript(text="again"), line=9) == 2
    assert list(filed.items()) == list(TRANSCRIPTS.items())


def test_a_full_disk_is_told(filed: FiledTranscripts, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def execute(self, *arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(filed, "_database", Full())
    with pytest.raises(ScoringError, match=r"do not fit .*: database or disk is full; make room there"):
        filed.add("new", Transcript(text="x"))


def test_no_room_for_the_words_of_a_recording_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(*statements: str) -> sqlite3.Connection:
        return temporary_database("PRAGMA max_page_count = 9", *statements)

    monkeypatch.setattr(timed, "temporary_database", small)
    words = [timed.TimedWord(time=WordTime("r", "1", number, 1), word="word" * 20, where="") for number in range(1000)]
    for read in (timed.words_of_recordings(words), timed.words_in_segments(words, {}, keep_extra=True)):
        with pytest.raises(ScoringError, match=r"do not fit into the folder of temporary files: .*TMPDIR"):
            list(read)
