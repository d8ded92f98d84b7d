"""How sure an error rate is: its 95 % interval by the bootstrap.

Errors come in clusters: one speaker's accent, one noisy recording. Words are therefore never resampled by themselves;
whole blocks are, and each resample's rate is its errors over its reference length, as for the corpus.

Sources: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (utterances);
Liu and Peng 2020, "Statistical testing on ASR performance via blockwise bootstrap" (speakers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from asr.scoring.error_counts import ErrorCounts
from asr.scoring.resampling import resampled_sums

Unit = Literal["speakers", "utterances"]

FEWEST_SPEAKERS = 10
"""Below this, speakers are too few to resample: the spread among k blocks comes out too small by sqrt((k - 1) / k), and
Student's t with k - 1 degrees of freedom has longer tails than a normal. What is called 95 % covers some 90 % of the
cases at 10 blocks and 85 % at 5."""

_NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a rate lies with 95 % confidence, both ends included."""

    low: float
    high: float


def resampling_unit(speakers: Sequence[str]) -> Unit:
    """What to resample, given the speaker of each utterance ("" where unknown).

    Speakers where all are known and there are at least `FEWEST_SPEAKERS`: the interval then tells what to expect of
    further speakers. Else utterances, as if they were independent: it tells what to expect of further utterances of
    these same speakers, and is narrower than what new speakers would bring.

    Example:
        >>> resampling_unit(["anna", "bert"] * 20), resampling_unit([f"speaker {i}" for i in range(10)])
        ('utterances', 'speakers')
    """
    distinct = set(speakers)
    return "speakers" if "" not in distinct and len(distinct) >= FEWEST_SPEAKERS else "utterances"


def block_of_each(utterances: Sequence[tuple[str, str]]) -> tuple[list[str], Unit]:
    """The name of the block that each of `utterances` (id, speaker) belongs to, and what the blocks are."""
    unit = resampling_unit([speaker for _, speaker in utterances])
    return [speaker if unit == "speakers" else name for name, speaker in utterances], unit


def rate_interval(counts: Sequence[ErrorCounts], blocks: Sequence[str], generator: np.random.Generator) -> Interval:
    """The 95 % interval of the rate of `counts`, one per utterance, resampling `blocks`: a name per utterance.

    The percentile interval of many resamples, widened to hold the rate itself. It depends on the counts in
    each block, not on their order or names. Resamples without any reference word have no rate and are left out.

    The bootstrap sees only variation that is there: without any error, or with one block, all resamples agree. Then
    Wilson's interval for independent errors is given, e.g. up to 1.3 % after 300 words without an error.

    Raises:
        ValueError: the references hold nothing at all, so that there is no rate.
    """
    total = sum(counts, start=ErrorCounts())
    if total.reference_length == 0:
        raise ValueError("empty references have no error rate")
    errors, lengths = resampled_sums(_sums_of_blocks(counts, blocks), generator).T
    rates = errors[lengths > 0] / lengths[lengths > 0]
    low, high = map(float, np.quantile(rates, [0.025, 0.975]))
    if low == high:
        low, high = _wilson(min(total.rate, 1.0), total.reference_length)
    return Interval(low=min(low, total.rate), high=max(high, total.rate))


def _sums_of_blocks(counts: Sequence[ErrorCounts], blocks: Sequence[str]) -> npt.NDArray[np.int64]:
    """Errors and reference lengths (K, 2) of the K blocks, ordered by these numbers."""
    of_block: dict[str, ErrorCounts] = {}
    for count, block in zip(counts, blocks, strict=True):
        of_block[block] = of_block[block] + count if block in of_block else count
    return np.array(sorted((count.errors, count.reference_length) for count in of_block.values()), dtype=np.int64)


def _wilson(rate: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent trials.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    spread = _NORMAL_QUANTILE**2 / trials
    middle = rate + spread / 2
    half = math.sqrt(spread * (rate * (1 - rate) + spread / 4))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
