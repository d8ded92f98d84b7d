"""Speed and memory of scoring: two files of transcripts -> counts, intervals, groups, confusions, a comparison.

    OMP_NUM_THREADS=1 python benchmarks/score.py [SIZE ...]

The transcripts are made here: random words with random errors, 3 to 35 words each. Each size runs `asr score` in a process
of its own, reading files, tables and all. Nearly every error is a confusion of its own, which real ones are not: the memory
that is seen here is the most that scoring takes.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

SIZES = (10_000, 100_000)
SEED = 0
# The peak as the process itself sees it: `getrusage` would count that of the process that started it.
CHILD = """
import atexit, pathlib
from asr.cli import main
def note_peak():
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("peak").write_text(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
atexit.register(note_peak)
main()
"""


def main() -> None:
    """Scores transcripts of several sizes, one system and two, and records seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, metavar="UTTERANCES", help="default: 10000 100000")
    options = parser.parse_args()
    result: dict[str, object] = {"unit": "seconds of processor time, and megabytes at the peak", "seed": SEED}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in options.sizes or SIZES:
            write_transcripts(folder, size)
            result[f"utterances_{size}"] = {
                "one_system": measured(folder, ["one.txt"]),
                "two_systems": measured(folder, ["one.txt", "two.txt"]),
            }
    record("score", result)


def write_transcripts(folder: Path, size: int) -> None:
    """Writes what was said and what two systems heard in `size` utterances."""
    generator = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 9))) for _ in range(20_000)]
    lines: dict[str, list[str]] = {"said": [], "one": [], "two": []}
    for number in range(size):
        said = generator.choices(words, k=generator.randint(3, 35))
        for name, share in (("said", 0.0), ("one", 0.1), ("two", 0.11)):
            heard = [generator.choice(words) if generator.random() < share else word for word in said]
            lines[name].append(f"{number % 500}-{number} {' '.join(heard)}\n")
    for name, of_file in lines.items():
        (folder / f"{name}.txt").write_text("".join(of_file), encoding="utf-8")


def measured(folder: Path, hypotheses: list[str]) -> dict[str, float]:
    """Processor seconds and peak memory of `asr score`, which resamples utterances."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "score", "said.txt", *hypotheses, "--json", "score.json"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"asr score ended with exit code {child.returncode}")
    return {
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "clock_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_megabytes": round(int((folder / "peak").read_text()) / 1024, 1),
    }


if __name__ == "__main__":
    main()
