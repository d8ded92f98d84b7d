"""Shards behind URLs: the same batches as from a disk; what breaks off is read on, what is not whole is an error.

With a cache, each is fetched once, whoever reads it, and read from there.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_server import FaultyServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio import encode_audio
from asr.cli import main
from asr.corpus import places
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import epoch_batches, sequential_batches
from asr.corpus.places import find_place, inside, open_place, title
from asr.corpus.shard_cache import open_copy
from asr.corpus.shard_reader import read_shard, shard_utterances
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import recipe_of_files

RATE = 8000
SMALL = BatchesConfig(seconds=1, shuffle_buffer=10, window_batches=2, num_workers=0)


@dataclass(kw_only=True)
class Server(FaultyServer):
    """The files of a folder, with faults."""

    folder: Path

    @property
    def url(self) -> str:
        """Where the folder is served."""
        return self.address

    def body(self, path: str) -> bytes | None:
        """The file at `path` below the folder."""
        file = self.folder / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    state = Server(folder=tmp_path)
    with state.serving():
        yield state


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_WAIT_SECONDS", 0.0)


def write_noises(folder: Path, volume: float = 0.5) -> ShardIndex:
    """Shards of 40 noises; with another volume some have the same names."""
    clips = []
    for n in range(40):
        noise = np.random.default_rng(n).uniform(-volume, volume, 800 + 40 * n).astype(np.float32)
        clips.append(Utterance(id=f"u{n}", audio=encode_audio(noise, RATE, "wav"), text=f"text {n}", speaker="s"))
    return write_shards(clips, folder, sample_rate=RATE, config=ShardsConfig(megabytes=0.01))


@pytest.fixture
def train(tmp_path: Path) -> ShardIndex:
    """Shards in the folder `train`."""
    return write_noises(tmp_path / "train")


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command `aws` whose bucket is `tmp_path`."""
    (tmp_path / "bin").mkdir()
    script = f'#!/bin/sh\n[ "$1 $2 $4" = "s3 cp -" ] || exit 9\nexec cat "{tmp_path}/${{3#s3://bucket/}}"\n'
    (tmp_path / "bin" / "aws").write_text(script)
    (tmp_path / "bin" / "aws").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.fixture(params=["http", "s3", "pipe"])
def url(request: pytest.FixtureRequest, tmp_path: Path, server: Server, aws: None) -> str:
    """The folder `train` behind a URL of each kind."""
    return {"http": f"{server.url}/train/", "s3": "s3://bucket/train", "pipe": f"pipe:cat {tmp_path}/train/{{}}"}[
        request.param
    ]


@pytest.mark.parametrize("cache", [None, "cache/of/shards"])
def test_batches_are_those_from_a_disk(url: str, cache: str | None, train: ShardIndex, tmp_path: Path) -> None:
    index = ShardIndex.load(url, cache=cache and tmp_path / cache)
    assert len(index.shards) > 2
    assert index.model_copy(update={"folder": train.folder, "cache": None}) == train
    for batches in (
        lambda index: epoch_batches(index, SMALL, seed=1, epoch=2),
        lambda index: epoch_batches(index, SMALL, seed=1, epoch=2, skip_batches=3, rank=1, world_size=2),
        lambda index: sequential_batches(index, SMALL),
    ):
        for local, remote in zip(batches(train), batches(index), strict=True):
            assert local.ids == remote.ids
            assert torch.equal(local.waveforms, remote.waveforms)
    local, remote = (list(shard_utterances(each, with_audio=False)) for each in (train, index))
    assert local == remote


def test_resuming_asks_for_no_shard_that_it_wants_nothing_of(server: Server, train: ShardIndex) -> None:
    index = ShardIndex.load(f"{server.url}/train")
    config = SMALL.model_copy(update={"shuffle_buffer": 1, "window_batches": 1})
    num_batches = sum(1 for _ in epoch_batches(index, config, seed=1, epoch=2))
    server.requests = []
    assert list(epoch_batches(index, config, seed=1, epoch=2, skip_batches=num_batches - 1))
    assert 1 <= len(server.requests) < len(index.shards) / 2


