"""Whether one system is better than another on the same references, or chance would show as much.

Two tests, since each is blind where the other sees. The paired bootstrap resamples whole speakers or utterances, the same
for both systems, so it knows that errors come in clusters. The matched-pairs test compares stretches of words between
which both systems are right; there are many of them, so it sees smaller differences, and takes them for independent.

Sources: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation"; Gillick and Cox
1989, "Some statistical issues in the comparison of speech recognition algorithms" (MAPSSWE).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from asr.compiled import Integers
from asr.errors import ScoringError
from asr.scoring.report import UtteranceScore
from asr.scoring.resampling import NUM_RESAMPLES, resampled_sums
from asr.scoring.significance import FEWEST_BLOCKS, Unit, ends_of_interval, expansion
from asr.scoring.tally import Tally, errors_and_lengths

_GOOD_WORDS_BETWEEN = 2
SIGNIFICANT = 0.05
"""Below this a test's figure calls for another explanation than chance."""
# Standard errors of a difference that is found, at the 5 % level, in four tests out of five.
_DETECTABLE = 1.96 + 0.84
_FEW_SEGMENTS = 50


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems on the same references; rates and differences are fractions.

    Attributes:
        first, second: names of the systems.
        difference: word error rate of the first less that of the second: above 0, the second is better.
        low, high: 95 % interval of the difference, by the paired bootstrap; None where there is too little to resample.
        p_bootstrap: how often chance alone would show such a difference or a larger one, by the paired bootstrap; 1 there.
        p_matched_pairs: the same, by the matched-pairs test.
        segments: stretches of words that the matched-pairs test compares.
        detectable: the difference that a test on this data would find four times in five; None as for `low`.
        utterances: number of utterances.
        resampled: what the bootstrap takes for independent.
        beside: how many comparisons were made beside each other, this one included.
        p_holm: `p` by Holm's correction among these.
        alike: whether both make as many errors in every stretch of words.
    """

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p_bootstrap: float
    p_matched_pairs: float
    segments: int
    detectable: float | None
    utterances: int
    resampled: Unit
    beside: int = 1
    p_holm: float | None = None
    alike: bool = False

    @property
    def p(self) -> float:
        """The larger of the two tests' figures: a difference counts where both see it."""
        return max(self.p_bootstrap, self.p_matched_pairs)

    @property
    def is_significant(self) -> bool:
        """Whether chance would show such a difference less than once in 20 times, by both tests."""
        return self.p < SIGNIFICANT

    def sentence(self, they: str = "they", data: str = "this data") -> str:
        """What the comparison says, in plain words, with other words for what it is about and what it was made on."""
        if self.alike:
            return f"{self.first} and {self.second} have equally many errors in every part of this data"
        if self.difference == 0:
            return f"{self.first} and {self.second} have the same error rate{self._unseen(data)}"
        better, other, sign = (self.second, self.first, 1) if self.difference > 0 else (self.first, self.second, -1)
        digits = self._digits
        points = f"{100 * abs(self.difference):.{digits}f} points"
        if self.low is None or self.high is None:
            return f"{better} has {points} fewer errors than {other}{self._unseen(data)}"
        ends = sorted((sign * self.low, sign * self.high))
        # Adding zero takes the sign off a zero.
        low, high = (round(100 * end, digits) + 0.0 for end in ends)
        size = f"{points} [{low:.{digits}f}, {high:.{digits}f}]"
        if self.is_significant:
            return (
                f"{better} is better than {other} by {size}; if {they} were equally good, chance would show this "
                f"{_once_in(self.p)}"
            )
        return (
            f"no difference is shown between {self.first} and {self.second}: {better} has {size} fewer errors, but if "
            f"{they} were equally good, chance would show as much in {100 * self.p:.0f} of 100 tests{self._unseen(data)}"
        )

    @property
    def _digits(self) -> int:
        """Decimals of points: one, or as many as it takes that what is not zero does not read so, up to four."""
        ends = (self.low, self.high) if self.is_significant else ()
        least = min(abs(value) for value in (self.difference, *ends) if value)
        return next(digits for digits in (1, 2, 3, 4) if digits == 4 or round(100 * least, digits))

    def _unseen(self, data: str) -> str:
        """What differences the data are too few for."""
        if self.detectable is None:
            return f"; fewer than {FEWEST_BLOCKS} utterances are too few to tell whether that is chance"
        small = f"; differences below about {100 * self.detectable:.1f} points mostly go unseen on {data}"
        return small if self.detectable else ""

    def warnings(self) -> list[str]:
        """What speaks against relying on the comparison, in plain words; nothing where it promises nothing."""
        if self.low is None or self.high is None:
            return []
        found = []
        if self.segments < _FEW_SEGMENTS:
            found.append(
                f"{self.first} and {self.second} differ or err in {self.segments} stretches of words only: too few for the "
                "matched-pairs test to be exact"
            )
        if (self.p_bootstrap < SIGNIFICANT) != (self.p_matched_pairs < SIGNIFICANT):
            found.append(
                f"the tests disagree on {self.first} and {self.second}: p = {self.p_bootstrap:.3f} by the bootstrap over "
                f"{self.resampled}, {self.p_matched_pairs:.3f} by matched pairs"
            )
        if not self.is_significant and (self.low > 0 or self.high < 0):
            found.append(
                f"the interval of the difference between {self.first} and {self.second} leaves out 0, where not both tests "
                "see one: on so little data it comes out too narrow"
            )
        if self.is_significant and self.p_holm is not None and self.p_holm >= SIGNIFICANT:
            found.append(
                f"of {self.beside} comparisons chance would show one as clear as that of {self.first} and {self.second} in "
                f"{100 * self.p_holm:.0f} of 100 cases (Holm's correction)"
            )
        return found


