"""A run that is killed at any moment and started again ends with the same weights, bit for bit, and the same history."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tones import TINY, write_tone_corpus

from asr.model.checkpoint import load_checkpoint

KILLED_CLI = Path(__file__).with_name("killed_cli.py")


def run_cli(arguments: list[str], limits: list[float]) -> list[str]:
    command = [sys.executable, str(KILLED_CLI), json.dumps(arguments), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [line for line in lines if line == "killed" or line.split()[0] in {"0", "1", "2"}]


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
    (prepared,) = run_cli(["prepare", *common, "--out", str(whole)], [-1])
    assert prepared.startswith("0 ")
    shutil.copytree(whole, killed)

    (finished,) = run_cli(["train", *common, "--out", str(whole)], [-1])
    status, seconds = finished.split()
    assert status == "0"
    # Short lives at random moments: together about as long as the whole training, so that some come in every part of it.
    generator = random.Random(num_kills)
    limits = [generator.uniform(0.05, 2.0 * float(seconds) / num_kills) for _ in range(num_kills)]
    resumed = run_cli(["train", *common, "--out", str(killed), "--resume"], [*limits, -1])

    assert resumed[:num_kills].count("killed") >= num_kills - 1, resumed
    assert resumed[-1].startswith("0 ")
    for name in ("checkpoints/last.pt", "checkpoints/best.pt", "model.pt"):
        expected, found = load_checkpoint(whole / name).model, load_checkpoint(killed / name).model
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    assert history(whole) == history(killed)
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {
        path.name for path in (killed / "checkpoints").iterdir() if not path.name.startswith(".")
    }
