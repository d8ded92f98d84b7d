"""Options that name files to be written: looked at before the work, so that a wrong path does not cost its result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from asr.errors import ConfigError

# What users and runs keep under such names is never what an option writes, but for --out, which may, though not over sound.
_SOUND = set(".flac .mp3 .ogg .opus .wav".split())
_KEPT = _SOUND | set(".ctm .gz .jsonl .pt .stm .tar .trn .txt .yaml .yml".split())
_OF_A_RUN = {"stages.json", "tokenizer.json"}


def check_outputs(files: Mapping[str, Path | None], inputs: Iterable[Path] = ()) -> None:
    """Accepts files, by their options, that can be written; None is an option that was not given.

    Raises:
        ConfigError: a file's folder does not exist or cannot be written to, the path is a folder itself, stands twice, or
            is one of the `inputs` or of another kind, which would be lost.
    """
    read = {path.resolve() for path in inputs}
    options: dict[Path, str] = {}
    for option, path in files.items():
        if path is None:
            continue
        other = options.setdefault(path.resolve(), option)
        if other != option:
            raise ConfigError(f"{option} {path}: {other} writes that file too; name another one")
        if path.resolve() in read:
            raise ConfigError(f"{option} {path}: this file is read too, and would be overwritten; write elsewhere")
        kept = _SOUND if option == "--out" else _KEPT
        if (path.suffix.lower() in kept or path.name in _OF_A_RUN) and path.is_file():
            raise ConfigError(
                f"{option} {path}: another kind of file is there and would be overwritten; write elsewhere"
            )
        if path.is_dir():
            raise ConfigError(f"{option} {path}: this is a folder; expected the name of a file to write")
        if path.exists() and not path.is_file() and os.access(path, os.W_OK):
            continue  # a pipe or a device
        folder = (path.resolve() if path.is_symlink() else path).parent
        if not folder.exists():
            raise ConfigError(f"{option} {path}: there is no folder '{folder}'; make it first, or write elsewhere")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConfigError(f"{option} {path}: no file can be written in '{folder}'; write elsewhere")


def check_folder(option: str, folder: Path | None) -> None:
    """Accepts a folder, by its option, that is there or can be made, to write files into; None is one that was not given.

    Raises:
        ConfigError: a file stands in its way, or it cannot be written to.
    """
    if folder is None:
        return
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"{option} {folder}: '{nearest}' is a file; expected a folder")
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"{option} {folder}: no file can be written in '{nearest}'; write elsewhere")
