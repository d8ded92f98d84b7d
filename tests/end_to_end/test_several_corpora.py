"""Parts of several corpora in one training set, below one root; preparation that goes on where it was cut off."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tones import TINY

from asr import preparation
from asr.cli.shards import info_lines
from asr.corpus.batch_order import epoch_size
from asr.corpus.shard_check import summarize
from asr.corpus.shards import ShardIndex
from asr.errors import ConfigError, CorpusError, StoppedByUserError
from asr.evaluation import open_subsets
from asr.experiment import Run, load_experiment
from asr.pipeline import run_stages
from asr.recipe import find_recipe
from asr.training.run_log import read_metrics

TRAIN = "[train-clean-5, {data: 'speechocean762:train-all', weight: 0.5}]"
SPLITS = f"splits={{train: {TRAIN}, dev: dev-clean-2, test: [test-other]}}"


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    for name in ("librispeech", "speechocean762"):
        (tmp_path / "corpora" / name).mkdir(parents=True)
        find_recipe(name).imitate(tmp_path / "corpora" / name)
    return tmp_path / "corpora"


def make_run(corpora: Path, *overrides: str) -> Run:
    experiment = load_experiment(None, [SPLITS, *overrides])
    return Run(folder=corpora.parent / "run", recipe=find_recipe("librispeech"), root=corpora, experiment=experiment)


def test_parts_lie_side_by_side_and_learn_together(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(corpora)
    run_stages(run, ["prepare"])
    said = capsys.readouterr().out
    assert "speechocean762:train-all: 6 utterances" in said
    assert "(a part: 3 of 1519 are there)" in said
    # Nor do its shards pass for the whole, wherever they are measured on.
    (subset,) = open_subsets(str(run.folder / "shards" / "test-other"), None)
    assert subset.whole == 2939
    (line, *_) = info_lines(summarize(ShardIndex.load(run.folder / "shards" / "test-other")))
    assert "test-other: 3 utterances (a part: 3 of 2939) in 1 shard" in line
    folders = sorted(path.name for path in (run.folder / "shards").iterdir())
    assert folders == ["dev-clean-2", "speechocean762-train-all", "test-other", "train-clean-5"]
    assert [shard.weight for shard in run.train_index.shards] == [1.0, 0.5]
    assert epoch_size(run.train_index, run.experiment.batches).utterances == 6


def test_training_says_how_much_an_epoch_has(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Two of the weighted part's six utterances and all three others: five batches or so, two of them for an update.
    run = make_run(corpora, *TINY, "batches.seconds=0.1", "training.accumulate=2", "training.epochs=1")
    run_stages(run, ["prepare", "train"])
    (updates,) = re.findall(r" 0\.00 h of speech in (\d+) updates per epoch", capsys.readouterr().out)
    assert int(updates) == read_metrics(run.folder)[-1]["update"] > 1


def test_finished_parts_are_not_prepared_again(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(corpora)
    write, written = preparation.write_shards, []

    def cut_off(utterances: object, folder: Path, **settings: object) -> ShardIndex:
        written.append(folder.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(utterances, folder, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(preparation, "write_shards", cut_off)
    with pytest.raises(StoppedByUserError):
        run_stages(run, ["prepare"])
    run_stages(run, ["prepare"])
    assert written == ["train-clean-5", "speechocean762-train-all", "dev-clean-2", "dev-clean-2", "test-other"]
    assert run.tokenizer_file.is_file()


def test_what_is_learnt_from_is_not_measured_on(corpora: Path) -> None:
    run = make_run(corpora, "splits.test=['speechocean762:train']")
    with pytest.raises(CorpusError, match="is in 'speechocean762:train' and in 'speechocean762:train-all'"):
        run_stages(run, ["prepare"])


def test_settings_of_speed_may_change_and_others_may_not(corpora: Path) -> None:
    run_stages(make_run(corpora), ["prepare"])
    run_stages(make_run(corpora, "shards.num_threads=1", "batches.num_workers=0"), ["prepare"])
    with pytest.raises(ConfigError, match=r"shards\.codec"):
        run_stages(make_run(corpora, "shards.codec=opus"), ["prepare"])


def test_an_unknown_recipe_and_a_missing_root_are_named(corpora: Path) -> None:
    with pytest.raises(CorpusError, match="no recipe 'speechocean', did you mean 'speechocean762'"):
        run_stages(make_run(corpora, "splits.test=['speechocean:test']"), ["prepare"])
    with pytest.raises(CorpusError, match="no such folder"):
        run_stages(make_run(corpora / "nowhere"), ["prepare"])
