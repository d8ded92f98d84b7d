"""The utterances of shards, one at a time, as they were written."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import IO, Any

from webdataset.tariterators import group_by_keys, tar_file_expander

from asr.corpus.places import Place, open_place
from asr.corpus.shard_cache import open_copy
from asr.corpus.shards import ShardIndex
from asr.corpus.tar_writer import Shard
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class StoredUtterance:
    """An utterance as a shard holds it.

    Attributes:
        utterance: with its audio still compressed, as bytes.
        num_samples: of the audio when decoded at the index's sample rate.
        name: which and where, for errors.
    """

    utterance: Utterance
    num_samples: int
    name: str


def shard_utterances(index: ShardIndex, *, with_audio: bool = True) -> Iterator[Utterance]:
    """The utterances of the shards of `index` in the order of writing, with their audio still compressed, as bytes.

    Without it, where only what is said matters, they have none (`b""`), and that on a disk is not read.

    Raises:
        CorpusError: a shard cannot be read or does not hold what the index lists.
    """
    for shard in index.shards:
        for stored in read_shard(index, shard, with_audio=with_audio):
            yield stored.utterance


def read_shard(
    index: ShardIndex, shard: Shard, wanted: Sequence[int] | None = None, *, with_audio: bool = True
) -> Iterator[StoredUtterance]:
    """The utterances of one shard of `index`, one at a time and in order; with `wanted`, those alone that it is 1 for.

    On a disk, only their bytes are read, and nowhere is a shard opened of which none is wanted. With `index.cache`, one
    behind a URL is read from its copy there, which is made if need be, or from the URL if somebody deletes it meanwhile.

    Raises:
        CorpusError: the shard cannot be read or does not hold what the index lists, or its copy cannot be made.
    """
    listed = enumerate(shard.num_samples)
    numbers = list(listed if wanted is None else compress(listed, wanted))
    if not numbers:
        return
    place = path = index.place(shard)
    copy = open_copy(place, shard, index.cache) if isinstance(place, str) and index.cache is not None else None
    if copy is not None:
        path = Path(copy.name)
    num_read = 0
    try:
        for members in shard_members(path, shard.bytes, wanted, with_audio=with_audio, file=copy):
            stored = stored_utterance(members, path, with_audio=with_audio)
            if num_read == len(numbers) or stored.num_samples != numbers[num_read][1]:
                raise CorpusError(f"{stored.name}: not what the index lists there; prepare the shards again")
            num_read += 1
            yield stored
        if num_read < len(numbers):
            raise CorpusError(f"{path}: {num_read} of {len(numbers)} utterances are there; prepare the shards again")
    except CorpusError as error:
        if path == place:
            raise
        raise CorpusError(f"{error}, or delete this copy of {place}, which is then fetched again") from error


def shard_members(
    place: Place,
    num_bytes: int,
    wanted: Sequence[int] | None = None,
    *,
    with_audio: bool = True,
    seen: Callable[[bytes], object] | None = None,
    file: IO[bytes] | None = None,
) -> Iterator[dict[str, Any]]:
    """For each key of the shard at `place`, its members by suffix, as webdataset groups them.

    `wanted` and `with_audio` as in `read_shard`; from a URL the audio comes all the same. With neither, `seen` is told
    all bytes of the file, to its end. A `file` that is open already is that at `place`.

    Raises:
        CorpusError: the shard cannot be read, or behind a URL there are not `num_bytes` bytes.
    """
    try:
        with file or open_place(place, num_bytes) as stream:
            if isinstance(place, Path) and not (wanted is None and with_audio):
                yield from group_by_keys(_picked(stream, place, wanted, with_audio))
                return
            told = stream if seen is None else _Told(stream, seen)
            found = group_by_keys(tar_file_expander([{"url": str(place), "stream": told}]))
            yield from found if wanted is None else compress(found, wanted)
            while told.read(_BLOCK_BYTES):  # behind the tar's end mark: whether the file ends, and in time
                pass
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        reason = str(error.args[0]).partition(" @ ")[0] if error.args else type(error).__name__
        if isinstance(error, OSError):
            reason = error.strerror or reason
        raise CorpusError(f"{place}: cannot read the shard: {reason}; prepare the shards again") from error


@dataclass(frozen=True)
class _Told:
    """A file whose bytes are also told to `seen`, as they are read."""

    file: IO[bytes]
    seen: Callable[[bytes], object]

    def read(self, size: int) -> bytes:
        block = self.file.read(size)
        self.seen(block)
        return block


def _picked(stream: IO[bytes], path: Path, wanted: Sequence[int] | None, with_audio: bool) -> Iterator[dict[str, Any]]:
    """The members that are asked for, as webdataset expands a tar, which would read all of it."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        number, key = -1, ""
        for member in tar:
            before, (key, _, suffix) = key, member.name.partition(".")
            number += key != before
            is_wanted = wanted is None or (number < len(wanted) and wanted[number])
            if is_wanted and (with_audio or suffix == "json") and (content := tar.extractfile(member)) is not None:
                yield {"fname": member.name, "data": content.read(), "__url__": str(path)}


def stored_utterance(members: dict[str, Any], path: Place, *, with_audio: bool = True) -> StoredUtterance:
    """The utterance that `members` of the shard at `path` describe; without audio, it has none.

    Raises:
        CorpusError: not one sound file, or the description is missing or damaged.
    """
    where = f"{path}: {members['__key__']}"
    audio = members[suffix_of_audio(members, where)] if with_audio else b""
    try:
        record = json.loads(members["json"])
        num_samples = int(record.pop("num_samples"))
        utterance = Utterance(audio=audio, **record)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"{where}: damaged description ({error}); prepare the shards again") from error
    return StoredUtterance(utterance, num_samples, f"{path}: utterance '{utterance.id}'")


def suffix_of_audio(members: dict[str, Any], where: str = "") -> str:
    """The suffix of the one sound file among `members`, such as "flac"; `where` goes into the message.

    Raises:
        CorpusError: there is none, or more than one.
    """
    suffixes = [suffix for suffix in members if suffix != "json" and not suffix.startswith("__")]
    if len(suffixes) != 1:
        raise CorpusError(f"{where}: expected one sound file, found {len(suffixes)}; prepare the shards again")
    return suffixes[0]
