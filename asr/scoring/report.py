"""From hypotheses to a report: the score of each utterance, the result of a subset, the files and the table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asr.atomic import write_text
from asr.errors import ScoringError
from asr.scoring.error_counts import Difference, Edit, ErrorCounts, count_characters, differences, word_edits
from asr.scoring.significance import FEWEST_BLOCKS, Interval, Unit, is_unknown, rate_interval
from asr.scoring.tally import Tally, errors_and_lengths, total

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("errors", "words", "character_errors", "characters", "seconds", "speaker", "id")
_TEXT_COLUMNS = ("differences", "reference", "hypothesis")


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceScore:
    """One utterance: what was said, what was recognised, and the errors between them.

    Attributes:
        id: the utterance's id.
        speaker: who said it, "" when unknown.
        reference: what was said, in the form that was compared.
        hypothesis: what was recognised.
        edits: the stretches of words in which the two differ.
        words, characters: error counts.
        seconds: duration of the recording, None when unknown.
        columns: what else is known of the utterance, by name.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    edits: tuple[Edit, ...]
    words: ErrorCounts
    characters: ErrorCounts
    seconds: float | None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def differences(self) -> list[Difference]:
        """Reference and hypothesis aligned word by word, equal stretches included."""
        return differences(self.reference, self.hypothesis, self.edits)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One subset under one decoder; rates are fractions, and `low` and `high` the ends of their 95 % intervals.

    Where the references hold no word, `wer`, `cer` and their intervals are not defined: NaN, and null in JSON.

    Attributes:
        subset: what was recognised, such as "test".
        decoder: how, such as "greedy".
        wer, wer_low, wer_high: word error rate.
        cer, cer_low, cer_high: character error rate, spaces between words included.
        mer, wil: match error rate and word information lost, both from 0 to 1 (Morris et al. 2004).
        ser: sentence error rate, the share of utterances with any word error.
        substitutions, deletions, insertions: word errors by kind.
        words: words of the references.
        utterances: number of them.
        whole: utterances of the whole published subset, 0 when that is not known; more than `utterances`: only a part.
        resampled: what the interval of `wer` takes for independent: "speakers", "utterances", or "words" where all agree;
            None without an interval.
        rtf: real-time factor, seconds of computing per second of audio; None where nothing was timed.
        speakers: number of those that are known.
        without_speaker: utterances whose speaker is unknown, each of which is resampled by itself.
        models: number of models whose probabilities were averaged; `rtf` is of all of them.
    """

    subset: str
    decoder: str
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    mer: float
    wil: float
    ser: float
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int
    whole: int
    resampled: Unit | None
    rtf: float | None
    speakers: int = 0
    models: int = 1
    without_speaker: int = 0

    @property
    def is_part(self) -> bool:
        """Whether this is known to be less than the whole published subset."""
        return self.utterances < self.whole


def score_utterance(
    *,
    id: str,
    reference: str,
    hypothesis: str,
    speaker: str = "",
    seconds: float | None = None,
    columns: Mapping[str, str] | None = None,
) -> UtteranceScore:
    """The score of one hypothesis; texts are compared as they are, so normalise both sides alike before."""
    edits, words = word_edits(reference, hypothesis)
    return UtteranceScore(
        id=id,
        speaker=speaker,
        reference=reference,
        hypothesis=hypothesis,
        edits=edits,
        words=words,
        characters=count_characters(reference, hypothesis),
        seconds=seconds,
        columns=columns or {},
    )


def summarize(
    scores: Sequence[UtteranceScore],
    *,
    subset: str,
    decoder: str,
    processing_seconds: float | None = None,
    whole: int = 0,
    models: int = 1,
    may_be_silent: bool = False,
) -> Result:
    """The result of `scores`, in whatever order they come.

    Args:
        scores: one for each utterance of the subset, or as many for each; those of one id are resampled together.
        subset: name of the subset.
        decoder: name of the decoder.
        processing_seconds: what recognising all of it took.
        whole: utterances of the whole published subset, 0 when that is not known.
        models: number of models whose probabilities were averaged.
        may_be_silent: whether the references may hold no word at all; then rates are not defined.

    Raises:
        ScoringError: no utterance, or references without a single word: nothing to be wrong about.
    """
    rtf = _real_time_factor(scores, processing_seconds)
    result = result_of_tally(
        Tally.of(scores), subset=subset, decoder=decoder, rtf=rtf, whole=whole, may_be_silent=may_be_silent
    )
    return replace(result, models=models)


def result_of_tally(
    tally: Tally, *, subset: str, decoder: str, rtf: float | None = None, whole: int = 0, may_be_silent: bool = False
) -> Result:
    """The result of the utterances that were added to `tally`; see `summarize`.

    Raises:
        ScoringError: no utterance, or references without a single word.
    """
    words = total(tally.words)
    if words.reference_length == 0 and not (may_be_silent and len(tally)):
        raise ScoringError(
            f"{subset}: the references of {len(tally)} utterances hold no word, so there is no error rate"
        )
    speakers = tally.speakers.distinct

    def rate(counts: npt.NDArray[np.int32]) -> tuple[float, Interval, Unit | None]:
        if not words.reference_length:
            return math.nan, Interval(math.nan, math.nan), None
        blocks, unit = tally.sums_of_blocks(errors_and_lengths(counts))
        found = rate_interval(blocks, np.random.default_rng(0), tally.repetitions)
        return total(counts).rate, found, unit if found.is_bootstrap else "words"

    wer, word_interval, unit = rate(tally.words)
    cer, character_interval, _ = rate(tally.characters)
    return Result(
        subset=subset,
        decoder=decoder,
        wer=wer,
        wer_low=word_interval.low,
        wer_high=word_interval.high,
        cer=cer,
        cer_low=character_interval.low,
        cer_high=character_interval.high,
        mer=words.match_error_rate,
        wil=words.information_lost,
        ser=int(np.count_nonzero(tally.words[:, 1:].any(axis=1))) / len(tally),
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        words=words.reference_length,
        utterances=len(tally),
        whole=whole,
        resampled=unit,
        rtf=rtf,
        speakers=sum(map(bool, speakers)),
        without_speaker=int(is_unknown(tally.speakers.numbers, speakers).sum()),
    )


def _real_time_factor(scores: Iterable[UtteranceScore], processing_seconds: float | None) -> float | None:
    durations = [score.seconds for score in scores]
    known = [seconds for seconds in durations if seconds is not None]
    if processing_seconds is None or len(known) < len(durations) or not sum(known):
        return None
    return processing_seconds / sum(known)


def write_results(path: Path, results: Iterable[Result], missing: Mapping[str, list[str]] | None = None) -> None:
    """Writes `results` to `path` as a JSON list of objects with the fields of `Result`.

    Those of subsets that are named in `missing` have besides, as `missing`, what these are known to lack.
    """
    lacking = missing or {}
    records = [
        record_of(result) | ({"missing": lacking[result.subset]} if result.subset in lacking else {})
        for result in results
    ]
    write_text(path, json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def record_of(result: Result) -> dict[str, object]:
    """The fields of `result` in types that JSON knows: None for a rate that is not defined."""
    fields = asdict(result).items()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in fields}


def read_results(path: Path) -> list[Result]:
    """The results that `write_results` wrote to `path`.

    Raises:
        ScoringError: the file is missing or damaged.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        undefined = dict.fromkeys(("wer", "wer_low", "wer_high", "cer", "cer_low", "cer_high"), math.nan)
        return [Result(**record | (undefined if record["wer"] is None else {})) for record in records]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ScoringError(
            f"{path}: missing or damaged results; evaluate again with --stages evaluate --fresh"
        ) from error


