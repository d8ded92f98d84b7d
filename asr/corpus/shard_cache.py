"""Copies of shards that lie behind URLs, in a folder of this machine: fetched once for all processes, epochs and runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from asr.atomic import write_parts
from asr.corpus.places import open_place
from asr.corpus.tar_writer import Shard
from asr.errors import CorpusError

_BLOCK_BYTES = 1 << 18


def copied(url: str, shard: Shard, folder: Path) -> Path:
    """The path of a copy of `shard` in `folder`, fetched from `url` unless it is there whole.

    Of several processes one fetches it, and the others wait for that. It is called by what is in it, so that a shard that
    was prepared anew is fetched anew, and one that lies behind two URLs, once.

    Raises:
        CorpusError: as `open_place`, the index lists another file, or nothing can be written there, as on a full disk.
    """
    path = folder / f"{shard.sha256[:16]}-{shard.name}"
    try:
        if _is_whole(path, shard):
            return path  # perhaps in a folder that nobody may write to
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):
            if not _is_whole(path, shard):  # not by the process that was waited for either
                write_parts(path, _blocks(url, shard))
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot keep a copy of the shard: {error.strerror or error}; make room there, take another folder for "
            "shards.cache (of asr evaluate: --cache), or none"
        ) from error
    return path


def _is_whole(path: Path, shard: Shard) -> bool:
    return path.is_file() and path.stat().st_size == shard.bytes


def _blocks(url: str, shard: Shard) -> Iterator[bytes]:
    digest = hashlib.sha256()
    with open_place(url, shard.bytes) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            yield block
    # Of a folder that is being copied there, the index may be new and the shard still the old one: not to be kept.
    shard.check_sha256(digest.hexdigest(), url)
