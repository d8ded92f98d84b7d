"""A small report with everything in it: two systems over one subset, another subset, sound inside and beside, traps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from asr.audio import encode_for_browser
from asr.report import Recording, System, UtteranceDetails, write_report
from asr.scoring import UtteranceScore, score_utterance, summarize

RATE = 8000
PIECES = ("<blank>", "▁", *"abcdefghijklmnopqrstuvwxyz'<>/")
FRAME_SECONDS = 0.04
TRAP = "<script>window.trapped=1</script><img src=x onerror=window.trapped=2>"

# id, speaker, seconds, what was said, what the first and the second system heard.
ROWS = (
    ("a-1", "anna", 1.0, "turn on the big light", "turn off the light please", "turn on the light"),
    ("a-2", "anna", 2.0, "yes", "yes", "yes"),
    ("b-1", "bert", 3.0, "turn on the radio", "turn off the radio", "turn on the radio"),
    ("b-2", "bert", 0.5, "no no no", "no", "no no no"),
    ("c-1", 'carla\'s "café" & co', 1.5, f"{TRAP} {{{{script}}}}", "</script> <!-- &amp;", "\u2028 &"),
    ("c-2", 'carla\'s "café" & co', 1.2, "", "hm", ""),
)


def tone(seconds: float = 1.0) -> np.ndarray:
    """A quiet tone of 440 Hz."""
    return (0.1 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def details_of(score: UtteranceScore, audio: Path | bytes | None) -> UtteranceDetails:
    """A token in every second frame, a picture that brightens, likely tokens beside each."""
    spelt = tuple(
        PIECES.index(letter if letter != " " else "▁")
        for letter in score.hypothesis
        if letter in PIECES or letter == " "
    )
    num_frames = max(round((score.seconds or 1) / FRAME_SECONDS), 2 * len(spelt), 1)
    tokens = np.tile(np.array([2, 3], np.uint16), (num_frames, 1))
    probabilities = np.tile(np.array([60, 0], np.uint8), (num_frames, 1))
    for position, token in enumerate(spelt):
        tokens[2 * position, 0], probabilities[2 * position, 0] = token, 230
    recording = Recording(
        audio=audio,
        envelope=np.linspace(0, 255, 2 * num_frames).astype(np.uint8),
        picture=np.linspace(0, 63, 40 * num_frames).reshape(40, num_frames).astype(np.uint8),
        column_seconds=FRAME_SECONDS,
        blank=(250 - probabilities[:, 0]).astype(np.uint8),
        tokens=tokens,
        probabilities=probabilities,
        frame_seconds=FRAME_SECONDS,
    )
    frames = tuple(2 * position for position in range(len(spelt)))
    return UtteranceDetails(tokens=spelt, frames=frames, probabilities=(0.9,) * len(spelt), recording=recording)


def systems_in(folder: Path) -> list[System]:
    """The systems; `a-1` carries its sound, that of `a-2` lies beside, in a file with an odd name."""
    beside = folder / "sound #1 ä?.wav"
    soundfile.write(beside, tone(2.0), RATE)
    audio = {"a-1": encode_for_browser(tone(1.0), RATE), "a-2": beside}
    systems = []
    for number, name in enumerate(("first", "second")):
        scores = [
            score_utterance(id=row[0], speaker=row[1], seconds=row[2], reference=row[3], hypothesis=row[4 + number])
            for row in ROWS
        ]
        result = summarize(scores, subset="test", decoder=name)
        details = {score.id: details_of(score, audio.get(score.id)) for score in scores}
        systems.append(System(name=name, result=result, scores=scores, details=details, pieces=PIECES))
    other = [score_utterance(id="z-1", reference="good morning", hypothesis="good evening")]
    systems.append(System(name="first", result=summarize(other, subset="other", decoder="first"), scores=other))
    return systems


def report_in(folder: Path) -> Path:
    """The report of `systems_in(folder)`."""
    path = folder / "report.html"
    metrics = folder / "metrics.jsonl"
    lines = [
        f'{{"kind": "validation", "update": {epoch}, "epoch": {epoch}, "train_loss": {3 / epoch}, "loss": {2 / epoch}, '
        f'"wer": {1 / epoch}}}\n'
        for epoch in range(1, 9)
    ]
    metrics.write_text("".join(lines), encoding="utf-8")
    write_report(
        path,
        title=f"A report {TRAP}",
        systems=systems_in(folder),
        comparisons=[f"second is better than first {TRAP}"],
        notes=["lower case"],
        metrics=metrics,
    )
    return path
