"""Options that name files to be written: looked at before the work, so that a wrong path does not cost its result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from asr.errors import ConfigError


def check_outputs(files: Mapping[str, Path | None]) -> None:
    """Accepts files, by their options, that can be written; None is an option that was not given.

    Raises:
        ConfigError: a file's folder does not exist or cannot be written to, or the path is a folder itself.
    """
    for option, path in files.items():
        if path is None:
            continue
        folder = path.parent
        if path.is_dir():
            raise ConfigError(f"{option} {path}: this is a folder; expected the name of a file to write")
        if not folder.exists():
            raise ConfigError(f"{option} {path}: there is no folder '{folder}'; make it first, or write elsewhere")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConfigError(f"{option} {path}: no file can be written in '{folder}'; write elsewhere")
