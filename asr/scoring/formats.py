"""Readers of the forms in which recognisers and corpora write transcripts.

lines  `id text`: LibriSpeech's `.trans.txt`, Kaldi's `text`
trn    `text (id)`: NIST, for sclite
jsonl  one JSON object a line, with an id and a text; also the manifests and transcripts of this package
csv    a table with a header, separated by commas, or by tabs (tsv)
stm    `recording channel speaker start end [<labels>] text`: NIST, references of long recordings
ctm    `recording channel start duration word [confidence]`: NIST, recognised words with their times
folder of sound files, each with a `.txt` of the same name beside it
"""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from asr.errors import ScoringError, did_you_mean
from asr.lines import Where, is_unicode, numbered_lines, read_records
from asr.scoring.filed import FiledTranscripts
from asr.scoring.timed import TimedWord, numbered_channel, words_in_segments, words_of_recordings
from asr.scoring.transcripts import Segment, Transcript, WordTime

_SECONDS_COLUMNS = ("seconds", "duration")
# What the csv module's limit can be on every system; its own is below a long recording's text.
_LONGEST_CELL = 2**31 - 1
_LINES_HINT = "; each line of plain text begins with its id, as in `id text`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names under which a table or JSON object holds the id and the text of an utterance."""

    id: str = "id"
    text: str = "text"


@dataclass(frozen=True, slots=True)
class _Entry:
    """One utterance as a file has it, and where."""

    id: str
    transcript: Transcript
    where: Where


def read_transcripts(
    path: Path,
    *,
    format: str | None = None,
    columns: Columns | None = None,
    references: Mapping[str, Transcript] | None = None,
    keep_extra: bool = False,
    may_be_empty: bool = False,
) -> FiledTranscripts:
    """The transcripts in the file at `path`, read once, by utterance id in Unicode's form NFC, in the file's order.

    Args:
        path: the file, or a folder.
        format: a name out of `FORMATS`; None: by the file's suffix, `lines` where that says nothing.
        columns: where tables and JSON objects hold id and text.
        references: what the words of a `ctm` belong to: to the segments of the references by their times, or, where these
            know no times, to the recording of that id.
        keep_extra: whether recordings of a `ctm` that the references do not have are texts without reference; else they
            are an error.
        may_be_empty: whether the file may hold nothing, as the ctm of a system that heard nothing.

    Raises:
        ScoringError: the file cannot be read, is not UTF-8, is not of that form, holds nothing, or an id stands twice.
    """
    kind = form_of(path, format)
    found = FiledTranscripts()
    if kind == "ctm":
        for name, transcript in _read_ctm(path, references or {}, keep_extra):
            if found.add(_id(name), transcript) is not None:
                raise ScoringError(
                    f"{path}: '{name}' is a recording, and a channel of another that would be called so; rename it"
                )
    elif kind not in FORMATS:
        raise ScoringError(f"--format {kind}: no such form{did_you_mean(kind, [*FORMATS, 'ctm'])}")
    else:
        for entry in FORMATS[kind](path, columns or Columns()):
            earlier = found.add(_id(entry.id), entry.transcript, line=entry.where.number)
            if earlier is not None:
                raise ScoringError(
                    f"{entry.where}: id '{entry.id}' stands already in line {earlier}; "
                    f"expected one transcript for each utterance{_LINES_HINT if kind == 'lines' else ''}"
                )
    if not found and not may_be_empty:
        raise ScoringError(f"{path}: expected transcripts in the form '{kind}', found none")
    return found


def _id(name: str) -> str:
    """The id `name` in Unicode's form NFC: in names of files, some systems write accents as characters of their own."""
    return unicodedata.normalize("NFC", name)


def has_columns(path: Path, format: str | None = None) -> bool:
    """Whether the file at `path`, in the form `format` or that of its suffix, holds id and text under names."""
    return form_of(path, format) in ("jsonl", "csv", "tsv")


def form_of(path: Path, format: str | None = None) -> str:
    """The name of the form in which the file at `path` is read or written: `format`, or what its suffix says."""
    return "folder" if path.is_dir() else format or _SUFFIXES.get(path.suffix.lower(), "lines")


def hint_about_ids(
    reference: Path,
    hypothesis: Path,
    *,
    format: str | None,
    said: Mapping[str, Transcript],
    heard: Mapping[str, Transcript],
) -> str:
    """Why the ids in two files that were read may well not be the same, given their forms; "" where these tell nothing."""
    forms = {form_of(path, format) for path in (reference, hypothesis)}
    if "ctm" in forms:
        silence = "; of a recording in which nothing is heard a ctm has no line, as if it were missing"
        times = (
            "; the references have no times, so a ctm is read as one text for each recording: an stm gives them times"
        )
        is_timed = any(transcript.segment is not None for transcript in said.values())
        may_be_silence = form_of(hypothesis, format) == "ctm" and all(name in said for name in heard)
        return silence * may_be_silence + times * (not is_timed)
    is_most_unknown = 2 * sum(name not in said for name in heard) > len(heard)
    return _LINES_HINT if "lines" in forms and is_most_unknown else ""