def beside_each_other(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """`comparisons`, of which each knows what its test is worth where so many are made.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    if len(comparisons) < 2:
        return list(comparisons)
    adjusted = holm([comparison.p for comparison in comparisons])
    return [
        replace(comparison, beside=len(comparisons), p_holm=p)
        for comparison, p in zip(comparisons, adjusted, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` of several tests, so that all of them together call chance a difference as seldom as one test does.

    Example:
        >>> holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def compare(first: Sequence[UtteranceScore], second: Sequence[UtteranceScore], *, names: tuple[str, str]) -> Comparison:
    """The comparison of two systems' scores of the same utterances, in the same order.

    Raises:
        ScoringError: the scores are not of the same references.
    """
    if [(score.id, score.reference) for score in first] != [(score.id, score.reference) for score in second]:
        raise ScoringError(
            f"{names[0]} and {names[1]} were not scored on the same references, so they cannot be compared"
        )
    stretches = array("i")
    for pair in zip(first, second, strict=True):
        stretches.extend(one - other for one, other in matched_segments(*pair))
    return compare_tallies(Tally.of(first), Tally.of(second), stretches, names=names)


def compare_tallies(first: Tally, second: Tally, stretches: array[int], *, names: tuple[str, str]) -> Comparison:
    """The comparison of two systems whose scores of the same utterances were added to two tallies.

    Args:
        first: of the first system.
        second: of the other one.
        stretches: errors of the first less those of the second in each of the utterances' `matched_segments`.
        names: of the systems.
    """
    errors = errors_and_lengths(first.words), errors_and_lengths(second.words)
    counts = np.stack([errors[0][:, 0], errors[1][:, 0], errors[0][:, 1]], axis=1)
    blocks, unit = first.sums_of_blocks(counts)
    difference = float(_differences(blocks.sum(axis=0, dtype=np.int64)[None])[0])
    found = Comparison(
        first=names[0],
        second=names[1],
        difference=difference,
        low=None,
        high=None,
        p_bootstrap=1.0,
        p_matched_pairs=matched_pairs_test(np.asarray(stretches)),
        segments=len(stretches),
        detectable=None,
        utterances=len(first),
        resampled=unit,
        alike=not any(stretches),
    )
    if len(blocks) < FEWEST_BLOCKS:
        # Resamples of so few vary too little: of two utterances that differ alike, none shows that this may be chance.
        return found
    resampled = _differences(resampled_sums(blocks, np.random.default_rng(0)))
    # The resamples vary around the difference that was found as those of equal systems would around none, but for what
    # so few blocks cannot show.
    wider = expansion(len(blocks))
    as_far = int((wider * abs(resampled - difference) >= abs(difference)).sum())
    low, high = ends_of_interval(resampled, len(blocks))
    return replace(
        found,
        low=min(low, difference),
        high=max(high, difference),
        p_bootstrap=(as_far + 1) / (len(resampled) + 1),
        detectable=_DETECTABLE * wider * float(resampled.std()),
    )


def _once_in(p: float) -> str:
    if p <= 1 / NUM_RESAMPLES:
        return f"less than once in {NUM_RESAMPLES:,} times"
    return f"once in {1 / p:,.0f} times"


def _differences(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Differences of error rates (R,) of sums (R, 3); resamples without any word show none."""
    result: npt.NDArray[np.float64] = (sums[:, 0] - sums[:, 1]) / np.maximum(sums[:, 2], 1)
    return result


def matched_segments(first: UtteranceScore, second: UtteranceScore) -> Iterator[tuple[int, int]]:
    """Errors of the two systems in each stretch of one utterance that holds errors of either.

    A stretch ends where both systems are right for two words, so that what happens in one hardly bears on the next.

    Example:
        >>> from asr.scoring.report import score_utterance
        >>> said = "a b c d e f g"
        >>> pair = [score_utterance(id="", reference=said, hypothesis=heard) for heard in ("x b y d e f", "a c d e f z")]
        >>> list(matched_segments(*pair))
        [(2, 1), (1, 1)]
    """
    errors_of_stretch: tuple[int, int] | None = None
    num_good = 0
    for slot, errors in enumerate(zip(_errors_by_slot(first), _errors_by_slot(second), strict=True)):
        if errors != (0, 0):
            before = errors_of_stretch or (0, 0)
            errors_of_stretch = (before[0] + errors[0], before[1] + errors[1])
            num_good = 0
        elif slot % 2:
            num_good += 1
            if num_good == _GOOD_WORDS_BETWEEN and errors_of_stretch is not None:
                yield errors_of_stretch
                errors_of_stretch = None
    if errors_of_stretch is not None:
        yield errors_of_stretch


def _errors_by_slot(score: UtteranceScore) -> list[int]:
    """Errors at each slot: made-up words at 2 i, before word i or at the end, and at 2 i + 1 whether word i was missed."""
    errors = [0] * (2 * score.words.reference_length + 1)
    word = 0
    for part in score.differences:
        if not part.reference:
            errors[2 * word] += len(part.hypothesis)
        elif part.reference != part.hypothesis:
            errors[2 * word + 1 : 2 * (word + len(part.reference)) + 1 : 2] = [1] * len(part.reference)
        word += len(part.reference)
    return errors


def matched_pairs_test(differences: Integers) -> float:
    """How often chance alone would bring a mean of `differences` (n,) as far from 0: normal, both sides."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    deviation = float(differences.std(ddof=1))
    if deviation == 0:
        # All alike: the share of n fair coins that fall on one side.
        return float(2.0 ** (1 - len(differences)))
    distance = abs(float(differences.mean())) / (deviation / math.sqrt(len(differences)))
    return math.erfc(distance / math.sqrt(2))
