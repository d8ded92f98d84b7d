"""Preparation that is killed and called again: the same bytes as undisturbed, and nothing decoded twice."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asr.audio import encode_audio
from asr.corpus import shards
from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError

RATE = 8000
JOURNAL = "unfinished.journal"


def clips(number: int = 24) -> list[Utterance]:
    """Utterances of which every seventh is unusable."""
    made = []
    for n in range(number):
        noise = np.random.default_rng(n).uniform(-0.5, 0.5, 800 + 10 * n).astype(np.float32)
        audio = b"no sound" * 20 if n % 7 == 3 else encode_audio(noise, RATE, "wav")
        made.append(Utterance(id=f"u{n}", audio=audio, text=f"text {n}", speaker=f"s{n // 4}"))
    return made


def write(
    utterances: Iterable[Utterance],
    folder: Path,
    *,
    num_threads: int = 2,
    megabytes: float = 0.006,
    sample_rate: int = RATE,
    progress: shards.Progress | None = None,
) -> ShardIndex:
    config = ShardsConfig(megabytes=megabytes, num_threads=num_threads)
    return write_shards(utterances, folder, sample_rate=sample_rate, config=config, progress=progress)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the utterances that were decoded."""
    ids: list[str] = []
    original = shards.pack_utterance

    def pack(utterance: Utterance, *settings: object) -> object:
        ids.append(utterance.id)
        return original(utterance, *settings)  # type: ignore[arg-type]

    monkeypatch.setattr(shards, "pack_utterance", pack)
    return ids


def stop_after(count: int) -> shards.Progress:
    def progress(number: int, seconds: float) -> None:
        if number == count:
            raise KeyboardInterrupt

    return progress


def broken_off(folder: Path, count: int = 13, utterances: list[Utterance] | None = None) -> list[str]:
    """Leaves unfinished shards in `folder`; names those that are complete."""
    with pytest.raises(KeyboardInterrupt):
        write(utterances or clips(), folder, num_threads=0, progress=stop_after(count))
    complete = sorted(path.name for path in folder.glob("shard-*.tar"))
    assert not (folder / "index.json").exists()
    return complete


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("count", range(1, 21))
def test_a_resumed_write_gives_the_same_bytes(count: int, num_threads: int, tmp_path: Path) -> None:
    """Broken off after each number of utterances: before the first shard, on the edges of shards and in the last."""
    write(clips(), tmp_path / "whole")
    broken_off(tmp_path / "part", count)
    index = write(clips(), tmp_path / "part", num_threads=num_threads)
    assert index == ShardIndex.load(tmp_path / "part")
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def test_complete_shards_are_not_decoded_again(tmp_path: Path, packed: list[str]) -> None:
    complete = broken_off(tmp_path)
    assert len(complete) >= 2
    done = [json.loads(line.partition(b" ")[2]) for line in (tmp_path / JOURNAL).read_bytes().splitlines()]
    assert sorted(entry["shard"]["name"] for entry in done) == complete
    num_done = sum(entry["num_read"] for entry in done)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in complete}
    packed.clear()
    write(clips(), tmp_path, num_threads=0)
    assert packed == [clip.id for clip in clips()][num_done:]
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in complete} == before


def test_a_generator_that_breaks_off_is_resumed_too(tmp_path: Path) -> None:
    def breaking() -> Iterator[Utterance]:
        yield from clips()[:15]
        raise OSError(5, "Input/output error")

    with pytest.raises(CorpusError, match="Input/output error"):
        write(breaking(), tmp_path / "part")
    assert (tmp_path / "part" / JOURNAL).is_file()
    write(iter(clips()), tmp_path / "part")
    write(clips(), tmp_path / "whole")
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def test_several_interruptions_add_up(tmp_path: Path, packed: list[str]) -> None:
    write(clips(), tmp_path / "whole")
    for count in (7, 9, 12, 16, 18):
        broken_off(tmp_path / "part", count)
    packed.clear()
    write(clips(), tmp_path / "part")
    assert len(packed) < 10
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def test_progress_and_warnings_tell_of_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken_off(tmp_path)
    caplog.clear()
    seen: list[int] = []
    with caplog.at_level(logging.INFO):
        index = write(clips(), tmp_path, progress=lambda number, seconds: seen.append(number))
    assert seen == list(range(1, index.num_utterances + 1))
    assert sum(message.startswith("left out: ") for message in caplog.messages) == index.num_skipped == 3
    assert any(message.startswith("going on behind ") for message in caplog.messages)


