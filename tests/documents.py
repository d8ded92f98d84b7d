"""The examples of the documentation, for tests to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The language, "" where none is named, and the text of each block of code in `page`."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield match[1], match[2]


def run_python(page: Path, name: str = "") -> dict[str, Any]:
    """The names that the Python blocks of `page` leave behind, run one after the other, or only the one that has `name`."""
    names: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "python" and name in text:
            exec(compile(text, str(page), "exec"), names)
    return names


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every call of `asr` in the blocks of `page`."""
    for language, text in blocks(page):
        for line in text.replace("\\\n", " ").splitlines() if not language else ():
            called = re.search(r"^(?:\$ )?(?:\S+/bin/)?asr (.*)", line)
            if called:
                words = shlex.split(called[1], comments=True)
                yield words[: words.index(">")] if ">" in words else words
