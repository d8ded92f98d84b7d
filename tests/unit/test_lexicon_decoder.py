"""The lexicon decoder writes given words only, and of these the text that is most probable with its words."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spellers import grid, grid_of, letters
from torch import Tensor

from asr.cli.decoder_option import Width
from asr.decoding import BeamDecoderConfig, Hypothesis, LexiconDecoderConfig, build_decoder
from asr.decoding.word_tree import ROOT, count_words, log_priors, walk, word_tree
from asr.errors import ConfigError
from asr.text import BpeTokenizerConfig, CharacterTokenizerConfig, Tokenizer, train_tokenizer


def decode(log_probs: Tensor, config: BeamDecoderConfig, tokenizer: Tokenizer | None = None) -> list[Hypothesis]:
    decoder = build_decoder(config, tokenizer or letters(log_probs.shape[1]))
    return decoder.decode(log_probs[None], torch.tensor([len(log_probs)]))[0]


def in_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("words")


@given(
    num_frames=st.integers(1, 6),
    words=st.dictionaries(st.text("ab", min_size=1, max_size=3), st.integers(1, 5), min_size=1, max_size=4),
    weight=st.sampled_from([0.0, 0.5, 2.0]),
    prior_weight=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 10**6),
    sharpness=st.sampled_from([0.3, 1.0, 3.0]),
)
def test_it_is_the_search_for_everything_with_other_texts_left_out(
    folder: Path,
    num_frames: int,
    words: dict[str, int],
    weight: float,
    prior_weight: float,
    seed: int,
    sharpness: float,
) -> None:
    """A beam as wide as there are prefixes finds all texts; those of listed words are weighted here by the definition.

    Priors are divided out of every frame, as in hybrid models, not once for each token of a text.
    """
    log_probs = grid(num_frames, 4, seed=seed, sharpness=sharpness)
    path = in_file(folder, "".join(f"{word}\t{count}\n" for word, count in words.items()))
    config = LexiconDecoderConfig(words=path, weight=weight, prior_weight=prior_weight, width=4096, num_best=4096)
    found = decode(log_probs, config)
    total = sum(words.values())
    running = "".join(f" {word}" * count for word, count in words.items())
    seen = [running.count(letter) for letter in " ab"]
    priors = [1.0, *((count or min(filter(None, seen))) / len(running) for count in seen)]
    others = (log_probs - prior_weight * torch.tensor(priors).log()).log_softmax(-1)
    expected: dict[str, float] = {}
    for reading in decode(others, BeamDecoderConfig(width=4096, num_best=4096)):
        if all(word in words for word in reading.text.split()):
            logs = [math.log(words[word] / total) for word in reading.text.split()]
            expected[reading.text] = reading.score + weight * sum(logs)
    assert {reading.text: reading.score for reading in found} == pytest.approx(expected, abs=1e-5)
    scores = [reading.score for reading in found]
    assert scores == sorted(scores, reverse=True)


@given(words=st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 5), min_size=1, max_size=8))
def test_a_beginning_is_worth_the_most_frequent_word_that_it_may_become(words: dict[str, int]) -> None:
    """A beam that holds everything finds the same texts whatever beginnings are worth; a narrow one loses them."""
    tokenizer, weight = letters(5), 0.7
    tree = word_tree(words, tokenizer, weight)
    for word, count in words.items():
        place, gained = ROOT, 0.0
        for length, token in enumerate(tokenizer.encode(word), start=1):
            place, gain = walk((*tree,), place, token)
            gained += gain
            best = max(number for other, number in words.items() if other.startswith(word[:length]))
            assert gained == pytest.approx(weight * math.log(best / sum(words.values())))
        place, gain = walk((*tree,), place, 1)  # a space
        assert (place, gained + gain) == (ROOT, pytest.approx(weight * math.log(count / sum(words.values()))))


def test_the_only_token_that_may_follow_is_tried_however_narrow_the_beam(tmp_path: Path) -> None:
    frames = [[0.01, 0.01, 0.93, 0.01, 0.01, 0.01, 0.01, 0.01], [0.01, 0.01, 0.01, 0.07, 0.25, 0.23, 0.22, 0.2]]
    config = LexiconDecoderConfig(words=in_file(tmp_path, "ab\n"), width=1, prior_weight=0)
    assert decode(torch.tensor(frames).log(), config)[0].text == "ab"


def test_the_nearest_word_is_written(tmp_path: Path) -> None:
    log_probs = grid_of("ab_cc", 6)
    assert decode(log_probs, BeamDecoderConfig())[0].text == "ab c"
    best = decode(log_probs, LexiconDecoderConfig(words=in_file(tmp_path, "ab\ncd\n")))[0]
    assert best.text == "ab cd"
    assert len(best.frames) == len(best.tokens) == 5


def test_an_unfinished_last_word_is_left_out_where_nothing_else_is_possible(tmp_path: Path) -> None:
    log_probs = grid_of("ab_a", 4, sure=1.0)
    best = decode(log_probs, LexiconDecoderConfig(words=in_file(tmp_path, "ab abb")))[0]
    assert (best.text, best.tokens, best.frames) == ("ab", (2, 3, 1), (0, 1, 2))


def test_words_may_be_spelt_in_any_pieces(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, BpeTokenizerConfig(size=20))
    path = in_file(tmp_path, "The cat, the mat!")
    for text, is_there in (("the mat", True), ("cat the", True), ("the sat", False)):
        tokens = tokenizer.encode(text)
        log_probs = torch.full((2 * len(tokens), tokenizer.size), -9.0)
        log_probs[1::2, 0] = 0.0
        log_probs[torch.arange(0, 2 * len(tokens), 2), torch.tensor(tokens)] = 0.0
        best = decode(log_probs.log_softmax(-1), LexiconDecoderConfig(words=path), tokenizer)[0]
        assert (best.text == text) == is_there
        assert set(best.text.split()) <= {"the", "cat", "mat"}


def test_priors_are_the_frequencies_of_tokens_in_running_text() -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, BpeTokenizerConfig(size=20))
    counts = Counter(tokenizer.encode("the the the cat mat"))
    expected = [math.log((counts[token] or 1) / counts.total()) for token in range(1, tokenizer.size)]
    assert log_priors({"the": 3, "cat": 1, "mat": 1}, tokenizer).tolist() == pytest.approx([0.0, *expected])


def test_counts_come_from_lists_texts_and_tables(tmp_path: Path) -> None:
    tokenizer = letters(27)
    assert count_words(in_file(tmp_path, "\ufeffBad\ncab\n"), tokenizer) == {"bad": 1, "cab": 1}
    assert count_words(in_file(tmp_path, "a bad cab, a cab"), tokenizer) == {"a": 2, "bad": 1, "cab": 2}
    assert count_words(in_file(tmp_path, "cab\t12\nbad\t3\ndab\t0\n"), tokenizer) == {"cab": 12, "bad": 3}
    assert count_words(in_file(tmp_path, "to\tinfinity\nnan\tnan\n"), tokenizer) == {"to": 1, "infinity": 1, "nan": 2}


def test_packed_words_are_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress("\ufeffcab\t12\nbad\n".encode())
    path = tmp_path / "words.tsv.gz"
    path.write_bytes(packed)
    assert count_words(path, letters(27)) == {"cab": 12, "bad": 1}
    for damaged in (packed[:-9], packed[:12] + b"\xff" * 8 + packed[20:], b"cab", b""):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=f"{path}: (cannot read the|no) words"):
            count_words(path, letters(27))


def test_a_line_that_is_no_count_among_counts_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = in_file(tmp_path, "bee\tnumber\ncab\t12\nbad\t3\n")
    assert count_words(path, letters(27)) == {"bee": 1, "number": 1, "cab": 12, "bad": 3}
    assert f"{path}:1: no number stands behind the tab, as in 2 other lines" in caplog.text


@pytest.mark.parametrize("table", ["cab 12\nbad 3\n", "cab\t12\tx\nbad\t3\ty\n", "     12 cab\n      3 bad\n"])
def test_a_table_of_another_form_is_told(table: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = in_file(tmp_path, table)
    counts = count_words(path, letters(27))
    assert counts["cab"] == counts["bad"] == 1
    assert f"{path}: 2 of 2 lines are a word and a number, but not WORD<TAB>NUMBER" in caplog.text


def test_a_text_that_has_numbers_is_no_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    count_words(in_file(tmp_path, "bad cab 12\ncab 12\nabba\na 12 b\ncab\t3\n"), letters(27))
    assert "are a word and a number" not in caplog.text


@pytest.mark.parametrize("number", ["0.05", "1,200", "1e-3", "9" * 400])
def test_a_number_of_times_is_a_whole_one(tmp_path: Path, number: str) -> None:
    path = in_file(tmp_path, f"bad\t3\ncab\t{number}\n")
    with pytest.raises(ConfigError, match=f"{path}:2: expected behind the tab how often"):
        count_words(path, letters(27))


def test_a_language_with_thousands_of_characters_takes_no_more_room_than_its_words() -> None:
    characters = [chr(0x4E00 + number) for number in range(3000)]
    tokenizer = train_tokenizer(characters, CharacterTokenizerConfig())
    words = {first + second: 1 for first, second in zip(characters, reversed(characters), strict=True)}
    tree = word_tree(words, tokenizer, 1.0)
    assert sum(array.nbytes for array in tree) < 100 * sum(map(len, words))


def test_words_that_cannot_be_written_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = in_file(tmp_path, "cab\nzebra\n")
    assert count_words(path, letters(5)) == {"cab": 1}
    assert (
        f"{path}: left out: words with characters that the model cannot write, 1 of 2, such as 'zebra'" in caplog.text
    )
    for text, complaint in (
        ("\n \n", "no words"),
        ("zebra", "no words are left but words with characters"),
        (None, "cannot read the words"),
    ):
        path = tmp_path / "nothing" if text is None else in_file(tmp_path, text)
        with pytest.raises(ConfigError, match=complaint):
            build_decoder(LexiconDecoderConfig(words=path), letters(5))


def test_the_command_line_tells_the_widths_that_are() -> None:
    (option,) = Width.__metadata__
    lexicon = LexiconDecoderConfig.model_fields["width"].default
    assert f"Default: {BeamDecoderConfig().width}, for lexicon {lexicon}." in option.help
