"""The history of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.training.plots import plot_training
from asr.training.run_log import RunLog, read_metrics


def test_resumed_history_reads_as_if_never_stopped(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for update in range(1, 6):
            log.record("train", update, {"loss": float(update)})
    with RunLog(tmp_path, resume_at_update=3) as log:
        for update in range(4, 7):
            log.record("train", update, {"loss": float(update)})
    assert [record["update"] for record in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_validation_that_is_done_again_stands_there_once(tmp_path: Path) -> None:
    """It comes after the last update of its epoch, which may be saved already when it is cut off."""
    for finished in (0, 1, 1):
        with RunLog(tmp_path, resume_at_update=0 if finished == 0 else 8, finished_epochs=finished) as log:
            for epoch in range(finished + 1, 3):
                log.record("validation", 4 * epoch, {"epoch": epoch})
    assert [record["epoch"] for record in read_metrics(tmp_path)] == [1, 2]


def test_fresh_history_replaces_an_old_one(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        with RunLog(tmp_path) as log:
            log.record("train", 1, {"loss": loss})
    assert [record["loss"] for record in read_metrics(tmp_path)] == [2.0]


def test_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.record("train", 1, {"loss": 1.0})
        log.record("train", 2, {"loss": 2.0})
    text = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text(text[:-10], encoding="utf-8")
    assert [record["update"] for record in read_metrics(tmp_path)] == [1]
    # As a file system may leave it when the power fails.
    (tmp_path / "metrics.jsonl").write_text(f"{text[:-10]}\0\0}}\n", encoding="utf-8")
    assert [record["update"] for record in read_metrics(tmp_path)] == [1]


def test_not_a_number_is_kept_as_text(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.record("train", 1, {"loss": float("nan")})
    assert read_metrics(tmp_path)[0]["loss"] == "nan"


def test_not_a_number_inside_a_record_is_kept_as_text_too(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.record("train", 1, {"gradient_norms": {"head": float("inf"), "layer1": 1.0}})
    assert read_metrics(tmp_path)[0]["gradient_norms"] == {"head": "inf", "layer1": 1.0}


def test_events_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path) as log:
        log.event(7, "left out: a, b")
    assert "left out: a, b" in capsys.readouterr().out
    assert read_metrics(tmp_path)[0] == {"kind": "event", "update": 7, "message": "left out: a, b"}


def test_plot_is_a_picture_also_with_odd_values(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for update, norm in ((10, 0.5), (20, float("nan"))):
            log.record(
                "train", update, {"loss": float("inf"), "lr": 0.1, "gradient_norms": {"layer1": 1.0, "head": norm}}
            )
            log.record("validation", update, {"train_loss": 1.0, "loss": 1.2, "wer": 0.5, "cer": 0.2})
    path = plot_training(tmp_path)
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_plot_gives_no_picture(tmp_path: Path) -> None:
    assert plot_training(tmp_path) is None
