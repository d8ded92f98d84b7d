"""The loops over time of a GRU's recurrence, compiled: all steps of some utterances, forward and backward.

Steps of one utterance depend on each other and products at so small a batch are short, so what counts is that nothing comes
between them: no call, no intermediate result in memory. Letters: S steps, B utterances, H hidden units; the gates r, z, n
stand in this order side by side, as in torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.compiled import Floats, Integers, compiled
from asr.model import matrix_unit

_ROW, _MATRIX, _CUBE, _TILES = "float32[::1]", "float32[:, ::1]", "float32[:, :, ::1]", "int16[:, :, :, ::1]"
_ONE, _HALF = np.float32(1), np.float32(0.5)
# tanh(x) = x P(x^2) / Q(x^2) up to where float32 reaches 1, within a few units in the last place: Eigen's coefficients,
# of x^0, x^2, x^4, ...
_TANH_END = np.float32(7.90531110763549805)
_P = tuple(
    map(
        np.float32,
        (
            4.89352455891786e-03,
            6.37261928875436e-04,
            1.48572235717979e-05,
            5.12229709037114e-08,
            -8.60467152213735e-11,
            2.00018790482477e-13,
            -2.76076847742355e-16,
        ),
    )
)
_Q = tuple(map(np.float32, (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)))


@compiled("float32(float32)", reorder_sums=True)
def tanh(x: Any) -> Any:
    """Tanh in a form that the compiler turns into vector instructions; not a number stays that."""
    x = _TANH_END if x > _TANH_END else x
    x = -_TANH_END if x < -_TANH_END else x
    y = x * x
    p = _P[0] + y * (_P[1] + y * (_P[2] + y * (_P[3] + y * (_P[4] + y * (_P[5] + y * _P[6])))))
    return x * p / (_Q[0] + y * (_Q[1] + y * (_Q[2] + y * _Q[3])))


@compiled(f"void({_MATRIX}, {_MATRIX}, {_MATRIX})", reorder_sums=True)
def products(rows: Floats, columns: Floats, result: Floats) -> None:
    """Sets `result` (B, J) to the inner products of `rows` (B, K) with `columns` (J, K).

    Four rows by two columns at a time, so that each number read takes part in several products. Where these do not divide
    B and J, the last ones are computed twice.
    """
    num_rows, size = rows.shape
    num_columns = columns.shape[0]
    if num_rows < 4 or num_columns < 2:
        for b in range(num_rows):
            for j in range(num_columns):
                total = np.float32(0)
                for k in range(size):
                    total += rows[b, k] * columns[j, k]
                result[b, j] = total
        return
    for block in range(0, num_rows, 4):
        b = min(block, num_rows - 4)
        row0, row1, row2, row3 = rows[b], rows[b + 1], rows[b + 2], rows[b + 3]
        for pair in range(0, num_columns, 2):
            j = min(pair, num_columns - 2)
            left, right = columns[j], columns[j + 1]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
            for k in range(size):
                x, y = left[k], right[k]
                s0 += row0[k] * x
                s1 += row1[k] * x
                s2 += row2[k] * x
                s3 += row3[k] * x
                t0 += row0[k] * y
                t1 += row1[k] * y
                t2 += row2[k] * y
                t3 += row3[k] * y
            result[b, j], result[b + 1, j], result[b + 2, j], result[b + 3, j] = s0, s1, s2, s3
            result[b, j + 1], result[b + 1, j + 1], result[b + 2, j + 1], result[b + 3, j + 1] = t0, t1, t2, t3


@compiled(f"void({_MATRIX}, {_MATRIX}, {_TILES}, {_MATRIX})")
def multiply(rows: Floats, columns: Floats, tiles: Integers, result: Floats) -> None:
    """`products` in float32 if `tiles` is empty, else of the matrix unit's `tiles` of `columns`, in bfloat16."""
    if tiles.size:
        matrix_unit.products(rows, tiles, result)
    else:
        products(rows, columns, result)