def test_commands_take_urls(
    url: str, train: ShardIndex, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, said in (("info", f"{url}: 40 utterances"), ("verify", f"{url}: 40 of 40 utterances can be read")):
        monkeypatch.setattr(sys, "argv", ["asr", "shards", command, url])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        assert said in capsys.readouterr().out


def test_what_is_missing_is_named(url: str, train: ShardIndex, tmp_path: Path) -> None:
    missing = train.shards[1].name
    (tmp_path / "train" / missing).unlink()
    index = ShardIndex.load(url)
    reason = {"h": "answers 404", "s": "exit code 1 .*No such file", "p": "exit code 1 .*No such file"}[url[0]]
    with pytest.raises(CorpusError, match=f"{re.escape(str(inside(url, missing)))}: .*{reason}") as caught:
        list(shard_utterances(index))
    assert "\n" not in str(caught.value)
    (tmp_path / "train" / "index.json").unlink()
    with pytest.raises(CorpusError, match=f"{re.escape(str(inside(url, 'index.json')))}: .*{reason}"):
        ShardIndex.load(url)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_shorter_file_is_never_fewer_utterances(url: str, share: float, train: ShardIndex, tmp_path: Path) -> None:
    """Also when it ends between two members, where a tar looks whole."""
    index, first = ShardIndex.load(url), train.shards[0]
    path = tmp_path / "train" / first.name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole)) // 512 * 512])
    with pytest.raises(CorpusError, match=re.escape(f"{inside(url, first.name)}: ") + f".*{first.bytes}"):
        list(read_shard(index, first))


def test_a_longer_file_is_another_one(url: str, train: ShardIndex, tmp_path: Path) -> None:
    index, first = ShardIndex.load(url), train.shards[0]
    path = tmp_path / "train" / first.name
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(CorpusError, match=f"expected {first.bytes}"):
        list(read_shard(index, first))


@pytest.mark.parametrize("states_length", [True, False])
def test_a_server_that_always_breaks_off_is_an_error(server: Server, states_length: bool, train: ShardIndex) -> None:
    index, first = ShardIndex.load(f"{server.url}/train"), train.shards[0]
    server.states_length = states_length
    server.breaks = [5000, *[0] * 10]
    with pytest.raises(
        CorpusError, match=rf"{first.name}: the connection ended after 5000 of {first.bytes} bytes; tried"
    ):
        list(read_shard(index, first))
    assert len(server.requests) < 8


def test_an_overloaded_server_is_asked_again(server: Server, train: ShardIndex) -> None:
    server.statuses = [503, 429]
    index = ShardIndex.load(f"{server.url}/train?key=1")
    assert [path for path, _ in server.requests] == ["/train/index.json?key=1"] * 3
    assert list(shard_utterances(index)) == list(shard_utterances(train))


@given(st.lists(st.integers(0, 30_000), max_size=30), st.booleans(), st.integers(1, 40_000))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_broken_connections_lose_and_repeat_no_byte(
    server: Server, breaks: list[int], ranges: bool, block: int
) -> None:
    content = np.random.default_rng(0).bytes(60_000)
    (server.folder / "file").write_bytes(content)
    server.ranges, server.breaks, server.requests = ranges, list(breaks), []
    try:
        with open_place(f"{server.url}/file", len(content)) as file:
            read = b"".join(iter(lambda: file.read(block), b""))
    except CorpusError as error:
        assert len(server.requests) >= 4, error  # noqa: PT017 - both ends are right, fewer bytes are not
    else:
        assert read == content
    if ranges and all(breaks):
        assert len(server.requests) == 1 or server.requests[1][1] == f"bytes={breaks[0]}-"


def test_a_file_of_which_only_the_end_mark_is_missing_is_whole(server: Server, train: ShardIndex) -> None:
    index, first = ShardIndex.load(f"{server.url}/train"), train.shards[0]
    server.loses_last_chunk, server.requests = True, []
    found, expected = ([each.utterance for each in read_shard(which, first)] for which in (index, train))
    assert found == expected
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [60_000, None])
def test_a_server_that_begins_before_what_was_asked_repeats_no_byte(server: Server, size: int | None) -> None:
    content = np.random.default_rng(0).bytes(60_000)
    (server.folder / "file").write_bytes(content)
    server.block, server.breaks = 4096, [5000, 20_000]
    with open_place(f"{server.url}/file", size) as file:
        assert file.read() == content


def test_a_command_that_fails_halfway_is_run_again(tmp_path: Path, train: ShardIndex) -> None:
    """Each file at its second try, and behind what was read."""
    script = tmp_path / "halves.sh"
    script.write_text(
        'if [ -e "$1.tried" ]; then cat "$1"; else touch "$1.tried"; head -c 300 "$1"; echo lost >&2; exit 3; fi\n'
    )
    index = ShardIndex.load(f"pipe:sh {script} {tmp_path}/train/{{}}")
    assert list(shard_utterances(index)) == list(shard_utterances(train))


