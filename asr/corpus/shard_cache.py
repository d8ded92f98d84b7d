"""Copies of shards that lie behind URLs, in a folder of this machine: fetched once for all processes, epochs and runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from asr.atomic import write_parts
from asr.corpus.places import open_place
from asr.corpus.tar_writer import Shard
from asr.corpus.utterance import warn_once
from asr.errors import CorpusError

_BLOCK_BYTES = 1 << 18


def open_copy(url: str, shard: Shard, folder: Path) -> BinaryIO | None:
    """A copy of `shard` in `folder`, to be read from its start; it is fetched from `url` unless it is there whole.

    Of several processes one fetches it, and the others wait for that. It is called by what is in it, so that a shard that
    was prepared anew is fetched anew, and one that lies behind two URLs, once. It and its folder may be deleted at any time:
    while it is read, nothing is lost, and where that befalls it before, there is None.

    Raises:
        CorpusError: as `open_place`, the index lists another file, or nothing can be written there, as on a full disk.
    """
    path = folder / f"{shard.sha256[:16]}-{shard.name}"
    try:
        if file := _opened(path, shard):
            return file  # perhaps in a folder that nobody may write to
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):
            file = _opened(path, shard)  # fetched by the process that was waited for
            if file is None:
                write_parts(path, _blocks(url, shard))
                file = _opened(path, shard)
            return file
    except FileNotFoundError:
        warn_once(f"{path}: deleted before it could be read; the shard is read where it lies")
        return None
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot keep a copy of the shard: {error.strerror or error}; make room there, take another folder for "
            "shards.cache (of asr evaluate: --cache), or none"
        ) from error


def _opened(path: Path, shard: Shard) -> BinaryIO | None:
    """The copy at `path`; None where it is not whole. What is open stays whole, whoever deletes it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    if os.fstat(file.fileno()).st_size == shard.bytes:
        return file
    file.close()
    return None


def _blocks(url: str, shard: Shard) -> Iterator[bytes]:
    digest = hashlib.sha256()
    with open_place(url, shard.bytes) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            yield block
    # Of a folder that is being copied there, the index may be new and the shard still the old one: not to be kept.
    shard.check_sha256(digest.hexdigest(), url)
