"""The light GRU's recurrence, compiled, with its gradient written out; `gru_recurrence.py` and `light_gpu.py` tell why."""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.model import light_kernel
from asr.model.device import is_out_of_memory
from asr.model.matrix_unit import tiles_of
from asr.model.threads import run_in_parts

_LOG = logging.getLogger(__name__)


def takes(inputs: Tensor, weight: Tensor, eps: float) -> bool:
    """Whether `light_gru` computes these: weights in float32, and on a GPU without normalisation."""
    if weight.dtype != torch.float32 or torch.compiler.is_exporting():
        return False
    return inputs.device.type == "cpu" or (inputs.device.type == "cuda" and eps == 0 and _runs_on(inputs.device))


def _gpu() -> ModuleType:
    """The kernels for a GPU, where Triton is installed."""
    from asr.model import light_gpu

    return light_gpu


@lru_cache
def _runs_on(gpu: torch.device) -> bool:
    """Whether Triton is there, with the C compiler that it calls, and its kernels are right on `gpu`; told once if not."""
    try:
        error = _error_on(gpu, _gpu())
    except Exception as failure:
        if is_out_of_memory(failure):
            raise  # with a smaller batch there may be room for it
        _LOG.warning("light GRU on %s: frame by frame and slow, since its kernels do not run there: %s", gpu, failure)
        return False
    if not error < 0.01:  # TF32 has ten bits
        _LOG.warning(
            "light GRU on %s: frame by frame and slow, since its kernels are wrong there by %.2g; please report it",
            gpu,
            error,
        )
        return False
    return True


def _error_on(gpu: torch.device, kernels: ModuleType) -> float:
    """By how much the states and gradients of a small problem differ from those on a CPU, as part of the largest."""
    drawn = torch.Generator().manual_seed(0)
    num_steps, batch, size = 4, 17, 70  # more than one program and one tile
    with torch.inference_mode(False), torch.enable_grad():
        inputs = torch.randn(num_steps, batch, 2 * size, generator=drawn, requires_grad=True)
        weight = torch.randn(2 * size, size, generator=drawn) / size**0.5
        start = torch.randn(batch, size, generator=drawn)
        expected = light_gru(inputs, weight, start)
        d_states = torch.randn(expected.shape, generator=drawn)
        (d_expected,) = torch.autograd.grad(expected, inputs, d_states)
    with torch.no_grad():
        states = torch.cat([start[None], torch.zeros_like(expected)]).to(gpu)
        gates, d_inputs = (torch.full(inputs.shape, torch.nan, device=gpu) for _ in range(2))
        kernels.forward(inputs.to(gpu), weight.to(gpu), states, gates)
        kernels.backward(d_states.to(gpu), weight.to(gpu), states, gates, d_inputs, torch.zeros_like(states[0]))
        differences = ((states[1:].cpu(), expected), (d_inputs.cpu(), d_expected))
        return float(
            torch.stack([(found - right).abs().max() / right.abs().max() for found, right in differences]).max()
        )


def light_gru(
    inputs: Tensor, weight: Tensor, start: Tensor, eps: float = 0.0, product_type: torch.dtype = torch.float32
) -> Tensor:
    """The states (S, B, H) of a light GRU after each frame, for what `takes` says yes to.

    Args:
        inputs: (S, B, 2H) the input products of candidate and gate; if in bfloat16, a CPU keeps the gates in it too.
        weight: (2H, H) their recurrent weights.
        start: (B, H) state before the first frame.
        eps: above 0, the recurrent product is layer-normalised, with this added to its variance.
        product_type: what factors of products may be rounded to, where that is faster; sums and states stay in float32.
    """
    if inputs.device.type != "cpu" or inputs.dtype != torch.bfloat16:
        inputs = inputs.float()
    states: Tensor = _LightRecurrence.apply(inputs, weight, start, eps, product_type)
    return states


class _LightRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, start: Tensor, eps: float, product_type: torch.dtype
    ) -> Tensor:
        num_steps, batch, double = inputs.shape
        states = weight.new_empty(num_steps + 1, batch, double // 2)
        states[0] = start
        gates = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        normed = weight.new_empty(inputs.shape if eps else (0, 0, 0))
        scales = weight.new_empty(inputs.shape[:2] if eps else (0, 0))
        inputs, weight = inputs.contiguous(), weight.contiguous()
        if inputs.device.type == "cpu":
            given = (inputs, weight, tiles_of(weight, product_type), states, gates, normed, scales)
            run_in_parts(partial(light_kernel.forward, eps), [given], batch)
        else:
            _gpu().forward(inputs, weight, states, gates)
        ctx.eps, ctx.product_type = eps, product_type
        ctx.save_for_backward(weight, states, gates, normed, scales)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        weight, states, gates, normed, scales = ctx.saved_tensors
        d_states, d_inputs = d_states.contiguous(), torch.empty_like(gates)
        if d_states.device.type == "cpu":
            d_products, d_start = torch.empty_like(normed), torch.empty_like(states[0])
            weight_t = weight.t().contiguous()
            given = (d_states, weight_t, tiles_of(weight_t, ctx.product_type), states, gates, normed, scales)
            kernel = partial(light_kernel.backward, ctx.eps)
            run_in_parts(kernel, [(*given, d_inputs, d_products, d_start)], states.shape[1])
            d_products = d_products if ctx.eps else d_inputs
        else:
            d_products, kept = d_inputs, torch.zeros_like(states[0])
            _gpu().backward(d_states, weight.contiguous(), states, gates, d_inputs, kept)
            d_start = torch.addmm(kept, d_products[0], weight)
        d_rows, before = (each.flatten(0, 1).to(ctx.product_type) for each in (d_products, states[:-1]))
        return d_inputs, (d_rows.t() @ before).float(), d_start, None, None
