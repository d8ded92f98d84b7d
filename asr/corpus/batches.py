"""Shards -> batches of padded waveforms, in an order that is a pure function of seed, epoch and the shards' index.

    shards (permuted) -> samples, still compressed -> shuffle buffer -> window, sorted by length -> batches (shuffled)
    -> threads decode them, a few ahead, in order

All that decides which utterance comes when happens in one thread and by lengths alone, which the index has. So an epoch is
gone through without reading first, to mark the utterances of the batches that are wanted: of several processes each reads
those of its own batches, and to resume in the middle of an epoch nothing of its beginning is read. The other threads only
decode, so their number changes speed and nothing else. Memory is that of buffer and windows, and some bytes per utterance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from asr.audio import audio_info, read_frames, read_signal
from asr.corpus.ahead import map_ahead, read_ahead
from asr.corpus.batch_order import (
    AnySample,
    BatchesConfig,
    Length,
    Order,
    most_samples,
    of_rank,
    shuffled_batches,
    windows,
)
from asr.corpus.shard_reader import StoredUtterance, read_shard
from asr.corpus.shards import ShardIndex
from asr.corpus.tar_writer import Shard
from asr.corpus.utterance import Utterance
from asr.errors import AudioError, CorpusError

_LOG = logging.getLogger(__name__)

Unusable = Callable[[str], None]


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
    reads and decodes every `world_size`-th batch; all get equally many, since the last group is filled up with batches of
    its own, marked as `repeated`.

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

    def mine(order: Order, samples: Iterable[AnySample]) -> Iterator[tuple[list[AnySample], bool]]:
        batches = shuffled_batches(samples, config, index, order, per_update)
        return islice(of_rank(batches, rank, world_size), skip_batches, None)

    order = Order(seed, epoch)
    shards = order.shards(index)
    copies = [list(order.copies(shard, most_samples(index, config))) for shard in shards]
    wanted: Sequence[Sequence[int]] = copies
    if world_size > 1 or skip_batches:
        planned = mine(Order(seed, epoch), order.lengths(index, config))
        wanted = _marked(shards, (sample.number for batch, _ in planned for sample in batch))
    samples = (
        sample
        for shard, numbers, flags in zip(shards, copies, wanted, strict=True)
        for sample, number in zip(_of_shard(index, shard, flags), numbers, strict=True)
        for _ in range(number)
    )
    yield from _decoded(mine(order, samples), config, index.sample_rate, index.num_features)


def num_epoch_batches(
    index: ShardIndex, config: BatchesConfig, *, seed: int, epoch: int, per_update: int = 1, world_size: int = 1
) -> int:
    """Number of batches that `epoch_batches` yields to each rank, exactly and without reading a shard."""
    order = Order(seed, epoch)
    num_batches = sum(1 for _ in shuffled_batches(order.lengths(index, config), config, index, order, per_update))
    return -(-num_batches // world_size)


def sequential_batches(
    index: ShardIndex, config: BatchesConfig, *, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Batches for evaluation: every utterance once, none at random; within a window they are sorted by length.

    Of several processes, each reads and gets every `world_size`-th batch, the last ones perhaps one less.

    Raises:
        CorpusError: a shard cannot be read, or its audio cannot be decoded.
    """

    def mine(samples: Iterable[AnySample]) -> Iterator[tuple[list[AnySample], bool]]:
        batches = ((batch, False) for window in windows(samples, config, index.sample_rate) for batch in window)
        return islice(batches, rank, None, world_size)

    lengths = chain.from_iterable(shard.num_samples for shard in index.shards)
    planned = mine(Length(length, number) for number, length in enumerate(lengths))
    wanted = _marked(index.shards, (sample.number for batch, _ in planned for sample in batch))
    samples = (
        sample for shard, flags in zip(index.shards, wanted, strict=True) for sample in _of_shard(index, shard, flags)
    )
    yield from _decoded(mine(samples), config, index.sample_rate, index.num_features)


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
    batches = ((batch, False) for window in windows(samples, config, sample_rate) for batch in window)
    yield from _decoded(batches, config, sample_rate, num_features, unusable)


def _marked(shards: Sequence[Shard], numbers: Iterable[int]) -> list[memoryview]:
    """For each of `shards`, which of its utterances are among `numbers`, which count through all of them."""
    ends = list(accumulate(len(shard.num_samples) for shard in shards))
    marks = bytearray(ends[-1])
    for number in numbers:
        marks[number] = 1
    return [memoryview(marks)[end - len(shard.num_samples) : end] for shard, end in zip(shards, ends, strict=True)]


def _of_shard(index: ShardIndex, shard: Shard, wanted: Sequence[int]) -> Iterator[StoredUtterance]:
    """The utterances of `shard`; of those that `wanted` is 0 for, which decide no more than places, no more than lengths."""
    stored = read_shard(index, shard, wanted)
    for length, is_wanted in zip(shard.num_samples, wanted, strict=True):
        yield next(stored) if is_wanted else cast(StoredUtterance, Length(length))
    next(stored, None)  # what is wrong behind the last one shows there


def _report_long(index: ShardIndex, config: BatchesConfig) -> None:
    limit, most = config.seconds * index.sample_rate, most_samples(index, config)
    num_long = sum(1 for shard in index.shards for length in shard.num_samples if limit < length <= most)
    if num_long:
        _LOG.info("%d utterances are longer than %g s and make batches of their own", num_long, config.seconds)


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
