"""Compiled loops on several threads: they run without Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from asr.model.bfloat16 import bits

# The compiled products take so many utterances at a time.
_AT_A_TIME = 4


def run_in_parts(kernel: Callable[..., None], directions: Sequence[Sequence[Tensor]], size: int) -> None:
    """Calls `kernel` for the tensors of each direction and each part of 0 to `size`, on as many threads as torch uses.

    It is given the tensors as arrays, as `bfloat16.bits` makes them, and where its part starts and stops.
    """
    num_threads = torch.get_num_threads()
    num_parts = -(-num_threads // len(directions))
    part = -(-size // (num_parts * _AT_A_TIME)) * _AT_A_TIME
    calls = [
        (*(bits(tensor).numpy() for tensor in tensors), start, min(start + part, size))
        for tensors in directions
        for start in range(0, size, part)
    ]
    if num_threads == 1:
        for arguments in calls:
            kernel(*arguments)
    else:
        for done in [_threads(num_threads).submit(kernel, *arguments) for arguments in calls]:
            done.result()


@lru_cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="kernel")
