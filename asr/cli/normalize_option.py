"""The option that names steps of normalisation, for the commands that compare the words of transcripts."""

from __future__ import annotations

from typing import Annotated

import typer

Steps = Annotated[
    str | None,
    typer.Option(
        metavar="STEPS",
        help="Change all texts by steps, in the order given, with commas between: unicode, case-tr (ı for I), case, "
        "brackets, fillers-en, numbers-en, punctuation (behind these), spelling-en, characters (each Chinese one a word). "
        "Default: none.",
    ),
]


def steps_of(normalize: str | None) -> list[str]:
    """The names of the steps in the option's value.

    Example:
        >>> steps_of("case, punctuation"), steps_of(None)
        (['case', 'punctuation'], [])
    """
    return [step.strip() for step in normalize.split(",")] if normalize else []
