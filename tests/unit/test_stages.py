"""What the stages say before the work begins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_batches import of_lengths
from test_pipeline import make_run
from test_update import WORDS, make_batch
from tones import TINY, write_tone_corpus

from asr.audio import encode_audio
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.rates import watch_rates
from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex, ShardsConfig, combined_index, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import ConfigError, CorpusError, StoppedByUserError, TrainingError
from asr.evaluation import hypotheses_file
from asr.experiment import Run, RunRequest, load_experiment
from asr.learner import load_tokenizer, make_updater
from asr.model.acoustic import AcousticModel
from asr.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from asr.pipeline import run_stages
from asr.preparation import prepare
from asr.recipe import find_recipe, recipe_of_files
from asr.scoring import read_results, write_results
from asr.stages import _note_warm_up, _size_of_epoch, _try_largest_batch, average, evaluate, show_results
from asr.text.tokenizer import CharacterTokenizerConfig, train_tokenizer
from asr.training.run_log import read_metrics

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
    ("fitting", "said", "max_seconds", "tried"),
    [
        (40.0, "batches of 40 s fit into memory", "null", (0.5, "the longest text of all")),
        (40.0, "batches of 40 s fit into memory", "0.3", (0.25, "short")),
        (
            *(10.0, "note: batches of 40 s do not fit into memory, 10 s do: set batches.seconds=10"),
            *("null", (0.5, "the longest text of all")),
        ),
        (
            *(0.0, "note: the longest utterances, 0.375 s, do not fit into memory even alone"),
            *("0.4", (0.375, "the longest text of all")),
        ),
    ],
)
def test_batches_are_tried_with_the_longest_sound_and_text(
    fitting: float,
    said: str,
    max_seconds: str,
    tried: tuple[float, str],
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
    run = make_run(tmp_path, "batches.seconds=40", f"batches.max_seconds={max_seconds}")
    updater = Asked(fitting)
    _try_largest_batch(run, updater, combined_index({tmp_path / "shards": 1.0}))  # type: ignore[arg-type]
    assert updater.asked == (run.experiment.batches, *tried)
    found = capsys.readouterr().out
    assert found.strip().startswith(said)
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


@pytest.mark.parametrize(
    ("num_files", "has_dev", "said"), [(4, False, "1 utterance,"), (9, True, "9 utterances,"), (10, True, "")]
)
def test_few_utterances_to_choose_epochs_by_are_told(
    num_files: int, has_dev: bool, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {name: tmp_path / name for name in ("train", "dev")}
    for name, folder in folders.items():
        folder.mkdir()
        for number in range(num_files):
            level = (0.1 if name == "train" else 0.3) + number / 100
            (folder / f"{name}{number}.wav").write_bytes(
                encode_audio(np.full(RATE // 2, level, np.float32), RATE, "wav")
            )
            (folder / f"{name}{number}.txt").write_text("a b", encoding="utf-8")
    recipe = recipe_of_files(folders["train"], (), folders["dev"] if has_dev else None)
    prepare(replace(make_run(tmp_path / "run", "splits.test=[]", f"features.sample_rate={RATE}"), recipe=recipe))
    found = re.findall(r"note: epochs are chosen by (.*) where .*--dev", capsys.readouterr().out)
    assert found == [said] * bool(said)


@pytest.mark.parametrize("init", [{}, {"model": "runs/old"}, {"model": "runs/old", "vocabulary": "new"}])
def test_what_no_token_spells_is_named_with_its_utterance_by_the_preparation(
    init: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = train_tokenizer(["a b é"], CharacterTokenizerConfig())
    monkeypatch.setattr("asr.preparation.model_to_start_from", lambda *_: (None, old))  # as if there were this one
    said = {"train": ["a b", "b a"], "dev": ["a", "é a", "ß"], "heard": ["b", "b b"]}
    for number, (name, texts) in enumerate(said.items()):
        (tmp_path / name).mkdir()
        for other, text in enumerate(texts):
            sound = np.full(RATE // 2, 0.1 * (number + 1) + other / 100, np.float32)
            (tmp_path / name / f"{name}{other}.wav").write_bytes(encode_audio(sound, RATE, "wav"))
            (tmp_path / name / f"{name}{other}.txt").write_text(text, encoding="utf-8")
    recipe = recipe_of_files(tmp_path / "train", (tmp_path / "heard",), tmp_path / "dev")
    run = replace(make_run(tmp_path / "run", f"features.sample_rate={RATE}"), recipe=recipe)
    begun_from = run.experiment.init.model_copy(update=init)
    prepare(replace(run, experiment=run.experiment.model_copy(update={"init": begun_from})))
    found = re.findall(r"note: (.* cannot be spelt .*)", capsys.readouterr().out)
    keeps_tokens = begun_from.keeps_tokens
    first = (
        "'dev2': there is no token for 'ß' (U+00DF)" if keeps_tokens else "'dev1': there is no token for 'é' (U+00E9)"
    )
    assert len(found) == 1
    assert found[0].startswith(
        f"dev: {1 if keeps_tokens else 2} of 3 texts cannot be spelt with the model's tokens, the first: {first}"
    )


@pytest.mark.parametrize("name", ["loop.wav", "x" * 300 + ".wav"])
def test_sound_that_the_system_refuses_is_left_out(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for number in range(4):
        (tmp_path / f"u{number}.wav").write_bytes(
            encode_audio(np.full(RATE // 2, 0.1 + number / 100, np.float32), RATE, "wav")
        )
    names = [*(f"u{number}.wav" for number in range(4)), name]
    lines = [json.dumps({"id": f"{number}", "audio": each, "text": "a b"}) for number, each in enumerate(names)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = recipe_of_files(tmp_path / "all.jsonl", ())
    options = ["splits.test=[]", f"features.sample_rate={RATE}", "shards.max_skipped_share=0.9"]
    run = replace(make_run(tmp_path / "run", *options), recipe=recipe)
    prepare(run)
    skipped = [ShardIndex.load(run.own_shards(part)).skipped for part in (*run.train_parts, run.dev_part)]
    assert [ids for each in skipped for ids in each.values()] == [("4",)]


def test_a_part_that_a_recipe_names_by_its_path_stays_in_the_run_folder(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.py", "a b")
    run = replace(
        make_run(
            tmp_path / "run", f"splits.train=[{path}:train]", f"splits.dev={path}:dev", "splits.test=[]", root=tmp_path
        ),
        recipe=find_recipe("fsdd"),
    )
    prepare(run)
    folders = [run.own_shards(part) for part in (*run.train_parts, run.dev_part)]
    assert len(set(folders)) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "run" / "shards"}
    assert "/" not in hypotheses_file(run.train_parts[0].name, "greedy")


def test_a_corpus_mended_before_its_preparation_was_through_is_read_again(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.py", "helo")
    names = ["splits.train=[{0}:train]", "splits.dev={0}:missing", "splits.test=[]"]
    overrides = [name.format(path) for name in names]
    with pytest.raises(CorpusError, match="no such split"):
        prepare(replace(make_run(tmp_path / "run", *overrides, root=tmp_path), recipe=find_recipe("fsdd")))
    write_recipe(path, "hello")
    overrides[1] = f"splits.dev={path}:dev"
    run = replace(make_run(tmp_path / "run", *overrides, root=tmp_path), recipe=find_recipe("fsdd"))
    prepare(run)
    assert {each.text for each in shard_utterances(run.train_index)} == {"hello"}


def write_recipe(path: Path, text: str) -> Path:
    path.write_text(
        f"""
