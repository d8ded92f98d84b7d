"""What folders of shards hold, and whether all of it can still be read."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from asr.audio import read_signal
from asr.corpus.ahead import map_ahead
from asr.corpus.places import Place
from asr.corpus.shard_reader import StoredUtterance, shard_members, stored_utterance, suffix_of_audio
from asr.corpus.shards import ShardIndex
from asr.corpus.tar_writer import Contents, Shard
from asr.errors import AsrError, CorpusError

_MOST_BINS = 10
_AHEAD_PER_THREAD = 4
_MICRO = 1_000_000
_STEPS_MICROSECONDS = tuple(digit * 10**power for power in range(3, 12) for digit in (1, 2, 5))


@dataclass(frozen=True)
class Bin:
    """Number of utterances of at least `from_seconds` and less than `to_seconds`."""

    from_seconds: float
    to_seconds: float
    count: int


@dataclass(frozen=True)
class Durations:
    """How long the utterances are, in seconds."""

    min: float
    median: float
    mean: float
    max: float
    histogram: tuple[Bin, ...]


@dataclass(frozen=True)
class TextLengths:
    """How long the texts are, in characters, and how many are said in a second of audio, all in all."""

    min: int
    median: float
    mean: float
    max: int
    per_second: float


@dataclass(frozen=True)
class ShardsSummary:
    """What a folder of shards holds, as its index says.

    Attributes:
        folder: that holds them.
        num_shards, num_utterances: how many.
        whole: utterances in the published subset, 0 when that is not known.
        hours: of all utterances together.
        num_speakers: different ones that are named, 0 when none is.
        codec: how the audio is stored; `npy` for stored features.
        sample_rate: of the audio in hertz, or stored frames per second.
        num_features: values per stored frame, 0 for audio.
        num_bytes: of all shards together.
        durations: of the utterances.
        texts: their lengths.
        skipped: number of utterances that were left out, by reason.
    """

    folder: str
    num_shards: int
    num_utterances: int
    whole: int
    hours: float
    num_speakers: int
    codec: str
    sample_rate: int
    num_features: int
    num_bytes: int
    durations: Durations
    texts: TextLengths
    skipped: Mapping[str, int]


def summarize(index: ShardIndex) -> ShardsSummary:
    """What the shards of `index` hold; no shard is read."""
    seconds = [samples / index.sample_rate for shard in index.shards for samples in shard.num_samples]
    if not sum(seconds):
        raise CorpusError(f"{index.folder}: the index lists no speech; prepare the shards again")
    return ShardsSummary(
        folder=str(index.folder),
        num_shards=len(index.shards),
        num_utterances=index.num_utterances,
        whole=index.whole,
        hours=index.seconds / 3600,
        num_speakers=index.num_speakers,
        codec="npy" if index.num_features else index.codec,
        sample_rate=index.sample_rate,
        num_features=index.num_features,
        num_bytes=sum(shard.bytes for shard in index.shards),
        durations=Durations(
            min(seconds), statistics.median(seconds), statistics.fmean(seconds), max(seconds), _histogram(seconds)
        ),
        texts=_text_lengths(index),
        skipped={reason: len(ids) for reason, ids in index.skipped.items()},
    )


def _text_lengths(index: ShardIndex) -> TextLengths:
    lengths = [length for shard in index.shards for length in shard.num_characters]
    median, mean = statistics.median(lengths), statistics.fmean(lengths)
    return TextLengths(min(lengths), median, mean, max(lengths), sum(lengths) / index.seconds)


def _histogram(seconds: list[float]) -> tuple[Bin, ...]:
    """A few bins of equal, round width, from the first that is not empty to the last."""
    # In integers: 0.3 // 0.1 is 2.
    durations = [round(each * _MICRO) for each in seconds]
    least, most = min(durations), max(durations)
    step = next((step for step in _STEPS_MICROSECONDS if most // step - least // step < _MOST_BINS), most)
    counts = Counter(each // step for each in durations)
    return tuple(
        Bin(place * step / _MICRO, (place + 1) * step / _MICRO, counts[place])
        for place in range(least // step, most // step + 1)
    )


@dataclass(frozen=True)
class Damage:
    """Something that cannot be used.

    Attributes:
        message: which shard or utterance, and what is wrong with it.
        num_utterances: that are lost by it.
    """

    message: str
    num_utterances: int = 1


@dataclass
class Verification:
    """What reading all shards of a folder has shown.

    Attributes:
        folder: that holds them.
        num_utterances: that the index lists.
        damages: in the order of the shards.
    """

    folder: Place
    num_utterances: int
    damages: list[Damage] = field(default_factory=list)

    @property
    def num_damaged(self) -> int:
        """Utterances that cannot be used, out of those that the index lists."""
        return sum(damage.num_utterances for damage in self.damages)


def verify_shards(index: ShardIndex, *, num_threads: int, advance: Callable[[float], None]) -> Verification:
    """What is damaged in the shards of `index`: every utterance is read, decoded and compared with the index.

    So is the digest of each file. Memory is bounded by the threads' share of utterances. `advance` is called with the number
    of utterances done.
    """
    result = Verification(index.folder, index.num_utterances)

    def check(item: _Stored | Damage) -> Damage | None:
        return item if isinstance(item, Damage) else _check(item, index)

    for shard in index.shards:
        found = map_ahead(
            check, _items(index, shard), num_threads=num_threads, num_ahead=num_threads * _AHEAD_PER_THREAD
        )
        for damage in found:
            if damage is not None:
                result.damages.append(damage)
            advance(1 if damage is None else damage.num_utterances)
    return result


@dataclass(frozen=True, slots=True)
class _Stored:
    """An utterance of a shard with the number of samples that the index lists at its place."""

    stored: StoredUtterance
    num_listed: int


def _items(index: ShardIndex, shard: Shard) -> Iterator[_Stored | Damage]:
    """The utterances of `shard`, still compressed; what stands in the way of one does not hide the next."""
    path, num_listed = index.place(shard), len(shard.num_samples)
    num_read = 0
    contents: Contents | None = Contents()
    try:
        index.check(shard)
    except CorpusError as error:
        yield Damage(str(error), 0)  # what can still be read of it is told by what follows
    digest = hashlib.sha256()
    try:
        is_there = isinstance(path, str) or path.is_file()
        for members in shard_members(path, shard.bytes, seen=digest.update) if is_there else ():
            if num_read == num_listed:
                yield Damage(f"{path}: holds more than the {num_listed} utterances that the index lists", 0)
                return
            try:
                yield _Stored(stored_utterance(members, path), shard.num_samples[num_read])
                if contents is not None:
                    contents.add(suffix_of_audio(members), members["json"])
            except CorpusError as error:
                yield Damage(str(error))
                contents = None
            num_read += 1
        if is_there:
            shard.check_sha256(digest.hexdigest(), path)
    except CorpusError as error:
        yield Damage(str(error), 0)
    if num_read < num_listed:
        yield Damage(f"{path}: {num_read} of {num_listed} utterances could be read", num_listed - num_read)
    elif contents is not None and contents.shard_name != shard.name:
        yield Damage(f"{path}: a text, a speaker or another description in it is not what was written there", 0)


def _check(item: _Stored, index: ShardIndex) -> Damage | None:
    stored = item.stored
    try:
        signal = read_signal(stored.utterance.audio, index.sample_rate, index.num_features, name=stored.name)
    except AsrError as error:
        return Damage(str(error))
    if len(signal) == item.num_listed == stored.num_samples:
        return None
    return Damage(
        f"{stored.name}: {len(signal)} samples, its description says {stored.num_samples} and the index {item.num_listed}"
    )
