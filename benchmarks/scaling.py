"""Throughput of training in one and in two processes, one thread each, as `torchrun` starts them on a CPU.

    python benchmarks/scaling.py

Claim: two processes on two cores do at least 1.6 times the work of one. Every process has batches of its own of the same
size; both ways run in turn, several times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from record import record, spread, take_no_options
from step import speech_batch, updater_of

from asr.experiment import load_experiment
from asr.training.distributed import join_workers

CONFIG = "librispeech_mini"
NUM_RUNS = 3
NUM_WARM_UPS = 2
NUM_UPDATES = 12


def main() -> None:
    """Runs both ways in turn and records the ratios, or does the work of one process."""
    if "RANK" in os.environ:  # one of the processes that are measured
        work(Path(sys.argv[1]))
        return
    take_no_options(__doc__)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(NUM_RUNS):
        for size, values in rates.items():
            values.append(measured(size))
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    record(
        "scaling",
        {
            "unit": "seconds of audio per second, all processes together, one thread each",
            "config": CONFIG,
            "ratio": spread(ratios),
            "one_process": spread(rates[1]),
            "two_processes": spread(rates[2]),
        },
    )


def measured(size: int) -> float:
    """Seconds of audio per second that `size` processes learn from together."""
    result = Path(f".scaling-{os.getpid()}.json")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    command = [sys.executable, *launcher, __file__, str(result)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    rate = float(json.loads(result.read_text(encoding="utf-8")))
    result.unlink()
    return rate


def work(result: Path) -> None:
    """What each process does; the first one leaves the rate in `result`."""
    experiment = load_experiment(CONFIG)
    with join_workers() as workers:
        batch = speech_batch(experiment.features.sample_rate)
        updater = updater_of(batch, CONFIG, workers=workers)
        seconds = 0.0
        for number in range(NUM_WARM_UPS + NUM_UPDATES):
            if number == NUM_WARM_UPS:
                start, seconds = time.perf_counter(), 0.0
            seconds += updater.update([batch], number, 1e-4).seconds
        if workers.is_first:
            result.write_text(json.dumps(seconds / (time.perf_counter() - start)), encoding="utf-8")


if __name__ == "__main__":
    main()
