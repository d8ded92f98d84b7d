"""Variants against each other, two at a time: over all seeds, and beside all the others that are tested.

The seeds of a variant are put together utterance by utterance: its errors are summed over them, and the bootstrap draws
whole utterances (or speakers), for both variants of a pair the same. Seeds are thus never taken for further utterances. The
matched-pairs test does take the stretches of different seeds for independent, so its figure alone would promise too much;
a difference counts where both see it. Neither knows of other trainings; of these the spread of the seeds tells. The more
pairs there are, the more differences chance shows: Holm's correction says which of them are worth no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, variance

from asr.errors import ScoringError
from asr.scoring import SIGNIFICANT, Comparison, UtteranceScore, beside_each_other, compare
from asr.studies.compare import Plan, Variant

Scores = dict[tuple[str, str], dict[str, dict[int, list[UtteranceScore]]]]
"""The scores of all utterances by (subset, decoder), variant and seed."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A variant against another on one subset under one decoder.

    Attributes:
        subset, decoder: what was measured.
        first, second: names of the variants.
        seeds: those that both have.
        comparison: what the tests say, with `utterances` counted once and `segments` those of all seeds; None where the
            references differ.
        p_seeds: how often chance alone would show the means of so many seeds as far apart, as `p_of_means` has it, None for
            one seed.
        detectable_by_seeds: the difference of word error rates, a fraction, that a test over as many seeds would find four
            times in five, None for one seed. What the bootstrap over speech would find is `comparison.detectable`.
    """

    subset: str
    decoder: str
    first: str
    second: str
    seeds: tuple[int, ...]
    comparison: Comparison | None
    p_seeds: float | None
    detectable_by_seeds: float | None

    def sentences(self) -> list[str]:
        """What is to be said of it, in plain words."""
        if self.comparison is None:
            return [f"{self.first} and {self.second} write in different ways, so their errors cannot be compared."]
        found = [f"{self._sentence(self.comparison)}."]
        if min(self.comparison.p_bootstrap, self.comparison.p_matched_pairs) < SIGNIFICANT:
            # Where neither test sees a difference, what speaks against the tests is of no use.
            found += [f"But {text}." for text in self.comparison.warnings()]
        return [*found, *self._of_seeds(self.comparison)]

    def _sentence(self, comparison: Comparison) -> str:
        if self.detectable_by_seeds is None:
            return comparison.sentence("these trainings")
        if comparison.detectable is not None:
            # What speech could show is not shown where the seeds lie further apart, and the other way round.
            largest = max(comparison.detectable, self.detectable_by_seeds)
            comparison = replace(comparison, detectable=largest)
        return comparison.sentence("these trainings", f"this data with {len(self.seeds)} seeds")

    def _of_seeds(self, comparison: Comparison) -> Iterator[str]:
        """What the seeds say: the tests know of other test speech, and nothing of other trainings."""
        if self.p_seeds is None:
            if comparison.is_significant:
                yield f"But of {self.first} and {self.second} only one seed was trained: which is better may depend on it."
            return
        as_far = (
            f"were equally good in the mean, {len(self.seeds)} seeds of each would be as far apart in "
            f"{max(100 * self.p_seeds, 1):.0f} of 100 studies{' or fewer' if self.p_seeds < 0.01 else ''} (Student's t)."
        )
        if self.p_seeds < SIGNIFICANT:
            agree = "agree" if comparison.is_significant else "agree on this data, and other speech may not"
            yield f"The seeds {agree}: if other trainings {as_far}"
        elif comparison.is_significant:
            better = f"which of {self.first} and {self.second} is better"
            yield f"But {better} may depend on the seed: if other trainings {as_far}"
        else:
            yield f"Of other trainings the seeds say: if they {as_far}"


def tested_pairs(plan: Plan, scores: Scores) -> Iterator[Pair]:
    """The pairs of variants of `plan` that are compared, on every subset under every decoder."""
    names = list(compared(plan.variants))
    for (subset, decoder), of_variants in scores.items():
        pairs = []
        for first, second in names:
            one, other = of_variants.get(first, {}), of_variants.get(second, {})
            seeds = tuple(seed for seed in plan.seeds if seed in one and seed in other)
            if seeds:
                pairs.append(paired(subset, decoder, (first, second), seeds, one, other))
        # Those that cannot be compared are no test.
        tests = iter(beside_each_other([pair.comparison for pair in pairs if pair.comparison]))
        yield from (replace(pair, comparison=next(tests)) if pair.comparison else pair for pair in pairs)


def compared(variants: Sequence[Variant]) -> Iterator[tuple[str, str]]:
    """Each variant with the first; and with the one that is like it but for the first value of the first setting.

    So `cells=gru,lstm encoder.num_layers=1,2` also compares both cells at the same depth.
    """
    base = variants[0]
    key = next(iter(base.values))
    for variant in variants[1:]:
        yield base.name, variant.name
        values = {**variant.values, key: base.values[key]}
        counterpart = next(each for each in variants if each.values == values)
        if counterpart not in (base, variant):
            yield counterpart.name, variant.name


def paired(
    subset: str,
    decoder: str,
    names: tuple[str, str],
    seeds: tuple[int, ...],
    one: dict[int, list[UtteranceScore]],
    other: dict[int, list[UtteranceScore]],
) -> Pair:
    """The variants called `names`, whose scores by seed are `one` and `other`, on the `seeds` that both have."""
    comparison: Comparison | None
    try:
        comparison = compare(
            [each for seed in seeds for each in one[seed]],
            [each for seed in seeds for each in other[seed]],
            names=names,
        )
        comparison = replace(comparison, utterances=len(one[seeds[0]]))
    except ScoringError:
        comparison = None
    num_words = sum(each.words.reference_length for each in one[seeds[0]])
    first, second = ([sum(each.words.errors for each in scores[seed]) for seed in seeds] for scores in (one, other))
    return Pair(
        subset=subset,
        decoder=decoder,
        first=names[0],
        second=names[1],
        seeds=seeds,
        comparison=comparison,
        p_seeds=p_of_means(first, second) if len(seeds) > 1 else None,
        detectable_by_seeds=detectable_by_seeds(first, second) / num_words if len(seeds) > 1 else None,
    )


def p_of_means(first: Sequence[float], second: Sequence[float]) -> float:
    """How often the means of two times n trainings lie as far apart as these, where all are of one normal distribution.

    0 where the trainings of either side agree exactly and the sides do not: of a spread that is not seen, nothing is known.

    Student's t for 2 (n - 1) degrees of freedom, n of at least 2, whose probability is a finite sum: Abramowitz and Stegun
    1964, 26.7.4. Why trainings are taken for draws: Colas et al. 2018, "How many random seeds?".

    Example:
        >>> round(p_of_means([10, 11, 12], [14, 15, 16]), 4)
        0.008
    """
    apart = abs(mean(first) - mean(second))
    if apart == 0:
        return 1.0
    freedom = 2 * (len(first) - 1)
    return _p_beyond(math.atan2(apart, math.sqrt(freedom) * _standard_error(first, second)), freedom)


def detectable_by_seeds(first: Sequence[float], second: Sequence[float]) -> float:
    """The difference of means that `p_of_means` finds in four studies of five, where trainings spread as these.

    (t_0.975 + t_0.8) standard errors of the difference, with the quantiles of Student's t for 2 (n - 1) degrees of freedom:
    Bloom 1995, "Minimum detectable effects", in place of the noncentral t, by which this much is found in 77 of 100 studies
    of two trainings each and in 79 to 80 of more.
    """
    freedom = 2 * (len(first) - 1)
    # One side of 20 % is both of 40 %.
    return (_quantile(SIGNIFICANT, freedom) + _quantile(0.4, freedom)) * _standard_error(first, second)


def _standard_error(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the difference of the means of two times n values."""
    return math.sqrt((variance(first) + variance(second)) / len(first))


def _p_beyond(angle: float, freedom: int) -> float:
    """How often Student's t, for an even number of degrees, is beyond tan(`angle`) * sqrt(`freedom`), both sides."""
    term, total = 1.0, 0.0
    for step in range(freedom // 2):
        total += term
        term *= (2 * step + 1) / (2 * step + 2) * math.cos(angle) ** 2
    return max(0.0, 1 - math.sin(angle) * total)


def _quantile(p: float, freedom: int) -> float:
    """What Student's t, for an even number of degrees, is beyond with probability `p`, both sides."""
    low, high = 0.0, math.pi / 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _p_beyond(middle, freedom) > p else (low, middle)
    return math.tan(low) * math.sqrt(freedom)
