"""Writing and reading shards: what goes in comes out, what cannot be used is named, what breaks off is not complete."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import webdataset

from asr.audio import encode_audio, read_audio
from asr.corpus.batch_order import BatchesConfig, epoch_size
from asr.corpus.shard_reader import read_shard, shard_utterances
from asr.corpus.shards import ShardIndex, ShardsConfig, combined_index, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import AudioError, CorpusError

RATE = 8000


def sound(num_samples: int = 800, seed: int = 0, rate: int = RATE) -> bytes:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, num_samples).astype(np.float32)
    return encode_audio(noise, rate, "wav")


def clips(number: int, num_samples: int = 800) -> list[Utterance]:
    return [
        Utterance(id=f"u{n}", audio=sound(num_samples, n), text=f"text {n}", speaker=f"s{n % 3}") for n in range(number)
    ]


def write(utterances: object, folder: Path, **settings: object) -> ShardIndex:
    return write_shards(utterances, folder, sample_rate=RATE, config=ShardsConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["flac", "original"])
def test_everything_comes_back(codec: str, tmp_path: Path) -> None:
    utterances = [replace(clip, metadata={"room": "ü", "n": "1"}) for clip in clips(5)]
    write(utterances, tmp_path, codec=codec)
    back = list(shard_utterances(ShardIndex.load(tmp_path)))
    assert [replace(clip, audio=b"", seconds=None) for clip in back] == [
        replace(clip, audio=b"") for clip in utterances
    ]
    for before, after in zip(utterances, back, strict=True):
        np.testing.assert_array_equal(read_audio(before.audio, RATE), read_audio(after.audio, RATE))
        assert after.seconds == 0.1


def test_the_index_counts(tmp_path: Path) -> None:
    written = write(clips(7), tmp_path, megabytes=0.004)
    loaded = ShardIndex.load(tmp_path)
    assert loaded == written
    assert len(loaded.shards) > 1
    assert loaded.num_utterances == 7
    assert loaded.seconds == pytest.approx(0.7)
    assert loaded.num_speakers == 3
    assert loaded.num_skipped == 0
    assert [shard.bytes for shard in loaded.shards] == [(tmp_path / s.name).stat().st_size for s in loaded.shards]


def test_files_paths_and_other_rates_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(sound(4800, rate=48000))
    index = write([Utterance(id="a", audio=path, text="x")], tmp_path / "shards")
    assert index.shards[0].num_samples == (800,)


def test_original_keeps_the_bytes_and_opus_is_small(tmp_path: Path) -> None:
    clip = Utterance(id="a", audio=encode_audio(np.zeros(48000, dtype=np.float32), 48000, "flac"), text="x")
    write([clip], tmp_path / "original", codec="original")
    with tarfile.open(next((tmp_path / "original").glob("*.tar"))) as tar:
        assert tar.getnames() == ["a.flac", "a.json"]
        member = tar.extractfile("a.flac")
        assert member is not None
        assert member.read() == clip.audio
    opus = write(clips(3, num_samples=RATE), tmp_path / "opus", codec="opus")
    flac = write(clips(3, num_samples=RATE), tmp_path / "flac", codec="flac")
    assert opus.shards[0].bytes < flac.shards[0].bytes
    assert opus.shards[0].num_samples == flac.shards[0].num_samples


def test_plain_webdataset_reads_the_shards(tmp_path: Path) -> None:
    ids = ["spk.1-utt1", "spk.1-utt2", "a/b", "ä ü", "__x__", "%41", "."]
    index = write([replace(clip, id=name) for name, clip in zip(ids, clips(7), strict=True)], tmp_path)
    urls = [str(tmp_path / shard.name) for shard in index.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [unquote(sample["__key__"]) for sample in samples] == ids
    assert [json.loads(sample["json"])["id"] for sample in samples] == ids
    assert set(samples[0]) - {"__key__", "__url__", "__local_path__"} == {"flac", "json"}


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_the_same_utterances_give_the_same_bytes(num_threads: int, tmp_path: Path) -> None:
    for name, threads in (("a", 2), ("b", num_threads)):
        write(clips(20), tmp_path / name, megabytes=0.01, num_threads=threads)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names[0] == "index.json"
    assert len(names) > 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_unusable_audio_is_left_out_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = {"cut": sound()[:500], "empty": b"", "noise": b"no sound" * 20, "gone": tmp_path / "gone.wav"}
    mixed = [*clips(5), *(Utterance(id=name, audio=audio, text="x") for name, audio in bad.items())]
    with caplog.at_level(logging.WARNING):
        index = write(mixed, tmp_path / "shards")
    assert index.num_utterances == 5
    assert index.num_skipped == 4
    assert ShardIndex.load(tmp_path / "shards").skipped == {
        "truncated or damaged": ("cut",),
        "empty file": ("empty",),
        "not audio, or damaged": ("noise",),
        "missing": ("gone",),
    }
    assert any("'gone'" in message and "gone.wav): missing" in message for message in caplog.messages)


def test_too_much_unusable_audio_is_an_error(tmp_path: Path) -> None:
    broken = [Utterance(id=f"b{n}", audio=b"", text="x") for n in range(3)]
    with pytest.raises(CorpusError, match="3 of 5 utterances have unusable audio, the last: utterance 'b2': empty"):
        write([*clips(2), *broken], tmp_path)
    with pytest.raises(CorpusError, match="3 of 3 utterances"):
        write(broken, tmp_path, max_skipped_share=1.0)
    with pytest.raises(CorpusError, match="never finished"):
        ShardIndex.load(tmp_path)


def test_a_folder_that_holds_no_shards_is_not_called_unfinished(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone: no such folder"):
        ShardIndex.load(tmp_path / "gone")
    for name in ("train", "dev"):
        write(clips(2), tmp_path / name)
    with pytest.raises(CorpusError, match=r"no shards here, but in its folders: dev, train$"):
        ShardIndex.load(tmp_path)
    write(clips(2), tmp_path / "run" / "shards" / "train")
    with pytest.raises(CorpusError, match=r"run: no shards here, but in its folders: shards/train$"):
        ShardIndex.load(tmp_path / "run")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.mp3").touch()
    with pytest.raises(
        CorpusError, match=r"music: expected a folder of shards, with an index.json, found .*'song.mp3'"
    ):
        ShardIndex.load(tmp_path / "music")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (Utterance(id="u0", audio=sound(), text="x"), "two utterances have the id 'u0'"),
        (Utterance(id="", audio=sound(), text="x"), "the id is empty"),
        (Utterance(id="a\nb", audio=sound(), text="x"), "line break"),
        (Utterance(id="v", audio=sound(), text=""), "utterance 'v' has no text"),
    ],
)
def test_an_impossible_utterance_is_an_error(extra: Utterance, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        write([*clips(2), extra], tmp_path)
    assert not list(tmp_path.glob("*"))


def test_nothing_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no utterances to write"):
        write([], tmp_path)


def test_opus_refuses_a_rate_that_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="not 22050"):
        write_shards(clips(1), tmp_path, sample_rate=22050, config=ShardsConfig(codec="opus"))


def test_writing_again_replaces_all(tmp_path: Path) -> None:
    assert len(write(clips(9), tmp_path, megabytes=0.003).shards) > 2
    (shard,) = write(clips(2), tmp_path).shards
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", shard.name]


def test_an_interrupted_write_leaves_no_index(tmp_path: Path) -> None:
    write(clips(3), tmp_path)

    def interrupted() -> Iterator[Utterance]:
        yield from clips(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(interrupted(), tmp_path)
    with pytest.raises(CorpusError, match="never finished"):
        ShardIndex.load(tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("step", ["addfile", "close"])
def test_a_full_disk_is_one_line(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, step, full)
    with pytest.raises(CorpusError, match="cannot write shards: No space left on device"):
        write(clips(3), tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    told = lambda number, seconds: seen.append((number, round(seconds, 6)))  # noqa: E731
    write_shards(clips(3), tmp_path, sample_rate=RATE, config=ShardsConfig(), progress=told)
    assert seen == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_utterances_are_consumed_a_few_ahead_only(tmp_path: Path) -> None:
    """Memory stays flat: no more than the threads' share is waiting at any time."""
    taken, written = [], []

    def counted() -> Iterator[Utterance]:
        for clip in clips(60):
            taken.append(clip.id)
            assert len(taken) - len(written) <= 2 * 4 + 2
            yield clip

    config = ShardsConfig(num_threads=2)
    write_shards(counted(), tmp_path, sample_rate=RATE, config=config, progress=lambda *_: written.append(1))
    assert len(taken) == 60


