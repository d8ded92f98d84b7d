"""Properties of the comparison of systems: what it says holds as often as it says, whatever the systems are called."""

from __future__ import annotations

import math
import random

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring import Comparison, UtteranceScore, beside_each_other, compare, score_utterance
from asr.scoring.comparison import holm, matched_pairs_test, matched_segments
from asr.scoring.error_counts import count_words
from asr.scoring.resampling import resampled_sums

WORDS = [f"w{number}" for number in range(50)]


def damaged(words: list[str], share: float, generator: random.Random) -> str:
    """`words` with each exchanged, dropped or followed by another with probability `share`."""
    heard: list[str] = []
    for word in words:
        draw = generator.random()
        heard += [generator.choice(WORDS)] if draw < share / 3 else [] if draw < share * 2 / 3 else [word]
        heard += [generator.choice(WORDS)] if draw > 1 - share / 3 else []
    return " ".join(heard)


def pair_of_systems(
    seed: int, shares: tuple[float, float], utterances: int = 40
) -> tuple[list[UtteranceScore], list[UtteranceScore]]:
    """Scores of two systems that err independently at about these rates; some utterances are harder for both."""
    generator = random.Random(seed)
    first, second = [], []
    for number in range(utterances):
        words = generator.choices(WORDS, k=generator.randint(4, 20))
        hardness = generator.choice([0.5, 1.5])
        for scores, share in ((first, shares[0]), (second, shares[1])):
            heard = damaged(words, hardness * share, generator)
            scores.append(score_utterance(id=str(number), reference=" ".join(words), hypothesis=heard))
    return first, second


@pytest.fixture(scope="module")
def of_equals() -> list[Comparison]:
    """Comparisons of 400 pairs of systems that are equally good."""
    return [compare(*pair_of_systems(seed, (0.2, 0.2)), names=("a", "b")) for seed in range(400)]


def test_p_values_are_uniform_where_systems_are_equal(of_equals: list[Comparison]) -> None:
    for values in (
        np.array([comparison.p_bootstrap for comparison in of_equals]),
        np.array([comparison.p_matched_pairs for comparison in of_equals]),
    ):
        # Three standard deviations of a share of 400 tests, and a point for what is only nearly normal.
        for level in (0.05, 0.2, 0.5, 0.8):
            assert (values < level).mean() == pytest.approx(level, abs=0.01 + 3 * (level * (1 - level) / 400) ** 0.5)
    inside = np.mean([comparison.low <= 0 <= comparison.high for comparison in of_equals])
    assert inside == pytest.approx(0.95, abs=0.04)


def test_among_many_equals_a_difference_is_called_one_as_seldom_as_with_two(of_equals: list[Comparison]) -> None:
    families = [beside_each_other(of_equals[start : start + 8]) for start in range(0, 400, 8)]
    alarms = np.mean([any(each.is_significant and not each.warnings() for each in family) for family in families])
    of_one = np.mean([any(each.is_significant for each in family) for family in families])
    assert of_one > 0.15, "without the correction it would be called one far too often"
    assert alarms <= 0.05 + 3 * (0.05 * 0.95 / 50) ** 0.5
    assert beside_each_other(of_equals[:1]) == of_equals[:1]


@given(st.lists(st.floats(0, 0.1), max_size=8))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    level = 0.05
    rejected: set[int] = set()
    for at in sorted(range(len(p_values)), key=lambda each: p_values[each]):
        if p_values[at] * (len(p_values) - len(rejected)) >= level:
            break
        rejected.add(at)
    assert {at for at, p in enumerate(holm(p_values)) if p < level} == rejected


