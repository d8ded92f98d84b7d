"""`asr shards`: what an index says, and damage of every kind found and named, by the library and the command."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio import encode_audio, encode_frames
from asr.cli import main
from asr.corpus.shard_check import Bin, TextLengths, Verification, summarize, verify_shards
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.utterance import Utterance

RATE = 8000


def clips(seconds: list[float]) -> list[Utterance]:
    made = []
    for n, duration in enumerate(seconds):
        noise = np.random.default_rng(n).uniform(-0.5, 0.5, round(duration * RATE)).astype(np.float32)
        made.append(Utterance(id=f"u{n}", audio=encode_audio(noise, RATE, "wav"), text="x", speaker=f"s{n % 2}"))
    return made


def write(folder: Path, utterances: list[Utterance] | None = None) -> ShardIndex:
    config = ShardsConfig(megabytes=0.008)
    return write_shards(utterances or clips([0.1] * 9), folder, sample_rate=RATE, config=config)


def verified(folder: Path, num_threads: int = 2) -> tuple[Verification, float]:
    done: list[float] = []
    index = ShardIndex.load(folder, check_shards=False)
    return verify_shards(index, num_threads=num_threads, advance=done.append), sum(done)


def test_the_summary_counts(tmp_path: Path) -> None:
    bad = Utterance(id="bad", audio=b"", text="x")
    index = write(tmp_path, [*clips([0.1, 0.3, 0.2, 0.3, 0.6]), bad])
    summary = summarize(index)
    assert (summary.num_utterances, summary.num_speakers, summary.codec) == (5, 2, "flac")
    assert summary.num_shards == len(list(tmp_path.glob("*.tar"))) > 1
    assert summary.num_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    assert summary.hours == pytest.approx(1.5 / 3600)
    assert summary.skipped == {"empty file": 1}
    durations = summary.durations
    assert (durations.min, durations.median, durations.mean, durations.max) == (0.1, 0.3, pytest.approx(0.3), 0.6)
    assert [each.count for each in durations.histogram] == [1, 1, 2, 0, 0, 1]


def test_the_summary_tells_how_long_texts_are(tmp_path: Path) -> None:
    texts = ["a", "no", "höre!", "no", "yes no yes"]
    said = [replace(clip, text=text) for clip, text in zip(clips([0.1, 0.3, 0.2, 0.3, 0.6]), texts, strict=True)]
    index = write(tmp_path, said)
    assert len(index.shards) > 1
    assert summarize(ShardIndex.load(tmp_path)).texts == TextLengths(1, 2, 4, 10, pytest.approx(20 / 1.5))


@pytest.mark.parametrize(
    ("seconds", "bins"),
    [
        ([0.3] * 4, [Bin(0.3, 0.301, 4)]),
        ([1.0, 1.99, 2.0, 9.99], [Bin(n, n + 1, count) for n, count in enumerate([2, 1, 0, 0, 0, 0, 0, 0, 1], 1)]),
        ([0.1, 0.7], [Bin(n / 10, (n + 1) / 10, int(n in {1, 7})) for n in range(1, 8)]),
        ([1.0, 35.0], [Bin(n, n + 5, int(n in {0, 35})) for n in range(0, 40, 5)]),
    ],
)
def test_the_histogram_has_round_edges(seconds: list[float], bins: list[Bin], tmp_path: Path) -> None:
    index = write(tmp_path)
    shard = index.shards[0].model_copy(update={"num_samples": tuple(round(each * RATE) for each in seconds)})
    assert list(summarize(index.model_copy(update={"shards": (shard,)})).durations.histogram) == bins


@pytest.mark.parametrize("num_threads", [0, 3])
def test_whole_shards_are_whole(num_threads: int, tmp_path: Path) -> None:
    write(tmp_path)
    result, done = verified(tmp_path, num_threads)
    assert (result.damages, result.num_utterances, result.num_damaged, done) == ([], 9, 0, 9)


def test_stored_features_are_verified_too(tmp_path: Path) -> None:
    frames = [np.full((5 + n, 3), n, dtype=np.float32) for n in range(4)]
    stored = [Utterance(id=f"u{n}", audio=encode_frames(each), text="x") for n, each in enumerate(frames)]
    index = write_shards(stored, tmp_path, sample_rate=100, num_features=3, config=ShardsConfig())
    assert summarize(index).codec == "npy"
    assert verified(tmp_path)[0].damages == []
    shard = tmp_path / index.shards[0].name
    shard.write_bytes(shard.read_bytes().replace(np.float32(2).tobytes() * 9, np.float32(np.nan).tobytes() * 9, 1))
    damage, of_shard = verified(tmp_path)[0].damages
    assert "'u2': values not finite" in damage.message
    assert "not the file that the index lists" in of_shard.message


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flipped_sound(content: bytes) -> bytes:
    """One bit, in the middle of the sound of the first utterance."""
    place = content.index(b"fLaC") + 600
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("change", "message", "num_damaged"),
    [
        (flipped_sound, "utterance 'u0': truncated or damaged", 1),
        (lambda whole: whole.replace(b"fLaC", b"fLaX", 1), "utterance 'u0': not audio", 1),
        (lambda whole: whole.replace(b'{"id"', b'#"id"', 1), "u0: damaged description", 1),
        (lambda whole: whole.replace(b": 800", b": 801", 1), "'u0': 800 samples, its description says 801", 1),
        (
            lambda whole: whole.replace(b'"text": "x"', b'"text": "y"', 1),
            "a text, a speaker or another description in it",
            0,
        ),
        (lambda whole: whole.replace(b"u1.flac", b"u1.fla_", 1), "1 of 6 utterances could be read", 5),
        (lambda whole: whole[:1000], "shard has 1000 bytes, expected", 6),
        (lambda whole: whole + bytes(512), "bytes, expected", 0),
        (lambda whole: b"", "0 of 6 utterances could be read", 6),
        (lambda whole: b"\xff" * len(whole), "cannot read the shard", 6),
    ],
)
def test_damage_is_found_counted_and_named(
    change: Callable[[bytes], bytes], message: str, num_damaged: int, tmp_path: Path
) -> None:
    name = write(tmp_path).shards[0].name
    spoil(tmp_path / name, change)
    result, done = verified(tmp_path)
    assert any(message in damage.message for damage in result.damages), result.damages
    assert all(name in damage.message for damage in result.damages)
    assert (result.num_damaged, done) == (num_damaged, 9)


def test_every_damage_is_named_not_only_the_first(tmp_path: Path) -> None:
    first, second, *_ = [tmp_path / shard.name for shard in write(tmp_path).shards]
    second.unlink()
    spoil(first, flipped_sound)
    spoil(first, lambda whole: whole.replace(b'{"id": "u2"', b'#"id": "u2"'))
    result, done = verified(tmp_path)
    assert (result.num_damaged, done) == (5, 9)
    messages = [damage.message for damage in result.damages]
    parts = ["'u0'", "u2: damaged description", "not the file that the index lists", "missing", "0 of 3 utterances"]
    assert [part in message for part, message in zip(parts, messages, strict=True)] == [True] * 5


def test_sound_that_is_whole_but_another_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples of a sound file without sums of its own, in a shard whose texts and lengths are those of the index."""
    config = ShardsConfig(megabytes=0.008, codec="original")
    first, *_ = write_shards(clips([0.1] * 9), tmp_path, sample_rate=RATE, config=config).shards
    path = tmp_path / first.name
    spoil(path, lambda whole: whole.replace(whole[1000:1100], whole[1002:1102], 1))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    code, out, err = run(monkeypatch, capsys, "verify", tmp_path)
    line = f"damaged: {path}: not the file that the index lists: sha256 is {found}, expected {first.sha256}; "
    line += "copy or prepare the shards again"
    assert (code, out.splitlines()) == (2, [line, f"{tmp_path}: 9 of 9 utterances can be read"])
    assert err.startswith("error: damaged shards, 0 utterances lost, see above: ")


