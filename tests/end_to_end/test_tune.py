"""`asr tune` as a user runs it: trials, their end, what is left when one is cut off, and what comes out."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from tones import TINY, write_tone_corpus

from asr import source_code
from asr.cli import main
from asr.cli.tune import _print_best
from asr.errors import ConfigError
from asr.experiment import Run, RunRequest, load_experiment
from asr.studies import tune, tune_page
from asr.studies.grammar import Space
from asr.studies.jobs import Job, Place
from asr.studies.search import Search, changes_of, make_search
from asr.studies.svg import Series
from asr.studies.tune import ended_trials, forget_search, open_study, search_all
from asr.studies.tune_page import best_trial
from asr.training.run_log import read_metrics

COMMON = [word for word in TINY if not word.startswith(("optimizer.lr", "encoder.dropout"))]
SPACES = ["optimizer.lr=log(1e-3,1e-2)", "encoder.dropout=choice(0.0,0.1)"]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """Makes a search on a corpus of tones, whose workers work here."""
    train = write_tone_corpus(tmp_path / "train", 12, seed=1)

    def run(jobs: Sequence[Job], num_at_once: int, say: object) -> dict[str, str]:
        for job in jobs:
            job.work(*job.arguments, Place())
        return {}

    monkeypatch.setattr(tune, "run_jobs", run)

    def make(*overrides: str, num_trials: int = 2, pruner: str = "median", config: str | None = None) -> Search:
        words = (*COMMON, "training.epochs=2", *(overrides or SPACES))
        request = RunRequest(recipe=None, manifest=train, config=config, overrides=words)
        return make_search(request, tmp_path / "search", num_trials=num_trials, pruner=pruner)

    return make


def states(search: Search) -> list[str]:
    return [record["state"] for record in json.loads((search.folder / "trials.json").read_text(encoding="utf-8"))]


def test_it_goes_on_until_so_many_trials_have_ended(search: Callable[..., Search]) -> None:
    two = search(num_trials=1)
    assert search_all(two, 1) == {}
    assert states(two) == ["complete"]
    assert not (two.folder / "trials" / "0000" / "hypotheses").exists()
    assert [path.name for path in (two.folder / "trials" / "0000" / "checkpoints").iterdir()] == ["best.pt"]
    search_all(search(num_trials=2), 1)
    assert states(two) == ["complete"] * 2
    assert sorted(path.name for path in (two.folder / "trials").iterdir()) == ["0000", "0001"]
    best = load_experiment(str(two.folder / "best.yaml"))
    chosen = json.loads((two.folder / "trials.json").read_text(encoding="utf-8"))
    assert best.encoder.hidden_size == 24
    assert best.optimizer.lr in [pytest.approx(record["params"]["optimizer.lr"], rel=1e-3) for record in chosen]
    assert len({record["params"]["optimizer.lr"] for record in chosen}) == 2
    page = (two.folder / "tune.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("<svg") >= 4
    changed = (
        "optimizer.lr was log(1e-3,1e-2), is log(1e-3,2e-2); encoder.dropout was choice(0.0,0.1), is not searched for"
    )
    with pytest.raises(ConfigError, match=re.escape(f"another search was begun here ({changed}); give the same again")):
        search_all(search("optimizer.lr=log(1e-3,2e-2)"), 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine.yaml", r"training\.max_gradient_norm was 4\.0, is 3\.0"),
        ("train/train.jsonl", r"train\.jsonl has been edited since"),
    ],
)
def test_it_does_not_go_on_from_trials_of_other_settings_or_data(
    name: str, said: str, search: Callable[..., Search], tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("training: {max_gradient_norm: 4.0}\n", encoding="utf-8")
    one, two = (search(num_trials=number, config=str(config)) for number in (1, 2))
    search_all(one, 1)
    best, edited = (one.folder / "best.yaml").read_bytes(), tmp_path / name
    text = edited.read_text(encoding="utf-8")
    edited.write_text(text.replace("4.0", "3.0").replace("u000", "v000", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"made with other settings \(.*{said}\); use another --out, or --fresh"):
        search_all(two, 1)
    assert (one.folder / "best.yaml").read_bytes() == best
    edited.write_text(text, encoding="utf-8")
    search_all(two, 1)
    assert states(two) == ["complete"] * 2


def test_what_is_searched_for_is_the_same_in_another_order(search: Callable[..., Search]) -> None:
    spaces = ("optimizer.lr=log(1e-3,1e-2)", "encoder.norm=choice('none',\"layer\")")
    subject = search(*spaces).subject
    assert changes_of(subject, search(*reversed(spaces))) == ""
    changed = search("optimizer.lr=uniform(1e-3,1e-2)", spaces[1])
    assert changes_of(subject, changed) == "optimizer.lr was log(1e-3,1e-2), is uniform(1e-3,1e-2)"


def test_fresh_starts_over(search: Callable[..., Search], capsys: pytest.CaptureFixture[str]) -> None:
    one = search(num_trials=1)
    forget_search(one)  # of nothing
    search_all(one, 1)
    with FileLock(one.folder / "trials" / "0000" / ".lock"), pytest.raises(ConfigError, match="works at this trial"):
        forget_search(one)
    assert states(one) == ["complete"]
    forget_search(one)
    assert [path.name for path in one.folder.iterdir() if not path.name.startswith(".")] == []  # but for locks
    other = search("optimizer.lr=log(1e-3,2e-2)", num_trials=1)
    search_all(other, 1)
    assert states(other) == ["complete"]
    assert "other code" not in capsys.readouterr().out


def test_a_device_that_is_not_there_is_told_once_before_anything_is_done_or_thrown_away(
    search: Callable[..., Search],
) -> None:
    lacking = search(*SPACES, "device=cuda:99", num_trials=1)
    for work in (lambda: search_all(lacking, 1), lambda: forget_search(lacking)):
        with pytest.raises(ConfigError, match="device 'cuda:99' is not available"):
            work()
    assert not (lacking.folder / "prepared").exists()
    assert ended_trials(open_study(search())) == [], (
        "a search that could not begin is in the way of one with another device"
    )


def test_fresh_deletes_nothing_that_may_not_be_its_own(search: Callable[..., Search]) -> None:
    one = search(num_trials=1)
    kept = one.folder / "trials" / "of-drugs.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--fresh would delete 'trials' there, which may not be a search's"):
        forget_search(one)
    assert kept.is_file()


def test_trials_of_other_code_are_told(
    search: Callable[..., Search], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search_all(search(num_trials=1), 1)
    monkeypatch.setattr(source_code, "_DIGESTS", {**source_code._DIGESTS, "model/cells/gru.py": "edited"})
    search_all(search(num_trials=1), 1)
    assert (
        "note: trials made by other code than this: 1, such as 0000: 'train' was done by other code than this "
        "(different since: asr/model/cells/gru.py); --fresh makes all anew" in capsys.readouterr().out
    )


def test_a_trial_whose_process_is_gone_goes_on(search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch) -> None:
    one = search(num_trials=1)
    real, epochs = tune.run_stages, []

    def cut_off(run: object, stages: list[str]) -> None:
        def watch(epoch: int, validation: object) -> None:
            raise SystemExit

        real(tune.replace(run, watch=watch), stages)  # type: ignore[type-var]

    monkeypatch.setattr(tune, "run_stages", cut_off)
    with pytest.raises(SystemExit):
        search_all(one, 1)
    monkeypatch.setattr(tune, "run_stages", real)
    search_all(one, 1)
    assert states(one) == ["complete"]
    (folder,) = (one.folder / "trials").iterdir()
    epochs = [record["epoch"] for record in read_metrics(folder, "validation")]
    assert epochs == [1, 2]
    (record,) = json.loads((one.folder / "trials.json").read_text(encoding="utf-8"))
    assert sorted(record["by_epoch"]) == ["1", "2"]


def test_a_trial_has_one_number_also_where_it_was_cut_off(
    search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first is cut off, and goes on when the second has ended: optuna counts four."""
    axes: dict[str, list[float]] = {}

    def chart(series: Sequence[Series], **settings: Any) -> str:
        axes[settings["x"]] = [x for each in series if each.style == "dots" for x, _ in each.points]
        return ""

    def train(run: Run, stages: list[str]) -> None:
        record = '{"kind": "validation", "update": 1, "epoch": 1, "train_loss": 1, "loss": 1, "wer": 0.5}\n'
        (run.folder / "metrics.jsonl").write_text(record, encoding="utf-8")

    def cut_off(run: Run, stages: list[str]) -> None:
        raise SystemExit

    monkeypatch.setattr(tune_page, "chart", chart)
    monkeypatch.setattr(tune, "prepare_run", lambda run: None)
    monkeypatch.setattr(tune, "run_stages", cut_off)
    one = search(num_trials=1)
    with pytest.raises(SystemExit):
        search_all(one, 1)
    monkeypatch.setattr(tune, "run_stages", train)
    with FileLock(one.folder / "trials" / "0000" / ".lock"):  # as if it still went on
        search_all(search(num_trials=2), 1)
    search_all(search(num_trials=3), 1)
    names = ["0000", "0001", "0002"]
    assert sorted(path.name for path in (one.folder / "trials").iterdir()) == names
    records = json.loads((one.folder / "trials.json").read_text(encoding="utf-8"))
    assert [record["trial"] for record in records] == names
    assert axes["trial"] == [0, 1, 2]
    assert re.findall(r"^trial (\d+) ", capsys.readouterr().out, re.MULTILINE) == ["0001", "0000", "0002"]


