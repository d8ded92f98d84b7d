"""Words that were voted on, written in forms that `read_transcripts` reads again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from asr.atomic import write_parts
from asr.errors import ScoringError
from asr.scoring.formats import form_of
from asr.scoring.rover import Reading
from asr.scoring.transcripts import WordTime, named

_Utterances = Iterable[tuple[str, Sequence[Reading]]]


def check_writable(path: Path) -> None:
    """Accepts a file whose suffix says in which form `write_transcripts` is to write it.

    Raises:
        ScoringError: a form that is read here, but not written.
    """
    kind = form_of(path)
    if kind not in _WRITERS or (kind == "lines" and path.suffix.lower() not in ("", ".txt")):
        found = path.suffix[1:] if kind == "lines" else kind
        raise ScoringError(f"{path}: transcripts are written as .txt (lines), .trn, .jsonl or .ctm, not as {found}")


def write_transcripts(path: Path, utterances: _Utterances) -> None:
    """Writes the words of `utterances`, by id, to `path`, in the form that its suffix names.

    All but a ctm are written while `utterances` are made, one after another. A ctm is sorted by recording, channel and
    start, as NIST's tools ask for; an utterance without words is not in it.

    Raises:
        ScoringError: a form that is not written, or an id, a text or words without times that it cannot hold.
    """
    check_writable(path)
    lines = _WRITERS[form_of(path)](path, utterances)
    write_parts(path, (f"{line}\n".encode("utf-8", "backslashreplace") for line in lines))


def _lines(path: Path, utterances: _Utterances) -> Iterator[str]:
    for name, words in utterances:
        _check_id(path, name)
        yield f"{name} {_text(words)}".rstrip()


def _trn(path: Path, utterances: _Utterances) -> Iterator[str]:
    for name, words in utterances:
        _check_id(path, name)
        if "{" in _text(words):
            raise ScoringError(f"{path}: in 'trn' braces are alternatives, and '{name}' has one; write .jsonl")
        yield f"{_text(words)} ({name})".lstrip()


def _jsonl(path: Path, utterances: _Utterances) -> Iterator[str]:
    for name, words in utterances:
        confidences = [round(reading.confidence, 4) for reading in words]
        yield json.dumps({"id": name, "text": _text(words), "confidence": confidences}, ensure_ascii=False)


def _ctm(path: Path, utterances: _Utterances) -> list[str]:
    timed: list[tuple[WordTime, str]] = []
    for name, words in utterances:
        times = [reading.time for reading in words if reading.time is not None]
        if len(times) < len(words):
            raise ScoringError(f"{path}: a ctm has the time of each word, and '{name}' has words without; write .jsonl")
        recordings = list(dict.fromkeys(time.recording for time in times))
        if len(recordings) > 1:
            raise ScoringError(
                f"{path}: the times of words in '{name}' are those of several recordings, {named(recordings)}; expected "
                "files with the times of one, or write .jsonl"
            )
        for recording in recordings:
            _check_id(path, recording, marks="")
        behind = (f"{reading.word} {reading.confidence:.4f}" for reading in words)
        timed += zip(_in_order(times), behind, strict=True)
    timed.sort(key=lambda each: (each[0].recording, each[0].channel, each[0].start))
    return [f"{time.recording} {time.channel} {time.start:.3f} {time.duration:.3f} {behind}" for time, behind in timed]


def _in_order(times: Iterable[WordTime]) -> Iterator[WordTime]:
    """`times` in milliseconds, none of which begins before an earlier one of its channel, or has its middle before any.

    NIST's tools ask for words by their starts, and here they are read by their middles. Systems do not agree on when a word
    is said: the later one begins as much later as it has to, and lasts as long.
    """
    latest, starts = 0.0, dict[str, float]()
    for each in times:
        start = max(round(each.start, 3), starts.get(each.channel, 0.0))
        time = each._replace(start=start, duration=round(each.duration, 3))
        if time.middle < latest:
            time = time._replace(start=round(latest - time.duration / 2 + 0.001, 3))
        latest = time.middle
        starts[time.channel] = time.start
        yield time


def _text(words: Sequence[Reading]) -> str:
    return " ".join(reading.word for reading in words if reading.word is not None)


def _check_id(path: Path, name: str, marks: str = "()") -> None:
    if not name or name.split() != [name] or set(name) & set(marks):
        raise ScoringError(f"{path}: the form '{form_of(path)}' cannot hold the id '{name}'; write .jsonl")


_WRITERS: dict[str, Callable[[Path, _Utterances], Iterable[str]]] = {
    "lines": _lines, "trn": _trn, "jsonl": _jsonl, "ctm": _ctm,
}  # fmt: skip
