"""The utterance: one piece of speech and what was said; the JSONL manifest that lists many.

A manifest holds one JSON object a line:

    {"id": "a-1", "audio": "wav/a-1.flac", "text": "hello", "seconds": 0.71, "speaker": "a", "room": "kitchen"}

`id`, `audio` (relative to the manifest's folder, or absolute) and `text` must be there, `seconds` and `speaker` may be,
any other key becomes metadata.
"""

from __future__ import annotations

import functools
import json
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from asr.atomic import write_parts
from asr.errors import CorpusError
from asr.lines import Unusable, Where, is_unicode, raised, read_records

_LOG = logging.getLogger(__name__)
_KEYS = ("id", "audio", "text", "seconds", "speaker")
GUIDE = "docs/guide.md turns lists of other tools into manifests"
KALDI = "from_kaldi in docs/guide.md makes a manifest of Kaldi's wav.scp or feats.scp with text and utt2spk"
_HINT = f'; expected {{"id": "a", "audio": "a.wav", "text": "..."}}; {GUIDE}'
_LONGEST_SECONDS = 1e9
WITHOUT_USE = dict.fromkeys(("start", "begin", "end", "offset"), "sounds are heard whole; cut them beforehand") | {
    "channel": "all channels are heard, mixed; write each to a file of its own beforehand"
}
"""Keys by which other tools cut recordings, and what becomes of the sound here, where they are mere columns."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One recording with its transcript.

    Attributes:
        id: unique within its corpus; any text without line breaks or NUL.
        audio: a sound file, or the bytes of one (a corpus that lies in an archive).
        text: what was said, as the corpus writes it.
        speaker: who said it, "" when unknown; confidence intervals resample by it.
        seconds: duration when the corpus states it, else None.
        metadata: further columns, such as {"voice": "en-us", "split": "test"}.
    """

    id: str
    audio: Path | bytes
    text: str
    speaker: str = ""
    seconds: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def check_id(utterance_id: str, *, where: str) -> None:
    """Accepts an utterance's id that every file of this project can hold: a line of text, at least one character.

    Raises:
        CorpusError: empty, more than one line, NUL, or half of a surrogate pair; `where` goes into the message.
    """
    if not utterance_id:
        raise CorpusError(f"{where}: the id is empty")
    if utterance_id.splitlines() != [utterance_id] or "\0" in utterance_id:
        raise CorpusError(f"{where}: the id {utterance_id!r} holds a line break or NUL")
    if not is_unicode(utterance_id):
        raise CorpusError(f"{where}: the id {utterance_id!r} is not valid Unicode")


def check_speaker(speaker: str, *, where: str) -> None:
    """Accepts a speaker's name that stands in one cell of a table; "" is an unknown one.

    Raises:
        CorpusError: a line break, a tab or another control character; `where` goes into the message.
    """
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in speaker):
        raise CorpusError(f"{where}: the speaker {speaker!r} holds a line break, a tab or another control character")


def read_manifest(path: Path, *, may_be_silent: bool = False) -> Iterator[Utterance]:
    """The utterances of the JSONL manifest at `path`, one at a time and in order.

    Blank lines are passed over. Metadata that is not text is kept as JSON (`3` as "3", `[1]` as "[1]"). With
    `may_be_silent` a text may be empty: to measure on, a recording in which nobody speaks is as good as another. A warning
    of the log tells of keys that are `WITHOUT_USE`, where they first stand.

    Raises:
        CorpusError: missing, not UTF-8, no utterance, or at a line: not JSON, a key missing or of the wrong type, an
            empty or repeated id, an unusable speaker, an empty text.
    """
    line_of_id: dict[str, int] = {}
    told: set[str] = set()
    for where, record in records_of_manifest(path):
        utterance = utterance_of_record(record, path.parent, where, may_be_silent=may_be_silent)
        line = line_of_id.setdefault(utterance.id, where.number)
        if line != where.number:
            raise CorpusError(f"{where}: id '{utterance.id}' stands already in line {line}; ids must be unique")
        # Not of a column of names, such as "channel": "agent".
        if new := [key for key in WITHOUT_USE if key not in told and cuts_sound(key, utterance.metadata.get(key, ""))]:
            told.update(new)
            reasons = (f"{', '.join(keys)} ({why})" for why, keys in groupby(new, key=WITHOUT_USE.__getitem__))
            warn_once(f"{where}: key without use: {'; '.join(reasons)}")
        yield utterance


def cuts_sound(key: str, value: str) -> bool:
    """Whether other tools hear less than the whole for the `value` of this key: a number, which for a start is not 0."""
    try:
        number = float(value)
    except ValueError:
        return False
    return number > 0 or key == "channel"


def records_of_manifest(path: Path, unusable: Unusable = raised) -> Iterator[tuple[Where, dict[str, Any]]]:
    """The JSON objects in the manifest at `path`, each after its place.

    Raises:
        CorpusError: missing, an array, or without one; what is wrong with a line goes to `unusable`.
    """
    is_empty = True
    for found in read_records(path, CorpusError, unusable, hint=_HINT):
        is_empty = False
        yield found
    if is_empty:
        raise CorpusError(f"{path}: the manifest holds no utterance")