def damage_index(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(record | changes))


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    write(clips(2), tmp_path)
    whole = (tmp_path / "index.json").read_text()
    damages = [
        (whole[:50], "damaged index: "),
        ("[]", "damaged index"),
        ("", "damaged index"),
        ('{"shards": 3}', "damaged index: "),
        (whole.replace('"version":1', '"version":2'), "version"),
        (whole.replace('"codec"', '"kodek"'), "codec"),
    ]
    for text, message in damages:
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(CorpusError, match=message) as caught:
            ShardIndex.load(tmp_path)
        assert str(caught.value).startswith(str(tmp_path / "index.json"))
        assert "\n" not in str(caught.value)


def test_missing_and_resized_shards_are_named(tmp_path: Path) -> None:
    shard = tmp_path / write(clips(2), tmp_path).shards[0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    with pytest.raises(CorpusError, match=rf"{shard.name}: shard has {len(whole) - 512} bytes, expected {len(whole)}"):
        ShardIndex.load(tmp_path)
    shard.unlink()
    with pytest.raises(CorpusError, match=f"{shard.name}: shard is missing"):
        ShardIndex.load(tmp_path)
    with pytest.raises(CorpusError, match=r"gone: no such folder"):
        ShardIndex.load(tmp_path / "gone")
    with pytest.raises(CorpusError, match="cannot read the index"):
        ShardIndex.load(shard.parent / "index.json" / "x")


def tar_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def test_damage_inside_a_shard_is_named(tmp_path: Path) -> None:
    index = write(clips(3), tmp_path)
    shard = tmp_path / index.shards[0].name
    whole = shard.read_bytes()
    place = whole.index(b'{"id": "u1"')
    damages = [
        (bytes(len(whole)), "0 of 3 utterances"),
        (b"\xff" * len(whole), "cannot read the shard"),
        (whole[:place], "cannot read the shard"),
        (whole[:place] + b"#" + whole[place + 1 :], "u1: damaged description"),
        (whole.replace(b'"num_samples": 800', b'"num_samples": 801', 1), "'u0': not what the index lists"),
        (whole.replace(b"u2.flac", b"u2.fla_", 1), "2 of 3 utterances"),  # the sum of the tar's header is wrong
        (tar_of("u0.json"), "u0: expected one sound file, found 0"),
        (tar_of("u0.flac", "u0.wav", "u0.json"), "u0: expected one sound file, found 2"),
        (tar_of("u0.flac"), "u0: damaged description"),
        (tar_of("u0.flac", "u0.flac"), "cannot read the shard"),
    ]
    for content, message in damages:
        shard.write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            list(shard_utterances(index))


@pytest.mark.slow
def test_a_killed_write_is_not_complete(tmp_path: Path) -> None:
    """SIGKILL while shards are written: no index, and the next write starts cleanly."""
    program = f"""
import os
from pathlib import Path
from asr.corpus.shards import ShardsConfig, write_shards
from asr.corpus.utterance import Utterance
def utterances():
    for n in range(10):
        if n == 9: os.kill(os.getpid(), 9)
        yield Utterance(id=str(n), audio={sound()!r}, text="x")
write_shards(utterances(), Path({str(tmp_path)!r}), sample_rate=8000,
             config=ShardsConfig(megabytes=0.002, num_threads=0))
"""
    finished = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])
    assert finished.returncode == -9
    assert list(tmp_path.glob("shard-*.tar"))
    with pytest.raises(CorpusError, match="never finished"):
        ShardIndex.load(tmp_path)
    write(clips(2), tmp_path)
    assert ShardIndex.load(tmp_path).num_utterances == 2