import numpy as np
from asr.audio import encode_audio
from asr.corpus.utterance import Utterance
from asr.errors import CorpusError
from asr.recipe import Recipe, Splits

def read(root, split):
    if split == "missing":
        raise CorpusError("no such split")
    sounds = [encode_audio(np.full(8000, 0.1 + number / 10, np.float32), 16000, "wav") for number in range(3)]
    return [Utterance(id=f"{{split}}{{number}}", audio=sound, text={text!r}) for number, sound in enumerate(sounds)]

RECIPE = Recipe(name="mine", title="", hours=0, speakers=0, licence="", source="", read=read,
                imitate=lambda root: None, config="", splits=Splits(train=("train",), dev="dev", test=()))
""",
        encoding="utf-8",
    )
    return path


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
    with pytest.raises(
        CorpusError, match=r"'copy[0-3]' \(.*copy[0-3].wav\) is in 'test' and in 'train', as '.*': a model"
    ):
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
        f"nothing was measured, for lack of a part to measure on (--test, splits.test); `asr evaluate --model {run.folder} "
        "--data TEST` does so on any" in capsys.readouterr().out
    )


@pytest.mark.parametrize("sample_rate", [RATE, RATE // 2])
def test_files_with_less_than_the_model_hears_are_told(
    sample_rate: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
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
    advice = f"features.sample_rate={RATE // 2} would suit them"
    assert any(f"; {advice}" in message for message in caplog.messages) == (sample_rate == RATE)
    tokenizer = train_tokenizer(["a b"], CharacterTokenizerConfig())
    # As if there were this one.
    monkeypatch.setattr("asr.preparation.model_to_start_from", lambda *_: (None, tokenizer))
    init = run.experiment.init.model_copy(update={"model": "runs/old"})
    from_model = replace(run, folder=tmp_path / "from", experiment=run.experiment.model_copy(update={"init": init}))
    caplog.clear()
    prepare(replace(from_model, recipe=recipe_of_files(train, ())))
    expected = f"init.model=runs/old keeps its rate: start from a model of {RATE // 2} Hz, or from none, where {advice}"
    assert any(expected in message for message in caplog.messages) == (sample_rate == RATE)


@pytest.mark.parametrize(
    ("num_low", "advice"), [(1, "; leave out these few"), (2, "features.sample_rate=8000 would suit")]
)
def test_a_tenth_of_the_files_does_not_take_the_sound_of_the_others(
    num_low: int, advice: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.corpus.rates._NUM_RATES", 10)  # what comes behind is not looked at
    utterances = []
    for number in range(11):
        rate = (11025, 8000)[number] if number < num_low else 16000 if number < 10 else 4000
        path = tmp_path / f"{number}.wav"
        path.write_bytes(encode_audio(np.full(rate, 0.1, np.float32), rate, "wav"))
        utterances.append(Utterance(id=str(number), audio=path, text="a"))
    with caplog.at_level("WARNING"):
        watched = watch_rates(utterances, 16000, "train")
        assert [next(watched) for _ in range(10)] == utterances[:10]
        assert caplog.messages  # not at the end of hours
        assert list(watched) == utterances[10:]
    assert len(caplog.messages) == 1
    assert f"{num_low} of the first 10 sound files have less than 16000 Hz" in caplog.text
    assert advice in caplog.text


SMALL = (
    "features.sample_rate=8000 features.n_mels=8 augment.spec_augment=null encoder.hidden_size=6 encoder.num_layers=1"
)


def updated(*overrides: str) -> float:
    """A number that tells the weights after two updates with these settings from others."""
    experiment = load_experiment(None, [*SMALL.split(), "encoder.subsampling.channels=2", *overrides])
    tokenizer = train_tokenizer(WORDS, CharacterTokenizerConfig())
    torch.manual_seed(0)
    model = AcousticModel(experiment.acoustic, tokenizer.size)
    updater = make_updater(experiment, model, tokenizer, dtype=torch.float32)
    for number in range(2):
        updater.update([make_batch()], number, lr=0.1)
    return float(model.head.weight.detach().abs().sum())


@pytest.mark.parametrize(
    ("common", "setting"),
    [
        ([], "seed=1"),
        ([], "optimizer.betas=[0.5,0.5]"),
        ([], "optimizer.l1=1"),
        (["optimizer.kind=sgd"], "optimizer.momentum=0"),
        (["optimizer.kind=sgd"], "training.max_gradient_norm=1e-3"),
    ],
)
def test_every_setting_of_an_update_is_heeded(common: list[str], setting: str) -> None:
    assert updated(*common) == updated(*common)
    assert updated(*common, setting) != pytest.approx(updated(*common), rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features.n_mels=20"], "augment.spec_augment.frequency_width=27 may hide all 20 bands"),
        (
            ["features.kind=stored", "augment.silence={}", "augment.spec_augment=null"],
            "augment.silence would change sound",
        ),
        (["features.kind=stored", "augment.gain={}", "augment.spec_augment=null"], "augment.gain would change sound"),
        (["features.kind=mfcc", "augment.warp={}", "augment.spec_augment=null"], "augment.warp moves mel bands"),
        (["features.deltas=1", "augment.warp={}"], "augment.warp moves mel bands"),
        (["decoders=[{kind: greedy}, {kind: greedy}]"], "decoders: each kind may stand once"),
        (
            ["loss.consistency={}", "augment.spec_augment=null", "encoder.dropout=0"],
            "loss.consistency compares two views of each utterance, and here nothing makes them differ",
        ),
        (
            ["schedule.kind=plateau", "training.patience=3"],
            "training.patience=3 ends the training before schedule.patience=2 lets the rate fall and that can help: set "
            "training.patience=4 or more",
        ),
        (["loss.intermediate_ctc={layers: [3]}"], "must lie below the last of 3 layers"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_experiment(None, overrides)


@pytest.mark.parametrize(("epochs", "told"), [(5, True), (30, False)])
def test_a_warm_up_that_is_most_of_the_training_is_told(
    epochs: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    _note_warm_up(load_experiment(None, [f"training.epochs={epochs}"]), 10)
    note = "note: the learning rate rises for 100 updates, and there are 50, so that it hardly gets to 0.002"
    assert (note in capsys.readouterr().out) == told


def test_what_is_too_long_to_be_learnt_from_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    index = of_lengths([16000, 48000, 32000])
    _size_of_epoch(BatchesConfig(max_seconds=2), index)
    assert (
        capsys.readouterr().out.strip()
        == "1 of 3 utterances are longer than 2 s (batches.max_seconds) and are not learnt from"
    )
    for most in (3.0, None):
        _size_of_epoch(BatchesConfig(max_seconds=most), index)
        assert not capsys.readouterr().out
    with pytest.raises(
        ConfigError, match=r"max_seconds: 3 of 3 utterances are longer than 0\.5 s, so that nothing is left"
    ):
        _size_of_epoch(BatchesConfig(max_seconds=0.5), index)


def test_nothing_is_made_of_what_is_too_long(tones: Callable[..., Run]) -> None:
    """Before a model is: its statistics of features would be those of nothing."""
    run = tones("run", "features.normalization=global", "batches.max_seconds=0.01", "batches.seconds=0.02")
    with pytest.raises(ConfigError, match=r"batches.max_seconds: .* nothing is left to learn from"):
        run_stages(run, ["prepare", "train"])


@pytest.mark.parametrize("what", ["augment.spec_augment={}", "augment.warp={}", "encoder.dropout=0.1"])
def test_whatever_makes_two_views_differ_is_enough(what: str) -> None:
    nothing = ["loss.consistency={}", "augment.spec_augment=null", "encoder.dropout=0"]
    assert load_experiment(None, [*nothing, what]).loss.consistency is not None


def test_own_test_sets_go_with_own_training_sound() -> None:
    with pytest.raises(ConfigError, match="--dev and --test go with --manifest"):
        RunRequest(recipe="fsdd", test=(Path("mine.jsonl"),)).run()


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    """A prepared run with a model."""
    train, dev, test = (
        write_tone_corpus(tmp_path / name, 8, seed=seed, prefix=name)
        for seed, name in enumerate(("train", "dev", "test"))
    )
    recipe = recipe_of_files(train, (test,), dev)
    experiment = load_experiment(recipe.config, [*TINY, "decoders=[{kind: greedy}]"])
    run = Run(folder=tmp_path / "run", recipe=recipe, root=None, experiment=experiment)
    prepare(run)
    tokenizer = load_tokenizer(run)
    torch.manual_seed(0)
    weights = AcousticModel(experiment.acoustic, tokenizer.size).state_dict()
    save_checkpoint(
        run.model_file, Checkpoint(experiment=experiment.tree(), tokenizer=tokenizer.state(), model=weights)
    )
    return run


@pytest.mark.parametrize(("apart", "note"), [(0.01, "average of epochs 1, 2"), (500.0, "epoch 1, dev WER 0.5")])
def test_epochs_are_averaged_unless_that_is_clearly_worse(
    trained: Run, apart: float, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained.folder / "checkpoints"
    folder.mkdir()
    best = replace(load_checkpoint(trained.model_file), note="epoch 1, dev WER 0.5")
    trained.model_file.unlink()
    bias = best.model["head.bias"].clone()
    bias[1] += apart
    other = replace(best, model={**best.model, "head.bias": bias})
    progress = {"progress": {"best": [(0.5, 1.0, 1), (0.6, 1.1, 2)]}}
    for name, checkpoint in (
        ("best", best),
        ("epoch-0001", best),
        ("epoch-0002", other),
        ("last", replace(other, training=progress)),
    ):
        save_checkpoint(folder / f"{name}.pt", checkpoint)
    capsys.readouterr()
    average(trained)
    kept = load_checkpoint(trained.model_file)
    assert kept.note == note
    is_average = note.startswith("average")
    expected = (best.model["head.bias"] + bias) / 2 if is_average else best.model["head.bias"]
    torch.testing.assert_close(kept.model["head.bias"], expected)
    assert ("kept the average" if is_average else "kept that") in capsys.readouterr().out


def test_what_decoders_of_before_heard_does_not_stay_and_what_others_wrote_does(trained: Run) -> None:
    evaluate(trained)
    hypotheses, results = trained.folder / "hypotheses", trained.folder / "results.json"
    (greedy,) = read_results(results)
    write_results(results, [greedy, replace(greedy, decoder="beam")])
    for name in ("test-beam.tsv", "mine-greedy.tsv"):
        (hypotheses / name).touch()
    evaluate(trained)
    assert sorted(path.name for path in hypotheses.iterdir()) == ["mine-greedy.tsv", "test-greedy.tsv"]


@pytest.fixture
def tones(tmp_path: Path) -> Callable[..., Run]:
    """Makes runs on a corpus of tones, prepared once."""
    train, dev = (
        write_tone_corpus(tmp_path / name, size, seed=size, prefix=name) for name, size in (("train", 24), ("dev", 4))
    )
    recipe = recipe_of_files(train, (), dev)

    def make(name: str, *overrides: str) -> Run:
        experiment = load_experiment(recipe.config, [*TINY, "features.n_mels=40", "training.epochs=2", *overrides])
        prepared = tmp_path / "prepared"
        return Run(folder=tmp_path / name, recipe=recipe, root=None, experiment=experiment, preparation=prepared)

    return make


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.folder / "checkpoints" / "last.pt").model


@pytest.mark.parametrize("setting", ["seed=1", "training.precision=bf16"])
def test_a_training_from_given_weights_heeds(setting: str, tones: Callable[..., Run]) -> None:
    """Nothing but the order of the utterances is at random here."""
    run_stages(tones("before", "training.epochs=1"), ["prepare", "train"])
    start = f"init.model={tones('before').folder}"
    runs = [tones("plain", start, "batches.seconds=3"), tones("other", start, "batches.seconds=3", setting)]
    for run in runs:
        run_stages(run, ["train"])
    plain, other = map(weights_of, runs)
    assert not all(torch.equal(value, other[name]) for name, value in plain.items())


def test_a_training_from_a_model_tells_what_that_made_of_the_development_set(
    tones: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(tones("before", "training.epochs=1"), ["prepare", "train"])
    assert "before the first update" not in capsys.readouterr().out
    lines = (tones("before").folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (known,) = [record for record in map(json.loads, lines) if record["kind"] == "validation"]
    start = f"init.model={tones('before').folder}"
    run_stages(tones("tuned", start), ["train"])
    told = (
        f"  before the first update: dev loss {known['loss']:.3f}  dev WER {known['wer']:.2%}  CER {known['cer']:.2%}\n"
    )
    assert told in capsys.readouterr().out
    run_stages(tones("new", start, "init.vocabulary=new"), ["train"])  # with a head that has learnt nothing
    assert "before the first update" not in capsys.readouterr().out


@pytest.mark.parametrize(("lr", "is_worse"), [("3e-3", False), ("1", True)])
def test_a_training_that_ruins_the_model_it_set_out_from_says_so_also_when_it_was_resumed(
    lr: str, tones: Callable[..., Run], capsys: pytest.CaptureFixture[str], *, is_worse: bool
) -> None:
    before = tones("before", "training.epochs=4", "batches.seconds=2")
    run_stages(before, ["prepare", "train"])
    run = tones("tuned", f"init.model={before.folder}", f"optimizer.lr={lr}")

    def stop(epoch: int, validation: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(StoppedByUserError):
        run_stages(replace(run, watch=stop), ["train"])
    run_stages(run, ["train", "average"])
    (start,) = read_metrics(run.folder, "start")
    said = capsys.readouterr().out
    assert said.count("before the first update: ") == 1, "what is known was measured again"
    numbers = f"; before the first update {start['loss']:.3f}, {start['wer']:.2%}: a smaller optimizer.lr (here 1) or"
    assert ("note: the model is worse on the development set than" in said) == (numbers in said) == is_worse


def test_a_model_that_does_not_fit_is_told_before_anything_is_prepared(tones: Callable[..., Run]) -> None:
    before = tones("before", "training.epochs=1")
    run_stages(before, ["prepare", "train"])
    run = replace(tones("tuned", f"init.model={before.folder}", "encoder.hidden_size=20"), preparation=None)
    with pytest.raises(ConfigError, match=r"has other settings, which cannot be changed: encoder.hidden_size=24$"):
        run_stages(run, ["prepare"])
    assert not (run.folder / "shards").exists()


def test_frozen_parts_stay_so_when_a_training_is_resumed(tones: Callable[..., Run]) -> None:
    run_stages(tones("before", "training.epochs=1"), ["prepare", "train"])
    run = tones("tuned", f"init.model={tones('before').folder}", "init.freeze=[subsampling]")

    def stop(epoch: int, validation: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(StoppedByUserError):
        run_stages(replace(run, watch=stop), ["train"])
    run_stages(run, ["train"])
    before, after = weights_of(tones("before")), weights_of(run)
    moved = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert "layers" in moved
    assert "subsampling" not in moved


def test_an_epoch_whose_order_an_earlier_version_drew_is_not_gone_on_with(tones: Callable[..., Run]) -> None:
    run = tones("one", "training.epochs=2")

    def stop(epoch: int, validation: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(StoppedByUserError):
        run_stages(replace(run, watch=stop), ["prepare", "train"])
    last = run.folder / "checkpoints" / "last.pt"
    checkpoint = load_checkpoint(last)
    assert checkpoint.training is not None
    progress = {**checkpoint.training["progress"], "batches": 1}
    earlier = {**checkpoint.training, "progress": progress, "data": run.train_index.contents}
    save_checkpoint(last, replace(checkpoint, training=earlier))
    with pytest.raises(TrainingError, match="or the version of this program"):
        run_stages(run, ["train"])


def test_the_configuration_of_a_run_can_be_run_again(tones: Callable[..., Run]) -> None:
    run = tones("one", "training.epochs=1", "seed=7")
    run_stages(run, ["prepare", "train"])
    assert load_experiment(str(run.folder / "config.yaml")) == run.experiment
    assert (run.folder / "training.png").is_file()


def test_the_vocabulary_is_that_of_the_training_texts(tmp_path: Path) -> None:
    train, test = (write_tone_corpus(tmp_path / name, 8, seed=len(name), prefix=name) for name in ("train", "test"))
    test.write_text(test.read_text(encoding="utf-8").replace('"text": "', '"text": "xylophone '), encoding="utf-8")
    recipe = recipe_of_files(train, (test,))
    run = Run(folder=tmp_path / "run", recipe=recipe, root=None, experiment=load_experiment(recipe.config, TINY))
    prepare(run)
    assert "x" not in load_tokenizer(run).pieces


def test_the_bar_of_a_part_knows_how_many_utterances_the_whole_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it advances by is what is there, which of a partial copy is less."""
    bars: dict[str, tuple[float | None, list[float]]] = {}

    @contextmanager
    def noted(description: str, total: float | None) -> Iterator[Callable[[float], None]]:
        bars[description] = total, []
        yield bars[description][1].append

    monkeypatch.setattr("asr.preparation.progress_bar", noted)
    recipe = find_recipe("librispeech")
    recipe.imitate(tmp_path)
    experiment = load_experiment(None, ["splits={train: train-clean-5, dev: dev-clean-2, test: []}"])
    for name, sizes in (("known", recipe.sizes), ("unknown", {})):
        known = replace(recipe, sizes=sizes)
        prepare(Run(folder=tmp_path / name, recipe=known, root=tmp_path, experiment=experiment))
    size = recipe.sizes["train-clean-5"]
    assert bars[f"shards of train-clean-5 ({size} if whole)"] == (size, [1, 1, 1])
    assert bars["shards of train-clean-5"] == (None, [1, 1, 1])
