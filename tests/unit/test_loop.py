"""The training loop: what is kept, when it stops, and what it says when learning is impossible."""

from __future__ import annotations

import math
import os
import re
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_update import WORDS, make_batch, make_updater

from asr.corpus.batches import Batch
from asr.decoding import GreedyDecoderConfig, Hypothesis, build_decoder
from asr.errors import StoppedByUserError, TrainingError
from asr.model.checkpoint import Checkpoint, load_checkpoint
from asr.recognizer.recognizer import Recognizer
from asr.scoring import count_words
from asr.training.loop import Trainer, TrainingConfig, TrainingData
from asr.training.moving_average import MovingAverage, average_weights
from asr.training.optimizer import AdamWConfig, CosineConfig, LinearConfig, PlateauConfig, SgdConfig, make_optimizer
from asr.training.run_log import RunLog, read_metrics
from asr.training.update import Updater, UpdateResult
from asr.training.validation import Validation, validate


def make_trainer(
    folder: Path,
    texts: tuple[str, ...] = WORDS,
    updater: Updater | None = None,
    batch: Batch | None = None,
    **changes: object,
) -> Trainer:
    updater = updater or make_updater()
    batch = batch or make_batch(texts)

    def epoch(number: int, skip: int) -> Iterator[Batch]:
        yield from [batch.rows(at, at + 2) for at in range(0, len(texts), 2)][skip:]

    recognizer = Recognizer(
        updater.model, updater.tokenizer, build_decoder(GreedyDecoderConfig(), updater.tokenizer), torch.device("cpu")
    )
    arguments: dict[str, object] = {
        "config": TrainingConfig(epochs=4, keep_best=2),
        "optimizer": SgdConfig(lr=0.05),
        "schedule": CosineConfig(warmup_updates=0),
        "template": Checkpoint(experiment={}, tokenizer=updater.tokenizer.state(), model={}),
        "folder": folder,
    }
    data = TrainingData(num_utterances=len(texts), epoch=epoch, dev=lambda: iter([make_batch()]))
    return Trainer(recognizer, updater, data, **(arguments | changes))


def run(trainer: Trainer, folder: Path) -> None:
    with RunLog(folder, resume_at_update=trainer.progress.update, finished_epochs=trainer.progress.epoch) as log:
        trainer.run(log)


def cut_off(trainer: Trainer, folder: Path) -> Checkpoint:
    """The checkpoint that `trainer` leaves when it is stopped after two batches."""
    batches = trainer.data.epoch

    def two_batches(number: int, skip: int) -> Iterator[Batch]:
        stream = batches(number, skip)
        yield next(stream)
        yield next(stream)
        raise RuntimeError("power failure")

    object.__setattr__(trainer.data, "epoch", two_batches)
    with pytest.raises(RuntimeError, match="power failure"):
        run(trainer, folder)
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def test_waiting_for_batches_is_part_of_the_time(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=1))
    batches = trainer.data.epoch

    def slow(number: int, skip: int) -> Iterator[Batch]:
        for batch in batches(number, skip):
            time.sleep(0.2)
            yield batch

    object.__setattr__(trainer.data, "epoch", slow)
    run(trainer, tmp_path)
    assert trainer.progress.wall_seconds >= 0.2 * trainer.progress.update > 0


