"""The recurrence of the GRU on a CPU, with its gradient written out.

torch's kernel on a CPU makes several calls per time step, sums the gradient of the recurrent weights at every step and runs
one direction after the other. Here the loop over time is compiled, the weights' gradient is one product at the end, and
directions and parts of the batch share the processor's cores: `benchmarks/gru.py` tells what that is worth. On a GPU cuDNN
does better than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model import gru_kernel
from asr.model.device import product_type
from asr.model.matrix_unit import tiles_of
from asr.model.threads import run_in_parts


def gru_directions(
    cells: Sequence[nn.GRU], inputs: Sequence[Tensor], states: Sequence[Tensor | None] = (None, None)
) -> list[Tensor]:
    """The outputs (S, B, H) of each of `cells`, one-layer GRUs of equal size, for its own `inputs` (S, B, I) in float32.

    Each starts from its own of `states` (1, B, H), None: from zeros. Equal to `cell(input, state)[0]`, up to rounding, and
    so are the gradients.
    """
    arguments: list[Tensor] = []
    for cell, frames, state in zip(cells, inputs, states[: len(cells)], strict=True):
        # In torch's order: input weights, recurrent weights, input biases, recurrent biases.
        input_weight, weight, input_bias, bias = cell.parameters()
        # Under autocast products are in half precision, the states never.
        arguments += [nn.functional.linear(frames, input_weight, input_bias).float(), weight, bias]
        arguments.append(weight.new_zeros(frames.shape[1], cell.hidden_size) if state is None else state[0])
    return list(_GruRecurrence.apply(product_type(inputs[0].device), *arguments))


class _GruRecurrence(torch.autograd.Function):
    """For each direction the states (S, B, H) of inputs (S, B, 3H), weight (3H, H), bias (3H) and first state (B, H).

    Factors of products may be rounded to the type of the first argument, where that is faster.
    """

    @staticmethod
    def forward(ctx: Any, rounded: torch.dtype, *arguments: Tensor) -> tuple[Tensor, ...]:
        ctx.rounded = rounded
        directions = []
        for inputs, weight, bias, start in zip(*(arguments[each::4] for each in range(4)), strict=True):
            num_steps, batch, triple = inputs.shape
            states = inputs.new_empty(num_steps + 1, batch, triple // 3)
            states[0] = start
            gates, recurrent_n = torch.empty_like(inputs), inputs.new_empty(num_steps, batch, triple // 3)
            tiles = tiles_of(weight, rounded)
            directions.append((inputs.contiguous(), weight, tiles, bias, states, gates, recurrent_n))
        run_in_parts(gru_kernel.forward, directions, batch)
        ctx.save_for_backward(*(tensor for direction in directions for tensor in (direction[1], *direction[4:])))
        return tuple(direction[4][1:] for direction in directions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        directions = []
        for position, d_states in enumerate(d_outputs):
            weight, states, gates, recurrent_n = saved[4 * position : 4 * position + 4]
            d_inputs, d_recurrent_n, d_start = map(torch.empty_like, (gates, recurrent_n, states[0]))
            weight_t = weight.t().contiguous()
            given = (d_states.contiguous(), weight_t, tiles_of(weight_t, ctx.rounded), states, gates, recurrent_n)
            directions.append((*given, d_inputs, d_recurrent_n, d_start))
        run_in_parts(gru_kernel.backward, directions, d_outputs[0].shape[1])
        gradients: list[Tensor | None] = [None]
        for _, _, _, states, _, _, d_inputs, d_recurrent_n, d_start in directions:
            size = d_recurrent_n.shape[-1]
            d_rz, d_n = d_inputs[..., : 2 * size].flatten(0, 1), d_recurrent_n.flatten(0, 1)
            before = states[:-1].flatten(0, 1).to(ctx.rounded)
            d_weight = torch.cat([part.to(ctx.rounded).t() @ before for part in (d_rz, d_n)]).float()
            gradients += [d_inputs, d_weight, torch.cat([d_rz.sum(0), d_n.sum(0)]), d_start]
        return tuple(gradients)
