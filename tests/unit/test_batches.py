"""Batches: limits, padding, ranks, errors. That order and resume are exact is in the properties of the corpus."""

from __future__ import annotations

import logging
import random
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.audio import encode_audio, read_audio
from asr.corpus import batches as batches_module
from asr.corpus.ahead import map_ahead, read_ahead
from asr.corpus.batch_order import BatchesConfig, Length, Order, epoch_size, shuffled_batches, windows
from asr.corpus.batches import batches_of_utterances, epoch_batches, num_epoch_batches, sequential_batches
from asr.corpus.shard_reader import StoredUtterance, read_shard
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.tar_writer import Shard
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError

RATE = 8000
CONFIG = BatchesConfig(seconds=1.0, max_utterances=8, shuffle_buffer=20, window_batches=3, num_workers=2, prefetch=2)


def clip(name: str, num_samples: int) -> Utterance:
    noise = np.random.default_rng(num_samples).uniform(-0.5, 0.5, num_samples).astype(np.float32)
    return Utterance(id=name, audio=encode_audio(noise, RATE, "flac"), text=f"text of {name}", speaker="s")


LENGTHS = np.random.default_rng(1).integers(200, 4000, 60).tolist()
CLIPS = [clip(f"u{n}", length) for n, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(CLIPS, folder, sample_rate=RATE, config=ShardsConfig(megabytes=0.05))


def test_a_batch_holds_what_was_written(index: ShardIndex) -> None:
    assert len(index.shards) > 2
    by_id = {utterance.id: utterance for utterance in CLIPS}
    for batch in epoch_batches(index, CONFIG, seed=0, epoch=0):
        assert batch.waveforms.dtype == torch.float32
        assert batch.num_samples.dtype == torch.int64
        assert batch.waveforms.shape == (len(batch), int(batch.num_samples.max()))
        for number, name in enumerate(batch.ids):
            utterance, length = by_id[name], int(batch.num_samples[number])
            expected = read_audio(utterance.audio, RATE)
            np.testing.assert_array_equal(batch.waveforms[number, :length].numpy(), expected)
            assert not batch.waveforms[number, length:].any()
            assert (batch.texts[number], batch.speakers[number]) == (utterance.text, utterance.speaker)


def test_limits_hold_and_padding_is_small(index: ShardIndex) -> None:
    batches = list(epoch_batches(index, CONFIG, seed=0, epoch=0))
    for batch in batches:
        assert len(batch) <= CONFIG.max_utterances
        assert batch.waveforms.numel() <= CONFIG.seconds * RATE
    padded = sum(batch.waveforms.numel() for batch in batches)
    assert padded < 1.25 * sum(LENGTHS)  # without sorting it is 1.6


def test_an_utterance_beyond_the_limit_makes_its_own_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = [clip("long", 9000), *(clip(f"s{n}", 500) for n in range(10))]
    index = write_shards(clips, tmp_path, sample_rate=RATE, config=ShardsConfig())
    with caplog.at_level(logging.INFO):
        batches = list(epoch_batches(index, CONFIG, seed=0, epoch=0))
    assert ("long",) in [batch.ids for batch in batches]
    assert sum(map(len, batches)) == 11
    assert "1 utterances are longer than 1 s" in caplog.text


@pytest.mark.parametrize(("window", "length"), [(3, 5000), (2, 250), (1, 60)])
def test_an_utterance_longer_than_a_window_leaves_the_later_batches_full(window: int, length: int) -> None:
    """One at a time, they made an epoch some ten times as long."""
    config = BatchesConfig(seconds=100, max_utterances=64, window_batches=window)
    lengths = [10] * 25 + [length] + [10] * 75
    sizes = [len(batch) for batches in windows(map(Length, lengths), config, 1) for batch in batches]
    assert sorted(sizes) in ([1] + [10] * 10, [1, 5, 5] + [10] * 9)


def test_only_the_last_window_leaves_a_small_batch(tmp_path: Path) -> None:
    """Equal lengths: windows whose size is no multiple of the batch's hand their rest on."""
    index = write_shards([clip(f"u{n}", 1000) for n in range(50)], tmp_path, sample_rate=RATE, config=ShardsConfig())
    config = CONFIG.model_copy(update={"seconds": 0.9})
    sizes = [len(batch) for batch in epoch_batches(index, config, seed=3, epoch=0)]
    assert sorted(sizes) == [1] + [7] * 7


def test_one_of_everything_keeps_the_order_of_the_shards(tmp_path: Path) -> None:
    config = BatchesConfig(seconds=1, max_utterances=1, shuffle_buffer=1, window_batches=1, num_workers=0)
    index = write_shards(CLIPS, tmp_path, sample_rate=RATE, config=ShardsConfig())
    ids = [name for batch in epoch_batches(index, config, seed=0, epoch=0) for name in batch.ids]
    assert sorted(ids) == sorted(utterance.id for utterance in CLIPS)
    assert [len(batch) for batch in sequential_batches(index, config)] == [1] * 60


def test_other_seeds_and_epochs_give_other_orders(index: ShardIndex) -> None:
    orders = {
        tuple(batch.ids for batch in epoch_batches(index, CONFIG, seed=seed, epoch=epoch))
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 9


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [(64, "u0+u5 u2+u7 u10+u4 u8+u9 u1+u6 u3"), (0.004, "u5+u10 u7+u1 u0+u9 u8+u4 u2+u6 u3")],
    ids=["one shard", "several"],
)
def test_the_order_is_that_of_every_machine_and_version(megabytes: float, expected: str, tmp_path: Path) -> None:
    """A stored order: a run that is resumed after an update must meet the batches that it expects.

    Where another order is meant to come, `ORDER_VERSION` changes, too.
    """
    clips = [clip(f"u{n}", 300 + 37 * (n * 7 % 11)) for n in range(11)]
    index = write_shards(clips, tmp_path, sample_rate=RATE, config=ShardsConfig(megabytes=megabytes))
    config = BatchesConfig(seconds=0.2, max_utterances=2, shuffle_buffer=5, window_batches=2, num_workers=0)
    batches = ["+".join(batch.ids) for batch in epoch_batches(index, config, seed=7, epoch=3)]
    assert " ".join(batches) == expected


def test_shards_keep_their_order_when_one_goes(index: ShardIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(index: ShardIndex, shard: Shard, wanted: Sequence[int]) -> Iterator[StoredUtterance]:
        read.append(shard.name)
        return read_shard(index, shard, wanted)

    monkeypatch.setattr(batches_module, "read_shard", noted)

    def order(shards: tuple[Shard, ...], epoch: int) -> list[str]:
        read.clear()
        list(epoch_batches(index.model_copy(update={"shards": shards}), CONFIG, seed=0, epoch=epoch))
        return list(read)

    assert len({tuple(order(index.shards, epoch)) for epoch in range(5)}) > 2
    whole = order(index.shards, 0)
    for number, gone in enumerate(index.shards):
        rest = order(index.shards[:number] + index.shards[number + 1 :], 0)
        assert rest == [name for name in whole if name != gone.name]


def places(shards: Sequence[Shard], config: BatchesConfig, seed: int) -> dict[tuple[str, int], int]:
    """When each utterance, known by its shard and its number there, comes in an epoch over `shards`."""
    index = of_lengths([1]).model_copy(update={"shards": tuple(shards)})
    order = Order(seed, 1)
    names = [(shard.name, number) for shard in order.shards(index) for number in range(len(shard.num_samples))]
    batches = list(shuffled_batches(order.lengths(index, config), config, index, order, 1))
    return {names[sample.number]: place for place, sample in enumerate(chain.from_iterable(batches))}


@pytest.mark.parametrize("buffer", [4096, 300])
def test_utterances_keep_their_order_when_a_shard_goes(buffer: int) -> None:
    """Exactly so when the buffer holds all; else, around that shard's place, a few of those that may meet in it change."""
    (shard,) = of_lengths([100] * 50).shards
    shards = [shard.model_copy(update={"name": f"{number}.tar"}) for number in range(40)]
    config = BatchesConfig(max_utterances=1, shuffle_buffer=buffer, window_batches=1)
    for seed in range(5):
        whole, part = places(shards, config, seed), places(shards[1:], config, seed)
        assert whole.keys() == part.keys() | {("0.tar", number) for number in range(50)}
        assert sorted(part.values()) == list(range(39 * 50))
        names = sorted(part, key=part.__getitem__)
        before = [whole[name] for name in names]
        if buffer > len(whole):
            assert before == sorted(before)
        assert np.corrcoef(before, range(len(before)))[0, 1] > 0.999


@pytest.mark.parametrize("size", [1, 10, 300])
def test_what_waits_to_be_drawn_is_no_more_than_the_buffer_holds(size: int) -> None:
    taken = 0

    def samples() -> Iterator[Length]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Length(100)

    config = BatchesConfig(max_utterances=1, shuffle_buffer=size, window_batches=1)
    batches = shuffled_batches(samples(), config, of_lengths([100] * 1000), Order(0, 1), 1)
    for given, _ in enumerate(batches):
        assert taken <= given + size + 2  # one waits in a window


def test_evaluation_meets_every_utterance_once(index: ShardIndex) -> None:
    for batches in (sequential_batches(index, CONFIG), batches_of_utterances(CLIPS, RATE, CONFIG)):
        ids = [name for batch in batches for name in batch.ids]
        assert sorted(ids) == sorted(utterance.id for utterance in CLIPS)


def test_evaluation_is_the_same_with_and_without_shards(index: ShardIndex) -> None:
    pairs = zip(sequential_batches(index, CONFIG), batches_of_utterances(CLIPS, RATE, CONFIG), strict=True)
    for stored, read in pairs:
        assert stored.ids == read.ids
        assert torch.equal(stored.waveforms, read.waveforms)


def test_evaluation_resamples_and_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode_audio(np.zeros(4410, dtype=np.float32), 44100, "wav"))
    (batch,) = batches_of_utterances([Utterance(id="a", audio=path, text="x")], RATE, CONFIG)
    assert batch.num_samples.tolist() == [800]


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_the_batches_evenly(index: ShardIndex, world_size: int) -> None:
    alone = [batch.ids for batch in epoch_batches(index, CONFIG, seed=0, epoch=0)]
    ranks = [
        [batch.ids for batch in epoch_batches(index, CONFIG, seed=0, epoch=0, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    expected = num_epoch_batches(index, CONFIG, seed=0, epoch=0, world_size=world_size)
    assert [len(batches) for batches in ranks] == [expected] * world_size
    together = [ids for group in zip(*ranks, strict=True) for ids in group]
    assert together[: len(alone)] == alone
    assert set(together) == set(alone)


@pytest.mark.parametrize(("rank", "skip"), [(1, 0), (0, 4), (2, 3)])
def test_only_what_is_wanted_is_read(index: ShardIndex, rank: int, skip: int, tmp_path: Path) -> None:
    """What lies beside it may be damaged: nobody looks at it."""

    def batches(index: ShardIndex) -> list[tuple[tuple[str, ...], bytes]]:
        found = epoch_batches(index, CONFIG, seed=0, epoch=0, rank=rank, world_size=3, skip_batches=skip)
        return [(batch.ids, batch.waveforms.numpy().tobytes()) for batch in found]

    expected = batches(index)
    wanted = {name for ids, _ in expected for name in ids}
    assert 0 < len(wanted) < len(CLIPS) / 2
    for shard in index.shards:
        with tarfile.open(index.place(shard)) as tar:
            content = bytearray(Path(index.place(shard)).read_bytes())
            for member in tar:
                if member.name.partition(".")[0] not in wanted:
                    content[member.offset_data : member.offset_data + member.size] = bytes(member.size)
        (tmp_path / shard.name).write_bytes(content)
    assert batches(index.model_copy(update={"folder": tmp_path})) == expected


def test_ranks_share_what_is_measured(index: ShardIndex) -> None:
    alone = [batch.ids for batch in sequential_batches(index, CONFIG)]
    for world_size in (2, 3):
        for rank in range(world_size):
            found = sequential_batches(index, CONFIG, rank=rank, world_size=world_size)
            assert [batch.ids for batch in found] == alone[rank::world_size]


@pytest.mark.parametrize("max_seconds", [0.1, 0.25, 0.5])
def test_what_is_too_long_is_not_learnt_from(index: ShardIndex, max_seconds: float) -> None:
    parts = weighted(index, 2.0, *[1.0] * (len(index.shards) - 1))
    config = CONFIG.model_copy(update={"max_seconds": max_seconds})
    batches = list(epoch_batches(parts, config, seed=0, epoch=0))
    assert num_epoch_batches(parts, config, seed=0, epoch=0) == len(batches)
    doubled = len(index.shards[0].num_samples)
    short = [f"u{n}" for n, length in enumerate(LENGTHS) if length <= max_seconds * RATE]
    twice = [f"u{n}" for n, length in enumerate(LENGTHS[:doubled]) if length <= max_seconds * RATE]
    assert sorted(name for batch in batches for name in batch.ids) == sorted(short + twice)
    size = epoch_size(parts, config)
    assert (size.utterances, size.too_long) == (len(short + twice), len(CLIPS) - len(short))
    assert size.seconds == pytest.approx(sum(int(batch.num_samples.sum()) for batch in batches) / RATE)
    # It is still measured on.
    assert sum(map(len, sequential_batches(parts, config))) == len(CLIPS)


def of_lengths(lengths: list[int]) -> ShardIndex:
    """The index of one shard that nobody reads."""
    shard = Shard(
        name="a.tar", bytes=0, num_samples=tuple(lengths), num_characters=(0,) * len(lengths), sha256="0" * 64
    )
    return ShardIndex(folder=Path(), sample_rate=16000, codec="flac", num_speakers=0, skipped={}, shards=(shard,))


def test_processes_that_wait_for_each_other_get_batches_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1600, 160_000, 4000).tolist()
    longest = {}
    for per_update in (1, 8):
        samples, order = map(Length, lengths), Order(0, 1)
        batches = shuffled_batches(samples, BatchesConfig(seconds=60), of_lengths(lengths), order, per_update)
        longest[per_update] = [max(sample.num_samples for sample in batch) for batch in batches]

    def share_of_work(batches: list[int]) -> float:
        """Where the longest of eight decides how long all take, the rest is waiting."""
        updates = [batches[start : start + 8] for start in range(0, len(batches) // 8 * 8, 8)]
        return sum(map(sum, updates)) / sum(8 * max(update) for update in updates)

    assert share_of_work(longest[1]) < 0.75
    assert share_of_work(longest[8]) > 0.9
    # Yet updates do not follow each other by their lengths.
    rises = [first < second for first, second in pairwise(longest[8][::8])]
    assert 0.3 < sum(rises) / len(rises) < 0.7


@dataclass(frozen=True)
class Numbered:
    """A sample that is known again."""

    number: int
    num_samples: int


def orders(lengths: list[int], per_update: int, num_epochs: int) -> list[list[frozenset[int]]]:
    """The utterances of each batch of each epoch, as the usual settings order them."""
    index, samples = of_lengths(lengths), [Numbered(*numbered) for numbered in enumerate(lengths)]
    return [
        [
            frozenset(sample.number for sample in batch)
            for batch in shuffled_batches(samples, BatchesConfig(), index, Order(0, epoch), per_update)
        ]
        for epoch in range(num_epochs)
    ]


@pytest.mark.parametrize(("minutes", "per_update"), [(15, 1), (30, 1), (60, 2), (120, 8)])
def test_utterances_meet_others_in_every_epoch_of_a_small_corpus(minutes: int, per_update: int) -> None:
    generator = random.Random(minutes)
    lengths = [generator.randrange(16000, 160000) for _ in range(minutes * 60 * 16000 // 88000)]
    first, *others = orders(lengths, per_update, 4)
    for epoch in others:
        assert len(set(first) & set(epoch)) <= 0.1 * len(first)
        # Smaller windows cost a little more padding: as wholes these corpora make 9, 17, 32 and 63 batches.
        assert len(epoch) < 1.1 * sum(lengths) / (120 * 16000) + 3


def test_the_longest_do_not_wait_for_the_end_of_the_epoch() -> None:
    generator = random.Random(1)
    lengths = [generator.randrange(16000, 160000) for _ in range(4000)]
    at_end = [
        lengths[number]
        for batches in orders(lengths, 8, 6)
        for batch in batches[-(len(batches) % 8 or 8) :]
        for number in batch
    ]
    assert sum(at_end) / len(at_end) < 1.4 * sum(lengths) / len(lengths)


def test_damaged_audio_in_a_shard_names_shard_and_utterance(tmp_path: Path) -> None:
    index = write_shards(CLIPS[:5], tmp_path, sample_rate=RATE, config=ShardsConfig())
    shard = tmp_path / index.shards[0].name
    content = bytearray(shard.read_bytes())
    place = content.index(b'{"id": "u3"') - 1024 - 40
    content[place] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{shard.name}: utterance 'u3': truncated or damaged"):
        list(epoch_batches(index, CONFIG, seed=0, epoch=0))


def test_unreadable_audio_in_evaluation_is_named(tmp_path: Path) -> None:
    bad = Utterance(id="bad", audio=tmp_path / "gone.wav", text="x")
    with pytest.raises(CorpusError, match=r"utterance 'bad' \(.*gone\.wav\): missing"):
        list(batches_of_utterances([bad], RATE, CONFIG))
    whole = CLIPS[0].audio
    assert isinstance(whole, bytes)
    cut = Utterance(id="cut", audio=whole[:-100], text="x")
    with pytest.raises(CorpusError, match="utterance 'cut': truncated or damaged"):
        list(batches_of_utterances([cut], RATE, CONFIG))


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_working_ahead_keeps_order_bounds_and_errors(num_threads: int) -> None:
    taken: list[int] = []

    def items() -> object:
        for number in range(30):
            taken.append(number)
            yield number

    def square(number: int) -> int:
        if number == 20:
            raise CorpusError("twenty")
        return number * number

    results = map_ahead(square, items(), num_threads=num_threads, num_ahead=4)  # type: ignore[arg-type]
    for number in range(20):
        assert next(results) == number * number
        assert len(taken) <= number + 1 + 4
    with pytest.raises(CorpusError, match="twenty"):
        next(results)


@pytest.mark.parametrize("num_ahead", [0, 1, 4])
def test_reading_ahead_keeps_order_bounds_and_errors(num_ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number
        raise CorpusError("twenty")

    read = read_ahead(items(), num_ahead)
    for number in range(20):
        assert next(read) == number
        assert len(taken) <= number + 2 + num_ahead
    with pytest.raises(CorpusError, match="twenty"):
        next(read)


def test_the_next_is_read_while_one_is_in_use() -> None:
    is_read = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        is_read.set()
        yield 1

    assert next(read := read_ahead(items(), 1)) == 0
    assert is_read.wait(30)
    assert list(read) == [1]


def weighted(index: ShardIndex, *weights: float) -> ShardIndex:
    shards = [shard.model_copy(update={"weight": weight}) for shard, weight in zip(index.shards, weights, strict=False)]
    return index.model_copy(update={"shards": tuple(shards)})


def test_weights_say_how_often_an_epoch_hears_an_utterance(index: ShardIndex) -> None:
    parts = weighted(index, 2.0, 0.5, 1.0)
    sizes = [len(shard.num_samples) for shard in parts.shards]
    counts: Counter[str] = Counter()
    num_epochs = 200
    for epoch in range(num_epochs):
        batches = list(epoch_batches(parts, CONFIG, seed=0, epoch=epoch))
        assert num_epoch_batches(parts, CONFIG, seed=0, epoch=epoch) == len(batches)
        counts.update(name for batch in batches for name in batch.ids)
    first, second, third = sizes[0], sizes[0] + sizes[1], sum(sizes[:3])
    assert {counts[f"u{n}"] for n in range(first)} == {2 * num_epochs}
    assert {counts[f"u{n}"] for n in range(second, third)} == {num_epochs}
    halves = [counts[f"u{n}"] for n in range(first, second)]
    assert len(set(halves)) > 1
    assert sum(halves) == pytest.approx(len(halves) * num_epochs / 2, rel=0.1)


def test_weighted_order_resumes_where_it_broke_off(index: ShardIndex) -> None:
    parts = weighted(index, 1.5, 0.7, 2.2)
    whole = [batch.ids for batch in epoch_batches(parts, CONFIG, seed=1, epoch=4)]
    assert [batch.ids for batch in epoch_batches(parts, CONFIG, seed=1, epoch=4, skip_batches=3)] == whole[3:]


def test_first_epoch_may_go_from_short_to_long(index: ShardIndex) -> None:
    config = CONFIG.model_copy(update={"sorted_first_epoch": True, "shuffle_buffer": 100})
    first = list(epoch_batches(index, config, seed=0, epoch=0))
    lengths = [length for batch in first for length in batch.num_samples.tolist()]
    assert lengths == sorted(LENGTHS)
    assert num_epoch_batches(index, config, seed=0, epoch=0) == len(first)
    # With a small buffer only nearly so, and every utterance still comes once.
    narrow = config.model_copy(update={"shuffle_buffer": 10})
    some = [length for batch in epoch_batches(index, narrow, seed=0, epoch=0) for length in batch.num_samples.tolist()]
    assert sorted(some) == sorted(LENGTHS)
    second = [batch.ids for batch in epoch_batches(index, config, seed=0, epoch=1)]
    assert second == [
        batch.ids for batch in epoch_batches(index, CONFIG.model_copy(update={"shuffle_buffer": 100}), seed=0, epoch=1)
    ]
