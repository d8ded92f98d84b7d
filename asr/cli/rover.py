"""`asr rover`: one file of transcripts out of those of several recognisers, by a vote on each word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.output_option import check_outputs
from asr.errors import ConfigError, ScoringError, did_you_mean
from asr.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asr.scoring import FiledTranscripts

_Alpha = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="confidence: weight of the votes; the rest is the confidences'. Default: 0.5."),
]
_NullConfidence = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="confidence: of a system that has no word where others have one. Default: 0.5."),
]
_METHODS = ("votes", "confidence")


def rover(
    hypothesis: Annotated[list[Path], typer.Argument(help="Files of transcripts, the best system first.")],
    out: Annotated[Path, typer.Option(help="File to write: .txt (`id text` lines), .trn or .jsonl.")],
    method: Annotated[
        str,
        typer.Option(
            help="votes: the most systems win. confidence: also how sure they are, by the last column of a ctm or a column "
            "`confidence` of jsonl, csv or tsv, with one number or a list of one per word."
        ),
    ] = "votes",
    alpha: _Alpha = None,
    null_confidence: _NullConfidence = None,
    segments: Annotated[
        Path | None, typer.Option(help="References whose segments the words of a ctm belong to, such as an stm.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="lines, trn, jsonl, csv, tsv, stm or ctm. Default: by each file's suffix."),
    ] = None,
    id_column: Annotated[str, typer.Option(help="Where jsonl, csv and tsv hold the id.")] = "id",
    text_column: Annotated[str, typer.Option(help="Where jsonl, csv and tsv hold the text.")] = "text",
) -> None:
    """Combine transcripts into one with fewer errors: words are aligned, and in each place systems vote.

    Where readings have the same score, the system that stands first wins; an utterance that a file lacks is named, and the
    file has no vote there.

    Examples:
    - `asr rover ours.txt theirs.txt others.txt --out together.txt`
    - `asr rover a.ctm b.ctm c.ctm --segments reference.stm --method confidence --alpha 0.4 --out together.jsonl`
    """
    from asr.scoring import Columns, check_writable, read_transcripts, write_transcripts

    if method not in _METHODS:
        raise ConfigError(f"--method {method}: no such method{did_you_mean(method, _METHODS)}")
    weights = _weights(method, alpha, null_confidence)
    if segments is not None and all((format or path.suffix.lower()[1:]) != "ctm" for path in hypothesis):
        raise ConfigError(f"--segments {segments}: only the words of a ctm need segments, and there is no ctm")
    if len(hypothesis) < 2:
        raise ScoringError("expected two files of transcripts or more, found one: nothing to vote on")
    if len({path.resolve() for path in hypothesis}) < len(hypothesis):
        raise ScoringError("the same file stands twice among the hypotheses; expected one file per system")
    check_outputs({"--out": out}, hypothesis if segments is None else [*hypothesis, segments])
    check_writable(out)
    columns = Columns(id=id_column, text=text_column)
    said = None if segments is None else read_transcripts(segments)
    heard = {str(path): read_transcripts(path, format=format, columns=columns, references=said) for path in hypothesis}
    ids = _ids(heard)
    texts = {name: _together(name, heard, weights) for name in ids}
    write_transcripts(out, texts)
    print(f"wrote {out}: {counted(len(texts), 'utterance')}, by {method} of {len(heard)} files")


def _weights(method: str, alpha: float | None, null_confidence: float | None) -> tuple[float, float] | None:
    if method == "confidence":
        return (0.5 if alpha is None else alpha, 0.5 if null_confidence is None else null_confidence)
    for option, weight in (("--alpha", alpha), ("--null-confidence", null_confidence)):
        if weight is not None:
            raise ConfigError(f"{option} {weight}: only --method confidence weighs; --method is {method}")
    return None


def _ids(heard: Mapping[str, FiledTranscripts]) -> list[str]:
    """The ids of all utterances, in the order of the first file that has them; says which are missing where.

    Raises:
        ScoringError: a file has no utterance in common with those before it.
    """
    from asr.scoring.transcripts import named

    ids: dict[str, None] = {}
    for file, transcripts in heard.items():
        if ids and not any(name in ids for name in transcripts):
            first = named([*ids][:1])
            raise ScoringError(
                f"{file}: no utterance in common with the files before it, which have {first} where this has "
                f"{named([*transcripts][:1])}; are these of the same data?"
            )
        ids.update(dict.fromkeys(transcripts))
    for file, transcripts in heard.items():
        missing = [name for name in ids if name not in transcripts]
        if missing:
            print(f"{file}: no vote on {len(missing)} of {len(ids)} utterances, which it lacks: {named(missing)}")
    return [*ids]


def _together(name: str, heard: Mapping[str, FiledTranscripts], weights: tuple[float, float] | None) -> str:
    """What the files that have the utterance `name` agree on, with `weights` (alpha, confidence of nothing) or by heads."""
    from asr.scoring import confident_readings, readings, vote

    found = {file: transcripts[name] for file, transcripts in heard.items() if name in transcripts}
    if weights is None:
        return vote([readings(transcript) for transcript in found.values()])
    alpha, null_confidence = weights
    words = [confident_readings(transcript, where=f"{file}: utterance '{name}'") for file, transcript in found.items()]
    return vote(words, alpha=alpha, null_confidence=null_confidence)
