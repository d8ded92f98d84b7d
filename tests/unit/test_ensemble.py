"""Several models asked together: what is averaged, what may differ, and who is told that they were several."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ragged import encoder_config, small_model
from tones import TONES_HZ, write_tone_corpus
from torch import Tensor

from asr.cli import main
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import batches_of_utterances
from asr.corpus.utterance import read_manifest
from asr.decoding import AttentionDecoderConfig, GreedyDecoderConfig, JointDecoderConfig
from asr.decoding.attention import AttentionSearch
from asr.errors import AudioError, ConfigError
from asr.features import LogMelConfig, MfccConfig, StoredConfig
from asr.model import AcousticModel
from asr.model.attention import AttentionConfig
from asr.model.checkpoint import Checkpoint, save_checkpoint
from asr.recognizer import Recognizer
from asr.recognizer.ensemble import Ensemble, average_probabilities
from asr.text.normalize import NormalizerConfig
from asr.text.tokenizer import CharacterTokenizerConfig, train_tokenizer

SMALL = small_model().config
MFCC = MfccConfig(sample_rate=8000, n_mfcc=7, n_mels=12)


def write_model(path: Path, *, seed: int = 0, words: str = " ".join(TONES_HZ), **changes: Any) -> Path:
    """A checkpoint of an untrained model; `lowercase` changes the normaliser, other changes the model."""
    normalizer = NormalizerConfig(lowercase=changes.pop("lowercase", True))
    tokenizer = train_tokenizer([words], CharacterTokenizerConfig(normalizer=normalizer))
    config = SMALL.model_copy(update=changes)
    torch.manual_seed(seed)
    weights = AcousticModel(config, tokenizer.size).state_dict()
    tree = config.model_dump(mode="json")
    save_checkpoint(path, Checkpoint(experiment=tree, tokenizer=tokenizer.state(), model=weights))
    return path


def log_probs(*rows: list[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([rows]), torch.tensor([len(rows)])


def test_a_run_that_is_not_finished_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    best = tmp_path / "run" / "checkpoints" / "best.pt"
    best.parent.mkdir(parents=True)
    write_model(best)
    Ensemble.load([tmp_path / "run"])
    assert f"{tmp_path / 'run'}: this run is not finished; {best} is what it has so far" in caplog.text
    caplog.clear()
    Ensemble.load([best])
    write_model(tmp_path / "run" / "model.pt")
    Ensemble.load([tmp_path / "run"])
    assert not caplog.records


def test_probabilities_are_averaged_not_their_logarithms() -> None:
    generator = torch.Generator().manual_seed(0)
    models = [torch.randn(2, 5, 4, generator=generator).mul(3).log_softmax(-1) for _ in range(3)]
    frames = torch.tensor([5, 3])
    mean, num_frames = average_probabilities([(each, frames) for each in models])
    torch.testing.assert_close(mean.exp(), torch.stack(models).exp().mean(0))
    torch.testing.assert_close(mean.exp().sum(-1), torch.ones(2, 5))
    assert num_frames is frames
    backwards, _ = average_probabilities([(each, frames) for each in reversed(models)])
    torch.testing.assert_close(backwards, mean)


def test_what_is_nearly_or_wholly_impossible_stays_finite_where_any_model_allows_it() -> None:
    nothing = float("-inf")
    mean, _ = average_probabilities([log_probs([0.0, -300.0, nothing]), log_probs([nothing, -301.0, nothing])])
    assert mean[0, 0].tolist() == pytest.approx([-0.693147, -300.379885, nothing])


def test_other_numbers_of_frames_are_refused() -> None:
    short, long = log_probs([0.0]), log_probs([0.0], [0.0])
    for models, found in (((short, long), "1 and 2"), ((long, short), "2 and 1")):
        with pytest.raises(ConfigError, match=f"cut utterance 0 of a batch into {found} frames"):
            average_probabilities(models)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"words": "a b c"}, "it has 5 tokens, not"),
        ({"words": " ".join(TONES_HZ).replace("a", "z")}, "its token"),
        ({"lowercase": False}, "normalised with lowercase=False, not True"),
        ({"encoder": encoder_config(factor=4)}, "it has a frame every"),
        (
            {"features": MFCC.model_copy(update={"sample_rate": 16000})},
            "it takes sound of 16000 Hz, not sound of 8000 Hz",
        ),
        ({"features": StoredConfig(num_features=9)}, "it takes 9 stored features, not sound of 8000 Hz"),
    ],
)
def test_models_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    first, other = write_model(tmp_path / "first.pt"), write_model(tmp_path / "other.pt", **changes)
    with pytest.raises(ConfigError, match=told) as error:
        Ensemble.load([first, other])
    assert str(first) in str(error.value)
    assert str(other) in str(error.value)


@pytest.mark.parametrize("config", [AttentionDecoderConfig(), JointDecoderConfig()])
def test_attention_is_asked_of_one_model_only(
    tmp_path: Path, config: AttentionDecoderConfig | JointDecoderConfig
) -> None:
    path = write_model(tmp_path / "model.pt", attention=AttentionConfig(hidden_size=6))
    assert isinstance(Ensemble.load([path]).decoder(config), AttentionSearch)
    with pytest.raises(ConfigError, match="2 models are averaged in CTC's probabilities"):
        Ensemble.load([path, path]).decoder(config)


def test_features_and_cells_may_differ(tmp_path: Path) -> None:
    """Each model hears the sound through its own features; the mean is that of what each says alone."""
    assert isinstance(SMALL.features, LogMelConfig)
    paths = [
        write_model(tmp_path / "a.pt"),
        write_model(tmp_path / "b.pt", seed=1, features=MFCC),
        write_model(tmp_path / "c.pt", seed=2, encoder=encoder_config(cell="lstm", num_layers=1)),
    ]
    corpus = write_tone_corpus(tmp_path / "test", 1, seed=1)
    audio = corpus.parent / "u000.flac"
    together = Recognizer.load(paths[0], GreedyDecoderConfig(), "cpu", paths[1:])
    alone = [Recognizer.load(path, GreedyDecoderConfig(), "cpu") for path in paths]
    best = together.transcribe(audio).best
    assert together.transcribe(audio).models == 3
    (batch,) = batches_of_utterances(read_manifest(corpus), 8000, BatchesConfig())
    mean = torch.stack([each.encode(batch).log_probs.exp() for each in alone]).mean(0)
    encoded = together.encode(batch)
    torch.testing.assert_close(encoded.log_probs.exp(), mean)
    assert together.read(batch, encoded)[0].best.tokens == best.tokens


Run = Callable[..., tuple[str, str, object]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; returns what it printed on both outputs, and its exit code."""

    def run(*arguments: str | Path) -> tuple[str, str, object]:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return *capsys.readouterr(), stop.value.code

    return run