def write_hypotheses(path: Path, scores: Iterable[UtteranceScore]) -> None:
    """Writes `scores` to `path`, one line of tab-separated columns each, the most errors first.

    The column `differences` shows what went wrong where: `turn (on→off) the (big→) light (→please)` reads on as off,
    misses big, and makes up please. Cells with tabs or quotes are quoted as in CSV.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow((*_COLUMNS, *_TEXT_COLUMNS))
    for score in sorted(scores, key=lambda score: (-score.words.errors, -score.characters.errors, score.id)):
        writer.writerow(
            (
                score.words.errors,
                score.words.reference_length,
                score.characters.errors,
                score.characters.reference_length,
                "" if score.seconds is None else f"{score.seconds:.2f}",
                score.speaker,
                score.id,
                show_differences(score.differences),
                score.reference,
                score.hypothesis,
            )
        )
    write_text(path, stream.getvalue())


def show_differences(parts: Iterable[Difference]) -> str:
    """The reference with what was heard instead in brackets.

    Example:
        >>> score = score_utterance(id="a", reference="turn on the big light", hypothesis="turn off the light please")
        >>> show_differences(score.differences)
        'turn (on→off) the (big light→light please)'
    """
    shown = []
    for part in parts:
        said, heard = " ".join(part.reference), " ".join(part.hypothesis)
        shown.append(said if said == heard else f"({said}→{heard})")
    return " ".join(shown)


def results_table(results: Sequence[Result], *, systems: str = "decoder") -> Table:
    """A table of `results` for rich to print: rates in per cent, at most 80 characters wide for short subset names.

    Args:
        results: one for each line.
        systems: what the results of one subset are of, the head of their column.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=_caption(results), caption_justify="left")
    # Where the terminal is too narrow, names fold; numbers stay whole as long as anything can.
    table.add_column("subset", overflow="fold", min_width=4)
    table.add_column(systems, overflow="fold", min_width=4)
    is_timed = _is_timed(results)
    numbers = ["WER %", "95 %", "CER %", "95 %", "sub", "del", "ins", "words", "utts"]
    for name in numbers + ["RTF"] * is_timed:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        speed = "-" if result.rtf is None else f"{result.rtf:.3f}"
        table.add_row(
            f"{result.subset} (part)" if result.is_part else result.subset,
            result.decoder,
            _per_cent(result.wer),
            _per_cent(result.wer_low, result.wer_high),
            _per_cent(result.cer),
            _per_cent(result.cer_low, result.cer_high),
            str(result.substitutions),
            str(result.deletions),
            str(result.insertions),
            str(result.words),
            str(result.utterances),
            *([speed] if is_timed else []),
        )
    return table


