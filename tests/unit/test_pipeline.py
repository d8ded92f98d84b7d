"""Which stages run, which are skipped, and what stops a run before something is lost."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tones import TINY, TONES_HZ, write_tone_corpus

from asr import pipeline, source_code
from asr.cli import main
from asr.errors import ConfigError, CorpusError, StoppedByUserError
from asr.experiment import Run, RunRequest, load_experiment
from asr.marks import read_marks
from asr.pipeline import STAGES, Stage, check_not_begun, is_done, other_code, run_stages
from asr.recipe import Recipe, recipe_of_files
from asr.text.tokenizer import CharacterTokenizerConfig, train_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the stages in the order in which their work was done, the work itself being replaced."""
    names: list[str] = []
    real = pipeline._stages()

    def fake(name: str) -> Stage:
        def work(run: Run) -> None:
            names.append(name)
            for output in real[name].outputs:
                (run.folder / output).write_text(name)

        # Nothing is prepared, and so nothing is lost.
        return replace(
            real[name], work=work, recall=lambda run: print(f"what {name} found"), lost=lambda run, later: ""
        )

    monkeypatch.setattr(pipeline, "_stages", lambda: {name: fake(name) for name in STAGES})
    return names


def make_run(folder: Path, *overrides: str, root: Path | None = None, files: Mapping[str, Path] | None = None) -> Run:
    recipe = Recipe(
        name="toy",
        title="",
        hours=0,
        speakers=0,
        licence="",
        source="",
        read=lambda root, split: iter(()),
        imitate=lambda root: None,
        config="",
        files=files or {},
    )
    return Run(folder=folder, recipe=recipe, root=root, experiment=load_experiment(None, overrides))


def test_all_stages_run_in_order_and_then_none(
    tmp_path: Path, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages(make_run(tmp_path), list(reversed(STAGES)))
    assert done == list(STAGES)
    capsys.readouterr()
    run_stages(make_run(tmp_path), STAGES)
    assert done == list(STAGES)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[::2]] == list(STAGES)
    assert said[1::2] == [f"what {name} found" for name in STAGES]


@pytest.mark.parametrize(
    ("override", "repeated"),
    [
        ("decoders=[{kind: greedy}]", ["evaluate"]),
        ("device=cpu", []),
        ("shards.cache=copies", []),
    ],
)
def test_only_what_depends_on_a_change_is_done_again(
    tmp_path: Path, done: list[str], override: str, repeated: list[str]
) -> None:
    run_stages(make_run(tmp_path), STAGES)
    done.clear()
    run_stages(make_run(tmp_path, override), STAGES)
    assert done == repeated


def test_a_changed_list_of_words_is_tried_again(tmp_path: Path, done: list[str]) -> None:
    words = tmp_path / "words.txt"
    decoders = f"decoders=[{{kind: lexicon, words: {words}}}]"
    for text, repeated in (("one", list(STAGES)), ("one", []), ("one two", ["evaluate"])):
        words.write_text(text, encoding="utf-8")
        done.clear()
        run_stages(make_run(tmp_path / "run", decoders), STAGES)
        assert done == repeated


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=0.5", r"\(optimizer.lr was 0.002, is 0.5\); use another --out, with --init \S+ to train on"),
        ("seed=7", r"seed was 0, is 7"),
        ("features.sample_rate=8000", r"'prepare' .*sample_rate was 16000, is 8000"),
        ("tokenizer.kind=bpe", r"tokenizer"),
        ("encoder.cell=lstm", r'encoder.cell was "gru", is "lstm"'),
    ],
)
def test_a_change_that_would_overwrite_work_is_refused(
    tmp_path: Path, done: list[str], override: str, message: str
) -> None:
    run_stages(make_run(tmp_path), STAGES)
    done.clear()
    with pytest.raises(ConfigError, match=message):
        run_stages(make_run(tmp_path, override), STAGES)
    assert done == []