def test_best_epochs_are_kept_and_others_removed(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    run(trainer, tmp_path)
    best = [epoch for _, _, epoch in trainer.progress.best]
    assert len(best) == 2
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == sorted(["best.pt", "last.pt", *(f"epoch-{epoch:04d}.pt" for epoch in best)])
    expected = load_checkpoint(tmp_path / "checkpoints" / f"epoch-{best[0]:04d}.pt").model
    found = load_checkpoint(tmp_path / "checkpoints" / "best.pt").model
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_best_is_lowest_error_then_lowest_loss(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    run(trainer, tmp_path)
    validations = read_metrics(tmp_path, "validation")
    expected = sorted((min(1.0, record["wer"]), record["loss"], record["epoch"]) for record in validations)[:2]
    assert trainer.progress.best == expected


def test_who_writes_nothing_is_not_better_than_who_begins_to_write(tmp_path: Path) -> None:
    """Words that are wrong make for more errors than none, and are what learning begins with."""
    best: list[int] = []
    config = TrainingConfig(epochs=4, keep_best=1)
    trainer = make_trainer(
        tmp_path, config=config, watch=lambda epoch, validation: best.append(trainer.progress.best[0][2])
    )
    heard = iter([("", 3.5), ("x y z w", 2.1), ("x y z", 2.2), ("a", 2.9)])

    def measure() -> Validation:
        text, loss = next(heard)
        words = count_words("a b c", text)
        return Validation(words=words, characters=words, loss=loss, tokens=1, utterances=1, unspellable=0)

    trainer.measure = measure  # type: ignore[method-assign]
    run(trainer, tmp_path)
    assert best == [1, 2, 2, 4]


def test_four_updates_equal_two_and_two(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", config=TrainingConfig(epochs=1))
    run(whole, tmp_path / "whole")
    half = make_trainer(tmp_path / "half", config=TrainingConfig(epochs=1, checkpoint_every_updates=2))
    checkpoint = cut_off(half, tmp_path / "half")
    assert checkpoint.training is not None
    resumed = make_trainer(tmp_path / "half", config=TrainingConfig(epochs=1, checkpoint_every_updates=2))
    resumed.recognizer.model.load_state_dict(checkpoint.model)
    resumed.resume(checkpoint.training)
    assert resumed.progress.update == 2
    run(resumed, tmp_path / "half")
    expected, found = whole.recognizer.model.state_dict(), resumed.recognizer.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_training_goes_on_in_half_precision_where_it_began_in_full(tmp_path: Path) -> None:
    # As after a move to a GPU, where precision=auto may be fp16: what was saved knows no scale of the loss.
    half = make_trainer(tmp_path, config=TrainingConfig(epochs=1, checkpoint_every_updates=2))
    checkpoint = cut_off(half, tmp_path)
    assert checkpoint.training is not None
    resumed = make_trainer(tmp_path, updater=make_updater(dtype=torch.float16))
    resumed.resume(checkpoint.training)
    assert resumed.progress.update == 2
    assert resumed.updater.scaler.get_scale() == make_updater(dtype=torch.float16).scaler.get_scale()


def test_patience_ends_a_training_that_does_not_improve(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, config=TrainingConfig(epochs=50, patience=2), optimizer=SgdConfig(lr=1e-30, momentum=0.0, l2=0.0)
    )
    run(trainer, tmp_path)
    assert trainer.progress.epoch == 3


def test_plateau_reduces_the_rate(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        config=TrainingConfig(epochs=6, log_every_updates=1),
        optimizer=SgdConfig(lr=1e-30, momentum=0.0, l2=0.0),
        schedule=PlateauConfig(warmup_updates=0, patience=1, factor=0.1),
    )
    run(trainer, tmp_path)
    rates = {record["epoch"]: record["lr"] for record in read_metrics(tmp_path) if record["kind"] == "train"}
    assert [round(rates[epoch] / 1e-30, 4) for epoch in range(1, 7)] == [1, 1, 1, 0.1, 0.1, 0.01]


def test_persistent_non_finite_gradients_stop_with_advice(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=4, max_skipped_updates=3))
    with torch.no_grad():
        trainer.recognizer.model.head.bias[0] = float("nan")
    with pytest.raises(TrainingError, match=r"3 updates in a row .* utterance.* half of optimizer\.lr"):
        run(trainer, tmp_path)
    assert trainer.progress.skipped == 3
    assert [record["kind"] for record in read_metrics(tmp_path)] == ["event"] * 3


def test_an_epoch_without_an_update_has_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=1, max_skipped_updates=99))
    skipped = UpdateResult(skipped=True, utterances=2, seconds=1.0)
    monkeypatch.setattr(trainer.updater, "update", lambda *arguments: skipped)
    run(trainer, tmp_path)
    (record,) = read_metrics(tmp_path, "validation")
    assert record["train_loss"] == "nan"
    assert re.search(r"epoch +1/1  no update  dev loss \d", capsys.readouterr().out)


def test_texts_too_long_for_their_audio_stop_with_advice(tmp_path: Path) -> None:
    long_texts = tuple("abc" * 60 for _ in WORDS)
    trainer = make_trainer(tmp_path, long_texts)
    with pytest.raises(TrainingError, match=r"8 of 8 utterances .*subsampling\.factor"):
        run(trainer, tmp_path)
    messages = [record["message"] for record in read_metrics(tmp_path, "event")]
    assert any("utterance0" in message for message in messages)


