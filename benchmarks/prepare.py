"""Speed and memory of preparation: sound files -> checked, mixed down, encoded as FLAC -> tar shards; and its resumption.

Claims: a core prepares many hours an hour, peak memory does not grow with the corpus (but for ids and lengths), and a
preparation that is killed goes on where it was and leaves the same bytes.

    OMP_NUM_THREADS=1 python benchmarks/prepare.py --hours 2

The corpus is made here from seeded noise with the rhythm of syllables: some hundred wav files of 10 to 15 seconds, which
come again under new ids until they fill 1, 4 and 10 times the hours. Each preparation runs in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from record import peak_megabytes, record, spread

from asr.audio import encode_audio
from asr.corpus.shards import ShardsConfig, write_shards
from asr.corpus.utterance import Utterance

RATE = 16000
SEED = 1
SIZES = (1, 4, 10)


def main() -> None:
    """Prepares one corpus in several sizes, once with a kill, and records the result."""
    options = parsed()
    if options.child is not None:
        print(json.dumps(prepare(options.child, options.corpus, options.hours, options.threads, options.megabytes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        make_corpus(corpus, options.files)
        result: dict[str, object] = {
            "unit": "seconds of audio by seconds of processor time (per core, all threads together) or of the clock",
            "files": options.files,
            "hours": options.hours,
            "threads": options.threads,
            "megabytes_per_shard": options.megabytes,
            "runs": options.runs,
            "seed": SEED,
            "omp_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        }
        for size in SIZES:
            runs = [measured(options, corpus, Path(folder, f"size-{size}"), size) for _ in range(options.runs)]
            result[f"corpus_times_{size}"] = {
                key: spread([run[key] for run in runs]) if key.startswith(("times", "peak")) else runs[0][key]
                for key in runs[0]
            }
        result["killed_and_resumed"] = resumed(options, corpus, Path(folder))
        if options.dry:
            print(json.dumps(result, indent=2))
        else:
            record("prepare", result)


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hours", type=float, default=2.0, help="of the smallest corpus; the largest has ten times as many"
    )
    parser.add_argument("--files", type=int, default=200, help="different sound files")
    parser.add_argument("--threads", type=int, default=ShardsConfig().num_threads)
    parser.add_argument("--megabytes", type=float, default=64.0, help="size of a shard")
    parser.add_argument("--runs", type=int, default=1, help="of each size")
    parser.add_argument("--dry", action="store_true", help="print the result and record nothing")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_corpus(folder: Path, num_files: int) -> None:
    """Writes `num_files` of noise, louder and softer four times a second."""
    folder.mkdir()
    generator = np.random.default_rng(SEED)
    for number in range(num_files):
        times = np.arange(int(generator.uniform(10, 15) * RATE)) / RATE
        loudness = 0.05 + 0.3 * np.sin(2 * np.pi * 4 * times) ** 4
        waveform = (loudness * generator.standard_normal(len(times))).clip(-1, 1).astype(np.float32)
        (folder / f"{number:04d}.wav").write_bytes(encode_audio(waveform, RATE, "wav"))


def utterances(corpus: Path, hours: float) -> Iterator[Utterance]:
    """The files of `corpus`, again and again under new ids, until they fill `hours`."""
    files = [(path, (path.stat().st_size - 44) / 2 / RATE) for path in sorted(corpus.iterdir())]
    number, seconds = 0, 0.0
    while seconds < hours * 3600:
        path, duration = files[number % len(files)]
        yield Utterance(id=f"{path.stem}-{number // len(files)}", audio=path, text="x", speaker=f"s{number % 20}")
        number, seconds = number + 1, seconds + duration


def prepare(folder: Path, corpus: Path, hours: float, num_threads: int, megabytes: float) -> dict[str, float]:
    """Speed and peak memory of this process, which writes shards of `hours` into `folder`."""
    config = ShardsConfig(num_threads=num_threads, megabytes=megabytes)
    at_start = peak_megabytes()
    clock, processor = time.perf_counter(), time.process_time()
    index = write_shards(utterances(corpus, hours), folder, sample_rate=RATE, config=config)
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return {
        "utterances": index.num_utterances,
        "shards": len(index.shards),
        "seconds": round(index.seconds),
        "megabytes": round(sum(shard.bytes for shard in index.shards) / 1e6, 1),
        "clock_seconds": round(clock, 2),
        "times_real_time_per_core": round(index.seconds / processor, 1),
        "times_real_time_by_clock": round(index.seconds / clock, 1),
        "peak_memory_megabytes": peak_megabytes(),
        "peak_memory_megabytes_of_imports": at_start,
    }


def child_command(options: argparse.Namespace, corpus: Path, folder: Path, size: int) -> list[str]:
    """The command that prepares `size` times the corpus in a process of its own."""
    settings = {
        "--child": folder,
        "--corpus": corpus,
        "--hours": options.hours * size,
        "--threads": options.threads,
        "--megabytes": options.megabytes,
    }
    return [sys.executable, __file__, *(str(each) for pair in settings.items() for each in pair)]


def measured(options: argparse.Namespace, corpus: Path, folder: Path, size: int) -> dict[str, float]:
    """`prepare` in a process of its own."""
    command = child_command(options, corpus, folder, size)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def resumed(options: argparse.Namespace, corpus: Path, folder: Path) -> dict[str, object]:
    """What became of a preparation of the largest corpus that was killed halfway and called again."""
    size = SIZES[-1]
    whole, part = folder / f"size-{size}", folder / "killed"
    half = len(list(whole.glob("shard-*.tar"))) // 2
    child = subprocess.Popen(child_command(options, corpus, part, size), stdout=subprocess.DEVNULL)
    while child.poll() is None and len(list(part.glob("shard-*.tar"))) < half:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    was_killed = child.wait() == -signal.SIGKILL
    num_left = len(list(part.glob("shard-*.tar")))
    second = measured(options, corpus, part, size)
    return {
        "was_killed": was_killed,
        "shards_when_killed": num_left,
        "shards": second["shards"],
        "clock_seconds_of_second_call": second["clock_seconds"],
        "peak_memory_megabytes_of_second_call": second["peak_memory_megabytes"],
        "identical": digests(part) == digests(whole),
    }


def digests(folder: Path) -> dict[str, str]:
    """A digest of each file of `folder`."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


if __name__ == "__main__":
    main()
