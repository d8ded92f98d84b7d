"""Training beside SpeechBrain: the same network on the same batches, for the same number of updates.

    python3 -m venv PEER && PEER/bin/pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12' speechbrain
    python benchmarks/peers/speechbrain_ctc.py --root CORPORA --peer-python PEER/bin/python

CORPORA holds `fsdd` and `librispeech` (train-clean-5). Claim: our word error rate is not worse, and we do at least 1.5
times the updates per second, in float32 with one thread each.

Both sides get the same decoded audio in memory, tokens, learning rates and batches, the latter composed by SpeechBrain's
DynamicBatchSampler, and neither augments. Each runs in its own interpreter, one at a time: here by `bigru_side.py`, there by
`speechbrain_side.py`, which tells what differs. Speed: real utterances of LibriSpeech, a few updates in turn several times.
Quality: spoken digits, features normalised in either way, greedy readings of the official test set after the last update,
scored by jiwer. Wall clocks of runs in turn differ with whatever else the machine does; processor time hardly does, so it is
recorded beside. The updates of the quality runs are timed too: small ones, in which the recurrence counts for less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import record, spread

from asr.audio import read_audio
from asr.experiment import Experiment, load_experiment
from asr.recipe import find_corpus, find_recipe
from asr.text.tokenizer import tokenizer_from_state, train_tokenizer
from asr.training.optimizer import learning_rate

PLAIN = ("augment.spec_augment=null", "training.precision=fp32", "device=cpu")
NUM_WARM_UPS = 5
TEST_BATCH = 50


@dataclass(frozen=True)
class Task:
    """What both sides learn.

    Attributes:
        recipe: the corpus; `train` and `test` are its splits, "" where nothing is tested.
        every: take each so-many-th utterance of `train`.
        config: of ours, with `overrides`; the peer gets the same sizes and rates from it.
        buckets: of the peer's sampler, in number; few enough that most batches are full.
        updates: in one run.
    """

    recipe: str
    train: str
    test: str
    every: int
    config: str | None
    overrides: tuple[str, ...]
    buckets: int
    updates: int


# The sampler fills batches to about five sixths: these are of about 50 s.
SPEED = Task("librispeech", "train-clean-5", "", 2, None, (*PLAIN, "batches.seconds=60"), 20, NUM_WARM_UPS + 30)
DIGITS = (
    "tokenizer.kind=characters",
    *(f"augment.{name}=null" for name in ("speed", "gain", "noise", "warp")),
    "loss.consistency=null",
    "encoder.dropout_over=frame",
    "encoder.subsampling.channels=32",
)
# Features normalised per utterance, which is our default, and with the training data's statistics, as in the peer's recipes.
QUALITY = {
    name: Task("fsdd", "train", "test", 1, "fsdd", (*PLAIN, *DIGITS, f"features.normalization={name}"), 20, 800)
    for name in ("utterance", "global")
}
SIDES = ("ours", "peer")


def main() -> None:
    """Measures speed and quality, and records both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with the corpora")
    parser.add_argument("--peer-python", required=True, help="interpreter that has SpeechBrain")
    parser.add_argument("--rounds", type=int, default=3, help="speed: runs of each side")
    parser.add_argument("--seeds", type=int, default=5, help="quality: runs of each side")
    arguments = parser.parse_args()
    here = Path(__file__).parent
    commands = {
        "ours": [sys.executable, str(here / "bigru_side.py")],
        "peer": [arguments.peer_python, str(here / "speechbrain_side.py")],
    }
    with tempfile.TemporaryDirectory() as folder:
        speed = measured(commands, prepared(SPEED, arguments, Path(folder), "speed"), arguments.rounds)
        quality = {
            name: measured(commands, prepared(task, arguments, Path(folder), name), arguments.seeds)
            for name, task in QUALITY.items()
        }
    record(
        "speechbrain_ctc",
        {
            "precision": "float32",
            "omp_threads": "1",
            "peer": speed["peer"][0]["versions"],
            "speed": {**asdict(SPEED), "warm_ups": NUM_WARM_UPS, **speed_result(speed)},
            "quality": {
                name: {**asdict(QUALITY[name]), **speed_result(runs), **quality_result(runs)}
                for name, runs in quality.items()
            },
        },
    )