def test_a_real_difference_is_found_about_as_often_as_promised() -> None:
    found = [compare(*pair_of_systems(seed, (0.2, 0.16), 100), names=("a", "b")) for seed in range(100)]
    detectable = float(np.mean([comparison.detectable for comparison in found]))
    true = float(np.mean([comparison.difference for comparison in found]))
    power = np.mean([comparison.p_bootstrap < 0.05 for comparison in found])
    # 80 % at the detectable difference; at another one as the normal distribution has it.
    expected = 0.5 * (1 + math.erf((2.8 * true / detectable - 1.96) / 2**0.5))
    assert power == pytest.approx(expected, abs=0.15)


def test_swapping_the_systems_swaps_the_sign_and_nothing_else() -> None:
    first, second = pair_of_systems(3, (0.3, 0.1))
    one, other = compare(first, second, names=("a", "b")), compare(second, first, names=("b", "a"))
    assert one.difference == -other.difference > 0
    assert one.p_matched_pairs == other.p_matched_pairs
    assert one.segments == other.segments
    assert one.sentence().startswith("b is better than a by ")
    assert other.sentence().startswith("b is better than a by ")


def test_an_end_at_zero_has_no_sign() -> None:
    said = Comparison(
        first="a", second="b", difference=-0.007, low=-0.016, high=0.0, p_bootstrap=0.1, p_matched_pairs=0.03,
        segments=12, detectable=0.01, utterances=900, resampled="utterances",
    ).sentence()  # fmt: skip
    assert "0.7 points [0.0, 1.6]" in said


def test_a_difference_that_is_one_does_not_read_as_none() -> None:
    facts = {
        "first": "a",
        "second": "b",
        "segments": 80,
        "detectable": 0.0,
        "utterances": 900,
        "resampled": "utterances",
    }
    small = Comparison(difference=0.00041, low=0.0003, high=0.0008, p_bootstrap=0.001, p_matched_pairs=0.001, **facts)  # type: ignore[arg-type]
    assert "by 0.04 points [0.03, 0.08]" in small.sentence()
    unseen = Comparison(difference=0.004, low=-0.0001, high=0.008, p_bootstrap=0.3, p_matched_pairs=0.3, **facts)  # type: ignore[arg-type]
    assert "0.4 points [0.0, 0.8]" in unseen.sentence()


def test_an_interval_without_zero_beside_a_test_that_sees_nothing_is_explained() -> None:
    facts = {
        "first": "a", "second": "b", "difference": -0.1, "low": -0.2, "p_bootstrap": 0.063, "p_matched_pairs": 0.029,
        "segments": 80, "detectable": 0.01, "utterances": 90, "resampled": "utterances",
    }  # fmt: skip
    assert "leaves out 0" in " ".join(Comparison(high=-0.017, **facts).warnings())  # type: ignore[arg-type]
    assert "leaves out 0" not in " ".join(Comparison(high=0.001, **facts).warnings())  # type: ignore[arg-type]
    sure = facts | {"p_bootstrap": 0.001}
    assert "leaves out 0" not in " ".join(Comparison(high=-0.017, **sure).warnings())  # type: ignore[arg-type]


def test_of_ten_utterances_the_bootstrap_sees_as_much_as_students_t() -> None:
    generator = np.random.default_rng(0)
    seen, students = [], []
    for _ in range(200):
        better = generator.binomial(1, 0.5, (10, 30)) * (generator.random((10, 1)) < 0.7)
        first, second = (
            [
                score_utterance(id=str(number), reference="a " * 30, hypothesis=" ".join("ab"[wrong] for wrong in row))
                for number, row in enumerate(rows)
            ]
            for rows in (generator.binomial(1, 0.25, (10, 30)), better)
        )
        each = [one.words.errors - other.words.errors for one, other in zip(first, second, strict=True)]
        seen.append(compare(first, second, names=("a", "b")).p_bootstrap < 0.05)
        students.append(abs(np.mean(each)) > 2.2622 * np.std(each, ddof=1) / 10**0.5)
    assert 0.1 < np.mean(students) < 0.9
    assert np.mean(seen) == pytest.approx(np.mean(students), abs=0.03)


