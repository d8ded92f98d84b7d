"""The details of an utterance as few bytes, which `page/recording.js` unpacks when somebody opens the utterance.

Little-endian: a header, the parts of the recording in the order of `_HEADER`, then for each system its tokens. All that
belongs to one kind stands together, and pictures hold differences from column to column: that is what deflate likes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from asr.report.details import Recording, UtteranceDetails

# Stretches of the envelope, bands and columns of the picture, frames, likely tokens in all frames together, seconds of a
# column and of a frame.
_HEADER = struct.Struct("<5I2f")
_TOKENS = struct.Struct("<I")


def pack_details(details: Sequence[UtteranceDetails | None]) -> bytes:
    """The deflated details of one utterance from each system that heard it, in order; None from those that tell nothing."""
    recordings = [each.recording for each in details if each is not None and each.recording is not None]
    content = _pack_recording(recordings[0]) if recordings else _HEADER.pack(0, 0, 0, 0, 0, 0.0, 0.0)
    return zlib.compress(content + b"".join(map(_pack_tokens, details)))


def _pack_recording(recording: Recording) -> bytes:
    bands, columns = recording.picture.shape
    shown = recording.probabilities > 0
    picture = np.diff(recording.picture, axis=1, prepend=np.uint8(0))
    header = _HEADER.pack(
        len(recording.envelope),
        bands,
        columns,
        len(recording.blank),
        int(shown.sum()),
        recording.column_seconds,
        recording.frame_seconds,
    )
    return b"".join(
        (
            header,
            recording.envelope.tobytes(),
            np.ascontiguousarray(picture).tobytes(),
            recording.blank.tobytes(),
            shown.sum(axis=1, dtype=np.uint8).tobytes(),
            recording.tokens[shown].astype("<u2").tobytes(),
            recording.probabilities[shown].tobytes(),
        )
    )


def _pack_tokens(details: UtteranceDetails | None) -> bytes:
    if details is None:
        return _TOKENS.pack(0)
    certainty = np.rint(255 * np.array(details.probabilities, dtype=np.float64)).astype(np.uint8)
    numbers = np.array([details.tokens, details.frames], dtype="<u4")
    return _TOKENS.pack(len(details.tokens)) + numbers.tobytes() + certainty.tobytes()
