"""`asr compare`: what a setting is worth, with several seeds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.run import Config, Dev, Fresh, Init, Manifest, Mirror, Root, Test, make_request
from asr.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from asr.experiment import RunRequest
    from asr.studies.compare import Plan
    from asr.studies.outcome import Outcome

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY.PATH=A,B [KEY.PATH=VALUE]",
        help="What varies, with commas between values, and what all runs have in common; `cells` is short for encoder.cell.",
    ),
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="Name of a recipe (`asr recipes` lists them) or path of a `.py` file.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: one for each GPU, or one.")]

MatchOption = Annotated[
    str | None,
    typer.Option(
        "--match",
        help="Make variants equal to the first in parameters (by hidden_size) or time of training (by epochs).",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the runs with their parameters; train nothing.")]


def compare(
    words: Words = None,
    recipe: RecipeOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that each variant is trained with.")] = 3,
    match: MatchOption = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study. Default: runs/compare-RECIPE-KEYS.")] = None,
    config: Config = None,
    manifest: Manifest = None,
    dev: Dev = None,
    test: Test = None,
    init: Init = None,
    mirror: Mirror = None,
    jobs: Jobs = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Another comparison's folder: runs that are the same are copied from it; may be repeated."),
    ] = None,
    dry_run: DryRun = False,
    fresh: Fresh = False,
) -> None:
    """Train variants that differ in what is asked about, each with several seeds; say which is better, and how sure that is.

    Every setting can vary; several that do give every combination. The first variant is what the others are compared
    with. Each run is as `asr run` would do it, in a folder of its own below --out; shards are shared. What is done is not
    done again, what was cut off goes on. At the end: tables, `comparison.html`, `.json` and `.md`; where runs fail, those of
    an earlier comparison without failures stay, and `comparison-incomplete.html` and so on are written beside them.

    Examples:
    - `asr compare --recipe spoken_commands cells=gru,lstm,rnn --dry-run`
    - `asr compare --recipe fsdd cells=gru,lstm --match parameters --jobs 2 training.epochs=20`
    - `asr compare --recipe fsdd encoder.num_layers=1,2,3 cells=gru,lstm --seeds 2`
    - `asr compare --recipe an4 --root ~/corpora augment.speed=null,{} --match time`
    - `asr compare --recipe fsdd encoder.num_layers=2,3,4 --reuse runs/compare-fsdd-cell`
    - `asr compare --manifest train.jsonl --test test.jsonl 'features={kind: log_mel},{kind: mfcc}'`
    """
    from asr.studies.compare import looked_up, make_plan
    from asr.studies.earlier import check_settings, replaced, runs_of

    if dry_run and fresh:
        raise ConfigError("--fresh: --dry-run does nothing and throws nothing away; leave one of them out")
    request = request_of_study(recipe, make_request(words, root, config, manifest, dev, test, init, mirror))
    plan = make_plan(request, out, num_seeds=seeds, match=match)
    others = runs_of(reuse or ())
    if dry_run:
        check_settings(plan, is_matched=False)
        _print_plan(*looked_up(plan))
        if note := replaced(plan):
            _say(note)
    else:
        _carry_out(plan, jobs, others, fresh=fresh)


def _carry_out(plan: Plan, jobs: int | None, others: Sequence[Path], *, fresh: bool) -> None:
    """Do what is missing of `plan`, and write and print what came out; `others` are runs that may be the same."""
    from asr.atomic import only_one, write_text
    from asr.studies.compare import forget_all, matched, prepared, train_all
    from asr.studies.earlier import check_before_runs, check_settings, replaced, take_over
    from asr.studies.jobs import default_jobs
    from asr.studies.markdown import markdown
    from asr.studies.outcome import collect, file_stem, write_outcome
    from asr.studies.page import write_comparison

    num_at_once = jobs or default_jobs(plan.run(plan.variants[0], plan.seeds[0]).experiment.device)
    check_before_runs(plan, others, fresh=fresh)
    with only_one(plan.folder / ".lock", "asr compare"):
        if fresh:
            forget_all(plan)
        # Before updates are timed, which would overwrite those times by which the earlier comparison goes on.
        check_settings(plan, is_matched=False)
        if note := replaced(plan):
            _say(note)
        plan = matched(prepared(plan), _say)
        check_settings(plan, is_matched=True)
        if num_taken := take_over(plan, others):
            _say(f"runs copied from other comparisons: {num_taken}")
        failures = train_all(plan, num_at_once, _say)
        outcome = collect(plan, failures, num_at_once)
        stem = file_stem(plan.folder, failures)
        write_outcome(plan.folder / f"{stem}.json", outcome)
        write_comparison(plan.folder / f"{stem}.html", plan, outcome)
        write_text(plan.folder / f"{stem}.md", markdown(outcome))
    _print_outcome(outcome)
    print(f"all of it: {plan.folder / f'{stem}.html'}; for programs {stem}.json, to paste {stem}.md")
    if failures:
        name, why = next(iter(failures.items()))
        raise TrainingError(
            f"{len(failures)} of {len(plan.variants) * len(plan.seeds)} runs failed, such as {name}: {why}"
        )


def request_of_study(recipe: str | None, request: RunRequest) -> RunRequest:
    """`request` with its recipe.

    Raises:
        ConfigError: a word without `=`.
    """
    if request.recipe is not None:
        raise ConfigError(f"{request.recipe}: expected key.path=...; the recipe is named by --recipe")
    return replace(request, recipe=recipe)


def _say(text: str) -> None:
    print(text, flush=True)


def _print_plan(plan: Plan, knows_vocabulary: bool) -> None:
    from asr.studies.compare import matched
    from asr.studies.earlier import check_settings
    from asr.terminal import counted, get_console, table_of

    plan = matched(plan, _say, dry=True)
    if plan.match == "parameters" and knows_vocabulary:
        check_settings(plan, is_matched=True)
    rows = []
    for variant, seed in plan.runs():
        size = plan.size(variant)
        figures = f"{size.parameters:,}", f"{size.multiply_adds / 1e6:.1f}"
        rows.append((f"{variant.slug}-seed{seed}", " ".join(variant.overrides), *figures))
    get_console().print(table_of(("run", "settings", "parameters", "M mult-adds/s"), rows, num_names=2))
    variants, seeds = counted(len(plan.variants), "variant"), counted(len(plan.seeds), "seed")
    print(f"{variants}, {seeds}: {len(rows)} runs in {plan.folder}")
    if not knows_vocabulary:
        sizes = sorted({variant.vocabulary_size for variant in plan.variants})
        print(f"nothing is prepared yet: {', '.join(map(str, sizes))} tokens are assumed")
    if plan.match == "time":
        print("epochs are matched once updates have been timed")


def _print_outcome(outcome: Outcome) -> None:
    from asr.studies.page import notes_on_code, tables
    from asr.terminal import get_console, table_of

    console = get_console()
    for text in notes_on_code(outcome):
        console.print(text)
    for table in tables(outcome):
        console.print(table_of(table.head, table.rows))
        for text in table.notes:
            console.print(text, style="dim")
        for sentences in table.pairs:
            print(*sentences, sep="\n")
        print()
