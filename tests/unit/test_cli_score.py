"""`asr score`: what it prints and writes, and how it answers mistakes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.cli import main

Command = Callable[..., tuple[int, str, str]]
REFERENCE = "84-1-0000 TURN ON THE LIGHT\n84-1-0001 YES\n121-1-0000 NO\n"
HYPOTHESIS = "121-1-0000 No.\n84-1-0001\n84-1-0000 TURN OFF THE LIGHT\n"


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `asr score` in a folder with two files of transcripts; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    Path("ref.txt").write_text(REFERENCE, encoding="utf-8")
    Path("hyp.txt").write_text(HYPOTHESIS, encoding="utf-8")

    def run(*options: str, files: tuple[str, str] = ("ref.txt", "hyp.txt")) -> tuple[int, str, str]:
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
    (record,) = json.loads(Path("results.json").read_text(encoding="utf-8"))
    assert (record["wer"], record["words"], record["utterances"], record["rtf"]) == (0.5, 6, 3, None)
    assert (record["substitutions"], record["deletions"], record["insertions"]) == (2, 1, 0)
    lines = Path("errors.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[6] for line in lines] == ["id", "84-1-0001", "121-1-0000", "84-1-0000"]


def test_normalized(score: Command) -> None:
    _, out, _ = score("--normalize")
    assert out.splitlines()[1].split()[2] == "33.33"


def test_speakers_only_when_asked(score: Command) -> None:
    ids = [f"{speaker}-1-{number}" for speaker in range(12) for number in range(3)]
    Path("ref.txt").write_text("".join(f"{name} a b c\n" for name in ids), encoding="utf-8")
    Path("hyp.txt").write_text("".join(f"{name} a b {name[0]}\n" for name in ids), encoding="utf-8")
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
    assert (code, out.splitlines()[1].split()[2]) == (0, "83.33")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("84-1-0000 A\n84-1-0000 B\n", (), "hyp.txt:2: id '84-1-0000' stands already in line 1"),
        (HYPOTHESIS + "9-9-9 X\n", (), "1 of 4 hypotheses have no reference: '9-9-9'"),
        (HYPOTHESIS, ("--speaker-before", "_"), "--speaker-before '_': expected ids such as 'speaker_utterance'"),
        (HYPOTHESIS, ("--speaker-before", ""), "--speaker-before '': expected ids such as 'speaker-utterance'"),
        (HYPOTHESIS, ("--speaker-before", "84"), "expected ids such as 'speaker84utterance', found '84-1-0000'"),
        (HYPOTHESIS, ("--json", "absent/results.json"), "No such file or directory"),
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


def test_missing_file(score: Command) -> None:
    code, _, err = score(files=("ref.txt", "nothing.txt"))
    assert (code, err) == (2, "error: nothing.txt: cannot read the transcripts: No such file or directory\n")


def test_references_without_words(score: Command) -> None:
    Path("ref.txt").write_text("a\nb\n", encoding="utf-8")
    Path("hyp.txt").write_text("a x\nb\n", encoding="utf-8")
    code, _, err = score()
    assert (code, err) == (
        2,
        "error: ref: the references of 2 utterances hold no word, so there is no error rate\n",
    )
