"""The bootstrap interval against closed forms, and the cases in which the bootstrap is blind."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asr.scoring import ErrorCounts, Interval, compare, rate_interval, score_utterance
from asr.scoring.significance import FEWEST_BLOCKS, expansion, resampling_unit, sums_of_blocks


def _interval(counts: list[ErrorCounts], blocks: list[str] | None = None, seed: int = 0) -> Interval:
    sums: dict[object, ErrorCounts] = {}
    for index, count in enumerate(counts):
        name = blocks[index] if blocks else index
        sums[name] = sums.get(name, ErrorCounts()) + count
    values = np.array([(each.errors, each.reference_length) for each in sums.values()])
    return rate_interval(values, np.random.default_rng(seed))


def _words(errors: int, length: int) -> ErrorCounts:
    return ErrorCounts(hits=length - errors, substitutions=errors)


def test_independent_words_give_the_binomial_interval() -> None:
    rate, num_words = 0.2, 1000
    counts = [_words(int(index < rate * num_words), 1) for index in range(num_words)]
    interval = _interval(counts)
    half = 1.96 * (rate * (1 - rate) / num_words) ** 0.5
    assert interval.low == pytest.approx(rate - half, abs=0.1 * half)
    assert interval.high == pytest.approx(rate + half, abs=0.1 * half)


def test_utterances_are_weighted_by_their_words() -> None:
    # A ratio of sums: its linearised variance is the closed form to compare with.
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 40, size=400)
    errors = generator.binomial(lengths, 0.15)
    interval = _interval([_words(int(e), int(n)) for e, n in zip(errors, lengths, strict=True)])
    rate = errors.sum() / lengths.sum()
    deviation = np.sqrt(((errors - rate * lengths) ** 2).sum()) / lengths.sum()
    assert interval.low == pytest.approx(rate - 1.96 * deviation, abs=0.15 * deviation)
    assert interval.high == pytest.approx(rate + 1.96 * deviation, abs=0.15 * deviation)


def test_blocks_that_err_together_widen_the_interval() -> None:
    # 20 speakers of 20 utterances; a speaker errs always or never, so that 20 coins were thrown and not 400.
    counts = [_words(int(index // 20 % 2 == 0), 1) for index in range(400)]
    alone = _interval(counts)
    together = _interval(counts, [str(index // 20) for index in range(400)])
    # Resamples of 20 coins come in steps of 5 %.
    assert together.high - together.low == pytest.approx(20**0.5 * (alone.high - alone.low), abs=0.1)


@pytest.mark.parametrize(("num_blocks", "students_t"), [(5, 2.7764), (10, 2.2622), (31, 2.0423), (1001, 1.9623)])
def test_few_blocks_expand_as_students_t(num_blocks: int, students_t: float) -> None:
    expected = students_t * math.sqrt(num_blocks / (num_blocks - 1)) / 1.959964
    assert expansion(num_blocks) == pytest.approx(expected, rel=0.003)


def test_of_ten_speakers_intervals_of_95_percent_cover_95_percent_of_the_cases() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        lengths = generator.integers(60, 140, size=10)
        errors = generator.poisson(generator.beta(8, 16, size=10) * lengths)
        interval = rate_interval(np.stack([errors, lengths], axis=1), generator)
        covered += interval.low <= 8 / 24 <= interval.high
    assert covered / 1000 == pytest.approx(0.95, abs=0.015)  # plain percentiles: 0.91


def test_a_block_is_the_sum_of_its_utterances() -> None:
    parts = [_words(index % 3, 3 + index % 7) for index in range(60)]
    whole = [sum(parts[start : start + 3], start=ErrorCounts()) for start in range(0, 60, 3)]
    assert _interval(parts, [str(index // 3) for index in range(60)]) == _interval(whole)


def test_no_error_is_not_certainty() -> None:
    interval = _interval([_words(0, 3)] * 100)
    assert interval.low == 0.0
    # Wilson: z^2 / (n + z^2) for no error in n words
    assert interval.high == pytest.approx(1.959964**2 / (300 + 1.959964**2))


def test_one_utterance_is_not_certainty() -> None:
    interval = _interval([_words(3, 10)])
    assert 0.05 < interval.low < 0.15
    assert 0.5 < interval.high < 0.7


def test_everything_wrong() -> None:
    interval = _interval([ErrorCounts(substitutions=5)] * 4)
    assert interval.low < 1.0
    assert interval.high == pytest.approx(1)


def test_more_wrong_than_there_is() -> None:
    # As many errors as a Poisson count of 120, whose exact interval (Garwood) is 99.5 to 143.5, have 20 words.
    interval = _interval([ErrorCounts(substitutions=5, insertions=25)] * 4)
    assert interval.low == pytest.approx(99.5 / 20, rel=0.02)
    assert interval.high == pytest.approx(143.5 / 20, rel=0.02)


def test_resamples_without_reference_are_left_out() -> None:
    interval = _interval([ErrorCounts(insertions=2), _words(1, 4)])
    assert (interval.low, interval.high) == (0.25, 0.75)  # twice the second, and both; twice the first has no rate


def test_no_reference_at_all_has_no_rate() -> None:
    with pytest.raises(ValueError, match="no error rate"):
        _interval([ErrorCounts(insertions=2)])


def test_one_seed_one_interval() -> None:
    counts = [_words(index % 4, 5 + index) for index in range(60)]
    assert _interval(counts, seed=5) == _interval(counts, seed=5) != _interval(counts, seed=6)


@pytest.mark.parametrize(
    ("speakers", "unit"),
    [
        ([str(index) for index in range(FEWEST_BLOCKS)] * 2, "speakers"),
        ([str(index) for index in range(FEWEST_BLOCKS - 1)] * 2, "utterances"),
        ([str(index) for index in range(FEWEST_BLOCKS)] + [""] * 50, "speakers"),
        ([str(index) for index in range(FEWEST_BLOCKS - 1)] + [""] * 50, "utterances"),
        ([""] * 50, "utterances"),
    ],
)
def test_what_is_resampled(speakers: list[str], unit: str) -> None:
    assert resampling_unit(speakers) == unit


def test_speakers_are_summed_and_few_of_them_are_not() -> None:
    values = np.arange(48).reshape(24, 2)
    names = [*map(str, range(14)), ""]
    speakers = np.arange(24) % 12
    sums, unit = sums_of_blocks(values, speakers, names)
    assert unit == "speakers"
    assert sums.tolist() == [(values[number] + values[number + 12]).tolist() for number in range(12)]
    sums, unit = sums_of_blocks(values, speakers % 9, names)
    assert (unit, sums.tolist()) == ("utterances", values.tolist())


def test_utterances_of_unknown_speakers_stand_for_themselves_beside_the_speakers() -> None:
    values, names = np.arange(48).reshape(24, 2), [*map(str, range(12)), ""]
    speakers = np.where(np.arange(24) % 12 == 3, 12, np.arange(24) % 12)  # the utterances 3 and 15
    of_speakers = [(values[number] + values[number + 12]).tolist() for number in range(12) if number != 3]
    sums, unit = sums_of_blocks(values, speakers, names)
    assert unit == "speakers"
    assert sums.tolist() == [*of_speakers, values[3].tolist(), values[15].tolist()]
    # The same utterance heard twice, by two trainings, is no more speech.
    sums, _ = sums_of_blocks(values, speakers, names, np.arange(24) % 12)
    assert sums.tolist() == [*of_speakers, (values[3] + values[15]).tolist()]


def test_no_difference_is_so_clear_that_chance_is_ruled_out() -> None:
    one, other = (
        [score_utterance(id=f"{n}", reference="a b", hypothesis=heard) for n in range(40)] for heard in ("a b", "x b")
    )
    assert compare(one, other, names=("one", "other")).p_bootstrap == pytest.approx(1 / 5001)
