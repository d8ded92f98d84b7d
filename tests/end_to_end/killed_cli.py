"""Runs the command line in children that are killed: `python killed_cli.py ARGUMENTS_AS_JSON FILE LINES,SECONDS...`

One child per number of lines, each killed with SIGKILL so many seconds after FILE has grown to so many lines, or left alone
where their number is negative. By progress and not by time alone, since the time before the first update depends on the
machine. The parent imports what the command needs, so that a child starts where the work starts. Prints one line per child,
`killed` or its exit status, between those of the command.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def run_child(arguments: list[str], file: Path, lines: int, seconds: float) -> str:
    """What became of a child that runs `asr` with `arguments` until `seconds` after `file` has so many `lines`."""
    child = os.fork()
    if child == 0:
        from asr.cli import main

        sys.argv = ["asr", *arguments]
        try:
            main()
        except SystemExit as stop:
            os._exit(stop.code if isinstance(stop.code, int) else 1)
        os._exit(0)
    reached = None
    while reached is None or time.perf_counter() - reached < seconds:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return str(os.waitstatus_to_exitcode(status))
        if reached is None and lines >= 0 and file.is_file() and file.read_bytes().count(b"\n") >= lines:
            reached = time.perf_counter()
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "killed"


if __name__ == "__main__":
    # Imported but not yet used: threads of a library that has already computed would not survive the fork.

    import asr.stages  # noqa: F401

    for limit in sys.argv[3:]:
        lines, seconds = limit.split(",")
        print(run_child(json.loads(sys.argv[1]), Path(sys.argv[2]), int(lines), float(seconds)), flush=True)
