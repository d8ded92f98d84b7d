"""Shards -> batches of padded waveforms, in an order that is a pure function of seed, epoch and the shards' index.

    shards (permuted) -> samples, still compressed -> shuffle buffer -> window, sorted by length -> batches (shuffled)
    -> threads decode them, a few ahead, in order

All that decides which utterance comes when happens in one thread on compressed samples. The others only decode, so their
number changes speed and nothing else, and passing over the first batches of an epoch, to resume in its middle, costs no
decoding. Memory is bounded by buffer and windows, however large the corpus is.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.audio import audio_info, read_frames, read_signal
from asr.config import Section
from asr.corpus.ahead import map_ahead, read_ahead
from asr.corpus.shard_reader import StoredUtterance, read_shard
from asr.corpus.shards import ShardIndex
from asr.corpus.tar_writer import Shard
from asr.corpus.utterance import Utterance
from asr.errors import AudioError, CorpusError

_LOG = logging.getLogger(__name__)

Unusable = Callable[[str], None]


class BatchesConfig(Section):
    """How utterances become batches."""

    seconds: float = Field(120.0, gt=0, description="audio in a batch, padding included")
    max_utterances: int = Field(64, ge=1, description="most utterances in a batch")
    shuffle_buffer: int = Field(
        4096,
        ge=1,
        description="compressed utterances from which the next one is drawn; 1 keeps the order of the shards",
    )
    window_batches: int = Field(
        16, ge=1, description="batches' worth of utterances that are sorted by length together; more means less padding"
    )
    sorted_first_epoch: bool = Field(
        False,
        description="the first epoch goes from short to long utterances, as far as the shuffle buffer sees (SortaGrad, "
        "Amodei et al. 2016)",
    )
    num_workers: int = Field(2, ge=0, description="threads that decode; they change speed, not order; 0: none")
    prefetch: int = Field(8, ge=0, description="batches decoded ahead of the one in use")


@dataclass(frozen=True)
class Batch:
    """Some utterances, padded to the longest.

    Attributes:
        ids, texts, speakers: one each per utterance.
        waveforms: (B, N) float32, zero after the end of each utterance; or stored frames (B, T, F).
        num_samples: (B,) int64, lengths without padding, in samples or stored frames.
        repeated: whether another process has the same batch and this one only keeps step with it.
        audio: the sound file of each utterance, None where it lies in a shard; empty where nobody knows.
        metadata: what else is known of each utterance; empty where nobody knows.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    speakers: tuple[str, ...]
    waveforms: Tensor
    num_samples: Tensor
    repeated: bool = False
    audio: tuple[Path | None, ...] = ()
    metadata: tuple[Mapping[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> Batch:
        """The utterances from `start` to `stop`, with no more padding than they need."""
        longest = int(self.num_samples[start:stop].max())
        return Batch(
            ids=self.ids[start:stop],
            texts=self.texts[start:stop],
            speakers=self.speakers[start:stop],
            waveforms=self.waveforms[start:stop, :longest],
            num_samples=self.num_samples[start:stop],
            repeated=self.repeated,
            audio=self.audio[start:stop],
            metadata=self.metadata[start:stop],
        )


def epoch_batches(
    index: ShardIndex,
    config: BatchesConfig,
    *,
    seed: int,
    epoch: int,
    skip_batches: int = 0,
    per_update: int = 1,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch of training: every utterance as often as its shard's weight says, in random order.

    The same (index, config but for its threads, seed, epoch, per_update) gives the same batches. Of several processes, each
    reads all shards and decodes every `world_size`-th batch; all get equally many, since the last group is filled up with
    batches of its own, marked as `repeated`.

    Args:
        index: the shards.
        config: sizes of batches and buffers.
        seed: of the run.
        epoch: counted from 0; another one gives another order.
        skip_batches: batches (of this rank) to pass over, when training resumes in the middle of an epoch.
        per_update: batches of all processes that make one update; they are about as long as each other, since processes
            wait for the one with the longest.
        rank: which of `world_size` processes this is.
        world_size: number of processes.

    Raises:
        CorpusError: a shard cannot be read, or its audio cannot be decoded.
    """
    _report_long(index, config)
    order = _Order(seed, epoch)
    samples = (
        sample
        for shard in order.shards(index)
        for sample, copies in zip(read_shard(index, shard), order.copies(shard), strict=True)
        for _ in range(copies)
    )
    batches = _shuffled_batches(samples, config, index.sample_rate, order, per_update)
    mine = islice(_of_rank(batches, rank, world_size), skip_batches, None)
    yield from _decoded(mine, config, index.sample_rate, index.num_features)


def num_epoch_batches(
    index: ShardIndex, config: BatchesConfig, *, seed: int, epoch: int, per_update: int = 1, world_size: int = 1
) -> int:
    """Number of batches that `epoch_batches` yields to each rank, exactly and without reading a shard."""
    order = _Order(seed, epoch)
    lengths = (
        _Length(length)
        for shard in order.shards(index)
        for length, copies in zip(shard.num_samples, order.copies(shard), strict=True)
        for _ in range(copies)
    )
    num_batches = sum(1 for _ in _shuffled_batches(lengths, config, index.sample_rate, order, per_update))
    return -(-num_batches // world_size)


def sequential_batches(
    index: ShardIndex, config: BatchesConfig, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Batches for evaluation: every utterance once, none at random; within a window they are sorted by length.

    Of several processes, each gets every `world_size`-th batch, the last ones perhaps one less.

    Raises:
        CorpusError: a shard cannot be read, or its audio cannot be decoded.
    """
    samples = (sample for shard in index.shards for sample in read_shard(index, shard))
    batches = ((batch, False) for window in _windows(samples, config, index.sample_rate) for batch in window)
    mine = islice(batches, rank, None, world_size)
    yield from _decoded(mine, config, index.sample_rate, index.num_features)


def batches_of_utterances(
    utterances: Iterable[Utterance],
    sample_rate: int,
    config: BatchesConfig,
    *,
    num_features: int = 0,
    unusable: Unusable | None = None,
) -> Iterator[Batch]:
    """Batches of utterances that are not in shards: each once, as `sequential_batches` would order them.

    With `num_features`, they are stored frames of so many values. `unusable` is called, perhaps in another thread, with what
    is wrong with the audio of an utterance, which is then left out; without it, that is an error.

    Raises:
        CorpusError: the audio of an utterance cannot be read.
    """
    found = (_sample_of_utterance(utterance, sample_rate, num_features, unusable) for utterance in utterances)
    samples = (sample for sample in found if sample is not None)
    batches = ((batch, False) for window in _windows(samples, config, sample_rate) for batch in window)
    yield from _decoded(batches, config, sample_rate, num_features, unusable)


def _report_long(index: ShardIndex, config: BatchesConfig) -> None:
    limit = config.seconds * index.sample_rate
    num_long = sum(1 for shard in index.shards for length in shard.num_samples if length > limit)
    if num_long:
        _LOG.info("%d utterances are longer than %g s and make batches of their own", num_long, config.seconds)


class _HasLength(Protocol):
    @property
    def num_samples(self) -> int: ...


AnySample = TypeVar("AnySample", bound=_HasLength)
AnyItem = TypeVar("AnyItem")


@dataclass(frozen=True, slots=True)
class _Length:
    """All of a sample that decides its place."""

    num_samples: int


class _Order:
    """The random numbers of one epoch; text seeds `random.Random` by SHA-512, the same everywhere."""

    def __init__(self, seed: int, epoch: int) -> None:
        self.name = f"order of seed {seed}, epoch {epoch}"
        self.is_first = epoch == 0
        self.random = random.Random(self.name)

    def shards(self, index: ShardIndex) -> list[Shard]:
        """The shards of `index`, permuted: each draws its place by its name, so that those of other shards do not matter."""
        return sorted(index.shards, key=lambda shard: random.Random(f"{self.name}, place of {shard.name}").random())

    def copies(self, shard: Shard) -> Iterator[int]:
        """How often each utterance of `shard` comes: its weight, rounded up or down at random so that the mean is right."""
        drawn = random.Random(f"{self.name}, {shard.name}")
        return (int(shard.weight + drawn.random()) for _ in shard.num_samples)


def _shuffled_batches(
    samples: Iterable[AnySample], config: BatchesConfig, sample_rate: int, order: _Order, per_update: int
) -> Iterator[list[AnySample]]:
    """`samples` in batches, shuffled through the buffer, sorted within windows, and shuffled again by groups of batches."""
    # So that a window has as many groups as it would have batches.
    config = config.model_copy(update={"window_batches": config.window_batches * per_update})
    if order.is_first and config.sorted_first_epoch:
        for window in _windows(_shortest_first(samples, config.shuffle_buffer), config, sample_rate):
            yield from window
        return
    left: list[list[AnySample]] = []
    for window in _windows(_shuffled(samples, config.shuffle_buffer, order.random), config, sample_rate):
        batches = sorted(left + window, key=lambda batch: batch[-1].num_samples)
        whole = len(batches) - len(batches) % per_update
        groups = [batches[start : start + per_update] for start in range(0, whole, per_update)]
        left = batches[whole:]
        order.random.shuffle(groups)
        yield from chain.from_iterable(groups)
    yield from left


def _shuffled(items: Iterable[AnyItem], size: int, generator: random.Random) -> Iterator[AnyItem]:
    """`items`, each drawn at random from the `size` that are at hand."""
    buffer: list[AnyItem] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        drawn = generator.randrange(size)
        yield buffer[drawn]
        buffer[drawn] = item
    generator.shuffle(buffer)
    yield from buffer


def _shortest_first(samples: Iterable[AnySample], size: int) -> Iterator[AnySample]:
    """`samples`, each time the shortest of the `size` that are at hand."""
    heap: list[tuple[int, int, AnySample]] = []
    for number, sample in enumerate(samples):
        heapq.heappush(heap, (sample.num_samples, number, sample))
        if len(heap) > size:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]


def _windows(samples: Iterable[AnySample], config: BatchesConfig, sample_rate: int) -> Iterator[list[list[AnySample]]]:
    """`samples` as lists of batches; each list comes from one window, sorted from short to long.

    The last batch of a window is what was left over; it goes into the next window, so that only the end of an epoch
    leaves a batch that could have been fuller. An utterance that none fits beside does not go on: it would fill the next
    window, too.
    """
    limit = int(config.seconds * sample_rate)
    window: list[AnySample] = []
    total = 0
    for sample in samples:
        window.append(sample)
        total += sample.num_samples
        if total < limit * config.window_batches and len(window) < config.max_utterances * config.window_batches:
            continue
        *batches, window = _cut(window, limit, config.max_utterances)
        if len(window) == 1 and 2 * window[0].num_samples > limit:
            batches, window = [*batches, window], []
        total = sum(left.num_samples for left in window)
        if batches:
            yield batches
    if window:
        yield _cut(window, limit, config.max_utterances)


def _cut(samples: list[AnySample], limit: int, max_utterances: int) -> list[list[AnySample]]:
    """`samples` sorted by length and cut where a batch would exceed `limit` samples with its padding.

    An utterance that is longer than `limit` makes a batch of its own.
    """
    batches: list[list[AnySample]] = [[]]
    for sample in sorted(samples, key=lambda sample: sample.num_samples):
        batch = batches[-1]
        if batch and ((len(batch) + 1) * sample.num_samples > limit or len(batch) == max_utterances):
            batches.append([sample])
        else:
            batch.append(sample)
    return batches


def _of_rank(batches: Iterable[AnyItem], rank: int, world_size: int) -> Iterator[tuple[AnyItem, bool]]:
    """Every `world_size`-th of `batches`, from `rank` on, and whether it is repeated to fill the last group up."""
    stream = iter(batches)
    while group := list(islice(stream, world_size)):
        yield group[rank % len(group)], rank >= len(group)


def _sample_of_utterance(
    utterance: Utterance, sample_rate: int, num_features: int, unusable: Unusable | None
) -> StoredUtterance | None:
    file = f" ({utterance.audio})" if isinstance(utterance.audio, Path) else ""
    name = f"utterance '{utterance.id}'{file}"
    try:
        # A header may be a little wrong; this length only decides in which batch the utterance goes.
        num_samples = (
            len(read_frames(utterance.audio, num_features, name=name))
            if num_features
            else round(audio_info(utterance.audio, name=name).seconds * sample_rate)
        )
    except AudioError as error:
        if unusable is None:
            raise CorpusError(str(error)) from error
        unusable(str(error))
        return None
    return StoredUtterance(utterance, num_samples, name)


def _decoded(
    batches: Iterable[tuple[list[StoredUtterance], bool]],
    config: BatchesConfig,
    sample_rate: int,
    num_features: int,
    unusable: Unusable | None = None,
) -> Iterator[Batch]:
    """`batches` with their audio decoded and padded, a few ahead of the caller, in order."""

    def decode(item: tuple[list[StoredUtterance], bool]) -> Batch | None:
        batch = _decode(item[0], sample_rate, num_features, unusable)
        return None if batch is None else replace(batch, repeated=item[1])

    # A window is read as a whole when the one before is used up: its batches should be there when they are wanted.
    drawn = read_ahead(batches, config.prefetch) if config.num_workers else batches
    found = map_ahead(decode, drawn, num_threads=config.num_workers, num_ahead=config.prefetch)
    return (batch for batch in found if batch is not None)


def _decode(
    samples: list[StoredUtterance], sample_rate: int, num_features: int, unusable: Unusable | None
) -> Batch | None:
    """The batch of those of `samples` that can be decoded, None if none can."""
    decoded, good = [], []
    for sample in samples:
        try:
            signal = read_signal(sample.utterance.audio, sample_rate, num_features, name=sample.name)
        except AudioError as error:
            if unusable is None:
                raise CorpusError(str(error)) from error
            unusable(str(error))
        else:
            decoded.append(torch.from_numpy(signal))
            good.append(sample)
    if not good:
        return None
    lengths = [len(signal) for signal in decoded]
    sources = [sample.utterance.audio for sample in good]
    waveforms = nn.utils.rnn.pad_sequence(decoded, batch_first=True)
    return Batch(
        ids=tuple(sample.utterance.id for sample in good),
        texts=tuple(sample.utterance.text for sample in good),
        speakers=tuple(sample.utterance.speaker for sample in good),
        waveforms=waveforms,
        num_samples=torch.tensor(lengths, dtype=torch.int64),
        audio=tuple(source if isinstance(source, Path) else None for source in sources),
        metadata=tuple(sample.utterance.metadata for sample in good),
    )
