"""What is printed while and after working: a bar on a terminal, nothing where output is collected; tables in both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_OF_FILES = 120

Advance = Callable[[float], None]


def counted(number: int, noun: str) -> str:
    """`number` and `noun`, in the plural unless it is one.

    Example:
        >>> counted(1, "speaker"), counted(12000, "utterance")
        ('1 speaker', '12000 utterances')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[Advance]:
    """Yields a function that moves the bar on by so many units of `total`; the bar stands on standard error."""
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: tuple[ProgressColumn, ...] = (TextColumn("{task.description}", markup=False), BarColumn())
    if total is None:
        columns += (TimeElapsedColumn(),)
    else:
        columns += (TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda amount: progress.advance(task, amount)


def get_console() -> Console:
    """A console on standard output: coloured and as wide as the window, or plain and wide enough for tables in a file.

    Text is printed as it is: what was said or what a file is called may hold [noise], [/b] or :smile:.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_FILES
    return Console(width=width, markup=False, emoji=False, highlight=False, soft_wrap=False)
