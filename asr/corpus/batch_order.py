"""Which utterances make a batch, and in which order batches come: random in an epoch of training, never with much padding.

Utterances are known by their lengths alone, so that batches can also be counted without reading a shard.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol, TypeVar

from pydantic import Field

from asr.config import Section
from asr.corpus.shards import ShardIndex
from asr.corpus.tar_writer import Shard

# An epoch is sorted by length in so many parts at least: where a small corpus is sorted as a whole, the same utterances meet
# in every epoch.
_LEAST_WINDOWS = 2
ORDER_VERSION = 2
"""Another one draws another order: an epoch that was begun by it cannot be gone on with."""


class BatchesConfig(Section):
    """How utterances become batches."""

    seconds: float = Field(120.0, gt=0, description="audio in a batch, padding included")
    max_utterances: int = Field(64, ge=1, description="most utterances in a batch")
    max_seconds: float | None = Field(
        default=None, gt=0, description="longer utterances are not learnt from, which is told; null: none is too long"
    )
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


class _HasLength(Protocol):
    @property
    def num_samples(self) -> int: ...


AnySample = TypeVar("AnySample", bound=_HasLength)
AnyItem = TypeVar("AnyItem")


@dataclass(frozen=True, slots=True)
class Length:
    """All of a sample that decides its place, and which of the epoch's utterances it is."""

    num_samples: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class EpochSize:
    """How much an epoch of training hears, on average.

    Attributes:
        utterances: number of them.
        seconds: of audio.
        too_long: utterances of the index that are left out of it.
    """

    utterances: float
    seconds: float
    too_long: int


class Order:
    """The random numbers of one epoch; text seeds `random.Random` by SHA-512, the same everywhere."""

    def __init__(self, seed: int, epoch: int) -> None:
        self.name = f"order of seed {seed}, epoch {epoch}"
        self.is_first = epoch == 0
        self.random = random.Random(self.name)

    def shards(self, index: ShardIndex) -> list[Shard]:
        """The shards of `index`, permuted: each draws its place by its name, so that those of other shards do not matter."""
        return sorted(index.shards, key=lambda shard: random.Random(f"{self.name}, place of {shard.name}").random())

    def copies(self, shard: Shard, most_samples: float = math.inf) -> Iterator[int]:
        """How often each utterance of `shard` comes: its weight, rounded up or down at random so that the mean is right.

        Not at all if it is longer than `most_samples`.
        """
        drawn = random.Random(f"{self.name}, {shard.name}")
        copies = (int(shard.weight + drawn.random()) for _ in shard.num_samples)
        return (number * (length <= most_samples) for number, length in zip(copies, shard.num_samples, strict=True))

    def draws(self, index: ShardIndex, config: BatchesConfig) -> Iterator[float]:
        """How long each of `lengths` stays in the shuffle buffer, 1 on average.

        Drawn by its shard's name and its number in there, so that other shards, and who is in them, do not matter.
        """
        for shard in self.shards(index):
            drawn = random.Random(f"{self.name}, draws of {shard.name}")
            for copies in self.copies(shard, most_samples(index, config)):
                yield from (-math.log(1 - drawn.random()) for _ in range(copies))

    def lengths(self, index: ShardIndex, config: BatchesConfig) -> Iterator[Length]:
        """What an epoch hears of `index`, each as often as it comes, numbered in the order of the permuted shards."""
        number = 0
        for shard in self.shards(index):
            for length, copies in zip(shard.num_samples, self.copies(shard, most_samples(index, config)), strict=True):
                yield from (Length(length, number) for _ in range(copies))
                number += 1


def most_samples(index: ShardIndex, config: BatchesConfig) -> float:
    """Samples of the longest utterance that may be learnt from."""
    return math.inf if config.max_seconds is None else config.max_seconds * index.sample_rate


