"""Transcripts of any recogniser: what was said or heard, by utterance id, and the pairs that two such files make."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from asr.errors import ScoringError, first_of

_BY_PATHS = "let `asr transcribe --format json` hear the sounds by the very paths that stand in the references"
_IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Where in a recording an utterance lies, in seconds."""

    recording: str
    channel: str
    start: float
    end: float


class WordTime(NamedTuple):
    """When a word is said in a recording, and in which channel of it: start and duration in seconds."""

    recording: str
    channel: str
    start: float
    duration: float

    @property
    def middle(self) -> float:
        """The moment by which words stand in order, in seconds."""
        return self.start + self.duration / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said, or heard, in one utterance.

    Attributes:
        text: the words.
        speaker: who said it, "" when unknown.
        seconds: duration of the recording, None when unknown.
        segment: the part of a longer recording that this is, None when that is unknown.
        times: when each word was said, empty when that is unknown.
        columns: whatever else the file says of the utterance, by name.
    """

    text: str
    speaker: str = ""
    seconds: float | None = None
    segment: Segment | None = None
    times: tuple[WordTime, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


def ignored(transcript: Transcript) -> bool:
    """Whether the author of a reference asks not to score it, as an STM file may.

    Example:
        >>> ignored(Transcript(text="IGNORE_TIME_SEGMENT_IN_SCORING"))
        True
    """
    return transcript.text.upper() == _IGNORED


def count_unpaired(
    references: Mapping[str, Transcript],
    hypotheses: Mapping[str, Transcript],
    *,
    missing_as_empty: bool = False,
    ignore_extra: bool = False,
    hint: Callable[[], str] = str,
) -> tuple[int, int]:
    """How many hypotheses have no reference, and how many references no hypothesis, where that is allowed.

    A reference that is to be ignored needs none.

    Args:
        references: what was said, by utterance id.
        hypotheses: what was recognised, by utterance id.
        missing_as_empty: whether a missing hypothesis counts as one that says nothing; else it is an error.
        ignore_extra: whether hypotheses without a reference are left out; else they are an error.
        hint: gives what is to be said besides where ids do not meet, unless folders and suffixes explain it.

    Raises:
        ScoringError: an utterance has no hypothesis, or a hypothesis no reference.

    Example:
        >>> said = {"a": Transcript(text="yes"), "b": Transcript(text="no")}
        >>> count_unpaired(said, {"b": Transcript(text="now")}, missing_as_empty=True)
        (0, 1)
    """
    num_pairs = sum(utterance_id in references for utterance_id in hypotheses)
    num_extra, num_missing = len(hypotheses) - num_pairs, 0
    if num_extra and not ignore_extra:
        extra = _without_partner(hypotheses, references)
        raise ScoringError(
            f"{num_extra} of {len(hypotheses)} hypotheses have no reference: {named(extra)}; are these two files of the "
            f"same data? --ignore-extra leaves them out{_names_of_files(references, hypotheses) or hint()}"
        )
    if num_pairs < len(references):
        missing = [name for name in _without_partner(references, hypotheses) if not ignored(references[name])]
        num_missing = len(missing)
    if num_missing and not missing_as_empty:
        raise ScoringError(
            f"{num_missing} of {len(references)} references have no hypothesis: {named(missing)}; "
            f"add them, or count them as empty with --missing-as-empty{_names_of_files(references, hypotheses) or hint()}"
        )
    return num_extra, num_missing


def _without_partner(ids: Iterable[str], others: Container[str]) -> list[str]:
    return [utterance_id for utterance_id in ids if utterance_id not in others]


def _names_of_files(references: Mapping[str, Transcript], hypotheses: Mapping[str, Transcript]) -> str:
    """What to say where ids without a partner would have one, were it not for folder and suffix, else ""."""
    if told := _names_of_sounds(references, hypotheses):
        return told
    bare = {_bare(name): name for name in _without_partner(references, hypotheses)}
    met = sorted((bare[_bare(name)], name) for name in _without_partner(hypotheses, references) if _bare(name) in bare)
    if not met:
        return ""
    said, heard = met[0]
    # Where the ids of such a file stand in another column, that is how its paths were written.
    onwards = (
        _BY_PATHS if "id" in hypotheses[heard].columns else "write both alike, as `asr transcribe --format json` does"
    )
    return f"; without folder and suffix {len(met)} more would meet, such as '{said}' and '{heard}': {onwards}"


def _names_of_sounds(references: Mapping[str, Transcript], hypotheses: Mapping[str, Transcript]) -> str:
    """What to say where hypotheses without a partner are called by the sounds of the references, else ""."""
    paths = [references[name].columns.get("audio", "") for name in _without_partner(references, hypotheses)]
    sounds = {_bare(path): path for path in paths if path}
    if not sounds:
        return ""
    known = set(sounds.values())
    named_so = ""
    for name in _without_partner(hypotheses, references):
        for column, path in (("audio", hypotheses[name].columns.get("audio", "")), ("audio,id", name)):
            if path in known:
                return f"; they are called by the sounds of the references, such as '{path}': take --id-column {column}"
        named_so = named_so or (name if _bare(name) in sounds else "")
    if not named_so:
        return ""
    return (
        f"; '{named_so}' may be the sound '{sounds[_bare(named_so)]}' of the references: {_BY_PATHS}, then take "
        "--id-column audio"
    )


def _bare(utterance_id: str) -> str:
    r"""The id as a file's name without folder and suffix.

    Example:
        >>> _bare("wav/84-121.flac"), _bare("C:\\wav\\a.b.mp3"), _bare("84.121")
        ('84-121', 'a.b', '84.121')
    """
    name = utterance_id.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix[:1].isalpha() and len(suffix) <= 4 else name


def named(ids: Iterable[str]) -> str:
    """The first few of `ids` in quotes, for a message."""
    return first_of([f"'{utterance_id}'" for utterance_id in ids])
