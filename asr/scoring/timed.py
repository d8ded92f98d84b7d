"""Recognised words with times: which utterance of the references each belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asr.errors import ScoringError
from asr.scoring.transcripts import Segment, Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedWord:
    """A word, the middle of its time in the recording in seconds, and the place in a file that says so."""

    recording: str
    channel: str
    middle: float
    word: str
    where: str


def words_of_recordings(words: Iterable[TimedWord]) -> dict[str, Transcript]:
    """What was heard in each recording, all channels together, in the order of time."""
    by_recording: dict[str, list[TimedWord]] = defaultdict(list)
    for word in words:
        by_recording[word.recording].append(word)
    return {name: Transcript(text=_in_order(heard)) for name, heard in by_recording.items()}


def words_in_segments(words: Iterable[TimedWord], segments: Mapping[str, Segment]) -> dict[str, Transcript]:
    """What was heard in each of `segments`, by their names.

    A word belongs to the segment that holds its middle, the one that began last where several do, and where none does to
    the nearest of its recording and channel, so that no word is lost: there it counts as one that nobody said.

    Raises:
        ScoringError: a word of a recording or channel that has no segment.

    Example:
        >>> here = {"recording": "r", "channel": "1"}
        >>> segments = {name: Segment(**here, start=start, end=start + 2) for name, start in (("a", 0), ("b", 5))}
        >>> heard = ((1, "yes"), (3.2, "uh"), (6, "no"))
        >>> words = [TimedWord(**here, middle=middle, word=word, where="") for middle, word in heard]
        >>> [(name, found.text) for name, found in words_in_segments(words, segments).items()]
        [('a', 'yes uh'), ('b', 'no')]
    """
    by_place: dict[tuple[str, str], list[tuple[str, Segment]]] = defaultdict(list)
    for name, segment in segments.items():
        by_place[segment.recording, segment.channel].append((name, segment))
    heard: dict[str, list[TimedWord]] = {name: [] for name in segments}
    for word in words:
        if (word.recording, word.channel) not in by_place:
            raise ScoringError(
                f"{word.where}: recording '{word.recording}', channel '{word.channel}' is not in the references"
            )
        heard[_nearest(word.middle, by_place[word.recording, word.channel])].append(word)
    return {name: Transcript(text=_in_order(words)) for name, words in heard.items()}


def _nearest(middle: float, segments: Iterable[tuple[str, Segment]]) -> str:
    def distance(entry: tuple[str, Segment]) -> tuple[float, float]:
        segment = entry[1]
        return max(segment.start - middle, middle - segment.end, 0.0), -segment.start

    return min(segments, key=distance)[0]


def _in_order(words: Iterable[TimedWord]) -> str:
    return " ".join(word.word for word in sorted(words, key=lambda word: word.middle))
