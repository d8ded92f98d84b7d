"""Few-shot adaptation to a speaker: does a start that was learnt for being adapted (Reptile) beat a trained model as it is?

    OMP_NUM_THREADS=1 python benchmarks/fsdd_adaptation.py --root CORPORA/fsdd

For each held-out speaker of FSDD a model is trained on the other five, as runs/fsdd-adaptation-SPEAKER. From it come three
starts, the last two by the same number of updates of the same kind:

pretrained  the model as it is
joint       Reptile's procedure on tasks of recordings of all five speakers: further training, nothing is learnt of adapting
reptile     the same, but that each task is one speaker: copy the weights, adapt the copy, go a step towards it

Each start is adapted with none, one and five recordings of each digit by the held-out speaker, all by the same few updates
of plain gradient descent, and tested on the speaker's 50 official test recordings. Which recordings is drawn several times,
the same for all starts; intervals and tests resample test recordings, with all draws of one together. The rate and number of
updates were chosen on yweweler, who is not among the default speakers, so that the start `pretrained` adapts best.

Source: Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms".
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from record import record
from torch import Tensor

from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import Batch, batches_of_utterances
from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.experiment import load_experiment
from asr.learner import make_updater
from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model
from asr.recipe import find_recipe
from asr.recognizer import Recognizer
from asr.scoring import UtteranceScore, compare, score_utterance, summarize

DIGITS = 10
SHOTS = (0, 1, 5)
STARTS = ("pretrained", "joint", "reptile")
# Those of whom training hears the indices from 8 on; the first five are the official test set.
TRAINING_INDICES = range(8, 50)
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """What all starts share.

    Attributes:
        epochs: of the first training.
        tasks: of `joint` and `reptile`.
        updates: of each task, and of each adaptation.
        lr: of these updates.
        outer: share of the way to a task's weights that the first task goes; it falls in a line to 0.
        draws: times that recordings to adapt with are drawn.
        seed: everything random follows from it.
    """

    epochs: int
    tasks: int
    updates: int
    lr: float
    outer: float
    draws: int
    seed: int


class Speech:
    """Recordings in memory, by speaker and digit."""

    def __init__(self, root: Path, split: str, sample_rate: int) -> None:
        whole = BatchesConfig(seconds=1e6, max_utterances=10**6, num_workers=0)
        (self.batch,) = batches_of_utterances(find_recipe("fsdd").read(root, split), sample_rate, whole)
        self.rows: dict[tuple[str, int], list[int]] = {}
        for row, name in enumerate(self.batch.ids):
            digit, speaker, index = name.split("_")
            if int(index) in TRAINING_INDICES:
                self.rows.setdefault((speaker, int(digit)), []).append(row)
        self.speakers = sorted({speaker for speaker, _ in self.rows})

    def draw(self, shots: int, speaker: str | None, generator: random.Random) -> list[list[int]]:
        """Rows of so many recordings of each digit, by `speaker`, or of each by anybody."""

        def any_row(digit: int) -> int:
            return generator.choice(self.rows[generator.choice(self.speakers), digit])

        if speaker is None:
            return [[any_row(digit) for _ in range(shots)] for digit in range(DIGITS)]
        return [generator.sample(self.rows[speaker, digit], shots) for digit in range(DIGITS)]

    def chosen(self, rows: Sequence[int]) -> Batch:
        """A batch of the recordings in `rows`."""
        batch, chosen = self.batch, list(rows)
        longest = int(batch.num_samples[chosen].max())
        return Batch(
            ids=tuple(batch.ids[row] for row in chosen),
            texts=tuple(batch.texts[row] for row in chosen),
            speakers=tuple(batch.speakers[row] for row in chosen),
            waveforms=batch.waveforms[chosen, :longest],
            num_samples=batch.num_samples[chosen],
        )


class Learner:
    """A trained model, and what can be made of its weights."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        file = find_checkpoint(folder)
        self.model, self.tokenizer = restore_model(load_checkpoint(file), where=str(file))
        self.settings = settings
        # One view of each recording: two would take twice the time. All else, augmentation too, is as in training.
        sgd = f"optimizer={{kind: sgd, lr: {settings.lr}, momentum: 0, l2: 0}}"
        self.experiment = load_experiment("fsdd", [sgd, "loss.consistency=null", f"seed={settings.seed}"])
        self.pretrained = self._weights()

    def _weights(self) -> Weights:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def adapted(self, start: Weights, speech: Speech, rows: list[list[int]], seed: int) -> Weights:
        """`start` after a few updates, each with one recording of each digit out of `rows`."""
        self.model.load_state_dict(start)
        experiment = self.experiment.model_copy(update={"seed": seed})
        updater = make_updater(experiment, self.model, self.tokenizer, dtype=torch.float32)
        generator = random.Random(seed)
        for number in range(self.settings.updates):
            batch = speech.chosen([generator.choice(of_digit) for of_digit in rows])
            updater.update([batch], number, self.settings.lr)
        return self._weights()

    def reptile(self, speech: Speech, speaker_of_task: Callable[[random.Random], str | None]) -> Weights:
        """The weights after all tasks, each of one speaker, or of all where `speaker_of_task` gives None."""
        generator = random.Random(self.settings.seed)
        weights = self.pretrained
        for task in range(self.settings.tasks):
            shots = generator.choice([shots for shots in SHOTS if shots])
            rows = speech.draw(shots, speaker_of_task(generator), generator)
            goal = self.adapted(weights, speech, rows, generator.getrandbits(32))
            step = self.settings.outer * (1 - task / self.settings.tasks)
            weights = {name: torch.lerp(value, goal[name], step) for name, value in weights.items()}
        return weights

    def scores(self, weights: Weights, test: Batch) -> list[UtteranceScore]:
        """How `weights` hear `test`; each recording stands as its own speaker, so that its draws are resampled together."""
        self.model.load_state_dict(weights)
        decoder = build_decoder(GreedyDecoderConfig(), self.tokenizer)
        recognizer = Recognizer(self.model, self.tokenizer, decoder, torch.device("cpu"))
        return [
            score_utterance(id=heard.id, speaker=heard.id, reference=text, hypothesis=heard.best.text)
            for heard, text in zip(recognizer.recognize([test]), test.texts, strict=True)
        ]