@pytest.mark.parametrize("name", ["prepare", "train"])
def test_a_stage_that_came_to_nothing_does_not_lock_its_folder(tmp_path: Path, done: list[str], name: str) -> None:
    run_stages(make_run(tmp_path), STAGES)
    marks = read_marks(tmp_path)
    marks[name]["done"] = False
    (tmp_path / "stages.json").write_text(json.dumps(marks))
    for output in pipeline._stages()[name].outputs:
        (tmp_path / output).unlink()
    change = "features.sample_rate=8000" if name == "prepare" else "optimizer.lr=0.5"
    done.clear()
    run_stages(make_run(tmp_path, change), [name])
    assert done == [name]


def test_what_other_code_has_made_is_kept_and_told(
    tmp_path: Path, done: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(make_run(tmp_path), STAGES)
    run_stages(make_run(tmp_path), STAGES)
    assert "note:" not in capsys.readouterr().out
    done.clear()
    edited = {**source_code._DIGESTS, "model/cells/gru.py": "edited"}
    # Shards are the same, whatever cell learns from them; and nothing has learnt yet where only they are made.
    with monkeypatch.context() as patch:
        patch.setattr(source_code, "_DIGESTS", edited)
        run_stages(make_run(tmp_path), ["prepare"])
        assert "note:" not in capsys.readouterr().out
        for stages in (STAGES, ["evaluate"]):
            run_stages(make_run(tmp_path), stages)
            assert capsys.readouterr().out.splitlines()[0] == (
                f"note: {tmp_path}: 'train' was done by other code than this (different since: asr/model/cells/gru.py); "
                "--fresh does it again with this"
            )
        assert done == []
        run_stages(make_run(tmp_path), STAGES, fresh=True)
        run_stages(make_run(tmp_path), STAGES)
        assert "note:" not in capsys.readouterr().out


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_training_that_goes_on_with_other_code_is_of_other_code(
    tmp_path: Path,
    done: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_checkpoint: bool,
) -> None:
    run_stages(make_run(tmp_path), STAGES)
    marks = read_marks(tmp_path)
    marks["train"]["done"] = False
    (tmp_path / "stages.json").write_text(json.dumps(marks))
    if not has_checkpoint:  # it broke, was mended and starts over: nothing of the old code is in it
        (tmp_path / "checkpoints").unlink()
    monkeypatch.setattr(source_code, "_DIGESTS", {**source_code._DIGESTS, "training/loss.py": "edited"})
    capsys.readouterr()
    run_stages(make_run(tmp_path), ["train"])
    assert ("'train' was begun by other code" in capsys.readouterr().out) == has_checkpoint
    run_stages(make_run(tmp_path), ["train"])
    assert ("'train' was done by other code" in capsys.readouterr().out) == has_checkpoint


def test_an_edited_recipe_is_other_code(tmp_path: Path, done: list[str]) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text((ROOT / "recipes" / "fsdd.py").read_text(encoding="utf-8"), encoding="utf-8")
    request = RunRequest(recipe=str(recipe))
    run_stages(request.run(tmp_path / "run"), ["prepare"])
    assert other_code(request.run(tmp_path / "run")) == ""
    recipe.write_text(recipe.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    assert "(different since: mine.py)" in other_code(request.run(tmp_path / "run"))


def test_every_room_bears_on_a_stage_or_only_shows() -> None:
    counted = {room for stage in pipeline._stages().values() for room in stage.rooms}
    rooms = {path.parent.name for path in (ROOT / "asr").glob("*/__init__.py")}
    assert rooms - counted == {"cli", "inspection", "report", "studies"}


def test_work_of_before_a_setting_existed_is_done_if_that_is_off(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path), STAGES)
    done.clear()
    marks = read_marks(tmp_path)
    for mark in (marks["train"], marks["average"], marks["evaluate"]):
        del mark["inputs"]["attention"], mark["inputs"]["loss"]["speaker"]
    (tmp_path / "stages.json").write_text(json.dumps(marks))
    run_stages(make_run(tmp_path), STAGES)
    assert done == []
    with pytest.raises(ConfigError, match=r"'train' was begun here with other settings \(attention was null, is {"):
        run_stages(make_run(tmp_path, "attention={}"), STAGES)


def test_other_files_of_the_users_own_are_never_taken_for_those_of_before(tmp_path: Path, done: list[str]) -> None:
    files = {"train": tmp_path / "a.jsonl", "dev": tmp_path / "a.jsonl", "test:c": tmp_path / "c.jsonl"}
    run_stages(make_run(tmp_path, files=files), STAGES)
    for more, onwards in (
        (
            {"train": tmp_path / "b" / "a.jsonl"},
            f"use another --out, with --init {tmp_path} to train on from its weights, or --fresh",
        ),
        ({"test:d": tmp_path / "d.jsonl"}, f"`asr evaluate --model {tmp_path} --data TEST` measures on any; else use"),
    ):
        with pytest.raises(ConfigError, match=r"'prepare' was begun here with other settings \(files\.") as refusal:
            run_stages(make_run(tmp_path, files=files | more), STAGES)
        assert f"); {onwards}" in str(refusal.value)
    assert done == list(STAGES)
    # A training depends on no file that is only measured on.
    run_stages(make_run(tmp_path, files={name: files[name] for name in ("train", "dev")}), ["train", "average"])
    assert done == list(STAGES)


def test_no_model_is_measured_on_another_test_set_where_none_was_trained(tmp_path: Path, done: list[str]) -> None:
    files = {"train": tmp_path / "a.jsonl", "dev": tmp_path / "a.jsonl", "test:c": tmp_path / "c.jsonl"}
    run_stages(make_run(tmp_path, files=files), ["prepare"])
    with pytest.raises(ConfigError, match=r"\(files\.test.*\); use another --out, or --fresh to throw this one away$"):
        run_stages(make_run(tmp_path, files=files | {"test:d": tmp_path / "d.jsonl"}), STAGES)


def test_a_run_folder_may_lie_in_the_folder_that_it_is_made_of(tmp_path: Path, done: list[str]) -> None:
    files = {"train": tmp_path, "dev": tmp_path}
    (tmp_path / "a.txt").write_text("said", encoding="utf-8")
    for _ in range(2):
        run_stages(make_run(tmp_path / "run", files=files), STAGES)
        (tmp_path / "run" / "shard.tar").write_text("made on the way", encoding="utf-8")
    assert done == list(STAGES)


@pytest.mark.parametrize("edited", ["list.jsonl", "folder/a.txt"])
def test_what_was_prepared_of_files_that_were_edited_since_is_not_taken(
    edited: str, tmp_path: Path, done: list[str]
) -> None:
    files = {"train": tmp_path / "list.jsonl", "dev": tmp_path / "folder", "test:c": tmp_path / "folder"}
    (tmp_path / "folder").mkdir()
    for name in ("list.jsonl", "folder/a.txt", "folder/a.wav"):
        (tmp_path / name).write_text("as it was", encoding="utf-8")
    for _ in range(2):
        run_stages(make_run(tmp_path / "run", files=files), STAGES)
    assert done == list(STAGES)
    (tmp_path / edited).write_text("corrected", encoding="utf-8")
    where = str(tmp_path / edited.partition("/")[0])
    with pytest.raises(ConfigError, match=rf"{where} has been edited since\); use another --out, with --init .*run to"):
        run_stages(make_run(tmp_path / "run", files=files), STAGES)
    run_stages(make_run(tmp_path / "run", files=files), STAGES, fresh=True)
    assert done == [*STAGES, *STAGES]


@pytest.mark.parametrize("named", ["a.wav", "{folder}/a.wav", "a.wav:12"])
@pytest.mark.parametrize("was", [None, b""])
def test_what_was_prepared_of_a_list_whose_sound_was_put_in_place_since_is_not_taken(
    named: str, was: bytes | None, tmp_path: Path, done: list[str]
) -> None:
    """The last is a place in an archive of features. Lines that hold no path, and paths that are none, have no say."""
    manifest, sound = tmp_path / "list.jsonl", tmp_path / "a.wav"
    audio = json.dumps({"audio": named.format(folder=tmp_path)})
    (tmp_path / "b.wav").write_bytes(b"there all along")
    lines = (audio, '{"audio": "b.wav"}', "[1]", "{}", '{"audio": 1}', '{"audio": "\\u0000\\ud800"}', "[" * 100_000)
    manifest.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    if was is not None:
        sound.write_bytes(was)
    files = {"train": manifest, "dev": manifest}
    for _ in range(2):
        run_stages(make_run(tmp_path / "run", files=files), STAGES)
    assert done == list(STAGES)
    sound.write_bytes(b"put in place")
    found = rf"\(sound files that {manifest} names have changed since\); use another --out, with --init"
    with pytest.raises(ConfigError, match=found):
        run_stages(make_run(tmp_path / "run", files=files), STAGES)
    manifest.write_text(audio, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"list\.jsonl has been edited since"):
        run_stages(make_run(tmp_path / "run", files=files), STAGES)
    assert done == list(STAGES)


def test_sound_of_a_list_need_not_be_there_once_it_is_prepared(tmp_path: Path, done: list[str]) -> None:
    manifest, sound = tmp_path / "list.jsonl", tmp_path / "a.wav"
    manifest.write_text('{"audio": "a.wav"}', encoding="utf-8")
    sound.write_bytes(b"as it was")
    run = make_run(tmp_path / "run", files={"train": manifest})
    run_stages(run, STAGES)
    sound.unlink()
    run_stages(run, STAGES)
    assert done == list(STAGES)


@pytest.mark.parametrize("correction", ["another test set", "no test set", "the training list", "the test list"])
def test_a_preparation_that_complained_of_the_data_goes_on_once_they_are_corrected(
    tmp_path: Path, correction: str
) -> None:
    """With the parts that are as they were; with other settings it does not."""
    train, wrong, right = (
        write_tone_corpus(tmp_path / name, 12, seed=seed) for seed, name in enumerate(("train", "wrong", "right"))
    )
    for number in range(12):  # copies of what is learnt from or chosen by, in that order
        shutil.copy(train.with_name(f"u{number:03d}.flac"), wrong.with_name(f"u{11 - number:03d}.flac"))

    def prepared(*overrides: str, test: Path | None = wrong) -> Run:
        recipe = recipe_of_files(train, () if test is None else (test,))
        run = replace(make_run(tmp_path / "run", *TINY, *overrides), recipe=recipe)
        run_stages(run, ["prepare"])
        return run

    with pytest.raises(CorpusError, match="is in 'wrong' and in 'train'"):
        prepared()
    shards = tmp_path / "run" / "shards"
    before = {path: path.stat().st_mtime_ns for path in shards.rglob("index.json")}
    assert {path.parent.name for path in before} == {"train", "dev"}
    with pytest.raises(ConfigError, match=r"'prepare' was begun here with other settings \(tokenizer\."):
        prepared("tokenizer.kind=bpe")
    if edited := {"the training list": train, "the test list": wrong}.get(correction):
        edited.write_bytes(right.read_bytes().replace(b'"audio": "', b'"audio": "../right/'))
    test = {"another test set": right, "no test set": None}.get(correction, wrong)
    run = prepared(test=test)
    assert is_done(run, "prepare")
    assert {path.name for path in shards.iterdir()} == {"train", "dev", *([test.stem] if test else [])}
    is_same = [path.stat().st_mtime_ns == time for path, time in before.items()]
    assert is_same == [correction != "the training list"] * 2


def test_what_was_trained_with_a_lexicon_that_was_edited_since_is_not_taken(tmp_path: Path, done: list[str]) -> None:
    lexicon = tmp_path / "words.dict"
    lexicon.write_text("ab A B\n", encoding="utf-8")
    setting = f"loss.phones.lexicon={lexicon}"
    for _ in range(2):
        run_stages(make_run(tmp_path / "run", setting), STAGES)
    assert done == list(STAGES)
    lexicon.write_text("ab A C\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'train' .*words\.dict has been edited since"):
        run_stages(make_run(tmp_path / "run", setting), STAGES)
    assert done == list(STAGES)


def test_a_file_that_is_edited_while_it_is_prepared_is_no_more_the_one_that_was(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text("as it was", encoding="utf-8")
    table = pipeline._stages()

    def edit(run: Run) -> None:
        table["prepare"].work(run)
        path.write_text("corrected", encoding="utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_stages", lambda: {**table, "prepare": replace(table["prepare"], work=edit)})
        run_stages(make_run(tmp_path / "run", files={"train": path}), ["prepare"])
    with pytest.raises(ConfigError, match=r"list\.jsonl has been edited since"):
        run_stages(make_run(tmp_path / "run", files={"train": path}), ["prepare"])


def test_two_processes_do_not_work_in_one_folder(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pipeline._stages()

    def begin_another(run: Run) -> None:
        with pytest.raises(
            ConfigError, match="another run is at work here; wait until it has ended, or use another --out"
        ):
            run_stages(make_run(tmp_path), STAGES)
        table["prepare"].work(run)

    monkeypatch.setattr(
        pipeline, "_stages", lambda: {**table, "prepare": replace(table["prepare"], work=begin_another)}
    )
    run_stages(make_run(tmp_path), STAGES)
    assert done == list(STAGES)


def test_fresh_forgets_the_stages_that_run_and_what_came_of_them(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path), STAGES)
    done.clear()
    run_stages(make_run(tmp_path, "optimizer.lr=0.5"), ["train", "average"], fresh=True)
    assert done == ["train", "average"]
    assert (tmp_path / "shards").read_text() == "prepare"
    assert not (tmp_path / "results.json").exists()
    run_stages(make_run(tmp_path, "optimizer.lr=0.5"), STAGES)
    assert done == ["train", "average", "evaluate"]
    # Nothing is left to go on with when the speech has changed.
    run_stages(make_run(tmp_path, "tokenizer.kind=bpe"), ["prepare"], fresh=True)
    assert not (tmp_path / "checkpoints").exists()


def test_fresh_deletes_nothing_before_it_is_sure(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path / "run"), STAGES)
    with pytest.raises(CorpusError, match=r"--root \S+nowhere: no such folder; nothing was begun or deleted"):
        run_stages(make_run(tmp_path / "run", root=tmp_path / "nowhere"), STAGES, fresh=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "shards").write_text("the user's own")
    with pytest.raises(ConfigError, match=r"mine: --fresh would delete 'shards' there, which may not be a run's"):
        run_stages(make_run(tmp_path / "mine"), STAGES, fresh=True)
    ready = tmp_path / "run" / "shards"
    with pytest.raises(ConfigError, match="--fresh would delete these shards, which lie in the run folder"):
        run_stages(make_run(tmp_path / "run", f"splits.train=shards:{ready}"), STAGES, fresh=True)
    assert (ready.read_text(), (tmp_path / "mine" / "shards").read_text()) == ("prepare", "the user's own")


def test_fresh_empties_a_folder_behind_a_link(tmp_path: Path, done: list[str]) -> None:
    disk = tmp_path / "disk"
    (disk / "train").mkdir(parents=True)
    (disk / "train" / "old.tar").write_text("old")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stages.json").write_text("{}")
    (tmp_path / "run" / "shards").symlink_to(disk)
    pipeline.forget(make_run(tmp_path / "run"), ["prepare"])
    assert list(disk.iterdir()) == []
    assert (tmp_path / "run" / "shards").is_symlink()


@pytest.mark.parametrize(
    ("stages", "override", "difference"),
    [
        (["train"], "features.sample_rate=8000", "'prepare' .*sample_rate was 16000, is 8000"),
        (["train"], "tokenizer.kind=bpe", "'prepare' .*tokenizer"),
        (["evaluate"], "optimizer.lr=0.5", "'train' .*optimizer.lr was 0.002, is 0.5"),
        (["evaluate"], "splits.test=[other]", "'prepare' .*splits.test"),
    ],
)
def test_no_stage_sets_out_from_what_was_made_with_other_settings(
    stages: list[str], override: str, difference: str, tmp_path: Path, done: list[str]
) -> None:
    run_stages(make_run(tmp_path), ["prepare"] if stages == ["train"] else STAGES)
    done.clear()
    with pytest.raises(ConfigError, match=f"needs the stage {difference}"):
        run_stages(make_run(tmp_path, override), stages)
    assert done == []


def test_once_prepared_a_corpus_need_not_be_there_any_more(tmp_path: Path, done: list[str]) -> None:
    (tmp_path / "corpus").mkdir()
    run_stages(make_run(tmp_path / "run", root=tmp_path / "corpus"), ["prepare"])
    run_stages(make_run(tmp_path / "run"), ["train"])
    run_stages(make_run(tmp_path / "run", root=tmp_path / "corpus"), STAGES)
    run_stages(make_run(tmp_path / "run"), STAGES)
    assert done == list(STAGES)
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r'root was "\S+corpus", is "\S+other"'):
        run_stages(make_run(tmp_path / "run", root=tmp_path / "other"), STAGES)


