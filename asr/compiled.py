"""Compilation by numba: at once, for given signatures, kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.signedinteger[Any]]


def compiled(*signatures: str, reorder_sums: bool = False) -> Callable[[Function], Function]:
    """A decorator that gives a function as machine code that runs without Python's lock.

    With signatures the cost falls on the import, not on the first utterance, and no other type is compiled by surprise.
    `reorder_sums` lets the compiler add in the order that suits the processor's vectors; what is not finite stays so.
    """

    def decorate(function: Function) -> Function:
        # Python's check of a division by zero would keep a loop from becoming vector instructions.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        if reorder_sums:
            options["fastmath"] = {"reassoc", "contract", "nsz"}
        try:
            result: Function = numba.njit(list(signatures), cache=True, **options)(function)
        except RuntimeError:
            # Neither the installation nor the user's cache folder can be written: compile anew in every process.
            result = numba.njit(list(signatures), **options)(function)
        return result

    return decorate
