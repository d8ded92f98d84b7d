"""Variants against each other, two at a time: over all seeds, and beside all the others that are tested.

The seeds of a variant are put together utterance by utterance: its errors are summed over them, and the bootstrap draws
whole utterances (or speakers), for both variants of a pair the same. Seeds are thus never taken for further utterances. The
matched-pairs test does take the stretches of different seeds for independent, so its figure alone would promise too much;
a difference counts where both see it. The more pairs there are, the more differences chance shows: Holm's correction says
which of them are worth no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
        seeds_apart: whether every seed of one is better than every seed of the other.
    """

    subset: str
    decoder: str
    first: str
    second: str
    seeds: tuple[int, ...]
    comparison: Comparison | None
    seeds_apart: bool

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
        num_seeds = len(self.seeds)
        if num_seeds == 1:
            return f"But of {self.first} and {self.second} only one seed was trained: which is better may depend on it."
        if not self.seeds_apart:
            return f"But the seeds of {self.first} and {self.second} overlap: which is better may depend on the seed."
        return (
            f"All {num_seeds} seeds of one are better than all of the other; where both are equally good, that happens in "
            f"one of {math.comb(2 * num_seeds, num_seeds) // 2} studies."
        )


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
        seeds_apart=max(first) < min(second) or max(second) < min(first),
    )
