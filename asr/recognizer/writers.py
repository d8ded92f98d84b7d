"""The forms in which transcripts are written."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterable
from html import escape
from itertools import pairwise

from asr.recognizer.recognized import Recognized
from asr.recognizer.words import Word

TranscriptWriter = Callable[[Recognized, float], str]
_TimedWord = tuple[Word, float, float]

# Subtitles have two lines as long as those of a television's screen, change where nobody speaks for so long, and stay for so
# long where nothing else is said.
_LINE_LETTERS = 42
_MOST_LINES = 2
_PAUSE_SECONDS = 0.8
_LEAST_SECONDS = 1.0


def recording_id(utterance_id: str, format: str) -> str:
    """What an utterance is called in `format`: its id; a word of ctm has no spaces."""
    return "_".join(utterance_id.split()) if format == "ctm" else utterance_id


def with_channel(name: str, channel: int | None) -> str:
    """`name`, behind which the number of a channel stands, if one was chosen.

    Example:
        >>> with_channel("call", 2), with_channel("call", None)
        ('call-2', 'call')
    """
    return name if channel is None else f"{name}-{channel}"


def as_text(recognized: Recognized, seconds_per_frame: float) -> str:
    """One line: the file as it was named, or the id of what came from none, and the channel; a tab, the text."""
    return f"{with_channel(recognized.audio or recognized.id, recognized.channel)}\t{recognized.best.text}"


def as_json(recognized: Recognized, seconds_per_frame: float) -> str:
    """One JSON object on one line.

    It holds id, audio, seconds, text, score; the words with their times in seconds, and how sure each is (`confidence`, from
    0 to 1, which `asr rover` weighs); the tokens with theirs; and further readings and the number of models, if there are
    several.

    `audio` is the file as it was named. The id is such that `asr score` finds the reference.
    """
    best, *others = recognized.hypotheses
    record: dict[str, object] = {
        "id": recording_id(with_channel(recognized.id, recognized.channel), "json"),
        "audio": recognized.audio,
        **({} if recognized.channel is None else {"channel": recognized.channel}),
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
        f"{name} {recognized.channel or 1} {start:.3f} {end - start:.3f} {word.text} {word.confidence:.4f}"
        for word, start, end in timed_words(recognized, seconds_per_frame)
    )


def as_srt(recognized: Recognized, seconds_per_frame: float) -> str:
    """Subtitles (SubRip) of one recording: up to two lines at a time, new ones where the speaker pauses."""
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_subtitles(recognized, seconds_per_frame), start=1)
    )


def as_vtt(recognized: Recognized, seconds_per_frame: float) -> str:
    """Subtitles for the web (WebVTT) of one recording, with the texts and times of `as_srt`."""
    lines = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{escape(text, quote=False)}\n"
        for start, end, text in _subtitles(recognized, seconds_per_frame)
    )
    return "\n".join(["WEBVTT\n", *lines])


def _subtitles(recognized: Recognized, seconds_per_frame: float) -> list[tuple[float, float, str]]:
    """Seconds at which each subtitle begins and ends, and its text of one line or two."""
    phrases: list[list[_TimedWord]] = []
    for timed in timed_words(recognized, seconds_per_frame):
        if not phrases or timed[1] - phrases[-1][-1][2] > _PAUSE_SECONDS:
            phrases.append([])
        phrases[-1].append(timed)
    parts = [part for phrase in phrases for part in _even_parts(phrase)]
    starts = [part[0][1] for part in parts]
    limits = [*starts, recognized.seconds][1:]
    return [
        # A word in the last frame may begin where the recording ends, and a subtitle that lasts no time is none.
        (
            start,
            max(part[-1][2], min(start + _LEAST_SECONDS, limit), start + 0.001),
            "\n".join(_even_lines(_text(part))),
        )
        for part, start, limit in zip(parts, starts, limits, strict=True)
    ]


def _even_parts(phrase: list[_TimedWord]) -> list[list[_TimedWord]]:
    """`phrase` in as few parts as fit into subtitles, about as long as each other, so that no word stands alone."""
    text = _text(phrase)
    letters = len(text) / math.ceil(len(_lines(text, _LINE_LETTERS)) / _MOST_LINES)
    parts: list[list[_TimedWord]] = [[]]
    done = 0
    for timed in phrase:
        before, done = done, done + len(timed[0].text) + 1
        # Nearer to where this part should end without the word than with it.
        is_even = 2 * letters * len(parts) < before + done
        is_full = len(_lines(_text([*parts[-1], timed]), _LINE_LETTERS)) > _MOST_LINES
        if parts[-1] and (is_even or is_full):
            parts.append([])
        parts[-1].append(timed)
    return parts


def _even_lines(text: str) -> list[str]:
    """`text` in as few lines as it takes, of which the longest is as short as can be."""
    fewest = len(_lines(text, _LINE_LETTERS))
    return next(lines for width in range(1, _LINE_LETTERS + 1) if len(lines := _lines(text, width)) <= fewest)


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _text(words: Iterable[_TimedWord]) -> str:
    return " ".join(word.text for word, _, _ in words)


def timed_words(recognized: Recognized, seconds_per_frame: float) -> list[_TimedWord]:
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
