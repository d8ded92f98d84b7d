"""Where files lie: on a disk, or behind a URL, whose connection is opened again behind what was read when it breaks.

webdataset opens URLs too, but by `curl --retry`, which writes what it had written once more, and a command that fails at the
end of its output may pass for one that is done. Here each byte comes once, and too few of them are an error.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

from asr.corpus.download import BrokenOffError, connection, first_byte
from asr.errors import CorpusError

_LOG = logging.getLogger(__name__)
_HTTP = ("http://", "https://")
_S3 = "s3://"
_PIPE = "pipe:"
_NAME = "{}"
_BLOCK_BYTES = 1 << 18
_TRIES = 4
_WAIT_SECONDS = 0.5

Place = Path | str
"""A path on a disk, or a URL as text."""


def find_place(text: str) -> Place:
    """The path or URL that `text` means: `http://`, `https://`, `s3://` (read by `aws s3 cp`) or `pipe:COMMAND`.

    Raises:
        CorpusError: a URL of another kind.
    """
    if text.startswith((*_HTTP, _S3, _PIPE)):
        return text
    if re.match(r"\w[\w+.-]*://", text):
        raise CorpusError(
            f"{text}: expected a path, http://, https:// or s3://; for other stores 'pipe:COMMAND' with a command that "
            f"prints the file whose name takes the place of {_NAME}"
        )
    return Path(text)


def inside(folder: Place, name: str) -> Place:
    """The place of the file `name` in `folder`; a URL keeps its query, a pipe gets the name, quoted, instead of `{}`.

    Raises:
        CorpusError: a pipe without `{}`.

    Example:
        >>> inside("https://host/train?key=1", "index.json")
        'https://host/train/index.json?key=1'
        >>> inside("pipe:ssh host cat /data/{}", "index.json")
        'pipe:ssh host cat /data/index.json'
    """
    if isinstance(folder, Path):
        return folder / name
    if folder.startswith(_PIPE):
        if _NAME not in folder:
            raise CorpusError(f"{folder}: expected {_NAME} in the command, where the name of a file goes")
        return folder.replace(_NAME, shlex.quote(name))
    if folder.startswith(_S3):
        return f"{folder.rstrip('/')}/{name}"
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def title(folder: Place) -> str:
    """The last part of the name of `folder`, for tables and file names.

    Example:
        >>> title("https://host/data/train/?key=1"), title("pipe:ssh host cat /data/dev/{}")
        ('train', 'dev')
    """
    if isinstance(folder, Path):
        return folder.resolve().name  # that of `.` and `..` too
    return str(re.findall(r"[\w.-]+", folder.partition("?")[0].partition(_NAME)[0])[-1])


def as_file_name(name: str) -> str:
    """`name`, of a part or a subset, as the name of one file or folder.

    Example:
        >>> as_file_name("librispeech:test-clean"), as_file_name("recipes/mine.py:train")
        ('librispeech-test-clean', 'recipes-mine.py-train')
    """
    return re.sub(r"[:/\\]", "-", name)


def open_place(place: Place, size: int | None = None) -> IO[bytes]:
    """The file at `place`, to be read from its start.

    Args:
        place: where it lies.
        size: bytes that a file behind a URL must have; None: as many as come.

    Raises:
        OSError: the path cannot be opened.
        CorpusError: when it is read: the URL is refused, its connection breaks too often, or it has not `size` bytes.
    """
    if isinstance(place, Path):
        return place.open("rb")
    return io.BufferedReader(_BlockReader(_blocks(place, size)), _BLOCK_BYTES)


class _BlockReader(io.RawIOBase):
    """The bytes of `blocks` as a file."""

    def __init__(self, blocks: Generator[bytes]) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._block:
            self._block = memoryview(next(self._blocks, b""))
        count = min(len(buffer), len(self._block))
        buffer[:count], self._block = self._block[:count], self._block[count:]
        return count

    def close(self) -> None:
        self._blocks.close()
        super().close()


def _blocks(url: str, size: int | None) -> Generator[bytes]:
    """The bytes behind `url`; tries in vain are counted from the last byte that came."""
    done = num_failed = 0
    while True:
        try:
            with closing(_blocks_once(url, done, size)) as blocks:
                for block in blocks:
                    done += len(block)
                    num_failed = 0
                    if size is not None and done > size:
                        raise CorpusError(
                            f"{url}: more than the expected {size} bytes; copy or prepare the shards again"
                        )
                    yield block
            if size is None or done == size:
                return
            raise BrokenOffError(f"the connection ended after {done} of {size} bytes")
        except BrokenOffError as error:
            if done == size:
                return  # only what says that this was all is missing
            num_failed += 1
            if num_failed == _TRIES:
                raise CorpusError(
                    f"{url}: {error}; tried {_TRIES} times, check address and connection and run again"
                ) from error
            _LOG.warning("%s: %s; trying again", url, error)
            time.sleep(_WAIT_SECONDS * 2 ** (num_failed - 1))


def _blocks_once(url: str, start: int, size: int | None) -> Generator[bytes]:
    """The bytes behind `url` from `start` on.

    Raises:
        BrokenOffError: it ended early or not at all; trying again may help.
        CorpusError: trying again is of no use.
    """
    if url.startswith(_HTTP):
        return _blocks_of_server(url, start, size)
    command = ["aws", "s3", "cp", url, "-"] if url.startswith(_S3) else url.removeprefix(_PIPE)
    return _blocks_of_command(url, command, start)


def _blocks_of_server(url: str, start: int, size: int | None) -> Generator[bytes]:
    with connection(url, start) as response:
        first = first_byte(response, start)
        length = response.headers["Content-Length"]
        total = size if length is None else first + int(length)
        if size is not None and total != size:
            raise CorpusError(f"{url}: {total} bytes on the server, expected {size}; copy or prepare the shards again")
        for block in _behind(response.read1, start - first):
            start += len(block)
            yield block
        if total is not None and start < total:
            raise BrokenOffError(f"the connection ended after {start} of {total} bytes")


def _blocks_of_command(url: str, command: str | list[str], start: int) -> Generator[bytes]:
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(  # noqa: S603 - to run the user's command is what a pipe is for
                command,
                shell=isinstance(command, str),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except OSError as error:
            raise CorpusError(
                f"{url}: cannot run '{command[0]}' ({error.strerror}): install it, or use https or pipe:"
            ) from error
        with process:
            try:
                if process.stdout is not None:
                    yield from _behind(partial(os.read, process.stdout.fileno()), start)
                if process.wait():
                    complaints.seek(0)
                    said = complaints.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
                    raise BrokenOffError(
                        f"the command ended with exit code {process.returncode} ({said or 'silently'})"
                    )
            finally:
                process.kill()  # when the reader has enough before the end


def _behind(read: Callable[[int], bytes], skip: int) -> Generator[bytes]:
    """What `read` gives as it comes, but for the first `skip` bytes."""
    while block := read(_BLOCK_BYTES):
        if len(block) > skip:
            yield block[skip:]
        skip = max(0, skip - len(block))
