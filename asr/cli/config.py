"""`asr config`: look at settings before they cost an hour."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Show and check configurations.", no_args_is_help=True)

Name = Annotated[str | None, typer.Argument(help="YAML file, or a name in conf/. Without it: the defaults.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Changes.")]


@app.command()
def show(name: Name = None, overrides: Overrides = None) -> None:
    """Print a configuration with all defaults filled in.

    Example: `asr config show fsdd encoder.cell=lstm`
    """
    from asr.experiment import load_experiment

    changes = overrides or []
    if name is not None and "=" in name:
        changes, name = [name, *changes], None
    print(load_experiment(name, changes).yaml(), end="")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="YAML file, or a name in conf/.")], overrides: Overrides = None
) -> None:
    """Check a configuration: unknown keys, wrong values, settings that do not go together.

    Example: `asr config check my.yaml`
    """
    from asr.experiment import config_path, load_experiment

    load_experiment(name, overrides or ())
    print(f"{config_path(name)}: ok")


@app.command()
def explain(
    key: Annotated[
        str, typer.Argument(help="Path of a section or of one setting. Without it: what sections there are.")
    ] = "",
) -> None:
    """Tell what settings mean, what they may be, and what they are unless said otherwise.

    Examples:
    - `asr config explain`
    - `asr config explain augment.spec_augment`
    - `asr config explain optimizer.lr`
    """
    from rich.table import Table

    from asr.config_help import explain as explanations
    from asr.experiment import Experiment
    from asr.terminal import get_console

    console = get_console()
    for number, explanation in enumerate(explanations(Experiment, key)):
        if number:
            console.print()
        title = explanation.key or "the whole configuration"
        console.print(title, style="bold")
        if explanation.text:
            console.print(explanation.text)
        table = Table("setting", "may be", "default", "meaning", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for setting in explanation.settings:
            table.add_row(setting.key, setting.values, setting.default, setting.description)
        console.print(table)
