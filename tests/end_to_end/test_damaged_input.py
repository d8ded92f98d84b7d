"""Damaged and odd input, through the command line: a result, or one clear line and exit code 2, and nothing lost."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from tones import TINY, write_tone_corpus

from asr.cli import main
from asr.model.checkpoint import load_checkpoint


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def asr(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs the command line in this process; an exception that is no `AsrError` fails the test, as a traceback would."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Outcome(code, *capfd.readouterr())

    return run


def assert_one_clear_line(outcome: Outcome, *fragments: str) -> None:
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("error: "), outcome.err
    for fragment in fragments:
        assert fragment in outcome.err, (fragment, outcome.err)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trian spoken_commands", "asr: No such command 'trian'. Did you mean 'train'? (`asr --help` tells more)"),
        ("run --foo", "asr run: No such option: --foo"),
        ("evaluate", "asr evaluate: Missing option '--model'"),
        ("transcribe a.wav --width x", "asr transcribe: Invalid value for '--width'"),
        ("shards verify", "asr shards verify: Missing argument"),
    ],
)
def test_misuse_of_the_command_line_is_one_line(asr: Callable[..., Outcome], words: str, told: str) -> None:
    outcome = asr(*words.split())
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {told}")
    assert line.endswith(" --help` tells more)")


def test_who_has_seen_enough_of_the_output_makes_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "asr.cli", "recipes"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_no_command_is_help(asr: Callable[..., Outcome]) -> None:
    outcome = asr()
    assert (outcome.code, outcome.err) == (2, "")
    assert "transcribe" in outcome.out


SETTINGS = [*TINY, "training.epochs=2", "training.checkpoint_every_updates=2"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with manifests `train` and `test` and a finished run in `run`."""
    folder = tmp_path_factory.mktemp("trained")
    train = write_tone_corpus(folder / "train", 30, seed=1)
    test = write_tone_corpus(folder / "test", 4, seed=2, prefix="t")
    arguments = ["run", "--manifest", str(train), "--test", str(test), "--out", str(folder / "run"), *SETTINGS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["asr", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
    return folder


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained` that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "work"))


def tone(sample_rate: int, channels: int = 1) -> np.ndarray:
    times = np.arange(sample_rate) / sample_rate
    return np.repeat(0.3 * np.sin(2 * np.pi * 300 * times)[:, None], channels, axis=1)


def sound(sample_rate: int = 16000, channels: int = 1, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(sample_rate, channels), sample_rate, **({"format": "WAV"} | options))
    return file.getvalue()


def float_sound(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


UNUSABLE = {
    "empty.wav": b"",
    "text.wav": b"this is no sound at all, but a text " * 20,
    "random.flac": bytes(range(256)) * 40,
    "truncated.wav": sound()[:9000],
    "truncated.flac": sound(format="FLAC")[:-2000],
    "truncated.ogg": sound(format="OGG")[:-2000],
    "header_only.wav": sound()[:44],
    "nan.wav": float_sound(np.full(1000, np.nan)),
    "infinite.wav": float_sound(np.array([0.0, np.inf, 0.1] * 300)),
    "no_samples.wav": float_sound(np.zeros(0)),
}

USABLE = {
    "rate_8000.wav": sound(8000),
    "rate_11025.wav": sound(11025),
    "rate_22050.wav": sound(22050),
    "rate_44100.wav": sound(44100),
    "rate_48000.wav": sound(48000),
    "stereo.wav": sound(channels=2),
    "six_channels.flac": sound(channels=6, format="FLAC"),
    "bits_8.wav": sound(subtype="PCM_U8"),
    "bits_24.flac": sound(format="FLAC", subtype="PCM_24"),
    "float_64.wav": sound(subtype="DOUBLE"),
    "mu_law.wav": sound(subtype="ULAW"),
    "vorbis.ogg": sound(format="OGG"),
    "opus.opus": sound(format="OGG", subtype="OPUS"),
    "layer_3.mp3": sound(format="MP3"),
    "silence.wav": float_sound(np.zeros(16000)),
    "one_sample.wav": float_sound(np.full(1, 0.5)),
    "constant.wav": float_sound(np.full(16000, 0.9)),
    "loud.wav": float_sound(np.full(16000, 3.0)),
    "name with spaces and ü.wav": sound(),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_audio_is_named_and_the_others_are_transcribed(
    asr: Callable[..., Outcome], trained: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(UNUSABLE[name])
    (tmp_path / "good.wav").write_bytes(sound())
    outcome = asr("transcribe", tmp_path / name, tmp_path / "good.wav", "--model", trained / "run")
    assert_one_clear_line(outcome, name, "1 of 2 files")
    assert [line.split("\t")[0] for line in outcome.out.splitlines()] == [str(tmp_path / "good.wav")]


@pytest.mark.parametrize("name", USABLE)
def test_odd_but_usable_audio_is_transcribed(
    asr: Callable[..., Outcome], trained: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(USABLE[name])
    outcome = asr("transcribe", tmp_path / name, "--model", trained / "run", "--format", "json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert record["audio"] == str(tmp_path / name)
    assert record["seconds"] == pytest.approx(0.0001 if "one_sample" in name else 1.0, abs=0.06)


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_audio_that_is_no_file(asr: Callable[..., Outcome], trained: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "directory" else tmp_path / "missing.wav"
    assert_one_clear_line(asr("transcribe", path, "--model", trained / "run"), str(path))


def test_a_file_without_permission_costs_no_other(
    asr: Callable[..., Outcome], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, free = tmp_path / "a.wav", tmp_path / "b.wav"
    for path in (locked, free):
        path.write_bytes(sound())
    may = os.access  # as for any user but root
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: Path(path) != locked and may(path, mode, **rest))
    outcome = asr("transcribe", locked, free, "--model", trained / "run")
    assert outcome.out.startswith(f"{free}\t")
    assert_one_clear_line(outcome, f"{locked}: not readable: permission denied", "1 of 2 files")


def test_a_pipe_is_heard_like_the_file_that_goes_through_it(
    asr: Callable[..., Outcome], trained: Path, tmp_path: Path
) -> None:
    file, pipe = trained / "test" / "t000.flac", tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    writer.start()
    expected, found = (asr("transcribe", each, "--model", trained / "run") for each in (file, pipe))
    writer.join()
    assert found == (0, expected.out.replace(str(file), str(pipe)), expected.err)


def test_standard_input_is_heard(trained: Path) -> None:
    file = trained / "test" / "t000.flac"
    command = [sys.executable, "-m", "asr.cli", "transcribe", "--model", trained / "run", "--format", "json"]
    ended = [
        subprocess.run([*command, name], input=file.read_bytes(), capture_output=True, check=True)
        for name in ("-", file)
    ]
    through, direct = (json.loads(each.stdout) for each in ended)
    assert through["id"] == "stdin"
    assert through | {"id": "", "audio": ""} == direct | {"id": "", "audio": ""}


def test_sound_that_lacks_what_the_model_listens_to_is_told_once(
    asr: Callable[..., Outcome], trained: Path, tmp_path: Path
) -> None:
    rates = {"a.wav": 8000, "b.wav": 6000, "c.wav": 5000, "d.wav": 44100}
    for name, rate in rates.items():
        (tmp_path / name).write_bytes(sound(rate))
    outcome = asr("transcribe", tmp_path, "--model", trained / "run")
    (told,) = outcome.err.splitlines()
    assert told.startswith(f"warning: {tmp_path / 'b.wav'} has 6000 Hz, and so nothing above 3000 Hz, ")
    assert asr("transcribe", tmp_path / "a.wav", tmp_path / "d.wav", "--model", trained / "run").err == ""


def test_other_readings_stand_in_json(asr: Callable[..., Outcome], trained: Path) -> None:
    command = ["transcribe", trained / "test" / "t000.flac", "--model", trained / "run", "--num-best", "3"]
    record = json.loads(asr(*command, "--format", "json").out)
    texts = [record["text"], *(each["text"] for each in record["alternatives"])]
    assert len(set(texts)) == 3
    assert_one_clear_line(asr(*command), "--num-best 3: --format txt holds one reading")
    assert_one_clear_line(
        asr(*command, "--format", "json", "--decoder", "greedy"), "--num-best 3: greedy finds one text"
    )
    assert_one_clear_line(asr(*command, "--format", "json", "--width", "2"), "--num-best 3: expected at most --width")


def edit(lines: list[str], number: int, **changes: object) -> list[str]:
    record = json.loads(lines[number])
    for key, value in changes.items():
        if value is None:
            del record[key]
        else:
            record[key] = value
    return [*lines[:number], json.dumps(record), *lines[number + 1 :]]


MANIFESTS: dict[str, tuple[Callable[[list[str]], list[str]], tuple[str, ...]]] = {
    "not_json": (lambda lines: [*lines[:2], "{half", *lines[3:]], ("train.jsonl:3", "JSON")),
    "a_list": (lambda lines: [*lines[:2], "[1, 2]", *lines[3:]], ("train.jsonl:3", "object")),
    "no_text": (lambda lines: edit(lines, 4, text=None), ("train.jsonl:5", "text")),
    "no_audio_key": (lambda lines: edit(lines, 4, audio=None), ("train.jsonl:5", "audio")),
    "number_as_text": (lambda lines: edit(lines, 4, text=7), ("train.jsonl:5", "text")),
    "blank_text": (lambda lines: edit(lines, 4, text="  "), ("train.jsonl:5", "u004")),
    "duplicate_id": (lambda lines: edit(lines, 4, id="u001"), ("train.jsonl:5", "u001")),
    "id_with_line_break": (lambda lines: edit(lines, 4, id="a\nb"), ("train.jsonl:5",)),
    "negative_duration": (lambda lines: edit(lines, 4, seconds=-1), ("train.jsonl:5", "seconds")),
    "nothing_at_all": (lambda lines: [], ("train.jsonl",)),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_broken_manifest_names_file_and_line(asr: Callable[..., Outcome], workspace: Path, name: str) -> None:
    change, fragments = MANIFESTS[name]
    manifest = workspace / "train" / "train.jsonl"
    manifest.write_text("\n".join(change(manifest.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    outcome = asr("prepare", "--manifest", manifest, "--out", workspace / "new", *SETTINGS)
    assert_one_clear_line(outcome, *fragments)


def test_manifest_in_another_encoding(asr: Callable[..., Outcome], workspace: Path) -> None:
    manifest = workspace / "train" / "train.jsonl"
    text = manifest.read_text(encoding="utf-8").replace('"ba', '"bä', 1)
    manifest.write_bytes(text.encode("latin-1"))
    assert_one_clear_line(asr("prepare", "--manifest", manifest, "--out", workspace / "new", *SETTINGS), "UTF-8")


def test_missing_and_damaged_audio_is_counted_and_the_rest_prepared(
    asr: Callable[..., Outcome], workspace: Path
) -> None:
    (workspace / "train" / "u003.flac").unlink()
    (workspace / "train" / "u004.flac").write_bytes(b"")
    outcome = asr("prepare", "--manifest", workspace / "train" / "train.jsonl", "--out", workspace / "new", *SETTINGS)
    assert outcome.code == 0, outcome.err
    skipped = [
        name
        for split in ("train", "dev")
        for ids in json.loads((workspace / "new" / "shards" / split / "index.json").read_text())["skipped"].values()
        for name in ids
    ]
    assert sorted(skipped) == ["u003", "u004"]
    assert "1 left out" in outcome.out


def test_odd_ids_and_scripts_go_all_the_way(asr: Callable[..., Outcome], workspace: Path) -> None:
    manifest = workspace / "test" / "test.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    odd = ["a.1/b c", "a.2/b c", "日本語 ☃", "..\\é%2E"]
    for number, name in enumerate(odd):
        lines = edit(lines, number, id=name)
    lines = edit(lines, 2, text="何 ΔΙΑ cafe\u0301")
    manifest.write_text("\n".join(lines), encoding="utf-8")
    folder = workspace / "hypotheses"
    outcome = asr("evaluate", "--model", workspace / "run", "--data", manifest, "--hypotheses", folder)
    assert outcome.code == 0, outcome.err
    files = list(folder.iterdir())
    assert len(files) == 2  # one for each decoder
    assert all(name in file.read_text(encoding="utf-8") for name in odd for file in files)


def test_utterance_in_training_and_test_is_refused(asr: Callable[..., Outcome], workspace: Path) -> None:
    train = workspace / "train" / "train.jsonl"
    outcome = asr("prepare", "--manifest", train, "--test", train, "--dev", workspace / "test" / "test.jsonl", "--out",
                  workspace / "new", *SETTINGS)  # fmt: skip
    assert_one_clear_line(outcome, "u000", "train")


CONFIGS = {
    "unknown_key": ("optimizer: {lrr: 0.1}", ("optimizer.lrr", "did you mean 'lr'")),
    "unknown_section": ("optimiser: {lr: 0.1}", ("optimiser", "optimizer")),
    "wrong_type": ("encoder: {hidden_size: wide}", ("encoder.hidden_size", "wide")),
    "out_of_range": ("encoder: {dropout: 1.5}", ("encoder.dropout",)),
    "unknown_kind": ("tokenizer: {kind: phones}", ("tokenizer", "phones")),
    "unknown_cell": ("encoder: {cell: grru}", ("did you mean 'gru'",)),
    "duplicate_key": ("seed: 1\nseed: 2", ("mine.yaml:2", "seed")),
    "no_mapping": ("- a\n- b", ("mine.yaml",)),
    "tabs": ("optimizer:\n\tlr: 0.1", ("mine.yaml:2",)),
    "half": ("optimizer: {lr: 0.1", ("mine.yaml",)),
    "text_for_a_number": ('optimizer: {lr: "fast"}', ("optimizer.lr", "fast")),
    "mel_above_nyquist": ("features: {high_hz: 20000}", ("features", "Hz")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_broken_configuration_names_the_key(asr: Callable[..., Outcome], tmp_path: Path, name: str) -> None:
    text, fragments = CONFIGS[name]
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert_one_clear_line(asr("config", "check", tmp_path / "mine.yaml"), *fragments)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["config", "check", "nowhere"], ("nowhere",)),
        (["run", "fsd"], ("did you mean 'fsdd'",)),
        (["run"], ("RECIPE",)),
        (["run", "spoken_commands", "training.epochs"], ("training.epochs",)),
        (["run", "spoken_commands", "training.epoch=3"], ("did you mean 'epochs'",)),
        (["run", "spoken_commands", "--stages", "prepare,trian"], ("trian",)),
        (["run", "spoken_commands", "--root", "/nowhere/at/all"], ("/nowhere/at/all",)),
        (["evaluate", "--model", "/nowhere", "--data", "spoken_commands:test"], ("/nowhere",)),
        (["transcribe", "a.wav", "--model", "/nowhere"], ("/nowhere",)),
    ],
)
def test_wrong_arguments(
    asr: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    fragments: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert_one_clear_line(asr(*arguments), *fragments)


def foreign(path: Path) -> None:
    torch.save({"model": torch.zeros(3)}, path)


def of_another_shape(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["model"]["head.bias"] = torch.zeros(99)
    torch.save(content, path)


def of_another_version(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"version": 99}, path)


def with_code(path: Path) -> None:
    torch.save({"format": Path("/")}, path)


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "foreign": foreign,
    "another_shape": of_another_shape,
    "another_version": of_another_version,
    "with_code": with_code,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5000]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights"),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_damaged_model_is_one_clear_error(asr: Callable[..., Outcome], workspace: Path, name: str) -> None:
    CHECKPOINTS[name](workspace / "run" / "model.pt")
    outcome = asr("transcribe", workspace / "test" / "t000.flac", "--model", workspace / "run" / "model.pt")
    assert_one_clear_line(outcome, "model.pt")


def train_shard(run: Path) -> Path:
    """The only shard to learn from."""
    (shard,) = (run / "shards/train").glob("shard-*.tar")
    return shard


PREPARED: dict[str, tuple[Callable[[Path], object], str]] = {
    "tokenizer": (lambda run: (run / "tokenizer.json").write_text("{"), "tokenizer.json"),
    "index": (lambda run: (run / "shards/train/index.json").write_text("{"), "index.json"),
    "no_index": (lambda run: (run / "shards/train/index.json").unlink(), "index.json"),
    "no_shard": (lambda run: train_shard(run).unlink(), ".tar: shard is missing"),
    "cut_shard": (lambda run: train_shard(run).write_bytes(train_shard(run).read_bytes()[:-4000]), ".tar: shard has"),
}


@pytest.mark.parametrize("name", PREPARED)
def test_damaged_preparation_stops_training(asr: Callable[..., Outcome], workspace: Path, name: str) -> None:
    damage, fragment = PREPARED[name]
    manifests = ["--manifest", workspace / "train/train.jsonl", "--test", workspace / "test/test.jsonl"]
    assert asr("prepare", *manifests, "--out", workspace / "new", *SETTINGS).code == 0
    damage(workspace / "new")
    assert_one_clear_line(asr("train", *manifests, "--out", workspace / "new", *SETTINGS), fragment)
    if name != "tokenizer":
        outcome = asr("run", *manifests, "--out", workspace / "new", *SETTINGS)
        assert outcome.code == 0, outcome.err
        assert "prepare: once more for what is lost: " in outcome.out


def test_full_disk_while_saving_keeps_the_last_checkpoint(asr: Callable[..., Outcome], workspace: Path) -> None:
    settings = [*SETTINGS, "training.epochs=6"]
    manifests = ["--manifest", workspace / "train/train.jsonl", "--test", workspace / "test/test.jsonl"]
    assert asr("prepare", *manifests, "--out", workspace / "new", *settings).code == 0
    size = (workspace / "run/checkpoints/last.pt").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The files of best epochs are half the size of the last one, which holds the optimiser too: that one fails to grow.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        outcome = asr("train", *manifests, "--out", workspace / "new", *settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_clear_line(outcome, "cannot write the checkpoint")
    assert not list((workspace / "new/checkpoints").glob(".*.tmp"))
    assert asr("train", *manifests, "--out", workspace / "new", *settings, "--resume").code == 0

    before = (workspace / "new/checkpoints/last.pt").read_bytes()
    marks = json.loads((workspace / "new/stages.json").read_text())
    marks["train"]["done"] = False
    (workspace / "new/stages.json").write_text(json.dumps(marks))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        asr("train", *manifests, "--out", workspace / "new", *settings, "--resume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (workspace / "new/checkpoints/last.pt").read_bytes() == before
    load_checkpoint(workspace / "new/checkpoints/last.pt")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "fragments"),
    [
        ("a one\nb two\n", "a one\n", ("b",)),
        ("a one\n", "a one\nb two\n", ("b",)),
        ("a one\na two\n", "a one\n", ("a",)),
        ("", "a one\n", ()),
    ],
)
def test_transcripts_that_do_not_match(
    asr: Callable[..., Outcome], tmp_path: Path, reference: str, hypothesis: str, fragments: tuple[str, ...]
) -> None:
    (tmp_path / "reference.txt").write_text(reference)
    (tmp_path / "hypothesis.txt").write_text(hypothesis)
    assert_one_clear_line(asr("score", tmp_path / "reference.txt", tmp_path / "hypothesis.txt"), *fragments)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["asr", "config", "check", "nowhere", "--debug"])
    with pytest.raises(Exception, match="nowhere"):
        main()


def test_errors_on_what_was_learnt_from_are_told_as_such(
    asr: Callable[..., Outcome], trained: Path, tmp_path: Path
) -> None:
    run = trained / "run"
    for data, is_told in (
        (trained / "train/train.jsonl", True),
        (run / "shards/train", True),
        (trained / "test/test.jsonl", False),
    ):
        told = f"warning: {run} has learnt from {data}: what it makes of that says nothing of new speech"
        for model in (run, run / "model.pt", run / "checkpoints" / "best.pt"):
            outcome = asr("evaluate", "--model", model, "--data", data, "--report", tmp_path / "report.html")
            assert outcome.code == 0, outcome.err
            assert (told in outcome.err) == is_told
