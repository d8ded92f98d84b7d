"""The forms in which transcripts are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from itertools import pairwise

from asr.recognizer.recognized import Recognized
from asr.recognizer.words import Word

TranscriptWriter = Callable[[Recognized, float], str]

# Subtitles are as long as a line of a television's screen, and change where nobody speaks for so long.
_SUBTITLE_LETTERS = 42
_PAUSE_SECONDS = 0.8


def recording_id(utterance_id: str, format: str) -> str:
    """What an utterance is called in `format`: its id; a word of ctm has no spaces."""
    return "_".join(utterance_id.split()) if format == "ctm" else utterance_id


def as_text(recognized: Recognized, seconds_per_frame: float) -> str:
    """One line: the file as it was named, or the id of what came from none, a tab, the text."""
    return f"{recognized.audio or recognized.id}\t{recognized.best.text}"


def as_json(recognized: Recognized, seconds_per_frame: float) -> str:
    """One JSON object on one line.

    It holds id, audio, seconds, text, score; the words with their times in seconds, and how sure each is (`confidence`, from
    0 to 1, which `asr rover` weighs); the tokens with theirs; and further readings and the number of models, if there are
    several.

    `audio` is the file as it was named. The id is such that `asr score` finds the reference.
    """
    best, *others = recognized.hypotheses
    record: dict[str, object] = {
        "id": recording_id(recognized.id, "json"),
        "audio": recognized.audio,
        "seconds": round(recognized.seconds, 3),
        "text": best.text,
        "score": round(best.score, 4),
        "words": [
            {"word": word.text, "start": round(start, 3), "end": round(end, 3)}
            for word, start, end in timed_words(recognized, seconds_per_frame)
        ],
        "confidence": [round(word.confidence, 4) for word in recognized.words],
        "tokens": list(recognized.pieces),
        "token_times": [round(frame * seconds_per_frame, 3) for frame in best.frames],
    }
    if recognized.models > 1:
        record["models"] = recognized.models
    if others:
        record["alternatives"] = [{"text": other.text, "score": round(other.score, 4)} for other in others]
    return json.dumps(record, ensure_ascii=False)


def as_ctm(recognized: Recognized, seconds_per_frame: float) -> str:
    """NIST's form: a line `recording channel start duration word confidence` for each word."""
    name = recording_id(recognized.id, "ctm")
    return "\n".join(
        f"{name} 1 {start:.3f} {end - start:.3f} {word.text} {word.confidence:.4f}"
        for word, start, end in timed_words(recognized, seconds_per_frame)
    )


def as_srt(recognized: Recognized, seconds_per_frame: float) -> str:
    """Subtitles (SubRip) of one recording: some words at a time, a new line where the speaker pauses."""
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_subtitles(recognized, seconds_per_frame), start=1)
    )


def as_vtt(recognized: Recognized, seconds_per_frame: float) -> str:
    """Subtitles for the web (WebVTT) of one recording, with the lines of `as_srt`."""
    lines = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{escape(text, quote=False)}\n"
        for start, end, text in _subtitles(recognized, seconds_per_frame)
    )
    return "\n".join(["WEBVTT\n", *lines])


def _subtitles(recognized: Recognized, seconds_per_frame: float) -> list[tuple[float, float, str]]:
    """Seconds at which each line of subtitles begins and ends, and its text."""
    lines: list[list[tuple[Word, float, float]]] = []
    for timed in timed_words(recognized, seconds_per_frame):
        before = lines[-1][-1] if lines else None
        is_pause = before is None or timed[1] - before[2] > _PAUSE_SECONDS
        if is_pause or sum(len(word.text) + 1 for word, _, _ in lines[-1]) + len(timed[0].text) > _SUBTITLE_LETTERS:
            lines.append([])
        lines[-1].append(timed)
    # A word in the last frame may begin where the recording ends, and a line that lasts no time is none.
    return [
        (line[0][1], max(line[-1][2], line[0][1] + 0.001), " ".join(word.text for word, _, _ in line)) for line in lines
    ]


def timed_words(recognized: Recognized, seconds_per_frame: float) -> list[tuple[Word, float, float]]:
    """Each word of the best reading with the seconds at which it begins and ends, the next one's beginning at the latest."""
    words = recognized.words
    # Where a recording was cut, the frame in which a piece ends is the one in which the next begins.
    ends = [min(word.last_frame + 1, after.first_frame) for word, after in pairwise(words)]
    ends += [word.last_frame + 1 for word in words[-1:]]
    return [
        (word, word.first_frame * seconds_per_frame, min(end * seconds_per_frame, recognized.seconds))
        for word, end in zip(words, ends, strict=True)
    ]


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


FORMATS: dict[str, TranscriptWriter] = {
    "txt": as_text, "json": as_json, "ctm": as_ctm, "srt": as_srt, "vtt": as_vtt,
}  # fmt: skip
