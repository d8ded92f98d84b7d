"""`asr rover`: one file of transcripts out of those of several recognisers, by a vote on each word."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from asr.cli.normalize_option import Steps, steps_of
from asr.cli.output_option import check_outputs
from asr.errors import ConfigError, ScoringError, did_you_mean
from asr.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asr.scoring import FiledTranscripts, Transcript
    from asr.scoring.rover import Reading

_Alpha = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="confidence, maximum: weight of the votes; the rest is the confidences'. Default: 0.5."
    ),
]
_NullConfidence = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Confidence of a system that has no word where others have one. Default: 0.5."),
]
_METHODS = ("votes", "confidence", "maximum")
_SPELLING = ("case", "punctuation")


class _Rules(NamedTuple):
    """How words are made alike, how they are voted on, whether those that are written have times, and the files of words.

    In the files `words_only`, an utterance that is not there is one in which nothing was heard: a ctm has no line for it.
    """

    steps: list[str]
    method: str
    alpha: float = 1.0
    null_confidence: float = 0.0
    timed: bool = False
    words_only: frozenset[str] = frozenset()


def rover(
    hypothesis: Annotated[list[Path], typer.Argument(help="Files of transcripts, the best system first.")],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .txt (`id text` lines), .trn, .jsonl (also confidences) or .ctm (and times)."
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            help="votes: the most systems win. confidence: also how sure they are, by the last column of a ctm or a column "
            "`confidence` of jsonl, csv or tsv, with one number or a list of one per word. maximum: the same, "
            "but of those that have a word the surest counts, not the mean."
        ),
    ] = "votes",
    normalize: Steps = None,
    alpha: _Alpha = None,
    null_confidence: _NullConfidence = None,
    segments: Annotated[
        Path | None, typer.Option(help="References whose segments the words of a ctm belong to, such as an stm.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="lines, trn, jsonl, csv, tsv, stm or ctm. Default: by each file's suffix.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="Where jsonl, csv and tsv hold the id.")] = "id",
    text_column: Annotated[str, typer.Option(help="Where jsonl, csv and tsv hold the text.")] = "text",
) -> None:
    """Combine transcripts into one with fewer errors: words are aligned, and in each place systems vote.

    Where readings have the same score, the system that stands first wins; an utterance that a file lacks is named, and the
    file has no vote there; but a ctm, which has no line where nothing was heard, votes for silence. Words that are spelled
    alike are the same word: with --normalize those that the steps make alike, and these are written as the steps have them.
    NIST's `rover` aligns at other costs where systems have nothing in a place: its results can differ. In a ctm a channel is
    an utterance of its own, and a word has the time of the first of the files that have it, or a later one, so that words
    rise. Its confidence, also in .jsonl, is the mean over all files, with 0 for those that have something else there; by
    votes, the share of the files that have it.

    Examples:
    - `asr rover ours.txt theirs.txt others.txt --out together.txt --normalize case,punctuation`
    - `asr rover a.ctm b.ctm c.ctm --segments reference.stm --method confidence --alpha 0.4 --out together.ctm`
    """
    from asr.scoring import Columns, check_writable, form_of, normalizer, read_transcripts, write_transcripts

    words_only = frozenset(str(path) for path in hypothesis if form_of(path, format) == "ctm")
    rules = _rules(steps_of(normalize), method, alpha, null_confidence)._replace(
        timed=form_of(out) == "ctm", words_only=words_only
    )
    normalizer(rules.steps)  # a step that is none is told before anything is read
    _check_inputs(hypothesis, segments, words_only)
    check_outputs({"--out": out}, hypothesis if segments is None else [*hypothesis, segments])
    check_writable(out)
    said = None if segments is None else read_transcripts(segments)
    read = partial(read_transcripts, format=format, columns=Columns(id=id_column, text=text_column), references=said)
    heard = {str(path): read(path, may_be_empty=str(path) in words_only) for path in hypothesis}
    ids = _ids(heard, words_only)
    parted: list[tuple[str, str]] = []
    write_transcripts(out, ((name, _together(name, heard, rules, parted)) for name in ids))
    print(f"wrote {out}: {counted(len(ids), 'utterance')}, by {method} of {len(heard)} files")
    _tell_of_spelling(parted, rules.steps)


def _check_inputs(hypothesis: list[Path], segments: Path | None, words_only: frozenset[str]) -> None:
    if segments is not None and not words_only:
        raise ConfigError(f"--segments {segments}: only the words of a ctm need segments, and there is no ctm")
    if len(hypothesis) < 2:
        raise ScoringError("expected two files of transcripts or more, found one: nothing to vote on")
    if len({path.resolve() for path in hypothesis}) < len(hypothesis):
        raise ScoringError("the same file stands twice among the hypotheses; expected one file per system")


def _rules(steps: list[str], method: str, alpha: float | None, null_confidence: float | None) -> _Rules:
    if method not in _METHODS:
        raise ConfigError(f"--method {method}: no such method{did_you_mean(method, _METHODS)}")
    if method != "votes":
        return _Rules(
            steps, method, 0.5 if alpha is None else alpha, 0.5 if null_confidence is None else null_confidence
        )
    for option, weight in (("--alpha", alpha), ("--null-confidence", null_confidence)):
        if weight is not None:
            raise ConfigError(f"{option} {weight}: only --method confidence and maximum weigh; --method is {method}")
    return _Rules(steps, method)


def _ids(heard: Mapping[str, FiledTranscripts], words_only: frozenset[str]) -> list[str]:
    """The ids of all utterances, in the order of the first file that has them; says which are missing where.

    Raises:
        ScoringError: a file has no utterance in common with those before it, none has any, or two are one in a ctm.
    """
    from asr.scoring.formats import ids_in_ctm
    from asr.scoring.transcripts import named

    ids: dict[str, None] = {}
    for file, transcripts in heard.items():
        if ids and transcripts and not any(name in ids for name in transcripts):
            first = named([*ids][:1])
            raise ScoringError(
                f"{file}: no utterance in common with the files before it, which have {first} where this has "
                f"{named([*transcripts][:1])}; are these of the same data?"
            )
        ids.update(dict.fromkeys(transcripts))
    if not ids:
        raise ScoringError(f"{named(heard)}: expected words in one of these files at least, found none")
    if words_only:
        ids_in_ctm(ids)
    for file, transcripts in heard.items():
        missing = [name for name in ids if name not in transcripts]
        if missing:
            which = f"{len(missing)} of {len(ids)} utterances"
            said = f"nothing heard in {which}" if file in words_only else f"no vote on {which}, which it lacks"
            print(f"{file}: {said}: {named(missing)}")
    return [*ids]


def _together(
    name: str, heard: Mapping[str, FiledTranscripts], rules: _Rules, parted: list[tuple[str, str]]
) -> list[Reading]:
    """What the files that have the utterance `name` agree on by `rules`.

    Words that these leave apart, though they differ in case or punctuation only, are added to `parted`.
    """
    from asr.scoring import (
        Transcript,
        confident_readings,
        normalised,
        normalizer,
        readings,
        spellings,
        vote,
        word_transition_network,
    )

    found = {
        file: transcripts[name] if name in transcripts else Transcript(text="")
        for file, transcripts in heard.items()
        if name in transcripts or file in rules.words_only
    }
    words = [
        readings(transcript)
        if rules.method == "votes"
        else confident_readings(transcript, where=f"{file}: utterance '{name}'")
        for file, transcript in found.items()
    ]
    if rules.timed:
        _check_times(name, found)
    if rules.steps:
        words = [normalised(of_file, normalizer(rules.steps)) for of_file in words]
    network = word_transition_network(words)
    if simpler := _simpler(rules.steps):
        parted += spellings(network, normalizer(simpler))
    return vote(network, alpha=rules.alpha, null_confidence=rules.null_confidence, maximum=rules.method == "maximum")


def _check_times(name: str, found: Mapping[str, Transcript]) -> None:
    """Accepts the utterance `name`, as the files have it, where its words have times.

    Raises:
        ScoringError: there are none in a file.
    """
    for file, transcript in found.items():
        if transcript.text.split() and not transcript.times:
            raise ScoringError(
                f"{file}: utterance '{name}': expected words with times for a ctm, found none; take files that have "
                "them (ctm, jsonl of `asr transcribe --format json`), or write .jsonl, .txt or .trn"
            )


def _simpler(steps: list[str]) -> list[str]:
    """`steps` with those behind them that spelling asks for, or nothing where they lack none."""
    lacking = [step for step in _SPELLING if step not in steps]
    return [*steps, *lacking] if lacking else []


def _tell_of_spelling(parted: list[tuple[str, str]], steps: list[str]) -> None:
    if parted:
        one, other = parted[0]
        print(
            f"warning: {counted(len(parted), 'place')} where words differ in case or punctuation only, such as '{one}' and "
            f"'{other}', and have their votes apart: --normalize {','.join(_simpler(steps))} counts them as one word"
        )
