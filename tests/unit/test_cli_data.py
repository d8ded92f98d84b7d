"""`asr data check`: one corpus for each kind of trouble, and one without any."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import soundfile

from asr.cli import main
from asr.cli.data import report_lines
from asr.corpus.check import CorpusCheck, Finding, Sound, check_corpus, examine
from asr.corpus.utterance import Utterance, read_manifest
from asr.errors import CorpusError

RATE = 8000
Line = dict[str, Any]
Change = Callable[[Path, list[Line]], None]


def _noise(seed: int, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    return np.clip(level * np.random.default_rng(seed).standard_normal(round(seconds * RATE)), -1, 1)


def _corpus(folder: Path, change: Change = lambda folder, lines: None, size: int = 4) -> Path:
    """The manifest of a sound corpus in `folder` after `change`; the second utterance is the one to spoil."""
    texts = ["turn on the light", "open the door", "yes", "it's l'été"]
    lines = []
    for number in range(size):
        soundfile.write(folder / f"{number}.wav", _noise(number), RATE)
        lines.append(
            {"id": f"u{number}", "audio": f"{number}.wav", "text": texts[number], "seconds": 1.0, "speaker": "s"}
        )
    change(folder, lines)
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _checked(path: Path, **settings: Any) -> CorpusCheck:
    result = CorpusCheck(**settings)
    check_corpus(path, result, num_threads=0, advance=lambda amount: None)
    return result


def _found(path: Path, **settings: Any) -> dict[str, Finding]:
    return {finding.kind: finding for finding in _checked(path, **settings).findings()}


def test_a_sound_corpus_has_no_findings(tmp_path: Path) -> None:
    assert _found(_corpus(tmp_path), sample_rate=RATE) == {}


def test_halves_of_utterances_in_a_folder_are_findings_with_all_names(tmp_path: Path) -> None:
    for number in range(9):
        soundfile.write(tmp_path / f"{number}.wav", _noise(number), RATE)
        (tmp_path / f"{number}.txt").write_text(f"number {chr(97 + number)}", encoding="utf-8")
    assert _found(tmp_path, sample_rate=RATE) == {}
    for number in range(4):
        (tmp_path / f"{number}.txt").unlink()
    (tmp_path / "8.wav").unlink()
    found = _found(tmp_path, sample_rate=RATE)
    assert [name for name, _ in found["sound without text"].examples] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert [name for name, _ in found["text without sound"].examples] == ["8.txt"]
    assert found["sound without text"].severity == "warning"


def _text(text: str) -> Change:
    return lambda folder, lines: lines[1].update(text=text)


def _sound(waveform: np.ndarray, text: str = "open the door") -> Change:
    def change(folder: Path, lines: list[Line]) -> None:
        soundfile.write(folder / "1.wav", waveform, RATE)
        lines[1].update(seconds=len(waveform) / RATE, text=text)

    return change


def _truncate(folder: Path, lines: list[Line]) -> None:
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:5000])


def _clipped() -> np.ndarray:
    return np.clip(_noise(1, level=0.5), -0.9, 0.9) / 0.9


@pytest.mark.parametrize(
    ("change", "severity", "kind", "detail"),
    [
        (lambda folder, lines: (folder / "1.wav").unlink(), "error", "missing audio", "1.wav: missing"),
        (lambda folder, lines: (folder / "1.wav").write_bytes(b""), "error", "unusable audio", "empty file"),
        (lambda folder, lines: (folder / "1.wav").write_bytes(b"no sound" * 9), "error", "unusable audio", "not audio"),
        (_truncate, "error", "unusable audio", "truncated"),
        (lambda folder, lines: lines[1].update(seconds=1.2), "error", "wrong duration", "stated 1.20 s, found 1.00 s"),
        (_text("... — !"), "error", "no text left", "'... — !' is empty once normalised"),
        (_sound(_noise(1, 0.5), "aabb" * 4), "error", "too short for CTC", "24 frames needed, 13 in 0.50 s"),
        (_sound(_noise(0)), "error", "same audio, other text", "the same samples as u0"),
        (_sound(_noise(0), "Turn on the light."), "warning", "said twice", "the same samples as u0"),
        (_sound(0.2 + _noise(1, level=1e-5)), "warning", "silent", "peak 0.000"),
        (_sound(_clipped()), "warning", "clipped", "% of samples at full scale"),
        (_text("\u0130stanbul"), "warning", "capital I", "tokenizer.normalizer.dotless_i=true"),
        (_text("I\u015f\u0131\u011f\u0131 a\u00e7"), "warning", "capital I", "the lower case of I is taken for i"),
        (
            _text("[noise] open (uh) {breath} the <laugh> door"),
            "warning",
            "in brackets",
            "[noise], (uh), {breath}, <laugh> would be learnt as words",
        ),
        (_text("\u043epen the door"), "warning", "mixed alphabets", "mixes CYRILLIC and LATIN"),
        (_text("\u03bfpen the door"), "warning", "mixed alphabets", "mixes GREEK and LATIN"),
        (_text("open\x07 the door"), "warning", "control character U+0007", ""),
        (_text("open\ue000 the door"), "warning", "control character U+E000", ""),
        (_text("open 2 doors"), "warning", "digit U+0032 2", ""),
        (_text("open 50% & go"), "warning", "symbol U+0025 %", ""),
    ],
)
def test_each_trouble_is_found_and_named(tmp_path: Path, change: Change, severity: str, kind: str, detail: str) -> None:
    finding = _found(_corpus(tmp_path, change))[kind]
    assert (finding.severity, finding.count) == (severity, 1)
    ((name, found),) = finding.examples
    assert name == "u1"
    assert detail in found


def test_what_cuts_no_sound_is_no_key_without_use(tmp_path: Path) -> None:
    """As when a list is read to be measured on: a start of 0, or a name by which error rates are told apart."""
    corpus = _corpus(tmp_path, lambda folder, lines: lines[0].update(channel="agent", offset=0.0, start=None))
    assert not [each for each in _checked(corpus).findings() if each.kind == "key without use"]


def test_a_channel_that_a_list_names_is_not_silently_mixed_with_the_others(tmp_path: Path) -> None:
    (finding,) = _checked(_corpus(tmp_path, lambda folder, lines: lines[0].update(channel=1))).findings()
    assert (finding.kind, finding.severity) == ("key without use", "warning")
    assert "all channels are heard, mixed" in dict(finding.examples)["channel"]


def test_keys_of_other_tools_are_told_once_and_not_for_every_line(tmp_path: Path) -> None:
    def change(folder: Path, lines: list[Line]) -> None:
        for line in lines:
            line.update(duration=1.0, start=0.1)
        lines[1].update(end=0.5, begin=0.1, offset=0.1)

    path = _corpus(tmp_path, change)
    result = _checked(path)
    (finding,) = result.findings()
    assert (finding.kind, finding.severity, finding.count) == ("key without use", "warning", 5)
    told = dict(finding.examples)
    assert told["duration"].startswith(f"in {result.utterances} lines: it is compared under the name of seconds")
    assert told["start"].startswith(f"in {result.utterances} lines: sounds are heard whole")
    assert told["offset"] == told["end"] == told["begin"]
    assert told["end"].startswith("in 1 line: sounds")
    assert list(report_lines(path, result, [finding]))[-1] == "errors: 0, warnings: 5"


def test_one_trouble_is_one_finding(tmp_path: Path) -> None:
    assert set(_found(_corpus(tmp_path, lambda folder, lines: lines[1].update(seconds=2.0)))) == {"wrong duration"}


def test_subsampling_and_rate_decide_what_is_too_short(tmp_path: Path) -> None:
    path = _corpus(tmp_path, _text("abcdefghij" * 4))
    assert "too short for CTC" not in _found(path, subsampling=2)
    assert "too short for CTC" in _found(path, subsampling=4)
    assert "too short for CTC" not in _found(path, subsampling=4, hop_seconds=0.005)


def test_frames_are_those_of_the_model_at_the_limit() -> None:
    # 1 s at 100 frames/s: 101 frames, 26 after subsampling by 4
    sound = Sound(sample_rate=RATE, num_samples=RATE, digest=b"x", peak=0.5)
    for length, short in [(26, False), (27, True)]:
        result = CorpusCheck(sample_rate=16000)
        text = ("abcdefghijklmnopqrstuvwxyz" * 2)[:length]
        result.add(Utterance(id="u", audio=Path("x"), text=text), sound)
        assert ("too short for CTC" in result.found) is short


def test_low_rate_is_found_only_where_a_rate_is_asked_for(tmp_path: Path) -> None:
    path = _corpus(tmp_path)
    assert _found(path, sample_rate=16000)["low sample rate"].count == 4
    assert "low sample rate" not in _found(path, sample_rate=RATE)


def test_errors_come_before_what_was_found_earlier(tmp_path: Path) -> None:
    path = _corpus(tmp_path, lambda folder, lines: lines[1].update(seconds=2.0))
    assert list(_found(path, sample_rate=16000)) == ["wrong duration", "low sample rate"]


def test_rare_characters_are_rare_among_many() -> None:
    result = CorpusCheck()
    sound = Sound(problem="missing audio")
    for number in range(300):
        text = "the quick brown fox jumps over the lazy dog" if number > 5 else "café" if number else "straße"
        result.add(Utterance(id=f"u{number}", audio=Path("x"), text=text), sound)
    rare = [finding for finding in result.findings() if finding.kind.startswith("rare")]
    assert rare == [Finding("warning", "rare character U+00DF ß", 1, (("u0", ""),))]


def test_characters_are_counted_by_utterance_and_only_some_named(tmp_path: Path) -> None:
    def digits(folder: Path, lines: list[Line]) -> None:
        for line in lines:
            line["text"] = "1 or 1"

    finding = _found(_corpus(tmp_path, digits))["digit U+0031 1"]
    assert (finding.count, [name for name, _ in finding.examples]) == (4, ["u0", "u1", "u2"])


def test_a_repeated_id_is_one_error_and_its_lines_are_checked(tmp_path: Path) -> None:
    def repeat(folder: Path, lines: list[Line]) -> None:
        for line in lines:
            line["id"] = "same"
        lines[3]["seconds"] = 2.0

    result = _checked(_corpus(tmp_path, repeat))
    found = {finding.kind: finding for finding in result.findings()}
    assert found.keys() == {"repeated id", "wrong duration"}
    assert found["repeated id"].examples == (("same", "lines 1, 2, 3, 4"),)
    assert (found["repeated id"].count, result.utterances) == (1, 4)


def test_a_repeated_id_in_a_folder_is_one_error_among_the_others(tmp_path: Path) -> None:
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", _noise(number), RATE)
        (tmp_path / f"{number}.txt").write_text("yes")
    (tmp_path / "0.mp3").write_bytes(b"")
    (tmp_path / "1.wav").write_bytes(b"")
    result = _checked(tmp_path)
    found = {finding.kind: finding for finding in result.findings()}
    assert found.keys() == {"repeated id", "unusable audio"}
    assert found["repeated id"].examples == (("0", "0.mp3, 0.wav"),)
    assert [name for name, _ in found["unusable audio"].examples] == ["0", "1"]
    assert result.utterances == 3


def test_all_unusable_lines_are_named_and_the_others_checked(tmp_path: Path) -> None:
    def spoil(folder: Path, lines: list[Line]) -> None:
        del lines[0]["audio"]
        lines[1]["text"] = " "
        lines[2]["seconds"] = 2.0

    path = _corpus(tmp_path, spoil)
    with path.open("ab") as file:
        file.write(b'\n{"id"\n[1]\n\xff\n')
    result = _checked(path)
    unusable, duration = result.findings()
    assert (unusable.kind, unusable.severity, unusable.count) == ("unusable line", "error", 5)
    assert [name for name, _ in unusable.examples] == [f"all.jsonl:{number}" for number in (1, 2, 6, 7, 8)]
    for (_, detail), expected in zip(
        unusable.examples,
        ("key 'audio' is missing", "'u1' has no text", "not JSON", "expected a JSON object", "not UTF-8"),
        strict=True,
    ):
        assert detail.startswith(expected)
    assert (duration.kind, result.utterances) == ("wrong duration", 2)
    (line,) = [line for line in report_lines(path, result, [unusable]) if "unusable line" in line]
    assert all(f"all.jsonl:{number} (" in line for number in (1, 2, 6, 7, 8))


def test_all_unusable_texts_of_a_folder_are_named_and_the_others_checked(tmp_path: Path) -> None:
    for number, text in enumerate((b"yes", b" \n", b"no", b"\xff", b"maybe 7")):
        soundfile.write(tmp_path / f"{number}.wav", _noise(number), RATE)
        (tmp_path / f"{number}.txt").write_bytes(text)
    result = _checked(tmp_path)
    unusable, digit = result.findings()
    assert (unusable.kind, unusable.severity, unusable.count) == ("unusable text", "error", 2)
    assert [name for name, _ in unusable.examples] == ["1", "3"]
    assert "1.txt has no text" in unusable.examples[0][1]
    assert "3.txt: not UTF-8" in unusable.examples[1][1]
    assert (digit.kind.split()[0], result.utterances) == ("digit", 3)


def test_what_is_wrong_with_many_lines_is_said_once(tmp_path: Path) -> None:
    path = _corpus(tmp_path)
    with path.open("a") as file:
        file.write("once upon a time\n" * 30)
    result = _checked(path)
    (line,) = [line for line in report_lines(path, result, result.findings()) if "unusable line" in line]
    assert line.count("not JSON") == 1
    assert "all.jsonl:5, all.jsonl:6" in line
    assert line.endswith("; ...")


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_in_the_place_of_lines_is_told_with_the_way_to_turn_it(tmp_path: Path, indent: int | None) -> None:
    path = _corpus(tmp_path)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text(json.dumps(records, indent=indent), encoding="utf-8")
    told = re.escape(f"{path}: expected a JSON object in each line, found an array; `jq -c '.[]' {path}`")
    for read in (_checked, lambda path: next(read_manifest(path))):
        with pytest.raises(CorpusError, match=told):
            read(path)


def test_a_manifest_without_any_line_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("\n\n")
    ((_, detail),) = _found(path)["unreadable manifest"].examples
    assert detail == f"{path}: the manifest holds no utterance"


@pytest.mark.parametrize(
    ("rates", "heard", "advised"),
    [
        ((8000,), None, 8000),
        ((8000, 16000), None, 8000),
        ((44100, 48000), None, 16000),
        ((44100,), None, None),
        ((16000,), None, None),
        ((8000,), 8000, None),
        ((8000, 16000), 16000, 8000),
        ((), None, None),
    ],
)
def test_a_rate_is_advised_where_files_are_below_or_differ(
    rates: tuple[int, ...], heard: int | None, advised: int | None
) -> None:
    result = CorpusCheck(sample_rate=heard)
    for number, rate in enumerate(rates):
        sound = Sound(sample_rate=rate, num_samples=rate, digest=bytes([number]), peak=0.5)
        result.add(Utterance(id=f"u{number}", audio=Path("x"), text="yes"), sound)
    advice = [line for line in report_lines(Path("m"), result, []) if "features.sample_rate" in line]
    assert [line.split(":")[0] for line in advice] == (
        [f"train with features.sample_rate={advised}"] if advised else []
    )


def test_a_few_files_of_a_low_rate_do_not_decide_for_all() -> None:
    result = CorpusCheck()
    for number, rate in enumerate((8000, *[44100] * 10)):
        sound = Sound(sample_rate=rate, num_samples=rate, digest=bytes([number]), peak=0.5)
        result.add(Utterance(id=f"u{number}", audio=Path("x"), text="yes"), sound)
    (advice,) = [line for line in report_lines(Path("m"), result, []) if "features.sample_rate" in line]
    assert advice.startswith(
        "train with features.sample_rate=16000: a model hears one rate (one to start from, --init, keeps its own), "
    )
    assert advice.endswith("; leave out the 1 file below")


@pytest.mark.parametrize(
    ("seconds", "advice"),
    [
        ([2.0] * 9 + [120.0], None),
        (
            [2.0] * 100 + [140.0, 160.0],
            "2 utterances are longer than a batch of 120 s (60% of the audio; the longest: u101, 160.00 s); cut them into "
            "sentences, or leave them out of training with batches.max_seconds=120",
        ),
        (
            [600.0],
            "1 utterance is longer than a batch of 120 s (100% of the audio; the longest: u0, 600.00 s); cut it into "
            "sentences",
        ),
    ],
)
def test_what_is_longer_than_a_batch_is_advised_against(seconds: list[float], advice: str | None) -> None:
    """Where all are so long, nothing would be left to learn from."""
    result = CorpusCheck()
    for number, each in enumerate(seconds):
        sound = Sound(sample_rate=RATE, num_samples=round(each * RATE), digest=bytes([number]), peak=0.5)
        result.add(Utterance(id=f"u{number}", audio=Path("x"), text="yes"), sound)
    found = [line for line in report_lines(Path("m"), result, []) if "longer than a batch" in line]
    assert found == ([advice] if advice else [])


def test_one_is_not_many() -> None:
    result = CorpusCheck()
    result.add(Utterance(id="u", audio=Path("x"), text="a"), Sound(sample_rate=16000, num_samples=9, peak=0.5))
    lines = list(report_lines(Path("m"), result, []))
    assert lines[0] == "m: 1 utterance, 0 speakers, unknown for 1 utterance"
    assert "1 character: a" in lines


def test_ids_are_looked_for_in_damaged_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"id": "a"}\n\xff\n[1]\n{"id": 3}\n\n{"id": "a", "x": 1}\n{"id": "b"}\n')
    result = CorpusCheck()
    check_corpus(path, result, num_threads=0, advance=lambda amount: None)
    assert result.found["repeated id"] == [("a", "lines 1, 6")]


def test_folder_is_checked_like_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    soundfile.write(tmp_path / "anna" / "a.flac", _noise(0), RATE)
    (tmp_path / "anna" / "a.txt").write_text("seven 7")
    result = _checked(tmp_path)
    assert result.summary()["speakers"] == 1
    assert [finding.kind for finding in result.findings()] == ["digit U+0037 7"]


def test_threads_change_nothing(tmp_path: Path) -> None:
    path = _corpus(tmp_path, _truncate)
    result = CorpusCheck()
    check_corpus(path, result, num_threads=3, advance=lambda amount: None)
    assert result == _checked(path)


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["asr", "data", "check", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), *capsys.readouterr()


def test_command_on_a_good_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(monkeypatch, capsys, str(_corpus(tmp_path)))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("all.jsonl: 4 utterances, 1 speaker")
    assert lines[1] == "0.00 h of audio, 1.00 to 1.00 s, median 1.00 s"
    assert lines[2] == "sample rate: 8000 Hz (4)"
    assert lines[3].startswith("train with features.sample_rate=8000: ")
    assert lines[-1] == "no problems found"


def _features(folder: Path, form: str) -> Path:
    """A manifest of utterances of 100 frames of 5 values, but for one of 8 frames, in a Kaldi archive or as numpy arrays."""
    drawn = np.random.default_rng(0)
    frames = {f"u{n}": drawn.standard_normal((8 if n == 1 else 100, 5)).astype(np.float32) for n in range(3)}
    kaldiio.save_ark(str(folder / "f.ark"), frames, scp=str(folder / "f.scp"))
    places = dict(line.split() for line in (folder / "f.scp").read_text().splitlines())
    for name, each in frames.items():
        np.save(folder / f"{name}.npy", each)
    path = folder / f"{form}.jsonl"
    audio = {name: places[name] if form == "ark" else f"{name}.npy" for name in frames}
    path.write_text("".join(f"{json.dumps({'id': name, 'audio': audio[name], 'text': 'yes'})}\n" for name in frames))
    return path


@pytest.mark.parametrize("form", ["ark", "npy"])
def test_stored_features_are_checked_like_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    manifest = str(_features(tmp_path, form))
    code, out, _ = _run(monkeypatch, capsys, manifest)
    assert code == 1
    assert "error        3 x unusable audio: u0, u1, u2 (these are stored features: say with --num-features" in out
    code, out, _ = _run(monkeypatch, capsys, manifest, "--num-features", "5")
    lines = out.splitlines()
    assert lines[1] == "0.00 h of audio, 0.08 to 1.00 s, median 1.00 s"
    assert lines[2].endswith("characters: esy")
    assert lines[3:] == [
        "error        1 x too short for CTC: u1 (3 frames needed, 2 in 0.08 s)",
        "errors: 1, warnings: 0",
    ]
    code, out, _ = _run(monkeypatch, capsys, manifest, "--num-features", "4")
    assert "other shape: expected (T, 4), found (100, 5)" in out
    code, _, err = _run(monkeypatch, capsys, manifest, "--num-features", "5", "--sample-rate", "8000")
    assert (code, err) == (
        2,
        "error: --sample-rate: stored features have none; say --hop-seconds, how far their frames are apart\n",
    )


@pytest.mark.parametrize(("change", "code"), [(_text("open 2 doors"), 0), (_truncate, 1)])
def test_errors_give_exit_code_1_and_warnings_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: Change, code: int
) -> None:
    found, out, _ = _run(monkeypatch, capsys, str(_corpus(tmp_path, change)), "--json", str(tmp_path / "out.json"))
    assert found == code
    assert out.splitlines()[-1] == f"errors: {code}, warnings: {1 - code}"
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["summary"]["utterances"] == 4
    (finding,) = record["findings"]
    assert (finding["count"], finding["examples"][0][0]) == (1, "u1")


@pytest.mark.parametrize(
    "options",
    [("absent.jsonl",), (".", "--subsampling", "3"), (".", "--threads", "-1"), (".", "--json", "absent/x.json")],
)
def test_usage_mistakes_give_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = _run(monkeypatch, capsys, *options)
    assert (code, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    ("options", "kind"),
    [(["--hop-seconds", "0.02"], "too short for CTC"), (["--sample-rate", "16000"], "low sample rate")],
)
def test_options_say_how_the_model_hears(
    options: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _corpus(tmp_path, _text("abcdefghij" * 2))
    for given in ([], options):
        monkeypatch.setattr(sys, "argv", ["asr", "data", "check", str(path), *given])
        with pytest.raises(SystemExit):
            main()
        assert (kind in capsys.readouterr().out) == bool(given)


@pytest.mark.parametrize(("stated", "is_wrong"), [(1.04, False), (1.06, True)])
def test_durations_may_be_off_by_a_twentieth_of_a_second(tmp_path: Path, stated: float, is_wrong: bool) -> None:
    path = _corpus(tmp_path, lambda folder, lines: lines[1].update(seconds=stated))
    assert ("wrong duration" in _found(path)) == is_wrong


@pytest.mark.parametrize(
    ("heard", "kind", "is_found"),
    [
        ({"peak": 0.9e-3}, "silent", True),
        ({"peak": 1.1e-3}, "silent", False),
        ({"clipped_share": 0.9e-3}, "clipped", False),
        ({"clipped_share": 1.1e-3}, "clipped", True),
        ({"num_samples": 99 * RATE}, "wrong duration", True),
        ({"num_samples": round(99.1 * RATE)}, "wrong duration", False),
    ],
)
def test_what_is_silent_clipped_or_of_another_duration_begins_at_its_limit(
    heard: dict[str, Any], kind: str, is_found: bool
) -> None:
    """60 dB below full scale, a thousandth of the samples, a hundredth of a long recording."""
    result = CorpusCheck()
    sound = Sound(**{"sample_rate": RATE, "num_samples": 100 * RATE, "peak": 0.5, **heard})
    result.add(Utterance(id="u", audio=Path("x"), text="yes", seconds=100.0), sound)
    assert set(result.found) == ({kind} if is_found else set())


def test_what_is_at_full_scale_is_clipped_on_either_side(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.tile([1.0, -1.0, 0.99, -0.99], 100), RATE)
    assert examine(Utterance(id="u", audio=tmp_path / "x.wav", text="yes")).clipped_share == 0.5


def test_who_stops_it_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asr.corpus.check.check_corpus", stopped)
    monkeypatch.setattr(sys, "argv", ["asr", "data", "check", str(_corpus(tmp_path))])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "error: stopped\n"


@pytest.mark.parametrize("name", ["0.wav", "table.csv", "table.TSV", "0.txt"])
def test_what_is_no_manifest_by_its_name_is_one_line(tmp_path: Path, name: str) -> None:
    _corpus(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(CorpusError, match=f"a JSON object a line, found a .{name[-3:]} file"):
        _checked(tmp_path / name)
