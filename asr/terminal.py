"""What is printed while and after working: a bar on a terminal, tables; where output is collected, tables and few lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_OF_FILES = 120
# Between two lines on one file: of a small one, that it begins is all there is to tell.
_SECONDS_BETWEEN_LINES = 10.0
# That a tenth is taken to have where nobody knows the whole.
_BYTES_OF_A_TENTH = 100_000_000

Advance = Callable[[float], None]

FileProgress = Callable[[str, int, int | None], None]
"""Called with what is done to a file ("unpacking NAME"), the bytes that are done and the bytes in all (None: unknown)."""


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


def tell_nobody(title: str, done: int, total: int | None) -> None:
    """The `FileProgress` of those who do not want to know."""


@contextmanager
def file_progress() -> Iterator[FileProgress]:
    """Yields a function that shows on standard error what is done to one file after another, first told where it begins.

    On a terminal a bar for each, with bytes, speed and time left; elsewhere a line where it begins and where a further tenth
    is done, but not every second.
    """
    if not sys.stderr.isatty():
        yield _file_lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(title: str, done: int, total: int | None) -> None:
            if title not in tasks:
                for task in tasks.values():  # of the file before
                    progress.remove_task(task)
                tasks.clear()
                # What was there before counts as done, and not for the speed.
                left = "" if total is None else "left"
                tasks[title] = progress.add_task(title, total=total, completed=done, left=left)
            progress.update(tasks[title], completed=done, total=total)

        yield tell


def _file_lines() -> FileProgress:
    """A function that prints lines on the files that it is told of."""
    from rich.filesize import decimal

    title_before, done_before, tenths_before, told_at = "", 0, 0, 0.0

    def tell(title: str, done: int, total: int | None) -> None:
        nonlocal title_before, done_before, tenths_before, told_at
        now = time.monotonic()
        tenths = 10 * done // total if total else done // _BYTES_OF_A_TENTH
        of_total = "" if total is None else f" of {decimal(total)} ({done / max(1, total):.0%})"
        if title != title_before:
            size = "size unknown" if total is None else decimal(total)
            print(f"{title} ({size}{f', {decimal(done)} are there' if done else ''})", file=sys.stderr)
        elif tenths > tenths_before and now >= told_at + _SECONDS_BETWEEN_LINES:
            speed = decimal(int((done - done_before) / (now - told_at)))
            print(f"{title}: {decimal(done)}{of_total}, {speed}/s", file=sys.stderr)
        else:
            tenths_before = min(tenths, tenths_before)  # it may begin anew
            done_before = min(done, done_before)
            return
        title_before, done_before, tenths_before, told_at = title, done, tenths, now

    return tell


def get_console() -> Console:
    """A console on standard output: coloured and as wide as the window, or plain and wide enough for tables in a file.

    Text is printed as it is: what was said or what a file is called may hold [noise], [/b] or :smile:.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_FILES
    return Console(width=width, markup=False, emoji=False, highlight=False, soft_wrap=False)


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]], *, num_names: int = 1) -> Table:
    """A table without lines for the console: `num_names` columns of names, and behind them numbers, to the right."""
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for column in table.columns[num_names:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    return table
