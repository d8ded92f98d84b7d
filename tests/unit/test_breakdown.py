"""Groups of utterances and confused words."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest

import asr.scoring.confusion
from asr.errors import ScoringError
from asr.scoring import Confusions, ErrorCounts, UtteranceScore, groups_tables, score_utterance, summarize_groups
from asr.scoring.breakdown import check_columns
from asr.scoring.confusion import ConfusionCounter

SAID = [
    ("anna", "a b c d", "a b c d", 0.5, "f"),
    ("bert", "a b", "a x", 3.0, "m"),
    ("anna", "e f", "e", 40.0, "f"),
    ("carl", "a", "b", 3.9, ""),
    ("dora", "", "", 2.0, "f"),
]


@pytest.fixture
def scores() -> list[UtteranceScore]:
    """Five utterances of four speakers."""
    return [
        score_utterance(id=str(n), speaker=who, reference=said, hypothesis=heard, seconds=seconds, columns={"sex": sex})
        for n, (who, said, heard, seconds, sex) in enumerate(SAID)
    ]


def test_groups_add_up_and_the_worst_comes_first(scores: list[UtteranceScore]) -> None:
    found = summarize_groups(scores, "speaker", subset="test", decoder="greedy")
    assert [(each.group, each.utterances, each.words.errors) for each in found] == [
        ("carl", 1, 1),
        ("bert", 1, 1),
        ("anna", 2, 1),
        ("dora", 1, 0),
    ]
    total = sum((score.words for score in scores), start=ErrorCounts())
    for column in ("speaker", "duration", "sex"):
        groups = summarize_groups(scores, column, subset="test", decoder="greedy")
        assert sum((each.words for each in groups), start=ErrorCounts()) == total


def test_of_less_than_ten_utterances_there_is_no_interval() -> None:
    """Resampling a few that differ covers far less than it says: of two, 62 % of the cases."""
    scores = [
        score_utterance(id=f"{speaker}{n}", speaker=speaker, reference="a b", hypothesis="a b" if n % 3 else "a")
        for speaker, number in (("few", 9), ("many", 10))
        for n in range(number)
    ]
    scores += [score_utterance(id=f"mute{n}", speaker="mute", reference="", hypothesis="") for n in range(10)]
    found = summarize_groups(scores, "speaker", subset="test", decoder="greedy")
    assert {each.group: each.interval is None for each in found} == {"few": True, "many": False, "mute": True}
    (table,) = groups_tables(found)
    assert table.caption == "-: less than 10 utterances, too few for an interval"
    (table,) = groups_tables([each for each in found if each.group == "mute"])
    assert table.caption is None, "it is not for their number that ten without a word have none"


def test_durations_come_from_short_to_long(scores: list[UtteranceScore]) -> None:
    found = summarize_groups(scores, "duration", subset="test", decoder="greedy")
    assert [(each.group, each.utterances) for each in found] == [("0-1 s", 1), ("2-4 s", 3), ("32 s and more", 1)]


def test_columns(scores: list[UtteranceScore]) -> None:
    found = summarize_groups(scores, "sex", subset="test", decoder="greedy")
    assert [(each.group, each.utterances) for each in found] == [("(unknown)", 1), ("m", 1), ("f", 3)]
    check_columns(scores, ["sex"])
    with pytest.raises(ScoringError, match="--by sexx: no such column, did you mean 'sex'"):
        check_columns(scores, ["sexx"])


def confusions(scores: Iterable[UtteranceScore]) -> Confusions:
    counter = ConfusionCounter()
    for score in scores:
        counter.add(score)
    return counter.confusions()


def test_every_word_error_is_a_confusion(scores: list[UtteranceScore]) -> None:
    found = confusions(scores)
    assert list(found.substitutions) == [("a", "b", 1), ("b", "x", 1)]
    assert (found.deletions, found.insertions) == ((("f", 1),), ())


def test_confusions_are_summed_now_and_then_and_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr.scoring.confusion, "_FEWEST_TO_SUM", 3)
    generator = random.Random(0)
    pairs = [(generator.choice("aąbc") * 2, generator.choice("dež")) for _ in range(300)]
    found = confusions(
        score_utterance(id=str(number), reference=f"{said} x {said}", hypothesis=f"{heard} x {heard}")
        for number, (said, heard) in enumerate(pairs)
    ).substitutions
    expected = sorted(Counter(2 * pairs).items(), key=lambda entry: (-entry[1], entry[0]))
    assert list(found) == [(*pair, count) for pair, count in expected]
    assert (found[:2], found[-1]) == (list(found)[:2], list(found)[-1])
