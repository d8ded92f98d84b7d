"""`asr recipes`, `asr run` and its stages by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.experiment import RunRequest

_RECIPE_HELP = "Name of a recipe (`asr recipes` lists them) or path of a `.py` file; then any number of key.path=value."
Words = Annotated[list[str] | None, typer.Argument(metavar="[RECIPE] [KEY.PATH=VALUE]...", help=_RECIPE_HELP)]
Root = Annotated[Path | None, typer.Option(help="Folder that holds the corpus; without it, it is downloaded.")]
Out = Annotated[Path | None, typer.Option(help="Run folder. Default: runs/RECIPE.")]
Config = Annotated[str | None, typer.Option(help="YAML file, or a name in conf/. Default: the recipe's own.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Throw away what the run folder holds and start over.")]
Manifest = Annotated[
    Path | None,
    typer.Option(help="Your own training audio: a JSONL manifest, or a folder with a .txt beside each file."),
]
Dev = Annotated[Path | None, typer.Option(help="Your own development set. Default: 5 % of the training set, held out.")]
Init = Annotated[
    Path | None, typer.Option(help="Trained model to start from: run folder or checkpoint, or english_small.")
]
Mirror = Annotated[
    str | None,
    typer.Option(
        help="Base URL to download from instead of the publisher's, such as https://openslr.elda.org: archives lie directly "
        "below it, or at the publisher's paths (https://openslr.elda.org/resources/12/dev-clean.tar.gz)."
    ),
]
Test = Annotated[list[Path] | None, typer.Option(help="Your own test set; may be given several times.")]


def recipes() -> None:
    """List the recipes: name, hours and speakers of training speech, licence, where it comes from.

    Example: `asr recipes`
    """
    from rich.table import Table

    from asr.recipe import find_recipes
    from asr.terminal import get_console

    table = Table("name", "hours", "speakers", "licence", box=None, pad_edge=False)
    table.add_column("what and where from", overflow="fold")  # An address that is cut short leads nowhere.
    for recipe in find_recipes():
        table.add_row(
            recipe.name, f"{recipe.hours:.1f}", str(recipe.speakers), recipe.licence, f"{recipe.title}; {recipe.source}"
        )
    get_console().print(table)


def run(
    words: Words = None,
    root: Root = None,
    out: Out = None,
    stages: Annotated[str, typer.Option(help="Stages to run, with commas between.")] = "prepare,train,average,evaluate",
    config: Config = None,
    manifest: Manifest = None,
    dev: Dev = None,
    test: Test = None,
    init: Init = None,
    mirror: Mirror = None,
    fresh: Fresh = False,
) -> None:
    """Run a recipe from the corpus to the word error rate; what is done already is skipped, what was cut off continues.

    Examples:
    - `asr run spoken_commands`
    - `asr run fsdd --root ~/corpora/fsdd encoder.cell=lstm --out runs/fsdd-lstm`
    - `asr run --manifest train.jsonl --test test.jsonl --out runs/mine training.epochs=40`
    """
    from asr.pipeline import STAGES, run_stages

    wanted = [stage.strip() for stage in stages.split(",") if stage.strip()]
    unknown = [stage for stage in wanted if stage not in STAGES]
    if unknown or not wanted:
        raise ConfigError(f"--stages {stages}: expected some of {','.join(STAGES)}")
    request = make_request(words, root, config, manifest, dev, test, init, mirror)
    run_stages(request.run(out), wanted, fresh=fresh)


def prepare(
    words: Words = None,
    root: Root = None,
    out: Out = None,
    config: Config = None,
    manifest: Manifest = None,
    dev: Dev = None,
    test: Test = None,
    mirror: Mirror = None,
    fresh: Fresh = False,
) -> None:
    """Turn a corpus into shards and train the tokenizer: the first stage by itself.

    Example: `asr prepare fsdd --root ~/corpora/fsdd --out runs/fsdd`
    """
    from asr.pipeline import run_stages

    request = make_request(words, root, config, manifest, dev, test, mirror=mirror)
    run_stages(request.run(out), ["prepare"], fresh=fresh)


def train(
    words: Words = None,
    root: Root = None,
    out: Out = None,
    config: Config = None,
    manifest: Manifest = None,
    dev: Dev = None,
    test: Test = None,
    init: Init = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was cut off.")] = False,
    fresh: Fresh = False,
) -> None:
    """Train on prepared shards and average the best epochs: the second and third stage by themselves.

    Examples:
    - `asr train fsdd --out runs/fsdd`
    - `asr train fsdd --out runs/fsdd --resume`
    - `asr train fsdd --out runs/tuned --init runs/other 'init.freeze=[subsampling,layer1]' init.vocabulary=new`
    """
    from asr.pipeline import check_not_begun, run_stages

    this = make_request(words, root, config, manifest, dev, test, init).run(out)
    if not resume and not fresh:
        check_not_begun(this)
    run_stages(this, ["train", "average"], fresh=fresh)


def make_request(
    words: list[str] | None,
    root: Path | None,
    config: str | None,
    manifest: Path | None,
    dev: Path | None,
    test: list[Path] | None,
    init: Path | None = None,
    mirror: str | None = None,
) -> RunRequest:
    """What the options and `words`, a RECIPE and `key.path=value`, say of a run.

    Raises:
        ConfigError: several words without `=`.
    """
    from asr.experiment import RunRequest

    names = [word for word in words or [] if "=" not in word]
    overrides = [word for word in words or [] if "=" in word]
    if init is not None:
        overrides.append(f"init.model={json.dumps(str(init))}")
    if len(names) > 1:
        found = ", ".join(names)
        raise ConfigError(
            f"expected one RECIPE or --manifest, found {found} (`asr recipes` lists the recipes; settings are written "
            "key.path=value, without spaces)"
        )
    return RunRequest(
        recipe=names[0] if names else None,
        manifest=manifest,
        dev=dev,
        test=tuple(test or ()),
        root=root,
        mirror=mirror,
        config=config,
        overrides=tuple(overrides),
    )