Scores = dict[tuple[str, int], list[UtteranceScore]]


def measure(root: Path, speaker: str, settings: Settings) -> Scores:
    """The scores of each start and number of recordings, draw after draw, for one held-out speaker."""
    folder = Path("runs") / f"fsdd-adaptation-{speaker}"
    pretrain(root, speaker, folder, settings)
    learner = Learner(folder, settings)
    sample_rate = learner.model.config.features.sample_rate
    others = Speech(root, f"train-without-{speaker}", sample_rate)
    own = Speech(root, f"only-{speaker}", sample_rate)
    test = Speech(root, f"test-{speaker}", sample_rate).batch
    starts = {
        "pretrained": learner.pretrained,
        "joint": learner.reptile(others, lambda _: None),
        "reptile": learner.reptile(others, lambda generator: generator.choice(others.speakers)),
    }
    found: Scores = {}
    for name, start in starts.items():
        found[name, 0] = learner.scores(start, test)
        for shots in filter(None, SHOTS):
            found[name, shots] = []
            print(f"{speaker}: adapting {name} with {shots} recordings of each digit", flush=True)
            for draw in range(settings.draws):
                generator = random.Random(f"{settings.seed} {speaker} {shots} {draw}")
                rows = own.draw(shots, speaker, generator)
                weights = learner.adapted(start, own, rows, generator.getrandbits(32))
                found[name, shots] += learner.scores(weights, test)
    return found


def pretrain(root: Path, speaker: str, folder: Path, settings: Settings) -> None:
    """An ordinary run on the speakers but one; what is done is not done again."""
    run = [sys.executable, "-m", "asr.cli", "run", "fsdd", "--root", str(root), "--out", str(folder)]
    splits = [f"splits.{name}={name}-without-{speaker}" for name in ("train", "dev")]
    changes = [f"splits.test=[test-{speaker}]", f"training.epochs={settings.epochs}"]
    if settings.seed:
        changes.append(f"seed={settings.seed}")
    subprocess.run([*run, *splits, *changes], check=True)


def error_rates(found: Scores) -> dict[str, object]:
    """Word error rate in per cent with its interval, by start and recordings of each digit."""
    rates: dict[str, object] = {}
    for (start, shots), scores in found.items():
        result = summarize(scores, subset="", decoder="greedy")
        rates[f"{start}, {shots}"] = [round(100 * rate, 1) for rate in (result.wer, result.wer_low, result.wer_high)]
    return rates


def comparisons(found: Scores) -> dict[str, object]:
    """By how many points `reptile` is better than each other start, with interval and p, by recordings of each digit."""
    rows: dict[str, object] = {}
    for other in ("pretrained", "joint"):
        for shots in SHOTS:
            pair = compare(found[other, shots], found["reptile", shots], names=(other, "reptile"))
            values = (pair.difference, pair.low, pair.high)
            points = [None if value is None else round(100 * value, 1) for value in values]
            rows[f"reptile against {other}, {shots}"] = {"points": points, "p": round(pair.p, 4)}
    return rows


def main() -> None:
    """Measure all speakers, and record error rates by start and number of recordings, and what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with the corpus")
    parser.add_argument("--speakers", nargs="+", default=["jackson", "lucas", "nicolas"])
    parser.add_argument("--name", default="fsdd_adaptation", help="of the record")
    for name, default in (("epochs", 8), ("tasks", 40), ("updates", 20), ("draws", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, rate in (("lr", 0.03), ("outer", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=rate)
    options = vars(parser.parse_args())
    root, speakers, name = (options.pop(key) for key in ("root", "speakers", "name"))
    settings, started = Settings(**options), time.perf_counter()
    by_speaker = {speaker: measure(root, speaker, settings) for speaker in speakers}
    together: Scores = {}
    for found in by_speaker.values():
        for key, scores in found.items():
            together.setdefault(key, []).extend(scores)
    result = {
        "settings": asdict(settings),
        "wer": error_rates(together),
        "wer_by_speaker": {speaker: error_rates(found) for speaker, found in by_speaker.items()},
        "comparisons": comparisons(together),
        "seconds": round(time.perf_counter() - started),
    }
    record(name, result)


if __name__ == "__main__":
    main()
