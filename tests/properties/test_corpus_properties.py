"""Properties of the corpus: round trips with odd ids and Unicode; every utterance once; exact resume; one order."""

from __future__ import annotations

import math
import tempfile
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio import encode_audio
from asr.corpus.batch_order import BatchesConfig, Length, windows
from asr.corpus.batches import epoch_batches, num_epoch_batches
from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.tar_writer import escaped_key
from asr.corpus.utterance import Utterance, read_manifest, write_manifest

RATE = 8000
SOUND = encode_audio(np.zeros(80, dtype=np.float32), RATE, "wav")

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(lambda text: text.strip())
ids = texts.filter(lambda text: text.splitlines() == [text] and "\0" not in text)
speakers = texts.filter(lambda text: not any(unicodedata.category(each) in {"Cc", "Zl", "Zp"} for each in text))
keys = st.text(min_size=1, max_size=8).filter(lambda key: key not in {"id", "audio", "text", "seconds", "speaker"})
metadata = st.dictionaries(keys.filter(lambda key: key.isprintable()), texts, max_size=3)
durations = st.none() | st.floats(1e-3, 1e6)


@st.composite
def corpora(draw: st.DrawFn) -> list[Utterance]:
    names = draw(st.lists(ids, min_size=1, max_size=6, unique=True))
    return [
        Utterance(
            id=name,
            audio=SOUND,
            text=draw(texts),
            speaker=draw(st.just("") | speakers),
            seconds=draw(durations),
            metadata=draw(metadata),
        )
        for name in names
    ]


def in_files(utterances: list[Utterance], folder: Path) -> list[Utterance]:
    """The same with audio named instead of held; odd file names too, as far as a file system takes them."""
    return [
        Utterance(
            id=one.id,
            audio=folder / f"{one.id[:8].replace('/', '_')}.wav",
            text=one.text,
            speaker=one.speaker,
            seconds=one.seconds,
            metadata=one.metadata,
        )
        for one in utterances
    ]


