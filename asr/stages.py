"""What the stages of a run do: prepare -> train -> average -> evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from asr.atomic import write_text
from asr.config import Tree
from asr.corpus.batches import Batch, epoch_batches, sequential_batches
from asr.corpus.download import obtain
from asr.corpus.shards import ShardIndex, shard_utterances, write_shards
from asr.corpus.utterance import Utterance
from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.errors import CorpusError, TextError
from asr.evaluation import Subset, evaluate_subsets
from asr.experiment import Run
from asr.model.acoustic import AcousticModel, num_parameters
from asr.model.checkpoint import Checkpoint, load_checkpoint, restore_model, save_checkpoint
from asr.model.device import select_device, select_dtype
from asr.recognizer.recognizer import Recognizer
from asr.resources import resource
from asr.scoring import results_table, write_results
from asr.terminal import Advance, get_console, progress_bar
from asr.text.tokenizer import Tokenizer, tokenizer_from_state, train_tokenizer
from asr.training.loop import CHECKPOINT_FOLDER, Trainer, TrainingData, average_weights
from asr.training.optimizer import make_optimizer
from asr.training.plots import plot_training
from asr.training.run_log import RunLog
from asr.training.update import Updater
from asr.training.validation import validate

_NORMALIZATION_BATCHES = 100
_DOWNLOADS = Path("corpora")


def corpus_root(run: Run) -> Path:
    """The folder that holds the corpus of `run`: given, embedded, or downloaded below the run folder now.

    Raises:
        CorpusError: a given folder does not exist, or there is none and nothing to download.
    """
    if run.root is not None:
        if not run.root.is_dir():
            raise CorpusError(f"--root {run.root}: no such folder")
        return run.root
    recipe = run.recipe
    if recipe.default_root:
        return resource(recipe.default_root)
    if not recipe.downloads:
        return run.folder
    # Beside the runs, not in one of them: the next run of this recipe finds it there.
    folder = _DOWNLOADS / recipe.name
    with progress_bar(f"downloading {recipe.name}", None) as advance:
        obtain(recipe.downloads, folder, progress=_increments(advance))
    return folder


def _increments(advance: Advance) -> Callable[[str, int, int | None], None]:
    """A function of a file's name and its bytes so far (and in all), made of one that takes steps."""
    before: dict[str, int] = {}

    def report(name: str, done: int, total: int | None) -> None:
        advance(done - before.get(name, 0))
        before[name] = done

    return report


def prepare(run: Run) -> None:
    """Write shards of every split and train the tokenizer on the training texts.

    Raises:
        CorpusError: the corpus is missing or damaged, or an utterance stands in the training part and in another.
    """
    root, splits = corpus_root(run), run.splits
    train_ids: set[str] = set()
    for split in (splits.train, splits.dev, *splits.test):
        index = _prepare_split(run, root, split, train_ids)
        skipped = "".join(f", {len(ids)} left out ({reason})" for reason, ids in index.skipped.items())
        print(
            f"  {split}: {index.num_utterances} utterances, {index.seconds / 3600:.2f} h, "
            f"{index.num_speakers} speakers{skipped}",
            flush=True,
        )
    train_index = ShardIndex.load(run.shards / splits.train)
    tokenizer = train_tokenizer(
        (utterance.text for utterance in shard_utterances(train_index)), run.experiment.tokenizer
    )
    write_text(run.tokenizer_file, json.dumps(tokenizer.state(), ensure_ascii=False))
    print(f"  tokenizer: {run.experiment.tokenizer.kind}, {tokenizer.size} tokens with blank", flush=True)


def _prepare_split(run: Run, root: Path, split: str, train_ids: set[str]) -> ShardIndex:
    def checked() -> Iterator[Utterance]:
        for utterance in run.recipe.read(root, split):
            if split == run.splits.train:
                train_ids.add(utterance.id)
            elif utterance.id in train_ids:
                raise CorpusError(
                    f"utterance '{utterance.id}' is in '{split}' and in '{run.splits.train}': a model must not be measured "
                    "on what it learnt from"
                )
            yield utterance

    with progress_bar(f"shards of {split}", None) as advance:
        return write_shards(
            checked(),
            run.shards / split,
            sample_rate=run.experiment.features.sample_rate,
            config=run.experiment.shards,
            progress=lambda count, seconds: advance(1),
        )


