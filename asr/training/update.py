"""One update of the weights: forward, CTC loss, backward, clipping, step.

All randomness of an update follows from its number, so nothing random has to be saved to resume.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.config import Section
from asr.corpus.batches import Batch
from asr.errors import TrainingError
from asr.features.augment import AugmentConfig, Augmenter
from asr.lengths import frames_needed_by_ctc, valid_mask
from asr.model.acoustic import AcousticModel
from asr.text.tokenizer import Tokenizer
from asr.training.distributed import Workers
from asr.training.init import model_parts
from asr.training.optimizer import add_l1_gradient


class IntermediateCtcConfig(Section):
    """A CTC loss on lower layers too, through the same head: they learn earlier, and the top layers refine.

    Source: Lee & Watanabe 2021, "Intermediate Loss Regularization for CTC-based Speech Recognition".
    """

    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="recurrent layers, counted from 1, below the last"
    )
    weight: float = Field(default=0.3, gt=0, lt=1, description="their share of the loss, together")


class ConsistencyConfig(Section):
    """Two differently masked views of each utterance, each of which learns from the text and from the other.

    The divergence of the two distributions over tokens, summed over frames and averaged over both directions, is added to
    the mean of their CTC losses. It takes twice the computing, and strong masks in time make the views differ.

    Source: Yao et al. 2024, "CR-CTC: Consistency regularization on CTC for improved speech recognition".
    """

    weight: float = Field(default=0.2, gt=0, description="of the divergence beside the CTC loss")


class LossConfig(Section):
    """What is learnt besides CTC at the top; null switches it off."""

    intermediate_ctc: IntermediateCtcConfig | None = None
    consistency: ConsistencyConfig | None = None
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the divergence from an even distribution over tokens, per frame, against over-confidence "
        "(Kim, Hori & Watanabe 2017); 0: off",
    )


@dataclass
class UpdateResult:
    """What one update did.

    Attributes:
        loss: CTC loss in nats per token at the top of the model, of the utterances that have one.
        gradient_norm: before clipping; not finite when the update was left out.
        seconds: audio in the update, of all processes, as are utterances and impossible.
        utterances: number of them.
        impossible: ids of utterances with fewer encoder frames than CTC needs for their text.
        skipped: whether the weights were left alone because the gradient was not finite.
        split: ids of the batches that did not fit into memory and were halved.
    """

    loss: float = 0.0
    gradient_norm: float = 0.0
    seconds: float = 0.0
    utterances: int = 0
    impossible: list[str] = field(default_factory=list)
    skipped: bool = False
    split: list[str] = field(default_factory=list)


def derived_seed(*numbers: int) -> int:
    """A seed that depends on all `numbers` and on nothing else.

    Example:
        >>> derived_seed(1, 2) == derived_seed(1, 2), derived_seed(1, 2) == derived_seed(2, 1)
        (True, False)
    """
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class CtcTargets:
    """The token ids of some utterances, and which of them CTC can say at all."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, device: torch.device) -> None:
        tokens = [tokenizer.encode(text) for text in texts]
        self.lengths = torch.tensor([len(ids) for ids in tokens])
        self.frames_needed = torch.tensor([frames_needed_by_ctc(ids) for ids in tokens])
        self.tokens = pad_sequence([torch.tensor(ids, dtype=torch.int64) for ids in tokens], batch_first=True).to(
            device
        )

    def losses(self, log_probs: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """CTC loss of each utterance (B,) in nats, 0 where it is impossible, and which are impossible (B,), on the CPU.

        `log_probs` (B, S, V) must be float32: in half precision the sums over paths lose the small ones.
        """
        num_frames = num_frames.cpu()
        losses = nn.functional.ctc_loss(
            log_probs.transpose(0, 1),
            self.tokens,
            num_frames,
            self.lengths,
            blank=0,
            reduction="none",
            zero_infinity=True,
        )
        impossible = num_frames < self.frames_needed
        return losses.masked_fill(impossible.to(losses.device), 0.0), impossible


class _LayerOutputs(nn.Module):
    """What the losses are computed from: a module of its own, for DistributedDataParallel follows calls of modules."""

    def __init__(self, model: AcousticModel, layers: Sequence[int], views: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers
        self.views = views

    def forward(self, waveforms: Tensor, num_samples: Tensor, augmenter: Augmenter) -> tuple[list[Tensor], Tensor]:
        return self.model.after_layers(waveforms, num_samples, self.layers, augmenter, self.views)


class Updater:
    """Applies updates to `model`; the gradient of several batches, of all processes, is that of one batch of all of them."""

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        optimizer: torch.optim.Optimizer,
        *,
        augment: AugmentConfig,
        loss: LossConfig,
        max_gradient_norm: float,
        l1: float,
        dtype: torch.dtype,
        seed: int,
        workers: Workers | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.optimizer = optimizer
        self.augment = augment
        intermediate = loss.intermediate_ctc
        lower = () if intermediate is None else tuple(sorted(set(intermediate.layers)))
        self.workers = workers or Workers()
        self.label_smoothing = loss.label_smoothing
        self.consistency_weight = 0.0 if loss.consistency is None else loss.consistency.weight
        self.views = 1 if loss.consistency is None else 2
        self.outputs = self.workers.wrap(_LayerOutputs(model, (*lower, len(model.encoder.layers)), self.views))
        self.lower_weight = 0.0 if intermediate is None else intermediate.weight / len(lower)
        self.max_gradient_norm = max_gradient_norm
        self.l1 = l1
        self.dtype = dtype
        self.seed = seed
        self.device = next(model.parameters()).device
        self.sample_rate = model.config.features.sample_rate
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)

    def update(self, batches: Sequence[Batch], number: int, lr: float) -> UpdateResult:
        """Change the weights by the gradient of the mean loss per token over `batches`; `number` counts updates from 0."""
        self.model.train()
        result = self.accumulate(batches, number)
        self.scaler.unscale_(self.optimizer)
        if self.l1 > 0:
            add_l1_gradient(self.model, self.l1)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm or float("inf"))
        result.gradient_norm = float(norm)
        result.skipped = not bool(torch.isfinite(norm))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if not result.skipped:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return result

    def accumulate(self, batches: Sequence[Batch], number: int) -> UpdateResult:
        """Set the gradients of the mean loss per token over `batches`, without changing the weights.

        Batches that do not fit into the device's memory are halved until they do.

        Raises:
            TrainingError: a single utterance does not fit, or there are other processes, which could not follow.
        """
        split: list[str] = []
        while True:
            try:
                result = self._accumulate(batches, number)
            except torch.OutOfMemoryError as error:
                largest = max(batches, key=lambda batch: batch.waveforms.numel())
                if len(largest) == 1 or self.workers.size > 1:
                    seconds = largest.waveforms.numel() / self.sample_rate
                    raise TrainingError(
                        f"{self.device}: a batch of {len(largest)} utterances, {seconds:.0f} s with padding, does not fit "
                        f"into memory (the first is '{largest.ids[0]}'): lower batches.seconds, or leave long utterances out"
                    ) from error
                split += largest.ids
                half = len(largest) // 2
                halves = [largest.rows(0, half), largest.rows(half, len(largest))]
                batches = [part for batch in batches for part in (halves if batch is largest else [batch])]
                _free_memory(self.device)
            else:
                result.split = split
                return result

    def _accumulate(self, batches: Sequence[Batch], number: int) -> UpdateResult:
        self.optimizer.zero_grad(set_to_none=True)
        workers, result = self.workers, UpdateResult()
        targets = [CtcTargets(batch.texts * self.views, self.tokenizer, self.device) for batch in batches]
        own_tokens = sum(
            int(target.lengths.sum()) for batch, target in zip(batches, targets, strict=True) if not batch.repeated
        )
        num_tokens = max(1.0, workers.sum(own_tokens)[0])
        total = torch.zeros((), device=self.device)
        for position, (batch, target) in enumerate(zip(batches, targets, strict=True)):
            is_last = position == len(batches) - 1
            with contextlib.nullcontext() if is_last else workers.local_only(self.outputs):
                # The place among all batches of the update, so that one process would draw the same for it.
                place = position * workers.size + workers.rank
                top, impossible = self._backward(batch, target, derived_seed(self.seed, number, place), num_tokens)
            if not batch.repeated:
                total += top
                result.seconds += float(batch.num_samples.sum()) / self.sample_rate
                result.utterances += len(batch)
                result.impossible += impossible
        result.loss, result.seconds, utterances, num_impossible = workers.sum(
            float(total), result.seconds, result.utterances, len(result.impossible)
        )
        result.utterances = int(utterances)
        if num_impossible:
            result.impossible = workers.gather(result.impossible)
        return result

    def largest_batch_seconds(self, seconds: float, longest: float) -> float:
        """The most seconds of audio, padding included, up to `seconds`, whose gradients fit into memory, as tried.

        What is tried is noise in utterances of `longest` seconds; what does not fit is halved. Nothing is learnt from it.
        """
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.train()
        length = max(1, round(longest * self.sample_rate))
        num_features = self.model.config.num_stored_features
        while seconds > longest:
            count = max(1, int(seconds * self.sample_rate) // length)
            shape = (count, length, num_features) if num_features else (count, length)
            nothing = ("",) * count
            noise = Batch(nothing, nothing, nothing, 0.1 * torch.randn(shape), torch.full((count,), length))
            try:
                self._accumulate([noise], 0)
                break
            except torch.OutOfMemoryError:
                seconds /= 2
                _free_memory(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        self.model.load_state_dict(state)
        return seconds

    def _backward(self, batch: Batch, target: CtcTargets, seed: int, num_tokens: float) -> tuple[Tensor, list[str]]:
        """Add the gradients of one batch; its loss at the top, and the ids of impossible utterances."""
        torch.manual_seed(seed)
        waveforms = batch.waveforms.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            (*lower, top), num_frames = self.outputs(
                waveforms, batch.num_samples, Augmenter(self.augment, seed, self.sample_rate)
            )
        losses, impossible = target.losses(top, num_frames)
        loss = (1 - self.lower_weight * len(lower)) * losses.sum()
        for log_probs in lower:
            loss = loss + self.lower_weight * target.losses(log_probs, num_frames)[0].sum()
        if self.label_smoothing:
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * divergence_from_even(top, num_frames)
        if self.views == 2:
            loss = loss + self.consistency_weight * divergence_of_views(top, num_frames)
        # Gradients become the mean over the processes, each of which has a share of the sum.
        share = 0 if batch.repeated else self.workers.size
        self.scaler.scale(share * loss / num_tokens).backward()  # type: ignore[no-untyped-call]
        ids = [batch.ids[index] for index in impossible[: len(batch)].nonzero()[:, 0].tolist()]
        return losses.detach().sum() / num_tokens, ids


def _free_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def divergence_from_even(log_probs: Tensor, num_frames: Tensor) -> Tensor:
    """Kullback-Leibler divergence of an even distribution from `log_probs` (B, S, V), in nats, summed over valid frames."""
    mask = valid_mask(num_frames.to(log_probs.device), log_probs.shape[1])
    divergence = -log_probs.mean(-1) - math.log(log_probs.shape[-1])
    return divergence.masked_fill(~mask, 0.0).sum()


def divergence_of_views(log_probs: Tensor, num_frames: Tensor) -> Tensor:
    """How much two views of the same utterances disagree, in nats, summed over their valid frames.

    `log_probs` (2B, S, V) holds the first views, then the second; of each pair both learn from the other as it is, so the
    divergence counts once from each side, as the CTC losses of both views do.
    """
    mask = valid_mask(num_frames.to(log_probs.device), log_probs.shape[1])[..., None]
    others = torch.cat(log_probs.detach().chunk(2)[::-1])
    return nn.functional.kl_div(log_probs, others, reduction="none", log_target=True).masked_fill(~mask, 0.0).sum()


def gradient_norms(model: AcousticModel) -> dict[str, float]:
    """The gradient's norm in each part of the model: how much learning reaches it."""
    return {name: _gradient_norm(part) for name, part in model_parts(model).items()}


def _gradient_norm(module: nn.Module) -> float:
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if not gradients:
        return 0.0
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in gradients])))
