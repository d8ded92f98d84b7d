"""What a network costs: learnt values, multiplications per second of audio, seconds per update, memory."""

from __future__ import annotations

import math
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from asr.corpus.batches import epoch_batches
from asr.experiment import Experiment, Run
from asr.learner import first_model, training_updater
from asr.lengths import frames_after_subsampling
from asr.model.acoustic import AcousticConfig, num_parameters
from asr.model.attention import AttentionDecoder
from asr.model.device import select_device
from asr.model.encoder import Encoder
from asr.training.moving_average import MovingAverage

_FRAMES_LOOKED_AT = 800
_UPDATES_TO_WARM_UP = 3
_UPDATES_TIMED = 20
_MOST_HIDDEN = 1 << 14


@dataclass(frozen=True)
class NetworkSize:
    """Size of a network without its features.

    Attributes:
        parameters: learnt values.
        multiply_adds: multiplications with an addition, per second of audio.
    """

    parameters: int
    multiply_adds: float


def network_size(config: AcousticConfig, vocabulary_size: int) -> NetworkSize:
    """The size of the network of `config` with so many tokens.

    Each matrix of a cell, and of the linear layers around them, is multiplied once for each frame there; a convolution's
    weights, once for each point of its output. What is done element by element, what attention multiplies frames with, the
    features, and the work of an attention decoder, which goes by tokens, are not counted; its parameters are.
    """
    features = config.features
    num_features = features.num_static * (1 + features.deltas)
    with torch.device("meta"):
        encoder = Encoder(config.encoder, num_features)
        head = nn.Linear(config.encoder.output_size, vocabulary_size)
        parts: list[nn.Module] = [encoder, head]
        if config.attention is not None:
            parts.append(AttentionDecoder(config.attention, config.encoder.output_size, vocabulary_size))
    rates: list[tuple[nn.Module, int]] = [(encoder.subsampling, config.encoder.subsampling.factor)]
    rates.append((head, config.encoder.factor))
    rates += [(layer, config.encoder.factor_of(number)) for number, layer in enumerate(encoder.layers, start=1)]
    rates += [(blocks, config.encoder.factor_of(layer)) for layer, blocks in enumerate(encoder.blocks, start=2)]
    total = _convolutions(encoder, num_features)
    for module, factor in rates:
        num_frames = frames_after_subsampling(_FRAMES_LOOKED_AT, factor)
        total += num_frames * sum(weight.numel() for weight in module.parameters() if weight.dim() == 2)
    frame_rate = features.sample_rate / features.hop_length
    return NetworkSize(sum(map(num_parameters, parts)), total * frame_rate / _FRAMES_LOOKED_AT)


def _convolutions(encoder: Encoder, num_features: int) -> int:
    """Multiplications of all convolutions on `_FRAMES_LOOKED_AT` feature frames."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        counts.append(int(weight.numel()) * output[0, 0].numel())  # type: ignore[operator]

    convolutions = [module for module in encoder.subsampling.modules() if isinstance(module, nn.Conv1d | nn.Conv2d)]
    handles = [module.register_forward_hook(count) for module in convolutions]
    frames = torch.zeros(1, _FRAMES_LOOKED_AT, num_features, device="meta")
    encoder.subsampling(frames, torch.tensor([_FRAMES_LOOKED_AT]))
    for handle in handles:
        handle.remove()
    return sum(counts)


def hidden_size_for(experiment: Experiment, num_wanted: int, vocabulary_size: int) -> int:
    """The `encoder.hidden_size` at which the network of `experiment` comes nearest to `num_wanted` parameters."""
    # Heads of self-attention share the width among them, so only some sizes can be had.
    heads = experiment.encoder.self_attention.heads if experiment.encoder.self_attention is not None else 1
    step = heads // math.gcd(heads, 2 if experiment.encoder.bidirectional else 1)

    def off(num_steps: int) -> int:
        encoder = experiment.encoder.model_copy(update={"hidden_size": num_steps * step})
        config = experiment.acoustic.model_copy(update={"encoder": encoder})
        return network_size(config, vocabulary_size).parameters - num_wanted

    low, high = 1, 2
    while high * step < _MOST_HIDDEN and off(high) < 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if off(middle) < 0 else (low, middle)
    return step * min((low, high), key=lambda num_steps: abs(off(num_steps)))


def seconds_per_utterance(run: Run) -> float:
    """Seconds that training takes per utterance of `run`, which is prepared: the median of some updates after the first few.

    It is not moved by what else the machine does for a moment, and variants of one seed hear the same batches. The updates
    are those of the training: of the same model with the same parts frozen, with its heads and its moving average.

    Raises:
        AsrError: whatever keeps the training from beginning.
    """
    experiment = run.experiment
    device = select_device(experiment.device)
    index, decay = run.train_index, experiment.training.moving_average
    model, tokenizer = first_model(run, index)
    updater, _ = training_updater(run, model.to(device), tokenizer, index)
    average = None if decay is None else MovingAverage(model, decay)
    seconds: list[float] = []
    num_updates = epoch = 0
    while num_updates < _UPDATES_TO_WARM_UP + _UPDATES_TIMED:
        batches = epoch_batches(
            index, experiment.batches, seed=experiment.seed, epoch=epoch, per_update=run.batches_per_update
        )
        while group := list(islice(batches, experiment.training.accumulate)):
            start = time.perf_counter()
            result = updater.update(group, num_updates, experiment.optimizer.lr)
            if average is not None and not result.skipped:
                average.update()
            if num_updates >= _UPDATES_TO_WARM_UP:
                seconds.append((time.perf_counter() - start) / max(1, result.utterances))
            num_updates += 1
            if num_updates >= _UPDATES_TO_WARM_UP + _UPDATES_TIMED:
                break
        epoch += 1
    return statistics.median(seconds)


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory so far: what torch took of a GPU, or the whole process with its libraries on a CPU; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
