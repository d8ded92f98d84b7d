"""ROVER: worked examples, what its command says, and files that it cannot use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.cli import main
from asr.errors import ScoringError
from asr.scoring import (
    Transcript,
    confident_readings,
    normalised,
    normalizer,
    read_transcripts,
    readings,
    vote,
    write_transcripts,
)
from asr.scoring.rover import Reading, word_transition_network
from asr.scoring.transcripts import WordTime


def voted(heard: list[list[Reading]], **weights: float) -> str:
    return " ".join(str(reading.word) for reading in vote(word_transition_network(heard), **weights))


def by_heads(*texts: str) -> str:
    return voted([readings(Transcript(text=text)) for text in texts])


@pytest.mark.parametrize(
    ("texts", "together"),
    [
        (("the cat sat", "the cat sat", "a hat sat"), "the cat sat"),
        (("a hat sat", "the cat sat", "the cat sat"), "the cat sat"),
        # Each errs in another place, so that none of them is right and all together are.
        (("the bat sat down", "the cat sang down", "a cat sat down"), "the cat sat down"),
        # Inserted by one, dropped by one.
        (("a b c", "a x b c", "a b c"), "a b c"),
        (("a c", "a b c", "a b c"), "a b c"),
        # Two systems: the first has its way, with its words and with its silence.
        (("a b", "a c"), "a b"),
        (("a", "a b"), "a"),
        (("a b", "a"), "a b"),
        # Three words in one slot: the first; of two against two, the first as well.
        (("x", "y", "z"), "x"),
        (("x", "y", "y", "x"), "x"),
        # Two words where the third has nothing share a slot: all have one vote, and the first wins.
        (("a b", "a x b", "a y b"), "a b"),
        (("a x b", "a y b", "a b"), "a x b"),
        (("", "", ""), ""),
        (("", "a", "a"), "a"),
        (("a", "", ""), ""),
        (("only one",), "only one"),
    ],
)
def test_a_vote_by_heads(texts: tuple[str, ...], together: str) -> None:
    assert by_heads(*texts) == together


def test_confidence_outvotes_heads() -> None:
    """on: 0.5 * 2/3 + 0.5 * 0.2 = 0.43; in: 0.5 * 1/3 + 0.5 * 0.9 = 0.62."""
    heard = [[Reading("on", 0.3)], [Reading("in", 0.9)], [Reading("on", 0.1)]]
    assert voted(heard) == "on"
    assert voted(heard, alpha=0.5) == "in"
    assert voted(heard, alpha=0.9) == "on"


def test_of_those_that_have_a_word_the_surest_may_count() -> None:
    """on: 0.5 * 2/3 + 0.5 * 0.8 = 0.73, and by the mean of 0.45 0.56; in: 0.5 * 1/3 + 0.5 * 0.9 = 0.62."""
    heard = [[Reading("on", 0.1)], [Reading("in", 0.9)], [Reading("on", 0.8)]]
    assert voted(heard, alpha=0.5) == "in"
    assert voted(heard, alpha=0.5, maximum=True) == "on"


def test_silence_has_the_confidence_that_it_is_given() -> None:
    """um: 0.5 * 1/2 + 0.5 * 0.6 = 0.55; nothing: 0.25 + 0.5 * 0.5 = 0.5 or 0.25 + 0.5 * 0.7 = 0.6."""
    heard = [[Reading("yes", 0.9)], [Reading("um", 0.6), Reading("yes", 0.8)]]
    assert voted(heard, alpha=0.5, null_confidence=0.5) == "um yes"
    assert voted(heard, alpha=0.5, null_confidence=0.7) == "yes"


def test_a_word_stands_opposite_any_that_a_slot_has() -> None:
    network = word_transition_network([readings(Transcript(text=text)) for text in ("a b", "a c", "a c d")])
    assert [[reading.word for reading in slot] for slot in network] == [
        ["a", "a", "a"],
        ["b", "c", "c"],
        [None, None, "d"],
    ]


@pytest.mark.parametrize(
    ("column", "expected"),
    [("0.5", [0.5, 0.5]), ("[0.5, 1]", [0.5, 1.0]), ("[0.5]", None), ("1.5", None), ("high", None), ("", None)],
)
def test_confidences_of_a_column(column: str, expected: list[float] | None) -> None:
    transcript = Transcript(text="a b", columns={"confidence": column})
    if expected is None:
        with pytest.raises(ScoringError, match=r"here: expected a column 'confidence' .* list of 2, found"):
            confident_readings(transcript, where="here")
    else:
        assert [reading.confidence for reading in confident_readings(transcript, where="here")] == expected


def test_an_empty_text_needs_no_confidence() -> None:
    assert confident_readings(Transcript(text=""), where="here") == []


def test_a_ctm_keeps_confidences_in_the_order_of_time(tmp_path: Path) -> None:
    ctm = tmp_path / "hyp.ctm"
    ctm.write_text("r 1 1.0 0.2 b 0.25\nr 1 0.0 0.2 a 0.75\nq 1 0.0 0.2 c NA\nq 1 0.5 0.2 d 0.5\n", encoding="utf-8")
    heard = read_transcripts(ctm)
    assert [reading[:2] for reading in confident_readings(heard["r"], where="")] == [("a", 0.75), ("b", 0.25)]
    with pytest.raises(ScoringError, match="found none; --method votes needs none"):
        confident_readings(heard["q"], where="q")


Run = Callable[..., tuple[str, str, object]]


@pytest.fixture
def rover(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command in `tmp_path` on the files of given names and texts; what it said on both outputs, and its code."""

    def run(files: dict[str, str], *arguments: str) -> tuple[str, str, object]:
        monkeypatch.chdir(tmp_path)
        for name, text in files.items():
            Path(name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["asr", "rover", *files, *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return *capsys.readouterr(), stop.value.code

    return run


@pytest.mark.parametrize("out", ["out.txt", "out.trn", "out.jsonl"])
def test_files_of_any_form_become_one_that_is_read_again(rover: Run, out: str) -> None:
    files = {
        "a.txt": "u1 turn on the light\nu2\nu3 yes\n",
        "b.trn": "turn of the light (u1)\n(u2)\nno (u3)\n",
        "c.jsonl": '{"id": "u1", "text": "turn on a light"}\n{"id": "u2", "text": "um"}\n',
    }
    said, _, code = rover(files, "--out", out)
    assert not code
    assert "c.jsonl: no vote on 1 of 3 utterances, which it lacks: 'u3'" in said
    assert f"wrote {out}: 3 utterances, by votes of 3 files" in said
    heard = read_transcripts(Path(out))
    assert {name: heard[name].text for name in heard} == {"u1": "turn on the light", "u2": "", "u3": "yes"}


def test_confidences_are_asked_for_by_name(rover: Run) -> None:
    files = {"a.ctm": "r 1 0 1 on 0.2\n", "b.ctm": "r 1 0 1 on 0.2\n", "c.ctm": "r 1 0 1 in 0.9\n"}
    rover(files, "--out", "votes.txt")
    rover(files, "--out", "sure.txt", "--method", "confidence", "--alpha", "0.3")
    assert [Path(name).read_text(encoding="utf-8") for name in ("votes.txt", "sure.txt")] == ["r on\n", "r in\n"]


def test_the_surest_counts_where_that_is_asked_for(rover: Run) -> None:
    """on: 0.5 * 2/3 + 0.5 * 0.8 = 0.73; in: 0.5 * 1/3 + 0.5 * 0.9 = 0.62; by the mean of 0.45, on has 0.56."""
    files = {"a.ctm": "r 1 0 1 on 0.1\n", "b.ctm": "r 1 0 1 on 0.8\n", "c.ctm": "r 1 0 1 in 0.9\n"}
    for method, word in (("confidence", "in"), ("maximum", "on")):
        rover(files, "--out", "out.txt", "--method", method)
        assert Path("out.txt").read_text(encoding="utf-8") == f"r {word}\n"


def test_words_with_times_are_voted_on_segment_by_segment(rover: Run, tmp_path: Path) -> None:
    """One recording, of which a segment each; what comes out has the segments' ids."""
    files = {
        f"{name}.ctm": f"r 1 0.5 1 {word} 0.5\nr 1 3 1 b 0.5\n" for name, word in (("x", "a"), ("y", "a"), ("z", "c"))
    }
    (tmp_path / "ref.stm").write_text("r 1 s 0 2 a\nr 1 s 2 5 b\n", encoding="utf-8")
    _, errors, code = rover(files, "--segments", "ref.stm", "--out", "out.txt")
    assert not code, errors
    heard, said = read_transcripts(Path("out.txt")), read_transcripts(Path("ref.stm"))
    assert {name: heard[name].text for name in heard} == {name: said[name].text for name in said}


SPELT = {
    "a.txt": "u1 Hello Word\nu2 no\n",
    "b.txt": "u1 hello, world\nu2 no\n",
    "c.txt": "u1 hello World,\nu2 No.\n",
}


def test_what_is_spelt_in_several_ways_is_one_word_where_steps_say_so(rover: Run) -> None:
    said, _, code = rover(SPELT, "--out", "out.txt", "--normalize", "case, punctuation")
    assert not code
    assert "warning" not in said
    assert Path("out.txt").read_text(encoding="utf-8") == "u1 hello world\nu2 no\n"


@pytest.mark.parametrize(
    ("options", "places", "advised"),
    [((), "3 places", "case,punctuation"), (("--normalize", "punctuation"), "3 places", "punctuation,case")],
)
def test_votes_that_spelling_parts_are_told(rover: Run, options: tuple[str, ...], places: str, advised: str) -> None:
    said, _, code = rover(SPELT, "--out", "out.txt", *options)
    assert not code
    (warning,) = [line for line in said.splitlines() if line.startswith("warning")]
    assert f"{places} where words differ in case or punctuation only, such as 'Hello' and 'hello" in warning
    assert f"--normalize {advised} counts" in warning


def test_nothing_is_told_of_words_that_are_others(rover: Run) -> None:
    said, _, _ = rover({"a.txt": "u1 yes a\n", "b.txt": "u1 no a\n"}, "--out", "out.txt")
    assert "warning" not in said


def test_a_normalised_word_keeps_its_confidence() -> None:
    words = [
        Reading("(Door", 0.1),
        Reading("slams)", 0.2),
        Reading("Take", 0.3),
        Reading("21", 0.4),
        Reading("uh", 0.5),
    ]
    steps = ["case", "brackets", "fillers-en", "numbers-en"]
    assert [reading[:2] for reading in normalised(words, normalizer(steps))] == [
        ("take", 0.3),
        ("twenty", 0.4),
        ("one", 0.4),
    ]
    assert normalised([Reading("uh")], normalizer(steps)) == normalised([], normalizer(steps)) == []


def test_confidences_are_those_of_the_words_before_the_steps(rover: Run) -> None:
    """The list has a number for each word of the file, of which the steps leave fewer."""
    files = {
        "a.jsonl": '{"id": "u", "text": "Uh, On", "confidence": [0.9, 0.2]}\n',
        "b.jsonl": '{"id": "u", "text": "in", "confidence": 0.8}\n',
    }
    _, errors, _ = rover(files, "--out", "out.txt", "--method", "confidence", "--normalize", "fillers-en,case")
    assert not errors
    assert Path("out.txt").read_text(encoding="utf-8") == "u in\n"


@pytest.mark.parametrize(
    ("files", "options", "told"),
    [
        ({"a.txt": "u yes\n", "b.txt": "u yes\n"}, ("--normalize", "cases"), "did you mean 'case'?"),
        ({"a.txt": "u yes\n"}, (), "two files of transcripts or more"),
        ({"a.txt": "u yes\n", "b.txt": "v yes\n"}, (), "b.txt: no utterance in common"),
        ({"a.txt": "u yes\n", "b.txt": "u yes\n"}, ("--method", "vote"), "did you mean 'votes'?"),
        (
            {"a.txt": "u yes\n", "b.txt": "u yes\n"},
            ("--method", "confidence"),
            "a.txt: utterance 'u': expected a column 'confidence'",
        ),
        ({"a.txt": "u yes\n", "b.txt": "u yes\n"}, ("--out", "x.csv"), "x.csv: transcripts are written as .txt"),
        ({"a.txt": "u yes\n", "b.txt": "u no\n"}, ("--out", "./b.txt"), "b.txt: this file is read too"),
        ({"a.txt": "u yes\n", "b.txt": "u no\n"}, ("b/../a.txt",), "the same file stands twice"),
        (
            {"a.txt": "u yes\n", "b.txt": "u no\n"},
            ("--alpha", "0.5"),
            "--alpha 0.5: only --method confidence and maximum weigh",
        ),
        (
            {"a.txt": "u yes\n", "b.txt": "u no\n"},
            ("--null-confidence", "1"),
            "--null-confidence 1.0: only --method confidence and maximum weigh",
        ),
        ({"a.txt": "u yes\n", "b.txt": "u no\n"}, ("--segments", "a.txt"), "--segments a.txt: only the words of a ctm"),
    ],
)
def test_what_cannot_be_combined_is_one_line(
    rover: Run, files: dict[str, str], options: tuple[str, ...], told: str
) -> None:
    _, errors, code = rover(files, "--out", "out.txt", *options)
    assert code == 2
    (line,) = errors.splitlines()
    assert told in line
    assert not Path("out.txt").exists()


@pytest.mark.parametrize("name", ["two words", "", "a(b"])
def test_an_id_that_a_form_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    for suffix in ("txt", "trn"):
        with pytest.raises(ScoringError, match="cannot hold the id"):
            write_transcripts(tmp_path / f"out.{suffix}", [(name, [Reading("text")])])
    write_transcripts(tmp_path / "out.jsonl", [(name, [Reading("text")])])
    assert read_transcripts(tmp_path / "out.jsonl")[name].text == "text"


def test_a_text_that_would_be_read_as_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"braces are alternatives, and 'u' has one; write \.jsonl"):
        write_transcripts(tmp_path / "out.trn", [("u", [Reading("hello"), Reading("{x}")])])
    write_transcripts(tmp_path / "out.txt", [("u", [Reading("hello"), Reading("{x}")])])
    assert read_transcripts(tmp_path / "out.txt")["u"].text == "hello {x}"


TIMED = {
    "a.ctm": "r A 0.50 0.20 turn 0.9\nr A 0.80 0.10 of 0.2\nr A 3.00 0.40 yes 0.5\n",
    "b.ctm": "r A 0.52 0.20 turn 0.7\nr A 0.82 0.12 on 0.8\nr A 3.02 0.40 yes 0.5\n",
    "c.ctm": "r A 0.54 0.20 turn 0.5\nr A 0.84 0.14 on 0.6\n",
}


@pytest.mark.parametrize(
    ("options", "confidences"),
    [
        # The share of the systems that have the word.
        ((), ("1.0000", "0.6667", "0.6667")),
        # (0.9 + 0.7 + 0.5) / 3, (0.8 + 0.6 + 0) / 3 and (0.5 + 0.5 + 0) / 3, whatever won the vote.
        (("--method", "confidence"), ("0.7000", "0.4667", "0.3333")),
        (("--method", "maximum", "--alpha", "0.9"), ("0.7000", "0.4667", "0.3333")),
    ],
)
@pytest.mark.parametrize("segmented", [False, True])
def test_a_ctm_has_the_time_of_the_first_that_has_the_word_and_the_confidence_of_all(
    rover: Run, tmp_path: Path, options: tuple[str, ...], confidences: tuple[str, ...], segmented: bool
) -> None:
    (tmp_path / "ref.stm").write_text("r A s 0 2 turn on\nr A s 2 5 yes\n", encoding="utf-8")
    _, errors, code = rover(TIMED, "--out", "out.ctm", *options, *(("--segments", "ref.stm") if segmented else ()))
    assert not code, errors
    words = ("r A 0.500 0.200 turn", "r A 0.820 0.120 on", "r A 3.000 0.400 yes")
    lines = Path("out.ctm").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{word} {confidence}" for word, confidence in zip(words, confidences, strict=True)]


@pytest.mark.parametrize("options", [(), ("--method", "confidence")])
def test_a_ctm_without_a_line_has_heard_nothing(rover: Run, options: tuple[str, ...]) -> None:
    """As the jsonl of the same recognisers has it: one of three who heard something is outvoted."""
    both = "r 1 0.0 0.2 yes 0.9\n"
    files = {"a.ctm": both, "b.ctm": both + "s 1 0.0 0.2 e 0.3\n", "c.ctm": both}
    said, errors, code = rover(files, "--out", "out.ctm", *options)
    assert not code, errors
    assert "a.ctm: nothing heard in 1 of 2 utterances: 's'" in said
    assert Path("out.ctm").read_text(encoding="utf-8") == "r 1 0.000 0.200 yes " + (
        "0.9000\n" if options else "1.0000\n"
    )


def test_ids_that_are_one_in_a_ctm_are_refused(rover: Run) -> None:
    files = {
        "a.ctm": "u_1 1 0.0 0.2 yes 0.9\n",
        "b.jsonl": '{"id": "u 1", "text": "no"}\n{"id": "u_1", "text": "yes"}\n',
    }
    for options in ((), ("--segments", "b.jsonl")):
        _, errors, code = rover(files, "--out", "out.jsonl", *options)
        assert code == 2
        assert "'u 1' and 'u_1' are one id in a ctm, which has underscores for spaces; rename one" in errors
    assert not rover({"a.txt": "u_1 yes\n", "b.jsonl": files["b.jsonl"]}, "--out", "out.jsonl")[2]


def test_a_ctm_without_any_line_votes_for_silence_everywhere(rover: Run) -> None:
    files = {"a.ctm": "", "b.ctm": "r 1 0.0 0.2 yes 0.9\ns 1 0.0 0.2 e 0.3\n", "c.ctm": "r 1 0.0 0.2 yes 0.9\n"}
    said, errors, code = rover(files, "--out", "out.jsonl")
    assert not code, errors
    assert "a.ctm: nothing heard in 2 of 2 utterances: 'r', 's'" in said
    assert {name: each.text for name, each in read_transcripts(Path("out.jsonl")).items()} == {"r": "yes", "s": ""}
    _, errors, code = rover({"a.ctm": "", "b.ctm": ";; as well\n"}, "--out", "out.jsonl")
    assert code == 2
    assert "'a.ctm', 'b.ctm': expected words in one of these files at least, found none" in errors


def test_what_is_written_in_no_known_form_is_refused(rover: Run) -> None:
    _, errors, code = rover({"a.txt": "u yes\n", "b.txt": "u no\n"}, "--out", "out.jsnl")
    assert code == 2
    assert "out.jsnl: transcripts are written as .txt (lines), .trn, .jsonl or .ctm, not as jsnl" in errors


@pytest.mark.parametrize("out", ["out.ctm", "out.jsonl"])
def test_what_was_voted_on_is_voted_on_again(rover: Run, out: str) -> None:
    """The confidences that are written are read, one for each word."""
    rover(TIMED, "--out", out, "--method", "confidence")
    words = confident_readings(read_transcripts(Path(out))["r"], where="")
    assert [reading[:2] for reading in words] == [("turn", 0.7), ("on", 0.4667), ("yes", 0.3333)]
    said, errors, code = rover({}, out, "a.ctm", "--out", "again.jsonl", "--method", "confidence")
    assert not code, errors
    assert "1 utterance, by confidence of 2 files" in said


def test_lines_of_a_ctm_are_sorted_as_tools_of_nist_ask_for(rover: Run) -> None:
    content = "s 1 5 1 d\nr B 0 1 b\nr A 4 1 c\nr A 0.2 1 a\n"
    rover({"a.ctm": content, "b.ctm": content}, "--out", "out.ctm")
    assert [line.split()[:3] for line in Path("out.ctm").read_text(encoding="utf-8").splitlines()] == [
        ["r", "A", "0.200"],
        ["r", "A", "4.000"],
        ["r", "B", "0.000"],
        ["s", "1", "5.000"],
    ]


def test_channels_of_a_recording_are_voted_on_apart(rover: Run) -> None:
    """As two people's words at one time are not one sentence: what all have heard in a channel stays, in any order."""
    one, two = "r {} {} 0.3 oh\nr {} {} 0.3 yes\n", "r {} {} 0.3 no\nr {} {} 0.3 please\n"
    files = {
        "a.ctm": one.format("1", 0, "1", 0.3) + two.format("2", 0.62, "2", 0.92),
        "b.ctm": two.format("2", 0, "2", 0.3) + one.format("1", 0.62, "1", 0.92),
        "c.ctm": one.format("A", 0, "A", 0.4) + two.format("B", 0.2, "B", 0.62),
    }
    said, errors, code = rover(files, "--out", "out.ctm")
    assert (code, errors) == (0, "")
    assert "2 utterances" in said
    lines = [line.split() for line in Path("out.ctm").read_text(encoding="utf-8").splitlines()]
    assert [(line[1], *line[4:]) for line in lines] == [
        *(("1", word, "1.0000") for word in ("oh", "yes")),
        *(("2", word, "1.0000") for word in ("no", "please")),
    ]


def test_a_recording_that_is_called_as_a_channel_of_another_is_not_lost(rover: Run) -> None:
    content = "r 2 0 0.3 yes\nr-2 1 0 0.3 no\n"
    _, errors, code = rover({"a.ctm": content, "b.ctm": content}, "--out", "out.ctm")
    assert code == 2
    assert "a.ctm: 'r-2' is a recording, and a channel of another that would be called so; rename it" in errors


def test_json_with_words_and_times_becomes_a_ctm(rover: Run) -> None:
    record = {
        "id": "u",
        "text": "at a",
        "words": [{"word": "at", "start": 0.12, "end": 0.24}, {"word": "a", "start": 0.36, "end": 0.38}],
    }
    rover({"a.jsonl": json.dumps(record), "b.ctm": "u 1 0.1 0.1 at\n"}, "--out", "out.ctm")
    assert Path("out.ctm").read_text(encoding="utf-8") == "u 1 0.120 0.120 at 1.0000\nu 1 0.360 0.020 a 0.5000\n"


@pytest.mark.parametrize(
    "words",
    [None, "at", [], [{"word": "at"}], [{"word": "a", "start": 0, "end": 1}], [{"word": "at", "start": 1, "end": 0.5}]],
)
def test_a_ctm_of_words_without_times_is_refused(rover: Run, words: object) -> None:
    """Such words are no mistake of a file that has nothing to do with times."""
    files = {"a.ctm": "u 1 0 1 at\n", "b.jsonl": json.dumps({"id": "u", "text": "at", "words": words})}
    _, errors, code = rover(files, "--out", "out.ctm")
    assert code == 2
    (line,) = errors.splitlines()
    assert "b.jsonl: utterance 'u': expected words with times for a ctm, found none; take files that have them" in line
    assert not Path("out.ctm").exists()
    assert not rover({}, "a.ctm", "b.jsonl", "--out", "out.txt")[2]


def test_times_in_several_recordings_are_not_mixed(tmp_path: Path) -> None:
    words = [Reading("a", time=WordTime("r", "1", 0, 1)), Reading("b", time=WordTime("r-1-0-2", "1", 1, 1))]
    with pytest.raises(ScoringError, match=r"in 'u' are those of several recordings, 'r', 'r-1-0-2'; expected"):
        write_transcripts(tmp_path / "out.ctm", [("u", words)])
    with pytest.raises(ScoringError, match=r"'u' has words without; write \.jsonl"):
        write_transcripts(tmp_path / "out.ctm", [("u", [*words[:1], Reading("b")])])
    spaced = [Reading("a", time=WordTime("two words", "1", 0, 1))]
    with pytest.raises(ScoringError, match="the form 'ctm' cannot hold the id 'two words'"):
        write_transcripts(tmp_path / "out.ctm", [("two words", spaced)])


def test_words_that_steps_make_of_one_share_its_time(rover: Run) -> None:
    files = dict.fromkeys(("a.ctm", "b.ctm"), "u 1 1.0 0.6 21 0.8\nu 1 2.0 0.5 uh 0.8\n")
    rover(files, "--out", "out.ctm", "--normalize", "fillers-en,numbers-en", "--method", "confidence")
    lines = Path("out.ctm").read_text(encoding="utf-8").splitlines()
    assert lines == ["u 1 1.000 0.300 twenty 0.8000", "u 1 1.300 0.300 one 0.8000"]


def test_nothing_is_a_weight_too(rover: Run) -> None:
    files = {"a.ctm": "r 1 0 1 on 0.5\n", "b.ctm": "r 1 0 1 on 0.5\n", "c.ctm": "r 1 0 1 in 0.6\n"}
    for alpha, word in (("0.5", "on"), ("0", "in")):
        rover(files, "--out", "out.txt", "--method", "confidence", "--alpha", alpha)
        assert read_transcripts(Path("out.txt"))["r"].text == word