def _read_lines(path: Path, columns: Columns) -> Iterator[_Entry]:
    for where, line in numbered_lines(path, ScoringError):
        # Where there is a tab, as `asr transcribe` writes it, the id may hold spaces: it is the path of a file there.
        utterance_id, *text = line.lstrip().split("\t" if "\t" in line.lstrip() else None, maxsplit=1)
        yield _Entry(utterance_id.strip(), Transcript(text=text[0].strip() if text else ""), where)


def _read_trn(path: Path, columns: Columns) -> Iterator[_Entry]:
    for where, line in numbered_lines(path, ScoringError):
        text, opening, rest = line.rstrip().rpartition("(")
        if not opening or not rest.endswith(")") or not rest[:-1].strip():
            raise ScoringError(f"{where}: expected 'text (id)', found {line!r}")
        _check_reading(text, where)
        yield _Entry(rest[:-1].strip(), Transcript(text=text.strip()), where)


def _check_reading(text: str, where: str) -> None:
    if "{" in text:
        raise ScoringError(f"{where}: alternatives in braces are not supported; expected one reading of each text")


def _read_jsonl(path: Path, columns: Columns) -> Iterator[_Entry]:
    for where, record in read_records(path, ScoringError):
        yield _entry(record, columns, where)


def _read_folder(path: Path, columns: Columns) -> Iterator[_Entry]:
    from asr.corpus.folder import read_folder  # torch comes with that room

    for utterance in read_folder(path, may_be_silent=True):
        transcript = Transcript(text=utterance.text, speaker=utterance.speaker)
        yield _Entry(utterance.id, transcript, Where(path / f"{utterance.id}.txt", 1))


