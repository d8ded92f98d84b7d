"""Seeds put together: what is summed, what is resampled, and which variants are compared."""

from __future__ import annotations

import math
import random
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr.experiment import RunRequest
from asr.scoring import UtteranceScore, score_utterance, summarize
from asr.studies import compare
from asr.studies.compare import Measures, Variant, make_plan, matched
from asr.studies.markdown import markdown
from asr.studies.measures import peak_memory_bytes
from asr.studies.outcome import Outcome, Pooled, RunOutcome, VariantOutcome, _pooled
from asr.studies.page import COST_HEADS, cost_figures, write_comparison
from asr.studies.pairs import compared, detectable_by_seeds, p_of_means, paired

WORDS = "one two three four five six seven eight nine ten".split()


def scores(errors: float, seed: int) -> list[UtteranceScore]:
    """Forty utterances of ten words of which a share is missed."""
    generator = random.Random(seed)
    return [
        score_utterance(
            id=f"u{number:02d}",
            reference=" ".join(WORDS),
            hypothesis=" ".join(word if generator.random() > errors else "what" for word in WORDS),
        )
        for number in range(40)
    ]


def test_rates_are_means_over_seeds() -> None:
    of_seeds = {seed: scores(0.1, seed) for seed in range(3)}
    (pooled,) = _pooled({("test", "greedy"): {"gru": of_seeds}}, {"test": 0})
    expected = [sum(each.words.errors for each in of_seed) / 400 for of_seed in of_seeds.values()]
    assert list(pooled.wer_by_seed.values()) == expected
    assert abs(pooled.result.wer - sum(expected) / 3) < 1e-12
    assert (pooled.result.utterances, pooled.result.words) == (40, 400)
    assert pooled.result.without_speaker == 40
    errors = pooled.result.substitutions + pooled.result.deletions + pooled.result.insertions
    assert errors / (pooled.repetitions * pooled.result.words) == pytest.approx(pooled.result.wer)
    pair = paired("test", "greedy", ("a", "b"), (0, 1, 2), of_seeds, of_seeds)
    assert pair.comparison is not None
    assert pair.comparison.utterances == 40


def outcome_of(pooled: tuple[Pooled, ...], seeds: tuple[int, ...]) -> Outcome:
    circumstances: dict[str, str | int] = {"runs at a time": 1}
    return Outcome(
        title="", match="", seeds=seeds, variants=(), pooled=pooled, pairs=(), failures={}, circumstances=circumstances
    )


def test_rates_stand_at_their_seeds_where_a_run_failed() -> None:
    of_seeds = {seed: scores(0.1, seed) for seed in (1, 2)}
    (pooled,) = _pooled({("test", "greedy"): {"gru": of_seeds}}, {"test": 0})
    text = markdown(outcome_of((pooled,), (0, 1, 2)))
    rates = [f"{100 * rate:.2f}" for rate in pooled.wer_by_seed.values()]
    assert "| WER % of seeds 0, 1, 2 |" in text
    assert f"| -, {rates[0]}, {rates[1]} |" in text
    assert "mean over seeds 0, 1, 2; -: that run failed, and the mean is over the others." in text
    assert "95 %: bootstrap over utterances. Intervals tell of other speech, not of other trainings." in text
    assert "failed" not in markdown(outcome_of((pooled,), (1, 2)))


def test_a_part_of_a_test_set_is_called_one() -> None:
    (pooled,) = _pooled({("test", "greedy"): {"gru": {0: scores(0.1, 0)}}}, {"test": 2620})
    assert "test: a part, 40 of 2620 utterances." in markdown(outcome_of((pooled,), (0,)))


def test_the_same_seed_three_times_is_no_surer_than_once() -> None:
    one, other = scores(0.1, 0), scores(0.14, 1)
    (pooled,) = _pooled({("test", "greedy"): {"gru": dict.fromkeys(range(3), one)}}, {"test": 0})
    alone = summarize(one, subset="test", decoder="greedy")
    assert (pooled.result.wer_low, pooled.result.wer_high) == (alone.wer_low, alone.wer_high)
    once = paired("test", "greedy", ("a", "b"), (0,), {0: one}, {0: other}).comparison
    three = paired(
        "test", "greedy", ("a", "b"), (0, 1, 2), dict.fromkeys(range(3), one), dict.fromkeys(range(3), other)
    )
    assert once is not None
    assert three.comparison is not None
    assert three.comparison.p_bootstrap == once.p_bootstrap
    assert (three.comparison.low, three.comparison.high) == (once.low, once.high)


