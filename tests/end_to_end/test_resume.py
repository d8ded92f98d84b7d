"""A run that is killed at any moment and started again ends with the same weights, bit for bit, and the same history."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tones import TINY, write_tone_corpus

from asr.model.checkpoint import load_checkpoint

KILLED_CLI = Path(__file__).with_name("killed_cli.py")


def run_cli(
    arguments: list[str], folder: Path, limits: list[tuple[int, float]], *, to_the_end: bool = True
) -> tuple[list[str], str]:
    """What became of each life of the command, and all that they said; see `killed_cli.py` for the limits."""
    ends = [f"{lines},{seconds}" for lines, seconds in limits]
    command = [sys.executable, str(KILLED_CLI), json.dumps(arguments), str(folder / "metrics.jsonl"), *ends]
    command += ["-1,0"] if to_the_end else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    ends = [line for line in done.stdout.splitlines() if line in {"killed", "0", "1", "2"}]
    return ends, done.stdout + done.stderr


def history(folder: Path) -> list[dict[str, object]]:
    timing = {"wall_seconds", "times_real_time"}
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in timing} for line in lines]


@pytest.mark.parametrize("num_kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_resumed_training_ends_with_identical_weights(tmp_path: Path, num_kills: int) -> None:
    train = write_tone_corpus(tmp_path / "train", 60, seed=1)
    test = write_tone_corpus(tmp_path / "test", 4, seed=2, prefix="t")
    settings = [*TINY, "training.epochs=6", "training.checkpoint_every_updates=2", "training.log_every_updates=1"]
    settings += ["encoder.dropout=0.2", "augment.speed={}", "augment.noise={}", "training.accumulate=2"]
    settings += ["training.moving_average=0.9", "loss.consistency={}", "augment.reverberation={}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    common = ["--manifest", str(train), "--test", str(test), *settings]
    assert run_cli(["prepare", *common, "--out", str(whole)], whole, [])[0] == ["0"]
    shutil.copytree(whole, killed)

    assert run_cli(["train", *common, "--out", str(whole)], whole, [])[0] == ["0"]
    # All over the training, each a little after a line of the history, within an update or while something is saved.
    num_lines, generator = len(history(whole)), random.Random(num_kills)
    limits = [(1 + kill * (num_lines - 2) // num_kills, generator.uniform(0, 0.05)) for kill in range(num_kills)]
    lives, said = run_cli(["train", *common, "--out", str(killed), "--resume"], killed, limits)

    assert lives[-1] == "0", said
    assert lives.count("killed") >= num_kills - 1, said
    starts = [int(update) for update in re.findall(r", from update (\d+)", said)]
    # It was gone on with, from many of the dozen places where something is saved.
    assert len(set(starts)) > min(num_kills, 12) // 2, said
    for name in ("checkpoints/last.pt", "checkpoints/best.pt", "model.pt"):
        expected, found = load_checkpoint(whole / name).model, load_checkpoint(killed / name).model
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    assert history(whole) == history(killed)
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {
        path.name for path in (killed / "checkpoints").iterdir() if not path.name.startswith(".")
    }


def test_deleted_shards_are_made_again_where_they_are_still_read(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 30, seed=1)
    test = write_tone_corpus(tmp_path / "test", 4, seed=2, prefix="t")
    whole, mended = tmp_path / "whole", tmp_path / "mended"
    common = ["--manifest", str(train), "--test", str(test), *TINY, "training.epochs=8", "training.log_every_updates=1"]
    assert run_cli(["run", *common, "--out", str(whole)], whole, [])[0] == ["0"]
    common += ["--out", str(mended)]
    limit = [(2, 0.0)]
    assert run_cli(["run", *common], mended, limit, to_the_end=False)[0] == ["killed"]

    shutil.rmtree(mended / "shards" / "train")
    ends, said = run_cli(["train", *common, "--resume"], mended, [])
    assert ends == ["2"]
    lost = f"{mended / 'shards' / 'train'}: no such folder"
    assert f"'train' needs what is lost, and `asr run` makes again: {lost}" in said
    ends, said = run_cli(["run", *common], mended, [])
    assert ends == ["0"], said
    assert f"prepare: once more for what is lost: {lost}" in said
    assert "train: continuing" in said
    expected, found = load_checkpoint(whole / "model.pt").model, load_checkpoint(mended / "model.pt").model
    assert all(torch.equal(expected[key], found[key]) for key in expected)

    # What is done reads no shards any more.
    shutil.rmtree(mended / "shards")
    ends, said = run_cli(["run", *common], mended, [])
    assert ends == ["0"], said
    assert "prepare: done already" in said
