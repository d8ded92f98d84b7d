"""The recogniser in other people's Python: what it takes for sound, and what it says to the rest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ragged import SAMPLE_RATE, VOCABULARY_SIZE, feature_config, ragged_batch, ragged_features, small_model
from spellers import letters

from asr.decoding import GreedyDecoderConfig, build_decoder
from asr.errors import AudioError
from asr.features import StoredConfig
from asr.recognizer import Recognizer

SAMPLES = ragged_batch([4000])[0][0]


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    tokenizer = letters(VOCABULARY_SIZE)
    return Recognizer(small_model(), tokenizer, build_decoder(GreedyDecoderConfig(), tokenizer), torch.device("cpu"))


@pytest.mark.parametrize(
    "samples",
    [
        SAMPLES,
        SAMPLES.double().requires_grad_(),
        SAMPLES.bfloat16(),
        SAMPLES.double().numpy(),
        SAMPLES.numpy()[::-1].copy()[::-1],
        (SAMPLES * 2**15).short(),
        (SAMPLES * 2**15).numpy().astype(np.int16),
        (SAMPLES.double() * 2**31).numpy().astype(np.int32),
    ],
    ids=lambda samples: f"{type(samples).__name__} {samples.dtype}",
)
def test_samples_of_any_kind_are_heard_alike(recognizer: Recognizer, samples: Any) -> None:
    expected, found = (recognizer.transcribe(each, "u", sample_rate=SAMPLE_RATE) for each in (SAMPLES.numpy(), samples))
    assert (found.id, found.audio, found.seconds) == ("u", "", 0.5)
    assert found.best.score == pytest.approx(expected.best.score, abs=0.02)


def test_a_path_may_be_a_text_and_another_rate_is_converted(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "day 1.wav"
    soundfile.write(path, SAMPLES.numpy(), 2 * SAMPLE_RATE, subtype="FLOAT")
    of_file, of_text = recognizer.transcribe(path), recognizer.transcribe(str(path))
    assert of_text == of_file
    assert (of_text.id, of_text.audio, of_text.seconds) == ("day 1", str(path), 0.25)
    of_samples = recognizer.transcribe(SAMPLES, sample_rate=2 * SAMPLE_RATE)
    assert of_samples.best == of_file.best


def test_a_batch_gives_what_each_gives_alone(recognizer: Recognizer) -> None:
    audios = [SAMPLES, SAMPLES[:1500].numpy()]
    together = recognizer.transcribe_batch(audios, ["long", "short"], sample_rate=SAMPLE_RATE)
    assert [each.id for each in together] == ["long", "short"]
    for audio, found in zip(audios, together, strict=True):
        alone = recognizer.transcribe(audio, sample_rate=SAMPLE_RATE)
        assert found.seconds == alone.seconds
        assert found.best.score == pytest.approx(alone.best.score, abs=1e-4)
    assert recognizer.transcribe_batch([]) == []


def test_stored_frames_are_heard_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "frames.npy"
    np.save(path, ragged_features([300], 20)[0][0].numpy())
    tokenizer = letters(VOCABULARY_SIZE)
    model = small_model(features=feature_config(StoredConfig))
    recognizer = Recognizer(model, tokenizer, build_decoder(GreedyDecoderConfig(), tokenizer), torch.device("cpu"))
    found = recognizer.transcribe(path, longest_piece=1)
    assert found == recognizer.transcribe(path)
    assert (found.id, found.seconds) == ("frames", 3)


def test_a_rate_may_be_one_of_numpys_numbers(recognizer: Recognizer) -> None:
    found = recognizer.transcribe(SAMPLES, sample_rate=np.int64(SAMPLE_RATE))  # type: ignore[arg-type]
    assert found.best == recognizer.transcribe(SAMPLES, sample_rate=SAMPLE_RATE).best


def test_a_mistake_in_an_argument_is_one_line(recognizer: Recognizer) -> None:
    with pytest.raises(AudioError, match="an id for each of 2 sounds, found 1"):
        recognizer.transcribe_batch([SAMPLES, SAMPLES], ["a"], sample_rate=SAMPLE_RATE)
    with pytest.raises(AudioError, match="expected a sample rate in hertz, found '16000'"):
        recognizer.transcribe(SAMPLES, sample_rate="16000")  # type: ignore[arg-type]


def test_files_of_a_batch_without_ids_are_called_by_their_names(recognizer: Recognizer, tmp_path: Path) -> None:
    paths = [tmp_path / "day 1.wav", tmp_path / "day 2.wav"]
    for path in paths:
        soundfile.write(path, SAMPLES.numpy(), SAMPLE_RATE)
    assert [each.id for each in recognizer.transcribe_batch(paths)] == ["day 1", "day 2"]


@pytest.mark.parametrize(
    ("audio", "rate", "complaint"),
    [
        (SAMPLES, None, "samples do not say their rate; name it, as in sample_rate=16000"),
        (SAMPLES, 0, "expected a sample rate in hertz, found 0"),
        (SAMPLES, math.nan, "expected a sample rate in hertz, found nan"),
        (SAMPLES, math.inf, "expected a sample rate in hertz, found inf"),
        (SAMPLES[None], SAMPLE_RATE, r"expected samples \(N,\) of one channel, found shape \(1, 4000\)"),
        (SAMPLES.bool(), SAMPLE_RATE, "expected floats or signed integers, found bool"),
        (SAMPLES.byte(), SAMPLE_RATE, "expected floats or signed integers, found uint8"),
        (SAMPLES[:0], SAMPLE_RATE, "no samples"),
        (SAMPLES * 2**15, SAMPLE_RATE, "full scale is 1; divide them by it"),
        (SAMPLES / 0, SAMPLE_RATE, "samples not finite"),
        ([0.1, 0.2], SAMPLE_RATE, "expected a path, a numpy array or a torch tensor, found list"),
        ("nowhere.wav", None, "nowhere.wav: missing"),
    ],
)
def test_what_is_no_sound_is_refused(recognizer: Recognizer, audio: Any, rate: float | None, complaint: str) -> None:
    with pytest.raises(AudioError, match=complaint):
        recognizer.transcribe(audio, sample_rate=rate)
