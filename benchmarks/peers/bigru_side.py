"""Our side of `speechbrain_ctc.py`, which calls it with train FOLDER SEED: the trainer of `asr train` on its batches."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from asr.corpus.batches import Batch
from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.experiment import Experiment
from asr.learner import make_updater
from asr.model.acoustic import AcousticModel, num_parameters
from asr.model.checkpoint import Checkpoint
from asr.recognizer.recognizer import Recognizer
from asr.text.tokenizer import tokenizer_from_state
from asr.training.loop import Trainer, TrainingData
from asr.training.run_log import SilentLog

NUM_BATCHES = 100
"""From which the mean and variance of the features come, as in the stage `train`."""


class Log(SilentLog):
    """Keeps the training loss in nats per token of the last update that it was told of."""

    loss = float("nan")

    def record(self, kind: str, update: int, values: object) -> None:
        """Only the loss of training."""
        if kind == "train" and isinstance(values, dict):
            self.loss = float(values["loss"])


def main() -> None:
    """Trains on the task in FOLDER, and leaves times (s), readings and sizes in its `result.json`."""
    folder, seed = Path(sys.argv[2]), int(sys.argv[3])
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    waves = np.split(np.load(folder / "waves.npy"), np.cumsum(task["lengths"])[:-1])
    experiment = Experiment.model_validate({**task["experiment"], "seed": seed})
    rate = experiment.features.sample_rate
    wall: list[float] = []
    processor: list[float] = []
    seconds: list[float] = []

    def batch_of(indices: list[int]) -> Batch:
        samples = [torch.from_numpy(waves[index]) for index in indices]
        texts = tuple(task["texts"][index] for index in indices)
        lengths = torch.tensor([len(wave) for wave in samples])
        names = tuple(map(str, indices))
        return Batch(names, texts, ("",) * len(names), pad_sequence(samples, batch_first=True), lengths)

    def epoch(number: int, skip: int) -> Iterator[Batch]:
        # An update ends when the trainer asks for the next batch.
        start = time.perf_counter(), time.process_time()
        for indices in task["batches"]:
            yield batch_of(indices)
            wall.append(time.perf_counter() - start[0])
            processor.append(time.process_time() - start[1])
            seconds.append(sum(len(waves[index]) for index in indices) / rate)

    torch.manual_seed(seed)
    tokenizer = tokenizer_from_state(task["tokenizer"])
    model = AcousticModel(experiment.acoustic, tokenizer.size)
    if experiment.features.normalization == "global":
        few = map(batch_of, task["batches"][:NUM_BATCHES])
        model.features.fit_normalization((batch.waveforms, batch.num_samples) for batch in few)
    decoder = build_decoder(GreedyDecoderConfig(), tokenizer)
    recognizer = Recognizer(model, tokenizer, decoder, torch.device("cpu"))
    updater = make_updater(experiment.model_copy(update={"seed": seed}), model, tokenizer, dtype=torch.float32)
    log = Log()
    with tempfile.TemporaryDirectory() as scratch:
        Trainer(
            recognizer,
            updater,
            # One epoch that holds all updates, so that nothing is chosen by a development set, as there.
            TrainingData(num_utterances=sum(map(len, task["batches"])), epoch=epoch, dev=lambda: iter(())),
            config=experiment.training.model_copy(update={"epochs": 1}),
            optimizer=experiment.optimizer,
            schedule=experiment.schedule,
            template=Checkpoint(experiment=experiment.tree(), tokenizer=tokenizer.state(), model={}),
            folder=Path(scratch),
        ).run(log)
    heard = recognizer.recognize(map(batch_of, task["test_batches"]))
    result = {
        "wall": wall,
        "processor": processor,
        "seconds": seconds,
        "loss": log.loss,
        "parameters": num_parameters(model),
        "readings": {each.id: tokenizer.encode(each.best.text) for each in heard},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
