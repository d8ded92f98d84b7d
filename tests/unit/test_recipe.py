"""Finding recipes, and making one from the user's own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tones import write_tone_corpus

from asr.cli.run import make_request
from asr.corpus.places import title
from asr.corpus.utterance import Utterance
from asr.errors import ConfigError, CorpusError
from asr.evaluation import open_subsets
from asr.experiment import Run, load_experiment
from asr.preparation import prepare
from asr.recipe import find_corpus, find_part, find_recipe, find_recipes, load_recipe, recipe_of_files, train_or_dev


def test_recipes_are_found_by_name() -> None:
    for recipe in find_recipes():
        assert find_recipe(recipe.name).title == recipe.title


def test_misspelt_recipe_gets_a_suggestion() -> None:
    with pytest.raises(CorpusError, match="did you mean 'fsdd'"):
        find_recipe("fsd")


def test_files_of_ones_own_in_the_place_of_a_recipe_are_told_how_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fsd").mkdir()
    (tmp_path / "my words.jsonl").touch()
    for name, shown in (("fsd", "fsd"), ("my words.jsonl", "'my words.jsonl'")):
        with pytest.raises(CorpusError, match=f"lists them; for your own files: `asr run --manifest {shown}`"):
            find_recipe(name)
    with pytest.raises(CorpusError, match=r"\(`asr recipes` lists them\)$"):
        find_recipe("fsddd")


def test_a_recipe_and_files_of_ones_own_are_not_taken_together(tmp_path: Path) -> None:
    request = make_request(["fsdd"], None, None, tmp_path / "train.jsonl", None, None)
    with pytest.raises(ConfigError, match="found both fsdd and --manifest"):
        request.run()


def test_a_setting_without_equals_sign_is_told_how_to_be_written() -> None:
    with pytest.raises(ConfigError, match=r"found fsdd, encoder\.cell, lstm .* key\.path=value, without spaces"):
        make_request(["fsdd", "encoder.cell", "lstm"], None, None, None, None, None)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("1 +", "SyntaxError"),
        ("x = 1", "expected a module-level RECIPE"),
        ("RECIPE = 'fsdd'", "found str"),
    ],
)
def test_broken_recipe_file_is_one_clear_error(tmp_path: Path, code: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        load_recipe(path)


def test_recipe_files_may_hold_dataclasses_and_share_a_name(tmp_path: Path) -> None:
    code = """
from __future__ import annotations
import pickle
from dataclasses import dataclass
from asr.recipe import Recipe

@dataclass
class Line:
    text: str

assert pickle.loads(pickle.dumps(Line("{title}"))).text == "{title}"
RECIPE = Recipe(name="mine", title="{title}", hours=0, speakers=0, licence="", source="",
                read=lambda root, split: iter(()), imitate=lambda root: None, config="")
