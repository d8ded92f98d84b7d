"""`asr score`: error rates of transcripts that any recognisers wrote, and which of them is better."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.normalize_option import Steps, steps_of
from asr.cli.output_option import check_outputs
from asr.errors import ScoringError
from asr.terminal import counted

if TYPE_CHECKING:
    from asr.scoring import Columns, FiledTranscripts, Scorecard

_DEFAULT_CONFUSIONS = 5
_WORTH_SAYING = 0.1
_Reference = Annotated[
    Path, typer.Argument(help="What was said: file of transcripts, or folder of sounds with a .txt beside each.")
]
_Format = Annotated[
    str | None,
    typer.Option(help="lines (`id text`), trn, jsonl, csv, tsv, stm or ctm. Default: by each file's suffix."),
]
_TWO_COLUMNS = "; SAID,HEARD where it is another in the hypotheses."
_IgnoreExtra = Annotated[
    bool, typer.Option("--ignore-extra", help="Leave out hypotheses that have no reference, and count them.")
]
_SpeakerBefore = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="The speaker is what stands before this in each id, as before the first - in LibriSpeech's "
        "84-121123-0000; intervals then resample speakers where there are enough.",
    ),
]
_By = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Also by speaker, duration or a column of the references; repeatable."),
]
_Report = Annotated[
    Path | None, typer.Option(help="Write one HTML file here to see and search every utterance of all systems.")
]
_Limit = Annotated[
    str | None,
    typer.Option(
        metavar="RATE", help="Exit with code 1 when a system's WER is above: a fraction such as 0.08, or 8%; not 8."
    ),
]


def score(
    reference: _Reference,
    hypothesis: Annotated[list[Path], typer.Argument(help="Files of transcripts: what each system recognised.")],
    format: _Format = None,
    id_column: Annotated[str, typer.Option(help=f"Where jsonl, csv and tsv hold the id{_TWO_COLUMNS}")] = "id",
    text_column: Annotated[str, typer.Option(help=f"Where jsonl, csv and tsv hold the text{_TWO_COLUMNS}")] = "text",
    normalize: Steps = None,
    missing_as_empty: Annotated[
        bool, typer.Option("--missing-as-empty", help="An utterance without hypothesis was recognised as nothing.")
    ] = False,
    ignore_extra: _IgnoreExtra = False,
    speaker_before: _SpeakerBefore = None,
    by: _By = None,
    confusions: Annotated[int, typer.Option(min=0, help="How many of each kind are shown.")] = _DEFAULT_CONFUSIONS,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything here.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the table of systems here.")] = None,
    per_utterance: Annotated[
        Path | None, typer.Option(help="Write a table of the first system's utterances here, worst first.")
    ] = None,
    report: _Report = None,
    fail_above: _Limit = None,
) -> None:
    """Measure error rates of transcripts with their 95 % intervals, and compare systems with the first one.

    Examples:
    - `asr score reference.txt recognised.txt --normalize case,punctuation --per-utterance errors.tsv`
    - `asr score test-clean.trans.txt ours.txt theirs.txt --speaker-before - --by speaker`
    - `asr score reference.stm recognised.ctm --json score.json`
    - `asr score reference.txt ours.txt theirs.txt --report report.html`
    - `asr score recordings/ heard.jsonl --normalize case,punctuation`
    - `asr score test.jsonl recognised.csv --by gender --fail-above 0.08`
    - `asr score nemo.jsonl nemo.jsonl --id-column audio_filepath --text-column text,pred_text`
    """
    from asr.scoring import normalizer, score_systems

    files = {"--json": json_file, "--csv": csv_file, "--per-utterance": per_utterance, "--report": report}
    check_outputs(files, [reference, *hypothesis])
    limit = _rate(fail_above)
    steps = steps_of(normalize)
    said, heard, notes = _read_all(
        reference,
        hypothesis,
        format=format,
        columns=_columns(id_column, text_column, [reference, *hypothesis], format),
        speaker_before=speaker_before,
        missing_as_empty=missing_as_empty,
        ignore_extra=ignore_extra,
    )
    card = score_systems(
        said,
        heard,
        subset=reference.stem,
        normalizers=steps,
        normalize=normalizer(steps) if steps else str,
        notes=notes,
        by=by or (),
        keep_scores=per_utterance is not None or report is not None,
    )
    _write_and_print(card, confusions, files)
    _fail_above(limit, f"--fail-above {fail_above}", card)


def _read_all(
    reference: Path,
    hypothesis: list[Path],
    *,
    format: str | None,
    columns: tuple[Columns, Columns],
    speaker_before: str | None,
    missing_as_empty: bool,
    ignore_extra: bool,
) -> tuple[FiledTranscripts, dict[str, FiledTranscripts], list[str]]:
    """The references, the hypotheses by system, and what is left out of them."""
    from asr.scoring import count_unpaired, form_of, hint_about_ids, read_transcripts

    notes: list[str] = []
    of_references, of_hypotheses = columns
    said = _references(read_transcripts(reference, format=format, columns=of_references), speaker_before, notes)
    heard = {}
    for name, path in zip(_names(hypothesis), hypothesis, strict=True):
        heard[name] = read_transcripts(
            path,
            format=format,
            columns=of_hypotheses,
            references=said,
            keep_extra=ignore_extra,
            may_be_empty=form_of(path, format) == "ctm",
        )
        hint = partial(hint_about_ids, reference, path, format=format, said=said, heard=heard[name])
        numbers = count_unpaired(
            said, heard[name], missing_as_empty=missing_as_empty, ignore_extra=ignore_extra, hint=hint
        )
        notes += _left_out(name, *numbers)
    return said, heard, notes


def _columns(id_column: str, text_column: str, files: list[Path], format: str | None) -> tuple[Columns, Columns]:
    """Where the references hold id and text, and where the hypotheses do: in columns of one name, or of two with a comma."""
    from asr.scoring import Columns, has_columns

    if (id_column, text_column) != ("id", "text") and not any(has_columns(file, format) for file in files):
        raise ScoringError(
            "--id-column, --text-column: only jsonl, csv and tsv have columns, and none of the files is one"
        )
    ids, texts = ([name.strip() for name in option.split(",")] for option in (id_column, text_column))
    for option, names in (("--id-column", ids), ("--text-column", texts)):
        if not all(names) or len(names) > 2:
            raise ScoringError(
                f"{option}: expected the name of a column, or two as in SAID,HEARD, found '{','.join(names)}'"
            )
    return Columns(id=ids[0], text=texts[0]), Columns(id=ids[-1], text=texts[-1])


def _fail_above(limit: float | None, option: str, card: Scorecard) -> None:
    failing = [system.name for system in card.systems if limit is not None and system.result.wer > limit]
    if failing:
        print(f"above {option}: {', '.join(failing)}", file=sys.stderr)
        raise typer.Exit(1)


def _write_and_print(card: Scorecard, num_confusions: int, files: dict[str, Path | None]) -> None:
    """Writes what was asked for, and prints the tables also where that fails, which must not cost what was computed."""
    from asr.report import write_scorecard_report
    from asr.scoring import write_hypotheses, write_scorecard
    from asr.scoring.scorecard import write_table

    writers = {
        "--json": lambda path: write_scorecard(path, card),
        "--csv": lambda path: write_table(path, card),
        "--per-utterance": lambda path: write_hypotheses(path, card.systems[0].scores),
        "--report": lambda path: write_scorecard_report(path, card),
    }
    wanted = {option: path for option, path in files.items() if path is not None}
    try:
        for option, path in wanted.items():
            writers[option](path)
    finally:
        _print(card, num_confusions)
    for path in wanted.values():
        print(f"wrote {path}")


def _rate(text: str | None) -> float | None:
    """The rate that `text` names as a fraction below 1 or in per cent; a bare 8 may be meant as either and is refused."""
    if text is None:
        return None
    number, per_cent, rest = text.strip().partition("%")
    try:
        rate = float(number) / (100 if per_cent else 1)
    except ValueError:
        rate = math.nan
    if rest or not 0 <= rate < (math.inf if per_cent else 1):
        raise ScoringError(f"--fail-above {text}: expected a fraction such as 0.08 or 8%")
    return rate


def _names(files: list[Path]) -> list[str]:
    """Short names of the systems: the files' own, or their paths where two files have the same."""
    stems = [file.stem for file in files]
    if len({str(file) for file in files}) < len(files):
        raise ScoringError("the same file stands twice among the hypotheses; expected one file per system")
    return stems if len(set(stems)) == len(stems) else [str(file) for file in files]


