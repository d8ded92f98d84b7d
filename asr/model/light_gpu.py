"""The loops over time of a light GRU's recurrence for a GPU: all steps of some utterances in one kernel, compiled by Triton.

Frame by frame, a GPU would wait for Python: a step is a product of a few microseconds. Here one launch takes all steps of
sixteen utterances, forward or backward; they need nothing of the others, so that no two programs ever wait for each other.
States go through memory from step to step, which a barrier among the threads of the program orders.
Letters as in `light_kernel.py`: S steps, B utterances, H hidden units; candidate a and gate z stand side by side.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Utterances of a program, the least that matrix units take; units that it computes at a time; terms that it sums at a time.
# The tiles on their way take 36 KiB of a multiprocessor's memory.
_TILES = {"tile_b": 16, "tile_j": 64, "tile_k": 32}
# Other in each batch. Triton would compile a kernel for numbers that are multiples of 16, and one for those that are not.
_VARYING = ["num_steps", "batch"]


def forward(inputs: Tensor, weight: Tensor, states: Tensor, gates: Tensor) -> None:
    """Sets states (S + 1, B, H) but for the first, and gates (S, B, 2H) = a, z; see `light_kernel.forward`.

    Args:
        inputs: (S, B, 2H) the input products, as all others contiguous and in float32 on one GPU.
        weight: (2H, H) recurrent weights.
        states: the first is given.
        gates: written only.
    """
    num_steps, batch, double = inputs.shape
    _launch(_forward, batch, (inputs, weight, states, gates), num_steps, double // 2)


def backward(
    d_states: Tensor, weight: Tensor, states: Tensor, gates: Tensor, d_inputs: Tensor, carried: Tensor
) -> None:
    """Sets d_inputs (S, B, 2H), and carried (B, H) to what reaches the first state beside the product with `weight`.

    Args:
        d_states: (S, B, H) gradient of the outputs.
        weight: (2H, H) recurrent weights.
        states: (S + 1, B, H) as `forward` left them.
        gates: (S, B, 2H) likewise.
        d_inputs: written only.
        carried: zeros.
    """
    num_steps, batch, size = d_states.shape
    _launch(_backward, batch, (d_states, weight, states, gates, d_inputs, carried), num_steps, size)


def _launch(kernel: Any, batch: int, tensors: tuple[Tensor, ...], num_steps: int, size: int) -> None:
    """`kernel` over all of the `batch`, with the precision in which cuDNN's recurrent kernels multiply."""
    precision = "tf32" if torch.backends.cudnn.rnn.fp32_precision == "tf32" else "ieee"  # type: ignore[attr-defined]
    programs = (triton.cdiv(batch, _TILES["tile_b"]),)
    with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]
        kernel[programs](
            *tensors, num_steps, batch, size=size, precision=precision, **_TILES, num_warps=8, num_stages=3
        )


@triton.jit(do_not_specialize=_VARYING)  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    inputs,
    weight,
    states,
    gates,
    num_steps,
    batch,
    size: tl.constexpr,
    precision: tl.constexpr,
    tile_b: tl.constexpr,
    tile_j: tl.constexpr,
    tile_k: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64) * tile_b + tl.arange(0, tile_b)
    for t in range(num_steps):
        row = (t * batch + b)[:, None]
        for first in range(0, size, tile_j):
            j = first + tl.arange(0, tile_j)
            inside = (b < batch)[:, None] & (j < size)[None, :]
            candidate, gate = row * 2 * size + j[None, :], row * 2 * size + size + j[None, :]
            a = tl.load(inputs + candidate, mask=inside, other=0.0)
            z = tl.load(inputs + gate, mask=inside, other=0.0)
            for start in range(0, size, tile_k):
                k = start + tl.arange(0, tile_k)
                known = (b < batch)[:, None] & (k < size)[None, :]
                h = tl.load(states + row * size + k[None, :], mask=known, other=0.0, cache_modifier=".cg")
                place = weight + j[None, :] * size + k[:, None]
                known = (j < size)[None, :] & (k < size)[:, None]
                a = tl.dot(h, tl.load(place, mask=known, other=0.0), a, input_precision=precision)
                z = tl.dot(h, tl.load(place + size * size, mask=known, other=0.0), z, input_precision=precision)
            a = tl.where(a < 0, 0.0, a)  # what is no number stays that
            z = 1 / (1 + tl.exp(-z))
            before = tl.load(states + row * size + j[None, :], mask=inside, other=0.0, cache_modifier=".cg")
            tl.store(gates + candidate, a, mask=inside)
            tl.store(gates + gate, z, mask=inside)
            tl.store(states + (row + batch) * size + j[None, :], a + z * (before - a), mask=inside)
        tl.debug_barrier()


@triton.jit(do_not_specialize=_VARYING)  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    d_states,
    weight,
    states,
    gates,
    d_inputs,
    carried,
    num_steps,
    batch,
    size: tl.constexpr,
    precision: tl.constexpr,
    tile_b: tl.constexpr,
    tile_j: tl.constexpr,
    tile_k: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64) * tile_b + tl.arange(0, tile_b)
    for step in range(num_steps):
        row = ((num_steps - 1 - step) * batch + b)[:, None]
        for first in range(0, size, tile_j):
            j = first + tl.arange(0, tile_j)
            inside = (b < batch)[:, None] & (j < size)[None, :]
            kept = carried + b[:, None] * size + j[None, :]
            g = tl.load(d_states + row * size + j[None, :], mask=inside, other=0.0)
            g += tl.load(kept, mask=inside, other=0.0, cache_modifier=".cg")
            # From the step after, of which the last has none.
            for start in range(0, 2 * size * min(step, 1), tile_k):
                k = start + tl.arange(0, tile_k)
                known = (b < batch)[:, None] & (k < 2 * size)[None, :]
                place = d_inputs + (row + batch) * 2 * size + k[None, :]
                d_u = tl.load(place, mask=known, other=0.0, cache_modifier=".cg")
                known = (k < 2 * size)[:, None] & (j < size)[None, :]
                u = tl.load(weight + k[:, None] * size + j[None, :], mask=known, other=0.0)
                g = tl.dot(d_u, u, g, input_precision=precision)
            candidate, gate = row * 2 * size + j[None, :], row * 2 * size + size + j[None, :]
            a = tl.load(gates + candidate, mask=inside, other=0.0)
            z = tl.load(gates + gate, mask=inside, other=0.0)
            h = tl.load(states + row * size + j[None, :], mask=inside, other=0.0)
            tl.store(d_inputs + candidate, tl.where(a > 0, g * (1 - z), 0.0), mask=inside)
            tl.store(d_inputs + gate, g * (h - a) * z * (1 - z), mask=inside)
            tl.store(kept, g * z, mask=inside)
        tl.debug_barrier()