def prepared(task: Task, arguments: argparse.Namespace, parent: Path, name: str) -> Path:
    """The folder with all that both sides need of `task`: samples, and `task.json` with tokens, batches and rates."""
    recipe, folder = find_recipe(task.recipe), parent / name
    folder.mkdir()
    experiment = load_experiment(task.config, task.overrides)
    root = find_corpus(recipe, [task.train], root=arguments.root)
    train = list(recipe.read(root, task.train))[:: task.every]
    test = list(recipe.read(root, task.test)) if task.test else []
    waves = [read_audio(each.audio, experiment.features.sample_rate) for each in (*train, *test)]
    np.save(folder / "waves.npy", np.concatenate(waves))
    tokenizer = train_tokenizer([each.text for each in train], experiment.tokenizer)
    by_length = sorted(range(len(train), len(waves)), key=lambda index: len(waves[index]))
    content = {
        "experiment": experiment.tree(),
        "tokenizer": tokenizer.state(),
        "vocabulary_size": tokenizer.size,
        "texts": [tokenizer.normalize(each.text) for each in (*train, *test)],
        "tokens": [tokenizer.encode(each.text) for each in (*train, *test)],
        "lengths": [len(wave) for wave in waves],
        "num_train": len(train),
        "buckets": task.buckets,
        "rates": list(rates(experiment, task.updates)),
        "test_batches": [by_length[start : start + TEST_BATCH] for start in range(0, len(test), TEST_BATCH)],
    }
    (folder / "task.json").write_text(json.dumps(content), encoding="utf-8")
    run([arguments.peer_python, str(Path(__file__).parent / "speechbrain_side.py"), "plan", str(folder)])
    return folder


def rates(experiment: Experiment, updates: int) -> Iterable[float]:
    """The learning rate of each of the `updates`."""
    for update in range(updates):
        yield learning_rate(experiment.optimizer, experiment.schedule, update=update, progress=update / updates)


def measured(commands: dict[str, list[str]], folder: Path, num_runs: int) -> dict[str, list[dict[str, Any]]]:
    """What each side reports of `num_runs` runs with seeds 0, 1, ..., in turn."""
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for seed in range(num_runs):
        for side in SIDES if seed % 2 else reversed(SIDES):
            run([*commands[side], "train", str(folder), str(seed)])
            results[side].append(json.loads((folder / "result.json").read_text(encoding="utf-8")))
            print(f"{folder.name} {seed} {side}: {results[side][-1]['wall'][-1]:.1f} s", flush=True)
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    tokenizer = tokenizer_from_state(task["tokenizer"])
    for result in (result for of_side in results.values() for result in of_side):
        result["readings"] = {int(index): tokenizer.decode(ids) for index, ids in result["readings"].items()}
        result["texts"] = {index: task["texts"][index] for index in result["readings"]}
    return results


def run(command: list[str]) -> None:
    """Runs one side with one thread; what it says goes to the terminal."""
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def speed_result(results: dict[str, list[dict[str, Any]]]) -> dict[str, object]:
    """Updates per second of both sides without warm-ups, and their ratios by wall clock and by processor time."""
    rate: dict[str, dict[str, list[float]]] = {}
    for clock in ("wall", "processor"):
        rate[clock] = {
            side: [
                (len(each[clock]) - NUM_WARM_UPS) / (each[clock][-1] - each[clock][NUM_WARM_UPS - 1]) for each in runs
            ]
            for side, runs in results.items()
        }
    ratios = {
        clock: [ours / peer for ours, peer in zip(of["ours"], of["peer"], strict=True)] for clock, of in rate.items()
    }
    return {
        "parameters": {side: runs[0]["parameters"] for side, runs in results.items()},
        "audio_seconds_per_batch": round(statistics.mean(results["ours"][0]["seconds"]), 1),
        "ratio": {clock: spread(values) for clock, values in ratios.items()},
        "updates_per_second": {
            clock: {side: spread(values) for side, values in of.items()} for clock, of in rate.items()
        },
    }


def quality_result(results: dict[str, list[dict[str, Any]]]) -> dict[str, object]:
    """Word error rates, of each seed and of all together."""
    rate = {side: [error_rate([each]) for each in runs] for side, runs in results.items()}
    return {
        "words": sum(len(text.split()) for text in results["ours"][0]["texts"].values()),
        "word_error_rate": {
            side: {"all": error_rate(runs), "by_seed": rate[side], "last_loss": [each["loss"] for each in runs]}
            for side, runs in results.items()
        },
    }


def error_rate(runs: list[dict[str, Any]]) -> float:
    """Word error rate of all readings of `runs` together."""
    pairs = [(run["texts"][index], reading) for run in runs for index, reading in run["readings"].items()]
    return round(float(jiwer.wer([text for text, _ in pairs], [reading for _, reading in pairs])), 5)


if __name__ == "__main__":
    main()
