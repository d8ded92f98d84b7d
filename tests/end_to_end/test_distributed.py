"""Two processes that train together end where one process with the same global batches ends, also after a kill."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tones import TINY, write_tone_corpus

from asr.marks import read_marks, write_mark
from asr.model.checkpoint import load_checkpoint
from asr.training.run_log import read_metrics

TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(
    arguments: list[str], processes: list[str], program: tuple[str, ...] = ("-m", "asr.cli")
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *processes, *program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def run_to_end(arguments: list[str], processes: list[str]) -> str:
    process = start(arguments, processes)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    return output


def complaints(process: subprocess.Popen[str]) -> str:
    """What the processes said that failed, without what their launcher said of it."""
    output = process.communicate(timeout=150)[0]
    assert process.returncode != 0
    own = output.partition("torch/distributed/elastic")[0]
    assert "Traceback" not in own
    return own


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    # An odd number of batches an epoch: in the last group one process has none of its own.
    write_tone_corpus(folder / "train", 34, seed=1)
    write_tone_corpus(folder / "test", 6, seed=2, prefix="t")
    run_to_end(["prepare", *common(folder), "--out", str(folder / "prepared")], [])
    return folder


def common(folder: Path) -> list[str]:
    settings = [*TINY, "batches.seconds=4", "training.epochs=5", "training.log_every_updates=1", "encoder.dropout=0.2"]
    # Batch norms remember what no gradient carries from one process to the other.
    settings += ["training.checkpoint_every_updates=2", "augment.noise={}", "encoder.cell=ligru", "encoder.norm=batch"]
    return [
        "--manifest",
        str(folder / "train" / "train.jsonl"),
        "--test",
        str(folder / "test" / "test.jsonl"),
        *settings,
    ]


def train(folder: Path, name: str, *settings: str) -> list[str]:
    if not (folder / name).exists():
        shutil.copytree(folder / "prepared", folder / name)
    return ["train", *common(folder), "--out", str(folder / name), "--resume", *settings]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints" / "last.pt").model


def kill_all(folder: Path) -> None:
    """Kills every process that has `folder` on its command line: workers are not in the group of their launcher."""
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in commands.read_bytes():
                os.kill(int(commands.parent.name), signal.SIGKILL)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(prepared: Path) -> None:
    run_to_end(train(prepared, "one", "training.accumulate=2"), [])
    assert "Warning" not in run_to_end(train(prepared, "two"), TWO_PROCESSES)
    alone, together = weights(prepared / "one"), weights(prepared / "two")
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5)
    histories = [read_metrics(prepared / name) for name in ("one", "two")]
    for one, two in zip(*histories, strict=True):
        assert (one["kind"], one["update"], one["epoch"]) == (two["kind"], two["update"], two["epoch"])
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)

    # Killed in the middle of an epoch, and resumed with another number of threads that decode.
    process = start(train(prepared, "killed"), TWO_PROCESSES)
    deadline = time.monotonic() + 120
    while len(read_metrics(prepared / "killed")) < 4:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_all(prepared / "killed")
    process.communicate()
    assert len(read_metrics(prepared / "killed")) < len(histories[1])
    output = run_to_end(train(prepared, "killed", "batches.num_workers=0"), TWO_PROCESSES)
    assert "2 processes, from update" in output
    resumed = weights(prepared / "killed")
    assert all(torch.equal(resumed[name], value) for name, value in together.items())


@pytest.mark.slow
def test_what_does_not_fit_into_one_process_is_halved_there_and_teaches_the_same(prepared: Path) -> None:
    program = prepared / "small.py"
    program.write_text(
        "import os, runpy, torch\nfrom asr.model.acoustic import AcousticModel\nforward = AcousticModel.after_layers\n"
        "def limited(self, waveforms, *arguments):\n"
        "    outputs = forward(self, waveforms, *arguments)\n"
        "    if self.training and os.environ['RANK'] == '1' and len(waveforms) > 2:\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory')\n"
        "    return outputs\n"
        "AcousticModel.after_layers = limited\nrunpy.run_module('asr.cli', run_name='__main__')\n",
        encoding="utf-8",
    )
    # Nothing random, and no statistics over a batch.
    settings = [
        "augment.noise=null",
        "augment.speed=null",
        "encoder.dropout=0",
        "encoder.cell=gru",
        "encoder.norm=layer",
        "training.epochs=2",
    ]
    assert "batch halved" not in run_to_end(train(prepared, "enough", *settings), TWO_PROCESSES)
    process = start(train(prepared, "halved", *settings), TWO_PROCESSES, (str(program),))
    said = process.communicate(timeout=150)[0]
    assert process.returncode == 0, said
    assert "batch halved, it did not fit into memory: " in said
    enough, halved = weights(prepared / "enough"), weights(prepared / "halved")
    for name, value in enough.items():
        torch.testing.assert_close(halved[name], value, rtol=1e-4, atol=1e-5)
    state = load_checkpoint(prepared / "halved" / "checkpoints" / "last.pt").training
    assert state is not None
    assert 0 < state["progress"]["split"] <= state["progress"]["update"]


@pytest.mark.slow
def test_machines_that_do_not_share_the_run_folder_are_told(prepared: Path) -> None:
    here, there = (prepared / f"machine{rank}" / "run" for rank in range(2))
    for folder in (here, there):
        shutil.copytree(prepared / "prepared", folder)
    arguments = ["train", *common(prepared), "--out", "run", "--resume"]
    run_to_end([*arguments[:-2], str(here), "--resume"], [])
    # Cut off where it had saved last.
    mark = read_marks(here)["train"]
    write_mark(here, "train", {**mark, "done": False})
    program = prepared / "machines.py"
    program.write_text(
        f"import os, runpy\nos.chdir({str(prepared)!r} + '/machine' + os.environ['RANK'])\nrunpy.run_module('asr.cli', "
        "run_name='__main__')\n",
        encoding="utf-8",
    )
    own = complaints(start(arguments, TWO_PROCESSES, (str(program),)))
    assert "error: run: some processes find another checkpoint or other shards there" in own
    assert "(process 1, others than process 0)" in own


@pytest.mark.slow
def test_a_mistake_is_one_line_of_each_process(prepared: Path) -> None:
    # The first process looks into the run folder for all, and alone meets what is wrong there.
    run_to_end(train(prepared, "begun", "training.epochs=1"), TWO_PROCESSES)
    own = complaints(start(train(prepared, "begun", "training.epochs=2"), TWO_PROCESSES))
    assert "'train' was begun here with other settings (training.epochs was 1, is 2)" in own
    assert "error: process 1 stops, since another one has: see what that one said" in own


def test_all_processes_told_to_stop_at_once_save_first(prepared: Path) -> None:
    """As service managers do: the launcher hands on the signal to processes that have it already."""
    folder = prepared / "stopped"
    process = start(train(prepared, "stopped", "training.epochs=500"), TWO_PROCESSES)
    while len(read_metrics(folder) if (folder / "metrics.jsonl").exists() else []) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in commands.read_bytes():
                os.kill(int(commands.parent.name), signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    said = re.search(r"stopped after update (\d+), everything is saved", output)
    assert said, output
    state = load_checkpoint(folder / "checkpoints" / "last.pt").training
    assert state is not None
    assert state["progress"]["update"] == int(said[1])