def _per_cent(*rates: float) -> str:
    return "-" if any(map(math.isnan, rates)) else "-".join(f"{100 * rate:.2f}" for rate in rates)


def _is_timed(results: Iterable[Result]) -> bool:
    return any(result.rtf is not None for result in results)


def _caption(results: Sequence[Result]) -> str:
    num_models = max((result.models for result in results), default=1)
    together = f" of all {num_models} models, whose probabilities are averaged," if num_models > 1 else ""
    speed = f" RTF: computing time{together} / audio time." if _is_timed(results) else ""
    return f"{interval_note(results)}{speed}{part_note(results)}"


def part_note(results: Iterable[Result]) -> str:
    """Which of `results` are of a part of a published subset, and of how much; begins with a space, "" for none."""
    parts = {result.subset: f"{result.utterances} of {result.whole}" for result in results if result.is_part}
    return "".join(f" {name}: a part, {counts} utterances." for name, counts in parts.items())


def interval_note(results: Iterable[Result]) -> str:
    """What the intervals of `results` resample, or that they cannot; and what to think of it where there are too few."""
    all_results = list(results)
    units = {result.subset: _unit(result) for result in all_results if result.resampled not in ("words", None)}
    over = next(iter(units.values()), "")
    if len(set(units.values())) > 1:
        over = "; ".join(f"{unit} in {subset}" for subset, unit in units.items())
    notes = [f"bootstrap over {over}"] if over else []
    if any(result.resampled == "words" for result in all_results):
        notes.append("Wilson's interval of independent words, where all resamples agree")
    if any(result.resampled is None for result in all_results):
        notes.append("none, and no rate, where the references hold no word: what is heard there counts as insertions")
    return f"95 %: {'; '.join(notes)}."


def _unit(result: Result) -> str:
    few = result.speakers
    if result.resampled == "speakers":
        unknown = f", and {result.without_speaker} of {result.utterances} utterances whose speaker is unknown"
        return f"speakers{unknown if result.without_speaker else ''}"
    if result.utterances < FEWEST_BLOCKS:
        return f"utterances ({result.utterances} are too few, and such intervals too narrow)"
    return "utterances" + (
        f" ({few} {'speaker is' if few == 1 else 'speakers are'} too few to resample)" if few else ""
    )
