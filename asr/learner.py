"""What a training sets out with and what makes its updates, so that what is timed beforehand is what is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import torch

from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex
from asr.errors import CorpusError, TextError
from asr.experiment import Experiment, Run
from asr.model.acoustic import AcousticModel
from asr.model.device import select_dtype
from asr.text.tokenizer import Tokenizer, tokenizer_from_state
from asr.training.distributed import Workers
from asr.training.heads import make_heads
from asr.training.init import freeze, new_model
from asr.training.loss import Objective
from asr.training.optimizer import make_optimizer
from asr.training.terms import Term
from asr.training.update import Updater


def load_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that the prepare stage left.

    Raises:
        CorpusError: missing or damaged.
    """
    try:
        return tokenizer_from_state(json.loads(run.tokenizer_file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TextError) as error:
        raise CorpusError(f"{run.tokenizer_file}: missing or damaged, run the stage 'prepare' again") from error


def first_model(run: Run, index: ShardIndex) -> tuple[AcousticModel, Tokenizer]:
    """The model that the training of `run` on the shards of `index` begins with, and its tokens.

    Raises:
        CorpusError: the prepare stage left no tokenizer.
        AsrError: as `new_model`.
    """
    experiment = run.experiment
    return new_model(
        experiment.init,
        experiment.acoustic,
        partial(load_tokenizer, run),
        index,
        experiment.batches,
        seed=experiment.seed,
    )


def training_updater(
    run: Run, model: AcousticModel, tokenizer: Tokenizer, index: ShardIndex
) -> tuple[Updater, list[str]]:
    """What makes the updates of `model`, which is on its device, in the training of `run`: what is frozen is so then.

    Besides, what should be said of the heads that training has.

    Raises:
        ConfigError: nothing would be left to learn.
        TextError, TrainingError: as `make_heads`.
    """
    experiment, loss = run.experiment, run.experiment.loss
    freeze(model, experiment.init.freeze)
    num_samples = (number for shard in index.shards for number in shard.num_samples)
    utterances = zip(shard_utterances(index, with_audio=False), num_samples, strict=True)
    heads, notes = make_heads(loss.speaker, loss.phones, model, tokenizer, utterances)
    dtype = select_dtype(experiment.training.precision, next(model.parameters()).device)
    return make_updater(experiment, model, tokenizer, dtype=dtype, workers=run.workers, heads=heads), notes


def make_updater(
    experiment: Experiment,
    model: AcousticModel,
    tokenizer: Tokenizer,
    *,
    dtype: torch.dtype,
    workers: Workers | None = None,
    heads: Sequence[Term] = (),
) -> Updater:
    """What makes the updates of `model`, and of the `heads` that training has besides, as `experiment` has it."""
    objective = Objective(model, experiment.loss, heads).to(next(model.parameters()).device)
    return Updater(
        objective,
        tokenizer,
        make_optimizer(experiment.optimizer, objective),
        augment=experiment.augment,
        max_gradient_norm=experiment.training.max_gradient_norm,
        l1=experiment.optimizer.l1,
        dtype=dtype,
        seed=experiment.seed,
        workers=workers,
    )