def edited(place: int, **changes: object) -> Callable[[list[Utterance]], list[Utterance]]:
    return lambda made: [*made[:place], replace(made[place], **changes), *made[place + 1 :]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        edited(0, id="other"),
        edited(6, id="other"),
        edited(6, text="other"),
        edited(6, speaker="other"),
        edited(6, metadata={"room": "other"}),
        edited(6, audio=b""),
        edited(3, audio=clips(1)[0].audio),
        lambda made: made[:5],
        lambda made: made[1:],
        lambda made: made[::-1],
        lambda made: made[:6] + made[7:],
        lambda made: [*made, replace(made[0], id="further")],
    ],
)
def test_other_utterances_give_what_they_give_undisturbed(
    change: Callable[[list[Utterance]], list[Utterance]], tmp_path: Path
) -> None:
    write(change(clips()), tmp_path / "whole")
    broken_off(tmp_path / "part")
    write(change(clips()), tmp_path / "part")
    assert content(tmp_path / "part") == content(tmp_path / "whole")


@pytest.mark.parametrize("settings", [{"megabytes": 0.004}, {"sample_rate": 2 * RATE}])
def test_other_settings_start_over(settings: dict[str, float], tmp_path: Path, packed: list[str]) -> None:
    write(clips(), tmp_path / "whole", **settings)  # type: ignore[arg-type]
    broken_off(tmp_path / "part")
    packed.clear()
    write(clips(), tmp_path / "part", **settings)  # type: ignore[arg-type]
    assert len(packed) == len(clips())
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def test_another_codec_starts_over(tmp_path: Path) -> None:
    broken_off(tmp_path)
    config = ShardsConfig(codec="original", megabytes=0.006)
    index = write_shards(clips(), tmp_path, sample_rate=RATE, config=config)
    kept = {clip.id: clip.audio for clip in clips()}
    assert all(clip.audio == kept[clip.id] for clip in shard_utterances(index))


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    files = []
    for clip in clips():
        path = tmp_path / f"{clip.id}.wav"
        assert isinstance(clip.audio, bytes)
        path.write_bytes(clip.audio)
        files.append(replace(clip, audio=path))
    broken_off(tmp_path / "part", utterances=files)
    (tmp_path / "u3.wav").write_bytes((tmp_path / "u2.wav").read_bytes())
    (tmp_path / "u5.wav").unlink()
    index = write(files, tmp_path / "part")
    assert index.skipped["missing"] == ("u5",)
    assert "u3" not in {name for names in index.skipped.values() for name in names}
    write(files, tmp_path / "whole")
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def test_a_file_that_is_as_long_as_before_is_read_again(tmp_path: Path) -> None:
    """Only the time of its change tells."""
    path = tmp_path / "u2.wav"
    files = [replace(clip, audio=path) if clip.id == "u2" else clip for clip in clips()]
    audio = clips()[2].audio
    assert isinstance(audio, bytes)
    path.write_bytes(audio)
    broken_off(tmp_path / "part", utterances=files)
    path.write_bytes(audio[:-200] + bytes(200))
    write(files, tmp_path / "part")
    write(files, tmp_path / "whole")
    assert content(tmp_path / "part") == content(tmp_path / "whole")


def damaged(number: int, journal: bytes) -> bytes:
    """One of several kinds of damage."""
    lines = journal.splitlines(keepends=True)
    place = random.Random(number).randrange(len(journal))
    return [
        b"",
        b"nonsense",
        b"\xff\n" + journal,
        journal[:-1],
        journal[: -len(lines[-1]) // 2],
        journal + lines[-1][:40],
        journal + b"\0" * 512,
        b"".join(reversed(lines)),
        lines[0] + journal,
        b"".join(lines[1:]),
        journal[:place] + bytes([journal[place] ^ 4]) + journal[place + 1 :],
    ][min(number, 10)]


@pytest.mark.parametrize("number", range(16))
def test_a_damaged_journal_costs_time_and_nothing_else(number: int, tmp_path: Path, packed: list[str]) -> None:
    write(clips(), tmp_path / "whole")
    broken_off(tmp_path / "part")
    journal = tmp_path / "part" / JOURNAL
    journal.write_bytes(damaged(number, journal.read_bytes()))
    # Broken off once more: what is written behind the damage must be found by the third call.
    broken_off(tmp_path / "part", 16)
    packed.clear()
    write(clips(), tmp_path / "part")
    assert len(packed) < 10
    assert content(tmp_path / "part") == content(tmp_path / "whole")


@pytest.mark.parametrize("place", [0, 1])
def test_a_shard_that_is_gone_or_cut_is_written_again(place: int, tmp_path: Path) -> None:
    write(clips(), tmp_path / "whole")
    for name, spoil in {
        "gone": lambda path: path.unlink(),
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-512]),
    }.items():
        complete = broken_off(tmp_path / name)
        spoil(tmp_path / name / complete[place])
        write(clips(), tmp_path / name)
        assert content(tmp_path / name) == content(tmp_path / "whole")


def test_a_finished_folder_is_written_anew(tmp_path: Path, packed: list[str]) -> None:
    write(clips(), tmp_path)
    assert JOURNAL not in content(tmp_path)
    packed.clear()
    write(clips(), tmp_path)
    assert len(packed) == len(clips())


