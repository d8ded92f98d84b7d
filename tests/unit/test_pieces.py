"""Long recordings: where they are cut, and what is heard in their pieces against what is heard in the whole."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ragged import SAMPLE_RATE, VOCABULARY_SIZE, ragged_batch, small_model
from spellers import letters

from asr.decoding import BeamDecoderConfig, Hypothesis, build_decoder
from asr.errors import AudioError
from asr.recognizer import Recognized, Recognizer
from asr.recognizer.pieces import cut_at_pauses, longest_piece_for, put_together

TOKENIZER = letters(VOCABULARY_SIZE)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    decoder = build_decoder(BeamDecoderConfig(width=8, num_best=3), TOKENIZER)
    return Recognizer(small_model(), TOKENIZER, decoder, torch.device("cpu"))


@pytest.mark.parametrize(
    ("learnt_from", "seconds"),
    [([6.5], 6.5), ([24.5, 6.5], 6.5), ([300.0], 40.0), ([0.3], 1.0), ([None], 40.0), ([None, 6.5], 6.5)],
)
def test_pieces_are_as_long_as_what_a_model_knows(learnt_from: list[float | None], seconds: float) -> None:
    assert longest_piece_for(learnt_from) == seconds


@given(length=st.integers(0, 2000), longest=st.integers(1, 500), step=st.integers(1, 50), seed=st.integers(0, 10**6))
def test_pieces_cover_the_recording_in_whole_frames_none_too_long_or_tiny(
    length: int, longest: int, step: int, seed: int
) -> None:
    waveform = np.random.default_rng(seed).normal(size=length).astype(np.float32)
    starts = cut_at_pauses(waveform, longest, step, rate=100)
    longest = max(longest, 4 * step)
    sizes = [end - start for start, end in itertools.pairwise([*starts, length])]
    assert starts[0] == 0
    assert all(start % step == 0 for start in starts)
    assert max(sizes) <= longest
    assert len(sizes) == 1 or min(sizes) >= longest // 4


@given(st.integers(500, 750), st.floats(0, 0.1))
def test_the_cut_is_in_the_middle_of_the_pause(middle: int, hum: float) -> None:
    speech = np.sin(np.arange(1000, dtype=np.float32))
    speech[middle - 30 : middle + 30] *= hum
    _, cut = cut_at_pauses(speech, longest=900, step=10, rate=100)
    assert abs(cut - middle) <= 15


def test_frames_longer_than_a_pause_are_cut_between_the_quietest_too() -> None:
    speech = np.sin(np.arange(1000, dtype=np.float32))
    speech[600:700] = 0
    assert cut_at_pauses(speech, longest=900, step=50, rate=100) == [0, 650]


def test_a_long_recording_is_heard_as_its_pieces_are(recognizer: Recognizer) -> None:
    (speech,) = ragged_batch([20_500])[0]
    speech[7000:9000] *= 0.01
    starts = cut_at_pauses(speech.numpy(), 2 * SAMPLE_RATE, 160, SAMPLE_RATE)
    assert 7000 < starts[1] < 9000
    alone = [
        recognizer.transcribe(piece, sample_rate=SAMPLE_RATE).best for piece in torch.tensor_split(speech, starts[1:])
    ]
    told: list[float] = []
    found = recognizer.transcribe(speech, "talk", sample_rate=SAMPLE_RATE, longest_piece=2, advance=told.append)
    assert found.best.text == " ".join(piece.text for piece in alone if piece.text)
    assert found.best.score == pytest.approx(sum(piece.score for piece in alone), abs=1e-3)
    moved = [
        (token, frame + start // 160)
        for piece, start in zip(alone, starts, strict=True)
        for token, frame in zip(piece.tokens, piece.frames, strict=True)
    ]
    spoken = list(zip(found.best.tokens, found.best.frames, strict=True))
    assert [each for each in spoken if each in moved] == moved
    assert " ".join(word.text for word in found.words) == found.best.text == TOKENIZER.decode(found.best.tokens)
    assert len(found.probabilities) == len(found.pieces) == len(spoken)
    assert (found.id, found.seconds, sum(told)) == ("talk", 20_500 / SAMPLE_RATE, 20_500 / SAMPLE_RATE)
    whole = recognizer.transcribe(speech, "talk", sample_rate=SAMPLE_RATE)
    assert whole == recognizer.transcribe(speech, "talk", sample_rate=SAMPLE_RATE, longest_piece=math.inf)


def test_a_batch_of_long_and_short_gives_what_each_gives_alone(recognizer: Recognizer) -> None:
    audios = [signal[:length] for signal, length in zip(*ragged_batch([3000, 20_000, 9000]), strict=True)]
    together = recognizer.transcribe_batch(audios, ["a", "b", "c"], sample_rate=SAMPLE_RATE, longest_piece=1)
    for audio, found in zip(audios, together, strict=True):
        alone = recognizer.transcribe(audio, found.id, sample_rate=SAMPLE_RATE, longest_piece=1)
        assert (found.best.tokens, found.best.frames) == (alone.best.tokens, alone.best.frames)
        assert found.best.score == pytest.approx(alone.best.score, abs=1e-3)
        assert found.seconds == alone.seconds


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_where_all_samples_are_equal_nothing_is_heard_and_the_model_is_not_asked(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, level: float
) -> None:
    first, last = (speech[:6000] for speech in ragged_batch([6000, 6000])[0])
    silence = torch.full((40_000,), level)
    alone = recognizer.transcribe(last, sample_rate=SAMPLE_RATE).best
    asked: list[int] = []
    encode = recognizer.encode
    monkeypatch.setattr(recognizer, "encode", lambda batch: (asked.append(len(batch)), encode(batch))[1])
    told: list[float] = []
    talk, silent, speaking = recognizer.transcribe_batch(
        [torch.cat([first, silence, last]), silence, last],
        sample_rate=SAMPLE_RATE,
        longest_piece=1,
        advance=told.append,
    )
    assert (silent.best, silent.words, silent.seconds) == (Hypothesis(text="", score=0.0), (), 5.0)
    assert (speaking.best.text, speaking.best.frames) == (alone.text, alone.frames)
    assert sum(told) == pytest.approx(talk.seconds + silent.seconds + speaking.seconds) == 6.5 + 5.0 + 0.75
    assert asked[0] == 2
    assert sum(asked) <= 5, "beside the other recording, what is around the silence"
    times = [frame * recognizer.seconds_per_frame for frame in talk.best.frames]
    assert any(seconds < 0.75 for seconds in times)
    assert any(seconds > 5.75 for seconds in times)
    assert not any(1.75 < seconds < 4.75 for seconds in times)


@given(st.lists(st.lists(st.floats(-20, 0), min_size=1, max_size=3), min_size=2, max_size=4))
def test_readings_of_the_whole_are_the_most_probable_combinations(scores: list[list[float]]) -> None:
    pieces = [
        Recognized(
            id="",
            seconds=1.0,
            hypotheses=[
                Hypothesis(text="abc"[rank], score=score, tokens=(2 + rank,), frames=(3,))
                for rank, score in enumerate(sorted(each, reverse=True))
            ],
            pieces=("a",),
            probabilities=(0.5,),
        )
        for each in scores
    ]
    found = put_together(pieces, [10 * number for number in range(len(pieces))], TOKENIZER)
    number = max(map(len, scores))
    every = sorted((math.fsum(scores) for scores in itertools.product(*scores)), reverse=True)
    assert [reading.score for reading in found.hypotheses] == pytest.approx(every[:number])
    assert found.best.frames[::2] == tuple(10 * piece + 3 for piece in range(len(pieces)))
    assert [word.confidence for word in found.words] == [pytest.approx(0.5)] * len(pieces)


def test_no_reading_of_the_whole_stands_twice() -> None:
    pieces = []
    for readings in ([("", -1.0), ("a", -1.5), ("b", -4.0)], [("", -1.0), ("a", -1.75), ("b", -4.0)]):
        hypotheses = [
            Hypothesis(text=text, score=score, tokens=(2,) * len(text), frames=(0,) * len(text))
            for text, score in readings
        ]
        pieces.append(Recognized(id="", seconds=1.0, hypotheses=hypotheses))
    assert [(each.text, each.score) for each in put_together(pieces, [0, 10], TOKENIZER).hypotheses] == [
        ("", -2.0),
        ("a", -2.5),
        ("a a", -3.25),
    ]


@pytest.mark.parametrize("first", [(1, 2), (2,)])
def test_between_pieces_there_is_one_space(first: tuple[int, ...]) -> None:
    """As `▁a` of byte pairs has it already, and a model that hears the pause may."""
    readings = [Hypothesis(text="a", score=-1.0, tokens=each, frames=(4, 5)[-len(each) :]) for each in ((2,), first)]
    pieces = [
        Recognized(id="", seconds=1.0, hypotheses=[each], probabilities=(0.5,) * len(each.tokens)) for each in readings
    ]
    found = put_together(pieces, [0, 10], TOKENIZER)
    assert (found.best.tokens, "".join(found.pieces)) == ((2, 1, 2), "a▁a")
    assert found.best.frames == (5, 14 if len(first) > 1 else 10, 15)
    assert found.probabilities == (0.5, 0.5 if len(first) > 1 else 1.0, 0.5)


@pytest.mark.parametrize("longest", [0, -1, math.nan])
def test_pieces_of_no_length_are_refused(recognizer: Recognizer, longest: float) -> None:
    with pytest.raises(AudioError, match="longest_piece: expected seconds, 1 at least, found"):
        recognizer.transcribe(ragged_batch([8000])[0][0], sample_rate=SAMPLE_RATE, longest_piece=longest)
