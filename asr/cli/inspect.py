"""`asr inspect`: a trained model at work on one recording."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.output_option import check_folder
from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.inspection import Subject
    from asr.inspection.output import Finding

app = typer.Typer(help="See a trained model at work: gates, gradients, saliency.", no_args_is_help=True)

Audio = Annotated[Path, typer.Argument(help="Sound file, or stored features where the model takes these.")]
Model = Annotated[Path, typer.Option(help="Run folder or checkpoint.")]
Layers = Annotated[str | None, typer.Option(help="Numbers such as 1,3 or 1-2, from 1; default: all.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder to write to. Default: inspect/NAME_OF_AUDIO in the model's folder.")
]
Text = Annotated[str | None, typer.Option(help="Look at this text; default: what is recognised.")]


@app.callback()
def _group() -> None:
    """See a trained model at work: gates, gradients, saliency."""


@app.command()
def gates(audio: Audio, model: Model, layers: Layers = None, out: Out = None) -> None:
    """Draw every gate over time, and measure how long units remember.

    Examples:
    - `asr inspect gates hello.wav --model runs/spoken_commands`
    - `asr inspect gates hello.wav --model runs/lstm --layers 1,3 --out gates`
    """
    from asr.inspection.findings import inspect_gates

    subject = _subject(audio, model, None, out)
    _write(audio, model, out, subject, inspect_gates(subject, _layers(layers, subject)))


@app.command()
def gradients(
    audio: Audio,
    model: Model,
    layers: Layers = None,
    out: Out = None,
    text: Text = None,
    token: Annotated[int | None, typer.Option(help="Number of a token, from 1; default: in the middle.")] = None,
) -> None:
    """Draw how strongly the CTC loss, and one token, hang on each layer's state at each moment.

    Examples:
    - `asr inspect gradients hello.wav --model runs/spoken_commands`
    - `asr inspect gradients hello.wav --model runs/spoken_commands --text "hello world" --token 3`
    """
    from asr.inspection.findings import inspect_gradients, middle_token

    subject = _subject(audio, model, text, out)
    chosen = (
        middle_token(subject) if token is None else _numbers("--token", str(token), len(subject.tokens), "token")[0]
    )
    _write(audio, model, out, subject, inspect_gradients(subject, _layers(layers, subject), chosen))


@app.command()
def saliency(
    audio: Audio,
    model: Model,
    out: Out = None,
    text: Text = None,
    tokens: Annotated[str | None, typer.Option(help="Numbers such as 1,3 or 5-8, from 1; default: all.")] = None,
    steps: Annotated[int, typer.Option(min=0, max=65536, help="Of integrated gradients; 0: the plain gradient.")] = 64,
) -> None:
    """Draw what in the sound each token rests on.

    Examples:
    - `asr inspect saliency hello.wav --model runs/spoken_commands`
    - `asr inspect saliency hello.wav --model runs/spoken_commands --tokens 1-5 --steps 256`
    """
    from asr.inspection.findings import inspect_saliency
    from asr.inspection.subject import require_tokens

    subject = _subject(audio, model, text, out)
    require_tokens(subject)
    numbers = _numbers("--tokens", tokens, len(subject.tokens), "token")
    _write(audio, model, out, subject, inspect_saliency(subject, numbers, steps))


def _subject(audio: Path, model: Path, text: str | None, out: Path | None) -> Subject:
    """What is looked at; where nothing could be written to the folder, that is told beforehand."""
    from asr.inspection import subject_of
    from asr.recognizer import Recognizer

    check_folder("--out", _folder(audio, model, out))
    return subject_of(Recognizer.load(model, device="cpu"), audio, text)


def _folder(audio: Path, model: Path, out: Path | None) -> Path:
    from asr.model.checkpoint import find_checkpoint

    file = find_checkpoint(model)
    return out or (model if model.is_dir() else file.parent) / "inspect" / audio.stem


def _layers(text: str | None, subject: Subject) -> list[int]:
    return _numbers("--layers", text, subject.model.config.encoder.num_layers, "layer")


def _numbers(option: str, text: str | None, most: int, what: str) -> list[int]:
    """The numbers that `text`, such as "1,3-5", names, in rising order; all from 1 to `most` without a text.

    Raises:
        ConfigError: not such a text, or a number beyond `most`.
    """
    if text is None:
        return list(range(1, most + 1))
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise ConfigError(f"{option} {text}: expected numbers such as 1,3 or 1-2, found '{part}'")
        ends = int(first), int(last or first)
        # Looked at before what lies between them, which may be any number of numbers.
        if wrong := [number for number in ends if not 1 <= number <= most]:
            raise ConfigError(f"{option} {text}: there is no {what} {wrong[0]}; they go from 1 to {most}")
        numbers.update(range(ends[0], ends[1] + 1))
    if not numbers:
        raise ConfigError(f"{option} {text}: names no {what}")
    return sorted(numbers)


def _write(audio: Path, model: Path, out: Path | None, subject: Subject, finding: Finding) -> None:
    from rich.table import Table

    from asr.inspection.output import write_finding
    from asr.model.checkpoint import find_checkpoint
    from asr.terminal import get_console

    page = write_finding(_folder(audio, model, out), subject, str(find_checkpoint(model)), finding)
    table = Table(*finding.columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in finding.rows:
        table.add_row(*row)
    console = get_console()
    console.print(f"{subject.name}: {subject.heard}")
    console.print(table)
    console.print(finding.table_note)
    if finding.warning:
        print(f"warning: {finding.warning}", file=sys.stderr)
    print(f"wrote {page}, {page.with_suffix('.json').name} and {len(finding.pictures)} pictures")
