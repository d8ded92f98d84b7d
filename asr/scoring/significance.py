"""How sure an error rate is: its 95 % interval by the bootstrap.

Errors come in clusters: one speaker's accent, one noisy recording. Words are therefore never resampled by themselves;
whole blocks are, and each resample's rate is its errors over its reference length, as for the corpus.

Sources: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (utterances);
Liu and Peng 2020, "Statistical testing on ASR performance via blockwise bootstrap" (speakers); Hesterberg 2015, "What
teachers should know about the bootstrap" (the expanded percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from asr.compiled import Integers
from asr.scoring.resampling import resampled_sums

Unit = Literal["speakers", "utterances", "words"]
"""What an interval takes for independent; words where all resamples agree, so that there is no bootstrap."""

FEWEST_BLOCKS = 10
"""Below this, speakers are too few to resample, and utterances to compare systems. Expanded as `expansion` says, what is
called 95 % covers 95 % of the cases at 10 even blocks and 90 % at 10 very uneven ones, but 92 and 89 % at 5."""

_NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a rate lies with 95 % confidence, both ends included, and whether resamples say so or Wilson's formula."""

    low: float
    high: float
    is_bootstrap: bool = True


def resampling_unit(speakers: Sequence[str]) -> Unit:
    """What to resample, given the speaker of each utterance ("" where unknown).

    Speakers where at least `FEWEST_BLOCKS` are known: the interval then tells what to expect of further speakers. Else
    utterances, as if they were independent: it tells what to expect of further utterances of these same speakers, and is
    narrower than what new speakers would bring.

    Example:
        >>> resampling_unit(["anna", "bert"] * 20), resampling_unit([f"speaker {i}" for i in range(10)])
        ('utterances', 'speakers')
    """
    return "speakers" if len({*speakers} - {""}) >= FEWEST_BLOCKS else "utterances"


def is_unknown(speakers: Integers, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Of each utterance (U,) whether its speaker is not known, given the speakers' numbers (U,) and the names of these."""
    return np.array([not name for name in names], dtype=bool)[speakers]


def sums_of_blocks(
    values: Integers, speakers: Integers, names: Sequence[str], ids: Integers | None = None
) -> tuple[Integers, Unit]:
    """Sums (K, C) of `values` (U, C) of utterances over the K blocks that are resampled, and what these are.

    Among speakers, each utterance of an unknown one is a block of its own.

    Args:
        values: counts of each utterance.
        speakers: the number (U,) of each utterance's speaker.
        names: of the speakers, by their numbers, "" where unknown.
        ids: the number (U,) of each utterance's id where one may come several times, which is then one block; else None.
    """
    unit = resampling_unit([names[number] for number in np.unique(speakers)])
    of_each = ids
    if unit == "speakers":
        alone = len(names) + (np.arange(len(speakers)) if ids is None else ids)
        of_each = np.where(is_unknown(speakers, names), alone, speakers)
    if of_each is None:
        return values, unit
    blocks = np.unique(of_each)
    sums = np.zeros((len(blocks), values.shape[1]), dtype=np.int64)
    np.add.at(sums, np.searchsorted(blocks, of_each), values)
    return sums, unit


def expansion(num_blocks: int) -> float:
    """How much wider than the spread among resamples of so few blocks an interval of 95 % has to be.

    That spread comes out too small by sqrt((k - 1) / k), and Student's t with k - 1 degrees of freedom has longer tails than
    a normal: without it, what is called 95 % covers 91 % of the cases at 10 even blocks. Infinite for a block alone.

    Source of the quantile: Abramowitz and Stegun 1964, 26.7.5, within 1 part in 5,000 from 10 blocks on.

    Example:
        >>> [round(expansion(number), 3) for number in (10, 40, 1000)]
        [1.216, 1.045, 1.002]
    """
    if num_blocks < 2:
        return math.inf
    z, freedom = _NORMAL_QUANTILE, num_blocks - 1
    quantile = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    return quantile / z * math.sqrt(num_blocks / freedom)


def ends_of_interval(resampled: npt.NDArray[np.floating[Any]], num_blocks: int) -> tuple[float, float]:
    """The ends of the expanded percentile interval of 95 %, given what came of each resample (R,) of so many blocks."""
    beyond = NormalDist().cdf(-_NORMAL_QUANTILE * expansion(num_blocks))
    low, high = np.quantile(resampled, [beyond, 1 - beyond])
    return float(low), float(high)


def rate_interval(blocks: Integers, generator: np.random.Generator, repetitions: float = 1) -> Interval:
    """The 95 % interval of an error rate, resampling `blocks`: the errors and the reference length (K, 2) of each.

    Each utterance was heard `repetitions` times, as by several trainings of a system, which makes no more speech of it.

    The expanded percentile interval of many resamples, widened to hold the rate itself. It does not depend on the order of
    the blocks. Resamples without any reference word have no rate and are left out.

    The bootstrap sees only variation that is there: without any error, or with one block, all resamples agree. Then
    Wilson's interval for independent errors is given, e.g. up to 1.3 % after 300 words without an error.

    Raises:
        ValueError: the references hold nothing at all, so that there is no rate.
    """
    num_errors, num_words = map(int, blocks.sum(axis=0, dtype=np.int64))
    if num_words == 0:
        raise ValueError("empty references have no error rate")
    rate = num_errors / num_words
    errors, lengths = resampled_sums(blocks, generator).T
    rates = errors[lengths > 0] / lengths[lengths > 0]
    low, high = ends_of_interval(rates, len(blocks))
    is_bootstrap = low < high
    if not is_bootstrap:
        low, high = _score_interval(rate, num_words / repetitions)
    return Interval(low=min(low, rate), high=max(high, rate), is_bootstrap=is_bootstrap)


def _score_interval(rate: float, trials: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent trials; above 1, which is no share, that of a Poisson count.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    spread = _NORMAL_QUANTILE**2 / trials
    middle = rate + spread / 2
    if rate > 1:
        half = math.sqrt(spread * (rate + spread / 4))
        return middle - half, middle + half
    half = math.sqrt(spread * (rate * (1 - rate) + spread / 4))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)
