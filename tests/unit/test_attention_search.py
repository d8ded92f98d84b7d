"""Beam search with the attention decoder, alone and with CTC: against everything there is on tiny vocabularies."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from ragged import shaken
from spellers import grid, letters
from tones import TINY, TONES_HZ, tone_waveform
from torch import Tensor

from asr.config import validated
from asr.corpus.batches import Batch
from asr.decoding import AttentionDecoderConfig, Hypothesis, JointDecoderConfig, build_decoder
from asr.decoding.prefix_scores import empty_prefix, extended
from asr.errors import ConfigError
from asr.experiment import load_experiment
from asr.learner import make_updater
from asr.lengths import frames_needed_by_ctc
from asr.model import AcousticModel
from asr.model.attention import AttentionConfig, AttentionDecoder
from asr.recognizer import Recognizer
from asr.text.tokenizer import CharacterTokenizerConfig, train_tokenizer

# Blank, a, b, c: without a space, every sequence of tokens is another text.
VOCABULARY, FRAME_SIZE, NUM_FRAMES = 4, 5, 4
CONFIG = AttentionConfig(hidden_size=6, embedding_size=3, attention_size=4, num_filters=2, filter_frames=3)


class Bare:
    """Spells tokens as letters."""

    def decode(self, ids: tuple[int, ...]) -> str:
        return "".join("-abcdefg"[number] for number in ids)


def attention_decoder(vocabulary: int = VOCABULARY, *, seed: int = 0, frame_size: int = FRAME_SIZE) -> AttentionDecoder:
    torch.manual_seed(seed)
    decoder = AttentionDecoder(CONFIG, frame_size, vocabulary)
    for step in range(3):  # far from even distributions
        shaken(decoder, seed=seed + 100 * step)
    return decoder.eval()


def frames_and_log_probs(seed: int, num_frames: int = NUM_FRAMES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, num_frames, FRAME_SIZE, generator=generator), grid(num_frames, VOCABULARY, seed=seed)[None]


def texts_that_fit(num_frames: int) -> list[tuple[int, ...]]:
    """All token sequences that CTC can say in so many frames."""
    return [
        tokens
        for length in range(num_frames + 1)
        for tokens in itertools.product(range(1, VOCABULARY), repeat=length)
        if frames_needed_by_ctc(tokens) <= num_frames
    ]


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token)


def probability_of_texts(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """The probability that CTC gives each text, over all paths."""
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        probability = math.exp(sum(float(frame[token]) for frame, token in zip(log_probs, path, strict=True)))
        total[collapsed(path)] = total.get(collapsed(path), 0.0) + probability
    return total


@torch.no_grad()
def attention_log_prob(decoder: AttentionDecoder, frames: Tensor, tokens: tuple[int, ...]) -> float:
    scores = decoder(frames, torch.tensor([frames.shape[1]]), torch.tensor([tokens], dtype=torch.int64))
    return sum(float(row[token]) for row, token in zip(scores[0].log_softmax(-1), (*tokens, 0), strict=True))


def decode(config: AttentionDecoderConfig | JointDecoderConfig, seed: int) -> list[Hypothesis]:
    frames, log_probs = frames_and_log_probs(seed)
    decoder = build_decoder(config, Bare(), attention_decoder(seed=seed))
    return decoder.decode(log_probs, torch.tensor([NUM_FRAMES]), frames)[0]


def all_scores(seed: int, *, ctc_weight: float, length_power: float) -> dict[str, float]:
    """The score of every text, computed the slow way."""
    frames, log_probs = frames_and_log_probs(seed)
    decoder, ctc = attention_decoder(seed=seed), probability_of_texts(log_probs[0])
    scores = {}
    for tokens in texts_that_fit(NUM_FRAMES):
        score = (1 - ctc_weight) * attention_log_prob(decoder, frames, tokens) + ctc_weight * math.log(ctc[tokens])
        scores[Bare().decode(tokens)] = score / (len(tokens) + 1) ** length_power
    return scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length_power", [0.0, 0.7])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4])
def test_a_wide_beam_finds_what_trying_everything_finds(seed: int, length_power: float, ctc_weight: float) -> None:
    common = {"width": 200, "num_best": 3, "length_power": length_power}
    config = JointDecoderConfig(ctc_weight=ctc_weight, **common) if ctc_weight else AttentionDecoderConfig(**common)
    expected = sorted(
        all_scores(seed, ctc_weight=ctc_weight, length_power=length_power).items(), key=lambda item: -item[1]
    )[:3]
    found = decode(config, seed)
    assert [reading.text for reading in found] == [text for text, _ in expected]
    for reading, (_, score) in zip(found, expected, strict=True):
        assert reading.score == pytest.approx(score, abs=1e-4)


class Spaced(Bare):
    """As a tokenizer with a space, which changes nothing at the end of a text."""

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(super().decode(ids).replace("c", " ").split())


@pytest.mark.parametrize("seed", [0, 62, 63, 67])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4])
def test_tokens_that_read_the_same_are_one_of_the_best_texts(seed: int, ctc_weight: float) -> None:
    common = {"width": 200, "num_best": 5, "length_power": 0.0}
    config = JointDecoderConfig(ctc_weight=ctc_weight, **common) if ctc_weight else AttentionDecoderConfig(**common)
    best: dict[str, float] = {}
    for bare, score in all_scores(seed, ctc_weight=ctc_weight, length_power=0.0).items():
        text = " ".join(bare.replace("c", " ").split())
        best[text] = max(score, best.get(text, -math.inf))
    frames, log_probs = frames_and_log_probs(seed)
    decoder = build_decoder(config, Spaced(), attention_decoder(seed=seed))
    (found,) = decoder.decode(log_probs, torch.tensor([NUM_FRAMES]), frames)
    assert [reading.text for reading in found] == sorted(best, key=lambda text: -best[text])[:5]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4])
def test_a_narrow_beam_scores_its_text_rightly(seed: int, ctc_weight: float) -> None:
    config = (
        JointDecoderConfig(width=2, ctc_weight=ctc_weight)
        if ctc_weight
        else AttentionDecoderConfig(width=2, length_power=0)
    )
    (best,) = decode(config, seed)
    expected = all_scores(seed, ctc_weight=ctc_weight, length_power=0.0)
    assert best.score == pytest.approx(expected[best.text], abs=1e-4)


def test_prefix_scores_are_sums_over_all_texts_that_begin_so() -> None:
    log_probs = grid(NUM_FRAMES, VOCABULARY, seed=5).double().log_softmax(dim=-1)
    texts = probability_of_texts(log_probs)
    rows, tokens = log_probs.float().numpy(), np.arange(1, VOCABULARY)
    beginnings = {(): (empty_prefix(rows), 1.0)}
    for _ in range(NUM_FRAMES):
        for prefix, (alignments, _) in list(beginnings.items()):
            last = prefix[-1] if prefix else 0
            longer, begins = extended(rows, alignments, last, tokens)
            for place, token in enumerate(tokens.tolist()):
                beginnings[*prefix, token] = longer[place], math.exp(begins[place])
    for prefix, (alignments, probability) in beginnings.items():
        same = [value for text, value in texts.items() if text[: len(prefix)] == prefix]
        assert probability == pytest.approx(sum(same), abs=1e-6), prefix
        whole = math.exp(np.logaddexp(*alignments[-1]))
        assert whole == pytest.approx(texts.get(prefix, 0.0), abs=1e-6), prefix


def test_ctc_keeps_attention_to_what_was_said() -> None:
    # Attention that has learnt nothing, and CTC that is sure.
    decoder = AttentionDecoder(CONFIG, FRAME_SIZE, VOCABULARY).eval()
    log_probs = torch.full((1, 5, VOCABULARY), math.log(0.001))
    for frame, token in enumerate((1, 0, 2, 2, 1)):
        log_probs[0, frame, token] = math.log(0.997)
    search = build_decoder(JointDecoderConfig(ctc_weight=0.9), Bare(), decoder)
    (best,) = search.decode(log_probs, torch.tensor([5]), torch.randn(1, 5, FRAME_SIZE))[0]
    assert (best.text, best.frames) == ("aba", (0, 2, 4))


def test_no_text_is_longer_than_its_frames_allow() -> None:
    # Attention that never ends and repeats itself.
    decoder = attention_decoder()
    with torch.no_grad():
        decoder.output.bias.copy_(torch.tensor([-50.0, 50.0, 0.0, 0.0]))
    frames, log_probs = frames_and_log_probs(1, num_frames=7)
    search = build_decoder(AttentionDecoderConfig(width=1), Bare(), decoder)
    (best,) = search.decode(log_probs, torch.tensor([7]), frames)[0]
    assert best.text == "aaaa"


@pytest.mark.parametrize("config", [AttentionDecoderConfig(num_best=4), JointDecoderConfig(num_best=4)])
def test_what_ctc_holds_impossible_has_frames_all_the_same(config: AttentionDecoderConfig | JointDecoderConfig) -> None:
    frames, log_probs = frames_and_log_probs(2, num_frames=6)
    log_probs[0, 1:3] = -math.inf
    readings = build_decoder(config, Bare(), attention_decoder()).decode(log_probs, torch.tensor([6]), frames)[0]
    assert any(reading.tokens for reading in readings)
    for reading in readings:
        assert len(reading.tokens) == len(set(reading.frames))
        assert list(reading.frames) == sorted(reading.frames)


def test_a_model_without_attention_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"decoder 'joint': this model has no attention decoder; .* attention=\{\}"):
        build_decoder(JointDecoderConfig(), letters(VOCABULARY))
    with pytest.raises(ConfigError, match=r"num_best=9.*width=8"):
        validated(AttentionDecoderConfig, {"num_best": 9}, where="test")


def test_a_few_utterances_are_learnt_by_heart_by_attention_alone() -> None:
    generator = random.Random(0)
    sentences = [[generator.choice(list(TONES_HZ)) for _ in range(length)] for length in (1, 2, 3, 4, 2, 3)]
    waveforms = [torch.from_numpy(tone_waveform(words, generator)) for words in sentences]
    texts = tuple(map(" ".join, sentences))
    batch = Batch(
        ids=texts,
        texts=texts,
        speakers=("",) * len(texts),
        waveforms=torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
        num_samples=torch.tensor(list(map(len, waveforms))),
    )
    sizes = "{hidden_size: 32, embedding_size: 16, attention_size: 16, num_filters: 4, filter_frames: 9, dropout: 0}"
    experiment = load_experiment(None, [*TINY, f"attention={sizes}", "loss.attention.weight=0.7"])
    tokenizer = train_tokenizer(texts, CharacterTokenizerConfig())
    torch.manual_seed(0)
    model = AcousticModel(experiment.acoustic, tokenizer.size)
    updater = make_updater(experiment, model, tokenizer, dtype=torch.float32)
    for number in range(80):
        updater.update([batch], number, lr=1e-2)
    for config in (AttentionDecoderConfig(width=4), JointDecoderConfig(width=4)):
        decoder = build_decoder(config, tokenizer, model.attention)
        recognizer = Recognizer(model, tokenizer, decoder, torch.device("cpu"))
        together = [recognized.best for recognized in recognizer.recognize([batch])]
        assert tuple(best.text for best in together) == texts
        for row, best in enumerate(together):
            (alone,) = recognizer.recognize([batch.rows(row, row + 1)])
            assert (alone.best.tokens, alone.best.frames) == (best.tokens, best.frames)
            assert alone.best.score == pytest.approx(best.score, abs=1e-4)
