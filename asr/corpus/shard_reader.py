"""The utterances of shards, one at a time, as they were written."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from webdataset.tariterators import group_by_keys, tar_file_expander

from asr.corpus.places import Place, open_place
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


def shard_utterances(index: ShardIndex) -> Iterator[Utterance]:
    """The utterances of the shards of `index` in the order of writing, with their audio still compressed, as bytes.

    Raises:
        CorpusError: a shard cannot be read or does not hold what the index lists.
    """
    for shard in index.shards:
        for stored in read_shard(index, shard):
            yield stored.utterance


def read_shard(index: ShardIndex, shard: Shard) -> Iterator[StoredUtterance]:
    """The utterances of one shard of `index`, one at a time and in order.

    Raises:
        CorpusError: the shard cannot be read or does not hold what the index lists.
    """
    path = index.place(shard)
    num_read = 0
    for members in shard_members(path, shard.bytes):
        stored = stored_utterance(members, path)
        if num_read == len(shard.num_samples) or stored.num_samples != shard.num_samples[num_read]:
            raise CorpusError(f"{stored.name}: not what the index lists there; prepare the shards again")
        num_read += 1
        yield stored
    if num_read < len(shard.num_samples):
        raise CorpusError(
            f"{path}: {num_read} of {len(shard.num_samples)} utterances are there; prepare the shards again"
        )


def shard_members(place: Place, num_bytes: int) -> Iterator[dict[str, Any]]:
    """For each key of the shard at `place`, its members by suffix, as webdataset groups them.

    Raises:
        CorpusError: the shard cannot be read, or behind a URL there are not `num_bytes` bytes.
    """
    try:
        with open_place(place, num_bytes) as stream:
            yield from group_by_keys(tar_file_expander([{"url": str(place), "stream": stream}]))
            while stream.read(_BLOCK_BYTES):  # behind the tar's end mark: whether the file ends, and in time
                pass
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        reason = str(error.args[0]).partition(" @ ")[0] if error.args else type(error).__name__
        if isinstance(error, OSError):
            reason = error.strerror or reason
        raise CorpusError(f"{place}: cannot read the shard: {reason}; prepare the shards again") from error


def stored_utterance(members: dict[str, Any], path: Place) -> StoredUtterance:
    """The utterance that `members` of the shard at `path` describe.

    Raises:
        CorpusError: not one sound file, or the description is missing or damaged.
    """
    where = f"{path}: {members['__key__']}"
    audio = members[suffix_of_audio(members, where)]
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
