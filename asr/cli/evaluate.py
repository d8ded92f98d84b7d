"""`asr evaluate`: word error rates of a trained model on any data."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.decoder_option import Decoders, Width, Words, parse_decoders, words_for
from asr.cli.model_option import Models
from asr.cli.output_option import check_folder, check_outputs
from asr.cli.run import Mirror, Root
from asr.errors import AsrError, ConfigError, ScoringError, did_you_mean

if TYPE_CHECKING:
    from asr.corpus.batch_order import BatchesConfig
    from asr.corpus.batches import Batch, Unusable
    from asr.evaluation import Evaluation, Subset
    from asr.model.acoustic import AcousticConfig
    from asr.scoring import Result

_LONGEST_NAME = 100
_DECODERS = "greedy,beam"
Report = Annotated[
    Path | None,
    typer.Option(
        help="Write one HTML file here to see, hear and search every utterance. Default: in the run folder, as "
        "report-DATA.html for parts of recipes, else as report-DATA-CRC.html, with a CRC of where the data lie; none for a "
        "checkpoint, several models or a folder that cannot be written to."
    ),
]
Data = Annotated[
    list[str],
    typer.Option(help="Manifest, folder of audio with .txt beside, folder or URL of shards, or RECIPE:SPLIT[,SPLIT]."),
]
By = Annotated[
    list[str] | None,
    typer.Option(help="Also a table by speaker, duration or any column of the data; with commas for several."),
]
Hypotheses = Annotated[Path | None, typer.Option(help="Folder for one file per subset and decoder, worst first.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for copies of shards behind a URL, each fetched once; may be the shards.cache of a run."),
]
EmbedAudio = Annotated[
    bool, typer.Option("--embed-audio", help="Put the audio into the report; without it, only where its files lie.")
]


def evaluate(
    model: Models,
    data: Data,
    root: Root = None,
    mirror: Mirror = None,
    cache: Cache = None,
    decoder: Decoders = None,
    width: Width = None,
    words: Words = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    by: By = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the records here.")] = None,
    hypotheses: Hypotheses = None,
    report: Report = None,
    embed_audio: EmbedAudio = False,
) -> None:
    """Measure word and character error rate with their 95 % intervals.

    Examples:
    - `asr evaluate --model runs/fsdd --data fsdd:test --root ~/corpora/fsdd --decoder greedy,beam`
    - `asr evaluate --model runs/ls --data librispeech:test-clean,test-other --root ~/corpora --by speaker`
    - `asr evaluate --model runs/mine --data speechocean762:test --root ~/corpora --by group --by sex`
    - `asr evaluate --model runs/gru --model runs/lstm/model.pt --data test.jsonl --json results.json`
    - `asr evaluate --model runs/mine --data test.jsonl --decoder beam,lexicon --words words.txt`
    - `asr evaluate --model runs/mine --data https://host/shards/test --report report.html --embed-audio`
    """
    from asr.evaluation import evaluate_subsets
    from asr.recipe import SHARDS
    from asr.report.of_model import write_model_report

    by, data = _columns(by or []), [name.removeprefix(SHARDS) for name in data]
    report = report or _default_report(model, data, is_needed=embed_audio)
    check_outputs({"--json": json_file, "--report": report}, [*map(Path, data), *model, *([words] if words else [])])
    check_folder("--hypotheses", hypotheses)
    _check_models(model, data)
    words = words_for(decoder, words, model[0])
    decoders = parse_decoders(decoder or _DECODERS + ",lexicon" * bool(words), width=width, words=words)
    subsets = [_looking_for(by, subset) for subset in _subsets(data, root, mirror, cache)]
    failures: list[AsrError] = []
    found = evaluate_subsets(
        model[0],
        subsets,
        decoders,
        others=model[1:],
        device=device,
        hypotheses=hypotheses,
        for_report=report is not None,
        embed_audio=embed_audio,
        failures=failures,
    )
    if not found:
        raise _all_of(failures)
    _write_and_print([each.result for each in found], subsets, json_file)
    if report is not None:
        write_model_report(report, model[0], [each.system for each in found if each.system], model[1:])
    for path in filter(None, (json_file, hypotheses, report)):
        print(f"wrote {path}")
    # Last of all, since what cannot be used must not cost what was computed.
    if complaints := [*failures, *_print_groups(found, by)]:
        raise _all_of(complaints)


def _columns(by: list[str]) -> list[str]:
    """The names of columns in `by`, some with commas between them."""
    columns = [name.strip() for each in by for name in each.split(",")]
    if "" in columns:
        raise ConfigError(
            f"--by {' --by '.join(by)}: expected names of columns with commas between, found an empty one"
        )
    return columns


def _all_of(complaints: list[AsrError]) -> AsrError:
    return type(complaints[0])("; ".join(map(str, complaints)))


def _write_and_print(results: list[Result], subsets: list[Subset], json_file: Path | None) -> None:
    from asr.scoring import results_table, write_results
    from asr.terminal import get_console

    try:
        if json_file is not None:
            parts = {result.subset for result in results if result.is_part}
            missing = {each.name: each.missing() for each in subsets if each.name in parts}
            write_results(json_file, results, {name: names for name, names in missing.items() if names})
    finally:  # what cannot be written must not cost what was computed
        get_console().print(results_table(results))


def _check_models(models: list[Path], data: list[str]) -> None:
    """Complains of a model that is not there, and says which has learnt from `data`, by its path: own files, or shards."""
    from asr.marks import read_marks
    from asr.model.checkpoint import find_checkpoint, folder_of

    for folder in [folder_of(find_checkpoint(path)) for path in models]:
        files = read_marks(folder).get("train", {}).get("inputs", {}).get("files", {})
        learnt_from = {files.get("train", ""), str((folder / "shards" / "train").resolve())}
        for each in data:
            if str(Path(each).resolve()) in learnt_from:
                print(
                    f"warning: {folder} has learnt from {each}: what it makes of that says nothing of new speech",
                    file=sys.stderr,
                )


def _subsets(data: list[str], root: Path | None, mirror: str | None, cache: Path | None) -> list[Subset]:
    from asr.corpus.places import find_place
    from asr.evaluation import open_subsets

    places = [find_place(name) for name in data]
    for option, value in (("--root", root), ("--mirror", mirror)):
        if value is not None and all(isinstance(place, str) or place.exists() for place in places):
            raise ConfigError(
                f"{option} {value}: only RECIPE:SPLIT is looked for there, and --data is {', '.join(data)}"
            )
    if cache is not None and not any(isinstance(place, str) for place in places):
        raise ConfigError(f"--cache {cache}: only shards behind a URL are kept there, and --data is {', '.join(data)}")
    return [subset for name in data for subset in open_subsets(name, root, mirror, cache)]


def _looking_for(by: list[str], subset: Subset) -> Subset:
    """`subset`, which says at its first batch which columns of `by` it lacks there: not after hours that one is misspelt."""
    from asr.scoring.breakdown import DURATION, SPEAKER

    def batches(model: AcousticConfig, options: BatchesConfig, unusable: Unusable) -> Iterator[Batch]:
        for number, batch in enumerate(subset.batches(model, options, unusable)):
            known = {name for columns in batch.metadata for name, value in columns.items() if value} | {
                SPEAKER,
                DURATION,
            }
            for column in by if number == 0 else ():
                if column not in known:
                    print(
                        f"warning: --by {column}: none of the first {len(batch)} utterances of {subset.name} has such a "
                        f"column{did_you_mean(column, known)}",
                        file=sys.stderr,
                    )
            yield batch

    return replace(subset, batches=batches)


def _print_groups(found: list[Evaluation], by: list[str]) -> list[ScoringError]:
    """Prints tables of the groups of utterances by each of the columns `by`; what is wrong with those that nobody knows."""
    from asr.scoring import groups_tables, summarize_groups
    from asr.scoring.breakdown import DURATION, SPEAKER, check_columns
    from asr.terminal import get_console

    unknown: list[ScoringError] = []
    for column in by:
        try:
            if column not in (SPEAKER, DURATION):
                check_columns((score for each in found for score in each.scores), [column])
        except ScoringError as error:
            unknown.append(error)
            continue
        groups = [
            summarize_groups(each.scores, column, subset=each.result.subset, decoder=each.result.decoder)
            for each in found
        ]
        for table in groups_tables(chain.from_iterable(groups)):
            get_console().print(table)
    return unknown


def _default_report(model: list[Path], data: list[str], *, is_needed: bool = False) -> Path | None:
    """Where a report goes that nobody has asked for: into the run folder, if it is one and can be written to."""
    from asr.marks import STAGES_FILE

    if len(model) > 1 or not (model[0] / STAGES_FILE).is_file() or not os.access(model[0], os.W_OK):
        if is_needed:
            raise ConfigError("--embed-audio puts the audio into a report: say where with --report")
        return None
    return model[0] / f"report-{_file_name(data)}.html"


def _file_name(data: list[str]) -> str:
    """What `data` is called, in letters that a file's name may have; with a CRC where other data may be called so, too."""
    from asr.corpus.places import find_place, title

    places = [find_place(each) for each in data]
    # A URL's query may hold a key.
    names = [
        title(place) if isinstance(place, str) else each.rstrip("/") for each, place in zip(data, places, strict=True)
    ]
    names = [name.rpartition("/")[2].removesuffix(".jsonl") for name in names]
    name = "-".join(re.sub(r"[^\w.-]+", "-", name) for name in names)
    if len(name) <= _LONGEST_NAME and not any(isinstance(place, str) or place.exists() for place in places):
        return name  # of recipes' parts
    whole = [place.partition("?")[0] if isinstance(place, str) else os.path.realpath(place) for place in places]
    return f"{name[:_LONGEST_NAME]}-{zlib.crc32(os.fsencode(' '.join(whole))):08x}"
