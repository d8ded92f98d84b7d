"""Sound that has less than a model hears, told while a corpus is prepared or measured on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.audio import UnusableAudioError, audio_info
from asr.corpus.utterance import Utterance

_NUM_RATES = 100  # a corpus has seldom more than one rate, and a large one should not be opened twice
FEW = 0.1
"""Share of the files for whose sake the others should not lose what is above their rate."""
MORE_ERRORS = "expect more errors than of a model that has learnt from such sound"
"""What comes of it where the model is given."""
_LOG = logging.getLogger(__name__)


def watch_rates(
    utterances: Iterable[Utterance],
    sample_rate: int,
    name: str,
    model: str | None = None,
    *,
    only_measured: bool = False,
) -> Iterator[Utterance]:
    """`utterances` of the corpus called `name`; says it if some of the first sound files have less than `sample_rate`.

    Where that is the rate of a `model` to start from, other settings are no way out; nor where it is `only_measured`.
    """
    low: list[tuple[int, Path]] = []
    num_looked_at = 0

    def tell() -> None:
        if not low:
            return
        rate, audio = min(low)
        advice = f"features.sample_rate={rate} would suit them"
        if only_measured:
            advice = MORE_ERRORS
        elif len(low) <= FEW * num_looked_at:
            advice = "leave out these few"
        elif model is not None:
            advice = f"init.model={model} keeps its rate: start from a model of {rate} Hz, or from none, where {advice}"
        _LOG.warning(
            "%s: %d of the first %d sound files have less than %d Hz (%s: %d), and above that a model hears silence; %s",
            *(name, len(low), num_looked_at, sample_rate, audio, rate, advice),
        )

    for utterance in utterances:
        if num_looked_at < _NUM_RATES and isinstance(utterance.audio, Path):
            num_looked_at += 1
            with contextlib.suppress(UnusableAudioError):  # said by what reads its samples
                rate = audio_info(utterance.audio).sample_rate
                low += [(rate, utterance.audio)] if rate < sample_rate else []
            if num_looked_at == _NUM_RATES:
                tell()
        yield utterance
    if num_looked_at < _NUM_RATES:
        tell()
