"""Sound files, any format, rate and number of channels, or stored features in; samples at one rate or frames out.

In: a path or the bytes of a file. Out: mono float32 (N,) within about ±1, or frames (T, F), or an `AudioError` that names
file and reason. The decision that lives here: damaged input is refused, never mended in silence; silence itself is legal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.audio.io import (
    AudioInfo,
    Codec,
    UnusableAudioError,
    as_waveform,
    audio_info,
    encode_audio,
    encode_for_browser,
    holds_features,
    read_audio,
)
from asr.audio.stored import encode_frames, read_frames


def read_signal(
    source: Path | bytes, sample_rate: int, num_features: int, *, name: str = "", channel: int | None = None
) -> npt.NDArray[np.float32]:
    """What the model hears of `source`: samples (N,) at `sample_rate`, or with `num_features` stored frames (T, F).

    Raises:
        UnusableAudioError: as `read_audio` and `read_frames`, or a `channel` of stored frames.
    """
    if num_features:
        if channel is not None:
            raise UnusableAudioError(name or str(source), "no such channel", "stored features have none")
        return read_frames(source, num_features, name=name)
    return read_audio(source, sample_rate, name=name, channel=channel)


__all__ = [
    "AudioInfo",
    "Codec",
    "UnusableAudioError",
    "as_waveform",
    "audio_info",
    "encode_audio",
    "encode_for_browser",
    "encode_frames",
    "holds_features",
    "read_audio",
    "read_frames",
    "read_signal",
]
