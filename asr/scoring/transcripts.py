"""Transcripts of any recogniser: what was said or heard, by utterance id, and the pairs that two such files make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from asr.errors import ScoringError

_NUM_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Where in a recording an utterance lies, in seconds."""

    recording: str
    channel: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said, or heard, in one utterance.

    Attributes:
        text: the words.
        speaker: who said it, "" when unknown.
        seconds: duration of the recording, None when unknown.
        segment: the part of a longer recording that this is, None when that is unknown.
        columns: whatever else the file says of the utterance, by name.
    """

    text: str
    speaker: str = ""
    seconds: float | None = None
    segment: Segment | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def paired(
    references: Mapping[str, Transcript],
    hypotheses: Mapping[str, Transcript],
    *,
    missing_as_empty: bool = False,
    ignore_extra: bool = False,
) -> dict[str, tuple[Transcript, str]]:
    """Each utterance's reference and the text of its hypothesis by id, in the order of `references`.

    Args:
        references: what was said, by utterance id.
        hypotheses: what was recognised, by utterance id.
        missing_as_empty: whether a missing hypothesis counts as one that says nothing; else it is an error.
        ignore_extra: whether hypotheses without a reference are left out; else they are an error.

    Raises:
        ScoringError: an utterance has no hypothesis, or a hypothesis no reference.

    Example:
        >>> said = {"a": Transcript(text="yes"), "b": Transcript(text="no")}
        >>> pairs = paired(said, {"b": Transcript(text="now")}, missing_as_empty=True)
        >>> [(name, reference.text, hypothesis) for name, (reference, hypothesis) in pairs.items()]
        [('a', 'yes', ''), ('b', 'no', 'now')]
    """
    extra = [utterance_id for utterance_id in hypotheses if utterance_id not in references]
    if extra and not ignore_extra:
        raise ScoringError(
            f"{len(extra)} of {len(hypotheses)} hypotheses have no reference: {named(extra)}; "
            "are these two files of the same data? --ignore-extra leaves them out"
        )
    missing = [utterance_id for utterance_id in references if utterance_id not in hypotheses]
    if missing and not missing_as_empty:
        raise ScoringError(
            f"{len(missing)} of {len(references)} references have no hypothesis: {named(missing)}; "
            "add them, or count them as empty with --missing-as-empty"
        )
    return {key: (said, hypotheses[key].text if key in hypotheses else "") for key, said in references.items()}


def named(ids: Iterable[str]) -> str:
    """The first few of `ids` in quotes, for a message."""
    quoted = [f"'{utterance_id}'" for utterance_id in ids]
    return ", ".join(quoted[:_NUM_NAMED]) + (", ..." if len(quoted) > _NUM_NAMED else "")