def _references(found: FiledTranscripts, speaker_before: str | None, notes: list[str]) -> FiledTranscripts:
    """The references with their speakers; what is left out of them is added to `notes`."""
    from asr.scoring import FiledTranscripts, ignored

    num_ignored = sum(map(ignored, found.values()))
    if num_ignored:
        notes.append(f"{num_ignored} segments are marked to be ignored: they are left out, with what was heard in them")
    if speaker_before is None:
        return found
    of_speakers = FiledTranscripts()
    for name, transcript in found.items():
        of_speakers.add(name, replace(transcript, speaker=_speaker(name, speaker_before)))
    return of_speakers


def _left_out(system: str, num_extra: int, num_missing: int) -> Iterator[str]:
    if num_extra:
        yield f"{system}: {num_extra} hypotheses without a reference are left out"
    if num_missing:
        yield f"{system}: {counted(num_missing, 'utterance')} without a hypothesis, recognised as nothing"


def _print(card: Scorecard, num_confusions: int) -> None:
    from asr.scoring import confusions_table, groups_tables, results_table
    from asr.terminal import get_console

    for note in card.notes:
        print(note)
    console = get_console()
    console.print(results_table([system.result for system in card.systems], systems="system"))
    print(f"normalised by: {', '.join(card.normalizers) or 'nothing, the texts are compared as they are'}")
    for system in card.systems:
        result = system.result
        print(
            f"{system.name}: MER {100 * result.mer:.2f} %, WIL {100 * result.wil:.2f} %, "
            f"utterances with an error {100 * result.ser:.2f} %"
        )
    _print_errors_of_spelling(card)
    for table in groups_tables((group for system in card.systems for group in system.groups), systems="system"):
        print()
        console.print(table)
    for system in card.systems:
        if num_confusions and system.result.wer:
            print(f"\n{system.name}, most frequent errors:")
            console.print(confusions_table(system.confusions, num_confusions))
    for comparison in card.comparisons:
        print(f"\n{comparison.sentence()}")
        for warning in comparison.warnings():
            print(f"warning: {warning}")


def _print_errors_of_spelling(card: Scorecard) -> None:
    """Say of each system whether a good part of its errors is mere spelling, and how to leave that out."""
    from asr.scoring.scorecard import SPELLING

    steps = [*card.normalizers, *(step for step in SPELLING if step not in card.normalizers)]
    for system in card.systems:
        errors = system.result.substitutions + system.result.deletions + system.result.insertions
        if system.errors_of_spelling > _WORTH_SAYING * errors:
            whose = f"{system.name}: " if len(card.systems) > 1 else ""
            print(
                f"{whose}{system.errors_of_spelling} of {errors} word errors differ in Unicode form, case or punctuation "
                f"only: --normalize {','.join(steps)}"
            )


def _speaker(utterance_id: str, separator: str) -> str:
    """The part of `utterance_id` before the first `separator`."""
    speaker, found, _ = utterance_id.partition(separator) if separator else ("", "", "")
    if not found or not speaker:
        raise ScoringError(
            f"--speaker-before '{separator}': expected ids such as 'speaker{separator or '-'}utterance', "
            f"found '{utterance_id}'"
        )
    return speaker
