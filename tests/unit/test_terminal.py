"""Bars say how much time is left, and not where they cannot know; where nobody looks, lines tell of files."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr import terminal
from asr.cli import main
from asr.terminal import file_progress, progress_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "left"), [(10.0, True), (None, False)])
def test_a_bar_speaks_of_time_left_only_where_it_knows_the_end(
    total: float | None, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("reading", total) as advance:
        advance(5)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "reading" in shown
    assert ("left" in shown) is left
    assert re.search(r"0:00:\d\d (-:--:--|0:00:\d\d) left", shown) or not left


@pytest.mark.parametrize("total", [800_000_000, None])
def test_the_bar_of_a_file_tells_name_bytes_speed_and_time_left(
    total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with file_progress() as tell:
        tell("downloading [b].tar.gz", 100_000_000, total)
        tell("downloading [b].tar.gz", 200_000_000, total)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue()))
    of_total = r"25% 200\.0/800\.0 MB .*(-:--:--|\d:\d\d:\d\d) left" if total else r"200\.0/\? MB"
    assert any(re.search(rf"downloading \[b\]\.tar\.gz .*{of_total}", line) for line in lines)
    assert any("left" in line for line in lines) is (total is not None)


def test_each_file_has_a_bar_and_one_is_seen_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with file_progress() as tell:
        tell("checking a", 10, 10)
        tell("unpacking a", 0, 20)
    last = shown.getvalue().rpartition("unpacking a")[0].rpartition("\r")[2]
    assert "unpacking a" in shown.getvalue()
    assert "checking a" not in last


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a clock shows which stands still."""
    seconds = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: seconds[0])
    return seconds


def test_in_a_log_a_file_has_a_line_where_it_begins_and_one_for_each_tenth(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with file_progress() as tell:
        for done in range(0, 401, 10):
            tell("downloading a.tar", 1_000_000 * done, 400_000_000)
            clock[0] += 5
        tell("checking a.tar", 0, 400_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "downloading a.tar (400.0 MB)"
    assert lines[1] == "downloading a.tar: 40.0 MB of 400.0 MB (10%), 2.0 MB/s"
    assert lines[10] == "downloading a.tar: 400.0 MB of 400.0 MB (100%), 2.0 MB/s"
    assert lines[11:] == ["checking a.tar (400.0 MB)"]


def test_in_a_log_what_is_fast_has_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with file_progress() as tell:
        for done in range(0, 1001, 10):
            tell("unpacking a.tar", done, 1000)
            clock[0] += 0.05
    assert capsys.readouterr().err == "unpacking a.tar (1.0 kB)\n"


def test_in_a_log_what_was_there_is_told_and_an_unknown_size_too(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with file_progress() as tell:
        for done in range(60, 361, 20):
            tell("downloading a.tar", 1_000_000 * done, None)
            clock[0] += 10
    assert capsys.readouterr().err.splitlines() == [
        "downloading a.tar (size unknown, 60.0 MB are there)",
        "downloading a.tar: 100.0 MB, 2.0 MB/s",
        "downloading a.tar: 200.0 MB, 2.0 MB/s",
        "downloading a.tar: 300.0 MB, 2.0 MB/s",
    ]


def test_in_a_log_a_file_that_begins_anew_is_told_of_again(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with file_progress() as tell:
        for done in (0, 500, 0, 500):
            tell("downloading a.tar", done, 1000)
            clock[0] += 10
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_who_stops_a_command_while_it_is_loaded_or_made_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    loaded = subprocess.run(
        [sys.executable, "-c", "from asr.cli import main; main()"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (loaded.returncode, loaded.stderr) == (130, "error: stopped\n")

    def stopped(app: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.main.get_command", stopped)
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "error: stopped\n"


def test_no_garbage_is_looked_for_when_a_command_has_ended() -> None:
    code = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count()))\nfrom asr.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) > 1000
