"""Products in bfloat16 by the matrix unit that some processors have (AMX, in Intel's server processors since 2023).

A recurrence multiplies a few rows by the same matrix at each step. There the unit is some ten times as fast as vector
instructions in float32 (`benchmarks/cells.py --bf16` times whole cells). It multiplies bfloat16 and sums in float32, so
that it is used where autocast asks for that type, and only there.

The unit has eight tiles of sixteen rows of 64 bytes. A tile of the left factor holds 16 rows of 32 numbers; one of the right
holds 16 columns, two rows of the matrix side by side in each of its own. Source: Intel 64 and IA-32 Architectures Software
Developer's Manual, volume 1, chapter 18.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from asr.compiled import Floats, Integers, compiled
from asr.model.bfloat16 import write

_ROWS, _COLUMNS, _TERMS = 16, 16, 32  # of a tile of the left factor, of the right, and what they share
_AT_A_TIME = 4  # tiles of the result that are summed together
_TILE_BYTES = 1024
# Linux saves the tiles of a process only after it was asked to (arch_prctl).
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18

_HAS_UNIT = platform.machine() == "x86_64" and llvmlite.binding.get_host_cpu_features().get("amx-bf16", False)


@lru_cache
def is_there() -> bool:
    """Whether this machine has a matrix unit and the system lets this process use it."""
    if not (_HAS_UNIT and platform.system() == "Linux"):
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def tiles_of(weight: Tensor, product_type: torch.dtype) -> Tensor:
    """The `weight` (J, K) as `products` takes it, (J / 16, K / 32, 16, 32), filled up with zeros; empty if it should not.

    It should where products may be of bfloat16, the `product_type`, and there is a unit.
    """
    if product_type != torch.bfloat16 or not is_there():
        return torch.empty(0, 0, 0, 0, dtype=torch.int16)
    num_columns, num_terms = weight.shape
    columns = -(-num_columns // (_COLUMNS * _AT_A_TIME)) * _AT_A_TIME
    terms = -(-num_terms // _TERMS)
    filled = torch.zeros(columns * _COLUMNS, terms * _TERMS, dtype=torch.bfloat16)
    filled[:num_columns, :num_terms] = weight.detach()
    pairs = filled.view(torch.int16).view(columns, _COLUMNS, terms, _TERMS // 2, 2)
    return pairs.permute(0, 2, 3, 1, 4).reshape(columns, terms, _TERMS // 2, 2 * _COLUMNS)


def _instruction(name: str, *tiles: int) -> Callable[..., None]:
    """The instruction `name` on `tiles`, as a compiled function of what it takes besides: address, bytes between rows."""

    def emit(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        numbers = [ir.Constant(ir.IntType(8), tile) for tile in tiles]
        values = [builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), *arguments[1:]] if arguments else []
        given = [*numbers, *values]
        signature = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        known = builder.module.globals.get(f"llvm.x86.{name}")
        builder.call(known or ir.Function(builder.module, signature, f"llvm.x86.{name}"), given)
        return context.get_dummy_value()

    # numba reads off these how many arguments there are.
    kinds: dict[str, Callable[..., Any]] = {
        "ldtilecfg": lambda _, address: (types.void(types.intp), emit),
        "tileloadd64": lambda _, address, stride: (types.void(types.intp, types.intp), emit),
        "tilestored64": lambda _, address, stride: (types.void(types.intp, types.intp), emit),
    }
    result: Callable[..., None] = intrinsic(kinds.get(name, lambda _: (types.void(), emit)))
    return result


_configure = _instruction("ldtilecfg")
_release = _instruction("tilerelease")
# Tiles 0 to 3 hold what is summed, 4 the left factor, 5 to 7 in turn the right.
_zero_0, _zero_1, _zero_2, _zero_3 = (_instruction("tilezero", tile) for tile in range(4))
_load_4, _load_5, _load_6, _load_7 = (_instruction("tileloadd64", tile) for tile in range(4, 8))
_add_0, _add_1, _add_2, _add_3 = (
    _instruction("tdpbf16ps", sum_, 4, right) for sum_, right in ((0, 5), (1, 6), (2, 7), (3, 5))
)
_store_0, _store_1, _store_2, _store_3 = (_instruction("tilestored64", tile) for tile in range(4))
# All tiles are whole: the first byte names the layout, then follow bytes per row, two bytes each, and rows, one byte each.
_LAYOUT = np.zeros(64, dtype=np.uint8)
_LAYOUT[0], _LAYOUT[16:32:2], _LAYOUT[48:56] = 1, 64, 16


def _multiply(rows: Floats, tiles: Integers, result: Floats) -> None:
    """Sets `result` (B, J) to the inner products of `rows` (B, K) with those (J, K) that `tiles_of` made `tiles` of."""
    num_rows, num_terms = rows.shape
    num_columns = result.shape[1]
    columns, terms = tiles.shape[:2]
    left = np.zeros((_ROWS, terms * _TERMS), dtype=np.int16)
    sums = np.empty((_ROWS, columns * _COLUMNS), dtype=np.float32)
    to_left, to_sums, to_tiles = left.ctypes.data, sums.ctypes.data, tiles.ctypes.data
    left_stride, sums_stride, next_column = 2 * left.shape[1], 4 * sums.shape[1], _TILE_BYTES * terms
    _configure(_LAYOUT.ctypes.data)
    for first in range(0, num_rows, _ROWS):
        count = min(_ROWS, num_rows - first)
        for b in range(count):
            write(left[b, :num_terms], rows[first + b])
        for column in range(0, columns, _AT_A_TIME):
            _zero_0()
            _zero_1()
            _zero_2()
            _zero_3()
            right = to_tiles + column * next_column
            for k in range(terms):
                _load_4(to_left + 64 * k, left_stride)
                _load_5(right + _TILE_BYTES * k, 64)
                _add_0()
                _load_6(right + _TILE_BYTES * k + next_column, 64)
                _add_1()
                _load_7(right + _TILE_BYTES * k + 2 * next_column, 64)
                _add_2()
                _load_5(right + _TILE_BYTES * k + 3 * next_column, 64)
                _add_3()
            place = to_sums + 64 * column
            _store_0(place, sums_stride)
            _store_1(place + 64, sums_stride)
            _store_2(place + 128, sums_stride)
            _store_3(place + 192, sums_stride)
        for b in range(count):
            result[first + b] = sums[b, :num_columns]
    _release()


def _nothing(rows: Floats, tiles: Integers, result: Floats) -> None:
    """What takes the place of `products` where there is no matrix unit, and is never called."""


products = compiled("void(float32[:, ::1], int16[:, :, :, ::1], float32[:, ::1])")(_multiply if _HAS_UNIT else _nothing)
