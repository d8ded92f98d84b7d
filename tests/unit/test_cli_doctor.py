"""`asr doctor`: every trouble is found, has a remedy, and does not hide the next."""

from __future__ import annotations

import importlib.metadata
import math
import shutil
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import typer

from asr.cli import doctor as command
from asr.cli.doctor import CHECKS, Finding, codec_problem, doctor, gru_step, run_check


def _findings(name: str) -> list[Finding]:
    return run_check(CHECKS[name])


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_fails_where_the_tests_run(name: str) -> None:
    findings = _findings(name)
    assert findings
    assert all(finding.message for finding in findings)
    assert [finding for finding in findings if finding.status == "failure"] == []
    assert all(finding.mend for finding in findings if finding.status != "ok")


def test_report_has_a_line_for_each_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def poor() -> Iterator[Finding]:
        yield Finding("warning", "slow", "buy another")

    monkeypatch.setattr(command, "CHECKS", {"python": CHECKS["python"], "toaster": poor})
    doctor()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       python")
    assert [line.split() for line in lines[1:]] == [["warning", "toaster", "slow"], ["->", "buy", "another"]]


def test_a_check_that_breaks_is_a_failure_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("ok", "first part")
        raise SystemError("the library\nis in pieces")

    monkeypatch.setattr(command, "CHECKS", {"broken": broken, "disk": CHECKS["disk"]})
    with pytest.raises(typer.Exit) as stop:
        doctor()
    assert stop.value.exit_code == 1
    out = capsys.readouterr().out
    assert "ok       broken      first part\nfailure  broken      SystemError: the library is in pieces\n" in out
    assert " disk " in out
    assert out.endswith("1 thing fails that training and recognition need\n")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_jiwer(name: str) -> str:
        if name == "jiwer":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_jiwer)
    assert _findings("packages")[-1] == Finding("failure", "not installed: jiwer", "pip install jiwer")


def test_torchaudio_that_refuses_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    (finding,) = _findings("torchaudio")
    assert finding.status == "failure"
    assert "torch>=2.11,<2.15" in finding.mend


@pytest.mark.parametrize(("bf16", "precision"), [(True, "80 GiB, bf16"), (False, "80 GiB, fp16 with loss scaling")])
def test_gpu_is_described(monkeypatch: pytest.MonkeyPatch, bf16: bool, precision: str) -> None:
    properties = SimpleNamespace(name="Some GPU", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    cpu, first, second = _findings("devices")
    assert cpu.message.startswith("CPU, ")
    assert first.message.startswith(f"cuda:0 Some GPU, {precision}")
    assert second.message.startswith("cuda:1 ")


@pytest.mark.parametrize(("driver", "status"), [("/usr/bin/nvidia-smi", "warning"), (None, "ok")])
def test_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, driver: str | None, status: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: driver)
    assert _findings("devices")[-1].status == status


@pytest.mark.parametrize(("container", "status"), [("OPUS", "failure"), ("FLAC", "failure"), ("MP3", "warning")])
def test_codec_that_libsndfile_lacks(monkeypatch: pytest.MonkeyPatch, container: str, status: str) -> None:
    write = soundfile.write

    def limited(file: object, data: object, rate: int, *, format: str, subtype: str) -> None:
        if container in {format, subtype}:
            raise ValueError(f"Unknown format: {container}")
        write(file, data, rate, format=format, subtype=subtype)

    monkeypatch.setattr(soundfile, "write", limited)
    works, lacks = _findings("codecs")
    assert container.lower() not in works.message
    assert lacks.status == status
    assert lacks.message == f"{container.lower()}: Unknown format: {container}"


def test_codec_that_garbles_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "read", lambda file: (np.sin(np.arange(16000)), 16000))
    assert "440 Hz comes back as 2546 Hz" in codec_problem("WAV", "PCM_16")


def test_step_is_finite_and_repeats() -> None:
    loss, norm = gru_step("cpu")
    assert 0 < loss < math.inf
    assert 0 < norm < math.inf
    assert gru_step("cpu") == (loss, norm)


def test_step_that_is_not_finite_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "gru_step", lambda device: (math.nan, 1.0))
    assert {finding.status for finding in _findings("training")} == {"failure"}


def test_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10**9))
    (finding,) = _findings("disk")
    assert finding.status == "warning"
    assert finding.message.startswith("1.0 GB free")
