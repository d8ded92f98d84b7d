"""The errors that people see: one line that says what was expected, what was found, where, and what to do.

Everything that a user can cause derives from `AsrError`; the command line prints its message without a traceback and
exits with code 2. Any other exception is a defect of this project.
"""

from __future__ import annotations

import difflib
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


class StoppedByUserError(AsrError):
    """The user or the system asked a run to stop, by Ctrl-C or the signal of another `number`; all so far is saved."""

    exit_code = 128 + signal.SIGINT

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # as shells have it
