"""ROVER: one transcript out of those of several recognisers, by a vote on each word.

The hypotheses are aligned one after another into a word transition network: a row of slots, in each of which every system
has a word or nothing. In each slot the reading with the highest score stands,

    alpha * (its share of the systems) + (1 - alpha) * (its mean or highest confidence; of nothing: `null_confidence`)

so that `alpha` 1 is a vote by heads. Where scores are equal, the system that was named first has its way, with its word or
with its silence: of two systems that vote by heads, the first always wins. What the first slots are, and so what stands
opposite what, depends on the order too: name the best system first.

The word that wins has the time that it has in the first of the systems that have it, and the confidence that they have in it
together: the mean over all systems of the slot, to which those that have something else add 0, and, where heads are counted,
those that have the word 1, so that it is their share of the systems. It is not the score, whose weight `alpha` is chosen for
the vote, and not the mean of those that have the word, which would be as high for the word of one as for the word of all.

Source: Fiscus 1997, "A post-processing system to yield reduced word error rates: Recognizer Output Voting Error Reduction".
NIST's `rover` aligns at other costs where some system has nothing in a slot, so that its results can differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from asr.compiled import Integers, compiled
from asr.errors import ScoringError
from asr.scoring.transcripts import Transcript, WordTime

# What NIST's alignments cost to insert, pass and exchange words, but in slots in which some system has nothing: these NIST's
# `rover` (SCTK, wwd_WORD_rover) passes for 0.001, and sets another word opposite for 1. Here to pass them is cheaper than
# to pass others, but not free: else two words that stand for one would get a slot each, and nothing would outvote both; and
# another word there costs what it costs elsewhere. jiwer, which aligns elsewhere, knows no slots with several words.
_INSERT, _PASS, _PASS_NOTHING, _EXCHANGE = 3, 3, 2, 4
_OPPOSITE, _PASSED, _INSERTED = range(3)
_SILENCE = 0


class Reading(NamedTuple):
    """What a system has in a slot: a word, or None for nothing, how sure it is, from 0 to 1, and when that was said."""

    word: str | None
    confidence: float = 1.0
    time: WordTime | None = None


Slot = list[Reading]
"""The readings of the systems, one of each, in the order in which they were named."""

_NOTHING = Reading(None)


def word_transition_network(hypotheses: Sequence[Sequence[Reading]]) -> list[Slot]:
    """The slots that `hypotheses`, words only, make when they are aligned one after another.

    Equal word sequences stand in the same slots, so that what most systems say in whole wins by heads.

    Example:
        >>> heard = [[Reading(word) for word in text.split()] for text in ("a b", "a x b", "x b")]
        >>> [[reading.word for reading in slot] for slot in word_transition_network(heard)]
        [['a', 'a', None], [None, 'x', 'x'], ['b', 'b', 'b']]
    """
    network: list[Slot] = []
    earlier: dict[tuple[str | None, ...], int] = {}
    for number, words in enumerate(hypotheses):
        spelling = tuple(reading.word for reading in words)
        if spelling in earlier:
            _add_again(network, earlier[spelling], words)
        else:
            network = _aligned(network, words, number)
            earlier[spelling] = number
    return network


def _add_again(network: list[Slot], earlier: int, words: Sequence[Reading]) -> None:
    """Add `words` where the system of the number `earlier` has the same."""
    left = iter(words)
    for slot in network:
        slot.append(_NOTHING if slot[earlier].word is None else next(left))


def _aligned(network: list[Slot], words: Sequence[Reading], num_systems: int) -> list[Slot]:
    """`network`, of so many systems, with `words` of one more in the places where they cost least."""
    aligned: list[Slot] = []
    row, column = len(network), len(words)
    numbers: dict[str | None, int] = {None: _SILENCE}
    slots = [[numbers.setdefault(reading.word, len(numbers)) for reading in slot] for slot in network]
    added = [numbers.setdefault(reading.word, len(numbers)) for reading in words]
    moves = _cheapest_moves(np.array(slots, np.int64).reshape(row, num_systems), np.array(added, np.int64))
    while row or column:
        move = moves[row, column]
        if move == _INSERTED:
            before, reading = [_NOTHING] * num_systems, words[column - 1]
        else:
            before, reading = network[row - 1], words[column - 1] if move == _OPPOSITE else _NOTHING
        aligned.append([*before, reading])
        row -= move != _INSERTED
        column -= move != _PASSED
    return aligned[::-1]


@compiled("uint8[:, ::1](int64[:, ::1], int64[::1])")
def _cheapest_moves(slots: Integers, words: Integers) -> npt.NDArray[np.uint8]:
    """By how many slots and words are done (1 + R, 1 + N), the last step of the cheapest way to get there.

    Among equals words stand opposite slots, then slots are passed; so words stand as late as they can.

    Args:
        slots: number of the word of each system in each slot (R, K), `_SILENCE` where it has nothing.
        words: numbers of the words that are added (N,).
    """
    moves = np.full((len(slots) + 1, len(words) + 1), _INSERTED, np.uint8)
    moves[1:, 0] = _PASSED
    costs = _INSERT * np.arange(len(words) + 1)
    for row in range(len(slots)):
        cost_of_passing = _PASS
        for word in slots[row]:
            if word == _SILENCE:
                cost_of_passing = _PASS_NOTHING
        above_left = costs[0]
        costs[0] += cost_of_passing
        for column in range(1, len(words) + 1):
            opposite = above_left + _EXCHANGE
            for word in slots[row]:
                if word == words[column - 1]:
                    opposite = above_left
            above_left = costs[column]
            passed = above_left + cost_of_passing
            costs[column] = min(opposite, passed, costs[column - 1] + _INSERT)
            if costs[column] == opposite:
                moves[row + 1, column] = _OPPOSITE
            elif costs[column] == passed:
                moves[row + 1, column] = _PASSED
    return moves


def winner(slot: Slot, *, alpha: float, null_confidence: float, maximum: bool = False) -> Reading:
    """The word that wins in `slot`, or None where silence does; of confidences the mean counts, or the `maximum`.

    Its time and its confidence are those that are told above.

    Example:
        >>> slot = [Reading("on", 0.3), Reading("in", 0.9), Reading("on", 0.4)]
        >>> [winner(slot, alpha=alpha, null_confidence=0).word for alpha in (1, 0.5)]
        ['on', 'in']
    """
    of_words: dict[str | None, list[Reading]] = {}
    for reading in slot:
        of_words.setdefault(reading.word, []).append(reading)

    def score(word: str | None) -> float:
        confidences = [reading.confidence for reading in of_words[word]]
        of_all = max(confidences) if maximum else math.fsum(confidences) / len(confidences)
        return alpha * len(confidences) / len(slot) + (1 - alpha) * (null_confidence if word is None else of_all)

    # The first of equals, and words stand in the order of systems.
    best = of_words[max(of_words, key=score)]
    return best[0]._replace(confidence=math.fsum(reading.confidence for reading in best) / len(slot))


def vote(
    network: Sequence[Slot], *, alpha: float = 1.0, null_confidence: float = 0.0, maximum: bool = False
) -> list[Reading]:
    """The words that the systems in `network` agree on; see above for `alpha` and `null_confidence`.

    Of the confidences that a word has, the mean counts, or the `maximum`.

    Example:
        >>> heard = [[Reading(word) for word in text.split()] for text in ("a b d", "a c d", "a c e")]
        >>> [(reading.word, round(reading.confidence, 2)) for reading in vote(word_transition_network(heard))]
        [('a', 1.0), ('c', 0.67), ('d', 0.67)]
    """
    winners = [winner(slot, alpha=alpha, null_confidence=null_confidence, maximum=maximum) for slot in network]
    return [reading for reading in winners if reading.word is not None]


def spellings(network: Sequence[Slot], simplify: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Of each slot with words that `simplify` makes one, two of them: they part the votes of those who heard the same.

    Example:
        >>> heard = [[Reading(word) for word in text.split()] for text in ("a World", "a world", "b world")]
        >>> list(spellings(word_transition_network(heard), str.lower))
        [('World', 'world')]
    """
    for slot in network:
        earlier: dict[str, str] = {}
        for word in dict.fromkeys(reading.word for reading in slot if reading.word is not None):
            other = earlier.setdefault(simplify(word), word)
            if other != word:
                yield other, word
                break


