"""A plan for more speech than was ever trained on here: hours, devices, storage and cost, from the measured figures.

    python benchmarks/plan.py --root ROOT                         # with results/gpu_step.json, or else for processor cores
    python benchmarks/plan.py --hours-per-hour 20000 --price 2.5  # another device: its throughput, its price per hour

Throughput of training is that of `gpu_step.py` (bfloat16, best batch size), or without a GPU's record the one that this
script measures for the same configuration on one core. Preparation and loading are those of `prepare.py` and `loader.py`
(one thread), the loss by a second process that of `scaling.py`. Storage is that of the FLAC files of LibriSpeech's subset
`test-other`, or a part of it, below ROOT: as they are, in an archive as the publisher packs it, and as shards; without
`--root` it is that of the noise of `prepare.py`, of which FLAC makes half as much again as of speech. What is assumed, not
measured: the prices, that every doubling of the devices loses as much as the first, and that validation and checkpoints add
a twentieth.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record
from step import speech_batch, timed, updater_of

from asr.corpus.shards import ShardsConfig, write_shards
from asr.experiment import load_experiment
from asr.recipe import find_corpus, find_recipe

CONFIG = "librispeech_960h"
RATE = 16000
SUBSET = "test-other"
CORPORA = {960: 40, 10_000: 12}
"""Hours of speech, and epochs over them."""
WANTED_DAYS = 3
PRICE_OF_GPU_HOUR, PRICE_OF_CORE_HOUR = 2.5, 0.04
BESIDES_TRAINING = 1.05
ONE_CORE = "one core"
BATCH_SECONDS = 60.0
NUM_RUNS = 3


def main() -> None:
    """Computes a row for each corpus and records them with what they were computed from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours-per-hour", type=float, help="hours of audio that a device trains on in an hour")
    parser.add_argument("--price", type=float, help="of a device's hour (default: 2.5 for a GPU, 0.04 for a core)")
    parser.add_argument("--root", type=Path, help="folder with LibriSpeech's test-other as FLAC, whose size is taken")
    options = parser.parse_args()
    device, throughput = (
        ("as given", options.hours_per_hour) if options.hours_per_hour else measured_on_gpu() or measured_on_core()
    )
    price = options.price or (PRICE_OF_CORE_HOUR if device == ONE_CORE else PRICE_OF_GPU_HOUR)
    preparation, loading = measured("prepare")["corpus_times_10"], measured("loader")["flac"]["workers_1"]
    figures = {
        "hours_per_device_hour": throughput,
        "kept_by_a_second_device": round(measured("scaling")["ratio"]["median"] / 2, 3),
        "hours_prepared_per_core_hour": preparation["times_real_time_per_core"]["median"],
        "hours_loaded_per_core_hour": loading["times_real_time_per_core"]["median"],
    }
    if options.root is None:
        of_noise = round(preparation["megabytes"] / preparation["seconds"] * 3600, 1)
        storage: dict[str, object] = {"measured_on": "noise"}
        sizes = dict.fromkeys(("archives", "unpacked", "shards"), of_noise)
    else:
        storage, sizes = measured_on_corpus(options.root)
    rows = [plan(hours, epochs, figures, sizes, price) for hours, epochs in CORPORA.items()]
    result = {"config": CONFIG, "device": device, "price": price, "figures": figures}
    record("plan", result | {"storage": storage | {"megabytes_per_hour": sizes}, "plan": rows})


def plan(
    hours: int, epochs: int, figures: dict[str, float], sizes: dict[str, float], price: float
) -> dict[str, object]:
    """What `epochs` over `hours` of speech take with one device, and with as many as end within `WANTED_DAYS`."""
    alone = hours * epochs * BESIDES_TRAINING / figures["hours_per_device_hour"]
    devices = 1
    while (clock := alone / (devices * kept(devices, figures))) > WANTED_DAYS * 24 and devices < 1024:
        devices *= 2
    return {
        "hours": hours,
        "epochs": epochs,
        **{f"gigabytes_of_{name}": round(hours * size / 1000) for name, size in sizes.items()},
        "core_hours_of_preparation": round(hours / figures["hours_prepared_per_core_hour"], 1),
        "hours_per_epoch_on_one_device": round(alone / epochs, 2),
        "hours_on_one_device": round(alone, 1),
        "devices": devices,
        "hours_by_the_clock": round(clock, 1),
        "device_hours": round(clock * devices, 1),
        "cores_that_load_for_one_device": round(
            figures["hours_per_device_hour"] / figures["hours_loaded_per_core_hour"], 3
        ),
        "cost_per_epoch": round(clock * devices / epochs * price, 2),
        "cost": round(clock * devices * price),
    }


def kept(devices: int, figures: dict[str, float]) -> float:
    """The share of its throughput that each of so many devices keeps."""
    return float(figures["kept_by_a_second_device"] ** math.log2(devices))


def measured_on_corpus(root: Path) -> tuple[dict[str, object], dict[str, float]]:
    """Of which speech below `root`, and the megabytes of an hour of it: in an archive, as files and as shards."""
    recipe = find_recipe("librispeech")
    every = list(recipe.read(find_corpus(recipe, [SUBSET], root=root), SUBSET))
    files = [each.audio for each in every if isinstance(each.audio, Path) and each.audio.suffix.lower() == ".flac"]
    if len(files) < len(every):
        raise SystemExit(
            f"{root}: expected {SUBSET} as the publisher's FLAC, found {len(every) - len(files)} other files"
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive.tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            for path in files:
                tar.add(path, path.name)
        index = write_shards(every, Path(folder, "shards"), sample_rate=RATE, config=ShardsConfig())
        sizes = {
            "archives": archive.stat().st_size,
            "unpacked": sum(path.stat().st_size for path in files),
            "shards": sum(shard.bytes for shard in index.shards),
        }
    measured_on = f"{len(files)} utterances of {SUBSET}, {index.seconds / 3600:.2f} h"
    return {"measured_on": measured_on}, {
        name: round(size / 1e6 / index.seconds * 3600, 1) for name, size in sizes.items()
    }


def measured(name: str) -> dict[str, Any]:
    """The record `name`."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


def measured_on_gpu() -> tuple[str, float] | None:
    """Name and throughput of the GPU of `gpu_step.json`, if there is such a record."""
    if not (RESULTS / "gpu_step.json").is_file():
        return None
    result = measured("gpu_step")
    rows = [row["audio_hours_per_hour"] for row in result["rows"] if row["dtype"] == "bfloat16"]
    return result["gpu"], max(rows)


def measured_on_core() -> tuple[str, float]:
    """Throughput of one core in bfloat16, measured now."""
    torch.set_num_threads(1)
    rate = load_experiment(CONFIG).features.sample_rate
    batch = speech_batch(rate, seconds=BATCH_SECONDS)
    updater = updater_of(batch, CONFIG, dtype=torch.bfloat16)
    seconds = [timed(partial(updater.update, [batch], number, 1e-4)) for number in range(NUM_RUNS + 1)][1:]
    return ONE_CORE, round(float(batch.num_samples.sum()) / rate / statistics.median(seconds), 1)


if __name__ == "__main__":
    main()