def test_seeds_without_an_error_are_no_surer_than_one() -> None:
    right = scores(0.0, 0)
    (pooled,) = _pooled({("test", "greedy"): {"gru": dict.fromkeys(range(3), right)}}, {"test": 0})
    alone = summarize(right, subset="test", decoder="greedy")
    assert (pooled.result.wer_high, pooled.result.cer_high) == (alone.wer_high, alone.cer_high)


def test_what_seeds_say_of_other_trainings() -> None:
    one = {0: scores(0.05, 0), 1: scores(0.4, 1)}
    other = {0: scores(0.3, 2), 1: scores(0.5, 3)}
    pair = paired("test", "greedy", ("a", "b"), (0, 1), one, other)
    assert pair.p_seeds is not None
    assert pair.p_seeds > 0.3
    assert "may depend on the seed" in pair.sentences()[-1]
    single = paired("test", "greedy", ("a", "b"), (0,), one, other)
    assert single.p_seeds is None
    assert "only one seed was trained" in single.sentences()[-1]
    better = {0: scores(0.1, 0), 1: scores(0.12, 1), 2: scores(0.11, 5)}
    worse = {0: scores(0.5, 2), 1: scores(0.6, 3), 2: scores(0.55, 4)}
    three = paired("test", "greedy", ("a", "b"), (0, 1, 2), better, worse)
    assert "if these trainings were equally good" in three.sentences()[0]
    assert three.sentences()[-1] == (
        "The seeds agree: if other trainings were equally good in the mean, 3 seeds of each would be as far apart in 1 of "
        "100 studies or fewer (Student's t)."
    )


# Two-sided quantiles of 5 % from the tables of Student's t.
@pytest.mark.parametrize(
    ("num_seeds", "t"), [(2, 4.302653), (3, 2.776445), (4, 2.446912), (6, 2.228139), (11, 2.085963)]
)
def test_the_chance_of_means_is_student_s(num_seeds: int, t: float) -> None:
    spread = [float(at % 2) for at in range(num_seeds - num_seeds % 2)] + [0.5] * (num_seeds % 2)
    apart = t * math.sqrt(2 * statistics.variance(spread) / num_seeds)
    assert p_of_means(spread, [each + apart for each in spread]) == pytest.approx(0.05, abs=1e-6)
    assert p_of_means([each + apart for each in spread], spread) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_what_seeds_could_show_is_shown_four_times_in_five(num_seeds: int) -> None:
    generator = random.Random(0)
    spread = [1 - 2 * (at % 2) for at in range(num_seeds)]
    of_one = [each / statistics.stdev(spread) for each in spread]
    apart = detectable_by_seeds(of_one, of_one)
    shown = 0
    for _ in range(2000):
        first, second = ([generator.gauss(mean, 1) for _ in range(num_seeds)] for mean in (0, apart))
        shown += p_of_means(first, second) < 0.05
    assert 0.73 < shown / 2000 < 0.83


def test_what_goes_unseen_is_what_speech_or_seeds_could_not_show() -> None:
    one, other = {0: scores(0.1, 0), 1: scores(0.2, 1)}, {0: scores(0.18, 2), 1: scores(0.1, 3)}
    pair = paired("test", "greedy", ("a", "b"), (0, 1), one, other)
    assert pair.comparison is not None
    assert pair.comparison.detectable is not None
    rates = [[sum(each.words.errors for each in of[seed]) / 400 for seed in (0, 1)] for of in (one, other)]
    # By tables of Student's t for 2 degrees of freedom: 5 % beyond 4.303 on both sides, 20 % beyond 1.061 on one.
    least = (4.303 + 1.061) * math.sqrt(sum(map(statistics.variance, rates)) / 2)
    assert least > 3 * pair.comparison.detectable
    said, of_seeds = pair.sentences()
    assert said.startswith("no difference is shown")
    assert f"; differences below about {100 * least:.1f} points mostly go unseen on this data with 2 seeds." in said
    assert re.fullmatch(
        r"Of other trainings the seeds say: if they were equally good in the mean, 2 seeds of each would be as far apart in "
        rf"{100 * p_of_means(*rates):.0f} of 100 studies \(Student's t\)\.",
        of_seeds,
    )
    steady = [dict.fromkeys((0, 1), scores(errors, seed)) for errors, seed in ((0.1, 0), (0.12, 1))]
    pair = paired("test", "greedy", ("a", "b"), (0, 1), *steady)
    assert pair.comparison is not None
    assert f"below about {100 * (pair.comparison.detectable or 0):.1f} points mostly go unseen" in pair.sentences()[0]
    assert pair.sentences()[-1].startswith(
        "The seeds agree on this data, and other speech may not: if other trainings were "
    )