def load_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that the prepare stage left.

    Raises:
        CorpusError: missing or damaged.
    """
    try:
        return tokenizer_from_state(json.loads(run.tokenizer_file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TextError) as error:
        raise CorpusError(f"{run.tokenizer_file}: missing or damaged, run the stage 'prepare' again") from error


def train(run: Run) -> None:
    """Train, or go on with a training that was cut off; leaves the best epochs, the history and its plot."""
    experiment = run.experiment
    device = select_device(experiment.device)
    tree = experiment.tree()
    write_text(run.folder / "config.yaml", experiment.yaml())
    index = ShardIndex.load(run.shards / run.splits.train)
    last = run.folder / CHECKPOINT_FOLDER / "last.pt"
    state = None
    if last.is_file():
        checkpoint = load_checkpoint(last)
        model, tokenizer = restore_model(checkpoint, where=str(last))
        state = checkpoint.training
    else:
        tokenizer = load_tokenizer(run)
        model = _new_model(run, index, tokenizer)
    recognizer = Recognizer(model, tokenizer, build_decoder(GreedyDecoderConfig(), tokenizer), device)
    trainer = _make_trainer(run, recognizer, index, tree)
    if state is not None:
        trainer.resume(state)
    print(
        f"  {num_parameters(model):,} parameters, {tokenizer.size} tokens, {index.seconds / 3600:.2f} h of speech, "
        f"on {device}" + (f", from update {trainer.progress.update}" if state else ""),
        flush=True,
    )
    with RunLog(run.folder, resume_at_update=trainer.progress.update) as log:
        trainer.run(log)
    plot_training(run.folder)


def _new_model(run: Run, index: ShardIndex, tokenizer: Tokenizer) -> AcousticModel:
    experiment = run.experiment
    torch.manual_seed(experiment.seed)
    model = AcousticModel(experiment.acoustic, tokenizer.size)
    if experiment.features.normalization == "global":
        batches = sequential_batches(index, experiment.batches)
        few = (batch for _, batch in zip(range(_NORMALIZATION_BATCHES), batches, strict=False))
        model.features.fit_normalization((batch.waveforms, batch.num_samples) for batch in few)
    return model


def _make_trainer(run: Run, recognizer: Recognizer, index: ShardIndex, tree: Tree) -> Trainer:
    experiment = run.experiment
    dev_index = ShardIndex.load(run.shards / run.splits.dev)

    def epoch(number: int, skip: int) -> Iterator[Batch]:
        return epoch_batches(index, experiment.batches, seed=experiment.seed, epoch=number, skip_batches=skip)

    updater = Updater(
        recognizer.model,
        recognizer.tokenizer,
        make_optimizer(experiment.optimizer, recognizer.model),
        augment=experiment.augment,
        max_gradient_norm=experiment.training.max_gradient_norm,
        l1=experiment.optimizer.l1,
        dtype=select_dtype(experiment.training.precision, recognizer.device),
        seed=experiment.seed,
    )
    return Trainer(
        recognizer,
        updater,
        TrainingData(
            num_utterances=index.num_utterances,
            epoch=epoch,
            dev=lambda: sequential_batches(dev_index, experiment.batches),
        ),
        config=experiment.training,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        template=Checkpoint(experiment=tree, tokenizer=recognizer.tokenizer.state(), model={}),
        folder=run.folder,
    )


def average(run: Run) -> None:
    """Average the weights of the best epochs, and keep the average if the development set agrees, else the best epoch."""
    folder = run.folder / CHECKPOINT_FOLDER
    last = load_checkpoint(folder / "last.pt")
    progress = (last.training or {"progress": {"best": []}})["progress"]
    checkpoints = [load_checkpoint(folder / f"epoch-{epoch:04d}.pt") for _, _, epoch in progress["best"]]
    best = load_checkpoint(folder / "best.pt")
    epochs = ", ".join(str(epoch) for _, _, epoch in sorted(progress["best"], key=lambda entry: entry[2]))
    averaged = replace(best, model=average_weights(checkpoints), note=f"average of epochs {epochs}")
    rates = [_dev_rate(run, candidate) for candidate in (averaged, best)]
    kept, other = (averaged, best) if rates[0] <= rates[1] else (best, averaged)
    save_checkpoint(run.model_file, kept)
    print(f"  {kept.note}: dev WER {min(rates):.2%} (instead of {other.note}: {max(rates):.2%})", flush=True)


def _dev_rate(run: Run, checkpoint: Checkpoint) -> float:
    model, tokenizer = restore_model(checkpoint, where=checkpoint.note)
    decoder = build_decoder(GreedyDecoderConfig(), tokenizer)
    recognizer = Recognizer(model, tokenizer, decoder, select_device(run.experiment.device))
    index = ShardIndex.load(run.shards / run.splits.dev)
    return validate(recognizer, sequential_batches(index, run.experiment.batches)).words.rate


def evaluate(run: Run) -> None:
    """Measure every test split with every decoder; leaves `results.json` and hypotheses, prints the table."""
    subsets = [Subset.of_shards(split, ShardIndex.load(run.shards / split)) for split in run.splits.test]
    results = evaluate_subsets(
        run.model_file,
        subsets,
        run.experiment.decoders,
        batches=run.experiment.batches,
        device=run.experiment.device,
        hypotheses=run.folder / "hypotheses",
    )
    write_results(run.folder / "results.json", results)
    get_console().print(results_table(results))
    print(f"{run.folder}", flush=True)
