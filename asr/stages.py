"""What the stages of a run do behind the preparation: train -> average -> evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from asr.atomic import write_text
from asr.corpus.batch_order import ORDER_VERSION, BatchesConfig, EpochSize, epoch_size, most_samples
from asr.corpus.batches import Batch, epoch_batches, num_epoch_batches, sequential_batches
from asr.corpus.shard_reader import read_shard
from asr.corpus.shards import ShardIndex
from asr.corpus.tar_writer import Shard
from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.errors import ConfigError
from asr.evaluation import Subset, evaluate_subsets, hypotheses_file
from asr.experiment import CONFIG_FILE, Experiment, Run
from asr.learner import first_model, training_updater
from asr.model.acoustic import num_parameters
from asr.model.checkpoint import CHECKPOINT_FOLDER, Checkpoint, load_checkpoint, restore_model, save_checkpoint
from asr.model.device import select_device
from asr.recognizer.recognizer import Recognizer
from asr.report.of_model import write_model_report
from asr.scoring import read_results, results_table, write_results
from asr.terminal import counted, get_console
from asr.training.init import origin
from asr.training.loop import Trainer, TrainingData, epoch_file
from asr.training.moving_average import average_weights
from asr.training.plots import plot_training
from asr.training.run_log import RunLog, SilentLog, read_metrics
from asr.training.update import Updater
from asr.training.validation import Validation, choosing_rate, validate

REPORT_FILE = "report.html"
# For the longest text: long texts belong to long utterances.
_SHARDS_LOOKED_INTO = 4
# Of the average, as a multiple of the best epoch's.
_TOLERATED_LOSS = 1.1
# Of test speech, in all, that goes into the report to be heard: some four kilobytes a second.
_MOST_EMBEDDED_SECONDS = 1800


def train(run: Run) -> None:
    """Train, or go on with a training that was cut off; leaves the best epochs, the history and its plot.

    Several processes do so together; the first one writes.
    """
    experiment, workers = run.experiment, run.workers
    workers.check_device(experiment.device)
    device = select_device(experiment.device)
    if workers.is_first:
        write_text(run.folder / CONFIG_FILE, experiment.yaml())
    index = run.train_index
    size = _size_of_epoch(experiment.batches, index)
    last = run.folder / CHECKPOINT_FOLDER / "last.pt"
    checkpoint = load_checkpoint(last) if last.is_file() else None
    if checkpoint is None:
        model, tokenizer = first_model(run, index)
    else:
        model, tokenizer = restore_model(checkpoint, where=str(last))
    recognizer = Recognizer(model, tokenizer, build_decoder(GreedyDecoderConfig(), tokenizer), device)
    trainer = _make_trainer(run, recognizer, index, round(size.utterances))
    is_new = checkpoint is None
    if checkpoint is not None and checkpoint.training is not None:
        trainer.resume(checkpoint.training)
    del checkpoint  # copies of the weights and of what the optimiser remembers
    workers.agree(
        (trainer.progress.update, index.contents, tokenizer.state()),
        f"{run.folder}: some processes find another checkpoint or other shards there: on several machines, the run folder "
        "must lie on a disk that all of them share",
    )
    group = run.batches_per_update
    num_updates = num_epoch_batches(
        index, experiment.batches, seed=experiment.seed, epoch=0, per_update=group, world_size=group
    )
    print(
        f"  {num_parameters(model):,} parameters, {tokenizer.size} tokens, {size.seconds / 3600:.2f} h of speech "
        f"in {counted(num_updates, 'update')} per epoch, on {device}"
        + (f", {workers.size} processes" if workers.size > 1 else "")
        + (origin(experiment.init) if is_new else f", from update {trainer.progress.update}"),
        flush=True,
    )
    _note_warm_up(experiment, num_updates)
    if device.type == "cuda":
        _try_largest_batch(run, trainer.updater, index)
    start = _errors_at_start(trainer) if is_new and experiment.init.keeps_tokens else None
    if not workers.is_first:
        trainer.run(SilentLog())
        return
    with RunLog(run.folder, resume_at_update=trainer.progress.update, finished_epochs=trainer.progress.epoch) as log:
        if start is not None:
            log.record("start", 0, start)
        trainer.run(log)
    plot_training(run.folder)


def _errors_at_start(trainer: Trainer) -> dict[str, float]:
    """What epochs are to be better than, which is told: a rate that is too high soon ruins a good model."""
    found = trainer.measure()
    start = {"loss": found.loss, "wer": found.words.rate, "cer": found.characters.rate}
    print(
        f"  before the first update: dev loss {start['loss']:.3f}  dev WER {start['wer']:.2%}  CER {start['cer']:.2%}",
        flush=True,
    )
    return start


def _size_of_epoch(batches: BatchesConfig, index: ShardIndex) -> EpochSize:
    """How much of `index` an epoch hears; what is left out is told.

    Raises:
        ConfigError: nothing is left.
    """
    size = epoch_size(index, batches)
    if size.too_long:
        found = (
            f"{size.too_long} of {counted(index.num_utterances, 'utterance')} are longer than {batches.max_seconds:g} s"
        )
        if size.too_long == index.num_utterances:
            raise ConfigError(f"batches.max_seconds: {found}, so that nothing is left to learn from; set it higher")
        print(f"  {found} (batches.max_seconds) and are not learnt from", flush=True)
    return size


def _note_warm_up(experiment: Experiment, num_updates: int) -> None:
    """Say it when the learning rate hardly gets to where it was set; an epoch has `num_updates`."""
    warm_up, num_updates = experiment.schedule.warmup_updates, experiment.training.epochs * num_updates
    if warm_up > num_updates / 2:
        print(
            f"  note: the learning rate rises for {warm_up} updates, and there are {num_updates}, so that "
            f"it hardly gets to {experiment.optimizer.lr:g} (optimizer.lr); schedule.warmup_updates={num_updates // 10}, "
            "lower batches.seconds or more training.epochs would help",
            flush=True,
        )


def _try_largest_batch(run: Run, updater: Updater, index: ShardIndex) -> None:
    """Say before the first update, not in the middle of the night, when the largest batches do not fit into a GPU."""
    batches = run.experiment.batches
    longest = _longest_seconds(index, batches)
    fitting = updater.largest_batch_seconds(batches, longest, _longest_text(index, most_samples(index, batches)))
    # What a study says of memory is what the training takes, not what was tried, which may have been the whole GPU.
    torch.cuda.reset_peak_memory_stats(updater.device)
    if fitting == 0:
        print(
            f"  note: the longest utterances, {longest:g} s, do not fit into memory even alone: leave them out by "
            "batches.max_seconds, or make the model smaller",
            flush=True,
        )
    elif fitting < batches.seconds:
        updater.most_seconds = fitting
        print(
            f"  note: batches of {batches.seconds:g} s do not fit into memory, {fitting:g} s do: set "
            f"batches.seconds={fitting:g}, or larger batches will be halved as they come",
            flush=True,
        )
    else:
        print(f"  batches of {batches.seconds:g} s fit into memory", flush=True)


def _longest_seconds(index: ShardIndex, batches: BatchesConfig) -> float:
    """Of the utterances that are learnt from."""
    most = most_samples(index, batches)
    return max(length for shard in index.shards for length in shard.num_samples if length <= most) / index.sample_rate


def _longest_text(index: ShardIndex, most_samples: float) -> str:
    """The longest text, as far as one can tell from the few shards with the longest utterances: a corpus may be large.

    Of those that are longer than `most_samples`, it does not matter.
    """

    def longest(shard: Shard) -> int:
        return max((length for length in shard.num_samples if length <= most_samples), default=0)

    shards = sorted(index.shards, key=longest, reverse=True)[:_SHARDS_LOOKED_INTO]
    found = (stored for shard in shards for stored in read_shard(index, shard, with_audio=False))
    return max((stored.utterance.text for stored in found if stored.num_samples <= most_samples), key=len)


def _make_trainer(run: Run, recognizer: Recognizer, index: ShardIndex, num_utterances: int) -> Trainer:
    experiment, workers = run.experiment, run.workers
    dev_index = run.index(run.dev_part)

    def epoch(number: int, skip: int) -> Iterator[Batch]:
        return epoch_batches(
            index,
            experiment.batches,
            seed=experiment.seed,
            epoch=number,
            skip_batches=skip,
            per_update=run.batches_per_update,
            rank=workers.rank,
            world_size=workers.size,
        )

    updater, notes = training_updater(run, recognizer.model, recognizer.tokenizer, index)
    for note in notes:
        print(f"  {note}", flush=True)
    return Trainer(
        recognizer,
        updater,
        TrainingData(
            num_utterances=num_utterances,
            epoch=epoch,
            dev=lambda: sequential_batches(dev_index, experiment.batches, rank=workers.rank, world_size=workers.size),
            contents=f"{index.contents}, order {ORDER_VERSION}",
        ),
        config=experiment.training,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        template=Checkpoint(
            experiment=experiment.tree(),
            tokenizer=recognizer.tokenizer.state(),
            model={},
            longest_seconds=_longest_seconds(index, experiment.batches),
        ),
        folder=run.folder,
        watch=run.watch,
    )


def average(run: Run) -> None:
    """Average the weights of the best epochs, and keep the average unless its loss on the development set is clearly higher.

    The best epoch was picked for its figures on that set, luck included, and the average was not, so a small difference
    speaks for the average. Where the epochs are too different to be averaged, while errors still fall quickly, the loss is
    higher by far. The loss decides, not the error rate: in a small set one word more or less is chance.
    """
    folder = run.folder / CHECKPOINT_FOLDER
    last, best = load_checkpoint(folder / "last.pt"), load_checkpoint(folder / "best.pt")
    kept = [epoch for _, _, epoch in (last.training or {"progress": {"best": []}})["progress"]["best"]]
    checkpoints = [load_checkpoint(folder / epoch_file(epoch)) for epoch in kept]
    epochs = ", ".join(map(str, sorted(kept)))
    averaged = replace(best, model=average_weights(checkpoints), note=f"average of epochs {epochs}")
    of_average, of_best = _validation(run, averaged), _validation(run, best)
    is_good = of_average.loss <= _TOLERATED_LOSS * of_best.loss
    save_checkpoint(run.model_file, averaged if is_good else best)
    if len(checkpoints) > 1:
        print(
            f"  epochs {epochs} averaged have dev loss {of_average.loss:.3f}, WER {of_average.words.rate:.2%}; "
            f"{best.note.partition(',')[0]} has {of_best.loss:.3f}, {of_best.words.rate:.2%}: "
            + (
                f"kept the average, whose loss is within {_TOLERATED_LOSS - 1:.0%} of it"
                if is_good
                else f"kept that, the average's loss is not within {_TOLERATED_LOSS - 1:.0%} of it"
            ),
            flush=True,
        )
    _note_worse(run, of_average if is_good else of_best)


def _note_worse(run: Run, kept: Validation) -> None:
    """Say it when the model that is `kept` is worse than the one that the training set out from.

    As among epochs, the error rate decides, and between equal rates the loss.
    """
    start = next(iter(read_metrics(run.folder, "start")), None)
    if start is None:
        return
    wer, loss = float(start["wer"]), float(start["loss"])  # what is not finite stands there as text
    if kept.rank > (choosing_rate(wer), loss):
        print(
            f"  note: the model is worse on the development set than the one it set out from: dev loss {kept.loss:.3f}, "
            f"WER {kept.words.rate:.2%}; before the first update {loss:.3f}, {wer:.2%}: a smaller optimizer.lr (here "
            f"{run.experiment.optimizer.lr:g}) or init.freeze may help, and where the loss still falls, more "
            f"training.epochs, in another --out; {run.experiment.init.model} is as it was",
            flush=True,
        )


def _validation(run: Run, checkpoint: Checkpoint) -> Validation:
    model, tokenizer = restore_model(checkpoint, where=checkpoint.note)
    decoder = build_decoder(GreedyDecoderConfig(), tokenizer)
    recognizer = Recognizer(model, tokenizer, decoder, select_device(run.experiment.device))
    index = run.index(run.dev_part)
    return validate(recognizer, sequential_batches(index, run.experiment.batches))


def evaluate(run: Run) -> None:
    """Measure every test split with every decoder; leaves `results.json`, hypotheses and a report, prints the table."""
    indices = [run.index(part) for part in run.test_parts]
    subsets = [
        Subset.of_shards(part.name, index, part.recipe.sizes.get(part.split, 0))
        for part, index in zip(run.test_parts, indices, strict=True)
    ]
    seconds = sum(index.seconds for index in indices)
    hypotheses, results = run.folder / "hypotheses", run.folder / "results.json"
    before = (
        {hypotheses_file(each.subset, each.decoder) for each in read_results(results)} if results.is_file() else set()
    )
    found = evaluate_subsets(
        run.model_file,
        subsets,
        run.experiment.decoders,
        batches=run.experiment.batches,
        device=run.experiment.device,
        hypotheses=hypotheses,
        for_report=True,
        embed_audio=seconds <= _MOST_EMBEDDED_SECONDS,
    )
    for name in before - {hypotheses_file(each.result.subset, each.result.decoder) for each in found}:
        (hypotheses / name).unlink(missing_ok=True)  # of decoders and subsets that are measured no more
    write_results(results, [each.result for each in found])
    write_model_report(run.folder / REPORT_FILE, run.folder, [each.system for each in found if each.system])
    show_results(run)


def show_results(run: Run) -> None:
    """Print what an evaluation of the run found, and where it left more.

    Raises:
        ScoringError: the file of results is missing or damaged.
    """
    results = read_results(run.folder / "results.json")
    if not results:
        print(
            "nothing was measured, for lack of a part to measure on (--test, splits.test); "
            f"`asr evaluate --model {run.folder} --data TEST` does so on any\n{run.folder}",
            flush=True,
        )
        return
    get_console().print(results_table(results))
    print(f"every utterance: {run.folder / REPORT_FILE}", flush=True)
    print(f"{run.folder}", flush=True)
