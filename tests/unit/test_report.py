"""Results, the files that hold them, and transcripts of `id text` lines."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from asr.errors import AsrError, ScoringError
from asr.scoring import (
    Result,
    Transcript,
    UtteranceScore,
    count_unpaired,
    interval_note,
    read_results,
    read_transcripts,
    results_table,
    score_utterance,
    summarize,
    write_hypotheses,
    write_results,
)

PAIRS = {
    "u1": ("turn on the light", "turn on the light"),
    "u2": ("open the garage door now", "open a garage now"),
    "u3": ("yes", "no yes"),
}


def _scores(seconds: float | None = 2.0) -> list[UtteranceScore]:
    return [
        score_utterance(id=key, reference=said, hypothesis=heard, seconds=seconds)
        for key, (said, heard) in PAIRS.items()
    ]


def _result(**changes: object) -> Result:
    record = asdict(summarize(_scores(), subset="test", decoder="greedy", processing_seconds=0.3))
    return Result(**(record | changes))


def test_result_sums_counts_and_divides_once() -> None:
    result = _result()
    assert (result.substitutions, result.deletions, result.insertions) == (1, 1, 1)
    assert (result.words, result.utterances, result.resampled) == (10, 3, "utterances")
    assert result.wer == 0.3
    # e n t . h ... : "the" to "a" is one exchanged and two dropped, " door" five dropped, "no " three made up
    assert result.cer == pytest.approx((1 + 2 + 5 + 3) / (17 + 24 + 3))
    assert result.rtf == pytest.approx(0.05)
    assert result.wer_low <= result.wer <= result.wer_high
    assert result.cer_low <= result.cer <= result.cer_high


def test_order_of_utterances_changes_nothing() -> None:
    forward = summarize(_scores(), subset="test", decoder="greedy")
    assert summarize(_scores()[::-1], subset="test", decoder="greedy") == forward


@pytest.mark.parametrize(("seconds", "processing"), [(None, 1.0), (2.0, None)])
def test_no_real_time_factor_without_times(seconds: float | None, processing: float | None) -> None:
    assert summarize(_scores(seconds), subset="t", decoder="d", processing_seconds=processing).rtf is None


def test_no_real_time_factor_when_one_duration_is_unknown() -> None:
    scores = [*_scores(2.0), *_scores(None)[:1]]
    assert summarize(scores, subset="t", decoder="d", processing_seconds=1.0).rtf is None


def test_speakers_are_resampled_where_there_are_enough() -> None:
    scores = [
        score_utterance(id=f"u{i}", speaker=f"s{i % 10}", reference="a b", hypothesis="a b"[i % 3 :]) for i in range(20)
    ]
    assert summarize(scores, subset="t", decoder="d").resampled == "speakers"
    assert summarize(scores[:9], subset="t", decoder="d").resampled == "utterances"


@pytest.mark.parametrize("scores", [[], [score_utterance(id="u", reference=" ", hypothesis="made up")]])
def test_nothing_said_has_no_error_rate(scores: list[UtteranceScore]) -> None:
    with pytest.raises(ScoringError, match=rf"dev: the references of {len(scores)} utterances hold no word"):
        summarize(scores, subset="dev", decoder="greedy")


def test_a_rate_that_is_not_defined_is_null_in_a_file_of_results(tmp_path: Path) -> None:
    silence = [score_utterance(id="u", reference="", hypothesis="made up")]
    result = summarize(silence, subset="t", decoder="d", may_be_silent=True)
    write_results(tmp_path / "results.json", [result, _result()])
    (record, _), (read, other) = (
        json.loads((tmp_path / "results.json").read_text(encoding="utf-8")),
        read_results(tmp_path / "results.json"),
    )
    assert (record["wer"], record["cer_high"], record["insertions"]) == (None, None, 2)
    assert str(read) == str(result)
    assert other == _result()
    with pytest.raises(ScoringError, match="t: the references of 0 utterances"):
        summarize([], subset="t", decoder="d", may_be_silent=True)


def test_results_file_is_a_list_of_records(tmp_path: Path) -> None:
    results = [_result(), _result(subset="tést", rtf=None)]
    write_results(tmp_path / "results.json", results)
    records = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [Result(**record) for record in records] == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_results_that_are_not_numbers_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="JSON"):
        write_results(path, [_result(wer=float("inf"))])
    assert path.read_text() == "[]"


def test_hypotheses_are_listed_worst_first_and_readable(tmp_path: Path) -> None:
    odd = score_utterance(id='tab\tand "quote"', reference="a", hypothesis='"', speaker="Ödön")
    write_hypotheses(tmp_path / "h.tsv", [*_scores(), odd])
    text = (tmp_path / "h.tsv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert [row["id"] for row in rows] == ["u2", "u3", odd.id, "u1"]
    assert rows[0] == {
        "errors": "2",
        "words": "5",
        "character_errors": "8",
        "characters": "24",
        "seconds": "2.00",
        "speaker": "",
        "id": "u2",
        "differences": "open (the→a) garage (door→) now",
        "reference": "open the garage door now",
        "hypothesis": "open a garage now",
    }
    assert rows[1]["differences"] == "(→no) yes"
    assert (rows[2]["speaker"], rows[2]["seconds"]) == ("Ödön", "")


def _printed(results: list[Result], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(results_table(results))
    return stream.getvalue()


def test_table_fits_eighty_columns_with_every_number_whole() -> None:
    result = _result(
        subset="spoken_commands:unseen", wer=0.12345, wer_low=0.1, wer_high=0.1534, cer=0.05, cer_low=0.04, cer_high=0.06,
        substitutions=1234, deletions=567, insertions=89, words=12345, utterances=2620, rtf=0.0214,
    )  # fmt: skip
    lines = _printed([result], 80).splitlines()
    assert max(map(len, lines)) <= 80
    shown = "12.35 10.00-15.34 5.00 4.00-6.00 1234 567 89 12345 2620 0.021".split()
    assert lines[1].split()[2:] == shown
    assert "bootstrap over utterances" in " ".join(lines)
    assert "\x1b" not in _printed([result], 120)


def test_table_without_time() -> None:
    assert _printed([_result(), _result(rtf=None)], 100).splitlines()[2].split()[-1] == "-"


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_transcripts_of_lines(tmp_path: Path) -> None:
    content = "\ufeff84-1 HELLO  there \r\n\n84-2\n  84-3\tone\u2028line\n".encode()
    texts = {name: each.text for name, each in read_transcripts(_write(tmp_path / "t.txt", content)).items()}
    assert texts == {"84-1": "HELLO  there", "84-2": "", "84-3": "one\u2028line"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"t\.txt: expected transcripts in the form 'lines', found none"),
        (b"\n \n", r"t\.txt: expected transcripts in the form 'lines', found none"),
        (b"a x\n\nb y\na z\n", r"t\.txt:4: id 'a' stands already in line 1"),
        (b"a x\nb \xff\n", r"t\.txt:2: not UTF-8"),
        ("a x\n".encode("utf-16"), r"t\.txt:1: not UTF-8"),
    ],
)
def test_damaged_transcripts(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        read_transcripts(_write(tmp_path / "t.txt", content))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.txt", "cannot read the file: No such file"),
        ("", "no sound file with a .txt of the same name beside it; found 0 sound files and 0 texts"),
    ],
)
def test_transcripts_that_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(AsrError, match=message):
        read_transcripts(tmp_path / name)


def _transcripts(**texts: str) -> dict[str, Transcript]:
    return {name: Transcript(text=text) for name, text in texts.items()}


def test_missing_and_extra_ids_are_counted_and_named() -> None:
    references = _transcripts(**{str(number): "x" for number in range(10)})
    nine, other = _transcripts(**{"9": "x"}), _transcripts(z="x")
    with pytest.raises(
        ScoringError, match=r"9 of 10 references have no hypothesis: '0', '1', '2' and 6 more; add them"
    ):
        count_unpaired(references, nine)
    with pytest.raises(ScoringError, match="1 of 1 hypotheses have no reference: 'z'; are these"):
        count_unpaired(references, other, missing_as_empty=True)
    assert count_unpaired(references, nine, missing_as_empty=True) == (0, 9)
    assert count_unpaired(_transcripts(z="x"), _transcripts(z="y", a=""), ignore_extra=True) == (1, 0)
    with pytest.raises(ScoringError, match=r"9 of 10 .* --missing-as-empty; look here"):
        count_unpaired(references, nine, hint=lambda: "; look here")


def test_a_part_of_a_subset_is_called_that() -> None:
    score = score_utterance(id="u", speaker="s", reference="a b", hypothesis="a")
    part, whole, unknown = (summarize([score], subset="test", decoder="greedy", whole=n) for n in (2939, 1, 0))
    assert [result.is_part for result in (part, whole, unknown)] == [True, False, False]
    console = Console(width=120, file=io.StringIO())
    console.print(results_table([part]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "test (part)" in text
    assert "1 of 2939 utterances" in text


def test_a_table_of_untimed_systems_has_no_column_of_times_and_calls_them_so() -> None:
    assert "decoder" in _printed([_result()], 120)
    assert "RTF" in _printed([_result(), _result(rtf=None)], 120)
    stream = io.StringIO()
    Console(file=stream, width=120).print(results_table([_result(rtf=None)], systems="system"))
    assert stream.getvalue().split()[:2] == ["subset", "system"]
    assert "RTF" not in stream.getvalue()
    assert "decoder" not in stream.getvalue()


def test_the_note_on_intervals_says_what_was_resampled_where_and_why() -> None:
    def result(subset: str, num_speakers: int) -> Result:
        speakers = [f"s{number % num_speakers}" if num_speakers else "" for number in range(20)]
        scores = [
            score_utterance(id=str(number), speaker=speaker, reference="a b", hypothesis="a b"[number % 3 :])
            for number, speaker in enumerate(speakers)
        ]
        return summarize(scores, subset=subset, decoder="d")

    many, few, one, none = (result(f"of-{number}", number) for number in (12, 6, 1, 0))
    assert interval_note([many]) == "95 %: bootstrap over speakers."
    assert interval_note([none, none]) == "95 %: bootstrap over utterances."
    two = replace(none, utterances=2)
    assert interval_note([two]).endswith("over utterances (2 are too few, and such intervals too narrow).")
    assert interval_note([few]) == "95 %: bootstrap over utterances (6 speakers are too few to resample)."
    assert "(1 speaker is too few to resample)" in interval_note([one])
    assert [(each.speakers, each.without_speaker) for each in (many, few, none)] == [(12, 0), (6, 0), (0, 20)]
    partly = replace(many, without_speaker=3)
    assert interval_note([partly]).endswith("over speakers, and 3 of 20 utterances whose speaker is unknown.")
    assert interval_note([many, none]) == "95 %: bootstrap over speakers in of-12; utterances in of-0."


def test_the_note_on_intervals_tells_where_no_bootstrap_was_possible() -> None:
    def result(*hypotheses: str) -> Result:
        scores = [
            score_utterance(id=str(number), reference="a b", hypothesis=heard)
            for number, heard in enumerate(hypotheses)
        ]
        return summarize(scores, subset="t", decoder="d")

    certain, usual, alone = result("a b", "a b"), result("a b", "a", "a"), result("a")
    small = "3 are too few, and such intervals too narrow"
    wilson = "Wilson's interval of independent words, where all resamples agree"
    assert interval_note([certain, alone]) == f"95 %: {wilson}."
    assert interval_note([usual, certain]) == f"95 %: bootstrap over utterances ({small}); {wilson}."
    assert certain.resampled == alone.resampled == "words"


def test_a_word_too_many_is_an_utterance_with_an_error() -> None:
    scores = [score_utterance(id=heard, reference="a b", hypothesis=heard) for heard in ("a b", "a b c")]
    assert summarize(scores, subset="t", decoder="d").ser == 0.5
