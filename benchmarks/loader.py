"""Speed and memory of the loader: tar shards -> compressed samples -> shuffled, sorted, decoded, padded batches.

Claims: at least 200 times real time per core, peak memory that does not depend on the size of the corpus, and of eight
processes each reads an eighth, and the heads of the other files.

    OMP_NUM_THREADS=1 python benchmarks/loader.py

The corpus is made here from seeded noise with the rhythm of syllables: 300 utterances of 1 to 15 seconds at 16 kHz.
"Per core" is seconds of audio by seconds of processor time, all threads together.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from record import peak_megabytes, record, spread, take_no_options

from asr.audio import encode_audio
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import epoch_batches
from asr.corpus.shards import ShardIndex, ShardsConfig, write_shards
from asr.corpus.utterance import Utterance

RATE = 16000
NUM_UTTERANCES = 300
NUM_RUNS = 5
SEED = 1
# A buffer of a quarter of the corpus, so that the smallest corpus already fills it and larger ones need no more.
CONFIG = BatchesConfig(shuffle_buffer=NUM_UTTERANCES // 4, window_batches=2, prefetch=4)
REPEATS = (1, 4, 10)


def main() -> None:
    """Measures both codecs and records the result."""
    if len(sys.argv) == 4:
        print(json.dumps(peak_of_epoch(Path(sys.argv[2]), int(sys.argv[3]))))
        return
    take_no_options(__doc__)
    result: dict[str, object] = {
        "unit": "seconds of audio by seconds of processor time (per core) or of the clock",
        "utterances": NUM_UTTERANCES,
        "runs": NUM_RUNS,
        "seed": SEED,
        "omp_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "config": CONFIG.model_dump(),
    }
    codecs: tuple[Literal["flac", "opus"], ...] = ("flac", "opus")
    for codec in codecs:
        with tempfile.TemporaryDirectory() as folder:
            config = ShardsConfig(codec=codec, megabytes=8)
            index = write_shards(speech(), Path(folder), sample_rate=RATE, config=config)
            result[codec] = {
                "corpus_seconds": round(index.seconds),
                "corpus_megabytes": round(sum(shard.bytes for shard in index.shards) / 1e6),
                **{f"workers_{workers}": speeds(index, workers) for workers in (0, 1, 2)},
                "share_read_by_one_of_8_processes": share_read(index, 8),
                "peak_memory_megabytes": {
                    f"corpus_times_{repeat}": measured_alone(folder, repeat) for repeat in REPEATS
                },
            }
    record("loader", result)


def speech() -> Iterator[Utterance]:
    """Noise, louder and softer four times a second."""
    generator = np.random.default_rng(SEED)
    for number in range(NUM_UTTERANCES):
        times = np.arange(int(generator.uniform(1, 15) * RATE)) / RATE
        loudness = 0.05 + 0.3 * np.sin(2 * np.pi * 4 * times) ** 4
        waveform = (loudness * generator.standard_normal(len(times))).clip(-1, 1).astype(np.float32)
        yield Utterance(id=f"u{number}", audio=encode_audio(waveform, RATE, "wav"), text="x")


def speeds(index: ShardIndex, num_workers: int) -> dict[str, dict[str, float]]:
    """Times real time by processor and by clock, over several epochs."""
    config = CONFIG.model_copy(update={"num_workers": num_workers})
    by_processor, by_clock = [], []
    for epoch in range(NUM_RUNS + 1):
        clock, processor = time.perf_counter(), time.process_time()
        for _ in epoch_batches(index, config, seed=SEED, epoch=epoch):
            pass
        if epoch:  # the first warms the page cache
            by_processor.append(round(index.seconds / (time.process_time() - processor), 1))
            by_clock.append(round(index.seconds / (time.perf_counter() - clock), 1))
    return {"times_real_time_per_core": spread(by_processor), "times_real_time_by_clock": spread(by_clock)}


def share_read(index: ShardIndex, world_size: int) -> float:
    """Bytes that the first of so many processes reads for an epoch, by those of all shards. Linux only."""
    before = bytes_read()
    for _ in epoch_batches(index, CONFIG, seed=SEED, epoch=0, world_size=world_size):
        pass
    return round((bytes_read() - before) / sum(shard.bytes for shard in index.shards), 3)


def bytes_read() -> int:
    """What this process has read so far, from the page cache too."""
    (line,) = re.findall(r"^rchar: (\d+)$", Path("/proc/self/io").read_text(encoding="ascii"), re.MULTILINE)
    return int(line)


def measured_alone(folder: str, repeat: int) -> float:
    """`peak_of_epoch` in a process of its own."""
    command = [sys.executable, __file__, "peak", folder, str(repeat)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak_of_epoch(folder: Path, repeat: int) -> float:
    """Megabytes that this process has had at most after an epoch over the shards, listed `repeat` times."""
    index = ShardIndex.load(folder)
    longer = index.model_copy(update={"shards": index.shards * repeat})
    for _ in epoch_batches(longer, CONFIG, seed=SEED, epoch=0):
        pass
    return peak_megabytes()


if __name__ == "__main__":
    main()
