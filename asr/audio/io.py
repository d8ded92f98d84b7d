"""Reading and writing sound files with libsndfile (wav, flac, ogg, opus, mp3, aiff, au, sph, w64), resampling with soxr.

libsndfile reads what is left of a cut WAV, AIFF or Ogg file without a word. Training on half a sentence with its whole
transcript is worse than an error, so cut files are recognised here and refused. What is whole, but would be read in part, is
read whole (`asr.audio.streams`).
"""

from __future__ import annotations

import codecs
import contextlib
import io
import math
import numbers
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.audio.streams import bytes_behind_wav, opened, streams_within
from asr.errors import AudioError

Codec = Literal["flac", "opus", "wav"]
Waveform = npt.NDArray[np.float32]

_BLOCK_FRAMES = 1 << 20
# Read by blocks: a damaged header may promise terabytes, and nobody should allocate them before the first sample.
_UNKNOWN_FRAMES = 1 << 36
# FLAC counts samples in 36 bits; libsndfile gives a larger number where the header leaves the count open.
_LARGEST_SAMPLE = 100.0
# Float files hold samples within ±1, loud ones a little more; 16-bit integers saved as floats reach 32767.
_STORED_FEATURES = frozenset({".mfc", ".npy", ".ark"})
_OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# "File does not exist or is not a regular file" and "embedding not supported": what libsndfile says of content that it does
# not know under a suffix that it does. That the file is there, and regular, is seen beforehand.
_UNTRUE_CODES = frozenset({7, 26})
_CONTAINERS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS"), "wav": ("WAV", "PCM_16")}


