"""`asr inspect`: a trained model at work on one recording."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.model_option import ModelOrDefault, default_model
from asr.cli.output_option import check_folder
from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.inspection import Subject
    from asr.inspection.output import Finding

app = typer.Typer(help="See a trained model at work: gates, gradients, saliency.", no_args_is_help=True)

Audio = Annotated[Path, typer.Argument(help="Sound file, or stored features where the model takes these.")]
Layers = Annotated[str | None, typer.Option(help="Numbers such as 1,3 or 1-2, from 1; default: all.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write to. Default: inspect/NAME_OF_AUDIO in the run folder; of a checkpoint or without --model "
        "here; with a CRC where that is another sound's or model's."
    ),
]
Text = Annotated[str | None, typer.Option(help="Look at this text; default: what is recognised.")]


@app.command()
def gates(audio: Audio, model: ModelOrDefault = None, layers: Layers = None, out: Out = None) -> None:
    """Draw every gate over time, and measure how long units remember.

    Examples:
    - `asr inspect gates hello.wav`
    - `asr inspect gates hello.wav --model runs/spoken_commands`
    - `asr inspect gates hello.wav --model runs/lstm --layers 1,3 --out gates`
    """
    from asr.inspection.findings import inspect_gates

    subject, file, folder = _opened(audio, model, None, out)
    _write(subject, file, folder, inspect_gates(subject, _layers(layers, subject)))


@app.command()
def gradients(
    audio: Audio,
    model: ModelOrDefault = None,
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

    subject, file, folder = _opened(audio, model, text, out)
    chosen = (
        middle_token(subject) if token is None else _numbers("--token", str(token), len(subject.tokens), "token")[0]
    )
    _write(subject, file, folder, inspect_gradients(subject, _layers(layers, subject), chosen))


@app.command()
def saliency(
    audio: Audio,
    model: ModelOrDefault = None,
    out: Out = None,
    text: Text = None,
    tokens: Annotated[str | None, typer.Option(help="Numbers such as 1,3 or 5-8, from 1; default: all.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65536,
            help="Of integrated gradients, the same for all tokens; 0: the plain gradient. Default: as each token needs.",
        ),
    ] = None,
) -> None:
    """Draw what in the sound each token rests on.

    A large model takes some seconds for each token, the English one 2.5 for a clip of three; `--tokens` takes some of them.

    Examples:
    - `asr inspect saliency hello.wav --model runs/spoken_commands`
    - `asr inspect saliency hello.wav --model runs/spoken_commands --tokens 1-5 --steps 256`
    """
    from asr.inspection.findings import inspect_saliency
    from asr.inspection.subject import require_tokens

    subject, file, folder = _opened(audio, model, text, out)
    require_tokens(subject)
    numbers = _numbers("--tokens", tokens, len(subject.tokens), "token")
    _write(subject, file, folder, inspect_saliency(subject, numbers, steps))


def _opened(audio: Path, model: Path | None, text: str | None, out: Path | None) -> tuple[Subject, Path, Path]:
    """What is looked at, its checkpoint, and the folder to write to; that it cannot be written to is told beforehand."""
    from asr.decoding import GreedyDecoderConfig
    from asr.inspection import subject_of
    from asr.inspection.output import default_folder
    from asr.model.checkpoint import find_checkpoint
    from asr.recognizer import Recognizer

    file = find_checkpoint(model or default_model())
    run_folder = model if model is not None and model.is_dir() else Path()
    folder = out or default_folder(run_folder / "inspect", audio, file)
    check_folder("--out", folder)
    # What the network itself says, which no list of words has mended.
    recognizer = Recognizer.load(file, GreedyDecoderConfig(), device="cpu")
    return subject_of(recognizer, audio, text), file, folder


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


def _write(subject: Subject, file: Path, folder: Path, finding: Finding) -> None:
    from asr.inspection.output import write_finding
    from asr.terminal import get_console, table_of

    page = write_finding(folder, subject, file, finding)
    console = get_console()
    looked_at = "" if subject.text == subject.heard else f"; looked at: {subject.text}"
    console.print(f"{subject.name}: {subject.heard}{looked_at}")
    console.print(table_of(finding.columns, finding.rows))
    console.print(finding.table_note)
    if finding.warning:
        print(f"warning: {finding.warning}", file=sys.stderr)
    print(f"wrote {page}, {page.with_suffix('.json').name} and {len(finding.pictures)} pictures")
