"""Properties of scoring: counts add up and agree with other ways to count; the interval covers what it promises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, groupby, pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.scoring import ErrorCounts, count_characters, count_words, rate_interval, score_utterance, summarize
from asr.scoring.error_counts import differences, word_edits
from asr.scoring.timed import TimedWord, words_in_segments
from asr.scoring.transcripts import Segment, Transcript, WordTime

# Few words, so that they meet again; with odd white space between.
WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "好"]), max_size=8)
TEXTS = st.tuples(WORDS, st.sampled_from([" ", "  ", "\t", "\u3000", "\n"])).map(lambda drawn: drawn[1].join(drawn[0]))
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12)


def _edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein's distance by its recursion, without any cleverness."""
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, start=1):
        above, row = row, [i]
        for j, heard in enumerate(hypothesis, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (said != heard)))
    return row[-1]


@given(TEXTS, TEXTS)
def test_counts_add_up_to_the_lengths_of_both_texts(reference: str, hypothesis: str) -> None:
    words, characters = count_words(reference, hypothesis), count_characters(reference, hypothesis)
    assert words.hits + words.substitutions + words.deletions == words.reference_length == len(reference.split())
    assert words.hits + words.substitutions + words.insertions == words.hypothesis_length == len(hypothesis.split())
    assert characters.reference_length == len(" ".join(reference.split()))
    assert characters.hypothesis_length == len(" ".join(hypothesis.split()))


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(0, 30)),
)
def test_a_word_goes_to_the_segment_that_a_look_at_all_of_them_finds(
    segments: list[tuple[int, int, bool]], middles: list[int]
) -> None:
    """One that is to be ignored takes the words within it only, unless all are."""
    place = {"recording": "r", "channel": "1"}
    said = {
        str(number): Transcript(
            text="IGNORE_TIME_SEGMENT_IN_SCORING" if ignored else "",
            segment=Segment(**place, start=start, end=start + length),
        )
        for number, (start, length, ignored) in enumerate(segments)
    }
    words = [TimedWord(time=WordTime("r", "1", middle, 0), word=str(middle), where="") for middle in middles]
    found = {(name, int(word)) for name, heard in words_in_segments(words, said) for word in heard.text.split()}

    def distance(number: int, middle: int) -> tuple[bool, int, int, int]:
        start, length, ignored = segments[number]
        away = max(start - middle, middle - start - length, 0)
        return ignored and away > 0, away, -start, number

    nearest = {
        (str(min(range(len(segments)), key=lambda number: distance(number, middle))), middle) for middle in middles
    }
    assert found == nearest


@given(TEXTS, TEXTS)
def test_errors_are_the_fewest_edits(reference: str, hypothesis: str) -> None:
    assert count_words(reference, hypothesis).errors == _edit_distance(reference.split(), hypothesis.split())
    said, heard = " ".join(reference.split()), " ".join(hypothesis.split())
    assert count_characters(reference, hypothesis).errors == _edit_distance(list(said), list(heard))