class UnusableAudioError(AudioError):
    """A sound file that cannot be used.

    Attributes:
        reason: a few words without names or numbers, such as "truncated", by which skipped utterances are counted.
    """

    def __init__(self, name: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{name}: {reason}{f': {detail}' if detail else ''}")
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file states.

    Attributes:
        sample_rate: in hertz.
        num_samples: per channel, at that rate.
        num_channels: 1 for mono.
        format: libsndfile's container, such as "FLAC".
        subtype: libsndfile's encoding, such as "PCM_16".
    """

    sample_rate: int
    num_samples: int
    num_channels: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate


def audio_info(source: Path | bytes, *, name: str = "") -> AudioInfo:
    """What the header of `source` states; the samples are not read, so damage further on goes unseen.

    Args:
        source: a sound file, or the bytes of one.
        name: what to call it in errors; the path by default.

    Raises:
        UnusableAudioError: missing, a directory, empty, or not audio.
    """
    with _opened(source, _name(source, name)) as file:
        return AudioInfo(file.samplerate, file.frames, file.channels, file.format, file.subtype)


def holds_features(path: Path) -> bool:
    """Whether by its suffix `path` is a file of features, not of sound, or a place in one.

    Example:
        >>> holds_features(Path("feats.ark:1234"))
        True
    """
    return path.suffix.partition(":")[0] in _STORED_FEATURES


def read_audio(source: Path | bytes, sample_rate: int, *, name: str = "", channel: int | None = None) -> Waveform:
    """The samples (N,) of `source` as mono float32 at `sample_rate` hertz, full scale at ±1.

    Another rate is converted with soxr (quality HQ).

    Args:
        source: a sound file, a pipe that one comes out of, or the bytes of one.
        sample_rate: the rate of the result.
        name: what to call it in errors; the path by default.
        channel: the one to read, counted from 1; None: the mean of all.

    Raises:
        UnusableAudioError: missing, a directory, empty, not audio, truncated, damaged, without samples, with samples
            that are NaN, infinite or far beyond full scale, or without that channel.
    """
    name = _name(source, name)
    with contextlib.suppress(OSError):  # told when it is opened
        if isinstance(source, Path) and source.is_fifo():
            source = source.read_bytes()
    with _opened(source, name) as file:
        if streams := streams_within(source, file.format):
            return _joined(streams, sample_rate, name, channel)
        _check_complete(file, source, name)
        return _at_rate(_mono_blocks(file, name, channel), file.samplerate, sample_rate, name)


def as_waveform(samples: npt.NDArray[Any], found_rate: int, sample_rate: int, *, name: str = "array") -> Waveform:
    """The `samples` (N,) that some program holds, taken at `found_rate` hertz, as mono float32 at `sample_rate`.

    Floats have full scale at ±1, signed integers at the ends of their type.

    Raises:
        AudioError: more than one channel, no samples, another kind of number, or samples that `read_audio` refuses too.
    """
    if samples.ndim != 1:
        raise AudioError(f"{name}: expected samples (N,) of one channel, found shape {samples.shape}")
    if samples.dtype.kind not in "if":
        raise AudioError(f"{name}: expected floats or signed integers, found {samples.dtype}")
    if not isinstance(found_rate, numbers.Real) or not 1 <= found_rate < math.inf:  # numpy's numbers too
        raise AudioError(f"{name}: expected a sample rate in hertz, found {found_rate!r}")
    if len(samples) == 0:
        raise UnusableAudioError(name, "no samples")
    full_scale = 1.0 if samples.dtype.kind == "f" else -float(np.iinfo(samples.dtype).min)
    waveform: Waveform = (samples / full_scale).astype(np.float32)
    _check_samples(waveform, name)
    return _at_rate([waveform], found_rate, sample_rate, name)


def _at_rate(blocks: Iterable[Waveform], found_rate: int, sample_rate: int, name: str) -> Waveform:
    """The `blocks` of one waveform at another rate: bit by bit what comes of all of them at once."""
    if found_rate == sample_rate:
        return np.concatenate(list(blocks))
    stream = soxr.ResampleStream(found_rate, sample_rate, 1, dtype="float32", quality="HQ")
    converted = [stream.resample_chunk(block) for block in blocks]
    converted.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    waveform = np.concatenate(converted)
    if len(waveform) == 0:
        raise UnusableAudioError(name, "no samples", f"too short to be converted from {found_rate} to {sample_rate} Hz")
    return waveform


def _joined(streams: list[bytes], sample_rate: int, name: str, channel: int | None) -> Waveform:
    names = [f"{name}, stream {number} of {len(streams)}" for number in range(1, len(streams) + 1)]
    names = names if len(streams) > 1 else [name]
    return np.concatenate(
        [
            read_audio(stream, sample_rate, name=each, channel=channel)
            for stream, each in zip(streams, names, strict=True)
        ]
    )


def encode_audio(waveform: Waveform, sample_rate: int, codec: Codec) -> bytes:
    """The bytes of a sound file that holds `waveform` (N,), mono, 16 bits (Opus: libsndfile's default bit rate).

    Samples beyond full scale are clipped. FLAC and WAV are the same bytes each time; an Ogg stream carries a random
    serial number, so Opus files differ in a few bytes while they sound the same.

    Raises:
        AudioError: Opus does not know `sample_rate`.
    """
    if codec == "opus" and sample_rate not in _OPUS_RATES_HZ:
        known = ", ".join(map(str, _OPUS_RATES_HZ))
        raise AudioError(f"Opus stores sample rates of {known} Hz, not {sample_rate}; choose one of them or codec flac")
    container, subtype = _CONTAINERS[codec]
    return _encoded(waveform, sample_rate, format=container, subtype=subtype)


def encode_for_browser(waveform: Waveform, sample_rate: int) -> bytes:
    """The bytes of a small sound file that every browser plays: MP3, or FLAC where that does not know the rate.

    MP3 takes a sixth of the time of Opus for the same size (some 4 KB/s), and old telephones play it too.
    """
    if sample_rate in _MP3_RATES_HZ and "MP3" in soundfile.available_formats():
        settings = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
        return _encoded(waveform, sample_rate, format="MP3", subtype="MPEG_LAYER_III", **settings)
    return encode_audio(waveform, sample_rate, "flac")


def _encoded(waveform: Waveform, sample_rate: int, **settings: Any) -> bytes:
    """By way of a file of the system: a buffer is written to by calls back to Python, which swallow a Ctrl-C."""
    with tempfile.TemporaryFile() as file:
        soundfile.write(file.fileno(), waveform, sample_rate, closefd=False, **settings)
        file.seek(0)
        return file.read()


def _name(source: Path | bytes, name: str) -> str:
    if name:
        return name
    return str(source) if isinstance(source, Path) else "audio"


def _opened(source: Path | bytes, name: str) -> soundfile.SoundFile:
    """`source` opened for reading; what libsndfile says in riddles ("System error.") is found out beforehand."""
    if isinstance(source, Path) and holds_features(source):
        raise UnusableAudioError(name, "not audio", "stored features need features.kind=stored")
    _check_readable(source, name)
    try:
        file = soundfile.SoundFile(source if isinstance(source, Path) else io.BytesIO(source))
    except soundfile.LibsndfileError as error:
        said = "" if error.code in _UNTRUE_CODES else f"libsndfile says: {_plain(error.error_string)}; "
        detail = f"{said}wav, flac, ogg, opus and mp3 can be read"
        raise UnusableAudioError(name, "not audio, or damaged", detail) from error
    except UnicodeEncodeError as error:
        raise UnusableAudioError(name, "name is not UTF-8", "rename the file") from error
    except (OSError, TypeError) as error:  # TypeError: soundfile's answer to a headerless .raw file
        raise UnusableAudioError(name, "not audio, or damaged", str(error)) from error
    if file.format == "RAW" and _is_text(_head(source)):
        file.close()
        raise UnusableAudioError(name, "not audio", "it has no header, and what it holds is text")
    return file


def _check_readable(source: Path | bytes, name: str) -> None:
    """Raises UnusableAudioError for what cannot be opened, or is empty."""
    if isinstance(source, Path):
        try:
            size = source.stat().st_size
        except OSError as error:
            detail = "" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            raise UnusableAudioError(name, "missing", detail) from error
        if source.is_dir():
            raise UnusableAudioError(name, "not audio", "it is a directory; name the sound files in it")
        if not os.access(source, os.R_OK):
            raise UnusableAudioError(name, "not readable", "permission denied")
    else:
        size = len(source)
    if size == 0:
        raise UnusableAudioError(name, "empty file")


def _is_text(head: bytes) -> bool:
    """Whether `head`, which may end within a character, is text in UTF-8."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _mono_blocks(file: soundfile.SoundFile, name: str, channel: int | None) -> Iterator[Waveform]:
    """Every sample of a channel of `file`, or of the mean of all, in blocks: never all of them lie in memory as recorded."""
    if channel is not None and not 1 <= channel <= file.channels:
        there = "it has one" if file.channels == 1 else f"it has {file.channels}, counted from 1"
        raise UnusableAudioError(name, "no such channel", f"{there}, found {channel}")
    found = 0
    try:
        while True:
            frames = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
            is_mixed = channel is None and file.channels > 1
            block: Waveform = frames.mean(axis=1) if is_mixed else frames[:, (channel or 1) - 1]
            _check_samples(block, name, first=found)
            found += len(block)
            yield np.ascontiguousarray(block)
            if len(block) < _BLOCK_FRAMES:
                break
    except soundfile.LibsndfileError as error:
        if file.frames >= _UNKNOWN_FRAMES:
            raise UnusableAudioError(
                name, "length unknown", "the header leaves it open; write the file anew"
            ) from error
        raise UnusableAudioError(name, "truncated or damaged", _plain(error.error_string)) from error
    if found < file.frames:
        raise UnusableAudioError(name, "truncated or damaged", f"{found} of {file.frames} samples are there")
    if found == 0:
        raise UnusableAudioError(name, "no samples")


def _plain(message: str) -> str:
    return message.removeprefix("Error : ").strip() or "samples are missing"


def _check_samples(waveform: Waveform, name: str, first: int = 0) -> None:
    """Raises UnusableAudioError for NaN, infinity and integers in float's clothing; one pass finds all three.

    `first` is the number of the sample that `waveform` begins with.
    """
    if len(waveform) == 0:
        return
    peak = max(float(waveform.max()), -float(waveform.min()))
    if peak <= _LARGEST_SAMPLE:
        return
    if np.isfinite(peak):
        raise UnusableAudioError(
            name, "samples out of range", f"they reach {peak:.0f}, full scale is 1; divide them by it"
        )
    position = int(np.flatnonzero(~np.isfinite(waveform))[0])
    raise UnusableAudioError(name, "samples not finite", f"sample {first + position} is {waveform[position]}")


# libsndfile's log of what it found in the header, for WAV, AIFF and AU; W64 and RF64 say it their own way.
_CUT_CHUNK = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_FILE = re.compile(r"^\s*(?:riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Of one channel, in the header of a SPHERE file; libsndfile goes by the size of the file.
_SPHERE_SAMPLES = re.compile(rb"^sample_count -i (\d+)", re.MULTILINE)
# Behind a WAV's sound; tags that are no chunk are smaller.
_TOLERATED_BYTES = 1024
# Programs that write WAV into a pipe cannot go back to fill in the size and leave a huge number there.
_STREAM_BYTES = 0x7F000000


def _check_complete(file: soundfile.SoundFile, source: Path | bytes, name: str) -> None:
    """Raises UnusableAudioError where the file ends before the place that its header or last page names, or long after."""
    if file.format == "OGG":
        if not _ends_on_last_ogg_page(_tail(source)):
            raise UnusableAudioError(name, "truncated or damaged", "the last Ogg page is missing or cut")
        return
    if file.format in {"FLAC", "MP3", "MPEG"}:
        return  # these state a count of samples, which is compared with what could be read
    if file.format == "NIST":
        stated = _SPHERE_SAMPLES.search(_head(source))
        if stated is not None and file.frames < int(stated[1]):
            detail = f"{file.frames} of {int(stated[1])} samples are there"
            raise UnusableAudioError(name, "truncated or damaged", detail)
        return
    pattern = _CUT_FILE if file.format in {"W64", "RF64"} else _CUT_CHUNK
    for stated, found in pattern.findall(file.extra_info):
        if int(found) < int(stated) < _STREAM_BYTES:
            raise UnusableAudioError(name, "truncated or damaged", f"{found} of {stated} bytes of sound are there")
    if file.format in {"WAV", "WAVEX"}:
        size, behind = bytes_behind_wav(source)
        if behind > _TOLERATED_BYTES:
            detail = f"the header states {size} bytes of sound, and {behind} more lie behind them; write the file anew"
            raise UnusableAudioError(name, "header of another size", detail)


def _head(source: Path | bytes) -> bytes:
    """The first bytes of `source`."""
    with opened(source) as stream:
        return stream.read(1 << 12)


def _tail(source: Path | bytes) -> bytes:
    """The last bytes of `source`, enough for the largest Ogg page (27 + 255 + 255 * 255 bytes) and its mark."""
    with opened(source) as stream:
        stream.seek(max(0, stream.seek(0, io.SEEK_END) - (1 << 17)))
        return stream.read()


def _ends_on_last_ogg_page(tail: bytes) -> bool:
    """Whether the last page in `tail` is whole and says that it is the last.

    Source: RFC 3533, section 6: mark, version, flags (4: end of stream), ..., a table of lacings, the body.
    """
    start = tail.rfind(b"OggS")
    header = tail[start : start + 27]
    if start < 0 or len(header) < 27 or not header[5] & 4:
        return False
    lacings = tail[start + 27 : start + 27 + header[26]]
    return len(lacings) == header[26] and start + 27 + len(lacings) + sum(lacings) <= len(tail)
