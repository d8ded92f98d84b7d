"""`asr compare` as a user runs it: variants side by side, done once, and what is said of mistakes."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tones import TINY, write_tone_corpus

from asr import source_code
from asr.cli import main
from asr.studies import compare
from asr.studies.jobs import Job, Place, run_jobs

Command = Callable[..., tuple[int, str, str]]
COMMON = [*(word for word in TINY if not word.startswith(("encoder.num_layers", "optimizer.lr"))), "training.epochs=2"]
ONE_LAYER = ("encoder.num_layers=1", "optimizer.lr=1e-2", "decoders=[{kind: greedy}]")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `asr compare` on a corpus of tones; returns exit code, standard output and error."""
    train = write_tone_corpus(tmp_path / "train", 16, seed=1)
    test = write_tone_corpus(tmp_path / "test", 4, seed=2, prefix="t")
    monkeypatch.chdir(tmp_path)

    def run(*words: str, corpus: bool = True) -> tuple[int, str, str]:
        of_corpus = ["--manifest", str(train), "--test", str(test), "--out", "study", *COMMON] if corpus else []
        monkeypatch.setattr(sys, "argv", ["asr", "compare", *of_corpus, *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs are done here, without a process each; the names of those that were."""
    done: list[str] = []

    def run(jobs: Sequence[Job], num_at_once: int, say: object) -> dict[str, str]:
        for job in jobs:
            done.append(job.name)
            job.work(*job.arguments, Place())
        return {}

    monkeypatch.setattr(compare, "run_jobs", run)
    return done


def test_variants_are_trained_once_and_compared(command: Command, in_process: list[str]) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "2", "--match", "parameters")
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert in_process == ["gru-seed0", "lstm-seed0", "gru-seed1", "lstm-seed1"]
    assert out.count("prepare: starting") == 1
    record = json.loads(Path("study/comparison.json").read_text(encoding="utf-8"))
    gru, lstm = record["variants"]
    assert lstm["overrides"][1].startswith("encoder.hidden_size=")
    assert abs(gru["parameters"] - lstm["parameters"]) < 0.1 * gru["parameters"]
    assert [len(run["curve"]) for variant in (gru, lstm) for run in variant["runs"]] == [2] * 4
    for measures in (run["measures"] for variant in (gru, lstm) for run in variant["runs"]):
        assert 0 < measures["memory_before_bytes"] <= measures["peak_memory_bytes"]
    assert [sorted(each["wer_by_seed"]) for each in record["pooled"]] == [["0", "1"]] * 2
    assert [(pair["first"], pair["second"], pair["seeds"]) for pair in record["pairs"]] == [("gru", "lstm", [0, 1])]
    page = Path("study/comparison.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|https?://", page)
    for part in ("test, greedy", "runs/lstm-seed1/report.html", "Loss on the development set", "asr run"):
        assert part in page
    assert Path("study/runs/lstm-seed1/report.html").is_file()
    tables = Path("study/comparison.md").read_text(encoding="utf-8").splitlines()
    row = next(
        line for line in tables if line.startswith("| lstm") and line.endswith("|") and "," in line.split("|")[-2]
    )
    assert [float(rate) for rate in row.split("|")[-2].split(",")] == [
        pytest.approx(100 * rate, abs=0.005) for rate in record["pooled"][1]["wer_by_seed"].values()
    ]
    in_process.clear()
    shutil.rmtree("study/runs/gru-seed1")
    command(*words)
    assert in_process == ["gru-seed1"]
    assert command(*words, "--dry-run")[0] == 0
    for options in ((), ("--dry-run",)):
        # Made equal to another variant, the LSTM has another size.
        code, _, err = command("cells=rnn,lstm", *words[1:], *options)
        assert code == 2
        assert "2 of 4 runs, such as lstm-seed0 (encoder.hidden_size was " in err
    assert in_process == ["gru-seed1"]


def test_a_command_on_the_page_does_a_run_again_and_touches_none_of_the_comparison(
    command: Command, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("cells=gru,lstm", *ONE_LAYER, "--seeds", "1", "--match", "parameters")[0] == 0
    before = {path: path.read_bytes() for path in Path("study").rglob("*") if path.is_file()}
    page = Path("study/comparison.html").read_text(encoding="utf-8")
    shown = [shlex.split(html.unescape(each)) for each in re.findall("<code>(asr run .*?)</code>", page)]
    for words in shown:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
    for name in ("gru-seed0", "lstm-seed0"):
        files = (Path("study") / folder / name / "results.json" for folder in ("runs", "again"))
        first, again = ([result["wer"] for result in json.loads(file.read_text("utf-8"))] for file in files)
        assert first == again
    assert {path: path.read_bytes() for path in before} == before


def test_runs_of_other_code_are_marked(
    command: Command, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*ONE_LAYER, "--seeds", "1")
    code, out, _ = command("cells=gru,lstm", *words)
    assert (code, "other code" in out) == (0, False)
    monkeypatch.setattr(source_code, "_DIGESTS", {**source_code._DIGESTS, "model/cells/gru.py": "edited"})
    code, out, _ = command("cells=gru,lstm,rnn", *words)
    assert code == 0
    assert in_process == ["gru-seed0", "lstm-seed0", "rnn-seed0"]
    assert "note: runs made by other code than this: 2, such as gru-seed0: 'train' was done by other code" in out
    tables = Path("study/comparison.md").read_text(encoding="utf-8")
    assert "(different since: asr/model/cells/gru.py): gru seed 0, lstm seed 0." in tables
    rates = [
        line.split("|")[-2].strip() for line in tables.splitlines() if re.match(r"\| (gru|lstm|rnn) .*, |.*\d-\d", line)
    ]
    assert [rate.endswith("*") for rate in rates] == [True, True, False]
    assert "Runs that other code has made" in Path("study/comparison.html").read_text(encoding="utf-8")


def test_equal_time_is_measured_once(command: Command, in_process: list[str]) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1", "--match", "time")
    assert command(*words)[0] == 0
    assert in_process == ["speed of gru", "speed of lstm", "gru-seed0", "lstm-seed0"]
    record = json.loads(Path("study/comparison.json").read_text(encoding="utf-8"))
    assert record["variants"][0]["overrides"] == ["encoder.cell=gru"]
    assert re.fullmatch(r"training\.epochs=[1-9]\d*", record["variants"][1]["overrides"][1])
    in_process.clear()
    assert command(*words)[0] == 0
    assert in_process == []


def test_runs_of_another_comparison_are_taken_only_where_they_are_the_same(
    command: Command, in_process: list[str]
) -> None:
    assert command("cells=gru,lstm", "encoder.norm=layer", *ONE_LAYER, "--seeds", "1")[0] == 0
    measured = Path("study/runs/gru-seed0/metrics.jsonl").read_bytes()
    in_process.clear()
    # `norm=layer` is what the GRU has above; another seed, and another normalisation, it has not.
    words = (
        "encoder.norm=layer,none",
        "encoder.cell=gru",
        *ONE_LAYER,
        "--seeds",
        "2",
        "--out",
        "other",
        "--reuse",
        "study",
    )
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert "runs copied from other comparisons: 1" in out
    assert in_process == ["norm=none-seed0", "norm=layer-seed1", "norm=none-seed1"]
    assert Path("other/runs/norm=layer-seed0/metrics.jsonl").read_bytes() == measured
    assert len(json.loads(Path("other/comparison.json").read_text(encoding="utf-8"))["variants"][0]["runs"]) == 2


def test_a_page_that_another_comparison_replaces_is_told_of_and_can_be_written_again(
    command: Command, in_process: list[str]
) -> None:
    words = (*ONE_LAYER, "--seeds", "1")
    assert "will be replaced" not in command("cells=gru,lstm", *words)[1]
    # Whatever was shown is shown in this one, too.
    assert "will be replaced" not in command("cells=gru,lstm,rnn", *words)[1]
    in_process.clear()
    for options in (("--dry-run",), ()):
        code, out, err = command("cells=gru,rnn", *words, *options)
        assert (code, err) == (0, "")
        assert "note: study/comparison.html shows what is not compared now (lstm) and will be replaced" in out
    assert command("cells=gru,lstm,rnn", *words)[0] == 0
    assert in_process == []
    assert "lstm" in Path("study/comparison.html").read_text(encoding="utf-8")


def test_what_runs_share_is_made_again_and_they_are_not(command: Command, in_process: list[str]) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1")
    assert command(*words)[0] == 0
    in_process.clear()
    shutil.rmtree("study/prepared")
    code, out, err = command(*words)
    assert (code, err, in_process) == (0, "", [])
    assert "prepare: starting" in out
    assert "2 of 2 runs are done already" in out


def test_a_study_outlives_settings_that_were_added_since(command: Command, in_process: list[str]) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1", "--match", "time")
    assert command(*words)[0] == 0
    in_process.clear()
    # As a version without this setting would have left it.
    (prepared,) = Path("study/prepared").iterdir()
    for path in Path("study").rglob("*.json"):
        if path.name == "stages.json" or path.parent.name == "speeds":
            path.write_text(re.sub(r'"dotless_i": false,\s*', "", path.read_text("utf-8")), encoding="utf-8")
    prepared.rename(prepared.with_name("01234567"))
    code, out, err = command(*words)
    assert (code, err, in_process) == (0, "", [])
    assert "prepare: starting" not in out
    assert "2 of 2 runs are done already" in out


def test_runs_that_learnt_other_texts_are_no_part_of_a_comparison(command: Command, in_process: list[str]) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1")
    assert command(*words)[0] == 0
    in_process.clear()
    manifest = Path("train/train.jsonl")
    lines = manifest.read_text("utf-8").splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]), encoding="utf-8")
    code, out, _ = command(*words, "--out", "other", "--reuse", "study")
    assert (code, "runs copied" in out) == (0, False)
    assert in_process == ["gru-seed0", "lstm-seed0"]
    code, _, err = command(*words)
    assert code == 2
    assert "train.jsonl has been edited since" in err


def test_fresh_and_cut_off_counts_nothing_old(
    command: Command, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1")
    assert command(*words)[0] == 0
    work = compare.train_one

    def cut_off(*arguments: Any) -> None:
        work(*arguments)
        raise KeyboardInterrupt

    in_process.clear()
    with monkeypatch.context() as patch:
        patch.setattr(compare, "train_one", cut_off)
        assert command(*words, "--fresh")[0] == 130
    assert command(*words)[0] == 0
    assert in_process == ["gru-seed0", "lstm-seed0"]


def test_settings_other_than_those_of_begun_runs_stop_all_before_anything(
    command: Command, in_process: list[str]
) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--match", "time")
    assert command(*words, "--seeds", "1")[0] == 0
    in_process.clear()
    before = {path: path.read_bytes() for path in Path("study").rglob("*") if path.is_file()}
    other = (*ONE_LAYER, "--match", "time", "--seeds", "2", "batches.seconds=60")
    for varied, run, num_begun in (("gru,lstm", "gru-seed0", 2), ("rnn,lstm", "lstm-seed0", 1)):
        for options in ((), ("--dry-run",)):
            code, out, err = command(f"cells={varied}", *other, *options)
            assert (code, out) == (2, "")
            assert re.fullmatch(
                rf"error: study: begun here with other settings: {num_begun} of 4 runs, such as {run} "
                r"\(batches\.seconds was [\d.]+, is 60\.0\); nothing was done now: give the earlier ones again, or use "
                r"another --out, or --fresh to throw away what these runs have made\n",
                err,
            )
    assert in_process == []
    assert {path: path.read_bytes() for path in Path("study").rglob("*") if path.is_file()} == before
    assert command(*words, "--seeds", "2")[0] == 0
    assert in_process == ["gru-seed1", "lstm-seed1"]
    assert command("cells=gru,lstm", *other, "--fresh")[0] == 0


def test_a_device_that_is_not_there_is_told_once_before_anything_is_done_or_thrown_away(
    command: Command, in_process: list[str]
) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1", "--match", "parameters")
    expected = r"error: device 'cuda:99' is not available: .*\n"
    code, out, err = command(*words, "device=cuda:99")
    assert (code, out, in_process) == (2, "", [])
    assert re.fullmatch(expected, err)
    assert not Path("study").exists()
    assert command(*words)[0] == 0
    code, out, err = command(*words, "device=cuda:99", "--fresh")
    assert (code, out) == (2, "")
    assert re.fullmatch(expected, err)
    # What is trained needs none, and what may be copied.
    assert command(*words, "device=cuda:99")[0] == 0
    assert command(*words, "device=cuda:99", "--out", "other", "--reuse", "study")[0] == 0
    assert in_process == ["gru-seed0", "lstm-seed0"]


def test_fresh_measures_times_again(command: Command, in_process: list[str]) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "--seeds", "1", "--match", "time")
    assert command(*words)[0] == 0
    done = list(in_process)
    in_process.clear()
    assert command(*words, "--fresh")[0] == 0
    assert in_process == done == ["speed of gru", "speed of lstm", "gru-seed0", "lstm-seed0"]


def test_a_comparison_without_failures_outlives_one_with(
    command: Command, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("cells=gru,lstm", *ONE_LAYER, "training.validate_every_epochs=2", "--seeds", "1")
    assert command(*words)[0] == 0
    (run,) = json.loads(Path("study/comparison.json").read_text(encoding="utf-8"))["variants"][0]["runs"]
    assert run["seconds_per_epoch"] == run["train_seconds"] / 2, "an epoch is not what lies between two validations"
    files = {path: path.read_bytes() for path in Path("study").glob("comparison.*")}
    assert len(files) == 3
    run_all = compare.run_jobs
    with monkeypatch.context() as patch:
        patch.setattr(
            compare, "run_jobs", lambda jobs, *others: run_all(jobs[1:], *others) | {jobs[0].name: "no memory"}
        )
        code, out, _ = command(*words, "--fresh")
    assert code == 2
    assert "all of it: study/comparison-incomplete.html; for programs comparison-incomplete.json" in out
    assert {path: path.read_bytes() for path in files} == files
    assert json.loads(Path("study/comparison-incomplete.json").read_text(encoding="utf-8"))["failures"]
    assert command(*words)[0] == 0
    assert all(path.read_bytes() != before for path, before in files.items() if path.suffix == ".json")


@pytest.mark.slow
def test_runs_that_fail_are_named_and_the_others_count(command: Command) -> None:
    # In processes of their own, as users have them.
    assert compare.run_jobs is run_jobs
    words = (
        "optimizer.lr=1e-2,1e30",
        "training.max_skipped_updates=1",
        "encoder.num_layers=1",
        "--seeds",
        "1",
        "--jobs",
        "2",
    )
    code, out, err = command(*words)
    assert code == 2
    assert err.count("\n") == 1
    assert "1 of 2 runs failed, such as lr=1e30-seed0: " in err
    assert "lr=1e-2" in out
    assert "no finite gradient" in Path("study/comparison.html").read_text(encoding="utf-8")
    assert "updates in a row" in Path("study/runs/lr=1e30-seed0/output.log").read_text(encoding="utf-8")


def test_a_dry_run_lists_and_does_nothing(command: Command) -> None:
    code, out, _ = command("cells=gru,lstm", "encoder.num_layers=1,2", "--seeds", "3", "--dry-run")
    assert code == 0
    assert "lstm,num_layers=2-seed2" in out
    assert "4 variants, 3 seeds: 12 runs in study" in out
    assert "32 tokens are assumed" in out
    assert not Path("study").exists()


def test_settings_that_suit_only_what_varies_are_taken(command: Command) -> None:
    words = ("encoder.num_layers=4,5", "loss.intermediate_ctc={layers: [3]}", "--seeds", "1", "--dry-run")
    code, out, err = command("--recipe", "fsdd", *words, corpus=False)
    assert (code, err) == (0, "")
    assert "2 variants, 1 seed: 2 runs in " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encoder.num_layers=1"], "nothing varies"),
        (["cells=gru,lstm", "--dry-run", "--fresh"], "--dry-run does nothing and throws nothing away"),
        (["cells=gru,lstn"], "unknown cell 'lstn', did you mean 'lstm'?"),
        (["seed=0,1"], "--seeds says"),
        (["cells=gru,lstm", "--match", "depth"], "expected parameters or time"),
        (["cells=gru,lstm", "--reuse", "nowhere"], "--reuse nowhere: expected the folder of a comparison"),
        (["training.patience=1,2", "encoder.hidden_size=1,2", "--match", "parameters"], "is fixed, and"),
        (["fsdd", "cells=gru,lstm"], "the recipe is named by --recipe"),
    ],
)
def test_mistakes_are_one_line(command: Command, words: list[str], message: str) -> None:
    code, _, err = command(*words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["cells=gru,mingru", "encoder.recurrent_init=uniform,orthogonal"],
            "1 of 4 variants cannot be, such as 'mingru, recurrent_init=orthogonal': configuration: encoder.recurrent_init: "
            "cell 'mingru' has no weights between its units",
        ),
        (
            ["encoder.recurrent_init=orthogonal,uniform", "cells=sru,gru"],
            "1 of 4 variants cannot be, such as 'recurrent_init=orthogonal, sru': configuration: encoder.recurrent_init: "
            "cell 'sru' has no weights between its units",
        ),
        (
            ["cells=gru,lstm", "encoder.num_layer=2"],
            "configuration: encoder.num_layer: unknown key, did you mean 'num_layers'?",
        ),
    ],
    ids=["last", "first", "all"],
)
def test_a_variant_that_cannot_be_is_named(command: Command, words: list[str], message: str) -> None:
    code, _, err = command("--recipe", "fsdd", *words, "--dry-run", corpus=False)
    assert (code, err) == (2, f"error: {message}\n")


def test_what_is_matched_cannot_vary(command: Command) -> None:
    code, _, err = command("--recipe", "fsdd", "encoder.hidden_size=8,16", "--match", "parameters", corpus=False)
    assert (code, err) == (2, "error: --match parameters sets encoder.hidden_size, so that cannot vary\n")