@given(PAIRS)
def test_sums_agree_with_jiwer_on_the_whole_corpus(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = ([" ".join(text.split()) for text in texts] for texts in zip(*pairs, strict=True))
    whole = jiwer.process_words(references, hypotheses)
    total = sum((count_words(*pair) for pair in pairs), start=ErrorCounts())
    assert total == ErrorCounts(whole.hits, whole.substitutions, whole.deletions, whole.insertions)
    if total.reference_length:
        assert total.rate == pytest.approx(whole.wer)


@given(TEXTS, TEXTS)
def test_alignment_spells_both_texts_and_shows_every_error(reference: str, hypothesis: str) -> None:
    edits, counts = word_edits(reference, hypothesis)
    parts = differences(reference, hypothesis, edits)
    assert [word for part in parts for word in part.reference] == reference.split()
    assert [word for part in parts for word in part.hypothesis] == hypothesis.split()
    wrong = [part for part in parts if part.reference != part.hypothesis]
    assert sum(max(len(part.reference), len(part.hypothesis)) for part in wrong) == counts.errors
    assert counts == count_words(reference, hypothesis)


@given(TEXTS, TEXTS)
def test_words_that_were_not_heard_stand_opposite_those_that_are_most_alike(reference: str, hypothesis: str) -> None:
    """Of all ways to exchange as many words as there are between two that were heard; the counts are jiwer's."""
    edits, counts = word_edits(reference, hypothesis)
    sizes = [(said_end - said_start, heard_end - heard_start) for said_start, said_end, heard_start, heard_end in edits]
    assert [sum(min(pair) for pair in sizes), sum(said for said, heard in sizes if not heard)] == [
        counts.substitutions,
        counts.deletions,
    ]
    parts = differences(reference, hypothesis, edits)
    for is_heard, stretch in groupby(parts, key=lambda part: part.reference == part.hypothesis):
        if not is_heard:
            wrong = list(stretch)
            found = sum(
                _likeness(part.reference, part.hypothesis) for part in wrong if part.reference and part.hypothesis
            )
            texts = (sum((part.reference for part in wrong), ()), sum((part.hypothesis for part in wrong), ()))
            shorter, longer = sorted(texts, key=len)
            assert found == pytest.approx(max(_likeness(shorter, each) for each in combinations(longer, len(shorter))))
            kinds = [(bool(part.reference), bool(part.hypothesis)) for part in wrong]
            assert all(one != other for one, other in pairwise(kinds)), "what is of one kind stands together"


def _likeness(words: Sequence[str], others: Sequence[str]) -> float:
    """The sum over pairs of the share of letters that need not be changed to make one of the other."""
    return sum(
        1 - _edit_distance(word, other) / max(len(word), len(other)) for word, other in zip(words, others, strict=True)
    )


@given(TEXTS, TEXTS)
def test_exchanging_the_texts_exchanges_deletions_and_insertions(reference: str, hypothesis: str) -> None:
    forward, backward = count_words(reference, hypothesis), count_words(hypothesis, reference)
    assert forward.errors == backward.errors
    assert forward.deletions - forward.insertions == backward.insertions - backward.deletions


@settings(max_examples=30)
@given(PAIRS, st.randoms(use_true_random=False))
def test_result_holds_its_rate_and_ignores_the_order(pairs: list[tuple[str, str]], shuffler: random.Random) -> None:
    scores = [
        score_utterance(id=str(index), speaker=str(index % 11), reference=f"x {said}", hypothesis=heard)
        for index, (said, heard) in enumerate(pairs)
    ]
    result = summarize(scores, subset="s", decoder="d")
    shuffler.shuffle(scores)
    assert summarize(scores, subset="s", decoder="d") == result
    assert 0 <= result.wer_low <= result.wer <= result.wer_high < np.inf
    assert 0 <= result.cer_low <= result.cer <= result.cer_high < np.inf


def test_interval_covers_the_true_rate_as_often_as_it_says() -> None:
    # 40 speakers, each with an error rate of their own around 20 %, say 5 utterances of 8 words. 1,000 such corpora:
    # the true rate lies inside for 95 % of them, give or take 2 * sqrt(0.95 * 0.05 / 1000) = 1.4 %.
    generator = np.random.default_rng(7)
    inside = {"speakers": 0, "utterances": 0}
    num_corpora, true_rate = 1000, 0.2
    for _ in range(num_corpora):
        rates = np.repeat(generator.beta(4, 16, size=40), 5)
        errors = generator.binomial(8, rates)
        for unit, size in (("speakers", 5), ("utterances", 1)):
            blocks = np.stack([errors, np.full(200, 8)], axis=1).reshape(-1, size, 2).sum(axis=1)
            interval = rate_interval(blocks, np.random.default_rng(0))
            inside[unit] += interval.low <= true_rate <= interval.high
    assert inside["speakers"] / num_corpora == pytest.approx(0.95, abs=0.014)
    # What resampling utterances would have claimed for new speakers, and the reason for blocks.
    assert inside["utterances"] / num_corpora < 0.9
