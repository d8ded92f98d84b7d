"""`asr tune`: search for good settings by the error on the development set."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.compare import RecipeOption, request_of_study
from asr.cli.run import Config, Dev, Fresh, Init, Manifest, Mirror, Root, make_request
from asr.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from asr.studies.search import Search

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY.PATH=SPACE [KEY.PATH=VALUE]",
        help="What is searched for, in log(A,B), uniform(A,B), int(A,B) or choice(A,B,...), and what all trials have in "
        "common. Quote them: brackets mean something to a shell.",
    ),
]


def tune(
    words: Words = None,
    recipe: RecipeOption = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Stop after so many trials, those of earlier calls included.")
    ] = 20,
    metric: Annotated[str, typer.Option(help="What is to be low on the development set: wer or loss.")] = "wer",
    pruner: Annotated[
        str, typer.Option(help="Stops trials early: median (worse than half of the others by then), halving or none.")
    ] = "median",
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search. Default: runs/tune-RECIPE.")] = None,
    config: Config = None,
    manifest: Manifest = None,
    dev: Dev = None,
    init: Init = None,
    mirror: Mirror = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time. Default: one for each GPU, or one.")
    ] = None,
    fresh: Fresh = False,
) -> None:
    """Search for settings with a low error on the development set; test parts are never heard.

    Optuna proposes settings, and trials that are worse than others were by then are stopped early. Called again, the search
    goes on until so many trials have ended, unless settings or data are others than those of the trials so far; called
    several times at once on the same folder, the calls search together.
    What comes out is `best.yaml`, a configuration as any other, and `tune.html`, which shows what mattered.

    Examples:
    - `asr tune --recipe fsdd --trials 30 'optimizer.lr=log(1e-4,1e-2)' 'encoder.hidden_size=int(64,256)'`
    - `asr tune --recipe fsdd --jobs 2 'encoder.dropout=uniform(0,0.5)' 'encoder.norm=choice(layer,batch)' seed=1`
    - `asr run fsdd --config runs/tune-fsdd/best.yaml`
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("asr tune needs Optuna, which is not installed: pip install optuna")
    from asr.studies.jobs import default_jobs
    from asr.studies.search import make_search
    from asr.studies.tune import forget_search, search_all

    request = request_of_study(recipe, make_request(words, root, config, manifest, dev, None, init, mirror))
    search = make_search(request, out, num_trials=trials, metric=metric, pruner=pruner)
    if fresh:
        forget_search(search)
    failures = search_all(search, jobs or default_jobs(search.ends()[0].experiment.device))
    _print_best(search)
    for name, why in failures.items():
        raise TrainingError(f"{name}: {why}")


def _print_best(search: Search) -> None:
    from asr.studies.compare import OUTPUT_FILE
    from asr.studies.tune import BEST_FILE, ended_trials, open_study, shown
    from asr.studies.tune_page import best_trial

    ended = ended_trials(open_study(search))
    best = best_trial(ended)
    if best is None:
        raise TrainingError(f"no trial came to its end; what they said: {search.folder / 'trials'}/*/{OUTPUT_FILE}")
    found = shown(best.value or 0.0, search.metric)
    alike = sum(trial.state == best.state and trial.value == best.value for trial in ended)
    tie = f"; of {alike} with that the one whose loss is lowest, {best.user_attrs['loss']:.4f}" if alike > 1 else ""
    print(f"best of {len(ended)} trials: {best.user_attrs['folder']}, dev {found}{tie}")
    print(" ".join(best.user_attrs["overrides"]))
    print(f"all of it: {search.folder / 'tune.html'}; to train and test with it: --config {search.folder / BEST_FILE}")