def test_an_index_that_lists_other_lengths_is_found(tmp_path: Path) -> None:
    index = write(tmp_path)
    longer = index.shards[0].model_copy(update={"num_samples": (*index.shards[0].num_samples[:-1], 799)})
    shorter = index.shards[1].model_copy(update={"num_samples": index.shards[1].num_samples[:-1]})
    changed = index.model_copy(update={"shards": (longer, shorter, *index.shards[2:])})
    messages = [each.message for each in verify_shards(changed, num_threads=0, advance=lambda amount: None).damages]
    assert len(messages) == 2
    assert "'u5': 800 samples, its description says 800 and the index 799" in messages[0]
    assert "holds more than the 2 utterances" in messages[1]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["asr", "shards", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), *capsys.readouterr()


def test_info_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", [*clips([0.1, 0.5, 0.5]), Utterance(id="bad", audio=b"", text="x")])
    write(tmp_path / "b", [replace(clip, speaker="") for clip in clips([0.2])])
    code, out, err = run(monkeypatch, capsys, "info", tmp_path / "a", tmp_path / "b", "--json", tmp_path / "r.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path / 'a'}: 3 utterances in 2 shards, 0.00 h, 2 speakers"
    assert lines[1].startswith("  flac, 8000 Hz, 0.0 MB, ")
    assert lines[2] == "  0.10 to 0.50 s, median 0.50 s, mean 0.37 s"
    assert lines[3].split() == ["0.1", "to", "0.15", "s", "1", "#" * 20]
    assert "  left out: 1 (empty file)" in lines
    assert "  texts of 1 to 1 characters, median 1, mean 1.0, 2.7 per second" in lines
    assert any("unknown speakers" in line for line in lines)
    records = json.loads((tmp_path / "r.json").read_text())
    assert [record["num_utterances"] for record in records] == [3, 1]
    assert records[0]["skipped"] == {"empty file": 1}
    assert records[0]["durations"]["histogram"][0]["count"] == 1


def test_info_of_an_unfinished_folder_among_others_shows_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "c"):
        write(tmp_path / name)
    (tmp_path / "b").mkdir()
    folders = [tmp_path / name for name in "abc"]
    code, out, err = run(monkeypatch, capsys, "info", *folders, "--json", tmp_path / "r.json")
    first, last = err.splitlines()
    assert (code, last) == (2, "error: 1 of 3 folders of shards could not be read")
    assert first.startswith(f"error: {tmp_path / 'b' / 'index.json'}: no such file")
    assert [line.split(":")[0] for line in out.splitlines() if "9 utterances" in line] == [
        str(tmp_path / "a"),
        str(tmp_path / "c"),
    ]
    assert [record["folder"] for record in json.loads((tmp_path / "r.json").read_text())] == [
        str(tmp_path / "a"),
        str(tmp_path / "c"),
    ]


