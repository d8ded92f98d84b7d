"""Where the files that travel with the code lie: recipes, configurations, the embedded corpus.

In a checkout they stand beside the package, in an installed wheel inside it; the layout below that point is the same.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent

DEFAULT_MODEL = ("data", "models", "english_small")
"""Where the model lies that comes along."""

WORDS_FILE = "words.tsv.gz"
"""Beside a checkpoint: the words that came along with the model."""


def resource(*parts: str) -> Path:
    """The path of a file or folder that travels with the code, such as `resource("conf", "fsdd.yaml")`.

    The path is returned also where nothing lies there; the caller says what is missing in its own words.
    """
    installed = _PACKAGE / "shared"
    return (installed if installed.is_dir() else _PACKAGE.parent).joinpath(*parts)