def test_the_best_trial_is_bold_among_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Series] = []

    def chart(series: Sequence[Series], **settings: Any) -> str:
        drawn.extend(series)
        return ""

    monkeypatch.setattr(tune_page, "chart", chart)
    trials = [
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE, value=value, intermediate_values={1: 0.9, 2: value},
            user_attrs={"folder": f"{number:04d}", "loss": loss},
        )
        for number, (value, loss) in enumerate([(0.5, 2.0), (0.25, 1.5), (0.25, 1.0), (0.75, 3.0)])
    ]  # fmt: skip
    tune_page.write_search_page(tmp_path / "tune.html", [], trials, {}, "wer")
    curves = [list(each.points) for each in drawn if len(each.points) == 2]
    bold = [list(each.points) for each in drawn if len(each.points) == 2 and each.style == "line"]
    # Of two alike the one whose loss is lower, and above the others.
    assert len(curves) == 4
    assert bold == [curves[-1]] == [[(1.0, 90.0), (2.0, 25.0)]]


def test_a_trial_cut_off_before_it_chose_leaves_no_gap(
    search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = search(num_trials=1)

    def cut_off(*arguments: object) -> None:
        raise SystemExit

    for name in ("_folder_of", "_do_trial"):
        with monkeypatch.context() as patch:
            patch.setattr(tune, name, cut_off)
            with pytest.raises(SystemExit):
                search_all(one, 1)
    search_all(one, 1)
    assert [path.name for path in (one.folder / "trials").iterdir()] == ["0000"]
    assert states(one) == ["complete"]


def test_a_trial_that_breaks_has_failed_and_the_search_goes_on(
    search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = tune.run_stages, []

    def breaks_once(run: object, stages: list[str]) -> None:
        calls.append(run)
        if len(calls) == 1:
            raise RuntimeError("a kernel\ndoes not fit")
        real(run, stages)  # type: ignore[arg-type]

    monkeypatch.setattr(tune, "run_stages", breaks_once)
    found = search(num_trials=2)
    search_all(found, 1)
    assert states(found) == ["fail", "complete"]
    output = found.folder / "trials" / "0000" / "output.log"
    assert f"failed: RuntimeError: a kernel does not fit; the traceback is in {output}\n" in capsys.readouterr().out
    assert "Traceback" in output.read_text(encoding="utf-8")


def test_trials_are_stopped_early_and_failures_are_counted(
    search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strict(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return True

    monkeypatch.setattr(tune, "_pruner", lambda search: Strict())
    found = search("encoder.dropout=uniform(0,0.1)", num_trials=1)
    search_all(found, 1)
    assert states(found) == ["pruned"]
    assert not (found.folder / "best.yaml").exists()
    records = read_metrics(found.folder / "trials" / "0000")
    assert [record["epoch"] for record in records if record["kind"] == "validation"] == [1]


@pytest.mark.parametrize("space", ["uniform", "log"])
def test_a_whole_number_is_not_searched_for_between_whole_numbers(space: str, tmp_path: Path) -> None:
    words = (f"encoder.hidden_size={space}(64,256)",)
    with pytest.raises(ConfigError, match=r"for whole numbers say encoder\.hidden_size=int\(64,256\)"):
        make_search(RunRequest(recipe="fsdd", overrides=words), tmp_path, num_trials=1)


def test_settings_that_suit_only_what_is_searched_for_are_taken(tmp_path: Path) -> None:
    words = ("encoder.num_layers=int(4,6)", "loss.intermediate_ctc.layers=choice([2],[3])", "loss.speaker.layer=4")
    found = make_search(RunRequest(recipe="fsdd", overrides=words), tmp_path, num_trials=1)
    assert [run.experiment.encoder.num_layers for run in found.ends()] == [4, 6, 4, 4]
    assert best_trial(open_study(found).trials) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "nothing to search for"),
        (["optimizer.lrr=log(1,2)"], "optimizer.lrr: unknown key, did you mean 'lr'?"),
        (["optimizer.lr=log(1e-3,1e-2)", "--metric", "cer"], "expected wer or loss"),
        (["optimizer.lr=log(1e-3,1e-2)", "--pruner", "no"], "expected median, halving or none"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asr", "tune", "--recipe", "spoken_commands", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_without_optuna_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["asr", "tune", "--recipe", "fsdd", "optimizer.lr=log(1e-3,1e-2)"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "pip install optuna" in capsys.readouterr().err


def rate_search(tmp_path: Path, epochs: int = 4, **settings: str) -> Search:
    request = RunRequest(recipe="fsdd", overrides=("optimizer.lr=log(1e-8,1)", f"training.epochs={epochs}"))
    return make_search(request, tmp_path, num_trials=1, **settings)


def judged_epochs(search: Search, epochs: int) -> list[bool]:
    """Whether a trial that is worse than eight before it would be stopped, epoch by epoch."""
    study = optuna.create_study(pruner=tune._pruner(search))
    for number in range(9):
        trial = study.ask()
        stopped = []
        for epoch in range(1, epochs + 1):
            trial.report(0.1 if number < 8 else 0.9, epoch)
            stopped.append(trial.should_prune())
        study.tell(trial, 0.1)
    return stopped


@pytest.mark.parametrize(("pruner", "stops"), [("median", True), ("halving", True), ("none", False)])
def test_a_hopeless_trial_is_stopped_unless_it_is_not_to_be(tmp_path: Path, pruner: str, stops: bool) -> None:
    assert any(judged_epochs(rate_search(tmp_path, pruner=pruner), 4)) == stops


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_no_trial_is_judged_during_its_warm_up(tmp_path: Path, pruner: str) -> None:
    """A fifth of the epochs and one more: whoever is worst until then goes on."""
    assert judged_epochs(rate_search(tmp_path, epochs=20, pruner=pruner), 20).index(True) + 1 == 5


def test_a_logarithmic_space_is_searched_at_all_its_scales() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chosen = [float(tune._chosen(study.ask(), Space("optimizer.lr", "log", ("1e-8", "1")))) for _ in range(20)]
    assert min(chosen) < 1e-5 < 1e-2 < max(chosen)


@pytest.mark.parametrize(("metric", "expected"), [("wer", 0.4), ("loss", 1.0)])
def test_a_trial_is_judged_by_the_best_epoch_of_its_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, expected: float
) -> None:
    def train(run: Run, stages: list[str]) -> None:
        lines = ['{"kind": "validation", "update": %d, "epoch": %d, "train_loss": 1, "loss": %g, "wer": %g}\n'] * 2
        run.folder.mkdir(exist_ok=True)
        (run.folder / "metrics.jsonl").write_text(lines[0] % (4, 1, 1.0, 0.5) + lines[1] % (8, 2, 2.0, 0.4))

    monkeypatch.setattr(tune, "run_stages", train)
    monkeypatch.setattr(tune, "prepare_run", lambda run: None)
    wanted = rate_search(tmp_path, metric=metric)
    trial = optuna.create_study().ask()
    assert tune._train(wanted, trial, wanted.run(tmp_path / "trial", ("optimizer.lr=1e-3",))) == expected


def test_of_trials_with_as_many_errors_the_surer_one_is_best() -> None:
    study = optuna.create_study()
    for loss in (2.0, 1.0, 3.0):
        study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"loss": loss}))
    best = best_trial(study.trials)
    assert best is not None
    assert best.number == 1


def test_what_broke_a_tie_is_told(
    search: Callable[..., Search], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for values, told in (
        (
            (0.5, 0.5, 0.6),
            "best of 3 trials: 0001, dev WER 50.00 %; of 2 with that the one whose loss is lowest, 0.9000",
        ),
        ((0.4, 0.5, 0.6), "best of 3 trials: 0000, dev WER 40.00 %"),
    ):
        trials = [
            optuna.trial.create_trial(value=value, user_attrs={"loss": loss, "folder": f"{n:04d}", "overrides": []})
            for n, (value, loss) in enumerate(zip(values, (1.0, 0.9, 0.8), strict=True))
        ]
        study = optuna.create_study()
        study.add_trials(trials)
        monkeypatch.setattr(tune, "open_study", lambda _, study=study: study)
        _print_best(search())
        assert capsys.readouterr().out.splitlines()[0] == told
