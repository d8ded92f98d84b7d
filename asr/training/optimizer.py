"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from asr.config import Section

_Share = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(Section):
    """Adam with decoupled weight decay. Source: Loshchilov & Hutter 2019."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=2e-3, gt=0, description="learning rate, of which warm-up and schedule take their shares")
    betas: tuple[_Share, _Share] = Field(default=(0.9, 0.98), description="decay of the first and second moments")
    l2: float = Field(default=0.01, ge=0, description="weight decay of matrices; biases and norms are left alone")
    l1: float = Field(default=0.0, ge=0, description="weight of the sum of absolute values of matrices")


class SgdConfig(Section):
    """Stochastic gradient descent with Nesterov momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0, description="learning rate, of which warm-up and schedule take their shares")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="0 is plain gradient descent")
    l2: float = Field(default=1e-5, ge=0, description="weight decay of matrices; biases and norms are left alone")
    l1: float = Field(default=0.0, ge=0, description="weight of the sum of absolute values of matrices")


OptimizerConfig = Annotated[AdamWConfig | SgdConfig, Field(discriminator="kind")]


class _WarmUpConfig(Section):
    warmup_updates: int = Field(default=100, ge=0, description="updates in which the learning rate rises from near 0")


class CosineConfig(_WarmUpConfig):
    """Half a cosine from `optimizer.lr` down to a share of it. Source: Loshchilov & Hutter 2017."""

    kind: Literal["cosine"] = "cosine"
    final_share: float = Field(default=0.01, ge=0, le=1, description="last rate as a share of optimizer.lr")

    def decay(self, progress: float, reductions: int) -> float:
        """Share of the optimiser's rate when `progress` (0 to 1) of the training is done."""
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2


class LinearConfig(_WarmUpConfig):
    """A straight line from `optimizer.lr` down to a share of it."""

    kind: Literal["linear"] = "linear"
    final_share: float = Field(default=0.01, ge=0, le=1, description="last rate as a share of optimizer.lr")

    def decay(self, progress: float, reductions: int) -> float:
        """Share of the optimiser's rate when `progress` (0 to 1) of the training is done."""
        return 1 - (1 - self.final_share) * progress


class PlateauConfig(_WarmUpConfig):
    """A constant rate that is reduced whenever the validation error stops falling."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1, description="each reduction multiplies the rate by this")
    patience: int = Field(default=2, ge=0, description="validations without improvement that are tolerated")

    def decay(self, progress: float, reductions: int) -> float:
        """Share of the optimiser's rate after `reductions` plateaus."""
        return self.factor**reductions


ScheduleConfig = Annotated[CosineConfig | LinearConfig | PlateauConfig, Field(discriminator="kind")]


def learning_rate(
    optimizer: AdamWConfig | SgdConfig,
    schedule: CosineConfig | LinearConfig | PlateauConfig,
    *,
    update: int,
    progress: float,
    reductions: int = 0,
) -> float:
    """The learning rate of update number `update` (from 0), when `progress` (0 to 1) of the training is done.

    Warm-up and schedule both begin at the first update, and the rate is the product of their shares: where a warm-up is a
    tenth of the training, the highest is 0.98 of the optimiser's with a cosine, 0.9 with a line.

    Example:
        >>> learning_rate(AdamWConfig(lr=1.0), LinearConfig(warmup_updates=10, final_share=0.0), update=4, progress=0.0)
        0.5
    """
    warm_up = min(1.0, (update + 1) / schedule.warmup_updates) if schedule.warmup_updates else 1.0
    return optimizer.lr * warm_up * schedule.decay(min(progress, 1.0), reductions)


def make_optimizer(config: AdamWConfig | SgdConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser for the parameters of `model` that are to learn; weight decay acts on matrices only."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.ndim > 1]
    vectors = [parameter for parameter in learning if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.l2}, {"params": vectors, "weight_decay": 0.0}]
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


@torch.no_grad()
def add_l1_gradient(model: nn.Module, l1: float) -> None:
    """Add the gradient of `l1` times the sum of absolute values of the matrices of `model`."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.grad is not None:
            parameter.grad.add_(parameter.sign(), alpha=l1)