def _read_table(path: Path, columns: Columns, delimiter: str) -> Iterator[_Entry]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            # Strictly: else a mark that is never closed swallows the lines that follow.
            rows = csv.DictReader(file, delimiter=delimiter, strict=True)
            _check_header(rows.fieldnames or (), path)
            for row in rows:
                where = Where(path, rows.line_num)
                if None in row or None in row.values():
                    raise ScoringError(f"{where}: expected {len(rows.fieldnames or ())} columns as in the header")
                yield _entry(row, columns, where)
    except OSError as error:
        raise ScoringError(f"{path}: cannot read the file: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScoringError(f"{path}: not UTF-8 text; convert the file to UTF-8") from error
    except csv.Error as error:
        raise ScoringError(
            f"{path}:{rows.line_num + 1}: not a table ({error}); a cell that begins with a quotation mark has to end with "
            "one, and each mark within it stands twice"
        ) from error


def _check_header(names: Sequence[str], path: Path) -> None:
    if len(names) == 1 and ";" in names[0]:
        raise ScoringError(f"{path}:1: expected commas between the columns, or tabs in .tsv, found '{names[0]}'")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ScoringError(f"{path}:1: two columns are called '{twice}'; rename one")


def _entry(record: Mapping[str, object], columns: Columns, where: Where) -> _Entry:
    """The utterance that the cells of `record` describe, by the names of their columns."""
    for name, option in ((columns.id, "--id-column"), (columns.text, "--text-column")):
        if name not in record:
            known = ", ".join(f"'{each}'" for each in record)
            raise ScoringError(f"{where}: expected a column '{name}', found {known}; name the right one with {option}")
    for name, kinds in ((columns.id, (str, int, float)), (columns.text, (str, int, float, type(None)))):
        value = record[name]
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ScoringError(f"{where}: expected a text as '{name}', found {json.dumps(value)[:60]}")
    cells = {name: "" if value is None else str(value) for name, value in record.items()}
    if not is_unicode("".join((*cells, *cells.values()))):
        raise ScoringError(f"{where}: half of a surrogate pair, which is no letter; write the text again as UTF-8")
    durations = [cells[name] for name in _SECONDS_COLUMNS if cells.get(name)]
    transcript = Transcript(
        text=cells[columns.text],
        speaker=cells.get("speaker", ""),
        seconds=_number(durations[0], where) if durations else None,
        times=_word_times(record.get("words"), cells[columns.text], _id(cells[columns.id])),
        columns={name: value for name, value in cells.items() if name not in (columns.id, columns.text)},
    )
    return _Entry(cells[columns.id], transcript, where)


def _word_times(words: Any, text: str, recording: str) -> tuple[WordTime, ...]:
    """The times in `words`, as `asr transcribe --format json` has them; none where not each word of `text` has one."""
    try:
        found = [(str(each["word"]).strip(), float(each["start"]), float(each["end"])) for each in words]
    except (KeyError, TypeError, ValueError):
        return ()
    if [word for word, _, _ in found] != text.split() or not all(
        0 <= start <= end < math.inf for _, start, end in found
    ):
        return ()
    return tuple(WordTime(recording, "1", start, end - start) for _, start, end in found)


def _read_stm(path: Path, columns: Columns) -> Iterator[_Entry]:
    for where, line in numbered_lines(path, ScoringError):
        if line.startswith(";;"):
            continue
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            raise ScoringError(f"{where}: expected 'recording channel speaker start end [<labels>] text'")
        recording, channel, speaker = fields[:3]
        start, end = (_number(field, where) for field in fields[3:5])
        text = fields[5] if len(fields) > 5 else ""
        if text.startswith("<"):
            label, end_of_label, text = text.partition(">")
            if not end_of_label or " " in label:
                raise ScoringError(
                    f"{where}: expected a label such as <o,f0,male> before the text, found '{label[:40]}'; a text that "
                    "begins with < needs one, such as <o>"
                )
            # Labels are lists in all files that are about. One word in brackets is as likely said as a label.
            if "," not in label and label.lower() != "<o":
                raise ScoringError(
                    f"{where}: '{label}>' may be a label or the first word; write <o> before a text that begins with it, "
                    f"or '<o,{label[1:]}>' for a label"
                )
        _check_reading(text, where)
        if end <= start:
            raise ScoringError(f"{where}: the segment ends at {end} s and begins at {start} s")
        transcript = Transcript(
            text=text.strip(),
            speaker=speaker,
            seconds=end - start,
            segment=Segment(recording=_id(recording), channel=numbered_channel(channel), start=start, end=end),
        )
        yield _Entry(f"{recording}-{channel}-{fields[3]}-{fields[4]}", transcript, where)


def _read_ctm(path: Path, references: Mapping[str, Transcript], keep_extra: bool) -> Iterator[tuple[str, Transcript]]:
    words = _timed_words(path)
    if all(said.segment is None for said in references.values()):
        own = ids_in_ctm(references)
        return ((own.get(name, name), heard) for name, heard in words_of_recordings(words, own))
    return words_in_segments(words, references, keep_extra=keep_extra)


def ids_in_ctm(ids: Iterable[str]) -> dict[str, str]:
    """The `ids` by what they are called in a ctm, with underscores for spaces: a space would end them there.

    Raises:
        ScoringError: two are called the same.
    """
    found: dict[str, str] = {}
    for name in ids:
        other = found.setdefault("_".join(name.split()), name)
        if other != name:
            first, second = sorted((name, other))
            raise ScoringError(
                f"'{first}' and '{second}' are one id in a ctm, which has underscores for spaces; rename one"
            )
    return found


def _timed_words(path: Path) -> Iterator[TimedWord]:
    for where, line in numbered_lines(path, ScoringError):
        if line.startswith(";;"):
            continue
        fields = line.split()
        if len(fields) not in (5, 6):
            raise ScoringError(f"{where}: expected 'recording channel start duration word [confidence]'")
        start, duration = (_number(field, where) for field in fields[2:4])
        yield TimedWord(
            time=WordTime(_id(fields[0]), fields[1], start, duration),
            word=fields[4],
            where=where,
            confidence=_confidence(fields[5]) if len(fields) > 5 else None,
        )


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise ScoringError(f"{where}: expected a number of seconds, found '{text}'") from error
    if not 0 <= number < math.inf:
        raise ScoringError(f"{where}: expected a number of seconds, 0 or more, found '{text}'")
    return number


def _confidence(text: str) -> float | None:
    """The number in `text`; None where there is none, as in `NA`."""
    try:
        return float(text)
    except ValueError:
        return None


FORMATS: dict[str, Callable[[Path, Columns], Iterator[_Entry]]] = {
    "lines": _read_lines,
    "trn": _read_trn,
    "jsonl": _read_jsonl,
    "csv": partial(_read_table, delimiter=","),
    "tsv": partial(_read_table, delimiter="\t"),
    "stm": _read_stm,
    "folder": _read_folder,
}
"""Readers by the name of the form; `ctm` is read apart, since its words need references to belong to."""

_SUFFIXES = {f".{kind}": kind for kind in (*FORMATS, "ctm") if kind not in ("lines", "folder")} | {".json": "jsonl"}