def test_what_is_said_is_read_without_the_sound(tmp_path: Path) -> None:
    index = write(clips(5), tmp_path)
    expected = [replace(utterance, audio=b"") for utterance in shard_utterances(index)]
    for path in tmp_path.glob("shard-*.tar"):
        content = path.read_bytes()
        with tarfile.open(path) as tar:
            for member in (each for each in tar if not each.name.endswith(".json")):
                start, stop = member.offset_data, member.offset_data + member.size
                content = content[:start] + bytes(member.size) + content[stop:]
        path.write_bytes(content)
    assert list(shard_utterances(index, with_audio=False)) == expected


def test_several_folders_are_one_index(tmp_path: Path) -> None:
    write(clips(2), tmp_path / "first")
    write(clips(1), tmp_path / "second")
    both = combined_index({tmp_path / "first": 1.0, tmp_path / "second": 3.0})
    assert [utterance.id for utterance in shard_utterances(both)] == ["u0", "u1", "u0"]
    size = epoch_size(both, BatchesConfig())
    assert (both.num_utterances, size.utterances) == (3, 5)
    first, second = (ShardIndex.load(tmp_path / name).seconds for name in ("first", "second"))
    assert size.seconds == pytest.approx(first + 3 * second)


def test_folders_at_different_rates_are_not_one_index(tmp_path: Path) -> None:
    write(clips(1), tmp_path / "first")
    write_shards(clips(1), tmp_path / "second", sample_rate=2 * RATE, config=ShardsConfig())
    with pytest.raises(CorpusError, match="other sample rate"):
        combined_index({tmp_path / "first": 1.0, tmp_path / "second": 1.0})


