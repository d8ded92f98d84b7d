"""The history of a run: `metrics.jsonl`, TensorBoard, and lines for people.

Records are numbered by update. A resumed run cuts off what lies behind its checkpoint, a validation after its last update
too, so that the history reads as if the run had never stopped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asr.atomic import write_text
from asr.errors import TrainingError

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Appends records to `metrics.jsonl` in `folder` and to TensorBoard below it; prints lines for people."""

    def __init__(self, folder: Path, *, resume_at_update: int = 0, finished_epochs: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / METRICS_FILE
        kept = [
            record
            for record in read_metrics(folder)
            if record["update"] <= resume_at_update
            and (record["kind"] != "validation" or record["epoch"] <= finished_epochs)
        ]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept if resume_at_update))
        self._file = self.path.open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=resume_at_update + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._tensorboard.close()

    def record(self, kind: str, update: int, values: Mapping[str, object]) -> None:
        """Write one record; numbers also go to TensorBoard under `kind/name`.

        Raises:
            TrainingError: the disk is full.
        """
        try:
            self._file.write(json.dumps({"kind": kind, "update": update, **_without_nan(values)}) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot write the metrics: {error.strerror}") from error
        for name, value in _flat(kind, values):
            self._tensorboard.add_scalar(name, value, update)

    def event(self, update: int, message: str) -> None:
        """Write and print something that people should know."""
        self.record("event", update, {"message": message})
        self.line(f"note: {message}")

    def line(self, text: str) -> None:
        """Print one line."""
        print(text, flush=True)

    def sync(self) -> None:
        """Make sure that all records so far are on the disk."""
        os.fsync(self._file.fileno())


class SilentLog:
    """The log of a process that trains beside another, which writes the history of both."""

    def record(self, kind: str, update: int, values: Mapping[str, object]) -> None:
        """Nothing."""

    def event(self, update: int, message: str) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""


def read_metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """All whole records of the run in `folder`, or those of one `kind`; a line that a crash cut or zeroed is left out."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = [record for line in lines[:-1] if (record := _parsed(line)) is not None]
    return [record for record in records if kind in (None, record.get("kind"))]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _without_nan(value: Any) -> Any:
    """`value` with non-finite numbers as text, which JSON can hold."""
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}/{name}", value)
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", value