def utterance_of_record(record: dict[str, Any], folder: Path, where: str, *, may_be_silent: bool = False) -> Utterance:
    """The utterance that one line of a manifest in `folder` describes; `where` goes into messages.

    Raises:
        CorpusError: a key missing or of the wrong type, an unusable id or speaker, an empty text.
    """
    utterance_id = _text(record, "id", where)
    check_id(utterance_id, where=where)
    audio, text = _text(record, "audio", where), _text(record, "text", where)
    if not audio or "\0" in audio or not is_unicode(audio, "surrogateescape"):
        raise CorpusError(f"{where}: 'audio' of '{utterance_id}' is not a path: {audio!r}")
    check_text(text, where=f"{where}: '{utterance_id}'", may_be_silent=may_be_silent)
    speaker = record.get("speaker")
    if speaker is not None and not isinstance(speaker, str):
        raise CorpusError(f"{where}: expected text in 'speaker', found {_json_type(speaker)}")
    check_speaker(speaker or "", where=where)
    rest = {key: value for key, value in record.items() if key not in _KEYS}
    if not is_unicode(_json(record | {"audio": ""})):
        raise CorpusError(f"{where}: what is said of '{utterance_id}' besides its text is not valid Unicode")
    return Utterance(
        id=utterance_id,
        audio=folder / audio,
        text=text,
        speaker=speaker or "",
        seconds=_seconds(record.get("seconds"), where),
        metadata={key: value if isinstance(value, str) else _json(value) for key, value in rest.items()},
    )


def check_text(text: str, *, where: str, may_be_silent: bool = False) -> None:
    """Accepts a transcript that says something, or `may_be_silent`.

    Raises:
        CorpusError: nothing but white space, or half of a surrogate pair; `where` goes into the message.
    """
    if not text.strip() and not may_be_silent:
        raise CorpusError(
            f"{where} has no text; write what is said, or leave the utterance out (where nobody speaks, `asr evaluate` "
            "takes it)"
        )
    if not is_unicode(text):
        raise CorpusError(f"{where}: the text {text!r} is not valid Unicode")


def _text(record: dict[str, Any], key: str, where: str) -> str:
    if key not in record:
        raise CorpusError(f"{where}: key '{key}' is missing; found {', '.join(map(repr, record)) or 'no key'}; {GUIDE}")
    value = record[key]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: expected text in '{key}', found {_json_type(value)}")
    return value


def _seconds(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorpusError(f"{where}: expected a number in 'seconds', found {_json_type(value)}")
    if not 0 < value < _LONGEST_SECONDS:
        raise CorpusError(f"{where}: expected a duration above 0 in 'seconds', found {_json_type(value)}")
    return float(value)


def _json_type(value: object) -> str:
    shown = _json(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> int:
    """Writes `utterances` to the JSONL manifest at `path`, which appears only when complete; returns their number.

    Sound files below the manifest's folder are written relative to it, so that the folder can be moved.

    Raises:
        CorpusError: an utterance whose audio is bytes, a repeated or unusable id, an unusable speaker, an empty text,
            metadata named like one of the manifest's own keys, or no room on the disk.
    """
    ids: set[str] = set()

    def lines() -> Iterator[bytes]:
        for utterance in utterances:
            if utterance.id in ids:
                raise CorpusError(f"{path}: id '{utterance.id}' occurs twice; ids must be unique")
            ids.add(utterance.id)
            yield f"{_json(_record_of(utterance, path))}\n".encode()

    try:
        write_parts(path, lines())
    except OSError as error:
        raise CorpusError(f"{path}: cannot write the manifest: {error.strerror or error}") from error
    return len(ids)


def _record_of(utterance: Utterance, path: Path) -> dict[str, object]:
    check_id(utterance.id, where=str(path))
    check_text(utterance.text, where=f"{path}: '{utterance.id}'")
    check_speaker(utterance.speaker, where=f"{path}: '{utterance.id}'")
    if isinstance(utterance.audio, bytes):
        raise CorpusError(f"{path}: '{utterance.id}' holds its audio as bytes; a manifest can only name files")
    taken = set(utterance.metadata).intersection(_KEYS)
    if taken:
        raise CorpusError(f"{path}: '{utterance.id}' has metadata named {sorted(taken)}, which means something else")
    audio, folder = utterance.audio.absolute(), path.parent.absolute()
    record: dict[str, object] = {
        "id": utterance.id,
        "audio": (audio.relative_to(folder) if audio.is_relative_to(folder) else audio).as_posix(),
        "text": utterance.text,
    }
    if utterance.seconds is not None:
        record["seconds"] = utterance.seconds
    if utterance.speaker:
        record["speaker"] = utterance.speaker
    return record | dict(utterance.metadata)


@functools.cache
def warn_once(message: str) -> None:
    """A folder or a list is read several times: by each part that is made of it, and to see whether it was edited."""
    _LOG.warning("%s", message)