def test_of_texts_that_hardly_ever_hold_a_word_differences_are_numbers() -> None:
    first, second = (
        [
            score_utterance(id=str(number), reference="" if number else "a", hypothesis=heard if number % 2 else "")
            for number in range(12)
        ]
        for heard in ("a", "b c")
    )
    found = compare(first, second, names=("a", "b"))
    assert np.isfinite([found.difference, found.low, found.high, found.detectable, found.p]).all()


@pytest.mark.parametrize("utterances", [1, 2, 9])
def test_a_few_utterances_are_called_too_few_for_a_test(utterances: int) -> None:
    first, second = pair_of_systems(0, (0.9, 0.0), utterances)
    few = compare(first, second, names=("a", "b"))
    assert (few.low, few.high, few.detectable, few.p) == (None, None, None, 1.0)
    better, _, limits = few.sentence().partition("; ")
    assert (better[:6], better[-26:]) == ("b has ", "points fewer errors than a")
    assert limits == "fewer than 10 utterances are too few to tell whether that is chance"
    assert few.warnings() == []
    assert "equally many errors in every part" in compare(first, first, names=("a", "b")).sentence()


def test_seeds_of_a_few_utterances_are_not_more_utterances() -> None:
    first, second = pair_of_systems(0, (0.9, 0.0), 4)
    assert compare(first * 3, second * 3, names=("a", "b")).low is None


def test_systems_that_err_in_different_places_do_not_err_alike() -> None:
    said = "a b c d e f g"
    first, second = (
        [score_utterance(id=str(number), reference=said, hypothesis=heard) for number in range(20)]
        for heard in ("x b c d e f g", "a b c d e f x")
    )
    assert compare(first, second, names=("a", "b")).sentence() == "a and b have the same error rate"


def test_segments_hold_every_error_once() -> None:
    for seed in range(20):
        first, second = pair_of_systems(seed, (0.3, 0.2))
        segments = [errors for pair in zip(first, second, strict=True) for errors in matched_segments(*pair)]
        assert sum(one for one, _ in segments) == sum(score.words.errors for score in first)
        assert sum(other for _, other in segments) == sum(score.words.errors for score in second)
        assert all(one + other > 0 for one, other in segments)


def test_resampled_sums_are_those_of_drawn_blocks() -> None:
    values = np.random.default_rng(0).integers(0, 9, size=(37, 2))
    sums = resampled_sums(values, np.random.default_rng(1), 20000)
    deviation = values.std(axis=0) * np.sqrt(len(values))
    assert sums.mean(axis=0) == pytest.approx(values.sum(axis=0), abs=float(4 * deviation.max() / np.sqrt(20000)))
    assert sums.std(axis=0) == pytest.approx(deviation, rel=0.03)
    # Columns of one resample are of one draw.
    both = resampled_sums(np.repeat(values[:, :1], 2, axis=1), np.random.default_rng(2), 50)
    assert (both[:, 0] == both[:, 1]).all()


def test_differences_that_are_all_alike_are_coins() -> None:
    assert matched_pairs_test(np.ones(5, dtype=np.int64)) == 2 * 0.5**5
    assert matched_pairs_test(np.zeros(5, dtype=np.int64)) == 1.0
    assert matched_pairs_test(np.array([], dtype=np.int64)) == 1.0


def test_counts_are_those_of_jiwer_on_ten_thousand_pairs() -> None:
    generator = random.Random(0)
    for _ in range(10_000):
        words = generator.choices(WORDS[:6], k=generator.randint(0, 12))
        said, heard = " ".join(words), damaged(words, 0.6, generator)
        counts = count_words(said, heard)
        theirs = jiwer.process_words(said, heard)
        assert (counts.hits, counts.substitutions, counts.deletions, counts.insertions) == (
            theirs.hits,
            theirs.substitutions,
            theirs.deletions,
            theirs.insertions,
        )
        if said and heard:
            assert counts.match_error_rate == pytest.approx(theirs.mer)
            assert counts.information_lost == pytest.approx(theirs.wil)
