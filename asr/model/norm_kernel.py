"""Batch normalisation of the valid frames of a batch, compiled, forward and backward.

torch's takes all rows that it is given. To keep padding out of it, the valid ones have to be copied to a place of their own
and back, and each copy of frames costs about as much as the norm itself, for both wait for memory. Here padding is passed
over, and frames are read and written in the number format that stands before and behind the norm.

Letters: N rows, each a frame of D features, in float32 or bfloat16 (`bfloat16.py`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asr.compiled import Floats, compiled
from asr.model.bfloat16 import KINDS, read, write


@compiled(
    *(
        f"void(float64, float64, {frames}[:, ::1], boolean[::1], float32[::1], float32[::1], float64[::1], float64[::1], "
        f"{normed}[:, ::1], int64, int64)"
        for frames in KINDS
        for normed in KINDS
    ),
    reorder_sums=True,
)
def forward(
    eps: float,
    padding: float,
    frames: Floats,
    valid: Any,
    weight: Floats,
    bias: Floats,
    mean: Floats,
    variance: Floats,
    normed: Floats,
    start: int,
    stop: int,
) -> None:
    """Of the features from `start` to `stop`: sets `mean` and `variance` (D) of `frames` (N, D), and `normed` (N, D).

    Only rows that are `valid` (N) count; the others become `padding`. The variance is divided by the number of rows; with
    it and `eps`, normed = (frames - mean) / sqrt(variance + eps) * weight + bias.
    """
    size = stop - start
    sums, squares = np.zeros(size), np.zeros(size)
    count = 0
    for i in range(len(frames)):
        if valid[i]:
            count += 1
            row = frames[i, start:stop]
            for j in range(size):
                value = np.float64(read(row, j))
                sums[j] += value
                squares[j] += value * value
    middle = np.empty(size, dtype=np.float32)
    scale, line = np.empty_like(middle), np.empty_like(middle)
    for j in range(size):
        mean[start + j] = sums[j] / count
        variance[start + j] = max(0.0, squares[j] / count - mean[start + j] ** 2)
        middle[j] = mean[start + j]
        scale[j] = weight[start + j] / math.sqrt(variance[start + j] + eps)
    offset = bias[start:stop]
    for i in range(len(frames)):
        row, result = frames[i, start:stop], normed[i, start:stop]
        if valid[i]:
            for j in range(size):
                line[j] = (read(row, j) - middle[j]) * scale[j] + offset[j]
        else:
            line[:] = padding
        write(result, line)


@compiled(
    *(
        f"void(float64, {normed}[:, ::1], {frames}[:, ::1], boolean[::1], float32[::1], float64[::1], float64[::1], "
        f"{frames}[:, ::1], float32[::1], float32[::1], int64, int64)"
        for frames in KINDS
        for normed in KINDS
    ),
    reorder_sums=True,
)
def backward(
    eps: float,
    d_normed: Floats,
    frames: Floats,
    valid: Any,
    weight: Floats,
    mean: Floats,
    variance: Floats,
    d_frames: Floats,
    d_weight: Floats,
    d_bias: Floats,
    start: int,
    stop: int,
) -> None:
    """Of the features from `start` to `stop`: the gradients of what `forward` was given, from that of `normed`.

    With x = (frames - mean) / sqrt(variance + eps) and g the gradient of normed, d_bias is the sum of g over valid rows,
    d_weight that of g x, and

    d_frames = weight / sqrt(variance + eps) * (g - mean of g - x * mean of (g x))
    """
    size = stop - start
    sums, products = np.zeros(size), np.zeros(size)
    middle = mean[start:stop].astype(np.float32)
    count = 0
    for i in range(len(frames)):
        if valid[i]:
            count += 1
            row, gradient = frames[i, start:stop], d_normed[i, start:stop]
            for j in range(size):
                g = read(gradient, j)
                sums[j] += np.float64(g)
                products[j] += np.float64(g * (read(row, j) - middle[j]))
    scale, offset, slope = np.empty_like(middle), np.empty_like(middle), np.empty_like(middle)
    line = np.empty_like(middle)
    for j in range(size):
        inverse = 1 / math.sqrt(variance[start + j] + eps)
        d_bias[start + j], d_weight[start + j] = sums[j], products[j] * inverse
        scale[j] = weight[start + j] * inverse
        offset[j] = scale[j] * sums[j] / count
        slope[j] = scale[j] * products[j] * inverse * inverse / count
    for i in range(len(frames)):
        row, gradient, result = frames[i, start:stop], d_normed[i, start:stop], d_frames[i, start:stop]
        if valid[i]:
            for j in range(size):
                line[j] = read(gradient, j) * scale[j] - offset[j] - (read(row, j) - middle[j]) * slope[j]
            write(result, line)
        else:
            result[:] = 0