@given(corpora())
@settings(max_examples=60)
def test_a_manifest_gives_back_what_was_written(utterances: list[Utterance]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.jsonl"
        named = in_files(utterances, Path(folder))
        write_manifest(path, named)
        assert list(read_manifest(path)) == named
        again = path.with_name("again.jsonl")
        write_manifest(again, read_manifest(path))
        assert again.read_bytes() == path.read_bytes()


@given(corpora())
@settings(max_examples=40)
def test_shards_give_back_ids_texts_and_metadata(utterances: list[Utterance]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_shards(utterances, Path(folder), sample_rate=RATE, config=ShardsConfig(megabytes=0.003, num_threads=1))
        back = list(shard_utterances(ShardIndex.load(Path(folder))))
    for before, after in zip(utterances, back, strict=True):
        assert (before.id, before.text, before.speaker) == (after.id, after.text, after.speaker)
        assert before.metadata == after.metadata
        assert after.seconds == 80 / RATE


BY_SIZE, BY_NUMBER = ShardsConfig(megabytes=0.008, num_threads=0), ShardsConfig(num_utterances=4, num_threads=0)


def contents(utterances: list[Utterance], folder: str, config: ShardsConfig) -> list[bytes]:
    """The shards of `utterances`, as bytes, in order."""
    index = write_shards(utterances, Path(folder), sample_rate=RATE, config=config)
    return [(Path(folder) / shard.name).read_bytes() for shard in index.shards]


@given(
    st.integers(0, 10**6),
    st.integers(2, 60),
    st.integers(0, 59),
    st.integers(1, 10),
    st.sampled_from([BY_SIZE, BY_NUMBER]),
)
@settings(max_examples=60)
def test_shards_end_where_their_own_utterances_say(
    seed: int, number: int, place: int, length: int, config: ShardsConfig
) -> None:
    """Utterances that go change no shard before them, and none behind the first shard that begins as one did before."""
    every = [Utterance(id=f"{seed}-{n}", audio=SOUND, text="x" * (n % 7 + 1)) for n in range(number)]
    some = every[:place] + every[place + length :] or every
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        before, after = contents(every, first, config), contents(some, second, config)
    gone = [f'"id": "{utterance.id}"'.encode() for utterance in every[place : place + length]]
    touched = [n for n, shard in enumerate(before) if any(name in shard for name in gone)] or [len(before)]
    assert after[: touched[0]] == before[: touched[0]]
    starts = {
        shard[:512]: n for n, shard in enumerate(before) if n > touched[-1]
    }  # the header names the first utterance
    for n, shard in enumerate(after):
        if shard[:512] in starts:
            assert after[n:] == before[starts[shard[:512]] :]
            break


@given(ids)
def test_a_key_is_ascii_without_dots_or_slashes_and_names_one_id(name: str) -> None:
    key = escaped_key(name)
    assert key.isascii()
    assert not set(key) & {".", "/", " ", "\\"}
    assert unquote(key) == name


@pytest.fixture(scope="module")
def many_indices(tmp_path_factory: pytest.TempPathFactory) -> list[ShardIndex]:
    """The same kind of corpus in one shard and in many, with equal, mixed and very unequal lengths."""
    generator = np.random.default_rng(0)
    lengths = [np.full(40, 300), generator.integers(80, 2000, 70), (generator.pareto(1, 50) * 200 + 40).astype(int)]
    indices = []
    for number, (chosen, megabytes) in enumerate(zip(lengths, (10, 0.01, 0.02), strict=True)):
        utterances = [
            Utterance(id=str(n), audio=encode_audio(np.zeros(min(length, 20000), np.float32), RATE, "flac"), text="x")
            for n, length in enumerate(chosen)
        ]
        folder = tmp_path_factory.mktemp(f"corpus{number}")
        config = ShardsConfig(megabytes=megabytes)
        indices.append(write_shards(utterances, folder, sample_rate=RATE, config=config))
    assert [len(index.shards) > 1 for index in indices] == [False, True, True]
    return indices


configs = st.builds(
    BatchesConfig,
    seconds=st.floats(0.05, 3),
    max_utterances=st.integers(1, 20),
    shuffle_buffer=st.integers(1, 100),
    window_batches=st.integers(1, 10),
    num_workers=st.integers(0, 2),
    prefetch=st.integers(0, 3),
)
epochs = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**32), "epoch": st.integers(0, 1000), "per_update": st.integers(1, 6)}
)
relaxed = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def order(index: ShardIndex, config: BatchesConfig, **arguments: int) -> list[tuple[str, ...]]:
    return [batch.ids for batch in epoch_batches(index, config, **arguments)]  # type: ignore[arg-type]


@given(st.integers(0, 2), configs, epochs)
@relaxed
def test_every_utterance_once_per_epoch(
    many_indices: list[ShardIndex], which: int, config: BatchesConfig, epoch: dict[str, int]
) -> None:
    index = many_indices[which]
    batches = order(index, config, **epoch)
    assert sorted(int(name) for ids in batches for name in ids) == list(range(index.num_utterances))
    assert len(batches) == num_epoch_batches(index, config, **epoch)


@given(st.integers(0, 2), configs, epochs)
@relaxed
def test_batches_stay_within_their_limits(
    many_indices: list[ShardIndex], which: int, config: BatchesConfig, epoch: dict[str, int]
) -> None:
    for batch in epoch_batches(many_indices[which], config, **epoch):
        assert len(batch) <= config.max_utterances
        assert len(batch) == 1 or batch.waveforms.numel() <= config.seconds * RATE


short_and_long = st.lists(
    st.integers(1, 50) | st.integers(51, 400) | st.integers(401, 10_000), min_size=1, max_size=300
)


@given(short_and_long, st.integers(2, 5), st.integers(1, 20))
def test_a_window_is_filled_whatever_the_one_before_left(lengths: list[int], num_windows: int, most: int) -> None:
    """What is left over is at most a batch: the rest of each window is new, by its sound or by its number."""
    config = BatchesConfig(seconds=100, max_utterances=most, window_batches=num_windows)
    found = list(windows(map(Length, lengths), config, 1))
    assert sorted(each.num_samples for window in found for batch in window for each in batch) == sorted(lengths)
    # An utterance that is longer than a window fills one, not several.
    sound = sum(min(length, 100 * num_windows) for length in lengths)
    assert len(found) - 1 <= (sound / 100 + len(lengths) / most) / (num_windows - 1)


