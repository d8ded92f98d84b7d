"""What an inspection leaves in a folder: pictures, a page that holds them all, and the numbers as JSON."""

from __future__ import annotations

import base64
import html
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr import __version__
from asr.atomic import write_bytes, write_text
from asr.inspection.drawing import Picture
from asr.inspection.subject import Subject
from asr.report.static import card, note, static_page, table

_STYLE = Path(__file__).parent / "inspect.css"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one kind of inspection found.

    Attributes:
        kind: names the files: "gates", "gradients" or "saliency".
        question: what it answers.
        explanation: paragraphs that say how it is computed and read.
        columns: heads of the table.
        rows: of the table, in text.
        table_note: what the columns mean.
        pictures: the pictures.
        record: the numbers, for JSON.
        warning: what speaks against relying on them, "" if nothing.
    """

    kind: str
    question: str
    explanation: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    table_note: str
    pictures: tuple[Picture, ...]
    record: dict[str, Any]
    warning: str = ""


def default_folder(parent: Path, audio: Path, model: Path) -> Path:
    """The folder below `parent` for what is found of `audio` in `model`, called by the name of the sound.

    Where other sound of that name, or another model, has left something there, it is one with a CRC in its name.
    """
    folder, source = parent / audio.stem, _source(audio, model)
    for path in folder.glob("*.json"):
        try:
            left_by = json.loads(path.read_text(encoding="utf-8")).get("source", source)
        except (OSError, ValueError, AttributeError):
            left_by = ""  # nothing of an inspection
        if left_by != source:
            return folder.with_name(f"{folder.name}-{source}")
    return folder


def _source(audio: Path, model: Path) -> str:
    """What tells findings of `audio` in `model` from those of other files: a CRC of their paths."""
    paths = (os.fsencode(os.path.realpath(path)) for path in (audio, model))
    return f"{zlib.crc32(bytes(1).join(paths)):08x}"


def write_finding(folder: Path, subject: Subject, model: Path, finding: Finding) -> Path:
    """The page, written into `folder` beside the pictures (by day) and the numbers; `model` is the file of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in finding.pictures:
        write_bytes(folder / f"{picture.name}.png", picture.day)
    record = {
        "audio": subject.name,
        "model": str(model),
        "source": _source(subject.audio, model),
        "cell": subject.model.config.encoder.cell,
        "seconds": round(subject.seconds, 3),
        "frame_seconds": subject.frame_seconds,
        "recognised": subject.heard,
        "text": subject.text,
        "tokens": [
            {"number": number, "token": piece, "seconds": round(time, 3)}
            for number, (piece, time) in enumerate(zip(subject.pieces, subject.times, strict=True), start=1)
        ],
        **finding.record,
    }
    write_text(folder / f"{finding.kind}.json", json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    page = folder / f"{finding.kind}.html"
    write_text(page, _page(subject, model, finding))
    return page


def _page(subject: Subject, model: Path, finding: Finding) -> str:
    encoder = subject.model.config.encoder
    directions = "both directions" if encoder.bidirectional else "forward only"
    facts = (
        f"Model {model}: {encoder.num_layers} x {encoder.cell} {encoder.hidden_size}, {directions}; "
        f"{subject.seconds:.2f} s of sound, {1000 * subject.frame_seconds:g} ms per frame"
    )
    text = f"Recognised: <b>{html.escape(subject.heard) or '(nothing)'}</b>"
    if subject.text != subject.heard:
        text += f"<br>Looked at: <b>{html.escape(subject.text)}</b>"
    rows = ([html.escape(cell) for cell in row] for row in finding.rows)
    warning = f" Warning: {finding.warning}." if finding.warning else ""
    cards = (
        card(subject.name, note(facts), f"<p>{text}</p>", wide=True),
        card(finding.question, *(f"<p>{html.escape(paragraph)}</p>" for paragraph in finding.explanation), wide=True),
        card(
            "In numbers",
            table(finding.columns, rows, numbers=range(1, len(finding.columns))),
            note(finding.table_note + warning),
            wide=True,
        ),
        *map(_figure, finding.pictures),
        f'<p class="footer">Written by bigru-asr {__version__}. Everything is in this file; nothing is loaded.</p>',
    )
    title = f"{finding.kind.capitalize()} of {subject.name}"
    return static_page(title=title, body="\n".join(cards), style=_STYLE.read_text(encoding="utf-8"))


def _figure(picture: Picture) -> str:
    day, night = (
        f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" for png in (picture.day, picture.night)
    )
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure class="card {"small" if picture.small else "wide"}"><h2>{html.escape(picture.title)}</h2>{caption}'
        f'<div class="scroll"><picture><source media="(prefers-color-scheme: dark)" srcset="{night}">'
        f'<img src="{day}" width="{picture.width}" height="{picture.height}" alt="{html.escape(picture.title)}">'
        "</picture></div></figure>"
    )