def test_a_command_that_keeps_failing_tells_why(tmp_path: Path, train: ShardIndex) -> None:
    command = f"cat {tmp_path}/train/{{}}; echo first >&2; echo no route to host >&2; exit 3"
    with pytest.raises(CorpusError, match=r"exit code 3 \(no route to host\); tried 4 times, check address and"):
        ShardIndex.load(f"pipe:{command}")


def test_a_reader_that_has_enough_ends_the_command(tmp_path: Path, train: ShardIndex) -> None:
    (tmp_path / "index.json").write_bytes((tmp_path / "train" / "index.json").read_bytes())
    index = train.model_copy(
        update={"folder": f"pipe:echo $$ > {tmp_path}/pid; cat {tmp_path}/train/{{}}; exec sleep 600"}
    )
    utterances = read_shard(index, train.shards[0])
    assert next(utterances).utterance.id == "u0"
    utterances.close()  # type: ignore[attr-defined]
    number = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{number}").exists():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the command is still running")


def test_s3_without_its_tool_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match=r"s3://bucket/train/index\.json: cannot run 'aws' \(No such file"):
        ShardIndex.load("s3://bucket/train")


def test_nobody_answers(train: ShardIndex) -> None:
    with pytest.raises(
        CorpusError, match=r"http://127\.0\.0\.1:9/train/index\.json: the connection failed .*; tried 4"
    ):
        ShardIndex.load("http://127.0.0.1:9/train")


def test_the_folder_where_one_stands_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev").mkdir()
    monkeypatch.chdir(tmp_path / "dev")
    assert title(Path()) == title(Path("../dev")) == "dev"
    assert recipe_of_files(Path(), (tmp_path,)).name == "dev"


def test_places_are_told_apart(tmp_path: Path) -> None:
    assert find_place("a/b") == Path("a/b")
    assert find_place("pipe:cat {}") == "pipe:cat {}"
    with pytest.raises(CorpusError, match=r"gs://bucket/train: expected a path, http://, https:// or s3://; for other"):
        find_place("gs://bucket/train")
    with pytest.raises(CorpusError, match=r"pipe:cat x: expected \{\} in the command"):
        ShardIndex.load(find_place("pipe:cat x"))
    assert inside("pipe:cat a/{} b/{}", "x;y") == "pipe:cat a/'x;y' b/'x;y'"
    assert inside("https://host/a?k=1&l=2", "x y?") == "https://host/a/x%20y%3F?k=1&l=2"
    assert inside("s3://bucket/a/", "x") == "s3://bucket/a/x"
    titles = {"https://host/a/train": "train", "s3://bucket": "bucket", "pipe:{}": "pipe", "pipe:cat '/x y/{}'": "y"}
    assert {text: title(text) for text in titles} == titles


@pytest.mark.parametrize(
    "change", [{"name": "x'; touch hacked; '"}, {"name": "../x.tar"}, {"place": "pipe:touch hacked"}]
)
def test_an_index_from_a_server_runs_nothing_here(change: dict[str, str], train: ShardIndex, tmp_path: Path) -> None:
    path = tmp_path / "train" / "index.json"
    record = json.loads(path.read_text())
    record["shards"][0] |= change
    path.write_text(json.dumps(record))
    with pytest.raises(CorpusError, match=f"damaged index: shards.0.{next(iter(change))}"):
        ShardIndex.load(f"pipe:cat '{tmp_path}/train/{{}}'")


def fetched(server: Server) -> list[str]:
    """Names of the shards that were asked for, in order of names."""
    return sorted(Path(path.partition("?")[0]).name for path, _ in server.requests if ".tar" in path)


def test_with_a_cache_all_processes_and_epochs_fetch_each_shard_once(
    server: Server, train: ShardIndex, tmp_path: Path
) -> None:
    reader = (
        "import sys; from pathlib import Path; from asr.corpus.shard_cache import open_copy; "
        "from asr.corpus.shards import ShardIndex; index = ShardIndex.load(sys.argv[1]); print(flush=True); input(); "
        "[open_copy(index.place(shard), shard, Path(sys.argv[2])) for shard in index.shards]"
    )
    command = [sys.executable, "-c", reader, f"{server.url}/train", str(tmp_path / "cache")]
    with ExitStack() as stack:
        popen = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes = [stack.enter_context(popen(command)) for _ in range(2)]
        for process in processes:
            process.stdout.readline()
        for process in processes:  # both at the same time
            process.stdin.write("\n")
            process.stdin.flush()
    assert [process.returncode for process in processes] == [0, 0]
    index = ShardIndex.load(f"{server.url}/train", cache=tmp_path / "cache")
    for epoch in range(2):
        for rank in range(2):
            assert list(epoch_batches(index, SMALL, seed=1, epoch=epoch, rank=rank, world_size=2))
    assert fetched(server) == sorted(shard.name for shard in train.shards)


