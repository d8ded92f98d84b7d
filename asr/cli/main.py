"""The `asr` command: its groups, and what happens to errors."""

from __future__ import annotations

import atexit
import gc
import io
import sys
from typing import Annotated, Any, NoReturn

import typer

from asr import __version__
from asr.cli import compare, config, data, doctor, evaluate, inspect, model, rover, run, score, shards, transcribe, tune
from asr.errors import AsrError, StoppedByUserError

app = typer.Typer(
    name="asr",
    help="Speech recognition whose every step can be read, changed and measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("recipes")(run.recipes)
app.command("run")(run.run)
app.command("prepare")(run.prepare)
app.command("train")(run.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("tune")(tune.tune)
app.command("transcribe")(transcribe.transcribe)
app.command("score")(score.score)
app.command("rover")(rover.rover)
app.add_typer(config.app, name="config")
app.add_typer(model.app, name="model")
app.add_typer(inspect.app, name="inspect")
app.add_typer(data.app, name="data")
app.add_typer(shards.app, name="shards")
app.command("doctor")(doctor.doctor)

# At its end Python looks through all objects for garbage: with torch up to a second of a core, for nothing.
atexit.register(gc.freeze)

_DEBUG = "--debug"
# What typer raises where a command is not used as it was declared; it exports only one of the kinds.
_MISUSE: Any = typer.BadParameter.__base__


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bigru-asr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Show the traceback of an error; works behind every command.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Speech recognition whose every step can be read, changed and measured.

    A first word error rate, from the corpus that comes along: `asr run spoken_commands`
    """


def main() -> None:
    """Run the command in `sys.argv`; a user's mistake becomes one line on standard error and exit code 2."""
    arguments = sys.argv[1:]
    debug = _DEBUG in arguments
    for stream in (sys.stdout, sys.stderr):
        # What another encoding than UTF-8 lacks is escaped, not a traceback: Windows has such ones in pipes and files.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        given = [argument for argument in arguments if argument != _DEBUG]
        code = _run(given)
    except _MISUSE as error:
        message = error.format_message()
        if not message:  # the help that stands in the place of no arguments has been printed
            sys.exit(error.exit_code)
        command = error.ctx.command_path if error.ctx else "asr"
        _exit(f"{command}: {message} (`{command} --help` tells more)", error.exit_code)
    except AsrError as error:
        if debug:
            raise
        _exit(str(error), error.exit_code)
    except OSError as error:
        if debug:
            raise
        _exit(f"{error.filename or 'input or output'}: {error.strerror or error}", 2)
    sys.exit(code or 0)


def _run(arguments: list[str]) -> Any:
    """The exit code of the command; what Ctrl-C stops outside the stages of a run has no more to say than that."""
    try:
        code = app(args=arguments, prog_name="asr", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):  # of some versions of typer; of all, while it makes the commands
        code = StoppedByUserError.exit_code
    except SystemExit as ended:
        # typer makes a failure of it, but where the reader of our output, such as `head`, has seen enough, nothing failed.
        code = 0 if isinstance(ended.__context__, BrokenPipeError) else ended.code
    if code == StoppedByUserError.exit_code:
        _exit("stopped", code)
    return code


def _exit(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