def normalised(words: Sequence[Reading], normalize: Callable[[str], str]) -> list[Reading]:
    """`words` as `normalize` writes their text, each with confidence and time of the word that it was, or its part of these.

    Example:
        >>> words = [Reading("Well-known,", 0.5), Reading("-"), Reading("B", 0.7)]
        >>> [(reading.word, reading.confidence) for reading in normalised(words, lambda text: text.replace("-", " "))]
        [('Well', 0.5), ('known,', 0.5), ('B', 0.7)]
    """
    spelled = [reading.word for reading in words if reading.word is not None]
    each = [
        part for reading, word in zip(words, spelled, strict=True) for part in _parts(reading, normalize(word).split())
    ]
    whole = [Reading(word) for word in normalize(" ".join(spelled)).split()]
    if [reading.word for reading in each] == [reading.word for reading in whole]:
        return each
    # What several words hold together, such as brackets around them, is seen in the whole text only.
    found, source = [], words[0]
    for own, reading in word_transition_network([each, whole]):
        source = source if own.word is None else own
        if reading.word is not None:
            found.append(source._replace(word=reading.word))
    return found


def _parts(reading: Reading, words: Sequence[str]) -> list[Reading]:
    """`reading` as `words`, each of which lasts as long as the others."""
    if reading.time is None:
        return [reading._replace(word=word) for word in words]
    duration = reading.time.duration / max(1, len(words))
    starts = [reading.time.start + number * duration for number in range(len(words))]
    return [
        reading._replace(word=word, time=reading.time._replace(start=start, duration=duration))
        for word, start in zip(words, starts, strict=True)
    ]