def test_a_cache_tells_shards_apart_by_what_is_in_them_and_tells_no_keys(
    server: Server, train: ShardIndex, tmp_path: Path
) -> None:
    cache, others = tmp_path / "cache", write_noises(tmp_path / "others", volume=0.3)
    of_train, of_others = list(shard_utterances(train)), list(shard_utterances(others))
    url = f"{server.url}/train?key=secret"
    assert others.shards[0].name == train.shards[0].name
    assert list(shard_utterances(ShardIndex.load(url, cache=cache))) == of_train
    found = shard_utterances(ShardIndex.load(f"{server.url}/others?key=secret", cache=cache))
    assert list(found) == of_others != of_train
    assert not [path.name for path in cache.iterdir() if "secret" in path.name]
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "others").rename(tmp_path / "train")  # prepared anew, behind the same URL, some under the same names
    assert list(shard_utterances(ShardIndex.load(url, cache=cache))) == of_others
    (tmp_path / "shard.tar").write_bytes(bytes(train.shards[0].bytes))
    with pytest.raises(CorpusError, match=r"/shard.tar: not the file that the index lists: sha256 is"):
        open_copy(f"{server.url}/shard.tar", train.shards[0], tmp_path / "empty")
    assert not list((tmp_path / "empty").glob("*.tar"))


def test_what_a_cache_loses_is_fetched_again(server: Server, train: ShardIndex, tmp_path: Path) -> None:
    """All of it, while it is read, or a part of a copy."""
    cache = tmp_path / "cache"
    utterances = shard_utterances(ShardIndex.load(f"{server.url}/train", cache=cache))
    found = [next(utterances)]
    shutil.rmtree(cache)
    found += utterances
    assert found == list(shard_utterances(train))
    copy = next(cache.glob("*.tar"))
    copy.write_bytes(copy.read_bytes()[:-512])
    assert list(shard_utterances(ShardIndex.load(f"{server.url}/train", cache=cache))) == found


def test_a_shard_whose_copy_is_deleted_while_it_is_fetched_is_read_and_kept_the_next_time(
    server: Server,
    train: ShardIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its folder, what is being written and its lock."""
    cache, first = tmp_path / "cache", train.shards[0]
    index = ShardIndex.load(f"{server.url}/train", cache=cache)
    expected = [each.utterance for each in read_shard(train, first)]
    body = Server.body

    def deleting(self: Server, path: str) -> bytes | None:
        shutil.rmtree(cache, ignore_errors=True)
        return body(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Server, "body", deleting)
        assert [each.utterance for each in read_shard(index, first)] == expected
    assert not cache.exists()
    assert ": deleted before it could be read; the shard is read where it lies" in caplog.text
    assert fetched(server) == 2 * [first.name]
    for _ in range(2):
        assert [each.utterance for each in read_shard(index, first)] == expected
    assert fetched(server) == 3 * [first.name]


def test_a_damaged_copy_is_told_from_a_damaged_shard(server: Server, train: ShardIndex, tmp_path: Path) -> None:
    index, first = ShardIndex.load(f"{server.url}/train", cache=tmp_path), train.shards[0]
    with open_copy(f"{server.url}/train/{first.name}", first, tmp_path) as file:
        copy = Path(file.name)
    copy.write_bytes(bytes(first.bytes))
    said = f"{copy}: .*, or delete this copy of {server.url}/train/{first.name}, which is then fetched again$"
    with pytest.raises(CorpusError, match=said):
        list(read_shard(index, first))
    copy.unlink()
    assert list(shard_utterances(index)) == list(shard_utterances(train))


def test_a_full_disk_and_a_cache_that_cannot_be_are_one_line(
    server: Server, train: ShardIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"cannot keep a copy of the shard: Not a directory; make room there, take"):
        list(shard_utterances(ShardIndex.load(f"{server.url}/train", cache=tmp_path / "file")))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("asr.atomic.os.fsync", full)
        with pytest.raises(CorpusError, match=r"cannot keep a copy of the shard: No space left on device; make room"):
            list(shard_utterances(ShardIndex.load(f"{server.url}/train", cache=tmp_path / "cache")))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    index = ShardIndex.load(f"{server.url}/train", cache=tmp_path / "cache")
    assert list(shard_utterances(index)) == list(shard_utterances(train))
