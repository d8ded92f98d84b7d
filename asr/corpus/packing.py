"""One utterance at a time, made ready for a shard: audio checked, resampled and encoded; and what tells it from others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from asr.audio import UnusableAudioError, audio_info, encode_audio, encode_frames, read_signal
from asr.corpus.tar_writer import PackedUtterance
from asr.corpus.utterance import Utterance

_SUFFIX_OF_FORMAT = {"WAV": "wav", "WAVEX": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3", "MPEG": "mp3"}


@dataclass(frozen=True)
class UnusableUtterance:
    """An utterance whose audio cannot be used."""

    utterance: Utterance
    error: UnusableAudioError


def pack_utterance(
    utterance: Utterance, sample_rate: int, num_features: int, codec: Literal["flac", "opus", "original"]
) -> PackedUtterance | UnusableUtterance:
    """`utterance` as a shard will hold it, or why it cannot.

    Raises:
        AudioError: `codec` cannot hold `sample_rate`.
    """
    name = f"utterance '{utterance.id}'"
    if isinstance(utterance.audio, Path):
        name += f" ({utterance.audio})"
    try:
        signal = read_signal(utterance.audio, sample_rate, num_features, name=name)
        # The measured duration: what a corpus states is at times wrong, and often missing.
        utterance = replace(utterance, seconds=len(signal) / sample_rate)
        if num_features:
            return PackedUtterance(utterance, "npy", encode_frames(signal), len(signal))
        if codec != "original":
            return PackedUtterance(utterance, codec, encode_audio(signal, sample_rate, codec), len(signal))
        data = utterance.audio if isinstance(utterance.audio, bytes) else utterance.audio.read_bytes()
        container = audio_info(data, name=name).format
    except UnusableAudioError as error:
        return UnusableUtterance(utterance, error)
    return PackedUtterance(utterance, _SUFFIX_OF_FORMAT.get(container, "audio"), data, len(signal))


def fingerprint(utterance: Utterance) -> bytes:
    """32 bytes that change when what a shard holds of `utterance` would.

    Of a file, path, size and time of change stand for the content: to read it takes as long as to decode it, and a
    preparation that goes on behind what is there should do neither.
    """
    audio: object
    if isinstance(utterance.audio, bytes):
        audio = hashlib.sha256(utterance.audio).hexdigest()
    else:
        audio = [str(utterance.audio), *_state_of_file(utterance.audio)]
    record = [utterance.id, utterance.text, utterance.speaker, list(utterance.metadata.items()), audio]
    return hashlib.sha256(json.dumps(record).encode("ascii")).digest()


def _state_of_file(path: Path) -> tuple[int, ...]:
    """Size and time of change of the file at `path`, or of the archive when it is a place in one (`feats.ark:1234`)."""
    for file in (path, path.with_name(path.name.rpartition(":")[0] or path.name)):
        try:
            status = file.stat()
        except OSError:
            continue
        return status.st_size, status.st_mtime_ns
    return ()
