"""The journal of unfinished shards: what a preparation that was killed had written, so that the next goes on behind it.

A line for each full shard, written when the shard lies under its name. The last shard of a corpus has none: it is not
full, and whether it is the last is only known when the utterances end. `index.json` takes the journal's place.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from asr import __version__
from asr.atomic import write_bytes
from asr.config import Section
from asr.corpus.packing import UnusableUtterance, fingerprint
from asr.corpus.tar_writer import PackedUtterance, Shard
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError

_LOG = logging.getLogger(__name__)
_NAME = "unfinished.journal"

Progress = Callable[[int, float], None]
"""Called after each utterance with the number of utterances and the seconds of speech written so far."""


class LeftOut(Section):
    """An utterance whose audio is unusable.

    Attributes:
        id: of the utterance.
        reason: by which it is counted.
        message: which, where and why, for people.
    """

    id: str
    reason: str
    message: str


class Entry(Section):
    """A full shard and all that the index must know of the utterances that were read since the shard before.

    Attributes:
        shard: as the index will list it.
        num_read: utterances that were read for it, those left out included.
        fingerprint: of the settings and of all utterances from the first of the corpus to the last of these.
        speakers: different ones of the shard.
        left_out: in their order.
    """

    shard: Shard
    num_read: int
    fingerprint: str
    speakers: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


class Journal:
    """What was read since the last full shard, and the file that lists the full ones.

    Args:
        folder: of the shards.
        settings: all that decides the bytes of the shards, but for the utterances.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder = folder
        self._path = folder / _NAME
        self._hash = _hash(settings)
        self._num_read = 0
        self._speakers: set[str] = set()
        self._left_out: list[LeftOut] = []

    @property
    def fingerprint(self) -> str:
        """Of the settings and of all utterances so far."""
        return self._hash.hexdigest()

    def resume(self, utterances: Iterator[Utterance]) -> tuple[list[Entry], list[Utterance]]:
        """The entries of the shards that `utterances` would give again, and the utterances read too far.

        `utterances` then stand behind those of the entries, but for the ones read too far: at most a shard's worth, read
        to find that they are not what the shard was made of. The entries of it and of all behind it are dropped.
        """
        whole = self._path.read_bytes() if self._path.is_file() else b""
        kept: list[Entry] = []
        lines: list[bytes] = []
        read: list[Utterance] = []
        for line in whole.splitlines(keepends=True):
            entry = _parsed(line)
            if entry is None or not self._is_there(entry.shard):
                break
            read = list(islice(utterances, entry.num_read))
            sums = self._hash.copy()
            for utterance in read:
                sums.update(fingerprint(utterance))
            if sums.hexdigest() != entry.fingerprint:
                break
            self._hash, read = sums, []
            kept.append(entry)
            lines.append(line)
        # Before a shard is overwritten or removed: the journal never lists one that is not there.
        if kept and b"".join(lines) != whole:
            write_bytes(self._path, b"".join(lines))
        elif not kept:
            self.remove()
        return kept, read

    def _is_there(self, shard: Shard) -> bool:
        path = self._folder / shard.name
        return path.is_file() and path.stat().st_size == shard.bytes

    def add(self, sums: bytes, utterance: PackedUtterance | LeftOut) -> None:
        """Notes an utterance of the shard that is being written; `sums` is its fingerprint."""
        self._hash.update(sums)
        self._num_read += 1
        if isinstance(utterance, LeftOut):
            self._left_out.append(utterance)
        else:
            self._speakers.add(utterance.utterance.speaker)

    def close(self, shard: Shard) -> None:
        """Writes the entry of `shard`, which holds what was added since the one before, to the disk."""
        entry = Entry(
            shard=shard,
            num_read=self._num_read,
            fingerprint=self.fingerprint,
            speakers=tuple(sorted(self._speakers)),
            left_out=tuple(self._left_out),
        )
        self._num_read, self._speakers, self._left_out = 0, set(), []
        with self._path.open("ab") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Removes the file: the shards are finished, or none is worth keeping."""
        self._path.unlink(missing_ok=True)


def fingerprint_of(utterances: Iterable[Utterance], settings: str) -> str:
    """What `Journal.fingerprint` is behind all `utterances`."""
    sums = _hash(settings)
    for utterance in utterances:
        sums.update(fingerprint(utterance))
    return sums.hexdigest()


def _hash(settings: str) -> hashlib._Hash:
    return hashlib.sha256(f"{__version__} {settings}".encode())


class Totals:
    """What the utterances so far amount to, in this call and in the one that it goes on with."""

    def __init__(self, sample_rate: int, progress: Progress | None) -> None:
        self.skipped: dict[str, list[str]] = {}
        self.speakers: set[str] = set()
        self._sample_rate = sample_rate
        self._progress = progress
        self._num_written, self._num_samples, self._num_skipped, self._last_error = 0, 0, 0, ""

    def add_entries(self, entries: Sequence[Entry]) -> None:
        """Counts what the shards of `entries` hold, and names again what was left out on the way."""
        for entry in entries:
            self.speakers.update(entry.speakers)
            for num_samples in entry.shard.num_samples:
                self.add(num_samples)
            for utterance in entry.left_out:
                self.leave_out(utterance)
        if entries:
            _LOG.info("going on behind %d shards with %d utterances", len(entries), self._num_written)

    def add(self, num_samples: int) -> None:
        """Counts an utterance that is written."""
        self._num_written += 1
        self._num_samples += num_samples
        if self._progress is not None:
            self._progress(self._num_written, self._num_samples / self._sample_rate)

    def leave_out(self, utterance: LeftOut) -> None:
        """Counts and names an utterance that is not written."""
        self._num_skipped += 1
        self._last_error = utterance.message
        self.skipped.setdefault(utterance.reason, []).append(utterance.id)
        _LOG.warning("left out: %s", utterance.message)

    def check(self, folder: Path, max_skipped_share: float) -> None:
        """Raises CorpusError when nothing, or too little of what there was, could be written."""
        num_all = self._num_written + self._num_skipped
        if num_all == 0:
            raise CorpusError(f"{folder}: there are no utterances to write")
        if self._num_written == 0 or self._num_skipped > max_skipped_share * num_all:
            raise CorpusError(
                f"{self._num_skipped} of {num_all} utterances have unusable audio, the last: {self._last_error}"
            )


def left_out(unusable: UnusableUtterance) -> LeftOut:
    """What the journal and the log keep of an utterance that cannot be used."""
    # The name of a file may be no valid Unicode, which JSON could not hold.
    message = str(unusable.error).encode("utf-8", "backslashreplace").decode("utf-8")
    return LeftOut(id=unusable.utterance.id, reason=unusable.error.reason, message=message)


def _line(entry: Entry) -> bytes:
    content = entry.model_dump_json().encode("utf-8")
    return hashlib.sha256(content).hexdigest().encode("ascii") + b" " + content + b"\n"


def _parsed(line: bytes) -> Entry | None:
    """The entry in `line`; None when it is torn or damaged, so that it and all behind it are written again."""
    checksum, _, content = line.partition(b" ")
    content = content.removesuffix(b"\n")
    if not line.endswith(b"\n") or checksum.decode("latin-1") != hashlib.sha256(content).hexdigest():
        return None
    try:
        return Entry.model_validate_json(content)
    except ValidationError:  # whole, but of another version of this project
        return None
