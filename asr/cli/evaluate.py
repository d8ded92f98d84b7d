"""`asr evaluate`: word error rates of a trained model on any data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[Path, typer.Option(help="Run folder or checkpoint.")],
    data: Annotated[
        list[str],
        typer.Option(
            help="Manifest, folder of audio with .txt beside, folder or URL of shards, or RECIPE:SPLIT[,SPLIT]."
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Folder that holds the recipe's corpus.")] = None,
    decoder: Annotated[str, typer.Option(help="greedy or beam; with commas for several.")] = "greedy",
    width: Annotated[int, typer.Option(min=1, help="Beams that are kept, with --decoder beam.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    by: Annotated[
        list[str] | None, typer.Option(help="Also a table by speaker or by duration; may be given several times.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the records here.")] = None,
    hypotheses: Annotated[
        Path | None, typer.Option(help="Folder for one file per subset and decoder, worst first.")
    ] = None,
) -> None:
    """Measure word and character error rate with their 95 % intervals.

    Examples:
    - `asr evaluate --model runs/fsdd --data fsdd:test --root ~/corpora/fsdd --decoder greedy,beam`
    - `asr evaluate --model runs/ls --data librispeech:test-clean,test-other --root ~/corpora --by speaker`
    - `asr evaluate --model runs/mine/model.pt --data test.jsonl --json results.json`
    - `asr evaluate --model runs/mine --data https://host/shards/test`
    """
    from asr.cli.decoder_option import parse_decoders
    from asr.evaluation import evaluate_subsets, open_subsets
    from asr.scoring import GroupResult, groups_tables, results_table, write_results
    from asr.terminal import get_console

    subsets = [subset for name in data for subset in open_subsets(name, root)]
    decoders = parse_decoders(decoder, width=width)
    groups: list[GroupResult] = []
    results = evaluate_subsets(
        model, subsets, decoders, device=device, hypotheses=hypotheses, by=by or (), groups=groups
    )
    get_console().print(results_table(results))
    for table in groups_tables(groups):
        get_console().print(table)
    if json_file is not None:
        write_results(json_file, results)
