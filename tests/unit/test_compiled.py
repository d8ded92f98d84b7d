"""Machine code that is kept on disk, and when it no longer holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALLED = """
from asr.compiled import compiled

@compiled("float64(float64)")
def inner(x):
    return {factor} * x
"""
BETWEEN = """
from asr.compiled import compiled
from called import inner

@compiled("float64(float64)")
def between(x):
    return inner(x)
"""
CALLING = """
from asr.compiled import compiled
from between import between

@compiled("float64(float64)")
def outer(x):
    return between(x) + 1

print(outer(10.0), *outer.stats.cache_hits.values())
"""


def run(folder: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kept")}
    command = [sys.executable, "calling.py"]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_function_in_another_file_that_is_edited_is_compiled_into_what_calls_it(tmp_path: Path) -> None:
    (tmp_path / "calling.py").write_text(CALLING)
    (tmp_path / "between.py").write_text(BETWEEN)
    (tmp_path / "called.py").write_text(CALLED.format(factor=2))
    assert run(tmp_path) == "21.0\n"
    assert run(tmp_path) == "21.0 1\n", "not taken from the disk"
    (tmp_path / "called.py").write_text(CALLED.format(factor=3))
    assert run(tmp_path) == "31.0\n"


def test_who_waits_at_a_terminal_for_the_compiler_is_told_once(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="needs the terminals of Unix")
    (tmp_path / "calling.py").write_text(CALLING)
    (tmp_path / "between.py").write_text(BETWEEN)
    (tmp_path / "called.py").write_text(CALLED.format(factor=2))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    for expected in (1, 0):
        ours, theirs = pty.openpty()
        subprocess.run([sys.executable, "calling.py"], cwd=tmp_path, env=environment, check=True, stderr=theirs)
        os.set_blocking(ours, False)
        os.close(theirs)
        try:
            printed = os.read(ours, 10_000).decode()
        except OSError:  # nothing was
            printed = ""
        os.close(ours)
        assert printed.count("compiling") == expected, printed