def test_impossible_utterances_are_named_once(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, (*WORDS[:7], "abc" * 60))
    run(trainer, tmp_path)
    assert trainer.progress.impossible == ["utterance7"]
    assert len(read_metrics(tmp_path, "event")) == 1


def test_an_epoch_is_judged_by_the_utterances_that_it_has_heard(tmp_path: Path) -> None:
    """One of eight cannot be said, another one in each epoch: of a part whose weight is below 1 each hears others."""
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=6))
    batches = trainer.data.epoch

    def epoch(number: int, skip: int) -> Iterator[Batch]:
        for place, batch in enumerate(batches(number, 0)):
            ids = tuple(f"{each} of epoch {number}" for each in batch.ids)
            texts = ("abc" * 60, *batch.texts[1:]) if place == 0 else batch.texts
            yield replace(batch, ids=ids, texts=texts)

    object.__setattr__(trainer.data, "epoch", epoch)
    run(trainer, tmp_path)
    assert len(trainer.progress.impossible) == 6


def test_a_development_part_that_cannot_be_spelt_has_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=1))
    object.__setattr__(trainer.data, "dev", lambda: iter([make_batch(("xyz",) * 8)]))
    run(trainer, tmp_path)
    assert "dev loss nan" in (said := capsys.readouterr().out)
    assert "(8 of 8 texts have characters that the training texts had not)" in said


def test_the_first_batch_that_does_not_fit_is_told_and_how_many_did_not_at_the_end_of_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=3))
    trainer.updater.most_seconds = 1e6  # as tried at the start of the training
    accumulate = trainer.updater.accumulate

    def halving(batches: list[Batch], number: int) -> UpdateResult:
        result = accumulate(batches, number)
        result.split = ["u1"] if number in (2, 5, 7) else []  # of epochs of four updates
        return result

    monkeypatch.setattr(trainer.updater, "accumulate", halving)
    run(trainer, tmp_path)
    told = [line for line in capsys.readouterr().out.splitlines() if "memory" in line]
    assert told == [
        "note: batch halved, it did not fit into memory: u1; at the end of an epoch stands in how many updates that was so",
        "note: epoch 1: batches did not fit into memory and were halved in 1 update",
        "note: epoch 2: batches did not fit into memory and were halved in 2 updates",
    ]
    assert trainer.progress.split == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wish_to_stop_during_validation_is_heard_when_all_is_saved(tmp_path: Path, number: int, code: int) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=1))
    dev = trainer.data.dev

    def interrupted() -> Iterator[Batch]:
        signal.raise_signal(number)
        return dev()

    object.__setattr__(trainer.data, "dev", interrupted)
    with pytest.raises(StoppedByUserError, match="stopped after update 4, everything is saved") as stopped:
        run(trainer, tmp_path)
    assert stopped.value.exit_code == code
    training = load_checkpoint(tmp_path / "checkpoints" / "last.pt").training
    assert training is not None
    assert training["progress"]["epoch"] == 1


def test_an_epoch_that_other_processes_shared_is_not_gone_on_with(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=1, checkpoint_every_updates=2))
    training = cut_off(trainer, tmp_path).training
    assert training is not None
    resumed = make_trainer(tmp_path)
    with pytest.raises(TrainingError, match=r"that 4 processes shared, and goes on with as many, found 1"):
        resumed.resume({**training, "processes": 4})
    resumed.resume({**training, "processes": 4, "progress": {**training["progress"], "batches": 0, "utterances": 0}})
    assert resumed.progress.update == 2


def test_an_epoch_of_other_shards_is_not_gone_on_with(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, config=TrainingConfig(epochs=1, checkpoint_every_updates=2))
    object.__setattr__(trainer.data, "contents", "as they were")
    training = cut_off(trainer, tmp_path).training
    assert training is not None
    resumed = make_trainer(tmp_path)
    with pytest.raises(
        TrainingError, match=r"shards it goes on with are others now, or .*: put back those .* or .* --fresh"
    ):
        resumed.resume(training)
    object.__setattr__(resumed.data, "contents", "as they were")
    resumed.resume(training)
    assert resumed.progress.update == 2


