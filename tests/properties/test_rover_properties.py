"""What holds for every vote, whatever was heard."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from asr.scoring import NORMALIZERS, normalizer, read_transcripts, write_transcripts
from asr.scoring.rover import Reading, normalised, vote, word_transition_network
from asr.scoring.transcripts import WordTime

texts = st.lists(st.sampled_from("abcd"), max_size=7)
few = settings(max_examples=60)


def heads(*hypotheses: list[str]) -> list[list[Reading]]:
    return [[Reading(word) for word in words] for words in hypotheses]


def voted(hypotheses: list[list[Reading]], alpha: float = 1.0) -> str:
    return " ".join(str(reading.word) for reading in vote(word_transition_network(hypotheses), alpha=alpha))


@few
@given(texts, st.integers(1, 5), st.floats(0.01, 1))
def test_identical_inputs_come_back(words: list[str], num_systems: int, alpha: float) -> None:
    assert voted(heads(*[words] * num_systems), alpha=alpha).split() == words


@few
@given(texts, st.lists(texts, max_size=3), st.randoms(use_true_random=False))
def test_what_most_systems_say_in_whole_wins(words: list[str], others: list[list[str]], random: object) -> None:
    hypotheses = [*[words] * (len(others) + 1), *others]
    random.shuffle(hypotheses)  # type: ignore[attr-defined]
    assert voted(heads(*hypotheses)).split() == words


@few
@given(texts, texts)
def test_of_two_systems_the_first_wins(first: list[str], second: list[str]) -> None:
    assert voted(heads(first, second)).split() == first


@few
@given(st.lists(texts, min_size=1, max_size=5))
def test_every_system_finds_its_words_in_the_network(hypotheses: list[list[str]]) -> None:
    network = word_transition_network(heads(*hypotheses))
    assert all(len(slot) == len(hypotheses) for slot in network)
    for number, words in enumerate(hypotheses):
        assert [slot[number].word for slot in network if slot[number].word is not None] == words
    assert all(any(reading.word is not None for reading in slot) for slot in network)


@few
@given(texts, texts)
def test_two_texts_are_aligned_as_cheaply_as_can_be(first: list[str], second: list[str]) -> None:
    """rapidfuzz, behind jiwer, finds the least cost of inserting, dropping and exchanging words."""
    network = word_transition_network(heads(first, second))
    pairs = [(slot[0].word, slot[1].word) for slot in network]
    cost = sum(0 if one == other else 3 if None in (one, other) else 4 for one, other in pairs)
    assert cost == Levenshtein.distance(first, second, weights=(3, 3, 4))


@few
@given(st.text("aB(),.[] 1-", max_size=20), st.lists(st.sampled_from([*NORMALIZERS]), max_size=4, unique=True))
def test_words_are_normalised_as_their_text_is(text: str, steps: list[str]) -> None:
    """Whatever steps look at several words at once, as brackets do."""
    normalize = normalizer(steps)
    words = [Reading(word, 0.5) for word in text.split()]
    found = normalised(words, normalize)
    assert [reading.word for reading in found] == normalize(" ".join(text.split())).split()
    assert {reading.confidence for reading in found} <= {0.5}


@few
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 2)), min_size=1, max_size=8))
def test_words_of_a_ctm_are_read_in_the_order_in_which_they_were_voted_on(times: list[tuple[float, float]]) -> None:
    """Systems may not agree on when a word is said: the winners' times alone are in no order."""
    words = [Reading(str(number), 0.5, WordTime("r", "1", *time)) for number, time in enumerate(times)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "out.ctm"
        write_transcripts(path, [("r", words)])
        heard = read_transcripts(path)["r"]
        starts = [float(line.split()[2]) for line in path.read_text(encoding="utf-8").splitlines()]
    assert starts == sorted(starts)
    assert [time.duration for time in heard.times] == [round(duration, 3) for _, duration in times]
    assert heard.text == " ".join(str(reading.word) for reading in words)
    assert heard.times[0] == WordTime("r", "1", round(times[0][0], 3), round(times[0][1], 3))
    assert all(one.middle <= other.middle for one, other in zip(heard.times, heard.times[1:], strict=False))
