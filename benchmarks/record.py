"""The record of a benchmark: what was measured, by which command, of which commit, on which machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy
import torch

from asr.atomic import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def record(name: str, result: dict[str, object]) -> Path:
    """The file `results/NAME.json` that now holds `result` with its circumstances; both are printed.

    `result` wins nothing over the circumstances: a key that both have is an error of the benchmark.
    """
    circumstances = {
        "command": command(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    if clash := circumstances.keys() & result.keys():
        raise ValueError(f"the result of {name} must not hold {sorted(clash)}: the record adds them")
    text = json.dumps(result | circumstances, indent=2, ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_text(path, text + "\n")
    print(text)
    print(f"written to {path.relative_to(ROOT)}")
    return path


def take_no_options(about: str | None) -> None:
    """Answers `--help` with `about`, and refuses anything else: a record should not be overwritten by asking."""
    argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest of the `values` of several runs, and how many there were.

    Example:
        >>> spread([3.0, 1.0, 2.0])
        {'min': 1.0, 'median': 2.0, 'max': 3.0, 'runs': 3}
    """
    return {"min": min(values), "median": statistics.median(values), "max": max(values), "runs": len(values)}


def peak_megabytes() -> float:
    """Peak resident memory of this process. Linux only: `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(kilobytes) / 1024, 1)


def command() -> str:
    """The command line as one would type it at the root of the repository, ROOT for where a corpus lies."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT) if script.is_relative_to(ROOT) else Path(script.name)
    options = ["ROOT" if Path(each).is_absolute() and Path(each).is_dir() else each for each in sys.argv[1:]]
    return shlex.join(["python", str(name), *options])


def commit() -> str:
    """The commit that was measured, with `+` behind it where files differ from it; `none` outside a repository."""
    short = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", "asr", "benchmarks/*.py")
    return f"{short}+" if short and changed else short or "none"


def machine() -> dict[str, str | int]:
    """Processor, cores that may be used, graphics processor and the versions that decide speed."""
    result: dict[str, str | int] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    if torch.cuda.is_available():
        result["gpu"] = torch.cuda.get_device_name()
    return result


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    finished = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return finished.stdout.strip() if finished.returncode == 0 else ""
