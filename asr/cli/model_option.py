"""The `--model` option of commands that recognise: one model, several together, or the one that comes along."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

_HELP = (
    "Run folder or checkpoint, or english_small. Given several times, the models' token probabilities are averaged frame by "
    "frame; their tokens and frame rates must be the same, their features need not be; prefer --decoder beam."
)
Models = Annotated[list[Path], typer.Option(help=_HELP)]
_WITHOUT_IT = "Without it, english_small, which comes along."
ModelsOrDefault = Annotated[list[Path] | None, typer.Option("--model", help=f"{_HELP} {_WITHOUT_IT}")]
ModelOrDefault = Annotated[
    Path | None, typer.Option("--model", help=f"Run folder or checkpoint, or english_small. {_WITHOUT_IT}")
]


def default_model() -> Path:
    """The model that is asked where none is named, which is said."""
    from asr.resources import DEFAULT_MODEL, resource

    print(
        "no --model: the small English model, which hears many words wrong; data/models has its card", file=sys.stderr
    )
    return resource(*DEFAULT_MODEL, "model.pt")
