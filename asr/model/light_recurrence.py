"""The recurrence of the light GRU on a CPU, with its gradient written out; why, `gru_recurrence.py` tells."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.model import light_kernel
from asr.model.gru_recurrence import run_in_parts


def light_gru(inputs: Tensor, weight: Tensor, start: Tensor, eps: float = 0.0) -> Tensor:
    """The states (S, B, H) of a light GRU after each frame, in float32 on a CPU.

    Args:
        inputs: (S, B, 2H) the input products of candidate and gate.
        weight: (2H, H) their recurrent weights.
        start: (B, H) state before the first frame.
        eps: above 0, the recurrent product is layer-normalised, with this added to its variance.
    """
    states: Tensor = _LightRecurrence.apply(inputs, weight, start, eps)
    return states


class _LightRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, start: Tensor, eps: float) -> Tensor:
        num_steps, batch, double = inputs.shape
        states = torch.cat([start[None], inputs.new_empty(num_steps, batch, double // 2)])
        gates = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        normed = torch.empty_like(gates) if eps else inputs.new_empty(0, 0, 0)
        scales = inputs.new_empty(num_steps, batch) if eps else inputs.new_empty(0, 0)
        tensors = (inputs.contiguous(), weight.contiguous(), states, gates, normed, scales)
        run_in_parts(partial(light_kernel.forward, eps), [tensors], batch)
        ctx.eps = eps
        ctx.save_for_backward(weight, states, gates, normed, scales)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        weight, states, gates, normed, scales = ctx.saved_tensors
        d_inputs, d_products, d_start = torch.empty_like(gates), torch.empty_like(gates), torch.empty_like(states[0])
        given = (d_states.contiguous(), weight.t().contiguous(), states, gates, normed, scales)
        run_in_parts(
            partial(light_kernel.backward, ctx.eps), [(*given, d_inputs, d_products, d_start)], states.shape[1]
        )
        d_weight = d_products.flatten(0, 1).t() @ states[:-1].flatten(0, 1)
        return d_inputs, d_weight, d_start, None
