"""`asr model` and `asr evaluate` on an untrained model: what they print and write."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ragged import small_model
from tones import SAMPLE_RATE, TONES_HZ, write_tone_corpus
from torch import Tensor

from asr.cli import main
from asr.cli.evaluate import Report, _default_report
from asr.cli.transcribe import LongestPiece
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.folder import read_folder
from asr.corpus.shards import ShardsConfig, write_shards
from asr.corpus.utterance import Utterance, read_manifest
from asr.decoding import BeamDecoderConfig, GreedyDecoderConfig, JointDecoderConfig, LexiconDecoderConfig
from asr.errors import CorpusError
from asr.evaluation import Subset, evaluate_subsets, open_subsets
from asr.model import AcousticModel
from asr.model.attention import AttentionConfig
from asr.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from asr.recipe import find_recipe, read_files
from asr.recognizer import LONGEST_SECONDS, Recognizer
from asr.resources import resource
from asr.text.tokenizer import CharacterTokenizerConfig, train_tokenizer

Command = Callable[..., str]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line; returns what it printed."""

    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path)


def write_model(tmp_path: Path, attention: AttentionConfig | None = None) -> Path:
    tokenizer = train_tokenizer([" ".join(TONES_HZ)], CharacterTokenizerConfig())
    config = small_model().config.model_copy(update={"attention": attention})
    torch.manual_seed(0)
    weights = AcousticModel(config, tokenizer.size).state_dict()
    training = {"optimizer": {"state": torch.zeros(10_000)}}
    path = tmp_path / "model.pt"
    tree = config.model_dump(mode="json")
    checkpoint = Checkpoint(
        experiment=tree, tokenizer=tokenizer.state(), model=weights, training=training, note="untrained"
    )
    save_checkpoint(path, checkpoint)
    return path