def test_average_of_weights_is_their_mean() -> None:
    checkpoints = [
        Checkpoint(
            experiment={}, tokenizer={}, model={"weight": torch.full((2,), value), "count": torch.tensor(int(value))}
        )
        for value in (1.0, 1.0, 2.0**24)  # a sum in float32 would lose the ones
    ]
    average = average_weights(checkpoints[::-1])
    assert average["weight"].tolist() == 2 * [(2 + 2**24) / 3]
    assert average["weight"].dtype == torch.float32, "a file of twice the size otherwise"
    assert average["count"].tolist() == 2**24
    with pytest.raises(TrainingError):
        average_weights([])


def test_moving_average_follows_its_formula() -> None:
    model = torch.nn.BatchNorm1d(1)
    average = MovingAverage(model, 0.9)
    expected = model.weight.item()
    torch.testing.assert_close(model.running_var, model.weight.detach())
    for number, value in enumerate([1.0, -2.0, 5.0, 5.0, 5.0] * 30, start=1):
        for tensor in (model.weight, model.running_var):
            torch.nn.init.constant_(tensor, value)
        average.update()
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
        assert average.values["weight"].item() == pytest.approx(expected, rel=1e-5)
    with average.in_place():
        assert model.weight.item() == model.running_var.item() == pytest.approx(expected, rel=1e-5)
    assert model.weight.item() == model.running_var.item() == 5.0
    with pytest.raises(ZeroDivisionError), average.in_place():
        raise ZeroDivisionError
    assert model.weight.item() == 5.0


def test_average_is_validated_and_kept_and_training_goes_on_without_it(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=4, keep_best=2, moving_average=0.5)
    averaged, plain = make_trainer(tmp_path / "averaged", config=config), make_trainer(tmp_path / "plain")
    for trainer in (averaged, plain):
        run(trainer, trainer.folder.parent)
    for name, value in plain.recognizer.model.state_dict().items():
        assert torch.equal(averaged.recognizer.model.state_dict()[name], value)
    last = [load_checkpoint(trainer.folder / "last.pt").model for trainer in (averaged, plain)]
    assert all(torch.equal(last[0][name], value) for name, value in last[1].items())
    kept = [load_checkpoint(trainer.folder / "epoch-0004.pt").model for trainer in (averaged, plain)]
    assert any(not torch.equal(kept[0][name], value) for name, value in kept[1].items())
    assert torch.equal(kept[0]["head.weight"], averaged.average.values["head.weight"])


def test_who_watches_may_end_a_training_and_nothing_is_lost(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    run(whole, tmp_path / "whole")
    seen: list[tuple[int, float]] = []

    def watch(epoch: int, validation: Validation) -> None:
        seen.append((epoch, validation.loss))
        if len(seen) == 2:
            raise RuntimeError("seen enough")

    watched = make_trainer(tmp_path / "watched", watch=watch)
    with pytest.raises(RuntimeError, match="seen enough"):
        run(watched, tmp_path / "watched")
    checkpoint = load_checkpoint(tmp_path / "watched" / "checkpoints" / "last.pt")
    assert checkpoint.training is not None
    assert checkpoint.training["progress"]["epoch"] == 2
    resumed = make_trainer(tmp_path / "watched", watch=watch)
    resumed.recognizer.model.load_state_dict(checkpoint.model)
    resumed.resume(checkpoint.training)
    run(resumed, tmp_path / "watched")
    records = read_metrics(tmp_path / "whole", "validation")
    assert seen == [(record["epoch"], record["loss"]) for record in records]
    expected, found = whole.recognizer.model.state_dict(), resumed.recognizer.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_rate_falls_from_the_first_update_of_all_epochs_to_the_last(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        config=TrainingConfig(epochs=2, log_every_updates=1),
        optimizer=SgdConfig(lr=1e-30, momentum=0.0, l2=0.0),
        schedule=LinearConfig(warmup_updates=0, final_share=0.0),
    )
    run(trainer, tmp_path)
    rates = [record["lr"] / 1e-30 for record in read_metrics(tmp_path) if record["kind"] == "train"]
    assert rates == pytest.approx([1 - update / 8 for update in range(8)])


def test_records_and_validations_come_as_often_as_asked_and_at_the_end(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=5, validate_every_epochs=2, log_every_updates=8)
    run(make_trainer(tmp_path, config=config), tmp_path)
    records = read_metrics(tmp_path)
    assert [record["epoch"] for record in records if record["kind"] == "validation"] == [2, 4, 5]
    assert [record["update"] for record in records if record["kind"] == "train"] == [8, 16]


def test_the_training_loss_of_an_epoch_is_the_mean_of_its_own_updates(tmp_path: Path) -> None:
    run(make_trainer(tmp_path, config=TrainingConfig(epochs=2, log_every_updates=1)), tmp_path)
    records = read_metrics(tmp_path)
    for validation in (record for record in records if record["kind"] == "validation"):
        of_epoch = (each for each in records if each["kind"] == "train" and each["epoch"] == validation["epoch"])
        assert validation["train_loss"] == pytest.approx(statistics.mean(each["loss"] for each in of_epoch))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell the names of open files")
def test_records_are_on_the_disk_before_the_checkpoint_that_they_belong_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced.append(Path(f"/proc/self/fd/{file}").readlink().name), fsync(file))
    )
    run(make_trainer(tmp_path, config=TrainingConfig(epochs=1, checkpoint_every_updates=2)), tmp_path)
    befores = [before for before, name in pairwise(synced) if name == ".last.pt.tmp"]
    assert befores == ["metrics.jsonl"] * 3


