"""Cost of a training step against the forward and backward pass of the bare encoder on the same features.

Claim: features, augmentation, CTC, clipping and optimiser together add at most 15 % to what the encoder costs anyway.

    OMP_NUM_THREADS=1 python benchmarks/step.py

Both run in turn on the same batch, many times; each bare pass takes the very features that the step beside it computes,
since speed perturbation changes their number. The parts are then timed alone, to tell where the rest goes.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import torch
from record import record, spread, take_no_options
from torch import Tensor, nn

from asr.corpus.batches import Batch
from asr.experiment import load_experiment
from asr.features.augment import Augmenter
from asr.learner import make_updater
from asr.model import AcousticModel
from asr.text.tokenizer import train_tokenizer
from asr.training.distributed import Workers
from asr.training.terms import CtcTargets
from asr.training.update import Updater, derived_seed, gradient_norms

CONFIG = "spoken_commands"
BATCH_SECONDS = 40.0
CHARACTERS_PER_SECOND = 14
NUM_RUNS = 30
NUM_WARM_UPS = 3
SEED = 1
FEW_TOKENS = 64


def main() -> None:
    """Measures step, encoder and parts, and records the result."""
    take_no_options(__doc__)
    experiment = load_experiment(CONFIG)
    batch = speech_batch(experiment.features.sample_rate)
    updater = updater_of(batch)
    seconds = interleaved(updater, batch)
    encoder = statistics.median(seconds["encoder"])
    ratios = [step / bare for step, bare in zip(seconds["step"], seconds["encoder"], strict=True)]
    record(
        "step",
        {
            "unit": "seconds of processor time",
            "config": CONFIG,
            "utterances": len(batch),
            "audio_seconds": round(float(batch.num_samples.sum()) / experiment.features.sample_rate, 1),
            "padded_seconds": round(batch.waveforms.numel() / experiment.features.sample_rate, 1),
            "parameters": sum(parameter.numel() for parameter in updater.model.parameters()),
            "seed": SEED,
            "threads": torch.get_num_threads(),
            "omp_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
            "ratio": spread(ratios),
            "step": spread(seconds["step"]),
            "encoder": spread(seconds["encoder"]),
            "parts_as_share_of_the_encoder": {
                name: round(statistics.median(values) / encoder, 4)
                for name, values in seconds.items()
                if name not in ("step", "encoder")
            },
        },
    )


def speech_batch(sample_rate: int, seconds: float = BATCH_SECONDS) -> Batch:
    """Utterances of 2 to 5 seconds of noise with the rhythm of syllables, and random letters for their texts."""
    generator, noise = random.Random(SEED), torch.Generator().manual_seed(SEED)
    lengths: list[int] = []
    while sum(lengths) < seconds * sample_rate:
        lengths.append(int(generator.uniform(2, 5) * sample_rate))
    waveforms = torch.zeros(len(lengths), max(lengths))
    for row, length in zip(waveforms, lengths, strict=True):
        loudness = 0.05 + 0.3 * torch.sin(2 * torch.pi * 4 * torch.arange(length) / sample_rate) ** 4
        row[:length] = loudness * torch.randn(length, generator=noise)
    letters = "abcdefghijklmnopqrstuvwxyz'     "
    texts = tuple(
        "".join(generator.choices(letters, k=length * CHARACTERS_PER_SECOND // sample_rate)) for length in lengths
    )
    ids = tuple(f"u{number}" for number in range(len(lengths)))
    return Batch(ids, texts, ("",) * len(lengths), waveforms, torch.tensor(lengths))


def updater_of(
    batch: Batch,
    config: str = CONFIG,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    workers: Workers | None = None,
) -> Updater:
    """The updater that `asr train` would make for the configuration, with few tokens, made of the batch's texts."""
    experiment = load_experiment(config)
    update = {"size": FEW_TOKENS} if experiment.tokenizer.kind == "bpe" else {}
    tokenizer = train_tokenizer(batch.texts, experiment.tokenizer.model_copy(update=update))
    torch.manual_seed(SEED)
    model = AcousticModel(experiment.acoustic, tokenizer.size).to(device)
    experiment = experiment.model_copy(update={"seed": SEED})
    return make_updater(experiment, model, tokenizer, dtype=dtype, workers=workers)


def interleaved(updater: Updater, batch: Batch) -> dict[str, list[float]]:
    """Seconds of step, bare encoder and each part, in every run, warm-ups left out."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(NUM_WARM_UPS + NUM_RUNS):
        features, num_frames = encoder_inputs(updater, batch, number)
        pair: dict[str, Callable[[], object]] = {
            "step": partial(updater.update, [batch], number, 1e-4),
            "encoder": partial(bare_encoder, updater.model.encoder, features, num_frames),
        }
        # The second of two finds memory and caches warmed by the first, so they take turns.
        order = ("step", "encoder") if number % 2 else ("encoder", "step")
        runs = {name: timed(pair[name]) for name in order}
        runs |= parts(updater, batch, number, features, num_frames)
        if number >= NUM_WARM_UPS:
            for name, value in runs.items():
                seconds[name].append(value)
    return seconds


def encoder_inputs(updater: Updater, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
    """The features that update `number` gives to the encoder, and the frames of each utterance."""
    augmenter = Augmenter(updater.augment, derived_seed(updater.seed, number, 0))
    model = updater.model
    features, num_frames = model.features(*augmenter.waveforms(batch.waveforms, batch.num_samples))
    return augmenter.features(features, num_frames, model.config.features.num_static), num_frames


def bare_encoder(encoder: nn.Module, features: Tensor, num_frames: Tensor) -> None:
    """Forward and backward pass of `encoder` alone, the gradient of its output given."""
    encoder.zero_grad(set_to_none=True)
    hidden, _ = encoder(features, num_frames)
    hidden.backward(torch.full_like(hidden, 1e-3))


def parts(updater: Updater, batch: Batch, number: int, features: Tensor, num_frames: Tensor) -> dict[str, float]:
    """Seconds of everything in a step that is not the encoder, each timed alone."""
    model, augmenter = updater.model, Augmenter(updater.augment, number)
    with torch.no_grad():
        hidden, num_encoder_frames = model.encoder(features, num_frames)
    targets = CtcTargets(batch.texts, updater.tokenizer, updater.device)
    sound: list[tuple[Tensor, Tensor]] = []

    def head_and_loss() -> None:
        inputs = hidden.detach().requires_grad_()
        log_probs = torch.log_softmax(model.head(inputs), dim=-1)
        losses, _ = targets.losses(log_probs, num_encoder_frames)
        losses.sum().backward()  # type: ignore[no-untyped-call]

    return {
        "augmentation of waveforms": timed(
            lambda: sound.append(augmenter.waveforms(batch.waveforms, batch.num_samples))
        ),
        "features": timed(lambda: model.features(*sound[0])),
        "augmentation of features": timed(
            lambda: augmenter.features(features, num_frames, model.config.features.num_static)
        ),
        "tokens": timed(lambda: CtcTargets(batch.texts, updater.tokenizer, updater.device)),
        "head and CTC, both passes": timed(head_and_loss),
        "clipping": timed(lambda: nn.utils.clip_grad_norm_(model.parameters(), 5.0)),
        "optimiser": timed(updater.optimizer.step),
        "gradient norms, every tenth step": timed(lambda: gradient_norms(model)),
    }


def timed(action: Callable[[], object]) -> float:
    """Seconds of processor time that `action` takes, all threads together."""
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    main()