def test_a_missing_root_is_told_before_anything_is_said_to_start(
    tmp_path: Path, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CorpusError, match=r"--root \S+nowhere: no such folder; nothing was begun"):
        run_stages(make_run(tmp_path / "run", root=tmp_path / "nowhere"), STAGES)
    assert (capsys.readouterr().out, done, read_marks(tmp_path / "run")) == ("", [], {})


def test_a_training_of_which_nothing_is_known_is_not_gone_on_with(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path), STAGES)
    (tmp_path / "stages.json").unlink()
    with pytest.raises(ConfigError, match=r"shards: nothing in stages\.json there tells what 'prepare' made this from"):
        run_stages(make_run(tmp_path), STAGES)


def test_stage_without_its_predecessor_is_refused(tmp_path: Path, done: list[str]) -> None:
    with pytest.raises(ConfigError, match="'train' needs the stage 'prepare' first"):
        run_stages(make_run(tmp_path), ["train"])
    assert done == []


def test_stage_that_fails_is_not_marked_and_continues(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pipeline._stages()

    def fail(run: Run) -> None:
        raise CorpusError("no room")

    broken = {**table, "train": replace(table["train"], work=fail)}
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_stages", lambda: broken)
        with pytest.raises(CorpusError, match="no room"):
            run_stages(make_run(tmp_path), STAGES)
    assert not read_marks(tmp_path)["train"]["done"]
    with pytest.raises(ConfigError, match="--resume continues"):
        check_not_begun(make_run(tmp_path))
    capsys.readouterr()
    run_stages(make_run(tmp_path), STAGES)
    assert done == list(STAGES)
    assert "train: continuing" in capsys.readouterr().out


def test_damaged_record_of_stages_is_one_clear_error(tmp_path: Path, done: list[str]) -> None:
    (tmp_path / "stages.json").write_text("{half", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"stages\.json: damaged"):
        run_stages(make_run(tmp_path), STAGES)


def test_a_preparation_is_shared_and_each_run_keeps_the_rest(tmp_path: Path, done: list[str]) -> None:
    shared = tmp_path / "shared"
    runs = [replace(make_run(tmp_path / name, f"seed={name}"), preparation=shared) for name in "12"]
    with pytest.raises(ConfigError, match="'train' needs the stage 'prepare' first"):
        run_stages(runs[0], ["train"])
    for run in runs:
        run_stages(run, STAGES)
    assert done == [*STAGES, *STAGES[1:]]
    assert read_marks(shared).keys() == {"prepare"}
    assert read_marks(tmp_path / "2").keys() == set(STAGES[1:])
    assert all(is_done(run, stage) for run in runs for stage in STAGES)
    other = replace(make_run(tmp_path / "1", "seed=3"), preparation=shared)
    assert is_done(other, "prepare")
    assert not is_done(other, "train")
    with pytest.raises(ConfigError, match="seed was 1, is 3"):
        run_stages(other, ["train"])


def test_a_run_of_a_version_with_fewer_settings_goes_on(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path, "encoder.dropout=0.3"), STAGES)
    path = tmp_path / "stages.json"
    marks = json.loads(path.read_text(encoding="utf-8"))
    for mark in marks.values():
        mark["inputs"].get("encoder", {}).pop("residual", None)
        mark["inputs"].pop("loss", None)
    path.write_text(json.dumps(marks), encoding="utf-8")
    run_stages(make_run(tmp_path, "encoder.dropout=0.3"), STAGES)
    assert done == list(STAGES)
    with pytest.raises(ConfigError, match=r"encoder.residual was true, is false"):
        run_stages(make_run(tmp_path, "encoder.dropout=0.3", "encoder.residual=false"), STAGES)
    with pytest.raises(ConfigError, match=r"encoder.dropout was 0.3, is 0.1"):
        run_stages(make_run(tmp_path), STAGES)


