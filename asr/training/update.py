"""One update of the weights: forward, loss, backward, clipping, step.

All randomness of an update follows from its number, so nothing random has to be saved to resume.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import Batch
from asr.errors import TrainingError
from asr.features.augment import AugmentConfig, Augmenter
from asr.model.acoustic import AcousticModel
from asr.model.device import is_out_of_memory
from asr.text.tokenizer import Tokenizer
from asr.training.distributed import Workers
from asr.training.init import model_parts
from asr.training.loss import Losses, Objective
from asr.training.optimizer import add_l1_gradient
from asr.training.running_statistics import RunningStatistics
from asr.training.terms import CtcTargets

# Of a loss in half precision. The scaler's own, 2 ** 16, is too large for a loss per token, and is found so by updates that
# have to be left out; it is doubled every 2,000 updates.
_FIRST_SCALE = 2.0**10


@dataclass
class UpdateResult:
    """What one update did.

    Attributes:
        loss: CTC loss in nats per token at the top of the model, of the utterances that CTC can say.
        gradient_norm: before clipping; not finite when the update was left out.
        clipped_to: what share of it clipping has left.
        seconds: audio in the update, of all processes, as are utterances and impossible.
        utterances: number of them.
        impossible: ids of utterances with fewer encoder frames than CTC needs for their text.
        unsaid_tokens: of the texts of these.
        skipped: whether the weights were left alone because the gradient was not finite.
        split: ids of the batches that were tried, did not fit into memory and were halved.
        terms: value of each further term of the loss, by name, in nats per token of what CTC can say.
    """

    loss: float = 0.0
    gradient_norm: float = 0.0
    clipped_to: float = 1.0
    seconds: float = 0.0
    utterances: int = 0
    impossible: list[str] = field(default_factory=list)
    unsaid_tokens: int = 0
    skipped: bool = False
    split: list[str] = field(default_factory=list)
    terms: dict[str, float] = field(default_factory=dict)


def derived_seed(*numbers: int) -> int:
    """A seed that depends on all `numbers` and on nothing else.

    Example:
        >>> derived_seed(1, 2) == derived_seed(1, 2), derived_seed(1, 2) == derived_seed(2, 1)
        (True, False)
    """
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Updater:
    """Applies updates to a model; the gradient of several batches, of all processes, is that of one batch of all of them.

    But for batch normalisation, that of the light GRU too, whose statistics are those of each batch.
    """

    def __init__(
        self,
        objective: Objective,
        tokenizer: Tokenizer,
        optimizer: torch.optim.Optimizer,
        *,
        augment: AugmentConfig,
        max_gradient_norm: float,
        l1: float,
        dtype: torch.dtype,
        seed: int,
        workers: Workers | None = None,
    ) -> None:
        self.objective = objective
        self.model = objective.model
        self.tokenizer = tokenizer
        self.optimizer = optimizer
        self.augment = augment
        self.workers = workers or Workers()
        self.average_gradients = self.workers.averaging(objective)
        self.max_gradient_norm = max_gradient_norm
        self.l1 = l1
        self.dtype = dtype
        self.seed = seed
        self.device = next(objective.parameters()).device
        self.sample_rate = objective.model.config.features.sample_rate
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=_FIRST_SCALE, enabled=dtype == torch.float16)
        self.statistics = RunningStatistics(objective)
        self.most_seconds = math.inf
        """Of audio, padding included, beyond which batches are halved before they are tried."""

    def update(self, batches: Sequence[Batch], number: int, lr: float) -> UpdateResult:
        """Change the weights by the gradient of the mean loss per token over `batches`; `number` counts updates from 0."""
        self.model.train()
        result = self.accumulate(batches, number)
        self.scaler.unscale_(self.optimizer)
        if self.l1 > 0:
            add_l1_gradient(self.objective, self.l1)
        limit = self.max_gradient_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.objective.parameters(), limit))
        result.gradient_norm, result.skipped = norm, not math.isfinite(norm)
        result.clipped_to = min(1.0, limit / norm) if norm and not result.skipped else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if not result.skipped:
            self.scaler.step(self.optimizer)
            self.statistics.finish(self.workers)
        self.scaler.update()
        return result

    def accumulate(self, batches: Sequence[Batch], number: int) -> UpdateResult:
        """Set the gradients of the mean loss per token over `batches`, without changing weights or running statistics.

        Batches of more than `most_seconds`, and those that do not fit into the device's memory, are halved until they do.
        Each process does so by itself, and waits for the others when its gradients are all there.

        Raises:
            TrainingError: a single utterance does not fit.
        """
        split: list[str] = []
        self.statistics.begin()
        while too_long := [each for each in batches if len(each) > 1 and self._seconds(each) > self.most_seconds]:
            batches = _halved(batches, too_long[0])
        targets = [self._targets(batch) for batch in batches]
        own_tokens = sum(
            target.num_counted() for batch, target in zip(batches, targets, strict=True) if not batch.repeated
        )
        num_tokens = max(1.0, self.workers.sum(own_tokens)[0])
        while True:
            try:
                own = self._accumulate(batches, targets, number, num_tokens)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(batches, key=_padded_length)
                if len(largest) == 1:
                    raise TrainingError(
                        f"{self.device}: '{largest.ids[0]}', an utterance of {self._seconds(largest):.0f} s, does not fit "
                        "into memory: leave long ones out by batches.max_seconds in another --out (--init goes on from "
                        "these weights), or make the model smaller"
                    ) from error
            else:
                self.average_gradients()
                own.split = split
                return self._of_all_processes(own, num_tokens)
            # Not in the handler, where the error still holds on to all that the failed attempt had made.
            _free_memory(self.device)
            self.statistics.begin_again()
            split += largest.ids
            batches = _halved(batches, largest)
            targets = [self._targets(batch) for batch in batches]

    def _seconds(self, batch: Batch) -> float:
        return _padded_length(batch) / self.sample_rate

    def _targets(self, batch: Batch) -> CtcTargets:
        return CtcTargets(batch.texts * self.objective.views, self.tokenizer, self.device)

    def _accumulate(
        self, batches: Sequence[Batch], targets: Sequence[CtcTargets], number: int, num_tokens: float
    ) -> UpdateResult:
        """The gradients and the result of this process's `batches`, whose losses are the sum over them by `num_tokens`."""
        self.optimizer.zero_grad(set_to_none=True)
        result = UpdateResult()
        names = [term.name for term in self.objective.terms]
        total = torch.zeros(1 + len(names), device=self.device)
        for position, (batch, target) in enumerate(zip(batches, targets, strict=True)):
            # The place among all batches of the update, so that one process would draw the same for it.
            place = position * self.workers.size + self.workers.rank
            seed = derived_seed(self.seed, number, place)
            losses = self._backward(batch, target, number, seed, num_tokens)
            seconds = 0.0 if batch.repeated else float(batch.num_samples.sum()) / self.sample_rate
            self.statistics.take(seconds)
            if not batch.repeated:
                total += torch.stack([losses.ctc.sum(), *losses.terms]) / num_tokens
                result.seconds += seconds
                result.utterances += len(batch)
                impossible = losses.impossible[: len(batch)].nonzero()[:, 0].tolist()
                result.impossible += [batch.ids[index] for index in impossible]
                result.unsaid_tokens += target.num_counted(losses.impossible)
        result.loss, *values = total.tolist()
        result.terms = dict(zip(names, values, strict=True))
        return result

    def _of_all_processes(self, own: UpdateResult, num_tokens: float) -> UpdateResult:
        """The result of an update, of whose `num_tokens` this process had `own` part."""
        seconds, utterances, unsaid, num_impossible, num_split, *values = self.workers.sum(
            own.seconds,
            own.utterances,
            own.unsaid_tokens,
            len(own.impossible),
            len(own.split),
            own.loss,
            *own.terms.values(),
        )
        # Gradients are divided by all tokens, since how many cannot be said is known too late for them.
        share = num_tokens / max(1.0, num_tokens - unsaid)
        loss, *values = (share * value for value in values)
        return UpdateResult(
            loss=loss,
            seconds=seconds,
            utterances=int(utterances),
            unsaid_tokens=int(unsaid),
            impossible=self.workers.gather(own.impossible) if num_impossible else [],
            split=self.workers.gather(own.split) if num_split else [],
            terms=dict(zip(own.terms, values, strict=True)),
        )

    def largest_batch_seconds(self, batches: BatchesConfig, longest: float, text: str) -> float:
        """The most seconds of audio, padding included, up to `batches.seconds`, whose gradients fit into memory, as tried.

        What is tried is noise in utterances of `longest` seconds that say `text`, which should be the longest: what an
        attention decoder keeps grows with frames times tokens. What does not fit is halved; 0: not one such utterance fits.
        Nothing is learnt from it. Each process tries by itself, and the answer is that of the one with the least memory.
        """
        reserved = self._room_for_optimizer()
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.train()
        length = max(1, round(longest * self.sample_rate))
        seconds = batches.seconds
        while seconds:
            count = min(batches.max_utterances, max(1, int(seconds * self.sample_rate) // length))
            if self._fits(count, length, text):
                break
            seconds = min(seconds, count * longest) / 2 if count > 1 else 0.0
        self.model.load_state_dict(state)
        del reserved
        return min(self.workers.gather([seconds]))

    def _room_for_optimizer(self) -> list[Tensor]:
        """As much memory as the optimiser takes from its first step on: two moments of each weight, as AdamW has."""
        if self.optimizer.state:
            return []
        weights = [
            weight for group in self.optimizer.param_groups for weight in group["params"] if weight.requires_grad
        ]
        return [torch.empty_like(weight) for weight in weights for _ in range(2)]

    def _fits(self, count: int, length: int, text: str) -> bool:
        """Whether the gradients of `count` utterances of `length` samples that say `text` fit into this process's memory."""
        num_features = self.model.config.num_stored_features
        shape = (count, length, num_features) if num_features else (count, length)
        nothing = ("",) * count
        noise = Batch(nothing, (text,) * count, nothing, 0.1 * torch.randn(shape), torch.full((count,), length))
        try:
            self._backward(noise, self._targets(noise), 0, self.seed, 1.0)
            fits = True
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        self.optimizer.zero_grad(set_to_none=True)
        _free_memory(self.device)
        return fits

    def _backward(self, batch: Batch, target: CtcTargets, number: int, seed: int, num_tokens: float) -> Losses:
        """Add the gradients of one batch; what its loss is made of."""
        torch.manual_seed(seed)
        batch = replace(batch, waveforms=batch.waveforms.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses: Losses = self.objective(batch, target, Augmenter(self.augment, seed, self.sample_rate), number)
        # Gradients become the mean over the processes, each of which has a share of the sum.
        share = 0 if batch.repeated else self.workers.size
        self.scaler.scale(share * losses.whole / num_tokens).backward()  # type: ignore[no-untyped-call]
        return losses


def _halved(batches: Sequence[Batch], largest: Batch) -> list[Batch]:
    """`batches`, but for `largest`, in whose place its halves stand."""
    half = len(largest) // 2
    halves = [largest.rows(0, half), largest.rows(half, len(largest))]
    return [part for batch in batches for part in (halves if batch is largest else [batch])]


def _padded_length(batch: Batch) -> int:
    """Samples or stored frames of `batch` with padding."""
    return batch.waveforms.shape[0] * batch.waveforms.shape[1]


def _free_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def gradient_norms(model: AcousticModel, clipped_to: float = 1.0) -> dict[str, float]:
    """The gradient's norm in each part of the model, as before it was clipped: how much learning reaches it."""
    gradients = {
        name: [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
        for name, part in model_parts(model).items()
    }
    return {name: float(nn.utils.get_total_norm(each)) / clipped_to for name, each in gradients.items()}