def test_results_and_reports_say_how_many_took_part(cli: Run, tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "first.pt"), write_model(tmp_path / "second.pt", seed=1, features=MFCC)
    corpus = write_tone_corpus(tmp_path / "test", 3, seed=1)
    results, report = tmp_path / "results.json", tmp_path / "report.html"
    models = ("--model", first, "--model", second)
    greedy = ("--decoder", "greedy")
    table, _, code = cli("evaluate", *models, "--data", corpus, *greedy, "--json", results, "--report", report)
    assert not code
    assert "of all 2 models" in " ".join(table.split())
    (record,) = json.loads(results.read_text(encoding="utf-8"))
    assert record["models"] == 2
    assert record["rtf"] > 0
    page = report.read_text(encoding="utf-8")
    assert f"averaged with those of 1 more: {second}" in page
    said, _, _ = cli("transcribe", corpus.parent / "u000.flac", *models, "--format", "json")
    assert json.loads(said)["models"] == 2
    said, _, _ = cli("transcribe", corpus.parent / "u000.flac", "--model", first, "--format", "json")
    assert "models" not in json.loads(said)


def test_a_model_that_does_not_fit_is_one_line(cli: Run, tmp_path: Path) -> None:
    first, other = write_model(tmp_path / "first.pt"), write_model(tmp_path / "other.pt", words="a b c")
    corpus = write_tone_corpus(tmp_path / "test", 1, seed=1)
    _, errors, code = cli("evaluate", "--model", first, "--model", other, "--data", corpus)
    assert code == 2
    (line,) = errors.splitlines()
    assert "cannot be averaged" in line
    assert "tokens" in line


def test_a_model_with_itself_says_what_it_says_alone(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.pt")
    corpus = write_tone_corpus(tmp_path / "test", 1, seed=1)
    audio = corpus.parent / "u000.flac"
    alone, twice = Recognizer.load(path).transcribe(audio), Recognizer.load(path, others=[path]).transcribe(audio)
    assert twice.best.tokens == alone.best.tokens
    assert twice.best.score == pytest.approx(alone.best.score, abs=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 30.0 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_audio_that_does_not_fit_into_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    recognizer = Recognizer.load(write_model(tmp_path / "model.pt"), device="cpu")

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(recognizer.model, "encode", full)
    corpus = write_tone_corpus(tmp_path / "test", 1, seed=1)
    (batch,) = batches_of_utterances(read_manifest(corpus), 8000, BatchesConfig())
    with pytest.raises(AudioError, match=rf"'{batch.ids[0]}'.*memory of cpu.*into pieces$"):
        recognizer.encode(batch)


def test_other_errors_of_a_model_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = Recognizer.load(write_model(tmp_path / "model.pt"), device="cpu")

    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not agree")

    monkeypatch.setattr(recognizer.model, "encode", broken)
    corpus = write_tone_corpus(tmp_path / "test", 1, seed=1)
    (batch,) = batches_of_utterances(read_manifest(corpus), 8000, BatchesConfig())
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        recognizer.encode(batch)
