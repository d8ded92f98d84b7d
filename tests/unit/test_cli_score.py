"""`asr score`: what it prints and writes, and how it answers mistakes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.cli import main
from asr.decoding import Hypothesis
from asr.recognizer import Recognized
from asr.recognizer.writers import as_json

Command = Callable[..., tuple[int, str, str]]
REFERENCE = "84-1-0000 TURN ON THE LIGHT\n84-1-0001 YES\n121-1-0000 NO\n"
HYPOTHESIS = "121-1-0000 No.\n84-1-0001\n84-1-0000 TURN OFF THE LIGHT\n"


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `asr score` in a folder with two files of transcripts; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    Path("ref.txt").write_text(REFERENCE, encoding="utf-8")
    Path("hyp.txt").write_text(HYPOTHESIS, encoding="utf-8")

    def run(*options: str, files: tuple[str, ...] = ("ref.txt", "hyp.txt")) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asr", "score", *files, *options])
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
        return (code if isinstance(code, int) else 0), *capsys.readouterr()

    return run


def test_table_and_files(score: Command) -> None:
    code, out, err = score("--json", "results.json", "--per-utterance", "errors.tsv")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split()[:3] == ["ref", "hyp", "50.00"]
    assert out.split()[:2] == ["subset", "system"]
    assert "RTF" not in out
    (record,) = json.loads(Path("results.json").read_text(encoding="utf-8"))["systems"]
    assert (record["wer"], record["words"], record["utterances"], record["rtf"]) == (0.5, 6, 3, None)
    assert (record["substitutions"], record["deletions"], record["insertions"]) == (2, 1, 0)
    lines = Path("errors.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[6] for line in lines] == ["id", "84-1-0001", "121-1-0000", "84-1-0000"]


def test_texts_are_printed_as_they_are(score: Command) -> None:
    Path("[red].txt").write_text("a yes <unk> [/b] no\nb [noise] :smile:\n", encoding="utf-8")
    Path("hyp.txt").write_text("a yes no\nb\n", encoding="utf-8")
    code, out, err = score(files=("[red].txt", "hyp.txt"))
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split()[0] == "[red]"
    assert all(text in out for text in ("[/b]", "[noise]", ":smile:"))


def test_what_another_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "ref.txt").write_text("a yes\n", encoding="utf-8")
    (tmp_path / "hyp.txt").write_text("a no\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "asr.cli", "score", "ref.txt", "hyp.txt"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"yes \\u2192 no" in done.stdout


def test_files_are_written_before_anything_is_printed(score: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.terminal.get_console", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score("--json", "results.json")
    assert Path("results.json").exists()


def test_what_cannot_be_written_costs_no_table(score: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results.json")

    monkeypatch.setattr("asr.scoring.write_scorecard", full)
    code, out, err = score("--json", "results.json")
    assert (code, err) == (2, "error: results.json: No space left on device\n")
    assert "WER %" in out
    assert "wrote" not in out


def test_names_that_are_no_utf8_are_escaped_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref.txt").write_text("a yes\n", encoding="utf-8")
    name = os.fsdecode(b"h\xff")
    (tmp_path / f"{name}.txt").write_text("a no\n", encoding="utf-8")
    files = ["--json", "o.json", "--csv", "o.csv", "--report", "o.html", "--per-utterance", "o.tsv"]
    subprocess.run(
        [sys.executable, "-m", "asr.cli", "score", "ref.txt", f"{name}.txt", *files], check=True, capture_output=True
    )
    assert json.loads(Path("o.json").read_text(encoding="utf-8"))["systems"][0]["decoder"] == name
    assert "h\\udcff" in Path("o.csv").read_text(encoding="utf-8")
    assert "h\\udcff" in Path("o.html").read_text(encoding="utf-8")


def test_normalized(score: Command) -> None:
    _, out, _ = score("--normalize", "case,punctuation")
    assert out.splitlines()[1].split()[2] == "33.33"


def test_speakers_only_when_asked(score: Command) -> None:
    ids = [f"{speaker}-1-{number}" for speaker in range(12) for number in range(3)]
    Path("ref.txt").write_text("".join(f"{name} a b c\n" for name in ids), encoding="utf-8")
    Path("hyp.txt").write_text(
        "".join(f"{name} a b {'c' if name[0] == '1' else 'd'}\n" for name in ids), encoding="utf-8"
    )
    assert "bootstrap over utterances" in score()[1]
    assert "bootstrap over speakers" in score("--speaker-before", "-")[1]


def test_missing_hypotheses(score: Command) -> None:
    Path("hyp.txt").write_text("121-1-0000 NO\n", encoding="utf-8")
    code, out, err = score()
    assert (code, out) == (2, "")
    assert err == (
        "error: 2 of 3 references have no hypothesis: '84-1-0000', '84-1-0001'; "
        "add them, or count them as empty with --missing-as-empty\n"
    )
    code, out, _ = score("--missing-as-empty")
    lines = out.splitlines()
    assert (code, lines[2].split()[2]) == (0, "83.33")
    assert lines[0] == "hyp: 2 utterances without a hypothesis, recognised as nothing"
    # Whoever reads the files later is told as much.
    score("--missing-as-empty", "--json", "score.json", "--report", "report.html")
    assert json.loads(Path("score.json").read_text(encoding="utf-8"))["notes"] == [lines[0]]
    assert lines[0] in Path("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("84-1-0000 A\n84-1-0000 B\n", (), "hyp.txt:2: id '84-1-0000' stands already in line 1"),
        (HYPOTHESIS + "9-9-9 X\n", (), "1 of 4 hypotheses have no reference: '9-9-9'"),
        (HYPOTHESIS, ("--speaker-before", "_"), "--speaker-before '_': expected ids such as 'speaker_utterance'"),
        (HYPOTHESIS, ("--speaker-before", ""), "--speaker-before '': expected ids such as 'speaker-utterance'"),
        (HYPOTHESIS, ("--speaker-before", "84"), "expected ids such as 'speaker84utterance', found '84-1-0000'"),
        (
            "turn off\nturn on\n",
            (),
            "in line 1; expected one transcript for each utterance; each line of plain text begins",
        ),
        ("turn off\nyes\nno\n", (), "each line of plain text begins with its id, as in `id text`"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    score: Command, content: str, options: tuple[str, ...], message: str
) -> None:
    Path("hyp.txt").write_text(content, encoding="utf-8")
    code, _, err = score(*options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_transcripts_in_json_are_scored_by_their_ids(score: Command) -> None:
    texts = {"a-1": "yes", "a-2": "now"}
    spoken = [
        Recognized(id=name, hypotheses=[Hypothesis(text=text, score=-1.0)], seconds=1.0) for name, text in texts.items()
    ]
    Path("hyp.jsonl").write_text("".join(f"{as_json(each, 0.04)}\n" for each in spoken), encoding="utf-8")
    Path("ref.jsonl").write_text('{"id": "a-1", "text": "yes"}\n{"id": "a-2", "text": "no"}\n', encoding="utf-8")
    assert next(iter(json.loads(as_json(spoken[0], 0.04)))) == "id"
    code, out, err = score(files=("ref.jsonl", "hyp.jsonl"))
    assert (code, err, out.splitlines()[1].split()[2]) == (0, "", "50.00")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "hinted"),
    [
        ("a-1 yes\na-2 no\n", "wav/a-1.flac yes\nwav/a-2.flac no\n", "'a-1' and 'wav/a-1.flac'"),
        ("wav\\a-1.WAV yes\n", "a-1 yes\n", "'wav\\a-1.WAV' and 'a-1'"),
        ("a-1 yes\na-2 no\n", "a-2 no\n", ""),
        ("a.1 yes\na.2 no\n", "a.2 no\na.3 yes\n", ""),
    ],
)
def test_ids_that_differ_by_folder_and_suffix_only_are_named(
    score: Command, reference: str, hypothesis: str, hinted: str
) -> None:
    Path("ref.txt").write_text(reference, encoding="utf-8")
    Path("hyp.txt").write_text(hypothesis, encoding="utf-8")
    code, _, err = score()
    assert (code, err.count("\n")) == (2, 1)
    assert ("without folder and suffix" in err) == bool(hinted)
    assert hinted in err


@pytest.mark.parametrize(
    ("heard", "remedy"),
    [
        ('{"id": "f1", "audio": "wav/f1.flac", "text": "yes"}', "--id-column audio"),
        ('{"id": "wav/f1.flac", "text": "yes"}', "--id-column audio,id"),
        ('{"id": "f1", "audio": "data/wav/f1.flac", "text": "yes"}', ""),
    ],
)
def test_hypotheses_that_are_called_by_the_sounds_of_a_manifest_are_told_how_they_meet(
    heard: str, remedy: str, score: Command
) -> None:
    Path("ref.jsonl").write_text('{"id": "wav-u-1", "audio": "wav/f1.flac", "text": "yes"}\n', encoding="utf-8")
    Path("hyp.jsonl").write_text(heard + "\n", encoding="utf-8")
    code, _, err = score(files=("ref.jsonl", "hyp.jsonl"))
    assert (code, err.count("\n")) == (2, 1)
    if remedy:
        assert err.endswith(f"such as 'wav/f1.flac': take {remedy}\n")
        assert score(*remedy.split(), files=("ref.jsonl", "hyp.jsonl"))[0] == 0
        return
    by_paths = "hear the sounds by the very paths that stand in the references"
    assert "; 'f1' may be the sound 'wav/f1.flac' of the references: let `asr transcribe --format json` " in err
    assert f"{by_paths}, then take --id-column audio\n" in err
    code, _, err = score("--id-column", "audio", files=("ref.jsonl", "hyp.jsonl"))
    assert (code, err.endswith(f"`asr transcribe --format json` {by_paths}\n")) == (2, True)


@pytest.mark.parametrize("option", ["--json", "--csv", "--per-utterance", "--report"])
def test_files_to_write_are_looked_at_before_the_work(score: Command, option: str) -> None:
    code, out, err = score(option, "absent/out.x", files=("nothing.txt", "nothing.txt"))
    assert (code, out) == (2, "")
    assert err == f"error: {option} absent/out.x: there is no folder 'absent'; make it first, or write elsewhere\n"
    assert "this is a folder" in score(option, ".")[2]
    before = Path("ref.txt").read_bytes()
    assert "this file is read too, and would be overwritten" in score(option, "./ref.txt")[2]
    assert Path("ref.txt").read_bytes() == before
    for name in ("clip.flac", "model.pt", "config.yaml", "stages.json", "heard.txt", "heard.ctm"):
        Path(name).write_text("kept")
        assert "another kind of file is there and would be overwritten" in score(option, name)[2]
        assert Path(name).read_text() == "kept"
    assert "no file can be written in 'ref.txt'" in score(option, "ref.txt/out.x")[2]
    assert score(option, "out.x")[1].endswith("\nwrote out.x\n")


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ('{"id": null, "text": "yes"}', "expected a text as 'id', found null"),
        ('{"id": "u", "text": ["yes", "no"]}', """expected a text as 'text', found ["yes", "no"]"""),
        ('{"id": "u", "text": true}', "expected a text as 'text', found true"),
        ('{"id": "u", "text": "yes", "seconds": "nan"}', "expected a number of seconds, 0 or more, found 'nan'"),
        ("{" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_transcript_is_told_with_its_line(score: Command, record: str, told: str) -> None:
    Path("ref.jsonl").write_text(record + "\n", encoding="utf-8")
    code, out, err = score(files=("ref.jsonl", "ref.jsonl"))
    assert (code, out) == (2, "")
    assert err.startswith("error: ref.jsonl:1: ")
    assert told in err
    assert err.count("\n") == 1


def test_few_other_ids_bring_no_hint_about_the_form(score: Command) -> None:
    Path("hyp.txt").write_text(HYPOTHESIS + "9-9-9 X\n", encoding="utf-8")
    assert "`id text`" not in score()[2]


def test_recognised_words_with_times_need_references_with_times(score: Command) -> None:
    for words in ("84 1 0.5 0.2 TURN\n121 1 1.5 0.2 NO\n", "84-1-0000 1 0.5 0.2 TURN\n"):
        Path("hyp.ctm").write_text(words, encoding="utf-8")
        code, _, err = score(files=("ref.txt", "hyp.ctm"))
        assert (code, err.count("\n")) == (2, 1)
        assert "the references have no times" in err
        assert "stm" in err


@pytest.mark.parametrize("words", ["", "84 1 0.5 0.2 TURN\n"])
@pytest.mark.parametrize("reference", ["ref.txt", "ref.stm"])
def test_a_ctm_of_silence_is_told_from_one_that_lacks_something_by_an_option(
    score: Command, reference: str, words: str
) -> None:
    Path("ref.txt").write_text("84 TURN ON\n121 NO\n", encoding="utf-8")
    Path("ref.stm").write_text("84 1 s 0 2 TURN ON\n121 1 s 0 2 NO\n", encoding="utf-8")
    Path("hyp.ctm").write_text(words, encoding="utf-8")
    code, _, err = score(files=(reference, "hyp.ctm"))
    assert (code, err.count("\n")) == (2, 1)
    assert "--missing-as-empty; of a recording in which nothing is heard a ctm has no line" in err
    code, out, _ = score("--missing-as-empty", files=(reference, "hyp.ctm"))
    assert (code, out.splitlines()[2].split()[2]) == (0, "66.67" if words else "100.00")


def test_another_unicode_form_is_mere_spelling(score: Command) -> None:
    Path("said.txt").write_text("1 l\u00e9t\u00e9 arrive\n", encoding="utf-8")
    Path("heard.txt").write_text("1 le\u0301te\u0301 arrive\n", encoding="utf-8")
    _, out, _ = score(files=("said.txt", "heard.txt"))
    assert "1 of 1 word errors differ in Unicode form" in out


def test_errors_of_mere_spelling_are_counted(score: Command) -> None:
    line = "1 of 3 word errors differ in Unicode form, case or punctuation only: --normalize "
    out = score()[1].splitlines()
    assert f"{line}unicode,case,punctuation" in out
    assert f"{line}case,unicode,punctuation" in score("--normalize", "case")[1].splitlines()
    assert f"{line}fillers-en,unicode,case,punctuation" in score("--normalize", "fillers-en")[1].splitlines()
    assert "differ in" not in score("--normalize", "punctuation,case,unicode")[1]
    Path("other.txt").write_text(REFERENCE.lower(), encoding="utf-8")
    _, out, _ = score(files=("ref.txt", "hyp.txt", "other.txt"))
    assert "hyp: 1 of 3 word errors" in out
    # Ids hold no letters: each of the six words differs.
    assert "other: 6 of 6 word errors" in out


def test_a_tenth_of_the_errors_is_not_worth_a_hint(score: Command) -> None:
    Path("ref.txt").write_text("u a b c d e f g h i j k\n", encoding="utf-8")
    Path("hyp.txt").write_text("u A x x x x x x x x x k\n", encoding="utf-8")
    assert "differ in" not in score()[1]
    Path("hyp.txt").write_text("u A x x x x x x x x j k\n", encoding="utf-8")
    assert "1 of 9 word errors differ in" in score()[1]


def test_missing_file(score: Command) -> None:
    code, _, err = score(files=("ref.txt", "nothing.txt"))
    assert (code, err) == (2, "error: nothing.txt: cannot read the file: No such file or directory\n")


def test_references_without_words(score: Command) -> None:
    Path("ref.txt").write_text("a\nb\n", encoding="utf-8")
    Path("hyp.txt").write_text("a x\nb\n", encoding="utf-8")
    code, _, err = score()
    assert (code, err) == (
        2,
        "error: ref: the references of 2 utterances hold no word, so there is no error rate\n",
    )


def test_systems_are_compared_with_the_first(score: Command) -> None:
    ids = [f"{speaker}-{number}" for speaker in range(20) for number in range(20)]
    Path("ref.txt").write_text("".join(f"{name} a b c d e f\n" for name in ids), encoding="utf-8")
    Path("hyp.txt").write_text("".join(f"{name} a x c d e f\n" for name in ids), encoding="utf-8")
    Path("better.txt").write_text(
        "".join(f"{name} a {'x' if name.endswith('1') else 'b'} c d e f\n" for name in ids), encoding="utf-8"
    )
    _, out, _ = score("--json", "score.json", "--csv", "score.csv", files=("ref.txt", "hyp.txt", "better.txt"))
    assert "better is better than hyp by 15.0 points [" in out
    assert "less than once in 5,000 times" in out
    (comparison,) = json.loads(Path("score.json").read_text(encoding="utf-8"))["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("hyp", "better")
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    assert comparison["difference"] == pytest.approx(0.15)
    assert comparison["p_holm"] is None
    Path("worse.txt").write_text("".join(f"{name} a b c d e g\n" for name in ids), encoding="utf-8")
    score("--json", "score.json", files=("ref.txt", "hyp.txt", "better.txt", "worse.txt"))
    beside = json.loads(Path("score.json").read_text(encoding="utf-8"))["comparisons"]
    assert min(each["p_holm"] for each in beside) == 2 * min(each["p"] for each in beside)
    assert [line.split(",")[1] for line in Path("score.csv").read_text().splitlines()] == ["decoder", "hyp", "better"]
    assert "no difference is shown" not in out
    Path("same.txt").write_text(Path("hyp.txt").read_text(), encoding="utf-8")
    out = score(files=("ref.txt", "hyp.txt", "same.txt"))[1]
    assert "hyp and same have equally many errors in every part of this data" in out


def test_a_rate_above_the_limit_fails_with_its_own_code(score: Command) -> None:
    assert score("--fail-above", "0.5")[0] == 0
    code, out, err = score("--fail-above", "0.49", "--json", "results.json")
    assert (code, err) == (1, "above --fail-above 0.49: hyp\n")
    assert "50.00" in out
    assert Path("results.json").is_file()


@pytest.mark.parametrize(("limit", "code"), [("49%", 1), ("50%", 0), ("50 %", 0), ("120%", 0), ("0", 1)])
def test_the_limit_may_be_in_per_cent(score: Command, limit: str, code: int) -> None:
    assert score("--fail-above", limit)[0] == code


@pytest.mark.parametrize("limit", ["8", "1", "-0.1", "nan", "inf%", "eight", "8%%", "%", ""])
def test_a_limit_that_may_be_misread_is_refused(score: Command, limit: str) -> None:
    code, out, err = score("--fail-above", limit)
    assert (code, out) == (2, "")
    assert err == f"error: --fail-above {limit}: expected a fraction such as 0.08 or 8%\n"


def test_what_was_changed_is_printed(score: Command) -> None:
    assert "normalised by: nothing, the texts are compared as they are" in score()[1]
    assert "normalised by: punctuation, case" in score("--normalize", "punctuation, case")[1]
    code, _, err = score("--normalize", "cases")
    assert (code, err.startswith("error: --normalize cases: no such step, did you mean 'case'?")) == (2, True)


def test_groups_and_confusions(score: Command) -> None:
    _, out, _ = score("--speaker-before", "-", "--by", "speaker", "--confusions", "1")
    lines = [line.split() for line in out.splitlines()]
    assert ["ref", "hyp", "121", "100.00", "-", "1", "0", "0", "1", "1"] in lines
    assert ["subset", "system", "speaker"] in [line[:3] for line in lines]
    assert "utterances (3 are too few, and such intervals too narrow)" in " ".join(out.split())
    assert "NO → No.  1" in out
    assert ["substituted", "deleted", "inserted"] in lines
    assert "ON → OFF  1" not in out


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("speaker", "no speaker is known here; --speaker-before takes it from the ids, or give the references a column "
         "'speaker'"),
        ("duration", "no duration is known here; give the references a column 'seconds'"),
        ("gender", "no such column; nothing is known here but texts"),
    ],
)  # fmt: skip
def test_a_breakdown_that_would_say_nothing_is_refused(score: Command, column: str, message: str) -> None:
    code, out, err = score("--by", column)
    assert (code, out, err) == (2, "", f"error: --by {column}: {message}\n")


def test_only_columns_that_exist_are_listed(score: Command) -> None:
    Path("ref.csv").write_text("id,text,room,speaker,empty\n84-1-0000,a,k,,\n84-1-0001,b,,,\n121-1-0000,c,,,\n")
    code, _, err = score("--by", "gender", files=("ref.csv", "hyp.txt"))
    assert (code, err) == (2, "error: --by gender: no such column; known: room\n")
    code, out, _ = score("--by", "room", files=("ref.csv", "hyp.txt"))
    assert (code, "(unknown)" in out) == (0, True)


def test_segments_that_are_marked_to_be_ignored_are_counted(score: Command) -> None:
    Path("ref.stm").write_text("r 1 s 0 2 <o> a b\nr 1 s 2 4 IGNORE_TIME_SEGMENT_IN_SCORING\n", encoding="utf-8")
    words = "r 1 0.5 0.2 a\nr 1 1.5 0.2 x\nr 1 2.5 0.2 y\n"
    Path("hyp.ctm").write_text(f"{words}q 1 0 1 a\n", encoding="utf-8")
    assert "let `asr score --ignore-extra` leave it out" in score(files=("ref.stm", "hyp.ctm"))[2]
    _, told, _ = score("--ignore-extra", files=("ref.stm", "hyp.ctm"))
    Path("hyp.ctm").write_text(words, encoding="utf-8")
    _, out, _ = score(files=("ref.stm", "hyp.ctm"))
    ignored, _, rest = out.partition("\n")
    assert ignored.startswith("1 segments are marked to be ignored")
    assert told == f"{ignored}\nhyp: 1 hypotheses without a reference are left out\n{rest}"
    assert out.splitlines()[2].split()[2] == "50.00"
    # A word between segments is not said in the one that is ignored.
    Path("ref.stm").write_text("r 1 s 0 2 <o> a b\nr 1 s 4 6 IGNORE_TIME_SEGMENT_IN_SCORING\n", encoding="utf-8")
    Path("hyp.ctm").write_text("r 1 0.5 0.2 a\nr 1 1.5 0.2 b\nr 1 3.5 0.2 x\nr 1 5.0 0.2 y\n", encoding="utf-8")
    assert score(files=("ref.stm", "hyp.ctm"))[1].splitlines()[2].split()[2] == "50.00"
    # Of a channel without a word a ctm has no line at all.
    Path("ref.stm").write_text("r 1 s 0 2 <o> a b\nr 2 t 0 2 IGNORE_TIME_SEGMENT_IN_SCORING\n", encoding="utf-8")
    Path("hyp.ctm").write_text("r 1 0.5 0.2 a\n", encoding="utf-8")
    for options in ((), ("--missing-as-empty",)):
        code, out, _ = score(*options, files=("ref.stm", "hyp.ctm"))
        assert (code, "without a hypothesis" in out) == (0, False)


def test_the_report_shows_all_systems_below_each_other(score: Command) -> None:
    Path("other.txt").write_text(REFERENCE.replace("YES", "</script>"), encoding="utf-8")
    code, _, err = score("--report", "report.html", files=("ref.txt", "hyp.txt", "other.txt"))
    assert (code, err) == (0, "")
    page = Path("report.html").read_text(encoding="utf-8")
    content = json.loads(page.partition('id="content">')[2].partition("</script>")[0])
    (group,) = content["groups"]
    assert [(system["name"], round(system["result"]["wer"], 2)) for system in group["systems"]] == [
        ("hyp", 0.5),
        ("other", 0.17),
    ]
    assert group["systems"][1]["hypotheses"] == [0, 0, "</script>"]
    assert any("hyp" in sentence and "other" in sentence for sentence in content["comparisons"])
    assert content["notes"] == ["Normalised by: nothing, the texts are compared as they are."]


def test_columns_may_have_other_names(score: Command) -> None:
    for name, last in (("ref.csv", "no"), ("hyp.csv", "now")):
        Path(name).write_text(f"utt,said\na,yes\nb,{last}\n", encoding="utf-8")
    code, out, err = score("--id-column", "utt", "--text-column", "said", files=("ref.csv", "hyp.csv"))
    assert (code, err, out.splitlines()[1].split()[2]) == (0, "", "50.00")


def test_columns_may_have_other_names_in_the_hypotheses(score: Command) -> None:
    lines = [{"audio_filepath": name, "text": "yes", "pred_text": heard} for name, heard in (("a", "yes"), ("b", "no"))]
    Path("nemo.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    options = ("--id-column", "audio_filepath", "--text-column", "text,pred_text")
    code, out, err = score(*options, files=("nemo.jsonl", "nemo.jsonl"))
    assert (code, err, out.splitlines()[1].split()[2]) == (0, "", "50.00")


@pytest.mark.parametrize("text", ["text,", ",pred_text", "a,b,c", ""])
def test_columns_without_a_name_are_refused(text: str, score: Command) -> None:
    Path("nemo.jsonl").write_text('{"id": "a", "text": "yes", "pred_text": "no"}\n', encoding="utf-8")
    code, _, err = score("--text-column", text, files=("nemo.jsonl", "nemo.jsonl"))
    assert code == 2
    assert err == f"error: --text-column: expected the name of a column, or two as in SAID,HEARD, found '{text}'\n"
    assert score("--text-column", "text, pred_text", files=("nemo.jsonl", "nemo.jsonl"))[0] == 0


def test_columns_of_files_without_any_are_refused(score: Command) -> None:
    for name in ("ref.txt", "hyp.txt"):
        Path(name).write_text("a yes\n", encoding="utf-8")
    code, _, err = score("--text-column", "said", files=("ref.txt", "hyp.txt"))
    assert code == 2
    assert (
        err == "error: --id-column, --text-column: only jsonl, csv and tsv have columns, and none of the files is one\n"
    )


def test_what_speaks_against_a_comparison_is_told(score: Command) -> None:
    ids = [f"u{number}" for number in range(12)]
    for name, word in (("ref.txt", "c"), ("hyp.txt", "x"), ("other.txt", "c")):
        Path(name).write_text("".join(f"{each} a b {word}\n" for each in ids), encoding="utf-8")
    _, out, _ = score(files=("ref.txt", "hyp.txt", "other.txt"))
    assert "warning: hyp and other differ or err in 12 stretches of words only" in out