def heard(tmp_path: Path, texts: tuple[str, ...]) -> Validation:
    """What is found where the model hears `WORDS` and these texts were said."""
    recognizer = make_trainer(tmp_path).recognizer
    recognizer.decoder = SimpleNamespace(decode=lambda *encoded: [[Hypothesis(text=word, score=0.0)] for word in WORDS])
    return validate(recognizer, [make_batch(texts)])


def test_development_texts_are_compared_as_the_model_writes(tmp_path: Path) -> None:
    assert heard(tmp_path, tuple(f"{word.upper()}!" for word in WORDS)).words.errors == 0


def test_what_ctc_cannot_say_takes_no_part_in_the_development_loss(tmp_path: Path) -> None:
    recognizer = make_trainer(tmp_path).recognizer
    with_long, without = make_batch((*WORDS[:7], "abc" * 60)), make_batch().rows(0, 7)
    found, expected = (validate(recognizer, [batch]) for batch in (with_long, without))
    assert (found.tokens, found.loss) == (expected.tokens, pytest.approx(expected.loss, rel=1e-4))


def test_the_development_part_is_the_sum_of_its_batches(tmp_path: Path) -> None:
    """Also where one of them has no loss, as nothing in it can be spelt; processes share them so."""
    recognizer = make_trainer(tmp_path).recognizer
    batch = make_batch((WORDS[0], "äöü", *WORDS[2:]))
    whole = validate(recognizer, [batch])
    first, unspelt, last = (validate(recognizer, [batch.rows(*rows)]) for rows in ((0, 1), (1, 2), (2, 8)))
    assert math.isnan(unspelt.loss)
    assert (whole.utterances, whole.unspellable) == (8, 1)
    for found in (first + unspelt + last, unspelt + (first + last)):
        assert replace(found, loss=0.0) == replace(whole, loss=0.0)
        assert found.loss == pytest.approx(whole.loss, rel=1e-5)
    assert (first + last).loss == pytest.approx(whole.loss, rel=1e-5)
    assert math.isnan((unspelt + unspelt).loss)


def test_what_optimiser_and_average_remember_is_gone_on_with(tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        updater = make_updater()
        updater.optimizer = make_optimizer(AdamWConfig(), updater.objective)
        config = TrainingConfig(epochs=1, checkpoint_every_updates=2, moving_average=0.9)
        return make_trainer(tmp_path / name, updater=updater, config=config)

    whole = trainer("whole")
    run(whole, tmp_path / "whole")
    checkpoint = cut_off(trainer("half"), tmp_path / "half")
    assert checkpoint.training is not None
    resumed = trainer("half")
    resumed.recognizer.model.load_state_dict(checkpoint.model)
    resumed.resume(checkpoint.training)
    run(resumed, tmp_path / "half")
    assert whole.average is not None
    assert resumed.average is not None
    for expected, found in (
        (whole.recognizer.model.state_dict(), resumed.recognizer.model.state_dict()),
        (whole.average.values, resumed.average.values),
    ):
        assert all(torch.equal(found[name], value) for name, value in expected.items())
