"""Leave one speaker out: for each of the six speakers of FSDD, train on the other five and measure on all of this one.

    python benchmarks/fsdd_speakers.py ROOT [key.path=value ...]

ROOT holds the corpus. Each training is an ordinary run in runs/fsdd-without-SPEAKER, so what is done is not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from record import record

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def main() -> None:
    """Train and measure six times, and record the error rates by speaker."""
    root, *overrides = sys.argv[1:]
    results: dict[str, object] = {}
    for speaker in SPEAKERS:
        out = Path("runs") / f"fsdd-without-{speaker}"
        splits = [f"splits.{name}={name}-without-{speaker}" for name in ("train", "dev")]
        command = [sys.executable, "-m", "asr.cli", "run", "fsdd", "--root", root, "--out", str(out)]
        subprocess.run([*command, *splits, f"splits.test=[only-{speaker}]", *overrides], check=True)
        results[speaker] = {
            row["decoder"]: row for row in json.loads((out / "results.json").read_text(encoding="utf-8"))
        }
    record("fsdd_speakers", {"overrides": overrides, "speakers": results})


if __name__ == "__main__":
    main()