def in_shards(index: ShardIndex) -> dict[str, list[str]]:
    """The ids in each shard."""
    return {shard.name: [stored.utterance.id for stored in read_shard(index, shard)] for shard in index.shards}


@pytest.fixture(scope="module")
def of_speakers() -> list[Utterance]:
    """120 utterances by 24 speakers, one after another."""
    made = []
    for n, length in enumerate(np.random.default_rng(0).integers(100, 900, 120)):
        made.append(Utterance(id=f"s{n // 5}-{n}", audio=sound(int(length), n), text="x", speaker=f"s{n // 5}"))
    return made


def test_a_speaker_who_goes_or_comes_changes_only_the_shards_around(
    of_speakers: list[Utterance], tmp_path: Path
) -> None:
    """The others keep their names and bytes, for each speaker, which is adding him when it is read backwards."""
    whole = write(of_speakers, tmp_path / "whole", codec="original", megabytes=0.012)
    assert len(whole.shards) > 12
    total_changed = 0
    for number in range(24):
        rest = [utterance for utterance in of_speakers if utterance.speaker != f"s{number}"]
        without = write(rest, tmp_path / f"without{number}", codec="original", megabytes=0.012)
        same = {shard.name for shard in whole.shards} & {shard.name for shard in without.shards}
        for name in same:
            assert (tmp_path / "whole" / name).read_bytes() == (without.folder / name).read_bytes()  # type: ignore[operator]
        changed = [ids for name, ids in in_shards(whole).items() if name not in same]
        speakers = [int(name[1:].partition("-")[0]) for ids in changed for name in ids]
        assert len(changed) <= 5
        assert min(speakers) <= number <= max(speakers)
        assert max(speakers) - min(speakers) < 12
        total_changed += len(changed)
    assert total_changed / 24 < 2.5  # cut by size alone, half of all shards


def test_shards_are_neither_small_nor_large(tmp_path: Path) -> None:
    """Also when the ids have an order that goes against the hashes: 120 of them, the lowest hash last."""
    for name, key in (("any", None), ("falling", lambda clip: hashlib.sha256(clip.id.encode()).digest())):
        utterances = sorted(clips(120, 200), key=key, reverse=True) if key else clips(120, 200)
        index = write(utterances, tmp_path / name, megabytes=0.012)
        sizes = [shard.bytes for shard in index.shards]
        assert min(sizes[:-1]) >= 12_000
        assert max(sizes) <= 4 * 12_000 + 14_000  # the last utterance, and a tar ends at a multiple of 10,240


def test_shards_hold_neither_few_nor_many_utterances(tmp_path: Path) -> None:
    numbers = [len(shard.num_samples) for shard in write(clips(120, 200), tmp_path, num_utterances=5).shards]
    assert sum(numbers) == 120
    assert min(numbers[:-1]) >= 5
    assert max(numbers) <= 20
    assert len(numbers) > 6


def test_names_tell_shards_apart_in_any_folder(tmp_path: Path) -> None:
    """A shard keeps its name on another day, also with Opus, and loses it with another text or codec."""
    long = clips(3, num_samples=RATE)
    others = [replace(long[0], text="other"), *long[1:]]
    names = [
        write(utterances, tmp_path / str(number), codec=codec).shards[0].name
        for number, (utterances, codec) in enumerate([(long, "opus"), (long, "opus"), (others, "opus"), (long, "flac")])
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
