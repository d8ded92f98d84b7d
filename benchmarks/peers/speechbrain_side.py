"""The peer's side of `speechbrain_ctc.py`, in the manner of SpeechBrain's own CTC recipes; needs SpeechBrain, not `asr`.

    python speechbrain_side.py plan FOLDER          # batches, by its DynamicBatchSampler
    python speechbrain_side.py train FOLDER SEED

What differs from ours, as SpeechBrain has it: its filter bank (Hamming window, 400 points, decibels down to 80 below the
loudest, no pre-emphasis), the initial weights of its GRU, no mask over padding in convolutions and recurrence, weight decay
of biases and norms too, and the loss: the mean over utterances of each one's loss per token, ours is per token of the batch.
Its layers stand in our order: layer norm, GRU, dropout, and a residual connection around them.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.decoders.ctc import ctc_greedy_decode
from speechbrain.lobes.features import Fbank
from speechbrain.nnet.CNN import Conv2d
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.nnet.normalization import LayerNorm
from speechbrain.nnet.RNN import GRU
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn


class ResidualGru(nn.Module):
    """Frames (B, S, D) to the same shape: x + dropout(GRU(norm(x))); D is twice `hidden_size`."""

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = LayerNorm(input_size=2 * hidden_size)
        # Recipes give it no lengths: it then runs over the padding, and is spared packed sequences, slower on a CPU.
        self.gru = GRU(hidden_size, input_size=2 * hidden_size, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """The layer's output."""
        output: Tensor = self.dropout(self.gru(self.norm(frames))[0])
        return frames + output


def make_model(encoder: dict[str, Any], num_features: int, vocabulary_size: int) -> nn.Module:
    """Features (B, T, F) to logits (B, S, V), the network of our `encoder` configuration in SpeechBrain's layers."""
    channels, width = encoder["subsampling"]["channels"], 2 * encoder["hidden_size"]
    model = sb.nnet.containers.Sequential(input_shape=[None, None, num_features])
    for _ in range(encoder["subsampling"]["factor"].bit_length() - 1):
        model.append(Conv2d, out_channels=channels, kernel_size=(3, 3), stride=(2, 2), padding_mode="constant")
        model.append(nn.ReLU())
    model.append(Linear, n_neurons=width, combine_dims=True)
    for _ in range(encoder["num_layers"]):
        model.append(ResidualGru(encoder["hidden_size"], encoder["dropout"]))
    model.append(LayerNorm(input_size=width))
    model.append(Linear(n_neurons=vocabulary_size, input_size=width))
    return model  # type: ignore[no-any-return]


class CtcBrain(sb.Brain):  # type: ignore[misc]
    """Trains as the recipes do, and keeps times (s) and readings."""

    rates: list[float]

    def on_fit_start(self) -> None:
        """Clocks."""
        super().on_fit_start()
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.start = time.perf_counter(), time.process_time()

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, S, V), and lengths (B,) as shares of the longest."""
        waves, lengths = batch.to(self.device).sig
        features = self.modules.normalize(self.hparams.compute_features(waves), lengths)
        return self.hparams.log_softmax(self.modules.model(features)), lengths

    def compute_objectives(self, predictions: tuple[Tensor, Tensor], batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """The CTC loss; in a test also the greedy readings."""
        log_probs, lengths = predictions
        tokens, token_lengths = batch.tokens
        if stage == sb.Stage.TEST:
            self.readings |= dict(zip(batch.id, ctc_greedy_decode(log_probs, lengths, blank_id=0), strict=True))
        loss: Tensor = self.hparams.ctc_cost(log_probs, tokens, lengths, token_lengths)
        return loss

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """No checkpoint is chosen: the last weights are measured."""
        self.readings: dict[str, list[int]] = {}

    def on_fit_batch_start(self, batch: PaddedBatch, should_step: bool) -> None:
        """The learning rate, the same as ours."""
        update_learning_rate(self.optimizer, self.rates[self.optimizer_step])

    def on_fit_batch_end(self, batch: PaddedBatch, outputs: Any, loss: Tensor, should_step: bool) -> None:
        """The end of an update."""
        self.wall.append(time.perf_counter() - self.start[0])
        self.processor.append(time.process_time() - self.start[1])
        self.last_loss = float(loss.detach())


def read_task(folder: Path) -> tuple[dict[str, Any], DynamicItemDataset]:
    """The task in `folder`, and its utterances as a data set."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    waves = np.split(np.load(folder / "waves.npy"), np.cumsum(task["lengths"])[:-1])
    rate = task["experiment"]["features"]["sample_rate"]
    data = {str(index): {"index": index, "duration": length / rate} for index, length in enumerate(task["lengths"])}

    @sb.utils.data_pipeline.takes("index")  # type: ignore[untyped-decorator]
    @sb.utils.data_pipeline.provides("sig", "tokens")  # type: ignore[untyped-decorator]
    def pipeline(index: int) -> Any:
        yield torch.from_numpy(waves[index])
        yield torch.tensor(task["tokens"][index])

    return task, DynamicItemDataset(data, dynamic_items=[pipeline], output_keys=["id", "sig", "tokens"])


