"""What the stages say before the work begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import make_run

from asr.audio import encode_audio
from asr.corpus.shards import ShardIndex, ShardsConfig, combined_index, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import ConfigError, CorpusError
from asr.experiment import load_experiment
from asr.recipe import recipe_of_files
from asr.scoring import write_results
from asr.stages import _try_largest_batch, prepare, show_results

RATE = 8000
TEXTS = {"short": 2000, "the longest text of all": 3000, "longest sound": 4000}


class Asked:
    """In the place of an updater: what it was asked, and `fitting` as the answer."""

    def __init__(self, fitting: float) -> None:
        self.fitting = fitting
        self.asked: tuple[Any, ...] = ()
        self.device = torch.device("cuda")

    def largest_batch_seconds(self, *arguments: Any) -> float:
        self.asked = arguments
        return self.fitting


@pytest.mark.parametrize(
    ("fitting", "said"),
    [
        (40.0, ""),
        (10.0, "note: batches of 40 s do not fit into memory, 10 s do: set batches.seconds=10"),
        (0.0, "note: the longest utterances, 0.5 s, do not fit into memory even alone"),
    ],
)
def test_batches_are_tried_with_the_longest_sound_and_text(
    fitting: float,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgotten: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forgotten.append)
    clips = [
        Utterance(id=f"u{length}", audio=encode_audio(np.zeros(length, np.float32), RATE, "flac"), text=text)
        for text, length in TEXTS.items()
    ]
    write_shards(clips, tmp_path / "shards", sample_rate=RATE, config=ShardsConfig())
    run = make_run(tmp_path, "batches.seconds=40")
    updater = Asked(fitting)
    _try_largest_batch(run, updater, combined_index({tmp_path / "shards": 1.0}))  # type: ignore[arg-type]
    assert updater.asked == (run.experiment.batches, 0.5, "the longest text of all")
    found = capsys.readouterr().out
    assert found.strip().startswith(said)
    assert bool(found) == bool(said)
    assert forgotten == [updater.device]


def test_a_seed_that_torch_does_not_take_is_refused_with_the_configuration() -> None:
    assert load_experiment(None, [f"seed={2**64 - 1}"]).seed == 2**64 - 1
    with pytest.raises(ConfigError, match=r"seed: input should be less than 18446744073709551616"):
        load_experiment(None, [f"seed={2**64}"])


def test_the_same_sound_under_another_name_is_not_measured_on(tmp_path: Path) -> None:
    train, heard = tmp_path / "train", tmp_path / "heard.jsonl"
    train.mkdir()
    for number in range(4):
        data = encode_audio(np.full(RATE // 2, 0.1, np.float32), RATE, "wav")
        (train / f"u{number}.wav").write_bytes(data)
        (train / f"u{number}.txt").write_text("a b", encoding="utf-8")
    other = {"id": "another name", "audio": "train/../train/u2.wav", "text": "a b"}
    heard.write_text(json.dumps(other) + "\n", encoding="utf-8")
    run = replace(make_run(tmp_path / "run"), recipe=recipe_of_files(train, (heard,)))
    with pytest.raises(CorpusError, match=r"'another name' \(.*u2.wav\) is in 'heard' and in '(train|dev)'"):
        prepare(run)


def test_a_copy_of_a_sound_is_not_measured_on(tmp_path: Path) -> None:
    for part, level in (("train", 0.1), ("test", 0.2)):
        (tmp_path / part).mkdir()
        for number in range(4):
            data = encode_audio(np.full(RATE // 2, level + number / 100, np.float32), RATE, "wav")
            (tmp_path / part / f"{part}{number}.wav").write_bytes(data)
            (tmp_path / part / f"{part}{number}.txt").write_text("a b", encoding="utf-8")
    for number in range(4):
        (tmp_path / "test" / f"copy{number}.wav").write_bytes((tmp_path / "train" / f"train{number}.wav").read_bytes())
        (tmp_path / "test" / f"copy{number}.txt").write_text("a b", encoding="utf-8")
    run = replace(make_run(tmp_path / "run"), recipe=recipe_of_files(tmp_path / "train", (tmp_path / "test",)))
    with pytest.raises(CorpusError, match=r"'copy[0-3]' \(.*copy[0-3].wav\) is in 'test' and in 'train'"):
        prepare(run)


def test_folders_in_which_other_sounds_have_the_same_names_are_no_leak(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number in range(4):
            path = tmp_path / part / "anna" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_audio(np.full(RATE // 2, 0.1 if part == "train" else 0.2, np.float32), RATE, "wav"))
            path.with_suffix(".txt").write_text("a b", encoding="utf-8")
    recipe = recipe_of_files(tmp_path / "train", (tmp_path / "test",))
    run = replace(make_run(tmp_path / "run"), recipe=recipe)
    prepare(run)
    assert {part.name: ShardIndex.load(run.shards(part)).num_utterances for part in run.test_parts} == {"test": 4}


def test_without_a_part_to_measure_on_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, "splits.test=[]")
    assert run.test_parts == []
    write_results(tmp_path / "results.json", [])
    show_results(run)
    assert (
        "nothing was measured, for lack of a part to measure on: see --test and splits.test" in capsys.readouterr().out
    )


@pytest.mark.parametrize("sample_rate", [RATE, RATE // 2])
def test_files_with_less_than_the_model_hears_are_told(
    sample_rate: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = tmp_path / "train"
    train.mkdir()
    for number in range(4):
        data = encode_audio(np.full(RATE // 2, 0.1, np.float32), RATE // 2, "wav")
        (train / f"u{number}.wav").write_bytes(data)
        (train / f"u{number}.txt").write_text("a b", encoding="utf-8")
    run = make_run(tmp_path / "run", f"features.sample_rate={sample_rate}")
    with caplog.at_level("WARNING"):
        prepare(replace(run, recipe=recipe_of_files(train, ())))
    told = [message for message in caplog.messages if f"features.sample_rate={RATE // 2} would suit them" in message]
    assert bool(told) == (sample_rate == RATE)
