"""Files read line by line, those of JSON too: lists of utterances, references, hypotheses."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from asr.errors import AsrError


class Where(str):
    """The place "FILE:NUMBER" of a line, which also gives the number."""

    __slots__ = ("number",)
    number: int

    def __new__(cls, path: Path, number: int) -> Self:
        """The place of the line `number` of the file at `path`."""
        where = super().__new__(cls, f"{path}:{number}")
        where.number = number
        return where


Unusable = Callable[[Where, AsrError], None]
"""Told the place of a line that cannot be used, and what is wrong with it."""


def raised(where: Where, error: AsrError) -> None:
    """Raises `error`."""
    raise error


def numbered_lines(path: Path, complaint: type[AsrError], unusable: Unusable = raised) -> Iterator[tuple[Where, str]]:
    """The lines of the file at `path` that hold more than white space, each after its place.

    Raises:
        AsrError: a `complaint` that the file cannot be read; one that a line is not UTF-8 goes to `unusable`.
    """
    try:
        with path.open("rb") as file:
            # Only \n ends a line: str.splitlines would also cut a text at U+2028 and the like.
            for number, content in enumerate(file, start=1):
                where = Where(path, number)
                try:
                    line = content.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").decode("utf-8")
                except UnicodeDecodeError:
                    unusable(where, complaint(f"{where}: not UTF-8 text; convert the file to UTF-8"))
                    continue
                if line.strip():
                    yield where, line.rstrip("\r\n")
    except OSError as error:
        raise complaint(f"{path}: cannot read the file: {error.strerror or error}") from error


def read_records(
    path: Path, complaint: type[AsrError], unusable: Unusable = raised, *, hint: str = ""
) -> Iterator[tuple[Where, dict[str, Any]]]:
    """The JSON objects in the file at `path`, one a line, each after its place; `hint` goes behind `not JSON`.

    Raises:
        AsrError: a `complaint` that the file cannot be read or is an array; one of a line goes to `unusable`.
    """
    for number, (where, line) in enumerate(numbered_lines(path, complaint, unusable)):
        if number == 0 and line.lstrip().startswith("["):
            raise complaint(array_in_place_of_lines(path))
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            unusable(where, complaint(f"{where}: not JSON{_what_else(path, line, error)}{hint}"))
            continue
        if isinstance(record, dict):
            yield where, record
        else:
            unusable(where, complaint(f"{where}: expected a JSON object, found {line.strip()[:40]}"))


def array_in_place_of_lines(path: Path) -> str:
    """What is wrong with the file at `path`, whose first letter is that of an array."""
    turn = f"`jq -c '.[]' {shlex.quote(str(path))}` writes its objects so"
    return f"{path}: expected a JSON object in each line, found an array; {turn}"


def _what_else(path: Path, line: str, error: Exception) -> str:
    if not (isinstance(error, json.JSONDecodeError) and line.lstrip()[:1] == "{" and error.pos >= len(line.rstrip())):
        return f": {error}"
    turn = f"`jq -c . {shlex.quote(str(path))}` writes each whole one in one line"
    return f" ({error}): expected a JSON object in each line, found one over several lines, or cut off; {turn}"


def is_unicode(text: str, errors: str = "strict") -> bool:
    """Whether a file can hold `text`: an escape of JSON can name half of a surrogate pair, which UTF-8 cannot."""
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True
