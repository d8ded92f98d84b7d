"""What the report says at first sight, in types that JSON knows: results, texts, errors; `page/data.js` reads it.

Kept small, since the browser reads all of it before it shows anything: columns instead of records, nothing for a word that
was heard, no count that the browser can make itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.report.details import System, UtteranceDetails
from asr.scoring import UtteranceScore
from asr.scoring.error_counts import Difference
from asr.scoring.report import record_of

Place = Callable[[Path], str]


@dataclass(frozen=True)
class Group:
    """Systems that heard the same utterances: their hypotheses are shown below each other.

    Attributes:
        subset: name of the utterances.
        scores: one for each utterance, in the order of the report; texts and speakers are taken from here.
        systems: all that heard them.
    """

    subset: str
    scores: tuple[UtteranceScore, ...]
    systems: tuple[System, ...]

    def details(self, utterance_id: str) -> list[UtteranceDetails | None]:
        """What each system knows of an utterance."""
        return [system.details.get(utterance_id) for system in self.systems]

    def audio(self, utterance_id: str) -> Path | bytes | None:
        """The sound of an utterance, from the system that has it."""
        known = (each.recording for each in self.details(utterance_id) if each is not None)
        return next((each.audio for each in known if each is not None and each.audio is not None), None)


def grouped(systems: Sequence[System]) -> list[Group]:
    """`systems` by the utterances that they heard: those with the same subset, ids and references stand together."""
    found: dict[object, list[System]] = {}
    for system in systems:
        texts = frozenset((score.id, score.reference) for score in system.scores)
        found.setdefault((system.result.subset, texts), []).append(system)
    return [
        Group(members[0].result.subset, tuple(sorted(members[0].scores, key=lambda score: score.id)), tuple(members))
        for members in found.values()
    ]


def group_content(group: Group, place: Place) -> dict[str, Any]:
    """The utterances of `group` and what its systems made of them, as columns.

    Args:
        group: the utterances.
        place: gives the address of a sound file, as seen from the report.
    """
    ids = [score.id for score in group.scores]
    speakers = sorted({score.speaker for score in group.scores})
    number = {name: index for index, name in enumerate(speakers)}
    return {
        "subset": group.subset,
        "ids": ids,
        "speakers": speakers,
        "speaker": [number[score.speaker] for score in group.scores],
        "seconds": [None if score.seconds is None else round(score.seconds, 2) for score in group.scores],
        "references": [" ".join(score.reference.split()) for score in group.scores],
        # 0: none, 1: in this file, text: where it lies.
        "audio": [_audio(group.audio(utterance_id), place) for utterance_id in ids],
        "detailed": int(any(system.details for system in group.systems)),
        "systems": [_system_content(system, ids) for system in group.systems],
    }


def _system_content(system: System, ids: Iterable[str]) -> dict[str, Any]:
    by_id = {score.id: score for score in system.scores}
    scores = [by_id[utterance_id] for utterance_id in ids]
    known = [system.details.get(score.id) for score in scores]
    confidences = [None if each is None else each.confidence for each in known]
    return {
        "name": system.name,
        "result": record_of(system.result),
        "pieces": list(system.pieces),
        # 0 for what was heard without an error.
        "hypotheses": [" ".join(score.hypothesis.split()) if score.words.errors else 0 for score in scores],
        "alignments": [alignment_text(score.differences) if score.words.errors else 0 for score in scores],
        "characterErrors": [score.characters.errors for score in scores],
        "confidences": [None if value is None else round(value, 3) for value in confidences],
    }


def alignment_text(differences: Iterable[Difference]) -> str:
    """How reference and hypothesis match: runs of words that are equal, substituted, deleted or inserted.

    Example:
        >>> from asr.scoring import score_utterance
        >>> score = score_utterance(id="a", reference="turn on the big light in", hypothesis="turn off the light in it")
        >>> alignment_text(score.differences)
        '1=1s1=1d2=1i'
    """
    return "".join(f"{max(len(part.reference), len(part.hypothesis))}{_kind(part)}" for part in differences)


def _kind(part: Difference) -> str:
    if part.reference == part.hypothesis:
        return "="
    if part.reference and part.hypothesis:
        return "s"
    return "d" if part.reference else "i"


def _audio(audio: Path | bytes | None, place: Place) -> int | str:
    if isinstance(audio, Path):
        return place(audio)
    return 0 if audio is None else 1


def learning_curve(validations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each of a run's `validations` found, by epoch."""
    names = ("epoch", "train_loss", "loss", "wer")
    return [
        {name: record[name] if isinstance(record.get(name), int | float) else None for name in names}
        for record in validations
    ]
