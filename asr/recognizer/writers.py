"""The forms in which transcripts are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from asr.recognizer.recognizer import Recognized

TranscriptWriter = Callable[[Recognized, float], str]


def as_text(recognized: Recognized, seconds_per_frame: float) -> str:
    """One line: the file's name, a tab, the text."""
    return f"{recognized.id}\t{recognized.best.text}"


def as_json(recognized: Recognized, seconds_per_frame: float) -> str:
    """One JSON object on one line: id, audio, seconds, text, score, tokens with times, and further readings if any.

    Where several models were averaged, also how many.

    The id is the file's stem, as most corpora name their utterances, so that `asr score` finds the reference.
    """
    best, *others = recognized.hypotheses
    record: dict[str, object] = {
        "id": Path(recognized.id).stem,
        "audio": recognized.id,
        "seconds": round(recognized.seconds, 3),
        "text": best.text,
        "score": round(best.score, 4),
        "token_times": [round(frame * seconds_per_frame, 3) for frame in best.frames],
        "tokens": list(best.tokens),
    }
    if recognized.models > 1:
        record["models"] = recognized.models
    if others:
        record["alternatives"] = [{"text": other.text, "score": round(other.score, 4)} for other in others]
    return json.dumps(record, ensure_ascii=False)


FORMATS: dict[str, TranscriptWriter] = {"txt": as_text, "json": as_json}
