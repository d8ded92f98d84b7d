"""`asr score`: error rates of transcripts that any recogniser wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.errors import ScoringError


def score(
    reference: Annotated[Path, typer.Argument(help="File of `id text` lines: what was said.")],
    hypothesis: Annotated[Path, typer.Argument(help="File of `id text` lines: what was recognised.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the record here.")] = None,
    per_utterance: Annotated[Path | None, typer.Option(help="Write a table of utterances here, worst first.")] = None,
    normalize: Annotated[
        bool,
        typer.Option("--normalize", help="Compare small letters without punctuation. Default: the texts as they are."),
    ] = False,
    missing_as_empty: Annotated[
        bool, typer.Option("--missing-as-empty", help="An utterance without hypothesis was recognised as nothing.")
    ] = False,
    speaker_before: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The speaker is what stands before this in each id, as before the first - in LibriSpeech's "
            "84-121123-0000; intervals then resample speakers where there are enough.",
        ),
    ] = None,
) -> None:
    """Measure word and character error rate of transcripts, with their 95 % intervals.

    Examples:
    - `asr score reference.txt recognised.txt --normalize --json results.json --per-utterance errors.tsv`
    - `asr score test-clean.trans.txt recognised.txt --speaker-before -`
    """
    from asr.scoring import (
        paired,
        read_transcripts,
        results_table,
        score_utterance,
        summarize,
        write_hypotheses,
        write_results,
    )
    from asr.terminal import get_console

    pairs = paired(read_transcripts(reference), read_transcripts(hypothesis), missing_as_empty=missing_as_empty)
    if normalize:
        pairs = _normalized(pairs)
    scores = [
        score_utterance(
            id=utterance_id, speaker=_speaker(utterance_id, speaker_before), reference=said, hypothesis=heard
        )
        for utterance_id, (said, heard) in pairs.items()
    ]
    result = summarize(scores, subset=reference.stem, decoder=hypothesis.stem)
    get_console().print(results_table([result]))
    if json_file is not None:
        write_results(json_file, [result])
    if per_utterance is not None:
        write_hypotheses(per_utterance, scores)


def _normalized(pairs: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    from asr.text import NormalizerConfig
    from asr.text import normalize as normalize_text

    config = NormalizerConfig()
    return {key: (normalize_text(said, config), normalize_text(heard, config)) for key, (said, heard) in pairs.items()}


def _speaker(utterance_id: str, separator: str | None) -> str:
    """The part of `utterance_id` before the first `separator`; "" without separator."""
    if separator is None:
        return ""
    speaker, found, _ = utterance_id.partition(separator) if separator else ("", "", "")
    if not found or not speaker:
        raise ScoringError(
            f"--speaker-before '{separator}': expected ids such as 'speaker{separator or '-'}utterance', "
            f"found '{utterance_id}'"
        )
    return speaker
