"""The `--model` option of commands that recognise: one model, or several that are asked together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_HELP = (
    "Run folder or checkpoint. Given several times, the models' token probabilities are averaged frame by frame; their "
    "tokens and frame rates must be the same, their features need not be; prefer --decoder beam."
)
Models = Annotated[list[Path], typer.Option(help=_HELP)]
ModelsOrDefault = Annotated[
    list[Path] | None, typer.Option("--model", help=f"{_HELP} Without it, the small English model that comes along.")
]
