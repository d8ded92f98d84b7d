"""bfloat16 in compiled code, which has no such type: tensors of it come as int16, the bits as they are.

Frames in bfloat16 are half as long on their way to memory and back, which is what most of a training step on a CPU waits
for; in between, all is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

from asr.compiled import Floats

KINDS = ("float32", "int16")  # of arrays that `read` and `write` take

_NOT_A_NUMBER, _HALF_UNIT, _ONE = np.int32(0x7FC0), np.int32(0x7FFF), np.int32(1)


def bits(tensor: Tensor) -> Tensor:
    """`tensor` without its gradient, and bfloat16 as int16."""
    tensor = tensor.detach()
    return tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor


def read(row: Any, j: int) -> Any:
    """Number j of `row`, in float32; in compiled code only."""


def write(row: Any, values: Floats) -> None:
    """Sets `row` to the `values`, in float32; in compiled code only."""


# numba wants the same annotations below as in the functions that hold them.
@overload(read, inline="always")  # type: ignore[untyped-decorator]
def _read(row: Any, j: Any) -> Callable[..., Any]:
    def plain(row: Any, j: Any) -> Any:
        return row[j]

    def widened(row: Any, j: Any) -> Any:
        return np.int32(np.int32(row[j]) << 16).view(np.float32)

    return plain if row.dtype == types.float32 else widened


@overload(write)  # type: ignore[untyped-decorator]
def _write(row: Any, values: Any) -> Callable[..., None]:
    def plain(row: Any, values: Any) -> None:
        row[:] = values

    def rounded(row: Any, values: Any) -> None:
        numbers = values.view(np.int32)
        for j in range(len(row)):
            # To the nearest, and of two equally near ones to the even one; what is no number stays that.
            nearest = (numbers[j] + _HALF_UNIT + ((numbers[j] >> 16) & _ONE)) >> 16
            row[j] = nearest if values[j] == values[j] else _NOT_A_NUMBER

    return plain if row.dtype == types.float32 else rounded
