"""The loops over time of a light GRU's recurrence, compiled: all steps of some utterances, forward and backward.

As in `gru_kernel.py`. Letters: S steps, B utterances, H hidden units; candidate a and gate z stand side by side. Input
products, gates and the gradients of input products are in float32 or bfloat16 (`bfloat16.py`), all else in float32.
With `eps` above 0 the product with the state is layer-normalised (the stabilised form), with 0 it is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asr.compiled import Floats, Integers, compiled
from asr.model.bfloat16 import KINDS, read, write
from asr.model.gru_kernel import multiply, tanh

_MATRIX, _CUBE, _TILES = "float32[:, ::1]", "float32[:, :, ::1]", "int16[:, :, :, ::1]"
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
# A unit that the rectifier has silenced fades by its gate at each step until its state is no normal number any more, with
# which processors compute many times slower. Nothing hears so quiet a state.
_SILENT = np.float32(1e-30)


@compiled("float32(float32)")
def folded(z: Any) -> Any:
    """A gate as it is kept: z up to one half, else z - 1, so that what is near 1 does not become 1 in bfloat16."""
    if z <= _HALF:
        return z
    return -_SILENT if z == _ONE else z - _ONE  # what is no number stays that


@compiled("float32(float32)")
def unfolded(kept: Any) -> Any:
    """The gate z that `folded` gave as `kept`."""
    return kept if kept >= _ZERO else _ONE + kept


@compiled("float32(float32)")
def rest(kept: Any) -> Any:
    """1 - z of the gate z that `folded` gave as `kept`."""
    return _ONE - kept if kept >= _ZERO else -kept


@compiled("float32(float64, float32[::1])", reorder_sums=True)
def normalise(eps: float, values: Floats) -> Any:
    """Takes the mean from `values` (N,) and divides them by the root of their variance plus `eps`; the factor of that."""
    size = np.float32(len(values))
    total = squares = _ZERO
    for value in values:
        total += value
    mean = total / size
    for value in values:
        squares += (value - mean) * (value - mean)
    scale = np.float32(1 / math.sqrt(squares / size + eps))
    for j in range(len(values)):
        values[j] = (values[j] - mean) * scale
    return scale


@compiled("void(float32[::1], float32[::1], float32)", reorder_sums=True)
def through_normalisation(gradient: Floats, normed: Floats, scale: Any) -> None:
    """Turns the `gradient` (N,) of what `normalise` made, `normed`, into that of what it was given."""
    size = np.float32(len(gradient))
    total = along = _ZERO
    for j in range(len(gradient)):
        total += gradient[j]
        along += gradient[j] * normed[j]
    mean, slope = total / size, along / size
    for j in range(len(gradient)):
        gradient[j] = scale * (gradient[j] - mean - normed[j] * slope)


@compiled(
    *(
        f"void(float64, {kind}[:, :, ::1], {_MATRIX}, {_TILES}, {_CUBE}, {kind}[:, :, ::1], {_CUBE}, {_MATRIX}, "
        "int64, int64)"
        for kind in KINDS
    ),
    reorder_sums=True,
)
def forward(
    eps: float,
    inputs: Floats,
    weight: Floats,
    tiles: Integers,
    states: Floats,
    gates: Floats,
    normed: Floats,
    scales: Floats,
    start: int,
    stop: int,
) -> None:
    """All steps of the utterances from `start` to `stop`.

    With x = inputs[t] (S, B, 2H) and u = weight (2H, H) @ states[t], normalised or not:

    a = max(0, x_a + u_a)    z = sigma(x_z + u_z)    states[t + 1] = a + z * (states[t] - a)

    Sets states (S + 1, B, H) but for the first, and gates (S, B, 2H) = a, z `folded`; if u is normalised, also normed
    (S, B, 2H) = u and scales (S, B), what its deviations from their mean were multiplied with. `tiles` are those of the
    weight for the matrix unit, which then takes the products in bfloat16; empty for float32.
    """
    num_steps, _, double = inputs.shape
    size = double // 2
    u, gate = np.empty((stop - start, double), dtype=np.float32), np.empty(double, dtype=np.float32)
    for t in range(num_steps):
        multiply(states[t, start:stop], weight, tiles, u)
        for b in range(stop - start):
            x, recurrent = inputs[t, start + b], u[b]
            before, after = states[t, start + b], states[t + 1, start + b]
            if eps > 0:
                scales[t, start + b] = normalise(eps, recurrent)
                normed[t, start + b] = recurrent
            for j in range(size):
                a = read(x, j) + recurrent[j]
                gate[j] = _ZERO if a < _ZERO else a  # what is no number stays that
            for j in range(size, double):
                gate[j] = _HALF + _HALF * tanh(_HALF * (read(x, j) + recurrent[j]))
            for j in range(size):
                h = gate[j] + gate[size + j] * (before[j] - gate[j])
                after[j] = _ZERO if -_SILENT < h < _SILENT else h
            for j in range(size, double):
                gate[j] = folded(gate[j])
            write(gates[t, start + b], gate)


@compiled(
    *(
        f"void(float64, {_CUBE}, {_MATRIX}, {_TILES}, {_CUBE}, {kind}[:, :, ::1], {_CUBE}, {_MATRIX}, "
        f"{kind}[:, :, ::1], {_CUBE}, {_MATRIX}, int64, int64)"
        for kind in KINDS
    ),
    reorder_sums=True,
)
def backward(
    eps: float,
    d_states: Floats,
    weight_t: Floats,
    tiles_t: Integers,
    states: Floats,
    gates: Floats,
    normed: Floats,
    scales: Floats,
    d_inputs: Floats,
    d_products: Floats,
    d_start: Floats,
    start: int,
    stop: int,
) -> None:
    """All steps of the utterances from `start` to `stop`, from the last to the first.

    With g the gradient of the state after step t, from the output d_states (S, B, H) and from step t + 1, and h the state
    before:

    d_a = g (1 - z) where a > 0, else 0      d_z = g (h - a) z (1 - z)

    Sets d_inputs (S, B, 2H) to d_a, d_z, d_start (B, H) to the gradient of the first state and, where weight @ h was
    normalised, d_products (S, B, 2H) to that of this product; else it is d_inputs.
    `weight_t` (H, 2H) is the recurrent weight transposed, `tiles_t` as in `forward`.
    """
    num_steps, _, size = d_states.shape
    num_rows, double = stop - start, 2 * size
    d_u = np.empty((num_rows, double), dtype=np.float32)
    d_h = np.zeros((num_rows, size), dtype=np.float32)
    carried = np.zeros((num_rows, size), dtype=np.float32)
    for t in range(num_steps - 1, -1, -1):
        for b in range(num_rows):
            row = start + b
            g, gate, h, d_in, d_v = d_h[b], gates[t, row], states[t, row], d_inputs[t, row], d_u[b]
            for j in range(size):
                g[j] += carried[b, j] + d_states[t, row, j]
            for j in range(size):
                d_v[j] = g[j] * rest(read(gate, size + j)) if read(gate, j) > _ZERO else _ZERO
            for j in range(size):
                z = unfolded(read(gate, size + j))
                d_v[size + j] = g[j] * (h[j] - read(gate, j)) * z * rest(read(gate, size + j))
                carried[b, j] = g[j] * z
            write(d_in, d_v)
            if eps > 0:
                through_normalisation(d_v, normed[t, row], scales[t, row])
                d_products[t, row] = d_v
        multiply(d_u, weight_t, tiles_t, d_h)
    for b in range(num_rows):
        for j in range(size):
            d_start[start + b, j] = d_h[b, j] + carried[b, j]
