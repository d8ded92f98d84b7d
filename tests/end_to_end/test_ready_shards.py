"""Training, choosing and measuring on shards that are ready, on a disk or behind a URL, in place of a recipe's splits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tones import SAMPLE_RATE, TINY, write_tone_corpus

from asr.corpus.shards import ShardsConfig, write_shards
from asr.errors import CorpusError
from asr.evaluation import evaluate_subsets, open_subsets
from asr.experiment import Run, load_experiment
from asr.model.checkpoint import load_checkpoint
from asr.pipeline import run_stages
from asr.recipe import find_recipe, read_files, recipe_of_files

STAGES = ["prepare", "train", "average", "evaluate"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards `train`, `dev` and `test` of tones."""
    folder = tmp_path_factory.mktemp("tones")
    for seed, (name, number) in enumerate({"train": 40, "dev": 8, "test": 6}.items()):
        manifest = write_tone_corpus(folder / f"{name}-sound", number, seed=seed, prefix=name)
        config = ShardsConfig(megabytes=0.1)
        write_shards(read_files(manifest), folder / name, sample_rate=SAMPLE_RATE, config=config)
    return folder


def make_run(folder: Path, place: str, *overrides: str) -> Run:
    splits = {name: f"shards:{place.replace('{part}', name)}" for name in ("train", "dev", "test")}
    tree = {**splits, "test": [splits["test"]]}
    settings = [*TINY, f"splits={json.dumps(tree)}", "training.epochs=2", *overrides]
    # The recipe gives nothing but its name: nothing of its corpus is looked for.
    return Run(folder=folder, recipe=find_recipe("fsdd"), root=None, experiment=load_experiment(None, settings))


def test_a_url_gives_the_model_that_the_folder_gives(tones: Path, tmp_path: Path) -> None:
    runs = {
        "disk": make_run(tmp_path / "disk", f"{tones}/{{part}}"),
        "pipe": make_run(tmp_path / "pipe", f"pipe:cat '{tones}/{{part}}'/{{}}"),
        "cache": make_run(
            tmp_path / "cache",
            f"pipe:cat '{tones}/{{part}}'/{{}}; echo {{}} >> '{tmp_path}/fetched'",
            f"shards.cache={tmp_path}/copies",
        ),
        # Its copies are deleted while each shard is fetched for the first time, and after each epoch.
        "deleted": replace(
            make_run(
                tmp_path / "deleted",
                f"pipe:cat '{tones}/{{part}}'/{{}}; [ -e '{tmp_path}'/{{}} ] || rm -rf '{tmp_path}/kept'; "
                f": > '{tmp_path}'/{{}}",
                f"shards.cache={tmp_path}/kept",
            ),
            watch=lambda *_: shutil.rmtree(tmp_path / "kept"),
        ),
    }
    for run in runs.values():
        run_stages(run, STAGES)
    assert runs["disk"].train_index.num_utterances == 40
    assert len(runs["disk"].train_index.shards) > 1
    expected, *others = (load_checkpoint(run.model_file).model for run in runs.values())
    assert all(torch.equal(expected[key], found[key]) for found in others for key in expected)
    shards = sorted(path.name for path in tones.glob("*/*.tar"))
    assert [name for name in sorted((tmp_path / "fetched").read_text().split()) if name != "index.json"] == shards
    index = runs["disk"].train_index
    longest = max(length for shard in index.shards for length in shard.num_samples) / SAMPLE_RATE
    assert load_checkpoint(runs["disk"].model_file).longest_seconds == longest
    results = [json.loads((run.folder / "results.json").read_text()) for run in runs.values()]
    assert [[row["subset"], row["words"]] for row in results[0]] == [
        [row["subset"], row["words"]] for row in results[1]
    ]
    assert {path.name for path in (tmp_path / "pipe" / "hypotheses").iterdir()} == {
        "shards-test-greedy.tsv",
        "shards-test-beam.tsv",
    }
    assert not list((tmp_path / "pipe").glob("shards/*"))

    places = f"{tones}/test", f"pipe:cat '{tones}'/test/{{}}"
    model, decoders = runs["disk"].model_file, load_experiment(None).decoders[:1]
    (of_disk,), (of_pipe,) = (evaluate_subsets(model, open_subsets(place, None), decoders) for place in places)
    assert of_disk.result.subset == of_pipe.result.subset
    assert of_disk.scores == of_pipe.scores


def test_what_is_learnt_from_is_not_measured_on(tones: Path, tmp_path: Path) -> None:
    """The same shards under another name are the same utterances."""
    shutil.copytree(tones / "train", tmp_path / "copy")
    run = make_run(tmp_path / "run", f"{tones}/{{part}}", f"splits.test=['shards:{tmp_path}/copy']")
    with pytest.raises(CorpusError, match="'train000' is in 'shards:copy' and in 'shards:train': a model must not be"):
        run_stages(run, ["prepare"])


@pytest.mark.parametrize("role", ["splits.dev={}", "splits.test=[{}]"])
def test_nor_is_the_very_same_part(tones: Path, tmp_path: Path, role: str) -> None:
    run = make_run(tmp_path / "run", f"{tones}/{{part}}", role.format(f"'shards:{tones}/train'"))
    with pytest.raises(CorpusError, match="'shards:train' is to be learnt from and to be measured on"):
        run_stages(run, ["prepare"])


def test_nor_when_only_some_of_it_is_ready(tones: Path, tmp_path: Path) -> None:
    manifest = tones / "train-sound" / "train-sound.jsonl"
    run = make_run(tmp_path, f"{tones}/{{part}}", "splits.test=null")
    run = replace(run, recipe=recipe_of_files(manifest, (manifest,)))
    with pytest.raises(CorpusError, match=r"'train000' \(.*\) is in 'train-sound' and in 'shards:train'"):
        run_stages(run, ["prepare"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["features.sample_rate=16000"],
            "train: these shards have 8000 Hz, the model hears 16000 Hz; take the manifest",
        ),
        (["splits.dev=shards:gone"], r"gone: no such folder"),
        (["splits.dev=shards:ftp://host/dev"], "ftp://host/dev: expected a path, http://"),
        (
            ["splits.dev=shards:pipe:cat x/train/{}"],
            "parts need different names, found shards:train, shards:train, shards",
        ),
    ],
)
def test_shards_that_do_not_fit_are_named(overrides: list[str], message: str, tones: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        run_stages(make_run(tmp_path, f"{tones}/{{part}}", *overrides), ["prepare"])