def readings(transcript: Transcript) -> list[Reading]:
    """The words of `transcript` with their times, where it has them; all alike in confidence."""
    words = transcript.text.split()
    times: Sequence[WordTime | None] = transcript.times or [None] * len(words)
    return [Reading(word, time=time) for word, time in zip(words, times, strict=True)]


def confident_readings(transcript: Transcript, *, where: str) -> list[Reading]:
    """The words of `transcript` with the confidences in its column `confidence`: one for each, or one for all of them.

    Raises:
        ScoringError: `transcript`, called `where`, has no such column, or not as many numbers from 0 to 1 as words.

    Example:
        >>> confident_readings(Transcript(text="a b", columns={"confidence": "[0.5, 1]"}), where="")
        [Reading(word='a', confidence=0.5, time=None), Reading(word='b', confidence=1.0, time=None)]
    """
    words = readings(transcript)
    confidences = _confidences(transcript.columns, len(words))
    if len(confidences) != len(words) or not all(0 <= confidence <= 1 for confidence in confidences):
        found = transcript.columns.get("confidence") or "none"
        raise ScoringError(
            f"{where}: expected a column 'confidence' with a number from 0 to 1, or a list of {len(words)}, found {found}; "
            "--method votes needs none"
        )
    return [reading._replace(confidence=confidence) for reading, confidence in zip(words, confidences, strict=True)]


def _confidences(columns: Mapping[str, str], num_words: int) -> list[float]:
    """The numbers in the column `confidence`, that of a whole text for each word; nothing where they are no numbers."""
    if not num_words or "confidence" not in columns:
        return []
    try:
        found = json.loads(columns["confidence"])
        return [float(each) for each in found] if isinstance(found, list) else [float(found)] * num_words
    except (ValueError, TypeError):
        return []
