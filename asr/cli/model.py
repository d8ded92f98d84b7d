"""`asr model`: what a model is made of, and what can be made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.output_option import check_outputs
from asr.errors import ConfigError
from asr.resources import DEFAULT_MODEL

_OF_THE_MACHINE = ("init", "splits", "loss")
"""Sections of a configuration that only training needs and that may name files."""

_NUM_SHOWN = 40
_OF_WHAT = (
    "Run folder, checkpoint, YAML file, or a name in conf/; english_small is the model that comes along, "
    "english_small.yaml its configuration."
)

app = typer.Typer(help="Look at models, shrink and average them.", no_args_is_help=True)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help=_OF_WHAT)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Changes to a YAML.")
    ] = None,
    vocabulary_size: Annotated[int, typer.Option(min=2, help="Tokens with blank, where no checkpoint says it.")] = 32,
) -> None:
    """Print layers, shapes, parameters, frame rate and receptive stride.

    Examples:
    - `asr model info runs/fsdd`
    - `asr model info english_small`
    - `asr model info spoken_commands encoder.num_layers=5`
    """
    from asr.experiment import config_path, load_experiment
    from asr.model.acoustic import AcousticModel, num_parameters
    from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model
    from asr.terminal import get_console, table_of

    console, tokens, learnt_from = get_console(), "", ""
    path = Path(name)
    if path.is_dir() or path.suffix == ".pt" or name == DEFAULT_MODEL[-1]:
        if overrides:
            raise ConfigError(
                f"{overrides[0]}: a trained model stays as it is; changes go with a YAML or a name in conf/, such as "
                f"{DEFAULT_MODEL[-1]}.yaml"
            )
        file = find_checkpoint(path)
        checkpoint = load_checkpoint(file)
        model, tokenizer = restore_model(checkpoint, where=str(file))
        tokens = f"; writes {_shown(tokenizer.pieces)}"
        if checkpoint.longest_seconds is not None:
            learnt_from = f"; learnt from utterances of up to {checkpoint.longest_seconds:.3g} s"
        console.print(f"{file}: {checkpoint.note}")
    else:
        try:
            config_path(name)
        except ConfigError as error:
            raise ConfigError(f"{name}: no run folder or checkpoint, and {error}") from error
        model = AcousticModel(load_experiment(name, overrides or ()).acoustic, vocabulary_size)
    parts = ((row.name, row.kind, row.output, f"{row.frames:g}", f"{row.parameters:,}") for row in model.describe())
    console.print(table_of(("part", "kind", "output", "frames/s", "parameters"), parts, num_names=3))
    features, num_stored = model.config.features, model.config.num_stored_features
    takes = f"{num_stored} stored features a frame" if num_stored else f"sound of {features.sample_rate} Hz"
    print(f"B utterances, T frames of features, S of the encoder; takes {takes}{tokens}{learnt_from}")
    stride = model.seconds_per_frame
    console.print(
        f"{num_parameters(model):,} parameters, {num_parameters(model) * 4 / 1e6:.1f} MB in float32; one token at most "
        f"every {stride * 1000:g} ms ({round(stride * model.config.features.sample_rate)} samples of stride)"
    )


def _shown(pieces: Sequence[str]) -> str:
    """How many tokens there are, and the first of them; the blank, which stands for nothing, is none of them."""
    shown = " ".join(pieces[1 : 1 + _NUM_SHOWN])
    return f"{len(pieces) - 1} tokens: {shown}{' ...' if len(pieces) > 1 + _NUM_SHOWN else ''}"


@app.command()
def shrink(
    model: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Write a model that is only to be used: without the optimiser's state, and with weights in half precision.

    What its training read from this machine is left out too: the model it began from, parts of corpora, a lexicon.
    It is computed with in float32 as before; what rounding the weights costs is for `asr evaluate` to tell.

    Example: `asr model shrink runs/fsdd --out fsdd.pt`
    """
    from dataclasses import replace

    from asr.model.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint

    file = find_checkpoint(model)
    _check_out(out, [file])
    checkpoint = load_checkpoint(file)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in checkpoint.model.items()}
    experiment = {section: value for section, value in checkpoint.experiment.items() if section not in _OF_THE_MACHINE}
    save_checkpoint(out, replace(checkpoint, experiment=experiment, model=weights, training=None))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB (from {file}, {file.stat().st_size / 1e6:.1f} MB)")


def _check_out(out: Path, inputs: Iterable[Path]) -> None:
    """Accepts a file to write a model of `inputs` to: a new one, or that of an earlier model."""
    from asr.errors import CheckpointError
    from asr.model.checkpoint import load_checkpoint

    check_outputs({"--out": out}, inputs)
    if not out.is_file():
        return
    try:
        load_checkpoint(out)
    except CheckpointError as error:
        raise ConfigError(
            f"--out {out}: a file that is no model is there and would be overwritten; write elsewhere"
        ) from error


@app.command()
def average(
    models: Annotated[
        list[Path], typer.Argument(help="Run folders or checkpoints, of one network and one vocabulary.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Write the model whose weights are the mean of those of several; one that is given twice counts twice.

    It pays where they come of one training, or of trainings that set out from each other (`--init`); models that began
    from different random weights have nothing in common. `asr evaluate` tells what it is worth; there, --model A --model B
    averages the probabilities of any models instead.

    Example: `asr model average runs/first runs/second --out both.pt`

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization". Running statistics of
    batch norms are averaged, too, not measured again on training speech as there.
    """
    from dataclasses import replace

    from asr.errors import CheckpointError
    from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model, save_checkpoint
    from asr.training.moving_average import average_weights

    files = [find_checkpoint(model) for model in models]
    if len(files) < 2:
        raise ConfigError(f"{files[0]}: one model has no average; name several")
    _check_out(out, files)
    checkpoints = [load_checkpoint(file) for file in files]
    first, *others = checkpoints
    network, tokenizer = restore_model(first, where=str(files[0]))
    for file, other in zip(files[1:], others, strict=True):
        another, its_tokenizer = restore_model(other, where=str(file))
        if not another.config.computes_as(network.config) or its_tokenizer.state() != tokenizer.state():
            raise CheckpointError(
                f"{file}: another network or vocabulary than that of {files[0]}, so that their weights have no average: "
                "with one vocabulary, `asr evaluate` and `asr transcribe` ask both by --model A --model B"
            )
    note = f"average of {len(files)} models: {'; '.join(each.note for each in checkpoints)}"
    known = [each.longest_seconds for each in checkpoints if each.longest_seconds is not None]
    averaged = replace(first, model=average_weights(checkpoints), training=None, note=note)
    longest_seconds = max(known) if len(known) == len(checkpoints) else None
    save_checkpoint(out, replace(averaged, longest_seconds=longest_seconds))
    print(f"{out}: {note}")