def test_means_that_are_equal_or_trainings_that_are() -> None:
    assert p_of_means([1, 3], [3, 1]) == 1
    assert p_of_means([2, 2], [2, 2]) == 1
    assert p_of_means([2, 2], [3, 3]) == 0


def test_what_is_not_known_to_differ_says_nothing_of_seeds() -> None:
    few, others = scores(0.1, 0)[:15], scores(0.1, 1)[:15]
    (sentence,) = paired("test", "greedy", ("a", "b"), (0,), {0: few}, {0: others}).sentences()
    assert "seed" not in sentence


def test_other_references_are_not_compared() -> None:
    shorter = scores(0.1, 0)[:-1]
    pair = paired("test", "greedy", ("a", "b"), (0,), {0: scores(0.1, 0)}, {0: shorter})
    assert pair.sentences() == ["a and b write in different ways, so their errors cannot be compared."]


def test_each_is_compared_with_the_first_and_with_its_counterpart() -> None:
    variants = [
        Variant(name=f"{cell}{depth}", values={"encoder.cell": cell, "encoder.num_layers": depth})
        for cell in ("gru", "lstm")
        for depth in "12"
    ]
    assert list(compared(variants)) == [("gru1", "gru2"), ("gru1", "lstm1"), ("gru1", "lstm2"), ("gru2", "lstm2")]


def test_a_slower_variant_is_trained_for_fewer_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = RunRequest(recipe="fsdd", overrides=("cells=gru,lstm", "training.epochs=12"))
    plan = make_plan(request, tmp_path, num_seeds=1, match="time")
    monkeypatch.setattr(compare, "_speeds", lambda plan, say: [1.0, 3.0])
    assert [each.adjusted for each in matched(plan, print).variants] == [(), ("training.epochs=4",)]


def test_costs_stand_below_their_heads() -> None:
    one = RunOutcome(
        seed=0, folder="", curve=(), train_seconds=500.0, seconds_per_epoch=25.0, results=(),
        measures=Measures(peak_memory_bytes=657_000_000, memory_before_bytes=650_000_000),
    )  # fmt: skip
    variant = VariantOutcome(name="gru", overrides=(), command=(), parameters=1234, multiply_adds=5.6e6, runs=(one,))
    outcome = Outcome(
        title="", match="", seeds=(0,), variants=(variant,), pooled=(), pairs=(), failures={}, circumstances={}
    )
    assert dict(zip(COST_HEADS, cost_figures(variant, outcome), strict=True)) == {
        "parameters": "1,234", "M mult-adds/s": "5.6", "s/epoch": "25.0", "s training": "500", "memory MB": "7", "RTF": "-",
    }  # fmt: skip


def test_costs_are_drawn_as_parts_of_the_largest(tmp_path: Path) -> None:
    large, small = (
        VariantOutcome(
            name=name, overrides=(), command=(), parameters=parameters, multiply_adds=2.0 * parameters, runs=()
        )
        for name, parameters in (("large", 1000), ("small", 250))
    )
    outcome = replace(outcome_of((), (0,)), variants=(large, small))
    plan = make_plan(RunRequest(recipe="fsdd", overrides=("cells=gru,lstm",)), tmp_path, num_seeds=1)
    write_comparison(tmp_path / "page.html", plan, outcome)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    widths = [float(width) for width in re.findall('<rect class="filled"[^>]* width="([^"]*)"', page)]
    # What no run has told has no bar.
    assert widths == [160, 160, 0, 0, 0, 0, 40, 40, 0, 0, 0, 0]


def test_memory_is_in_bytes() -> None:
    # torch alone takes more than 50 MB, and no machine has a terabyte.
    assert 50e6 < (peak_memory_bytes(torch.device("cpu")) or 0) < 1e12