def test_verify_of_whole_and_damaged_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a")
    shard = tmp_path / "b" / write(tmp_path / "b").shards[0].name
    code, out, err = run(monkeypatch, capsys, "verify", tmp_path / "a", tmp_path / "b")
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{tmp_path / name}: 9 of 9 utterances can be read" for name in "ab"]
    spoil(shard, flipped_sound)
    code, out, err = run(monkeypatch, capsys, "verify", tmp_path / "a", tmp_path / "b", "--threads", 0)
    assert code == 2
    assert "damaged: " in out
    assert "'u0'" in out
    assert f"{tmp_path / 'b'}: 8 of 9 utterances can be read" in out
    message = (
        f"damaged shards, 1 utterance lost, see above: {tmp_path / 'b'}; those of a run are made again by the same"
    )
    assert err.startswith(f"error: {message} `asr run`")


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_folder_without_index_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capsys, command, tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'index.json'}: no such file")
    assert err.count("\n") == 1


def test_a_changed_text_is_damage_though_every_utterance_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = tmp_path / write(tmp_path).shards[0].name
    spoil(shard, lambda whole: whole.replace(b'"text": "x"', b'"text": "y"', 1))
    code, out, err = run(monkeypatch, capsys, "verify", tmp_path)
    assert (code, "9 of 9 utterances can be read" in out) == (2, True)
    assert err.startswith("error: damaged shards, 0 utterances lost")
