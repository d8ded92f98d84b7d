"""What every kind of decoder must do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ragged import shaken
from spellers import grid, grid_of, letters

from asr.config import Section, sections_in
from asr.decoding import Decoder, DecoderConfig, Hypothesis, LexiconDecoderConfig, build_decoder
from asr.errors import AsrError
from asr.model.attention import AttentionConfig, AttentionDecoder

VOCABULARY = 6
LENGTHS = (30, 0, 1, 17, 29)
KINDS = {kind.model_fields["kind"].default: kind for kind in sections_in(DecoderConfig)}


class WithFrames:
    """A decoder for which the log-probabilities are the encoder's frames too."""

    def __init__(self, config: Section) -> None:
        torch.manual_seed(0)
        sizes = AttentionConfig(hidden_size=8, embedding_size=4, attention_size=8, num_filters=2, filter_frames=3)
        attention = shaken(AttentionDecoder(sizes, VOCABULARY, VOCABULARY)).eval()
        self._decoder = build_decoder(config, letters(VOCABULARY), attention)
        self._attention = attention

    def decode(self, log_probs: torch.Tensor, num_frames: torch.Tensor) -> list[list[Hypothesis]]:
        self._attention.to(log_probs.device)
        return self._decoder.decode(log_probs, num_frames, log_probs)

    @property
    def vocabulary(self) -> frozenset[str] | None:
        return self._decoder.vocabulary


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("a b c d ab cc bad cab", encoding="utf-8")
    return path


def config_of(kind: str, words: Path) -> Section:
    """The defaults; words, where a decoder is told which there are, and what they are spelt with all alike."""
    return LexiconDecoderConfig(words=words, weight=0.0, prior_weight=0.0) if kind == "lexicon" else KINDS[kind]()


@pytest.fixture(scope="module", params=KINDS)
def decoder(request: pytest.FixtureRequest, words: Path) -> WithFrames:
    return WithFrames(config_of(request.param, words))


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind not in {"attention", "joint"}])
def ctc_decoder(request: pytest.FixtureRequest, words: Path) -> Decoder:
    """What reads nothing but log-probabilities, so that these decide what it says."""
    return build_decoder(config_of(request.param, words), letters(VOCABULARY))


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([grid(max(LENGTHS), VOCABULARY, seed=seed) for seed in range(len(LENGTHS))]), torch.tensor(
        LENGTHS
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_words_that_it_may_write_are_told(kind: str, words: Path) -> None:
    known = frozenset(words.read_text(encoding="utf-8").split()) if kind == "lexicon" else None
    assert WithFrames(config_of(kind, words)).vocabulary == known


def test_nothing_in_nothing_out(decoder: WithFrames) -> None:
    assert decoder.decode(torch.zeros(0, 7, VOCABULARY), torch.zeros(0, dtype=torch.long)) == []


@pytest.mark.parametrize("max_frames", [0, 4])
def test_no_frames_give_the_empty_text(decoder: WithFrames, max_frames: int) -> None:
    empty = Hypothesis(text="", score=0.0)
    assert decoder.decode(torch.zeros(2, max_frames, VOCABULARY), torch.tensor([0, 0])) == [[empty], [empty]]


@pytest.mark.parametrize("token", range(VOCABULARY))
def test_one_frame_says_its_token(ctc_decoder: Decoder, token: int) -> None:
    log_probs = torch.full((1, 1, VOCABULARY), math.log(0.02))
    log_probs[0, 0, token] = math.log(0.9)
    best = ctc_decoder.decode(log_probs, torch.tensor([1]))[0][0]
    assert best.tokens == ((token,) if token else ())
    assert best.frames == ((0,) if token else ())
    assert best.score == pytest.approx(math.log(0.9), abs=1e-5)


def test_what_is_sure_is_read_as_it_stands(ctc_decoder: Decoder) -> None:
    frames = "--a-b_-cc-c--_dd"
    best = ctc_decoder.decode(grid_of(frames, VOCABULARY, sure=0.99)[None], torch.tensor([len(frames)]))[0][0]
    assert best.text == "ab cc d"
    assert best.frames == (2, 4, 5, 7, 10, 13, 14)


def test_hypotheses_are_sound(decoder: WithFrames, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    tokenizer = letters(VOCABULARY)
    for readings, length in zip(decoder.decode(*batch), LENGTHS, strict=True):
        assert readings
        assert [reading.score for reading in readings] == sorted((reading.score for reading in readings), reverse=True)
        assert len({reading.text for reading in readings}) == len(readings)
        for reading in readings:
            assert reading.text == tokenizer.decode(reading.tokens)
            assert len(reading.tokens) == len(reading.frames)
            assert list(reading.frames) == sorted(set(reading.frames))
            assert all(0 <= frame < length for frame in reading.frames)
            assert reading.score <= 0


def test_padding_is_not_looked_at(decoder: WithFrames, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_probs, num_frames = batch
    together = decoder.decode(log_probs, num_frames)
    spoilt = log_probs.clone()
    for row, length in zip(spoilt, LENGTHS, strict=True):
        row[length:] = math.nan
    assert decoder.decode(spoilt, num_frames) == together
    for index, length in enumerate(LENGTHS):
        assert decoder.decode(log_probs[index : index + 1, :length], num_frames[index : index + 1]) == [together[index]]


def test_nan_is_refused_with_its_place(decoder: WithFrames, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_probs, num_frames = batch
    log_probs = log_probs.clone()
    log_probs[3, 16, 2] = math.nan
    with pytest.raises(AsrError, match="NaN in frame 16 of utterance 3"):
        decoder.decode(log_probs, num_frames)


def test_impossible_frames_end_the_search_not_the_program(ctc_decoder: Decoder) -> None:
    log_probs = grid(5, VOCABULARY, seed=0)
    log_probs[2] = -math.inf
    assert ctc_decoder.decode(log_probs[None], torch.tensor([5]))[0][0].score == -math.inf
    log_probs = torch.full((4, VOCABULARY), -math.inf)
    log_probs[:, 2] = 0.0
    best = ctc_decoder.decode(log_probs[None], torch.tensor([4]))[0][0]
    assert (best.tokens, best.score) == ((2,), 0.0)


def test_ties_are_broken_the_same_way_each_time(decoder: WithFrames) -> None:
    flat = torch.full((2, 12, VOCABULARY), -math.log(VOCABULARY))
    first, second = decoder.decode(flat, torch.tensor([12, 12]))
    assert first == second == decoder.decode(flat, torch.tensor([12, 12]))[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_any_precision(decoder: WithFrames, dtype: torch.dtype) -> None:
    log_probs = grid_of("a-bb_c", VOCABULARY).to(dtype)[None]
    (found,), (expected,) = (decoder.decode(each, torch.tensor([6])) for each in (log_probs, log_probs.float()))
    assert found[0].tokens == expected[0].tokens


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_a_gpu(decoder: WithFrames, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_probs, num_frames = batch
    for here, there in zip(decoder.decode(*batch), decoder.decode(log_probs.cuda(), num_frames), strict=True):
        assert [(reading.tokens, reading.frames) for reading in here] == [
            (reading.tokens, reading.frames) for reading in there
        ]
