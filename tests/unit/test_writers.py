"""Transcripts as people and programs read them: words, their times, and how sure they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from asr.decoding import Hypothesis
from asr.recognizer import FORMATS, Recognized
from asr.scoring import confident_readings, read_transcripts


def recognized(pieces: str, frames: list[int], probability: float = 0.5) -> Recognized:
    """A reading of `pieces`, a letter or `▁` each, at `frames` of 40 ms."""
    text = " ".join(pieces.replace("▁", " ").split())
    reading = Hypothesis(text=text, score=-1.0, tokens=tuple(range(1, len(pieces) + 1)), frames=tuple(frames))
    return Recognized(
        id="talks/day 1",
        audio="/data/talks/day 1.flac",
        hypotheses=[reading],
        seconds=frames[-1] * 0.04 + 0.02,
        pieces=tuple(pieces),
        probabilities=(probability,) * len(pieces),
    )


def test_words_are_those_of_the_text_however_spaces_stand() -> None:
    for pieces in ("at▁a", "▁at▁a", "at▁▁a▁", "▁▁at▁a▁▁"):
        each = recognized(pieces, list(range(len(pieces))))
        assert [word.text for word in each.words] == each.best.text.split()
    assert recognized("▁", [0]).words == ()


def test_words_of_byte_pairs_begin_with_the_mark() -> None:
    each = replace(recognized("abcd", [1, 3, 4, 8]), pieces=("▁th", "e", "▁", "cat"))
    assert [(word.text, word.first_frame, word.last_frame) for word in each.words] == [("the", 1, 3), ("cat", 8, 8)]


def test_json_has_words_with_times_in_order_within_the_recording() -> None:
    record = json.loads(FORMATS["json"](recognized("at▁a", [3, 5, 6, 9]), 0.04))
    assert record["words"] == [{"word": "at", "start": 0.12, "end": 0.24}, {"word": "a", "start": 0.36, "end": 0.38}]
    assert record["confidence"] == [0.5, 0.5]
    assert (record["id"], record["audio"]) == ("talks/day 1", "/data/talks/day 1.flac")
    assert record["tokens"] == ["a", "t", "▁", "a"]
    assert record["token_times"] == [0.12, 0.2, 0.24, 0.36]


def test_no_word_lasts_into_the_next() -> None:
    """Where a recording was cut, a piece's last frame may be the first of the next piece."""
    record = json.loads(FORMATS["json"](recognized("at▁a", [3, 5, 5, 5]), 0.04))
    assert record["words"] == [{"word": "at", "start": 0.12, "end": 0.2}, {"word": "a", "start": 0.2, "end": 0.22}]


def test_a_word_is_as_sure_as_its_letters_are_in_the_mean() -> None:
    each = replace(recognized("at", [0, 1]), probabilities=(1.0, 0.0))
    assert 0 < each.words[0].confidence < 1e-10
    each = replace(recognized("at", [0, 1]), probabilities=(1.0, 0.25))
    assert each.words[0].confidence == 0.5


def test_rover_and_score_read_words_and_confidences_from_json_and_ctm(tmp_path: Path) -> None:
    each = replace(recognized("at▁a", [3, 5, 6, 9]), probabilities=(1.0, 0.25, 0.1, 0.75))
    for name, suffix, utterance in (("json", ".jsonl", "talks/day 1"), ("ctm", ".ctm", "talks/day_1")):
        path = tmp_path / f"heard{suffix}"
        path.write_text(FORMATS[name](each, 0.04) + "\n", encoding="utf-8")
        heard = read_transcripts(path)[utterance]
        words = confident_readings(heard, where="")
        assert [reading[:2] for reading in words] == [("at", 0.5), ("a", 0.75)]
        times = [reading.time for reading in words if reading.time is not None]
        assert [(time.recording, time.channel, time.start) for time in times] == [
            (utterance, "1", 0.12),
            (utterance, "1", 0.36),
        ]
        assert [round(time.duration, 3) for time in times] == [0.12, 0.02]


def test_ctm_has_a_line_per_word() -> None:
    lines = FORMATS["ctm"](recognized("at▁a", [3, 5, 6, 9]), 0.04)
    assert lines.splitlines() == ["talks/day_1 1 0.120 0.120 at 0.5000", "talks/day_1 1 0.360 0.020 a 0.5000"]
    assert FORMATS["ctm"](recognized("▁", [0]), 0.04) == ""


def subtitles(recording: Recognized) -> list[tuple[str, list[str]]]:
    """The times and the lines of each."""
    blocks = [block.splitlines() for block in FORMATS["srt"](recording, 0.04).strip().split("\n\n")]
    assert [block[0] for block in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    return [(times, lines) for _, times, *lines in blocks]


def test_subtitles_break_at_pauses_and_after_two_lines() -> None:
    words = ["speech"] * 17
    pieces = "▁".join(words)
    frames = [number + (100 if number >= len("speech▁" * 3) else 0) for number in range(len(pieces))]
    first, *others = subtitles(recognized(pieces, frames))
    # A second at least, where nothing follows so soon.
    assert first == ("00:00:00,000 --> 00:00:01,000", ["speech speech speech"])
    # Fourteen words are 97 letters: not twelve and two.
    assert [lines for _, lines in others] == [["speech speech speech speech", "speech speech speech"]] * 2
    assert others[0][0] == "00:00:04,840 --> 00:00:06,760"


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 60)), min_size=1, max_size=60))
def test_subtitles_hold_every_word_once_in_lines_that_can_be_read(spoken: list[tuple[int, int]]) -> None:
    words = [("abcdefghij" * 5)[:length] for length, _ in spoken]
    pieces, frames = "▁".join(words), []
    for word, (_, pause) in zip(words, spoken, strict=True):
        start = frames[-1] + pause if frames else 0
        frames += range(start, start + len(word) + 1)
    frames.pop()  # no space behind the last word
    found = subtitles(recognized(pieces, frames))
    assert [word for _, lines in found for line in lines for word in line.split()] == pieces.split("▁")
    assert all(len(lines) <= 2 for _, lines in found)
    assert all(len(line) <= 42 or " " not in line for _, lines in found for line in lines)
    times = [time for shown, _ in found for time in shown.split(" --> ")]
    assert times == sorted(times)


def test_subtitles_for_the_web_have_the_lines_of_the_others() -> None:
    pieces = "at▁a▁<b>&"
    each = recognized(pieces, [3, 5, 6, *range(100, 100 + len(pieces) - 3)])
    head, *blocks = FORMATS["vtt"](each, 0.04).split("\n\n")
    assert head == "WEBVTT"
    assert blocks == [
        "00:00:00.120 --> 00:00:01.120\nat",
        "00:00:04.000 --> 00:00:04.220\na &lt;b&gt;&amp;\n",
    ]
    assert FORMATS["vtt"](recognized("▁", [0]), 0.04) == "WEBVTT\n"


def test_a_word_in_the_last_frame_is_shown_for_a_moment() -> None:
    """Its frame may begin where the recording ends."""
    each = replace(recognized("a", [25]), seconds=1.0)
    assert FORMATS["vtt"](each, 0.04).split("\n\n")[-1] == "00:00:01.000 --> 00:00:01.001\na\n"
    assert "00:00:01,000 --> 00:00:01,001" in FORMATS["srt"](each, 0.04)
