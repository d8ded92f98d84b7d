"""Error counts: tables of cases, and what happens at empty texts."""

from __future__ import annotations

import math

import pytest

from asr.scoring import ErrorCounts, count_characters, count_words
from asr.scoring.error_counts import Difference, differences, word_edits


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("the cat sat", "the cat sat", (3, 0, 0, 0)),
        ("the cat sat", "the bat sat", (2, 1, 0, 0)),
        ("the cat sat", "the sat", (2, 0, 1, 0)),
        ("the cat sat", "the big cat sat", (3, 0, 0, 1)),
        ("the cat sat", "", (0, 0, 3, 0)),
        ("", "the cat", (0, 0, 0, 2)),
        ("", "", (0, 0, 0, 0)),
        ("   ", "\t\n", (0, 0, 0, 0)),
        ("a\tb  c\n", " a b\u00a0c", (3, 0, 0, 0)),
        ("The cat", "the cat.", (0, 2, 0, 0)),
        ("猫 が 好き", "猫 も 好き", (2, 1, 0, 0)),
    ],
)
def test_words(reference: str, hypothesis: str, counts: tuple[int, ...]) -> None:
    assert count_words(reference, hypothesis) == ErrorCounts(*counts)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("on", "in", (1, 1, 0, 0)),
        ("a b", "ab", (2, 0, 1, 0)),
        ("ab", "a b", (2, 0, 0, 1)),
        ("  ab ", "ab", (2, 0, 0, 0)),
        ("", "ab", (0, 0, 0, 2)),
        ("ab", "", (0, 0, 2, 0)),
        ("é", "e\u0301", (0, 1, 0, 1)),
        ("好き", "好み", (1, 1, 0, 0)),
    ],
)
def test_characters(reference: str, hypothesis: str, counts: tuple[int, ...]) -> None:
    assert count_characters(reference, hypothesis) == ErrorCounts(*counts)


def test_corpus_rate_is_not_the_mean_of_rates() -> None:
    total = count_words("a b c d e f g h i", "a b c d e f g h i") + count_words("a", "b")
    assert total.rate == 0.1


def test_sum_starts_from_nothing() -> None:
    assert sum([count_words("a b", "a"), count_words("c", "c d")], start=ErrorCounts()) == ErrorCounts(2, 0, 1, 1)


def test_lengths_and_errors() -> None:
    counts = ErrorCounts(hits=1, substitutions=2, deletions=4, insertions=8)
    assert (counts.errors, counts.reference_length, counts.hypothesis_length) == (14, 7, 11)
    assert counts.rate == 2.0


def test_rate_of_empty_references() -> None:
    assert count_words("", "").rate == 0.0
    assert math.isinf(count_words("", "a b").rate)  # jiwer says 2.0


def test_alignment_holds_both_texts() -> None:
    edits, counts = word_edits("turn on the big light", "turn off the light")
    assert differences("turn on the big light", "turn off the light", edits) == [
        Difference(("turn",), ("turn",)),
        Difference(("on",), ("off",)),
        Difference(("the",), ("the",)),
        Difference(("big",), ()),
        Difference(("light",), ("light",)),
    ]
    assert counts == ErrorCounts(hits=3, substitutions=1, deletions=1)
