"""`asr shards`: what lies in folders of shards, and whether it can still be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.output_option import check_outputs
from asr.errors import CorpusError
from asr.terminal import counted

if TYPE_CHECKING:
    from asr.corpus.shard_check import Durations, ShardsSummary

_WIDTH_OF_BARS = 40

app = typer.Typer(help="Look at shards.", no_args_is_help=True)

Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="FOLDER...",
        help="Folders that hold an index.json, or their URLs: https://, s3:// or 'pipe:COMMAND' with {} for a file's name.",
    ),
]


@app.command()
def info(
    folders: Folders,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the records of the folders here.")] = None,
) -> None:
    """Print what shards hold: utterances, hours, speakers, codec, size, durations, texts, and what was left out and why.

    A folder that cannot be read is named, and the others are still shown: then the exit code is 2.

    Examples:
    - `asr shards info runs/fsdd/shards/train`
    - `asr shards info runs/*/shards/* --json shards.json`
    - `asr shards info 'pipe:ssh host cat /data/train/{}'`
    """
    from asr.atomic import write_text
    from asr.corpus.places import find_place
    from asr.corpus.shard_check import summarize
    from asr.corpus.shards import ShardIndex

    check_outputs({"--json": json_file})
    summaries = []
    for folder in folders:
        try:
            summaries.append(summarize(ShardIndex.load(find_place(folder))))
        except CorpusError as error:
            if len(folders) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
    if json_file is not None and summaries:
        records = [asdict(summary) for summary in summaries]
        write_text(json_file, json.dumps(records, indent=2, ensure_ascii=False) + "\n")
    for summary in summaries:
        for line in info_lines(summary):
            print(line)
    if failures := len(folders) - len(summaries):
        raise CorpusError(f"{failures} of {len(folders)} folders of shards could not be read")


def info_lines(summary: ShardsSummary) -> Iterator[str]:
    """The summary for people."""
    found = summary.num_utterances + sum(summary.skipped.values())
    of_whole = f" (a part: {found} of {summary.whole})" if found < summary.whole else ""
    yield (
        f"{summary.folder}: {counted(summary.num_utterances, 'utterance')}{of_whole} in "
        f"{counted(summary.num_shards, 'shard')}, {summary.hours:.2f} h, "
        f"{counted(summary.num_speakers, 'speaker') if summary.num_speakers else 'unknown speakers'}"
    )
    kind = (
        f"{summary.num_features} features, {summary.sample_rate} frames/s"
        if summary.num_features
        else f"{summary.sample_rate} Hz"
    )
    kilobytes = summary.num_bytes / (summary.hours * 3600) / 1000
    yield f"  {summary.codec}, {kind}, {summary.num_bytes / 1e6:.1f} MB, {kilobytes:.1f} kB per second of speech"
    durations = summary.durations
    yield (
        f"  {durations.min:.2f} to {durations.max:.2f} s, median {durations.median:.2f} s, mean {durations.mean:.2f} s"
    )
    yield from histogram_lines(durations)
    texts = summary.texts
    yield (
        f"  texts of {texts.min} to {texts.max} characters, median {texts.median:g}, mean {texts.mean:.1f}, "
        f"{texts.per_second:.1f} per second"
    )
    for reason, count in summary.skipped.items():
        yield f"  left out: {count} ({reason})"


def histogram_lines(durations: Durations) -> Iterator[str]:
    """A line with a bar for each bin of the histogram."""
    most = max(each.count for each in durations.histogram)
    for each in durations.histogram:
        # Rounded up: a bin with one utterance shows, however many the fullest has.
        bar = "#" * -(-each.count * _WIDTH_OF_BARS // most)
        yield f"  {each.from_seconds:>8g} to {each.to_seconds:>6g} s {each.count:>9}  {bar}".rstrip()


@app.command()
def verify(folders: Folders, threads: Annotated[int, typer.Option(min=0, help="Threads that decode.")] = 4) -> None:
    """Read and decode every utterance, compare all with the index, and name what is damaged: then the exit code is 2.

    Examples:
    - `asr shards verify runs/fsdd/shards/*`
    - `asr shards verify https://host/shards/train`
    """
    from asr.corpus.places import find_place
    from asr.corpus.shard_check import verify_shards
    from asr.corpus.shards import ShardIndex
    from asr.terminal import progress_bar

    # All before the first: a misspelt name should not show after hours.
    indices = [ShardIndex.load(find_place(folder), check_shards=False) for folder in folders]
    results = []
    with progress_bar("verifying", sum(index.num_utterances for index in indices)) as advance:
        for index in indices:
            results.append(verify_shards(index, num_threads=threads, advance=advance))
    for result in results:
        for damage in result.damages:
            print(f"damaged: {damage.message}")
        whole = f"{result.num_utterances - result.num_damaged} of {result.num_utterances} utterances can be read"
        print(f"{result.folder}: {whole}")
    damaged = [result for result in results if result.damages]
    if damaged:
        names = ", ".join(str(result.folder) for result in damaged)
        num_damaged = sum(result.num_damaged for result in damaged)
        raise CorpusError(
            f"damaged shards, {counted(num_damaged, 'utterance')} lost, see above: {names}; those of a run are "
            "made again by the same `asr run` once their folder is deleted"
        )