def epoch_size(index: ShardIndex, config: BatchesConfig) -> EpochSize:
    """How much of `index` an epoch of training hears."""
    utterances = samples = 0.0
    too_long, most = 0, most_samples(index, config)
    for shard in index.shards:
        heard = [length for length in shard.num_samples if length <= most]
        utterances += shard.weight * len(heard)
        samples += shard.weight * sum(heard)
        too_long += len(shard.num_samples) - len(heard)
    return EpochSize(utterances, samples / index.sample_rate, too_long)


def shuffled_batches(
    samples: Iterable[AnySample], config: BatchesConfig, index: ShardIndex, order: Order, per_update: int
) -> Iterator[list[AnySample]]:
    """`samples` in batches, shuffled through the buffer, sorted within windows, and shuffled again by groups of batches.

    They are those of `index`, as often as `order` says.
    """
    sample_rate = index.sample_rate
    # So that a window has as many groups as it would have batches.
    most = min(config.window_batches * per_update, _num_batches(index, config) // _LEAST_WINDOWS)
    config = config.model_copy(update={"window_batches": max(1, most)})
    if order.is_first and config.sorted_first_epoch:
        for window in windows(_shortest_first(samples, config.shuffle_buffer), config, sample_rate):
            yield from window
        return
    left: list[list[AnySample]] = []
    shuffled = _shuffled(samples, order.draws(index, config), config.shuffle_buffer)
    for window in windows(shuffled, config, sample_rate):
        batches = left + window
        # Drawn: were the longest left over, they would be so again and again, and make up the end of the epoch.
        if len(batches) % per_update:
            order.random.shuffle(batches)
        whole = len(batches) - len(batches) % per_update
        batches, left = sorted(batches[:whole], key=lambda batch: batch[-1].num_samples), batches[whole:]
        groups = [batches[start : start + per_update] for start in range(0, whole, per_update)]
        order.random.shuffle(groups)
        yield from chain.from_iterable(groups)
    yield from left


def _num_batches(index: ShardIndex, config: BatchesConfig) -> int:
    """About how many batches an epoch has at least."""
    size = epoch_size(index, config)
    return int(max(size.utterances / config.max_utterances, size.seconds / config.seconds))


def _shuffled(items: Iterable[AnyItem], draws: Iterable[float], size: int) -> Iterator[AnyItem]:
    """`items`, each drawn at random from the `size` that are at hand, as its own one of `draws` says.

    That is how long it stays, of exponential distribution, which has no memory: of those that were at hand before, each is
    about as likely as the others to be the next. The newest is likelier: with a `size` of 16 it goes at once 1.8 times as
    often as if all were alike, with 1,024 ten times, which is once in a hundred.
    """
    heap: list[tuple[float, int, AnyItem]] = []
    for number, (item, draw) in enumerate(zip(items, draws, strict=True)):
        entry = (max(0, number - size + 1) + size * draw, number, item)
        if len(heap) < size:
            heapq.heappush(heap, entry)
        else:
            yield heapq.heapreplace(heap, entry)[2]
    yield from (item for _, _, item in sorted(heap, key=lambda entry: entry[:2]))


def _shortest_first(samples: Iterable[AnySample], size: int) -> Iterator[AnySample]:
    """`samples`, each time the shortest of the `size` that are at hand."""
    heap: list[tuple[int, int, AnySample]] = []
    for number, sample in enumerate(samples):
        heapq.heappush(heap, (sample.num_samples, number, sample))
        if len(heap) > size:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]


def windows(samples: Iterable[AnySample], config: BatchesConfig, sample_rate: int) -> Iterator[list[list[AnySample]]]:
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


def of_rank(batches: Iterable[AnyItem], rank: int, world_size: int) -> Iterator[tuple[AnyItem, bool]]:
    """Every `world_size`-th of `batches`, from `rank` on, and whether it is repeated to fill the last group up."""
    stream = iter(batches)
    while group := list(islice(stream, world_size)):
        yield group[rank % len(group)], rank >= len(group)
