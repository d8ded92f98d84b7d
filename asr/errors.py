"""The errors that people see: one line that says what was expected, what was found, where, and what to do.

Everything that a user can cause derives from `AsrError`; the command line prints its message without a traceback and
exits with code 2. Any other exception is a defect of this project.
"""

from __future__ import annotations

import difflib
import json
import shlex
import signal
from collections.abc import Iterable, Sequence

_NUM_NAMED = 3


class AsrError(Exception):
    """A mistake outside this program's code, described in one line for the person who can mend it."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # A file name, key or id that the message quotes may hold line breaks.
        self.message = "\\n".join(message.splitlines())
        super().__init__(self.message)

    def __str__(self) -> str:
        # Not made of the args: webdataset adds its own to those of errors that pass through it.
        return self.message


class ConfigError(AsrError):
    """A configuration file, an override or a combination of settings is wrong."""


class AudioError(AsrError):
    """A sound file cannot be read or holds nothing that can be recognised."""


class CorpusError(AsrError):
    """A corpus, manifest or shard is missing, damaged or contradicts itself."""


class TextError(AsrError):
    """A text cannot be expressed with the vocabulary or a vocabulary cannot be made."""


class CheckpointError(AsrError):
    """A checkpoint is missing, damaged or made by something else."""


class TrainingError(AsrError):
    """Training cannot go on: losses stay non-finite, nothing can be learnt from, or the disk is full."""


class ScoringError(AsrError):
    """References and hypotheses cannot be compared."""


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """A hint such as `, did you mean 'lr'?` for a misspelt name, or the list of known names.

    Example:
        >>> did_you_mean("lrr", ["lr", "momentum"])
        ", did you mean 'lr'?"
        >>> did_you_mean("zzz", ["lr", "momentum"])
        '; known: lr, momentum'
    """
    names = sorted(known)
    close = difflib.get_close_matches(found, names, n=1)
    if close:
        return f", did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}"


def first_of(names: Sequence[str]) -> str:
    """The first three of `names`, and how many there are besides.

    Example:
        >>> first_of(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more


def complaint_of_line(where: str, line: str, error: Exception | None = None) -> str:
    """What is wrong with the `line` at `where`, "FILE:NUMBER", which should be a JSON object, and how to make it one.

    Args:
        where: begins the message.
        line: as it stands in the file.
        error: what the reader of JSON said of it; None: it is JSON, but no object.

    Example:
        >>> complaint_of_line("heard.json:1", "[")
        "heard.json:1: expected a JSON object in each line, found an array; `jq -c '.[]' heard.json` writes its objects so"
    """
    file, _, number = where.rpartition(":")
    if number == "1" and line.lstrip().startswith("["):
        return (
            f"{where}: expected a JSON object in each line, found an array; `jq -c '.[]' {shlex.quote(file)}` "
            "writes its objects so"
        )
    if isinstance(error, json.JSONDecodeError) and line.lstrip().startswith("{") and error.pos >= len(line.rstrip()):
        return (
            f"{where}: not JSON ({error}): expected a JSON object in each line, found one over several lines, or cut off; "
            f"`jq -c . {shlex.quote(file)}` writes each whole one in one line"
        )
    return f"{where}: not JSON: {error}" if error else f"{where}: expected a JSON object, found {line.strip()[:40]}"


class StoppedByUserError(AsrError):
    """The user or the system asked a run to stop, by Ctrl-C or the signal of another `number`; all so far is saved."""

    exit_code = 128 + signal.SIGINT

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # as shells have it