def plan(folder: Path) -> None:
    """Adds to the task the batches of as many epochs as its updates need, in SpeechBrain's order."""
    task, data = read_task(folder)
    train = data.filtered_sorted(select_n=task["num_train"])
    seconds = task["experiment"]["batches"]["seconds"]
    sampler = DynamicBatchSampler(train, seconds, num_buckets=task["buckets"])
    batches: list[list[int]] = []
    for epoch in itertools.count(1):
        if len(batches) >= len(task["rates"]):
            break
        sampler.set_epoch(epoch)
        batches += [list(map(int, batch)) for batch in sampler]
    task["batches"] = batches[: len(task["rates"])]
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")


def train(folder: Path, seed: int) -> None:
    """Trains on the task in `folder`, and leaves times, readings and sizes in its `result.json`."""
    task, data = read_task(folder)
    experiment = task["experiment"]
    features, optimizer = experiment["features"], experiment["optimizer"]
    norm_type = {"utterance": "sentence", "global": "global"}[features["normalization"]]
    torch.manual_seed(seed)
    model = make_model(experiment["encoder"], features["n_mels"], task["vocabulary_size"])
    brain = CtcBrain(
        modules={"model": model, "normalize": InputNormalization(norm_type=norm_type)},
        # The fused kernel is not SpeechBrain's default; it is faster, and ours has it.
        opt_class=partial(
            torch.optim.AdamW, lr=optimizer["lr"], betas=optimizer["betas"], weight_decay=optimizer["l2"], fused=True
        ),
        hparams={
            "compute_features": Fbank(sample_rate=features["sample_rate"], n_mels=features["n_mels"]),
            "log_softmax": nn.LogSoftmax(dim=-1),
            "ctc_cost": partial(ctc_loss, blank_index=0),
        },
        run_opts={
            "device": "cpu",
            "precision": "fp32",
            "max_grad_norm": experiment["training"]["max_gradient_norm"],
            "noprogressbar": True,
        },
    )
    brain.rates = task["rates"]
    brain.fit([1], SaveableDataLoader(data, batch_sampler=task["batches"], collate_fn=PaddedBatch))
    readings = {}
    if task["test_batches"]:
        brain.evaluate(SaveableDataLoader(data, batch_sampler=task["test_batches"], collate_fn=PaddedBatch))
        readings = brain.readings
    result = {
        "wall": brain.wall,
        "processor": brain.processor,
        "loss": brain.last_loss,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "readings": readings,
        "versions": {"speechbrain": sb.__version__, "torch": torch.__version__},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "plan":
        plan(Path(sys.argv[2]))
    else:
        train(Path(sys.argv[2]), int(sys.argv[3]))