def test_settings_that_are_none_any_more_are_named(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path), STAGES)
    path = tmp_path / "stages.json"
    marks = json.loads(path.read_text(encoding="utf-8"))
    marks["train"]["inputs"]["encoder"]["abandoned"] = 3
    path.write_text(json.dumps(marks), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"encoder.abandoned was 3, is null"):
        run_stages(make_run(tmp_path), STAGES)


def test_a_list_of_words_that_is_not_there_is_told_before_a_training(tmp_path: Path, done: list[str]) -> None:
    missing = f"decoders=[{{kind: lexicon, words: {tmp_path / 'missing.txt'}}}]"
    with pytest.raises(ConfigError, match=r"decoders: \S+missing\.txt: expected a file of words, found none"):
        run_stages(make_run(tmp_path / "run", missing), STAGES)
    assert done == []


def test_another_file_of_the_users_own_is_not_said_to_be_edited(tmp_path: Path, done: list[str]) -> None:
    for name in ("one.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    run_stages(make_run(tmp_path / "run", files={"train": tmp_path / "one.jsonl"}), STAGES)
    with pytest.raises(ConfigError, match=r'files\.train was "\S+one\.jsonl", is "\S+other\.jsonl"'):
        run_stages(make_run(tmp_path / "run", files={"train": tmp_path / "other.jsonl"}), STAGES)


def test_fresh_on_the_command_line_starts_over(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, repeated in (([], STAGES), ([], ()), (["--fresh"], STAGES)):
        done.clear()
        monkeypatch.setattr(sys, "argv", ["asr", "run", "spoken_commands", "--out", str(tmp_path), *options])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        assert done == list(repeated)


def test_a_training_that_was_cut_off_is_not_gone_on_with_unasked(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["asr", "train", "spoken_commands", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["asr", "run", "spoken_commands", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    marks = (tmp_path / "stages.json").read_text(encoding="utf-8")
    (tmp_path / "stages.json").write_text(marks.replace('"done": true', '"done": false'), encoding="utf-8")
    done.clear()
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--resume continues it, --fresh starts over" in capsys.readouterr().err
    assert done == []


def test_who_stops_a_run_meets_the_code_of_a_stop(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pipeline._stages()

    def stop(run: Run) -> None:
        raise StoppedByUserError("stopped after update 7")

    monkeypatch.setattr(pipeline, "_stages", lambda: {**table, "prepare": replace(table["prepare"], work=stop)})
    monkeypatch.setattr(sys, "argv", ["asr", "prepare", "spoken_commands", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "error: stopped after update 7\n"


@pytest.mark.parametrize("stage", STAGES)
def test_who_stops_any_stage_is_told_that_the_same_command_continues(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    table = pipeline._stages()

    def stop(run: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_stages", lambda: {**table, stage: replace(table[stage], work=stop)})
    monkeypatch.setattr(sys, "argv", ["asr", "run", "spoken_commands", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "error: stopped, what is done is kept; the same command continues\n"


@pytest.mark.parametrize(("stage", "seconds"), [("prepare", 70), ("train", 70), ("evaluate", 30)])
def test_the_time_of_a_stage_is_that_of_all_calls_whose_work_it_kept(
    tmp_path: Path,
    done: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    seconds: int,
) -> None:
    table, sittings, now = pipeline._stages(), iter((40, 30)), [0.0]

    def work(run: Run) -> None:
        table[stage].work(run)
        now[0] += next(sittings)
        if now[0] == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pipeline, "_stages", lambda: {**table, stage: replace(table[stage], work=work)})
    with pytest.raises(StoppedByUserError):
        run_stages(make_run(tmp_path), STAGES)
    for _ in range(2):
        run_stages(make_run(tmp_path), STAGES)
    said = capsys.readouterr().out
    assert f"{stage}: done already, in {tmp_path} ({seconds} s at the time)" in said


@pytest.mark.parametrize("command", ["run", "prepare"])
def test_a_mirror_reaches_the_preparation(
    command: str, tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, mirrors = pipeline._stages(), []
    noted = replace(table["prepare"], work=lambda run: mirrors.append(run.mirror))
    monkeypatch.setattr(pipeline, "_stages", lambda: {**table, "prepare": noted})
    arguments = ["asr", command, "spoken_commands", "--out", str(tmp_path), "--mirror", "https://host/x"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="0"):
        main()
    assert mirrors == ["https://host/x"]


def test_tokens_of_texts_have_no_say_where_those_of_a_model_stay(tmp_path: Path, done: list[str]) -> None:
    run_stages(make_run(tmp_path, "tokenizer={kind: bpe, size: 30}"), ["prepare"])
    run_stages(starting_from_old(make_run(tmp_path)), STAGES)
    assert done == list(STAGES)
    with pytest.raises(ConfigError, match=r"tokenizer\.kind was"):
        run_stages(starting_from_old(make_run(tmp_path), vocabulary="new"), STAGES)


def starting_from_old(run: Run, **settings: str) -> Run:
    """`run`, with a model to start from, which is looked for when it is loaded."""
    init = run.experiment.init.model_copy(update={"model": "old", **settings})
    return replace(run, experiment=run.experiment.model_copy(update={"init": init}))


def test_a_tokenizer_that_was_not_needed_is_made_when_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer([" ".join(TONES_HZ)], CharacterTokenizerConfig())
    # As if there were this one.
    monkeypatch.setattr("asr.preparation.model_to_start_from", lambda *_: (None, tokenizer))
    write_tone_corpus(tmp_path / "train", 4, seed=1)
    recipe = recipe_of_files(tmp_path / "train" / "train.jsonl", ())
    too_large = replace(make_run(tmp_path / "bpe", *TINY, "tokenizer={kind: bpe, size: 4000}"), recipe=recipe)
    run_stages(starting_from_old(too_large), ["prepare"])
    assert not too_large.tokenizer_file.exists()
    run = replace(make_run(tmp_path / "characters", *TINY), recipe=recipe)
    run_stages(starting_from_old(run), ["prepare"])
    assert pipeline._lost_of_preparation(starting_from_old(run), ["train"]) == ""
    assert "tokenizer.json: no such file" in pipeline._lost_of_preparation(run, ["train"])
    run_stages(run, ["prepare"])
    assert run.tokenizer_file.is_file()


def test_a_device_that_is_not_there_is_told_before_anything_is_done(done: list[str], tmp_path: Path) -> None:
    run_stages(make_run(tmp_path), STAGES)
    before = list(done)
    run_stages(make_run(tmp_path, "device=cuda:99"), ["prepare"])
    for folder, fresh in ((tmp_path / "elsewhere", False), (tmp_path, True)):
        with pytest.raises(ConfigError, match="device 'cuda:99' is not available"):
            run_stages(make_run(folder, "device=cuda:99"), STAGES, fresh=fresh)
    assert done == before
    assert is_done(make_run(tmp_path), "train"), "thrown away for what cannot be done"
