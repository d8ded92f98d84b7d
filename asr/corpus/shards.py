"""Shards: tar files that hold, for each utterance, `KEY.flac` (or `.opus`, or the original) and `KEY.json`.

webdataset reads them, so do `tar` and `shard_reader.py`. `index.json` lists them and is written last: a folder without it is
unfinished, and `journal.py` knows how far it is. Audio is checked, mixed to mono and resampled here, once, so that training
reads only what is known to be good. A finished folder may be copied to a server and read from there (`places.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from asr.atomic import write_text
from asr.config import Section
from asr.corpus.ahead import map_ahead
from asr.corpus.journal import Journal, Progress, Totals, fingerprint_of, left_out
from asr.corpus.packing import UnusableUtterance, fingerprint, pack_utterance
from asr.corpus.places import Place, inside, open_place
from asr.corpus.tar_writer import PackedUtterance, Shard, ShardWriter
from asr.corpus.utterance import Utterance, check_id, check_text
from asr.errors import CorpusError

_INDEX = "index.json"
_AHEAD_PER_THREAD = 4


class ShardsConfig(Section):
    """How a corpus is packed, and whether shards from elsewhere are kept."""

    codec: Literal["flac", "opus", "original"] = Field(
        "flac",
        description="flac: 16 bits, lossless; opus: a sixth of the size, lossy; original: the corpus's own files, "
        "which training then decodes and resamples each time",
    )
    megabytes: float = Field(
        64.0,
        gt=0,
        description="least size of a shard but the last; on average they have 1.7 times, at most 4 times that",
    )
    num_utterances: int | None = Field(
        default=None,
        ge=1,
        description="or least number of utterances in a shard, whichever comes first, on average 1.7 times as many; null: "
        "size alone",
    )
    num_threads: int = Field(4, ge=0, description="threads that decode and encode; they change speed, not bytes")
    max_skipped_share: float = Field(
        0.5, ge=0, le=1, description="stop when a larger share of the utterances has unusable audio"
    )
    cache: Path | None = Field(
        default=None,
        description="folder on this machine's disk for copies of shards behind URLs, each fetched once for all processes "
        "and epochs; changes speed, not results; null: they are fetched at each reading",
    )


class ShardIndex(Section):
    """What a folder of shards holds.

    Attributes:
        folder: path or URL where the shards lie.
        sample_rate: of the audio, in hertz (with codec "original": of the samples that are read from it), or stored frames
            per second.
        num_features: values in a stored frame, 0 when the shards hold audio.
        codec: how the audio is stored; stored frames are always `.npy`.
        num_speakers: different speakers named, 0 when none is.
        skipped: ids of utterances that are not in the shards, by reason.
        shards: in the order in which they were written.
        source: fingerprint of what they were made of and how, "" for those of several folders together.
        whole: utterances in all of the published subset of which this is the whole or a part, 0 where that is not known.
        cache: folder for copies of shards that lie behind URLs, None: they are fetched at each reading.
    """

    folder: Place = Field(exclude=True)
    cache: Path | None = Field(default=None, exclude=True)
    version: Literal[1] = 1
    sample_rate: int = Field(gt=0)
    num_features: int = Field(default=0, ge=0)
    codec: Literal["flac", "opus", "original"]
    num_speakers: int
    skipped: dict[str, tuple[str, ...]]
    shards: tuple[Shard, ...] = Field(min_length=1)
    source: str = ""
    whole: int = Field(default=0, ge=0)

    @property
    def num_utterances(self) -> int:
        """Number of utterances in all shards."""
        return sum(len(shard.num_samples) for shard in self.shards)

    @property
    def seconds(self) -> float:
        """Duration of all utterances in seconds."""
        return sum(sum(shard.num_samples) for shard in self.shards) / self.sample_rate

    @property
    def contents(self) -> str:
        """A digest of the shards' names, which tell what they hold, of their sizes and weights."""
        each = [(shard.name, shard.bytes, shard.weight) for shard in self.shards]
        return hashlib.sha256(repr(each).encode()).hexdigest()

    @property
    def num_skipped(self) -> int:
        """Number of utterances that were left out because their audio is unusable."""
        return sum(map(len, self.skipped.values()))

    @classmethod
    def load(cls, folder: Place, *, check_shards: bool = True, cache: Path | None = None) -> ShardIndex:
        """The index of the shards in `folder`, a path or a URL (see `find_place`), with copies of them in `cache`.

        Raises:
            CorpusError: there is no index (never finished, or not a folder of shards), it is damaged, or with
                `check_shards` a shard on a disk is missing or has another size than the index says; or the URL fails.
        """
        path = inside(folder, _INDEX)
        try:
            with open_place(path) as file:
                record = json.loads(file.read())
            index = cls.model_validate({**record, "folder": folder, "cache": cache})
        except FileNotFoundError as error:
            raise CorpusError(_why_no_index(folder)) from error
        except OSError as error:
            raise CorpusError(f"{path}: cannot read the index: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise CorpusError(f"{path}: damaged index: {key}: {first['msg']}; prepare the shards again") from error
        except (ValueError, TypeError) as error:
            raise CorpusError(f"{path}: damaged index: {error}; prepare the shards again") from error
        if check_shards:
            for shard in index.shards:
                index.check(shard)
        return index

    def check(self, shard: Shard) -> None:
        """Raises CorpusError when the file of `shard` is missing or has another size than the index says.

        Behind a URL that shows when it is read.
        """
        path = self.place(shard)
        if isinstance(path, str):
            return
        try:
            found = path.stat().st_size
        except OSError as error:
            raise CorpusError(f"{path}: shard is missing; prepare the shards again") from error
        if found != shard.bytes:
            raise CorpusError(f"{path}: shard has {found} bytes, expected {shard.bytes}; prepare the shards again")

    def check_fits(self, sample_rate: int, num_features: int) -> None:
        """Raises CorpusError when a model of that many hertz and stored features could not hear these shards."""
        if self.num_features != num_features:
            raise CorpusError(
                f"{self.folder}: these shards hold {_contents(self.num_features)}, the model takes {_contents(num_features)}"
            )
        if self.sample_rate != sample_rate:
            raise CorpusError(
                f"{self.folder}: these shards have {self.sample_rate} Hz, the model hears {sample_rate} Hz; "
                "take the manifest or recipe instead, which is resampled"
            )

    def place(self, shard: Shard) -> Place:
        """Path or URL of the file of `shard`."""
        return shard.place if isinstance(shard, PlacedShard) else inside(self.folder, shard.name)


class PlacedShard(Shard):
    """A shard of one of several folders.

    Attributes:
        place: of its file. No index on a disk or a server can say it: a pipe would run there what the index likes.
    """

    place: Place


def _why_no_index(folder: Place) -> str:
    if isinstance(folder, Path):
        if not folder.is_dir():
            return f"{folder}: no such folder"
        found = (*folder.glob(f"*/{_INDEX}"), *folder.glob(f"shards/*/{_INDEX}"))  # the second of a run folder
        names = sorted(str(path.parent.relative_to(folder)) for path in found)
        if names:
            return f"{folder}: no shards here, but in its folders: {', '.join(names)}"
        files = sorted(path.name for path in folder.iterdir())
        if files and not any(name.startswith("shard-") or name.endswith(".journal") for name in files):
            return f"{folder}: expected a folder of shards, with an {_INDEX}, found others, such as '{files[0]}'"
    return f"{inside(folder, _INDEX)}: no such file; these shards were never finished, prepare them again"


def _contents(num_features: int) -> str:
    return f"stored frames of {num_features} values" if num_features else "audio"


def combined_index(parts: Mapping[Place, float], *, cache: Path | None = None) -> ShardIndex:
    """The index of several folders of shards as one, each with its weight in an epoch of training; `cache` as of `load`.

    Its `folder` is the first; each shard knows its own place.

    Raises:
        CorpusError: as `ShardIndex.load`, or the parts differ in sample rate or codec.
    """
    indices = [ShardIndex.load(folder, cache=cache) for folder in parts]
    first = indices[0]
    shards: list[Shard] = []
    skipped: dict[str, tuple[str, ...]] = {}
    for index, weight in zip(indices, parts.values(), strict=True):
        kinds = [(each.sample_rate, each.num_features, each.codec) for each in (index, first)]
        if kinds[0] != kinds[1]:
            raise CorpusError(
                f"{index.folder}: other sample rate, features or codec than {first.folder}; prepare both again"
            )
        for shard in index.shards:
            shards.append(PlacedShard(**{**dict(shard), "weight": weight, "place": index.place(shard)}))
        for reason, ids in index.skipped.items():
            skipped[reason] = skipped.get(reason, ()) + ids
    num_speakers = sum(index.num_speakers for index in indices)
    return first.model_copy(
        update={"shards": tuple(shards), "skipped": skipped, "num_speakers": num_speakers, "source": "", "whole": 0}
    )


def write_shards(
    utterances: Iterable[Utterance],
    folder: Path,
    *,
    sample_rate: int,
    config: ShardsConfig,
    num_features: int = 0,
    whole: int = 0,
    progress: Progress | None = None,
) -> ShardIndex:
    """The index of shards newly written into `folder`, which replace any that lie there.

    Utterances keep their order, and the same utterances give the same bytes (but for Opus, see `encode_audio`). Those
    whose audio is unusable are left out, counted and named in `ShardIndex.skipped`.

    What a killed call left behind is gone on with, and the result is that of one that was never disturbed: full shards are
    kept as long as `utterances` are those that they were made of. Finished shards are written anew, all of them.

    Shards are cut where their own utterances say (see `ShardWriter`) and named by what they hold, so that a speaker who
    comes or goes changes a few shards around their place; all others keep name and bytes.

    With `num_features`, they are stored frames of so many values, `sample_rate` of them a second. The index notes `whole`.

    Raises:
        CorpusError: no utterances, an id that is repeated or unusable, an empty text, too much unusable audio, or no room.
        AudioError: `config.codec` cannot hold `sample_rate`.
    """
    settings = _settings(sample_rate, num_features, config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder, settings)
        if (folder / _INDEX).exists():  # finished: nothing to go on with
            journal.remove()
            # Before its shards: no moment shows an index whose shards are not all there.
            (folder / _INDEX).unlink()
        stream = _with_unique_ids(utterances)
        entries, read_too_far = journal.resume(stream)
        _remove_shards(folder, keep=[entry.shard.name for entry in entries])
        totals = Totals(sample_rate, progress)
        totals.add_entries(entries)
        packed = _packed_ahead(chain(read_too_far, stream), sample_rate, num_features, config)
        with ShardWriter(folder, config.megabytes, config.num_utterances, [entry.shard for entry in entries]) as writer:
            _write_all(packed, writer, journal, totals)
            totals.check(folder, config.max_skipped_share)
        index = ShardIndex(
            folder=folder,
            sample_rate=sample_rate,
            num_features=num_features,
            codec=config.codec,
            num_speakers=len(totals.speakers - {""}),
            skipped={reason: tuple(ids) for reason, ids in sorted(totals.skipped.items())},
            shards=tuple(writer.shards),
            source=journal.fingerprint,
            whole=whole,
        )
        write_text(folder / _INDEX, index.model_dump_json())
        journal.remove()
    except OSError as error:
        raise CorpusError(f"{error.filename or folder}: cannot write shards: {error.strerror or error}") from error
    return index


def source_of(utterances: Iterable[Utterance], *, sample_rate: int, config: ShardsConfig, num_features: int = 0) -> str:
    """What `ShardIndex.source` is of shards that `write_shards` makes of `utterances`, whose sound is not read."""
    return fingerprint_of(utterances, _settings(sample_rate, num_features, config))


def _settings(sample_rate: int, num_features: int, config: ShardsConfig) -> str:
    """All that decides the bytes of shards, but for the utterances."""
    number = "" if config.num_utterances is None else f" {config.num_utterances}"
    return f"{sample_rate} {num_features} {config.codec} {config.megabytes}{number} cut by hashes"


def _packed_ahead(
    utterances: Iterable[Utterance], sample_rate: int, num_features: int, config: ShardsConfig
) -> Iterator[tuple[bytes, PackedUtterance | UnusableUtterance]]:
    """`utterances`, packed by threads, each with its fingerprint, which is taken before its audio is read."""

    def pack(utterance: Utterance) -> tuple[bytes, PackedUtterance | UnusableUtterance]:
        return fingerprint(utterance), pack_utterance(utterance, sample_rate, num_features, config.codec)

    num_ahead = config.num_threads * _AHEAD_PER_THREAD
    return map_ahead(pack, utterances, num_threads=config.num_threads, num_ahead=num_ahead)


def _write_all(
    utterances: Iterable[tuple[bytes, PackedUtterance | UnusableUtterance]],
    writer: ShardWriter,
    journal: Journal,
    totals: Totals,
) -> None:
    """Writes `utterances`, each with its fingerprint, and notes what the next call needs if this one is killed."""
    for sums, packed in utterances:
        if isinstance(packed, UnusableUtterance):
            unusable = left_out(packed)
            journal.add(sums, unusable)
            totals.leave_out(unusable)
            continue
        closed = writer.write(packed)
        if closed is not None:
            journal.close(closed)
        journal.add(sums, packed)
        totals.speakers.add(packed.utterance.speaker)
        totals.add(packed.num_samples)


def _with_unique_ids(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    ids: set[str] = set()
    for utterance in _read_whole(utterances):
        check_id(utterance.id, where="shards")
        if utterance.id in ids:
            raise CorpusError(f"two utterances have the id '{utterance.id}'; ids must be unique within a split")
        ids.add(utterance.id)
        check_text(utterance.text, where=f"utterance '{utterance.id}'")
        yield utterance


def _read_whole(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    """`utterances`; a file of theirs that cannot be read is told as that, not as shards that cannot be written."""
    try:
        yield from utterances
    except OSError as error:
        raise CorpusError(
            f"{error.filename or 'the corpus'}: cannot read the corpus: {error.strerror or error}"
        ) from error


def _remove_shards(folder: Path, *, keep: Collection[str]) -> None:
    for path in folder.glob("shard-*.tar"):
        if path.name not in keep:
            path.unlink()
