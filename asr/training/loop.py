"""The training loop: epochs of updates, validation, checkpoints, and the promise that a resumed run ends the same."""

from __future__ import annotations

import contextlib
import math
import operator
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from asr.config import Section
from asr.corpus.batches import Batch
from asr.errors import StoppedByUserError, TrainingError, first_of
from asr.model.checkpoint import CHECKPOINT_FOLDER, Checkpoint, save_checkpoint
from asr.model.device import Precision
from asr.recognizer.recognizer import Recognizer
from asr.terminal import Advance, counted, progress_bar
from asr.training.moving_average import MovingAverage
from asr.training.optimizer import AdamWConfig, CosineConfig, LinearConfig, PlateauConfig, SgdConfig, learning_rate
from asr.training.progress import TrainingProgress
from asr.training.run_log import RunLog, SilentLog
from asr.training.stopping import StopFlag, stop_flag
from asr.training.update import Updater, UpdateResult, gradient_norms
from asr.training.validation import Validation, validate

_IMPOSSIBLE_SHARE = 0.5


class TrainingConfig(Section):
    """How long and how to train, and what to keep."""

    epochs: int = Field(default=20, ge=1, description="passes over the training data")
    accumulate: int = Field(default=1, ge=1, description="batches per update")
    max_gradient_norm: float = Field(
        default=5.0, ge=0, description="longer gradients are scaled down to this; 0: never"
    )
    precision: Precision = Field(default="auto", description="auto: bf16 or fp16 on a GPU, fp32 on a CPU")
    validate_every_epochs: int = Field(default=1, ge=1, description="epochs between looks at the development set")
    checkpoint_every_updates: int = Field(default=200, ge=1, description="updates between saves within an epoch")
    log_every_updates: int = Field(default=10, ge=1, description="updates between records in metrics.jsonl")
    keep_best: int = Field(
        default=5,
        ge=1,
        description="best epochs, kept and averaged. Source, of the last ones: Vaswani et al. 2017, 6.1",
    )
    moving_average: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay per update of the average of the weights that is validated and kept, such as 0.999; null: the "
        'weights themselves are. Source: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging", '
        "who weigh all updates alike",
    )
    patience: int | None = Field(default=None, ge=1, description="stop after so many validations without improvement")
    max_skipped_updates: int = Field(
        default=10, ge=1, description="updates in a row with non-finite gradients before giving up"
    )


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The batches to learn from and to choose by.

    Attributes:
        num_utterances: in one epoch.
        epoch: batches of epoch number e (from 0) without its first k, this process's share: a pure function of both.
        dev: batches of the development set, this process's share.
        contents: changes with the utterances that an epoch is made of, and with how their order is drawn.
    """

    num_utterances: int
    epoch: Callable[[int, int], Iterator[Batch]]
    dev: Callable[[], Iterator[Batch]]
    contents: str = ""


class Trainer:
    """Trains the model of `recognizer` and leaves checkpoints in `folder`.

    `watch` is told each validation, with the number of epochs that are finished, in every process and after all has been
    saved: what it raises ends the training, which can go on from there.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        updater: Updater,
        data: TrainingData,
        *,
        config: TrainingConfig,
        optimizer: AdamWConfig | SgdConfig,
        schedule: CosineConfig | LinearConfig | PlateauConfig,
        template: Checkpoint,
        folder: Path,
        watch: Callable[[int, Validation], None] | None = None,
    ) -> None:
        self.recognizer = recognizer
        self.updater = updater
        self.data = data
        self.config = config
        self.optimizer_config = optimizer
        self.schedule = schedule
        self.template = template
        self.watch = watch
        self.folder = folder / CHECKPOINT_FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self.progress = TrainingProgress()
        self.average = None if config.moving_average is None else MovingAverage(recognizer.model, config.moving_average)
        self.workers = updater.workers

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from the training state of a checkpoint; the model's weights are already loaded.

        Raises:
            TrainingError: the phones or speakers that the heads were made for have changed; or within an epoch the number
                of processes, the shards, or the version of this program that drew their order.
        """
        self.updater.optimizer.load_state_dict(state["optimizer"])
        # Empty where no scaler was in use; then its scale starts anew.
        if state["scaler"]:
            self.updater.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["moving_average"])
        if self.updater.objective.heads:
            try:
                self.updater.objective.heads.load_state_dict(state["heads"])
            except RuntimeError as error:
                raise TrainingError(
                    f"{self.folder}: the heads of this training were made for other phones or speakers when it was cut off: "
                    "put back the file loss.phones.lexicon and the speakers that it began with, or start over with --fresh"
                ) from error
        self.progress = TrainingProgress(**state["progress"])
        if not self.progress.batches:
            return
        if state["data"] != self.data.contents:
            raise TrainingError(
                f"{self.folder}: this training was cut off within an epoch, and the shards it goes on with are others now, "
                "or the version of this program: put back those that it began with, or start over with --fresh"
            )
        if state["processes"] != self.workers.size:
            raise TrainingError(
                f"{self.folder}: this training was cut off within an epoch that {state['processes']} processes shared, and "
                f"goes on with as many, found {self.workers.size}: `torchrun --nproc-per-node` says how many; at an epoch's "
                "end any may"
            )

    def run(self, log: RunLog | SilentLog) -> TrainingProgress:
        """Train to the end; `log` has been cut to where this run stands.

        Raises:
            StoppedByUserError: Ctrl-C or SIGTERM; all is saved.
            TrainingError: gradients stay non-finite, or most utterances are too short for their text.
        """
        with stop_flag() as stop:
            while self.progress.epoch < self.config.epochs and not self._out_of_patience():
                self._run_epoch(log, stop)
        return self.progress

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.progress.validations_since_best >= self.config.patience

    def _run_epoch(self, log: RunLog | SilentLog, stop: StopFlag) -> None:
        progress = self.progress
        batches = self.data.epoch(progress.epoch, progress.batches // self.workers.size)
        with progress_bar(f"epoch {progress.epoch + 1}/{self.config.epochs}", self.data.num_utterances) as advance:
            advance(progress.utterances)
            while True:
                start = time.perf_counter()  # waiting for batches is time, too
                if not (group := list(islice(batches, self.config.accumulate))):
                    break
                self._run_update(group, log, advance, start)
                if self._is_to_stop(stop):
                    self._save_last(log)
                    raise self._stopped(stop)
                if progress.update % self.config.checkpoint_every_updates == 0:
                    self._save_last(log)
        self._finish_epoch(log)
        if self._is_to_stop(stop):
            raise self._stopped(stop)

    def _is_to_stop(self, stop: StopFlag) -> bool:
        """Whether any of the processes was asked to."""
        return bool(self.workers.sum(stop.is_set())[0])

    def _stopped(self, stop: StopFlag) -> StoppedByUserError:
        self.workers.meet()  # the first one has saved; torchrun ends all when one ends
        return StoppedByUserError(
            f"stopped after update {self.progress.update}, everything is saved; the same command continues", stop.number
        )

    def _run_update(self, group: list[Batch], log: RunLog | SilentLog, advance: Advance, start: float) -> None:
        progress = self.progress
        done = (progress.epoch + progress.utterances / max(1, self.data.num_utterances)) / self.config.epochs
        lr = learning_rate(
            self.optimizer_config, self.schedule, update=progress.update, progress=done, reductions=progress.reductions
        )
        result = self.updater.update(group, progress.update, lr)
        if self.average is not None and not result.skipped:
            self.average.update()
        progress.update += 1
        progress.batches += len(group) * self.workers.size
        progress.utterances += result.utterances
        progress.audio_seconds += result.seconds
        seconds = time.perf_counter() - start
        progress.wall_seconds += seconds
        self._count_trouble(result, group, log)
        if not result.skipped:
            progress.loss_sum += result.loss
            progress.loss_updates += 1
        if progress.update % self.config.log_every_updates == 0:
            values = {
                "epoch": progress.epoch + 1,
                "loss": result.loss,
                "lr": lr,
                "gradient_norm": result.gradient_norm,
                "gradient_norms": gradient_norms(self.recognizer.model, result.clipped_to),
                "times_real_time": result.seconds / seconds,
            }
            if result.terms:
                values["terms"] = result.terms
            log.record("train", progress.update, values)
        advance(result.utterances)

    def _count_trouble(self, result: UpdateResult, group: list[Batch], log: RunLog | SilentLog) -> None:
        progress = self.progress
        progress.impossible_of_epoch += len(result.impossible)
        known = set(progress.impossible)
        fresh = [utterance for utterance in dict.fromkeys(result.impossible) if utterance not in known]
        if fresh:
            progress.impossible += fresh
            log.event(progress.update, f"left out, fewer encoder frames than CTC needs for the text: {first_of(fresh)}")
        if result.split:
            if not progress.split:
                told = f"batch halved, it did not fit into memory: {first_of(result.split)}"
                log.event(progress.update, f"{told}; at the end of an epoch stands in how many updates that was so")
            progress.split += 1
            progress.split_of_epoch += 1
        if not result.skipped:
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        ids = [utterance for batch in group for utterance in batch.ids]
        log.event(progress.update, f"update left out, its gradient is not finite: {first_of(ids)}")
        if progress.skipped_in_a_row >= self.config.max_skipped_updates:
            raise TrainingError(
                f"{progress.skipped_in_a_row} updates in a row had no finite gradient, the last with {first_of(ids)}: "
                f"try half of optimizer.lr ({self.optimizer_config.lr:g}), a smaller training.max_gradient_norm, or "
                f"training.precision=fp32; the last good weights are in {self.folder}"
            )

    def _finish_epoch(self, log: RunLog | SilentLog) -> None:
        progress = self.progress
        if progress.impossible_of_epoch > _IMPOSSIBLE_SHARE * progress.utterances:
            raise TrainingError(
                f"{progress.impossible_of_epoch} of {progress.utterances} utterances have fewer encoder frames than CTC "
                f"needs for their text, such as {first_of(progress.impossible)}: lower encoder.subsampling.factor, shorten "
                "encoder.pyramid.after or use a bpe tokenizer, and check that texts belong to their audio"
            )
        progress.epoch += 1
        if progress.split_of_epoch:
            halved = counted(progress.split_of_epoch, "update")
            log.line(f"note: epoch {progress.epoch}: batches did not fit into memory and were halved in {halved}")
        progress.batches = progress.utterances = progress.impossible_of_epoch = progress.split_of_epoch = 0
        validation = None
        if progress.epoch % self.config.validate_every_epochs == 0 or progress.epoch == self.config.epochs:
            with contextlib.nullcontext() if self.average is None else self.average.in_place():
                validation = self._validate(log)
        progress.loss_sum, progress.loss_updates = 0.0, 0
        self._save_last(log)
        kept = {epoch_file(epoch) for _, _, epoch in progress.best}
        for path in self.folder.glob("epoch-*.pt"):
            if self.workers.is_first and path.name not in kept:
                path.unlink()
        if validation is not None and self.watch is not None:
            self.watch(progress.epoch, validation)

    def measure(self) -> Validation:
        """What the model makes of the development set as it stands, which all processes share."""
        return reduce(operator.add, self.workers.gather([validate(self.recognizer, self.data.dev())]))

    def _validate(self, log: RunLog | SilentLog) -> Validation:
        progress, start = self.progress, time.perf_counter()
        result = self.measure()
        entry = (*result.rank, progress.epoch)
        improved = not progress.best or entry < progress.best[0]
        progress.validations_since_best = 0 if improved else progress.validations_since_best + 1
        self._follow_plateau(improved)
        progress.best = sorted([*progress.best, entry])[: self.config.keep_best]
        note = f"epoch {progress.epoch}, dev WER {result.words.rate:.4f}"
        if entry in progress.best:
            self._save(epoch_file(progress.epoch), None, note)
        if improved:
            self._save("best.pt", None, note)
        progress.wall_seconds += time.perf_counter() - start
        self._report(result, improved, log)
        return result

    def _follow_plateau(self, improved: bool) -> None:
        progress = self.progress
        progress.validations_since_reduction = 0 if improved else progress.validations_since_reduction + 1
        if self.schedule.kind == "plateau" and progress.validations_since_reduction > self.schedule.patience:
            progress.reductions += 1
            progress.validations_since_reduction = 0

    def _report(self, result: Validation, improved: bool, log: RunLog | SilentLog) -> None:
        progress = self.progress
        # All updates of the epoch may have been left out: then there is no loss to tell, and 0 would be the best of all.
        loss = progress.loss_sum / progress.loss_updates if progress.loss_updates else math.nan
        told = f"loss {loss:.3f}" if progress.loss_updates else "no update"
        values = {
            "epoch": progress.epoch,
            "train_loss": loss,
            "loss": result.loss,
            "wer": result.words.rate,
            "cer": result.characters.rate,
            "utterances": result.utterances,
            "unspellable": result.unspellable,
            "wall_seconds": progress.wall_seconds,
        }
        log.record("validation", progress.update, values)
        speed = progress.audio_seconds / max(1e-9, progress.wall_seconds)
        log.line(
            f"epoch {progress.epoch:3d}/{self.config.epochs}  {told}  dev loss {result.loss:.3f}  "
            f"dev WER {result.words.rate:7.2%}  CER {result.characters.rate:7.2%}  {progress.wall_seconds:5.0f} s  "
            f"{speed:.0f}x real time{'  best' if improved else ''}"
            + (
                f"  ({result.unspellable} of {result.utterances} texts have characters that the training texts had not)"
                if result.unspellable
                else ""
            )
        )

    def _save_last(self, log: RunLog | SilentLog) -> None:
        state = {
            "progress": asdict(self.progress),
            "processes": self.workers.size,
            "data": self.data.contents,
            "optimizer": self.updater.optimizer.state_dict(),
            "scaler": self.updater.scaler.state_dict(),
            "moving_average": None if self.average is None else self.average.state_dict(),
        }
        if self.updater.objective.heads:
            state["heads"] = self.updater.objective.heads.state_dict()
        log.sync()
        self._save("last.pt", state, f"update {self.progress.update}")

    def _save(self, name: str, training: dict[str, Any] | None, note: str) -> None:
        if not self.workers.is_first:
            return
        weights = {key: value.detach() for key, value in self.recognizer.model.state_dict().items()}
        save_checkpoint(self.folder / name, replace(self.template, model=weights, training=training, note=note))


def epoch_file(epoch: int) -> str:
    """Name of the checkpoint of epoch number `epoch`, counted from 1."""
    return f"epoch-{epoch:04d}.pt"