def test_too_much_unusable_audio_counts_both_calls(tmp_path: Path) -> None:
    broken = [replace(clip, audio=b"") if n % 2 else clip for n, clip in enumerate(clips())]
    config = ShardsConfig(megabytes=0.006, num_threads=0, max_skipped_share=0.1)
    with pytest.raises(CorpusError) as undisturbed:
        write_shards(broken, tmp_path / "whole", sample_rate=RATE, config=config)
    with pytest.raises(KeyboardInterrupt):
        write_shards(broken, tmp_path / "part", sample_rate=RATE, config=config, progress=stop_after(9))
    assert (tmp_path / "part" / JOURNAL).is_file()
    with pytest.raises(CorpusError) as resumed:
        write_shards(broken, tmp_path / "part", sample_rate=RATE, config=config)
    assert str(resumed.value) == str(undisturbed.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want names that are Unicode")
def test_a_file_name_that_is_not_unicode_can_be_left_out(tmp_path: Path) -> None:
    bad = Utterance(id="bad", audio=tmp_path / os.fsdecode(b"\xff.wav"), text="x")
    assert write([*clips(), bad], tmp_path / "shards").skipped["missing"] == ("bad",)


def test_memory_holds_no_more_than_one_shard_of_utterances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it looks for the place to go on from: utterances may hold their audio as bytes."""
    broken_off(tmp_path, 18)
    most = max(
        json.loads(line.partition(b" ")[2])["num_read"] for line in (tmp_path / JOURNAL).read_bytes().splitlines()
    )
    alive: set[str] = set()

    class Counted(Utterance):
        def __del__(self) -> None:
            alive.discard(self.id)

    def counted() -> Iterator[Utterance]:
        for clip in clips():
            one = Counted(id=clip.id, audio=clip.audio, text=clip.text, speaker=clip.speaker)
            alive.add(one.id)
            assert len(alive) <= 2 * most + 2
            yield one
            del one

    write(counted(), tmp_path, num_threads=0)


PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_resumed_shards as tests
def utterances():
    for number, clip in enumerate(tests.clips()):
        if number == 20: os.kill(os.getpid(), 9)
        yield clip
tests.write(utterances(), Path(sys.argv[2]))
"""

# Kills a child before its first, second, ... flush, renaming or removal. Each child finds all imported.
KILL_IN_CALLS = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_resumed_shards as tests
def counted(function):
    def call(*arguments, **names):
        global left
        left -= 1
        if left == 0: os.kill(os.getpid(), 9)
        return function(*arguments, **names)
    return call
os.fsync, Path.replace, Path.unlink = counted(os.fsync), counted(Path.replace), counted(Path.unlink)
def killed(name, number):
    global left
    child = os.fork()
    if child == 0:
        left = number
        tests.write(tests.clips(), Path(sys.argv[2], name), num_threads=0)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 9
number = 1
while killed(f"killed-{number}", number): number += 1
while killed("again", 7): pass
"""


def run_killed(program: str, folder: Path) -> int:
    """The exit status of a child that runs `program`."""
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(folder)]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2], timeout=300).returncode


def test_a_killed_write_is_resumed(tmp_path: Path) -> None:
    """SIGKILL between two utterances, while threads are at work."""
    write(clips(), tmp_path / "whole")
    assert run_killed(PROGRAM, tmp_path / "part") == -9
    assert (tmp_path / "part" / JOURNAL).is_file()
    write(clips(), tmp_path / "part")
    assert content(tmp_path / "part") == content(tmp_path / "whole")


@pytest.mark.slow
def test_a_write_killed_in_any_call_is_resumed(tmp_path: Path) -> None:
    """SIGKILL before each flush, renaming and removal of a write; and again and again in one folder until it is done."""
    write(clips(), tmp_path / "whole")
    assert run_killed(KILL_IN_CALLS, tmp_path / "part") == 0
    assert content(tmp_path / "part" / "again") == content(tmp_path / "whole")
    folders = list((tmp_path / "part").glob("killed-*"))
    assert len(folders) > 20
    for folder in folders:
        write(clips(), folder)
        assert content(folder) == content(tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell the names of open files")
def test_shards_are_on_the_disk_before_their_names_and_the_journal_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    rename, fsync = Path.replace, os.fsync

    def synced(file: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{file}').readlink().name}")
        fsync(file)

    def renamed(path: Path, target: Path) -> Path:
        steps.append(f"{path.name} becomes {Path(target).name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    index = write(clips(), tmp_path)
    shards = [f".shard.tmp becomes {shard.name}" for shard in index.shards]
    assert len(shards) > 2
    assert [step for step in steps if step.startswith(".shard.tmp")] == shards
    assert {before for before, step in pairwise(steps) if step in shards} == {"sync .shard.tmp"}
    assert {after for step, after in pairwise(steps) if step in shards[:-1]} == {"sync unfinished.journal"}
