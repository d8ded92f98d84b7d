"""Whether what is named as a list of utterances, a manifest or a folder, may be one: seen before it is read."""

from __future__ import annotations

import contextlib
from pathlib import Path

from asr.corpus.folder import is_read
from asr.corpus.utterance import GUIDE, KALDI
from asr.errors import CorpusError
from asr.lines import array_in_place_of_lines

_HINTS = {".csv": GUIDE, ".tsv": GUIDE, ".scp": KALDI}


def check_is_list(path: Path) -> None:
    """Accepts a folder, or a file that may be a manifest.

    Raises:
        CorpusError: nothing is there, an array, or by its suffix and its first letter something else.
    """
    if not path.exists():
        raise CorpusError(f"{path}: no such manifest or folder")
    if not path.is_file():
        return
    with contextlib.suppress(OSError), path.open("rb") as file:  # what cannot be read its reader tells
        first = file.read(100).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if first == b"[":
            raise CorpusError(array_in_place_of_lines(path))
        hint = _HINTS.get(path.suffix.lower())
        if first != b"{" and (is_read(path) or hint):
            raise CorpusError(
                f"{path}: expected a folder, or a manifest with a JSON object a line, found a {path.suffix} file; "
                f"{hint or GUIDE}"
            )
