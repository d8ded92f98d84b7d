"""The tar files of shards: one utterance after another, each file under its name only when it is complete.

Where one ends is decided by the utterances in it, not by how many came before, and its name by what it holds: a speaker who
is added to a corpus or removed changes the shards around his place, and the others keep name and bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import Field

from asr.config import Section
from asr.corpus.places import Place
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError

# Shards have 1.7 times their least size on average, hardly ever this many times.
_MOST_TIMES = 4
_ABOVE_ALL = b"\xff" * (hashlib.sha256().digest_size + 1)


class Shard(Section):
    """One tar file of an index.

    Attributes:
        name: of the file in the index's folder; plain, since an index from a server may be anyone's.
        bytes: its size.
        num_samples: of each of its utterances.
        num_characters: of the text of each.
        weight: how many times an epoch of training hears each of them, on average.
        sha256: of the file. When sound is corrected, the name, of texts and lengths, and the size, in blocks of 10 kB, may
            stay.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    bytes: int
    num_samples: tuple[int, ...]
    num_characters: tuple[int, ...]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    weight: float = 1.0

    def check_sha256(self, found: str, place: Place) -> None:
        """Raises CorpusError when `found`, that of the file at `place`, is another than the index says."""
        if found != self.sha256:
            raise CorpusError(
                f"{place}: not the file that the index lists: sha256 is {found}, expected {self.sha256}; copy or prepare "
                "the shards again"
            )


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


class Contents:
    """What a shard holds, and what it is called for that.

    Without the audio, for Opus differs in a few bytes each time. Ids are unique, so no two shards share a name.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, suffix: str, sidecar: bytes) -> None:
        """One more utterance, of the suffix of its audio and the bytes of its description."""
        self._hash.update(suffix.encode() + sidecar)

    @property
    def shard_name(self) -> str:
        """Name of the file of a shard that holds what was added."""
        return f"shard-{self._hash.hexdigest()[:16]}.tar"


class ShardWriter:
    """Writes packed utterances into tar files, each of which appears under its name when it is complete.

    Args:
        folder: of the shards.
        megabytes: least size of a shard, but for the last.
        utterances: or their least number, whichever comes first; None: size alone.
        shards: that are there already; the new ones come behind them.
    """

    def __init__(
        self, folder: Path, megabytes: float, utterances: int | None = None, shards: Iterable[Shard] = ()
    ) -> None:
        self.folder = folder
        self.shards = list(shards)
        self._least_bytes = int(megabytes * 1e6)
        self._least_number = math.inf if utterances is None else utterances
        self._tar: tarfile.TarFile | None = None
        self._num_samples: list[int] = []
        self._num_characters: list[int] = []
        # Hash of an id, where in the shard its utterance begins, and how many stand before it.
        self._lowest, self._lowest_at, self._lowest_number = _ABOVE_ALL, 0, 0
        self._contents = Contents()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._close_shard()
        except OSError:  # such as on a full disk
            self._abandon()
            raise

    def write(self, packed: PackedUtterance) -> Shard | None:
        """Appends one utterance, after closing the shard when it is full; then the result is the closed one."""
        closed = self._close_shard() if self._is_full() else None
        if self._tar is None:
            # Closed in _close_shard or _abandon, since a shard outlives the call that opens it.
            self._tar = tarfile.open(self._temporary, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        key, sidecar = escaped_key(packed.utterance.id), _sidecar(packed)
        number = hashlib.sha256(key.encode("ascii")).digest()
        if number < self._lowest:
            self._lowest, self._lowest_at, self._lowest_number = number, self._tar.offset, len(self._num_samples)
        self._add(self._tar, f"{key}.{packed.suffix}", packed.audio)
        self._add(self._tar, f"{key}.json", sidecar)
        self._contents.add(packed.suffix, sidecar)
        self._num_samples.append(packed.num_samples)
        self._num_characters.append(len(packed.utterance.text))
        return closed

    def _begin_shard(self) -> None:
        self._num_samples.clear()
        self._num_characters.clear()
        self._lowest, self._lowest_at, self._lowest_number = _ABOVE_ALL, 0, 0
        self._contents = Contents()

    def _is_full(self) -> bool:
        """Whether the lowest hash has stayed the lowest for the least size, or the least number of utterances.

        Wherever two corpora hold the same utterances, the same ones have the lowest hashes, and so shards that began at
        different places soon end at the same (asymmetric extremum chunking, Zhang et al. 2015).
        """
        if self._tar is None:
            return False

        def is_full(size: int, lowest_at: int, least: float) -> bool:
            return size - lowest_at >= least or size >= _MOST_TIMES * least

        return is_full(self._tar.offset, self._lowest_at, self._least_bytes) or is_full(
            len(self._num_samples), self._lowest_number, self._least_number
        )

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
        path = self.folder / self._contents.shard_name
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256")
        self._temporary.replace(path)
        shard = Shard(
            name=path.name,
            bytes=path.stat().st_size,
            num_samples=tuple(self._num_samples),
            num_characters=tuple(self._num_characters),
            sha256=digest.hexdigest(),
        )
        self.shards.append(shard)
        self._begin_shard()
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
