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
        comparison: what the tests say; None where the references differ.
        p_seeds: how often chance alone would show the means of so many seeds as far apart, as `p_of_means` has it, None for
            one seed.
    """

    subset: str
    decoder: str
    first: str
    second: str
    seeds: tuple[int, ...]
    comparison: Comparison | None
    p_seeds: float | None

    def sentences(self) -> list[str]:
        """What is to be said of it, in plain words."""
        if self.comparison is None:
            return [f"{self.first} and {self.second} write in different ways, so their errors cannot be compared."]
        found = [f"{self.comparison.sentence('these trainings')}."]
        if min(self.comparison.p_bootstrap, self.comparison.p_matched_pairs) < SIGNIFICANT:
            # Where neither test sees a difference, what speaks against the tests is of no use.
            found += [f"But {text}." for text in self.comparison.warnings()]
        if self.comparison.is_significant:
            found.append(self._of_seeds())
        return found

    def _of_seeds(self) -> str:
        """What the seeds say: the tests know of other test speech, and nothing of other trainings."""
        if self.p_seeds is None:
            return f"But of {self.first} and {self.second} only one seed was trained: which is better may depend on it."
        as_far = (
            f"if other trainings were equally good in the mean, {len(self.seeds)} seeds of each would be as far apart in "
            f"{max(100 * self.p_seeds, 1):.0f} of 100 studies{' or fewer' if self.p_seeds < 0.01 else ''} (Student's t)"
        )
        if self.p_seeds < SIGNIFICANT:
            return f"The seeds agree: {as_far}."
        return f"But which of {self.first} and {self.second} is better may depend on the seed: {as_far}."


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
    except ScoringError:
        comparison = None
    first, second = ([sum(each.words.errors for each in scores[seed]) for seed in seeds] for scores in (one, other))
    return Pair(
        subset=subset,
        decoder=decoder,
        first=names[0],
        second=names[1],
        seeds=seeds,
        comparison=comparison,
        p_seeds=p_of_means(first, second) if len(seeds) > 1 else None,
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
    num = len(first)
    apart, freedom = abs(mean(first) - mean(second)), 2 * (num - 1)
    spread = variance(first) + variance(second)
    if apart == 0:
        return 1.0
    # cos and sin of the angle whose tangent is t / sqrt(freedom)
    adjacent = math.sqrt(freedom * spread / num)
    longest = math.hypot(adjacent, apart)
    cosine, sine = adjacent / longest, apart / longest
    term, total = 1.0, 0.0
    for step in range(num - 1):
        total += term
        term *= (2 * step + 1) / (2 * step + 2) * cosine**2
    return max(0.0, 1 - sine * total)
