"""`asr data`: look at a corpus before it costs a night of training."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.output_option import check_outputs
from asr.errors import CorpusError
from asr.terminal import counted

if TYPE_CHECKING:
    from asr.corpus.check import CorpusCheck, Finding

_NUM_NAMED = 3
_NUM_LINES_NAMED = 20

app = typer.Typer(help="Look at data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at data."""


@app.command()
def check(
    manifest: Annotated[
        Path, typer.Argument(help="JSONL manifest, or a folder of audio with a .txt beside each file.")
    ],
    sample_rate: Annotated[
        int | None, typer.Option(min=1000, help="Hertz that the model hears. Default: each file's own.")
    ] = None,
    subsampling: Annotated[int, typer.Option(help="Feature frames per encoder frame: 1, 2, 4, 8, ...")] = 4,
    hop_seconds: Annotated[float, typer.Option(min=0.0001, max=1, help="Distance of feature frames.")] = 0.01,
    num_features: Annotated[
        int | None, typer.Option(min=1, help="Values per frame, where the corpus is stored features, not sound.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all findings with all ids here.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads that decode audio.")] = 2,
) -> None:
    """Check a corpus: audio that is missing, damaged, silent or clipped, wrong durations, odd characters, duplicates.

    Also what is too short for CTC to say its text. Errors, which training cannot use, give exit code 1; warnings do not.

    Example: `asr data check train.jsonl --sample-rate 16000 --json findings.json`
    """
    from asr.atomic import write_text
    from asr.corpus.check import CorpusCheck, check_corpus
    from asr.terminal import progress_bar

    if subsampling < 1 or subsampling.bit_count() > 1:
        raise CorpusError(f"--subsampling {subsampling}: expected 1, 2, 4, 8 or another power of two")
    if sample_rate is not None and num_features is not None:
        raise CorpusError("--sample-rate: stored features have none; say --hop-seconds, how far their frames are apart")
    check_outputs({"--json": json_file}, [manifest])
    result = CorpusCheck(sample_rate, subsampling, hop_seconds, num_features or 0)
    with progress_bar("checking", None) as advance:
        check_corpus(manifest, result, num_threads=threads, advance=advance)
    findings = result.findings()
    if json_file is not None:
        record = {"summary": result.summary(), "findings": [asdict(finding) for finding in findings]}
        write_text(json_file, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    for line in report_lines(manifest, result, findings):
        print(line)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def report_lines(path: Path, result: CorpusCheck, findings: Iterable[Finding]) -> Iterator[str]:
    """The report for people: sizes, then a line for each finding with the first few ids."""
    unknown = f", unknown for {counted(result.speakers[''], 'utterance')}" if result.speakers[""] else ""
    speakers = counted(len(result.speakers.keys() - {""}), "speaker")
    yield f"{path}: {counted(result.utterances, 'utterance')}, {speakers}{unknown}"
    if result.durations:
        shortest, middle, longest = min(result.durations), statistics.median(result.durations), max(result.durations)
        rates = ", ".join(f"{rate} Hz ({count})" for rate, count in result.sample_rates.most_common())
        yield f"{sum(result.durations) / 3600:.2f} h of audio, {shortest:.2f} to {longest:.2f} s, median {middle:.2f} s"
        if rates:
            yield f"{'sample rates' if len(result.sample_rates) > 1 else 'sample rate'}: {rates}"
        yield from _advice(result)
    yield f"{counted(len(result.characters), 'character')}: {''.join(sorted(result.characters)).strip()}"
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.severity] += finding.count
        yield f"{finding.severity:7} {finding.count:6} x {finding.kind}: {_named(finding)}"
    yield f"errors: {counts['error']}, warnings: {counts['warning']}" if counts else "no problems found"


def _advice(result: CorpusCheck) -> Iterator[str]:
    """Settings that would suit the files better than the usual ones."""
    from asr.corpus.batch_order import BatchesConfig

    rate = result.advised_rate()
    if rate is not None:
        few = result.num_below(rate)
        rest = f"; leave out the {counted(few, 'file')} below" if few else ""
        yield (
            f"train with features.sample_rate={rate}: a model hears one rate (one to start from, --init, keeps its own), "
            f"and no file should be below it{rest}"
        )
    most = BatchesConfig().seconds
    long = [seconds for seconds in result.durations if seconds > most]
    if long:
        are, them = ("is", "it") if len(long) == 1 else ("are", "them")
        share = sum(long) / sum(result.durations)
        seconds, name = result.longest
        # Where all are so long, nothing would be left.
        way = f", or leave {them} out of training with batches.max_seconds={most:g}"
        yield (
            f"{counted(len(long), 'utterance')} {are} longer than a batch of {most:g} s ({share:.0%} of the audio; the "
            f"longest: {name}, {seconds:.2f} s); cut {them} into sentences"
            f"{way if len(long) < len(result.durations) else ''}"
        )


def _named(finding: Finding) -> str:
    # What is wrong with one line says nothing of the next.
    most = _NUM_LINES_NAMED if finding.kind in ("unusable line", "unusable text") else _NUM_NAMED
    names_by_detail: defaultdict[str, list[str]] = defaultdict(list)
    examples = finding.examples[:most]
    for name, detail in examples:
        names_by_detail[detail].append(name)
    shown = [", ".join(names) + (f" ({detail})" if detail else "") for detail, names in names_by_detail.items()]
    return "; ".join(shown) + ("; ..." if finding.count > len(examples) else "")