@compiled(f"void({_CUBE}, {_MATRIX}, {_TILES}, {_ROW}, {_CUBE}, {_CUBE}, {_CUBE}, int64, int64)", reorder_sums=True)
def forward(
    inputs: Floats,
    weight: Floats,
    tiles: Integers,
    bias: Floats,
    states: Floats,
    gates: Floats,
    recurrent_n: Floats,
    start: int,
    stop: int,
) -> None:
    """All steps of the utterances from `start` to `stop`.

    With a = inputs[t] (S, B, 3H) and u = weight (3H, H) @ states[t] + bias (3H):

    r = sigma(a_r + u_r)    z = sigma(a_z + u_z)    n = tanh(a_n + r * u_n)    states[t + 1] = n + z * (states[t] - n)

    Sets states (S + 1, B, H) but for the first, gates (S, B, 3H) = r, z, n and recurrent_n (S, B, H) = u_n. `tiles` are
    those of the weight for the matrix unit, which then takes the products in bfloat16; empty for float32.
    """
    num_steps, _, triple = inputs.shape
    size = triple // 3
    u = np.empty((stop - start, triple), dtype=np.float32)
    for t in range(num_steps):
        multiply(states[t, start:stop], weight, tiles, u)
        for b in range(stop - start):
            a, recurrent, gate = inputs[t, start + b], u[b], gates[t, start + b]
            before, after, u_n = states[t, start + b], states[t + 1, start + b], recurrent_n[t, start + b]
            # One gate after the other: a loop that writes to one place is a loop that is vectorised.
            for j in range(2 * size):
                gate[j] = _HALF + _HALF * tanh(_HALF * (a[j] + recurrent[j] + bias[j]))
            for j in range(size):
                u_n[j] = recurrent[2 * size + j] + bias[2 * size + j]
            for j in range(size):
                gate[2 * size + j] = tanh(a[2 * size + j] + gate[j] * u_n[j])
            for j in range(size):
                after[j] = gate[2 * size + j] + gate[size + j] * (before[j] - gate[2 * size + j])


@compiled(f"void({_ROW}, {_ROW}, {_ROW}, {_ROW}, {_ROW}, {_ROW})", reorder_sums=True)
def gate_gradients(g: Floats, h: Floats, gate: Floats, u_n: Floats, d_in: Floats, d_u: Floats) -> None:
    """Sets d_in (3H) to the gradients of a_r, a_z, a_n and d_u (3H) to those of u_r, u_z, u_n, of one utterance's step."""
    size = len(g)
    for j in range(size):
        n = gate[2 * size + j]
        d_in[2 * size + j] = g[j] * (_ONE - gate[size + j]) * (_ONE - n * n)
    for j in range(size):
        z = gate[size + j]
        d_in[size + j] = g[j] * (h[j] - gate[2 * size + j]) * z * (_ONE - z)
    for j in range(size):
        r = gate[j]
        d_in[j] = d_in[2 * size + j] * u_n[j] * r * (_ONE - r)
    for j in range(size):
        d_u[2 * size + j] = d_in[2 * size + j] * gate[j]
    for j in range(2 * size):
        d_u[j] = d_in[j]


@compiled(
    f"void({_CUBE}, {_MATRIX}, {_TILES}, {_CUBE}, {_CUBE}, {_CUBE}, {_CUBE}, {_CUBE}, {_MATRIX}, int64, int64)",
    reorder_sums=True,
)
def backward(
    d_states: Floats,
    weight_t: Floats,
    tiles_t: Integers,
    states: Floats,
    gates: Floats,
    recurrent_n: Floats,
    d_inputs: Floats,
    d_recurrent_n: Floats,
    d_start: Floats,
    start: int,
    stop: int,
) -> None:
    """All steps of the utterances from `start` to `stop`, from the last to the first.

    With g the gradient of the state after step t, from the output d_states (S, B, H) and from step t + 1:

    d_n = g (1 - z) (1 - n^2)      d_z = g (h - n) z (1 - z), h the state before      d_r = d_n u_n r (1 - r)

    Sets d_inputs (S, B, 3H) to d_r, d_z, d_n, d_recurrent_n (S, B, H) to d_n r, the gradient of u_n, and d_start (B, H) to
    that of the first state; those of u_r and u_z are d_r and d_z. `weight_t` (H, 3H) is the recurrent weight transposed,
    `tiles_t` as in `forward`.
    """
    num_steps, _, size = d_states.shape
    num_rows = stop - start
    d_u = np.empty((num_rows, 3 * size), dtype=np.float32)
    d_h = np.zeros((num_rows, size), dtype=np.float32)
    carried = np.zeros((num_rows, size), dtype=np.float32)
    for t in range(num_steps - 1, -1, -1):
        for b in range(num_rows):
            row = start + b
            g, gate = d_h[b], gates[t, row]
            for j in range(size):
                g[j] += carried[b, j] + d_states[t, row, j]
            gate_gradients(g, states[t, row], gate, recurrent_n[t, row], d_inputs[t, row], d_u[b])
            d_recurrent_n[t, row] = d_u[b, 2 * size :]
            for j in range(size):
                carried[b, j] = g[j] * gate[size + j]
        multiply(d_u, weight_t, tiles_t, d_h)
    for b in range(num_rows):
        for j in range(size):
            d_start[start + b, j] = d_h[b, j] + carried[b, j]
