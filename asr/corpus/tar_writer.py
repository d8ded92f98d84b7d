"""The tar files of shards: one utterance after another, each file under its name only when it is complete."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import Field

from asr.config import Section
from asr.corpus.utterance import Utterance


class Shard(Section):
    """One tar file of an index.

    Attributes:
        name: of the file in the index's folder; plain, since an index from a server may be anyone's.
        bytes: its size.
        num_samples: of each of its utterances.
        weight: how many times an epoch of training hears each of them, on average.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    bytes: int
    num_samples: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class PackedUtterance:
    """An utterance ready to be written.

    Attributes:
        utterance: its id, text, speaker and metadata.
        suffix: of the member that holds the audio, such as "flac".
        audio: the bytes of the sound file.
        num_samples: of the audio when decoded at the shards' sample rate.
    """

    utterance: Utterance
    suffix: str
    audio: bytes
    num_samples: int


def escaped_key(utterance_id: str) -> str:
    """The key under which a shard holds `utterance_id`: ASCII without dots or slashes.

    `urllib.parse.unquote` undoes it. webdataset takes all up to the first dot of a member's name as the key, so `a.1`
    and `a.2` would become one sample.

    Example:
        >>> escaped_key("spk.1/utt 2")
        'spk%2E1%2Futt%202'
    """
    return quote(utterance_id, safe="").replace(".", "%2E")


class ShardWriter:
    """Writes packed utterances into tar files, each of which appears under its name when it is complete.

    Args:
        folder: of the shards.
        megabytes: size at which a shard is closed.
        shards: that are there already; the new ones are numbered on from them.
    """

    def __init__(self, folder: Path, megabytes: float, shards: Iterable[Shard] = ()) -> None:
        self.folder = folder
        self.shards = list(shards)
        self._limit_bytes = int(megabytes * 1e6)
        self._tar: tarfile.TarFile | None = None
        self._num_samples: list[int] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._close_shard()
        else:
            self._abandon()

    def write(self, packed: PackedUtterance) -> Shard | None:
        """Appends one utterance, after closing the shard when it is full; then the result is the closed one."""
        closed = None
        if self._tar is not None and self._tar.offset >= self._limit_bytes:
            closed = self._close_shard()
        if self._tar is None:
            # Closed in _close_shard or _abandon, since a shard outlives the call that opens it.
            self._tar = tarfile.open(self._temporary, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        key = escaped_key(packed.utterance.id)
        self._add(self._tar, f"{key}.{packed.suffix}", packed.audio)
        self._add(self._tar, f"{key}.json", _sidecar(packed))
        self._num_samples.append(packed.num_samples)
        return closed

    @staticmethod
    def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # mtime, uid and names stay 0 and "": the same utterances, the same bytes
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))

    @property
    def _temporary(self) -> Path:
        return self.folder / ".shard.tmp"

    def _close_shard(self) -> Shard | None:
        if self._tar is None:
            return None
        self._tar.close()
        self._tar = None
        path = self.folder / f"shard-{len(self.shards):06d}.tar"
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(path)
        shard = Shard(name=path.name, bytes=path.stat().st_size, num_samples=tuple(self._num_samples))
        self.shards.append(shard)
        self._num_samples = []
        return shard

    def _abandon(self) -> None:
        if self._tar is not None and self._tar.fileobj is not None:
            self._tar.fileobj.close()  # the tar's own close would write its end, on a disk that may be full
        self._temporary.unlink(missing_ok=True)


def _sidecar(packed: PackedUtterance) -> bytes:
    utterance = packed.utterance
    record = {
        "id": utterance.id,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "seconds": utterance.seconds,
        "num_samples": packed.num_samples,
        "metadata": dict(utterance.metadata),
    }
    return json.dumps(record, ensure_ascii=False).encode("utf-8")