@given(st.integers(0, 2), configs, epochs, st.integers(0, 3), st.integers(0, 5))
@relaxed
def test_the_number_of_workers_changes_nothing(
    many_indices: list[ShardIndex], which: int, config: BatchesConfig, epoch: dict[str, int], workers: int, ahead: int
) -> None:
    other = config.model_copy(update={"num_workers": workers, "prefetch": ahead})
    assert order(many_indices[which], config, **epoch) == order(many_indices[which], other, **epoch)


@given(st.integers(0, 2), configs, epochs, st.floats(0, 1.2), st.integers(1, 3))
@relaxed
def test_resuming_continues_the_same_order(
    many_indices: list[ShardIndex],
    which: int,
    config: BatchesConfig,
    epoch: dict[str, int],
    share: float,
    world_size: int,
) -> None:
    whole = order(many_indices[which], config, **epoch, world_size=world_size)
    skipped = math.floor(share * len(whole))
    rest = order(many_indices[which], config, **epoch, world_size=world_size, skip_batches=skipped)
    assert rest == whole[skipped:]


def test_passed_over_batches_are_not_decoded(many_indices: list[ShardIndex], monkeypatch: pytest.MonkeyPatch) -> None:
    from asr.corpus import batches as module

    decoded: list[str] = []
    read_signal = module.read_signal

    def counted(source: Path | bytes, sample_rate: int, num_features: int, *, name: str) -> np.ndarray:
        decoded.append(name)
        return read_signal(source, sample_rate, num_features, name=name)

    monkeypatch.setattr(module, "read_signal", counted)
    config = BatchesConfig(seconds=0.5, num_workers=0)
    rest = order(many_indices[1], config, seed=1, epoch=1, skip_batches=10)
    assert len(decoded) == sum(map(len, rest)) < many_indices[1].num_utterances


def test_each_utterance_can_come_anywhere(many_indices: list[ShardIndex]) -> None:
    """With a buffer as large as the corpus, the mean place over epochs is the middle for first and last alike."""
    config = BatchesConfig(seconds=0.04, max_utterances=1, shuffle_buffer=100, window_batches=1, num_workers=0)
    places = torch.zeros(40)
    num_epochs = 200
    for epoch in range(num_epochs):
        names = [int(ids[0]) for ids in order_of_lengths(many_indices[0], config, epoch)]
        places[names] += torch.arange(40) / num_epochs
    assert (places - 19.5).abs().max() < 4.0  # standard error 0.82


@given(st.integers(2, 60), st.integers(0, 59), st.integers(1, 10), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=60)
def test_a_speaker_more_or_less_leaves_the_order_of_the_other_shards(
    number: int, place: int, length: int, seed: int, epoch: int
) -> None:
    every = [Utterance(id=str(n), audio=SOUND, text="x", speaker=str(n)) for n in range(number)]
    some = every[:place] + every[place + length :] or every
    config = BatchesConfig(max_utterances=1, shuffle_buffer=60, window_batches=1, num_workers=0)
    kept, orders = [], []
    for utterances in (every, some):
        with tempfile.TemporaryDirectory() as folder:
            index = write_shards(utterances, Path(folder), sample_rate=RATE, config=BY_NUMBER)
            stored = shard_utterances(index, with_audio=False)
            kept.append({each.id: s.name for s in index.shards for each in islice(stored, len(s.num_samples))})
            orders.append([ids[0] for ids in order(index, config, seed=seed, epoch=epoch)])
            assert sorted(orders[-1]) == sorted(utterance.id for utterance in utterances)
    common = {name for name, shard in kept[1].items() if kept[0][name] == shard}
    before, after = ([name for name in names if name in common] for names in orders)
    assert after == before


def order_of_lengths(index: ShardIndex, config: BatchesConfig, epoch: int) -> Iterator[tuple[str, ...]]:
    return (batch.ids for batch in epoch_batches(index, config, seed=5, epoch=epoch))
