"""Learning rates, weight decay groups and the L1 gradient."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from asr.config import validated
from asr.errors import ConfigError
from asr.training.optimizer import (
    AdamWConfig,
    CosineConfig,
    LinearConfig,
    PlateauConfig,
    SgdConfig,
    add_l1_gradient,
    learning_rate,
    make_optimizer,
)


def rates(schedule: CosineConfig | LinearConfig | PlateauConfig, num_updates: int = 100) -> list[float]:
    optimizer = SgdConfig(lr=2.0)
    return [
        learning_rate(optimizer, schedule, update=update, progress=update / num_updates)
        for update in range(num_updates + 1)
    ]


@pytest.mark.parametrize("schedule", [CosineConfig(warmup_updates=10), LinearConfig(warmup_updates=10)])
def test_rate_rises_to_its_peak_and_falls_to_its_floor(schedule: CosineConfig | LinearConfig) -> None:
    values = rates(schedule)
    peak = values.index(max(values))
    assert peak == 9
    assert all(left < right for left, right in pairwise(values[: peak + 1]))
    assert all(left > right for left, right in pairwise(values[peak:]))
    assert values[-1] == pytest.approx(2.0 * schedule.final_share)


def test_cosine_is_at_half_height_in_the_middle() -> None:
    schedule = CosineConfig(warmup_updates=0, final_share=0.0)
    assert learning_rate(SgdConfig(lr=2.0), schedule, update=50, progress=0.5) == pytest.approx(1.0)


def test_plateau_depends_on_reductions_alone() -> None:
    schedule = PlateauConfig(warmup_updates=0, factor=0.5)
    assert learning_rate(SgdConfig(lr=2.0), schedule, update=1, progress=0.9, reductions=3) == pytest.approx(0.25)


def test_progress_behind_the_end_stays_at_the_floor() -> None:
    schedule = LinearConfig(warmup_updates=0, final_share=0.1)
    assert learning_rate(SgdConfig(lr=1.0), schedule, update=5, progress=1.5) == pytest.approx(0.1)


@pytest.mark.parametrize("config", [AdamWConfig(l2=0.3), SgdConfig(l2=0.3)])
def test_weight_decay_spares_biases_and_norms(config: AdamWConfig | SgdConfig) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    decay = {
        parameter: group["weight_decay"]
        for group in make_optimizer(config, model).param_groups
        for parameter in group["params"]
    }
    assert len(decay) == 4
    assert {parameter.ndim: value for parameter, value in decay.items()} == {2: 0.3, 1: 0.0}


@pytest.mark.parametrize("config", [AdamWConfig(betas=(0.8, 0.9)), SgdConfig(l2=0.1), SgdConfig(momentum=0.0)])
def test_steps_are_those_of_the_papers(config: AdamWConfig | SgdConfig) -> None:
    """AdamW: Loshchilov & Hutter 2019, algorithm 2; Nesterov's momentum: Sutskever et al. 2013, as torch rearranges it."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = make_optimizer(config, model)
    weight, first, second = model.weight.item(), 0.0, 0.0
    for number, gradient in enumerate([0.5, -2.0, 1.0, 1.0], start=1):
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        if isinstance(config, AdamWConfig):
            one, two = config.betas
            first, second = one * first + (1 - one) * gradient, two * second + (1 - two) * gradient**2
            step = first / (1 - one**number) / (math.sqrt(second / (1 - two**number)) + 1e-8) + config.l2 * weight
        else:
            decayed = gradient + config.l2 * weight
            first = config.momentum * first + decayed
            step = decayed + config.momentum * first
        weight -= config.lr * step
        assert model.weight.item() == pytest.approx(weight, abs=1e-5)


def test_l1_gradient_is_that_of_the_sum_of_absolute_weights() -> None:
    model = nn.Linear(3, 2)
    inputs = torch.randn(5, 3)
    (model(inputs).square().sum() + 0.7 * model.weight.abs().sum()).backward()
    expected = model.weight.grad.clone()
    model.zero_grad()
    model(inputs).square().sum().backward()
    bias = model.bias.grad.clone()
    add_l1_gradient(model, 0.7)
    torch.testing.assert_close(model.weight.grad, expected)
    torch.testing.assert_close(model.bias.grad, bias)


@pytest.mark.parametrize("betas", [[0.9, 1.0], [1.5, 0.98], [-0.1, 0.98]])
def test_decay_of_moments_must_be_a_share(betas: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"betas.*(less than 1|greater than or equal to 0), found"):
        validated(AdamWConfig, {"betas": betas}, where="test")
