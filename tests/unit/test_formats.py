"""Transcripts in every form that `asr score` reads, and how a wrong one is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.corpus.folder import read_folder
from asr.errors import ScoringError
from asr.scoring import Columns, Transcript, read_transcripts

TEXTS = {"a-1": "hello there", "a-2": "", "b-1": "zwölf ’n’ 好"}
FORMS = {
    "t.txt": "a-1 hello there\n\na-2\nb-1\tzwölf ’n’ 好\n",
    "text": "\ufeffa-1 hello there\r\na-2 \r\nb-1 zwölf ’n’ 好",
    "t.trn": "hello there (a-1)\n(a-2)\nzwölf ’n’ 好 (b-1)\n",
    "t.jsonl": '{"id": "a-1", "text": "hello there"}\n{"id": "a-2", "text": ""}\n{"id": "b-1", "text": "zwölf ’n’ 好"}\n',
    "t.csv": 'id,text\na-1,hello there\na-2,""\nb-1,zwölf ’n’ 好\n',
    "T.TSV": "\ufeffid\ttext\r\na-1\thello there\r\na-2\t\r\nb-1\tzwölf ’n’ 好\r\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_all_forms_hold_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8", newline="")
    found = read_transcripts(tmp_path / name)
    assert {key: transcript.text for key, transcript in found.items()} == TEXTS


def test_lines_with_a_tab_may_have_spaces_in_their_ids(tmp_path: Path) -> None:
    """So `asr transcribe` writes them: the path of the file, a tab, the text, which may be empty."""
    path = tmp_path / "heard.txt"
    path.write_text("iv/01 talk.opus\thello there\niv/02 talk.opus\t\n", encoding="utf-8")
    found = {key: transcript.text for key, transcript in read_transcripts(path).items()}
    assert found == {"iv/01 talk.opus": "hello there", "iv/02 talk.opus": ""}


def test_a_folder_holds_the_texts_that_stand_beside_its_sounds(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    for name in ("ann/1.wav", "2.FLAC", "silent.wav"):
        (tmp_path / name).touch()
    (tmp_path / "ann" / "1.txt").write_text("Hello\nthere ", encoding="utf-8")
    (tmp_path / "2.txt").write_text("yes", encoding="utf-8")
    said = read_transcripts(tmp_path, format="jsonl")
    assert {name: (each.text, each.speaker) for name, each in said.items()} == {
        "2": ("yes", ""),
        "ann/1": ("Hello there", "ann"),
    }


def test_columns_come_along_under_the_names_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("path\tsentence\tspeaker\tduration\tgender\nx\thi\tanna\t1.5\tf\ny\tho\t\t\t\n", encoding="utf-8")
    found = read_transcripts(path, columns=Columns(id="path", text="sentence"))
    columns = {"speaker": "anna", "duration": "1.5", "gender": "f"}
    assert found["x"] == Transcript(text="hi", speaker="anna", seconds=1.5, columns=columns)
    assert (found["y"].speaker, found["y"].seconds) == ("", None)
    with pytest.raises(
        ScoringError, match=r"t.tsv:2: expected a column 'id', found 'path', .*; name the right one with"
    ):
        read_transcripts(path)


def test_words_with_times_go_to_the_segment_that_they_are_spoken_in(tmp_path: Path) -> None:
    stm, ctm = tmp_path / "ref.stm", tmp_path / "hyp.ctm"
    stm.write_text(
        ";; comment\nr 1 anna 0.0 2.0 <o,f0> one two\nr 1 bert 2.5 4.0 three\nr 2 anna 0 9 elsewhere\n",
        encoding="utf-8",
    )
    ctm.write_text(
        ";; comment\nr 1 1.8 0.3 TWO 0.9\nr 1 0.2 0.3 one\nr 1 2.2 0.2 late\nr 2 3 1 elsewhere\n", encoding="utf-8"
    )
    said = read_transcripts(stm)
    assert [(each.text, each.speaker, each.seconds) for each in said.values()] == [
        ("one two", "anna", 2.0),
        ("three", "bert", 1.5),
        ("elsewhere", "anna", 9.0),
    ]
    heard = read_transcripts(ctm, references=said)
    # "late" lies between two segments: the nearer one has it, so that it counts as an error and is not lost.
    assert [heard[name].text for name in said] == ["one TWO", "late", "elsewhere"]
    # Of the recording or channel that a file lacks nobody knows what would have been heard.
    ctm.write_text("r 1 3 0.1 three\n", encoding="utf-8")
    heard = read_transcripts(ctm, references=said)
    assert [heard[name].text if name in heard else None for name in said] == ["", "three", None]
    ctm.write_text(";; nothing\n", encoding="utf-8")
    with pytest.raises(ScoringError, match=r"hyp\.ctm: expected transcripts in the form 'ctm', found none"):
        read_transcripts(ctm, references=said)
    ctm.write_text("r 1 1.8 0.3 TWO 0.9\nr 1 0.2 0.3 one\nr 1 2.2 0.2 late\nr 2 3 1 elsewhere\n", encoding="utf-8")
    without_times = read_transcripts(ctm, references={"r": Transcript(text="x")})
    assert {name: each.text for name, each in without_times.items()} == {"r": "one TWO late elsewhere"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "expected transcripts in the form 'lines', found none"),
        ("t.txt", b"a x\n\xff y\n", "t.txt:2: not UTF-8 text"),
        ("t.txt", b"a x\nb\na y\n", "t.txt:3: id 'a' stands already in line 1"),
        ("t.trn", b"hello\n", r"t.trn:1: expected 'text \(id\)', found 'hello'"),
        ("t.trn", b"hello ( )\n", r"t.trn:1: expected 'text \(id\)', found 'hello \( \)'"),
        ("t.trn", b"{ a / b } (x)\n", "t.trn:1: alternatives in braces"),
        ("t.stm", b"r 1 s 0 1 yes { a / @ }\n", "t.stm:1: alternatives in braces"),
        ("t.jsonl", b'{"id": "a", "text": "\\uD83D no"}\n', "t.jsonl:1: half of a surrogate pair"),
        ("t.csv", b"id,text,text\na,b,c\n", "t.csv:1: two columns are called 'text'; rename one"),
        (
            "t.csv",
            b"id;text\na;b, c\n",
            "t.csv:1: expected commas between the columns, or tabs in .tsv, found 'id;text'",
        ),
        ("t.jsonl", b"{}\n", "t.jsonl:1: expected a column 'id', found"),
        ("t.jsonl", b'{"id": "a", "text": ""}\n[1]\n', r"t.jsonl:2: expected a JSON object, found \[1\]"),
        (
            "t.json",
            b'[{"id": "a", "text": "x"}]',
            r"t.json: .* in each line, found an array; `jq -c '\.\[\]' \S+t.json`",
        ),
        ("t.json", b'[\n  {"id": "a", "text": "x"}\n]\n', "t.json: .* found an array"),
        (
            "t.json",
            b'{\n  "id": "a"\n}\n',
            r"t.json:1: .* found one over several lines, or cut off; `jq -c \. \S+t.json`",
        ),
        ("t.json", b'{"id": "a",\n  "text": "x"}\n', "t.json:1: .* found one over several lines"),
        ("t.json", b'{"id": "a" "text": "x"}\n', "t.json:1: not JSON: Expecting ',' delimiter"),
        ("t.jsonl", b"{\n", "t.jsonl:1: not JSON"),
        ("t.csv", b"id,text\na\n", "t.csv:2: expected 2 columns as in the header"),
        ("t.csv", b"id,text\na,b,c\n", "t.csv:2: expected 2 columns as in the header"),
        ("t.csv", b"id,text,seconds\na,b,long\n", "t.csv:2: expected a number of seconds, found 'long'"),
        ("t.csv", b"id,text,seconds\na,b,inf\n", "t.csv:2: expected a number of seconds, 0 or more, found 'inf'"),
        ("t.csv", b"\xff\n", "t.csv: not UTF-8 text"),
        ("t.stm", b"r 1 s 0\n", "t.stm:1: expected 'recording channel speaker start end"),
        ("t.stm", b"r 1 s 2 1 x\n", "t.stm:1: the segment ends at 1.0 s and begins at 2.0 s"),
        ("t.stm", b"r 1 s 0 2 <noise hello there\n", "t.stm:1: expected a label such as"),
        ("t.stm", b"r 1 s 0 2 <no label> hello\n", "t.stm:1: expected a label such as"),
        ("t.stm", b"r 1 s 0 2 <unk> hello\n", "t.stm:1: '<unk>' may be a label or the first word; write <o> before"),
        ("t.csv", b'id,text\na,x\nb,"hey" she said\n', "t.csv:3: not a table"),
        ("t.ctm", b"r 1 0 1\n", "t.ctm:1: expected 'recording channel start duration word"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScoringError, match=message):
        read_transcripts(tmp_path / name)


def test_a_text_may_be_as_long_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,text\na,{'x' * 150_000}\n", encoding="utf-8")
    assert len(read_transcripts(path)["a"].text) == 150_000


@pytest.mark.parametrize(("said", "heard"), [("A", "1"), ("1", "A"), ("B", "2"), ("A", "A"), ("x", "x")])
def test_the_first_two_channels_have_letters_or_numbers(said: str, heard: str, tmp_path: Path) -> None:
    (tmp_path / "ref.stm").write_text(f"r {said} s 0 1 a\nr C s 0 1 b\n", encoding="utf-8")
    (tmp_path / "hyp.ctm").write_text(f"r {heard} 0 1 a\nr C 0 1 b\n", encoding="utf-8")
    references = read_transcripts(tmp_path / "ref.stm")
    assert list(references) == [f"r-{said}-0-1", "r-C-0-1"]
    found = read_transcripts(tmp_path / "hyp.ctm", references=references)
    assert {name: each.text for name, each in found.items()} == {f"r-{said}-0-1": "a", "r-C-0-1": "b"}


def test_in_a_folder_an_empty_text_is_that_nobody_speaks(tmp_path: Path) -> None:
    for name, text in (("a", "yes"), ("b", "")):
        (tmp_path / f"{name}.wav").write_bytes(b"")
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    assert [each.text for each in read_transcripts(tmp_path).values()] == ["yes", ""]


def test_ids_meet_whatever_form_their_accents_have(tmp_path: Path) -> None:
    composed, apart = "gr\u00f6\u00dfe", "gro\u0308\u00dfe"
    (tmp_path / "ref.jsonl").write_text(f'{{"id": "{apart}", "text": "{apart}"}}', encoding="utf-8")
    (found,) = read_transcripts(tmp_path / "ref.jsonl").items()
    assert (found[0], found[1].text) == (composed, apart)
    folder = tmp_path / "sounds"
    folder.mkdir()
    (folder / f"{apart}.wav").write_bytes(b"")
    (folder / f"{composed}.txt").write_text("tall", encoding="utf-8")
    assert [(each.id, each.text) for each in read_folder(folder)] == [(composed, "tall")]
    assert list(read_transcripts(folder)) == [composed]
    (tmp_path / "ref.stm").write_text(f"{apart} 1 s 0 1 yes\n", encoding="utf-8")
    (tmp_path / "hyp.ctm").write_text(f"{composed} 1 0 1 yes\n", encoding="utf-8")
    said = read_transcripts(tmp_path / "ref.stm")
    assert [each.text for each in read_transcripts(tmp_path / "hyp.ctm", references=said).values()] == ["yes"]


def test_a_recording_without_reference_is_named(tmp_path: Path) -> None:
    (tmp_path / "ref.stm").write_text("r 1 s 0 1 a\n", encoding="utf-8")
    (tmp_path / "hyp.ctm").write_text("q 1 0 1 a\n", encoding="utf-8")
    said = read_transcripts(tmp_path / "ref.stm")
    with pytest.raises(ScoringError, match=r"hyp\.ctm:1: recording 'q', channel '1' is not in the references"):
        read_transcripts(tmp_path / "hyp.ctm", references=said)
    kept = read_transcripts(tmp_path / "hyp.ctm", references=said, keep_extra=True)
    assert {name: each.text for name, each in kept.items()} == {"q-1": "a"}
    (tmp_path / "unk.stm").write_text("r 1 s 0 1 <o> <unk> a\n", encoding="utf-8")
    assert [each.text for each in read_transcripts(tmp_path / "unk.stm").values()] == ["<unk> a"]
    with pytest.raises(ScoringError, match="--format stm2: no such form, did you mean 'stm'"):
        read_transcripts(tmp_path / "ref.stm", format="stm2")


@pytest.mark.parametrize(
    "rows", ['u1\ta b\nu2\t"Good day, he said\nu3\tc d\n', 'u1\t"a b\nu2\tGood" day\n', 'u1\t"a" b\n']
)
def test_a_mark_that_is_not_closed_swallows_no_lines(rows: str, tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(f"id\ttext\n{rows}", encoding="utf-8")
    with pytest.raises(ScoringError, match=r"t\.tsv:\d: not a table .* each mark within it stands twice"):
        read_transcripts(path)
