"""The file itself: page, style, script and data in one, under a policy that forbids everything else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asr import __version__
from asr.atomic import write_text
from asr.report.content import Group, group_content, grouped, learning_curve
from asr.report.details import System
from asr.report.packing import pack_details
from asr.scoring import Scorecard, interval_note
from asr.training.run_log import read_metrics

_PAGE = Path(__file__).parent / "page"
# In the order in which they build on each other.
SCRIPTS = (
    "dom.js", "data.js", "recording.js", "plots.js", "overview.js", "confusions.js", "list.js", "timeline.js",
    "utterance.js", "keys.js", "main.js",
)  # fmt: skip
# `<` could end the script element or open a comment in it; U+2028 and U+2029 end a line in old JavaScript; half of a
# surrogate pair cannot be written in UTF-8.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_MEDIA_TYPES = {b"OggS": "audio/ogg", b"fLaC": "audio/flac", b"RIFF": "audio/wav"}


def write_report(
    path: Path,
    *,
    title: str,
    systems: Sequence[System],
    comparisons: Sequence[str] = (),
    notes: Sequence[str] = (),
    metrics: Path | None = None,
) -> None:
    """Write the report of `systems` to `path`: one HTML file that needs no network and no other file but referenced audio.

    Args:
        path: the file; sound files are addressed relative to its folder.
        title: what was measured.
        systems: at least one; those over the same utterances are shown side by side.
        comparisons: sentences about differences between systems, such as the outcome of a test.
        notes: sentences about how it was measured, such as what was normalised.
        metrics: the `metrics.jsonl` of the training, for the learning curve; a missing file is no curve.
    """
    groups = grouped(systems)
    content = {
        "title": title,
        "generator": f"bigru-asr {__version__}",
        "comparisons": list(comparisons),
        "notes": list(notes),
        "intervals": interval_note([system.result for system in systems]),
        "curve": [] if metrics is None else learning_curve(read_metrics(metrics.parent, "validation")),
        "groups": [group_content(group, lambda audio: _address(audio, path.parent)) for group in groups],
    }
    script = "".join((_PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    style = (_PAGE / "report.css").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(title),
        "policy": content_policy(script=script, style=style),
        "style": style,
        "content": as_script_data(content),
        "script": script,
        "details": "".join(_detail_elements(groups)),
    }
    page = (_PAGE / "report.html").read_text(encoding="utf-8")
    # In one pass: a transcript may well read `{{script}}`.
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page))


def write_scorecard_report(path: Path, card: Scorecard) -> None:
    """Write the report of transcripts that any recognisers wrote to `path`."""
    sentences = [text for each in card.comparisons for text in (each.sentence(), *each.warnings())]
    steps = ", ".join(card.normalizers) or "nothing, the texts are compared as they are"
    write_report(
        path,
        title=f"{card.systems[0].result.subset}: {', '.join(system.name for system in card.systems)}",
        systems=[System(name=each.name, result=each.result, scores=each.scores) for each in card.systems],
        comparisons=[f"{text}." for text in sentences],
        notes=[f"Normalised by: {steps}.", *(f"{note}." for note in card.notes)],
    )


def as_script_data(value: Any) -> str:
    r"""`value` as JSON that may stand inside a script element, whatever texts it holds.

    Example:
        >>> as_script_data(["</script>", "a & b"])
        '["\\u003c/script\\u003e","a \\u0026 b"]'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def content_policy(*, style: str, script: str | None = None) -> str:
    """The Content-Security-Policy: this very script and style, sounds and pictures from files, nothing from a network.

    A script that came in with some text has another hash, so that the browser would refuse it even if the escaping failed.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src " + ("'none'" if script is None else _content_hash(script)),
            f"style-src {_content_hash(style)}",
            "img-src data: blob:",
            "media-src 'self' file: data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _content_hash(text: str) -> str:
    """How a Content-Security-Policy names a script or style with this very `text`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _detail_elements(groups: Sequence[Group]) -> Iterator[str]:
    """Elements that hold what is read when an utterance is opened; at the end of the page, which is shown before."""
    for group_number, group in enumerate(groups):
        for number, score in enumerate(group.scores):
            details = group.details(score.id)
            name = f"{group_number}-{number}"
            if any(details):
                yield _data_element(f"details-{name}", "application/octet-stream", pack_details(details))
            audio = group.audio(score.id)
            if isinstance(audio, bytes):
                yield _data_element(f"audio-{name}", _MEDIA_TYPES.get(audio[:4], "audio/mpeg"), audio)


def _data_element(name: str, media_type: str, content: bytes) -> str:
    return f'<script type="{media_type}" id="{name}">{base64.b64encode(content).decode("ascii")}</script>\n'


def _address(audio: Path, folder: Path) -> str:
    """The address of the file `audio` for a page in `folder`: relative where possible, so that both can be moved."""
    absolute = audio.resolve()
    try:
        relative = os.path.relpath(absolute, folder.resolve())
    except ValueError:  # another drive
        return absolute.as_uri()
    return quote(Path(relative).as_posix())
