"""The record of which stages of a run were begun and done, and from what: `stages.json` in a run folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr.atomic import write_text
from asr.errors import ConfigError

STAGES_FILE = "stages.json"


def read_marks(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of each stage in the run folder `folder`: its inputs, its code, whether it is done, how long it took.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / STAGES_FILE
    if not path.is_file():
        return {}
    try:
        marks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: damaged; put it back as it was, or use another --out") from error
    if not isinstance(marks, dict):
        raise ConfigError(f"{path}: damaged; put it back as it was, or use another --out")
    return marks


def write_mark(folder: Path, name: str, mark: dict[str, Any]) -> None:
    """Let `mark` be what is known of the stage `name`."""
    write_text(folder / STAGES_FILE, json.dumps({**read_marks(folder), name: mark}, indent=1))


@contextmanager
def marked_at_end(folder: Path, name: str) -> Iterator[None]:
    """While the stage `name` is worked at, which was marked as begun: it is done at the end, and its time adds up.

    That of earlier calls counts, too, unless the process was killed; an error marks no more than the time.
    """
    # With the inputs that it was begun with: a file may have been edited since.
    begun, start = read_marks(folder)[name], time.perf_counter()
    try:
        yield
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):  # of a full disk, of which the error tells
            write_mark(folder, name, {**begun, "seconds": begun["seconds"] + time.perf_counter() - start})
        raise
    write_mark(folder, name, {**begun, "done": True, "seconds": begun["seconds"] + time.perf_counter() - start})


def drop_mark(folder: Path, name: str) -> None:
    """Forget the stage `name`."""
    marks = read_marks(folder)
    if marks.pop(name, None) is not None:
        write_text(folder / STAGES_FILE, json.dumps(marks, indent=1))