"""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(code.replace("{title}", name), encoding="utf-8")
    assert [load_recipe(tmp_path / name / "mine.py").title for name in ("one", "two", "one")] == ["one", "two", "one"]


def test_missing_recipe_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such recipe file"):
        find_recipe(str(tmp_path / "none.py"))


def test_development_set_is_held_out_of_training(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 60, seed=1)
    test = write_tone_corpus(tmp_path / "quiet", 5, seed=2, prefix="t")
    recipe = recipe_of_files(train, (test,))
    ids = {split: [utterance.id for utterance in recipe.read(Path(), split)] for split in ("train", "dev", "quiet")}
    assert recipe.splits.test == ("quiet",)
    assert sorted(ids["train"] + ids["dev"]) == [f"u{number:03d}" for number in range(60)]
    assert len(ids["dev"]) == 3
    assert ids["quiet"] == [f"t{number:03d}" for number in range(5)]


def test_a_speaker_more_or_less_moves_no_other_into_another_part() -> None:
    every = [Utterance(id=str(number), audio=Path("x.wav"), text="x", speaker=f"s{number}") for number in range(200)]
    held_out = {utterance.speaker for utterance in train_or_dev(every, "dev")}
    assert 10 < len(held_out) < 30
    for number in range(0, 200, 7):
        others = every[:number] + every[number + 1 :]
        assert {utterance.speaker for utterance in train_or_dev(others, "dev")} == held_out - {f"s{number}"}
        assert {utterance.speaker for utterance in train_or_dev(others, "train")}.isdisjoint(held_out)
    # Of few, one is held out all the same.
    few = [utterance for utterance in every if utterance.speaker not in held_out][:3]
    assert [len(list(train_or_dev(few, split))) for split in ("train", "dev")] == [2, 1]


def test_a_test_set_with_a_colon_in_its_name_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 3, seed=1)
    test = write_tone_corpus(tmp_path / "fsdd:test", 2, seed=2, prefix="t").rename(tmp_path / "fsdd:test" / "a:b.jsonl")
    recipe = recipe_of_files(train, (test,))
    (name,) = recipe.splits.test
    part = find_part(name, recipe)
    assert [utterance.id for utterance in part.read(Path())] == ["t000", "t001"]


def test_of_one_utterance_none_can_be_held_out(tmp_path: Path) -> None:
    train = tmp_path / "one.jsonl"
    train.write_text(json.dumps({"id": "a", "audio": "a.wav", "text": "hello"}) + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"one\.jsonl: expected two utterances or more, .* found one; .* --dev"):
        list(recipe_of_files(train, ()).read(tmp_path, "train"))
    assert [each.id for each in recipe_of_files(train, (), dev=train).read(tmp_path, "train")] == ["a"]


@pytest.mark.parametrize("how", ["same file", "copy", "link"])
def test_one_sound_is_not_both_learnt_from_and_held_out(tmp_path: Path, how: str) -> None:
    train = write_tone_corpus(tmp_path / "train", 40, seed=1)
    twice = []
    for line in train.read_text(encoding="utf-8").splitlines():
        audio = json.loads(line)["audio"]
        other = tmp_path / "train" / (audio if how == "same file" else f"again-{audio}")
        if how == "copy":
            shutil.copy(tmp_path / "train" / audio, other)
        elif how == "link":
            other.symlink_to(audio)
        twice += [line, json.dumps({**json.loads(line), "id": f"again-{audio}", "audio": other.name})]
    train.write_text("\n".join(twice), encoding="utf-8")
    recipe = recipe_of_files(train, ())
    sounds = {
        split: {each.audio.read_bytes() for each in recipe.read(Path(), split) if isinstance(each.audio, Path)}
        for split in ("train", "dev")
    }
    assert not sounds["train"] & sounds["dev"]
    assert len(sounds["train"]) + len(sounds["dev"]) == 40
    assert 2 <= len(sounds["dev"]) <= 4


def test_what_is_wrong_with_own_files_comes_with_the_command_that_finds_all_of_it(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 3, seed=1)
    with train.open("a", encoding="utf-8") as lines:
        lines.write('{"id": "no text"}\n')
    with pytest.raises(
        CorpusError, match=rf"train\.jsonl:4: .* \(`asr data check {train}` names all that is wrong there\)"
    ):
        list(recipe_of_files(train, ()).read(Path(), "train"))


def test_of_an_array_only_the_way_to_turn_it_is_told(tmp_path: Path) -> None:
    train = tmp_path / "train.json"
    train.write_text('\n[{"id": "a", "audio": "a.wav", "text": "yes"}]\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"train\.json: .* found an array; .* writes its objects so$"):
        list(recipe_of_files(train, ()).read(Path(), "train"))


def test_given_development_set_is_used_whole(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 30, seed=1)
    dev = write_tone_corpus(tmp_path / "dev", 4, seed=2, prefix="d")
    recipe = recipe_of_files(train, (), dev)
    assert len(list(recipe.read(Path(), "train"))) == 30
    assert len(list(recipe.read(Path(), "dev"))) == 4


def test_test_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    first = write_tone_corpus(tmp_path / "a" / "same", 2, seed=1)
    second = write_tone_corpus(tmp_path / "b" / "same", 2, seed=2)
    with pytest.raises(CorpusError, match="different names"):
        recipe_of_files(first, (first, second))


def test_a_part_that_is_not_among_the_files_is_named(tmp_path: Path) -> None:
    train = write_tone_corpus(tmp_path / "train", 2, seed=1)
    experiment = load_experiment(None, ["splits.dev=train-clean-5"])
    run = Run(folder=tmp_path / "run", recipe=recipe_of_files(train, (train,)), root=None, experiment=experiment)
    with pytest.raises(
        CorpusError, match="no part 'train-clean-5' among files of one's own, known: train, dev, test-train"
    ):
        prepare(run)


def test_a_part_to_learn_from_stands_once() -> None:
    with pytest.raises(ConfigError, match=r"found 'a' again; \{data: a, weight: 2\} is heard twice"):
        load_experiment(None, ["splits.train=[{data: a, weight: 3}, b, a]"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere\.jsonl: no such"):
        recipe_of_files(tmp_path / "nowhere.jsonl", ())


def test_a_corpus_that_cannot_be_downloaded_is_told_before_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asr.recipe.obtain", lambda *arguments, **options: pytest.fail("downloads"))
    experiment = load_experiment(None, ["splits.train=[train-clean-5, read_english:all]"])
    run = Run(folder=tmp_path / "run", recipe=find_recipe("librispeech"), root=None, experiment=experiment)
    with pytest.raises(
        CorpusError, match="read_english: this corpus cannot be downloaded; say with --root where it lies"
    ):
        prepare(run)


def test_all_parts_that_are_missing_are_told_before_one_is_prepared(tmp_path: Path) -> None:
    recipe = find_recipe("librispeech")
    recipe.imitate(tmp_path)
    for name in ("dev-clean-2", "test-other"):
        shutil.rmtree(tmp_path / "LibriSpeech" / name)
    experiment = load_experiment(None, ["splits={train: [train-clean-5], dev: dev-clean-2, test: [test-other]}"])
    run = Run(folder=tmp_path / "run", recipe=recipe, root=tmp_path, experiment=experiment)
    with pytest.raises(CorpusError, match=r"no dev-clean-2; .*; .*: no test-other; "):
        prepare(run)
    assert not (tmp_path / "run").exists()


def test_all_bad_lines_of_ones_own_files_are_told_before_one_is_prepared(tmp_path: Path) -> None:
    names = ("train", "quiet", "loud")
    train, quiet, loud = (
        write_tone_corpus(tmp_path / name, 4, seed=seed, prefix=name) for seed, name in enumerate(names)
    )
    for path in (quiet, loud):
        with path.open("a", encoding="utf-8") as lines:
            lines.write('{"id": "empty", "audio": "a.wav", "text": " "}\n')
    experiment = load_experiment("own_files", [])
    run = Run(folder=tmp_path / "run", recipe=recipe_of_files(train, (quiet, loud)), root=None, experiment=experiment)
    with pytest.raises(
        CorpusError, match=r"quiet\.jsonl:5: 'empty' has no text.*; .*loud\.jsonl:5: 'empty' has no text"
    ):
        prepare(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.csv", r"docs/guide\.md"),
        ("a.wav", r"docs/guide\.md"),
        ("feats.scp", r"from_kaldi in docs/guide\.md makes"),
    ],
)
def test_what_is_no_manifest_by_its_name_is_told_by_all_who_read_one(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_text("id,audio,text\n", encoding="utf-8")
    told = rf"found a \.{name[-3:]} file; {hint}"
    with pytest.raises(CorpusError, match=told):
        recipe_of_files(tmp_path / name, ())
    with pytest.raises(CorpusError, match=told):
        open_subsets(str(tmp_path / name), None)
    manifest = write_tone_corpus(tmp_path / "train", 2, seed=1)
    assert open_subsets(str(manifest.rename(tmp_path / name)), None)


def test_stored_features_are_told_at_once_and_how_to_learn_from_them(tmp_path: Path) -> None:
    recipe = find_recipe("an4")
    recipe.imitate(tmp_path)
    (tmp_path / "wav").rename(tmp_path / "feat")
    for path in (tmp_path / "feat").rglob("*.wav"):
        path.rename(path.with_suffix(".mfc"))
    run = Run(folder=tmp_path / "run", recipe=recipe, root=tmp_path, experiment=load_experiment(recipe.config, []))
    with pytest.raises(CorpusError, match=r"stored features, not sound: take .*=stored, as --config an4_cepstra does$"):
        prepare(run)


def test_ones_own_stored_features_are_told_with_the_configuration_for_them(tmp_path: Path) -> None:
    lines = [{"id": name, "audio": f"feats.ark:{name}", "text": "yes"} for name in ("4", "900")]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    recipe = recipe_of_files(manifest, ())
    run = Run(folder=tmp_path / "run", recipe=recipe, root=None, experiment=load_experiment(recipe.config))
    with pytest.raises(CorpusError, match=r"stored features, not sound: .* as --config own_files_stored does$"):
        prepare(run)
    with pytest.raises(ConfigError, match=r"augment\.noise would change sound, .* take --config own_files_stored$"):
        load_experiment(recipe.config, ["features.kind=stored"])
    for num_features in (13, 80):
        load_experiment("own_files_stored", [f"features.num_features={num_features}"])


def test_a_misspelt_part_is_told_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.recipe.obtain", lambda *arguments, **options: pytest.fail("downloads"))
    with pytest.raises(CorpusError, match="librispeech: no split 'dev-claen', did you mean 'dev-clean'"):
        find_corpus(find_recipe("librispeech"), ["train-clean-100", "dev-claen"])


def test_the_folder_above_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of `..` would put shards beside the run folder."""
    (tmp_path / "recordings" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "recordings" / "below")
    recipe = recipe_of_files(Path(".."), (Path(".."),))
    assert (recipe.name, recipe.splits.test) == ("recordings", ("recordings",))
    assert title(Path("..")) == "recordings"


def test_parts_whose_shards_would_lie_in_one_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.recipe.obtain", lambda *arguments, **options: pytest.fail("downloads"))
    train, test = (write_tone_corpus(tmp_path / name, 2, seed=1) for name in ("train", "fsdd-test"))
    experiment = load_experiment(None, ["splits.test=[fsdd-test, fsdd:test]"])
    run = Run(folder=tmp_path / "run", recipe=recipe_of_files(train, (test,)), root=None, experiment=experiment)
    with pytest.raises(CorpusError, match="parts need different names, found train, dev, fsdd-test, fsdd:test"):
        prepare(run)
