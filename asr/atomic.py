"""Files that are either the old or the new, never half of one, and folders in which one process works at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from asr.errors import ConfigError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8: under a temporary name, flushed to the disk, then renamed.

    Bytes of a file's name that are no UTF-8 become escapes such as JSON has.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`: under a temporary name in the same folder, flushed to the disk, then renamed."""
    write_parts(path, [content])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write `parts` to `path`, one after another, as `write_bytes` does; an error while they are made leaves no file."""
    with replaced(path) as file:
        file.writelines(parts)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yields a file under a temporary name, which becomes `path` at the end, on the disk; an error leaves `path` as it was.

    Behind a link, what it leads to is replaced; a pipe or a device is written to.
    """
    if path.exists() and not path.is_file():
        # A pipe, a terminal or /dev/null: to be written to, not to be replaced.
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()  # what a link leads to, not the link
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """While it lasts, no other process may enter with the file `lock`; that of a process that is killed falls.

    Raises:
        ConfigError: another process is there, and `what` says what it is; or nothing can be written there.
    """
    held = FileLock(lock, timeout=0)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout as error:
        raise ConfigError(
            f"{lock.parent}: {what} is at work here; wait until it has ended, or use another --out"
        ) from error
    except OSError as error:
        raise ConfigError(f"{lock.parent}: cannot write there: {error.strerror or error}; use another --out") from error
    try:
        yield
    finally:
        held.release()
