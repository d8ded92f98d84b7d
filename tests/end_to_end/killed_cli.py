"""Runs the command line in children that are killed: `python killed_cli.py ARGUMENTS_AS_JSON SECONDS...`

One child per number of seconds, each killed with SIGKILL that long after it began, or left alone where the number is
negative. The parent imports what the command needs, so that a child starts where the work starts. Prints one line per
child: `killed`, or its exit status and its duration in seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def run_child(arguments: list[str], seconds: float) -> str:
    """What became of a child that runs `asr` with `arguments` for at most `seconds`."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        from asr.cli import main

        sys.argv = ["asr", *arguments]
        try:
            main()
        except SystemExit as stop:
            os._exit(stop.code if isinstance(stop.code, int) else 1)
        os._exit(0)
    while seconds < 0 or time.perf_counter() - start < seconds:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return f"{os.waitstatus_to_exitcode(status)} {time.perf_counter() - start:.3f}"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "killed"


if __name__ == "__main__":
    # Imported but not yet used: threads of a library that has already computed would not survive the fork.

    import asr.stages  # noqa: F401

    for limit in sys.argv[2:]:
        print(run_child(json.loads(sys.argv[1]), float(limit)), flush=True)
