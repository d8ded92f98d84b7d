"""The bootstrap's inner loop: sums over blocks that are drawn with replacement, as machine code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from asr.compiled import Integers, compiled

NUM_RESAMPLES = 5000
"""Enough that the ends of the interval move by about a hundredth of its width from seed to seed."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def resampled_sums(
    values: Integers, generator: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> npt.NDArray[np.int64]:
    """Sums (R, C) of `num_resamples` resamples of the K blocks of `values` (K, C): of each, K rows drawn with replacement.

    All columns of a resample are of the same draw, so that they may be compared. The order of the blocks changes nothing.
    Memory does not grow with K times R.
    """
    seed = generator.integers(1 << 63, dtype=np.uint64)
    ordered = values[np.lexsort(values.T[::-1])]
    return _resampled_sums(np.ascontiguousarray(ordered, dtype=np.int64), seed, num_resamples)


@compiled("int64[:, ::1](int64[:, ::1], uint64, int64)")
def _resampled_sums(values: npt.NDArray[np.int64], seed: np.uint64, num_resamples: int) -> npt.NDArray[np.int64]:
    """`resampled_sums` with SplitMix64 as its source of chance, whose upper half chooses the block.

    Sources: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"; Lemire 2019, "Fast random integer
    generation in an interval", for a multiplication in the place of a division: its bias is below K / 2^32.
    """
    num_blocks, num_columns = values.shape
    sums = np.zeros((num_resamples, num_columns), dtype=np.int64)
    state = np.uint64(seed)
    for resample in range(num_resamples):
        for _ in range(num_blocks):
            state += _GOLDEN
            mixed = (state ^ (state >> np.uint64(30))) * _MIX_1
            mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
            mixed ^= mixed >> np.uint64(31)
            drawn = np.int64(((mixed >> np.uint64(32)) * np.uint64(num_blocks)) >> np.uint64(32))
            for column in range(num_columns):
                sums[resample, column] += values[drawn, column]
    return sums