def test_shrunk_model_is_the_same_in_half_precision(cli: Command, model: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.pt"
    assert str(small) in cli("model", "shrink", model, "--out", small)
    before, after = load_checkpoint(model), load_checkpoint(small)
    assert small.stat().st_size < model.stat().st_size - 40_000
    assert after.training is None
    assert (after.experiment, after.tokenizer, after.note) == (before.experiment, before.tokenizer, before.note)
    for name, value in before.model.items():
        torch.testing.assert_close(after.model[name].float(), value, rtol=1e-3, atol=1e-4)
    corpus = write_tone_corpus(tmp_path / "test", 3, seed=1)
    heard = [cli("transcribe", *sorted(corpus.parent.glob("*.flac")), "--model", each) for each in (model, small)]
    assert heard[0] == heard[1]


def test_shrunk_model_names_no_file_of_the_machine(cli: Command, model: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(model)
    read = {"init": {"model": "/home/anna/m.pt"}, "splits": {"train": ["shards:/home/anna/x"]}}
    read["loss"] = {"phones": {"lexicon": "/home/anna/lexicon"}}
    save_checkpoint(model, replace(checkpoint, experiment=checkpoint.experiment | read))
    cli("model", "shrink", model, "--out", tmp_path / "small.pt")
    small = load_checkpoint(tmp_path / "small.pt")
    assert small.experiment == checkpoint.experiment
    assert b"anna" not in (tmp_path / "small.pt").read_bytes()


def test_a_model_is_not_shrunk_onto_itself(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    monkeypatch.setattr(sys, "argv", ["asr", "model", "shrink", str(model), "--out", str(model)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "this file is read too, and would be overwritten" in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.parametrize("command", ["shrink", "average"])
def test_a_model_is_written_over_another_one_but_over_no_list_of_words(
    command: str, cli: Command, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, models = model.with_name("words.txt"), [model] * (2 if command == "average" else 1)
    words.write_text("yes\n")
    monkeypatch.setattr(sys, "argv", ["asr", "model", command, *map(str, models), "--out", str(words)])
    with pytest.raises(SystemExit) as stop:
        main()
    told = f"error: --out {words}: a file that is no model is there and would be overwritten; write elsewhere\n"
    assert (stop.value.code, capsys.readouterr().err, words.read_text()) == (2, told, "yes\n")
    earlier = model.with_name("earlier.pt")
    save_checkpoint(earlier, replace(load_checkpoint(model), note="earlier"))
    cli("model", command, *models, "--out", earlier)
    assert load_checkpoint(earlier).note != "earlier"


def test_models_are_averaged_in_full_precision(cli: Command, model: Path, tmp_path: Path) -> None:
    checkpoint, small, out = load_checkpoint(model), tmp_path / "small.pt", tmp_path / "both.pt"
    moved = {name: value + 0.5 if value.is_floating_point() else value for name, value in checkpoint.model.items()}
    save_checkpoint(small, replace(checkpoint, model=moved, training=None, note="moved"))
    cli("model", "shrink", small, "--out", small.with_name("half.pt"))
    half = load_checkpoint(small.with_name("half.pt"))
    # As a version that knew fewer settings of tokenizers would have left it.
    del half.tokenizer["config"]["normalizer"]["dotless_i"]
    save_checkpoint(small.with_name("half.pt"), half)
    said = cli("model", "average", model, model, small.with_name("half.pt"), "--out", out)
    assert "average of 3 models: untrained; untrained; moved" in said
    averaged = load_checkpoint(out)
    assert averaged.training is None
    for name, value in checkpoint.model.items():
        expected = value + 0.5 / 3 if value.is_floating_point() else value
        assert averaged.model[name].dtype == value.dtype
        torch.testing.assert_close(averaged.model[name], expected, rtol=1e-3, atol=1e-4)


def test_what_matters_to_training_alone_is_no_obstacle_to_an_average(cli: Command, model: Path, tmp_path: Path) -> None:
    other = load_checkpoint(model)
    encoder = {"dropout": 0.5, "dropout_over": "utterance", "recurrent_init": "orthogonal"}
    other = replace(other, experiment=other.experiment | {"encoder": other.experiment["encoder"] | encoder})
    save_checkpoint(tmp_path / "other.pt", other)
    assert "average of 2 models" in cli("model", "average", model, tmp_path / "other.pt", "--out", tmp_path / "both.pt")


@pytest.mark.parametrize(("others", "expected"), [(4.0, 4.0), (1.0, 2.0), (None, None)])
def test_an_average_has_learnt_from_the_longest_of_all(
    others: float | None, expected: float | None, cli: Command, model: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / "one.pt", tmp_path / "two.pt"]
    for path, seconds in zip(paths, (2.0, others), strict=True):
        save_checkpoint(path, replace(load_checkpoint(model), longest_seconds=seconds))
    cli("model", "average", *paths, "--out", tmp_path / "both.pt")
    assert load_checkpoint(tmp_path / "both.pt").longest_seconds == expected


def test_only_what_has_the_same_weights_is_averaged(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other = write_model(tmp_path / "other", AttentionConfig(hidden_size=8, embedding_size=4, attention_size=4))
    complaints = {
        (str(model),): f"{model}: one model has no average",
        (str(model), str(other)): f"{other}: another network or vocabulary than that of {model}",
    }
    for models, message in complaints.items():
        monkeypatch.setattr(sys, "argv", ["asr", "model", "average", *models, "--out", str(tmp_path / "out.pt")])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("for_report", [False, True])
def test_a_subset_is_read_and_encoded_once_for_all_decoders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, for_report: bool
) -> None:
    model = write_model(tmp_path, AttentionConfig(hidden_size=8, embedding_size=4, attention_size=4))
    corpus = write_tone_corpus(tmp_path / "test", 5, seed=1)
    batches = BatchesConfig(seconds=3)
    calls = {"read": 0, "encoded": 0}

    def reading() -> Iterator[Utterance]:
        calls["read"] += 1
        return iter(read_manifest(corpus))

    encode = AcousticModel.encode

    def encoding(self: AcousticModel, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        calls["encoded"] += len(num_samples)
        return encode(self, waveforms, num_samples)

    monkeypatch.setattr(AcousticModel, "encode", encoding)
    decoders = [GreedyDecoderConfig(), BeamDecoderConfig(width=4), JointDecoderConfig(width=2)]
    subset = Subset.of_utterances("tones", reading)
    together = evaluate_subsets(model, [subset], decoders, batches=batches, for_report=for_report)
    assert calls == {"read": 1, "encoded": 5}
    for decoder, found in zip(decoders, together, strict=True):
        (alone,) = evaluate_subsets(model, [subset], [decoder], batches=batches)
        assert found.scores == alone.scores
        assert found.result.decoder == decoder.kind
        assert found.result.rtf > 0
        assert (found.system is not None) == for_report


def test_references_that_the_model_cannot_spell_are_counted(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_tone_corpus(tmp_path / "test", 4, seed=1)
    utterances = list(read_manifest(manifest))
    utterances[1] = replace(utterances[1], text="\u03b1\u03b2")
    evaluate_subsets(model, [Subset.of_utterances("tones", lambda: iter(utterances))], [GreedyDecoderConfig()])
    (told,) = [record.getMessage() for record in caplog.records if "cannot be spelt" in record.getMessage()]
    assert told.startswith("tones: 1 of 4 references cannot be spelt")


@pytest.mark.parametrize("form", ["manifest", "folder"])
def test_where_nobody_speaks_what_is_heard_counts_as_insertions(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    data = write_tone_corpus(tmp_path / "test", 4, seed=1)
    records = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    said = " ".join(record["text"] for record in records[1:])
    records[0]["text"] = " "
    if form == "folder":
        for record in records:
            (data.parent / record["audio"]).with_suffix(".txt").write_text(record["text"], encoding="utf-8")
        data = data.parent
    else:
        data.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    (found,) = evaluate_subsets(model, open_subsets(str(data), None), [GreedyDecoderConfig()], for_report=True)
    (silent,) = [score for score in found.scores if not score.reference]
    assert silent.words.insertions == silent.words.errors == len(silent.hypothesis.split())
    assert (found.result.utterances, found.result.words) == (4, len(said.split()))
    assert "1 of 4 references are empty" in caplog.text
    with pytest.raises(CorpusError, match="has no text"):
        list(read_files(data))


@pytest.mark.parametrize("rate", [SAMPLE_RATE // 2, SAMPLE_RATE])
def test_sound_that_lacks_what_the_model_listens_to_is_told(
    rate: int, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_tone_corpus(tmp_path / "test", 2, seed=1)
    for sound in data.parent.glob("*.flac"):
        soundfile.write(sound, soundfile.read(sound)[0], rate)
    evaluate_subsets(model, open_subsets(str(data), None), [GreedyDecoderConfig()])
    told = [message for message in caplog.messages if "expect more errors" in message]
    assert len(told) == (rate < SAMPLE_RATE)
    assert all(f"test: 2 of the first 2 sound files have less than {SAMPLE_RATE} Hz" in message for message in told)


def test_words_that_the_decoder_cannot_write_are_counted(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_tone_corpus(tmp_path / "test", 4, seed=1)
    said = Counter(" ".join(each.text for each in read_manifest(manifest)).split())
    (listed, count), *others = said.most_common()
    (tmp_path / "words.txt").write_text(listed)
    subset = Subset.of_utterances("tones", lambda: read_manifest(manifest))
    evaluate_subsets(model, [subset], [GreedyDecoderConfig(), LexiconDecoderConfig(words=tmp_path / "words.txt")])
    (told,) = [record.getMessage() for record in caplog.records if "not in the list" in record.getMessage()]
    assert f"({said.total() - count} of {said.total()})" in told
    assert f"'{others[0][0]}'" in told
    assert f"'{listed}'" not in told
    (tmp_path / "words.txt").write_text(" ".join(said))
    caplog.clear()
    evaluate_subsets(model, [subset], [LexiconDecoderConfig(words=tmp_path / "words.txt")])
    assert "not in the list" not in caplog.text


def test_two_subsets_whose_files_would_have_one_name_are_refused(model: Path, tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    subsets = [Subset.of_utterances(name, lambda: read_manifest(corpus)) for name in ("tones:test", "tones-test")]
    with pytest.raises(CorpusError, match="different names, found tones:test, tones-test"):
        evaluate_subsets(model, subsets, [GreedyDecoderConfig()])


def test_two_subsets_of_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    data = [str(write_tone_corpus(tmp_path / name / "test", 2, seed=1)) for name in "ab"]
    monkeypatch.setattr(sys, "argv", ["asr", "evaluate", "--model", str(model), "--data", data[0], "--data", data[1]])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert "subsets need different names, found" in line


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"RIFF"])
def test_a_damaged_recording_is_left_out_and_told_and_the_rest_measured(
    damage: Callable[[bytes], bytes], cli: Command, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus, results = write_tone_corpus(tmp_path / "test", 4, seed=1), tmp_path / "results.json"
    path = next(read_manifest(corpus)).audio
    assert isinstance(path, Path)
    path.write_bytes(damage(path.read_bytes()))
    listed = cli("evaluate", "--model", model, "--data", corpus, "--decoder", "greedy", "--json", results)
    (record,) = json.loads(results.read_text(encoding="utf-8"))
    assert (record["utterances"], record["whole"]) == (3, 4)
    assert "a part, 3 of 4 utterances" in listed
    assert "test: left out: utterance 'u000'" in caplog.text


def test_what_a_part_of_a_published_subset_lacks_is_named_in_whole_in_the_records(
    cli: Command, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is known from one reading: a subset has thousands of files, perhaps on a slow disk."""
    find_recipe("librispeech").imitate(tmp_path)
    (transcript,) = (tmp_path / "LibriSpeech" / "test-other").glob("*/*/*.trans.txt")
    *_, last = transcript.read_text(encoding="utf-8").splitlines()
    lost = [f"{transcript.name.partition('.')[0]}-{number:04d}" for number in range(12)]
    transcript.write_text(last.replace("-0002", "-0012"), encoding="utf-8")
    sound = next(transcript.parent.glob("*-0002.flac"))
    sound.rename(sound.with_name(sound.name.replace("-0002", "-0012")))
    results = tmp_path / "results.json"
    data = ("--data", "librispeech:test-other", "--root", tmp_path)
    read_text, read = Path.read_text, list[Path]()

    def noting(path: Path, *args: str | None, **options: str | None) -> str:
        read.append(path)
        return read_text(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", noting)
        cli("evaluate", "--model", model, *data, "--decoder", "greedy", "--json", results)
    assert read.count(transcript) == 1
    (record,) = json.loads(results.read_text(encoding="utf-8"))
    assert (record["utterances"], record["whole"], record["missing"]) == (1, 2939, lost)
    assert lost[0] in caplog.text
    assert lost[-1] not in caplog.text


def test_without_decoder_all_are_measured_that_need_nothing_else(cli: Command, model: Path, tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    words, results = tmp_path / "words.txt", tmp_path / "results.json"
    texts = {utterance.text for utterance in read_manifest(corpus)}
    words.write_text("\n".join(texts), encoding="utf-8")

    def decoders(*options: object) -> list[str]:
        cli("evaluate", "--model", model, "--data", corpus, "--json", results, *options)
        return [record["decoder"] for record in json.loads(results.read_text(encoding="utf-8"))]

    assert decoders() == ["greedy", "beam"]
    assert decoders("--words", words) == ["greedy", "beam", "lexicon"]
    beside = model.with_name("words.tsv.gz")
    beside.write_bytes(gzip.compress(words.read_bytes()))
    assert decoders() == ["greedy", "beam", "lexicon"]
    assert decoders("--decoder", "beam") == ["beam"]
    assert decoders("--decoder", "lexicon") == ["lexicon"]


def test_words_beside_a_model_come_along_with_it(cli: Command, model: Path, tmp_path: Path) -> None:
    clip = resource("data", "spoken_commands", "clip.opus")
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    letters = sorted(set("".join(utterance.text for utterance in read_manifest(corpus)).replace(" ", "")))
    other = tmp_path / "other.txt"
    other.write_text(letters[1], encoding="utf-8")

    def check_python() -> None:
        found = json.loads(cli("transcribe", clip, "--model", model, "--format", "json"))
        best = Recognizer.load(model).transcribe(clip).best
        assert (best.text, best.score) == (found["text"], pytest.approx(found["score"], abs=1e-3))

    free = cli("transcribe", clip, "--model", model)
    assert free == cli("transcribe", clip, "--model", model, "--decoder", "beam")
    check_python()
    model.with_name("words.tsv.gz").write_bytes(gzip.compress(letters[0].encode()))
    check_python()

    def words_heard(*options: object) -> set[str]:
        return set(cli("transcribe", clip, "--model", model, *options).split("\t")[-1].split())

    assert words_heard() <= {letters[0]}
    assert words_heard("--words", other) <= {letters[1]}
    assert cli("transcribe", clip, "--model", model, "--decoder", "beam") == free


def test_speakers_are_listed_on_demand(cli: Command, model: Path, tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 6, seed=1)
    plain = cli("evaluate", "--model", model, "--data", corpus)
    assert "speaker0" not in plain
    results = tmp_path / "results.json"
    decoder = ("--decoder", "greedy")
    listed = cli(
        "evaluate", "--model", model, "--data", corpus, *decoder, "--by", "duration, speaker", "--json", results
    )
    (record,) = json.loads(results.read_text(encoding="utf-8"))
    lines = [line.split() for line in listed.splitlines()]
    rows = [row for row in lines if len(row) > 6 and row[2].startswith("speaker") and row[2] != "speaker"]
    assert sorted(row[2] for row in rows) == ["speaker0", "speaker1", "speaker2"]
    assert sum(int(row[-2]) for row in rows) == record["words"]
    assert sum(int(row[-1]) for row in rows) == record["utterances"] == 6


def test_a_missing_model_is_told_before_data_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["asr", "evaluate", "--model", str(tmp_path / "none"), "--data", str(tmp_path / "no-data")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        main()
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path / 'none'}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--decoder gredy --data no-data", "--decoder gredy: unknown decoder 'gredy', did you mean 'greedy'?"),
        ("--hypotheses file/x --data no-data", "--hypotheses file/x: 'file' is a file; expected a folder"),
        ("--hypotheses file --data no-data", "--hypotheses file: 'file' is a file; expected a folder"),
        ("--root . --data file", "--root .: only RECIPE:SPLIT is looked for there, and --data is file"),
        (
            "--mirror https://m --data file",
            "--mirror https://m: only RECIPE:SPLIT is looked for there, and --data is file",
        ),
        ("--cache x --data file", "--cache x: only shards behind a URL are kept there, and --data is file"),
        ("--json x --report x --data no-data", "--report x: --json writes that file too; name another one"),
    ],
)
def test_mistakes_are_told_before_data_is_looked_for(
    options: str, complaint: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(sys, "argv", ["asr", "evaluate", "--model", str(model), *options.split()])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_a_mirror_is_what_a_recipe_is_downloaded_from(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def obtain(*_: Any, mirror: str | None, **__: Any) -> None:
        raise CorpusError(f"from {mirror}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asr.recipe.obtain", obtain)
    words = ["asr", "evaluate", "--model", str(model), "--data", "fsdd:test", "--mirror", "https://m"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: from https://m\n"


def test_shards_behind_a_url_are_fetched_once_for_all_evaluations_with_a_cache(
    cli: Command, model: Path, tmp_path: Path
) -> None:
    folder, fetched, results = tmp_path / "test", tmp_path / "fetched", tmp_path / "results.json"
    corpus = write_tone_corpus(tmp_path / "sound", 6, seed=1)
    index = write_shards(read_manifest(corpus), folder, sample_rate=SAMPLE_RATE, config=ShardsConfig(num_utterances=1))
    assert len(index.shards) > 1

    def counts(data: object, *options: object) -> list[int]:
        cli("evaluate", "--model", model, "--data", data, "--decoder", "greedy", "--json", results, *options)
        (record,) = json.loads(results.read_text(encoding="utf-8"))
        return [record[name] for name in ("substitutions", "deletions", "insertions", "words", "utterances")]

    of_disk = counts(folder)
    assert counts(f"shards:{folder}") == of_disk  # as in `splits`
    for _ in range(2):
        assert counts(f"pipe:echo {{}} >> {fetched}; cat {folder}/{{}}", "--cache", tmp_path / "copies") == of_disk
    names = [name for name in fetched.read_text().split() if name != "index.json"]
    assert sorted(names) == sorted(shard.name for shard in index.shards)


@pytest.mark.parametrize("as_shards", [False, True])
def test_errors_are_broken_down_by_any_column_of_the_data(
    as_shards: bool,
    cli: Command,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 6, seed=1)
    records = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    for number, record in enumerate(records):
        record["group"] = "child" if number < 2 else "adult"
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    data = corpus
    if as_shards:
        data = tmp_path / "shards"
        write_shards(read_manifest(corpus), data, sample_rate=SAMPLE_RATE, config=ShardsConfig())
    listed = cli("evaluate", "--model", model, "--data", data, "--by", "group")
    rows = {row[2]: row for row in map(str.split, listed.splitlines()) if len(row) > 6}
    assert (rows["child"][-1], rows["adult"][-1]) == ("2", "4")
    results = tmp_path / "results.json"
    words = ["asr", "evaluate", "--model", str(model), "--data", str(data), "--json", str(results)]
    words += ["--by", "gruop", "--by", "group"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        main()
    out, err = capsys.readouterr()
    early, last = err.splitlines()
    assert early.startswith("warning: --by gruop: none of the first ")
    assert early.endswith(" has such a column, did you mean 'group'?")
    assert last == "error: --by gruop: no such column, did you mean 'group'?"
    # What was computed is not lost, nor what was asked rightly.
    assert "greedy" in out
    assert "child" in out
    assert results.is_file()


@pytest.mark.parametrize(
    ("by", "early"),
    [
        (
            "room",
            "warning: --by room: none of the first 2 utterances of test has such a column; known: duration, speaker",
        ),
        ("speaker,", "error: --by speaker,: expected names of columns with commas between"),
    ],
)
def test_a_column_without_a_value_or_a_name_is_told_before_all_is_recognised(
    cli: Command,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by: str,
    early: str,
) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    records = [json.loads(line) | {"room": ""} for line in corpus.read_text(encoding="utf-8").splitlines()]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["asr", "evaluate", "--model", str(model), "--data", str(corpus), "--by", by])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.splitlines()[0].startswith(early)


def test_a_folder_in_the_place_of_a_recipe_is_told_as_what_evaluate_takes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "english").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["asr", "evaluate", "--model", str(model), "--data", "english:test"])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("(`asr recipes` lists them; for your own files: `--data english`)")


def test_a_report_changes_no_result_and_addresses_the_sound(cli: Command, model: Path, tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 6, seed=1)
    report, with_report, without = (tmp_path / name for name in ("new/report.html", "with.json", "without.json"))
    report.parent.mkdir()
    options = ("evaluate", "--model", model, "--data", corpus, "--decoder", "greedy,beam", "--json")
    cli(*options, with_report, "--report", report)
    cli(*options, without)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in (with_report, without)]
    assert [{**each, "rtf": 0} for each in results[0]] == [{**each, "rtf": 0} for each in results[1]]
    page = report.read_text(encoding="utf-8")
    (group,) = json.loads(page.partition('id="content">')[2].partition("</script>")[0])["groups"]
    assert group["audio"] == [f"../test/{name}.flac" for name in group["ids"]]
    assert [system["name"] for system in group["systems"]] == ["greedy", "beam"]
    assert page.count('id="details-0-') == 6
    assert page.count('id="audio-0-') == 0
    cli(*options, with_report, "--report", report, "--embed-audio")
    assert report.read_text(encoding="utf-8").count('id="audio-0-') == 6


def test_sound_is_embedded_only_into_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    monkeypatch.setattr(sys, "argv", f"asr evaluate --model {model} --data {corpus} --embed-audio".split())
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--report" in capsys.readouterr().err


def test_a_set_that_cannot_be_scored_costs_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    good, results = write_tone_corpus(tmp_path / "good", 2, seed=1), tmp_path / "results.json"
    empty, soundless = good.with_name("empty.jsonl"), good.with_name("soundless.jsonl")
    empty.write_text("\n", encoding="utf-8")
    soundless.write_text(json.dumps({"id": "a", "audio": str(empty), "text": "a"}) + "\n", encoding="utf-8")
    for sets, names in ([empty, good, soundless], [good.stem]), ([empty, soundless], []):
        data = [word for each in sets for word in ("--data", str(each))]
        monkeypatch.setattr(sys, "argv", ["asr", "evaluate", "--model", str(model), *data, "--json", str(results)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert stop.value.code == 2
        assert err.count("empty.jsonl: the manifest") == 1
        assert err.splitlines()[-1].startswith(f"error: {empty}: the manifest holds no utterance")
        assert "; soundless: there are no utterances to evaluate" in err.splitlines()[-1]
        assert all(name in out for name in names)
        if names:
            records = json.loads(results.read_text(encoding="utf-8"))
            assert [(each["subset"], each["decoder"]) for each in records] == [
                (good.stem, "greedy"),
                (good.stem, "beam"),
            ]
            results.unlink()
        assert not results.exists()


def test_where_nobody_speaks_insertions_are_counted_and_there_is_no_rate(
    cli: Command, model: Path, tmp_path: Path
) -> None:
    data = write_tone_corpus(tmp_path / "test", 3, seed=1)
    records = map(json.loads, data.read_text(encoding="utf-8").splitlines())
    data.write_text("".join(json.dumps(record | {"text": ""}) + "\n" for record in records), encoding="utf-8")
    files = ("--json", tmp_path / "r.json", "--report", tmp_path / "r.html", "--hypotheses", tmp_path / "heard")
    out = cli("evaluate", "--model", model, "--data", data, "--decoder", "greedy", "--by", "speaker", *files)
    (result,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    rates = [name for name, value in result.items() if value is None]
    assert rates == ["wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high", "resampled"]
    assert (result["words"], result["utterances"]) == (0, 3)
    heard = (tmp_path / "heard" / "test-greedy.tsv").read_text(encoding="utf-8").splitlines()
    assert sum(int(line.partition("\t")[0]) for line in heard[1:]) == result["insertions"] > 0
    row = ["test", "greedy", "-", "-", "-", "-", "0", "0", str(result["insertions"]), "0", "3"]
    assert next(line.split()[:11] for line in out.splitlines() if line.startswith("test")) == row
    assert "no rate, where the references hold no word" in " ".join(out.split())
    assert not re.search(r"\b(nan|inf)\b", out)
    (content,) = re.findall(r'id="content">(.*?)</script>', (tmp_path / "r.html").read_text(encoding="utf-8"))
    assert json.loads(content)["groups"][0]["systems"][0]["result"] == result


def test_info_says_what_a_model_takes_and_writes(cli: Command, model: Path) -> None:
    letters = sorted(set("".join(TONES_HZ)))
    said = cli("model", "info", model)
    assert f"takes sound of {SAMPLE_RATE} Hz; writes {1 + len(letters)} tokens: " in said
    assert {"▁", *letters} <= set(said.partition("tokens: ")[2].splitlines()[0].split())
    assert "takes 13 stored features a frame\n" in cli("model", "info", "an4_cepstra")


def test_the_name_of_the_model_that_comes_along_means_it_and_with_yaml_its_configuration(
    cli: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "writes 28 tokens: " in cli("model", "info", "english_small")
    assert "writes" not in cli("model", "info", "english_small.yaml", "encoder.num_layers=1")
    monkeypatch.setattr(sys, "argv", ["asr", "model", "info", "english_small", "encoder.num_layers=1"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "stays as it is; changes go with a YAML or a name in conf/, such as english_small.yaml" in (
        capsys.readouterr().err
    )


def test_attention_is_asked_as_the_other_decoders_are(cli: Command, tmp_path: Path) -> None:
    model = write_model(tmp_path, AttentionConfig(hidden_size=6, attention_size=4))
    assert "attention" in cli("model", "info", model)
    small, corpus = tmp_path / "small.pt", write_tone_corpus(tmp_path / "test", 3, seed=1)
    cli("model", "shrink", model, "--out", small)
    assert load_checkpoint(small).model.keys() == load_checkpoint(model).model.keys()
    results, report = tmp_path / "results.json", tmp_path / "report.html"
    options = ("--data", corpus, "--decoder", "greedy,attention,joint", "--json", results, "--report", report)
    cli("evaluate", "--model", small, *options)
    assert [each["decoder"] for each in json.loads(results.read_text(encoding="utf-8"))] == [
        "greedy",
        "attention",
        "joint",
    ]
    audio = corpus.parent / "u000.flac"
    record = json.loads(cli("transcribe", audio, "--model", small, "--decoder", "joint", "--format", "json"))
    assert len(record["token_times"]) == len(record["tokens"])


def test_folders_are_gone_through_and_subtitles_are_of_one_recording(
    cli: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    folder = write_tone_corpus(tmp_path / "test", 3, seed=1).parent
    (folder / "notes.txt").write_text("no sound", encoding="utf-8")
    (folder / "notes").mkdir()
    for options, complaint in (
        ((folder, "--format", "srt"), "found 3; write them with --out"),
        ((folder, "--format", "vtt"), "found 3; write them with --out"),
        ((folder / "notes",), "no sound file"),
        ((folder / "notes.wav",), "notes.wav: missing"),
    ):
        monkeypatch.setattr(sys, "argv", ["asr", "transcribe", *map(str, options), "--model", str(model)])
        with pytest.raises(SystemExit, match="2"):
            main()
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
    (folder / "u000.wav").write_bytes((folder / "u000.flac").read_bytes())
    for format in ("json", "ctm"):
        monkeypatch.setattr(sys, "argv", ["asr", "transcribe", str(folder), "--format", format, "--model", "no.pt"])
        with pytest.raises(SystemExit, match="2"):
            main()
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"error: --format {format}: '{folder}/u000.flac' and '{folder}/u000.wav' would both be called 'u000'; "
            "rename one, or transcribe them apart"
        )
    (folder / "u000.wav").unlink()
    lines = cli("transcribe", folder, folder / "u000.flac", "--model", model).splitlines()
    assert [Path(line.partition("\t")[0]).stem for line in lines] == ["u000", "u001", "u002", "u000"]


def test_a_long_recording_is_heard_in_pieces(cli: Command, model: Path, tmp_path: Path) -> None:
    sounds = sorted(write_tone_corpus(tmp_path / "test", 6, seed=1).parent.glob("*.flac"))
    samples = np.concatenate([soundfile.read(sound)[0] for sound in sounds])
    talk = tmp_path / "talk.wav"
    soundfile.write(talk, samples, SAMPLE_RATE)
    whole, pieces = (
        json.loads(cli("transcribe", talk, "--model", model, "--format", "json", *more))
        for more in (("--longest-piece", "inf"), ("--longest-piece", "1"))
    )
    recognizer = Recognizer.load(model, BeamDecoderConfig())
    assert whole["text"] == recognizer.transcribe(talk, longest_piece=math.inf).best.text
    assert pieces["text"] == recognizer.transcribe(talk, longest_piece=1).best.text != whole["text"]
    assert pieces["seconds"] == whole["seconds"] > 2
    assert pieces["token_times"] == sorted(pieces["token_times"])
    assert pieces["token_times"][-1] > pieces["seconds"] - 1
    # What is longer than all that the model has learnt from.
    shortened = tmp_path / "short.pt"
    save_checkpoint(shortened, replace(load_checkpoint(model), longest_seconds=1.0))
    assert json.loads(cli("transcribe", talk, "--model", shortened, "--format", "json")) == pieces
    assert "learnt from utterances of up to 1 s" in cli("model", "info", shortened)
    # Written out there, since the recogniser comes with torch.
    assert f"{LONGEST_SECONDS:g} at most" in LongestPiece.__metadata__[0].help


def test_a_file_for_each_recording(
    cli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds, folder, out = write_tone_corpus(tmp_path / "test", 3, seed=1).parent, tmp_path / "talks", tmp_path / "heard"
    for speaker, name in (("ann", "u000"), ("bob", "u001")):
        (folder / speaker).mkdir(parents=True)
        (folder / speaker / "0.flac").write_bytes((sounds / f"{name}.flac").read_bytes())
    printed = cli("transcribe", folder, sounds / "u002.flac", "--model", model)
    for format in ("txt", "json", "srt"):
        told = cli("transcribe", folder, sounds / "u002.flac", "--model", model, "--format", format, "--out", out)
        names = [out / f"{name}.{format}" for name in ("ann/0", "bob/0", "u002")]
        assert told.splitlines() == [f"wrote {name}" for name in names]
    texts = [line.partition("\t")[2] for line in printed.splitlines()]
    assert [(out / f"{name}.txt").read_text(encoding="utf-8").strip() for name in ("ann/0", "bob/0", "u002")] == texts
    alone = cli("transcribe", sounds / "u002.flac", "--model", model, "--format", "srt")
    assert (out / "u002.srt").read_text(encoding="utf-8").strip() == alone.strip()
    # Beside the sounds is a place for subtitles; a text that is there was said.
    (folder / "ann" / "0.txt").write_text("dear", encoding="utf-8")
    cli("transcribe", folder, "--model", model, "--format", "srt", "--out", folder)
    assert (folder / "ann" / "0.srt").is_file()
    monkeypatch.setattr(sys, "argv", ["asr", "transcribe", str(folder), "--model", str(model), "--out", str(folder)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"{folder / 'ann' / '0.txt'} is there already, and may be what was said" in capsys.readouterr().err
    assert (folder / "ann" / "0.txt").read_text(encoding="utf-8") == "dear"
    (out / "u002.vtt").mkdir()
    for words, complaint in (
        ([sounds / "u002.flac", sounds, "--format", "json"], f"'{sounds / 'u002.flac'}' is named twice"),
        ([sounds / "u002.flac", "--format", "vtt", "--out", out], f"--out {out}: {out / 'u002.vtt'} is a folder"),
    ):
        monkeypatch.setattr(sys, "argv", ["asr", "transcribe", *map(str, words), "--model", str(model)])
        with pytest.raises(SystemExit):
            main()
        assert complaint in capsys.readouterr().err


def test_each_channel_has_its_transcript(
    cli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = write_tone_corpus(tmp_path / "test", 2, seed=1).parent
    speakers = [soundfile.read(sounds / f"u00{number}.flac")[0] for number in range(2)]
    samples = np.zeros((max(map(len, speakers)), 2))
    for number, said in enumerate(speakers):
        samples[: len(said), number] = said
    call, alone = tmp_path / "calls" / "call.wav", [tmp_path / "left.wav", tmp_path / "right.wav"]
    call.parent.mkdir()
    soundfile.write(call, samples, SAMPLE_RATE)
    for number, path in enumerate(alone):
        soundfile.write(path, samples[:, number], SAMPLE_RATE)
    said = [line.partition("\t")[2] for line in cli("transcribe", *alone, "--model", model).splitlines()]
    assert said[0] != said[1]

    lines = cli("transcribe", call, "--model", model, "--channel", "each").splitlines()
    assert lines == [f"{call}-1\t{said[0]}", f"{call}-2\t{said[1]}"]
    assert cli("transcribe", call, "--model", model, "--channel", "2").splitlines() == lines[1:]
    heard = cli("transcribe", call.parent, "--model", model, "--channel", "each", "--format", "json").splitlines()
    records = [(each["id"], each["audio"], each["channel"], each["text"]) for each in map(json.loads, heard)]
    assert records == [(f"call-{number}", str(call), number, said[number - 1]) for number in (1, 2)]
    timed = cli("transcribe", call, "--model", model, "--channel", "each", "--format", "ctm").splitlines()
    for number in ("1", "2"):
        words = [line.split() for line in timed if line.split()[:2] == ["call", number]]
        assert " ".join(word[4] for word in words) == said[int(number) - 1]
    cli("transcribe", call, "--model", model, "--channel", "each", "--format", "srt", "--out", tmp_path / "out")
    for number, path in enumerate(alone, start=1):
        subtitles = cli("transcribe", path, "--model", model, "--format", "srt")
        assert (tmp_path / "out" / f"call-{number}.srt").read_text(encoding="utf-8").strip() == subtitles.strip()

    os.mkfifo(tmp_path / "pipe")
    (call.parent / "call-2.txt").write_text("kept", encoding="utf-8")
    for words, complaint in (
        ([call, "--channel", "3"], "call.wav: no such channel: it has 2, counted from 1, found 3"),
        ([call, "--channel", "0"], "--channel 0: expected mix, each or a number from 1"),
        ([call, "--channel", "left"], "--channel left: expected mix, each or a number from 1"),
        ([call, "--channel", "each", "--format", "vtt"], "subtitles are of one recording, found 2"),
        ([call, "--channel", "each", "--out", call.parent], "call-2.txt is there already, and may be what was said"),
        ([tmp_path / "pipe", "--channel", "each"], f"--channel each: {tmp_path / 'pipe'} is read once"),
    ):
        monkeypatch.setattr(sys, "argv", ["asr", "transcribe", *map(str, words), "--model", str(model)])
        with pytest.raises(SystemExit, match="2"):
            main()
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
    (call.parent / "cut.wav").write_bytes(call.read_bytes()[:-999])
    monkeypatch.setattr(
        sys, "argv", ["asr", "transcribe", str(call.parent), "--channel", "each", "--model", str(model)]
    )
    with pytest.raises(SystemExit, match="2"):
        main()
    told, summary = capsys.readouterr().err.splitlines()
    assert "cut.wav: truncated or damaged" in told
    assert summary == "error: 1 of 2 files could not be transcribed"


def test_what_is_heard_in_a_folder_is_scored_with_the_texts_beside_the_sounds(
    cli: Command, model: Path, tmp_path: Path
) -> None:
    sounds, folder = write_tone_corpus(tmp_path / "test", 2, seed=1).parent, tmp_path / "talks"
    for speaker, name in (("ann", "u000"), ("bob", "u001")):
        (folder / speaker).mkdir(parents=True)
        (folder / speaker / "0.flac").write_bytes((sounds / f"{name}.flac").read_bytes())
        (folder / speaker / "0.txt").write_text("ab", encoding="utf-8")
    heard = tmp_path / "heard.jsonl"
    heard.write_text(cli("transcribe", folder, "--model", model, "--format", "json"), encoding="utf-8")
    records = [json.loads(line) for line in heard.read_text(encoding="utf-8").splitlines()]
    assert [each["id"] for each in records] == [each.id for each in read_folder(folder)] == ["ann/0", "bob/0"]
    assert [each["audio"] for each in records] == [str(folder / "ann" / "0.flac"), str(folder / "bob" / "0.flac")]
    assert "ann" in cli("score", folder, heard, "--by", "speaker")
    # A ctm has no room for spaces in a name.
    (folder / "ann").rename(folder / "ann k")
    timed = tmp_path / "heard.ctm"
    timed.write_text(cli("transcribe", folder, "--model", model, "--format", "ctm"), encoding="utf-8")
    assert {line.split()[0] for line in timed.read_text(encoding="utf-8").splitlines()} == {"ann_k/0", "bob/0"}
    assert "ann k" in cli("score", folder, timed, "--by", "speaker")


def test_a_model_is_not_written_over_a_recording(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"dear")
    monkeypatch.setattr(sys, "argv", ["asr", "model", "shrink", str(model), "--out", str(sound)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "another kind of file is there and would be overwritten" in capsys.readouterr().err
    assert sound.read_bytes() == b"dear"


def test_a_model_without_attention_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    monkeypatch.setattr(sys, "argv", f"asr evaluate --model {model} --data {corpus} --decoder attention".split())
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "this model has no attention decoder; take greedy, beam or lexicon, or train a model with attention={}" in line
    )


def test_without_model_the_one_that_comes_along_is_asked(cli: Command) -> None:
    folder = resource("data", "models", "english_small")
    assert sum((folder / name).stat().st_size for name in ("model.pt", "words.tsv.gz")) < 16e6
    assert not load_checkpoint(folder / "model.pt").experiment.keys() & {"init", "splits"}
    clip = resource("data", "spoken_commands", "clip.opus")
    record = json.loads(cli("transcribe", clip, "--decoder", "greedy", "--format", "json"))
    assert set(record["text"]) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert len(record["text"].split()) > 2
    with gzip.open(folder / "words.tsv.gz", "rt", encoding="utf-8") as lines:
        words = {line.split("\t")[0] for line in lines}
    heard = cli("transcribe", clip)
    assert len(heard.split()) > 2
    assert set(heard.split("\t")[-1].split()) <= words
    assert cli("transcribe", clip, "--decoder", "lexicon") == heard
    assert cli("transcribe", clip, "--model", "english_small") == heard


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--decoder lexicon", "say with --words FILE which words the lexicon decoder may write"),
        ("--decoder beam --words words.txt", "only --decoder lexicon keeps to given words"),
        ("--decoder lexicon --words no.txt", "no.txt: cannot read the words"),
        ("--decoder greedy --width 4", "--width 4: greedy keeps no beams; say --decoder beam"),
        ("--width 4097", "Invalid value for '--width': Input should be less than or equal to 4096"),
    ],
)
def test_options_that_a_decoder_does_not_have_or_misses_are_told(
    options: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    clip = resource("data", "spoken_commands", "clip.opus")
    monkeypatch.setattr(sys, "argv", ["asr", "transcribe", str(clip), "--model", str(model), *options.split()])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_a_run_folder_gets_its_report_unasked_and_others_none(cli: Command, model: Path, tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "test", 2, seed=1)
    for folder in (model, tmp_path):
        assert "wrote" not in cli("evaluate", "--model", folder, "--data", corpus)
    (tmp_path / "stages.json").write_text("{}", encoding="utf-8")
    said = cli("evaluate", "--model", tmp_path, "--data", corpus)
    (report,) = tmp_path.glob("report-test-*.html")
    assert f"wrote {report}\n" in said


def test_shards_of_another_rate_are_not_measured_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, folder = write_tone_corpus(tmp_path / "test", 2, seed=1), tmp_path / "shards"
    write_shards(read_manifest(corpus), folder, sample_rate=2 * SAMPLE_RATE, config=ShardsConfig())
    monkeypatch.setattr(sys, "argv", ["asr", "evaluate", "--model", str(model), "--data", str(folder)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"{folder}: these shards have 16000 Hz, the model hears 8000 Hz" in capsys.readouterr().err


def test_the_size_of_the_vocabulary_is_that_asked_for(cli: Command) -> None:
    assert "(B, S, 77)" in cli("model", "info", "fsdd", "--vocabulary-size", "77")


def test_the_version_is_printed_and_that_is_all(cli: Command) -> None:
    assert cli("--version").startswith("bigru-asr ")


def test_a_report_that_nobody_named_is_called_by_the_data_without_its_keys(tmp_path: Path) -> None:
    (tmp_path / "stages.json").touch()
    (tmp_path / "test.jsonl").touch()
    for data, name in (
        (["fsdd:test", "an4:test"], "fsdd-test-an4-test"),
        ([str(tmp_path / "test.jsonl"), "fsdd:test"], r"test-fsdd-test-[0-9a-f]{8}"),
        ([f"https://host/test/?sig=secret{'x' * 300}"], r"test-[0-9a-f]{8}"),
        (["x" * 300], "x" * 100 + "-[0-9a-f]{8}"),
    ):
        report = _default_report([tmp_path], data)
        assert report is not None
        assert report.parent == tmp_path
        assert re.fullmatch(f"report-{name}.html", report.name)
        form = "report-DATA-CRC.html" if name.endswith("]{8}") else "report-DATA.html"
        assert f"as {form}" in Report.__metadata__[0].help


def test_a_report_that_nobody_named_overwrites_none_of_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stages.json").touch()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    of_a = _default_report([tmp_path], ["a/test.jsonl"])
    assert of_a != _default_report([tmp_path], ["b/test.jsonl"])
    for keys in ("1", "2"):
        assert _default_report([tmp_path], [f"https://host/a/test?sig={keys}"]) != _default_report(
            [tmp_path], [f"https://host/b/test?sig={keys}"]
        )
    assert _default_report([tmp_path], ["https://host/a?sig=1"]) == _default_report(
        [tmp_path], ["https://host/a?sig=2"]
    )
    # The same file, however it is named.
    monkeypatch.chdir("a")
    assert _default_report([tmp_path], ["test.jsonl"]) == of_a
