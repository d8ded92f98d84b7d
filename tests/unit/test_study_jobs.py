"""Jobs in processes of their own: what becomes of those that work, fail, and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asr.errors import AsrError, StoppedByUserError, TrainingError
from asr.experiment import RunRequest
from asr.studies import jobs
from asr.studies.jobs import Job, Place, default_jobs, places, run_jobs

SERVER = """
import signal, sys, test_study_jobs
from asr.errors import StoppedByUserError
from asr.studies import jobs

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell lets its background jobs ignore
jobs._IMPORTED = sys.argv[1:]
try:
    jobs.run_jobs([jobs.Job(name="it", work=test_study_jobs.interrupts_all, arguments=())], 1, lambda text: None)
except StoppedByUserError as stop:
    print(stop)
"""


def works(path: Path, place: Place) -> None:
    print("it works")
    path.write_text(str(place.num_threads), encoding="utf-8")


def fails(path: Path, place: Place) -> None:
    raise TrainingError("losses are not finite")


def breaks(path: Path, place: Place) -> None:
    raise KeyError("a defect")


def is_killed(path: Path, place: Place) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_job_ends_by_itself(tmp_path: Path) -> None:
    said: list[str] = []
    found = run_jobs(
        [
            Job(name=work.__name__, work=work, arguments=(tmp_path / "file",), output=tmp_path / f"{work.__name__}.txt")
            for work in (fails, breaks, is_killed, works)
        ],
        2,
        said.append,
    )
    assert found["fails"] == "losses are not finite"
    assert found["breaks"].startswith("KeyError: 'a defect'; the traceback is in")
    assert found["is_killed"] == "killed by SIGKILL, as happens when memory is full"
    assert set(found) == {"fails", "breaks", "is_killed"}
    assert (tmp_path / "file").read_text(encoding="utf-8") >= "1"
    assert (tmp_path / "works.txt").read_text(encoding="utf-8") == "it works\n"
    assert "Traceback" in (tmp_path / "breaks.txt").read_text(encoding="utf-8")
    assert said[0] == f"fails: starting, see {tmp_path / 'fails.txt'}"
    # Two go on at a time, so which of the last ones ends first is not known.
    assert sum(text.startswith("works: done, ") for text in said) == 1


def complains_at_length(path: Path, place: Place) -> None:
    raise AsrError("x" * 200_000)


def test_a_long_complaint_does_not_fill_the_pipe_that_nobody_reads_yet(tmp_path: Path) -> None:
    job = Job(name="long", work=complains_at_length, arguments=(tmp_path,), output=tmp_path / "output.txt")
    (failure,) = run_jobs([job], 1, lambda line: None).values()
    assert failure.startswith("xxx")
    assert failure.endswith("x ...")
    assert "x" * 200_000 in (tmp_path / "output.txt").read_text(encoding="utf-8")


def test_a_traceback_that_was_printed_is_in_no_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = run_jobs([Job(name="breaks", work=breaks, arguments=(tmp_path,))], 1, lambda text: None)
    assert found == {"breaks": "KeyError: 'a defect'; the traceback was printed"}


def stops(path: Path, place: Place) -> None:
    raise StoppedByUserError("stopped after update 3")


def test_a_job_that_was_asked_to_stop_says_so_in_its_own_output_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for output in (None, tmp_path / "output.txt"):
        job = Job(name="stops", work=stops, arguments=(tmp_path,), output=output)
        assert run_jobs([job], 1, lambda text: None) == {"stops": "stopped after update 3"}
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "output.txt").read_text(encoding="utf-8") == "error: stopped after update 3\n"


def interrupts_all(place: Place) -> None:
    """Ctrl-C as a terminal sends it: to the whole process group, which this process has left."""
    os.killpg(os.getpgid(os.getppid()), signal.SIGINT)
    time.sleep(300)


@pytest.mark.parametrize("imported", [["interrupting"], []], ids=["importing", "working"])
def test_ctrl_c_is_one_line_whoever_else_hears_it(imported: list[str], tmp_path: Path) -> None:
    (tmp_path / "interrupting.py").write_text("import os, signal\nos.killpg(0, signal.SIGINT)\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # Ends when the server and the job have, too, which write to the same file.
    said = subprocess.run(
        [sys.executable, "-c", SERVER, *imported],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert said.stdout == "stopped, everything is saved; the same command continues\n"


def test_places_share_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(jobs.torch, "get_num_threads", lambda: 8)
    assert places(1) == [Place()]
    assert places(3) == [Place("", 2)] * 3
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: 2)
    assert [place.device for place in places(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert (default_jobs("auto"), default_jobs("cuda:1"), default_jobs("cpu")) == (2, 1, 1)
    for asked, got in (("auto", "cuda:1"), ("cuda", "cuda:1"), ("cpu", "cpu"), ("cuda:0", "cuda:0")):
        run = RunRequest(recipe="fsdd", overrides=(f"device={asked}",)).run(None)
        assert places(2)[1].of(run).experiment.device == got
        assert Place().of(run) == run
