"""Sound files of which libsndfile reads a part and says nothing, taken apart into such as it reads whole.

It stops behind the first of several Ogg streams; where an MP3's first frame tells it to, or at a guess by the file's size if
that frame tells nothing; and where a WAV's header ends the sound.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

_OGG_STREAM_BEGINS = re.compile(rb"OggS\x00\x02")
_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_OPEN_SIZE = 0xFFFFFFFF
# Of MPEG layer III, by version (3: MPEG 1; 2: MPEG 2; 0: MPEG 2.5) and index: kbit/s, 0 where it is not said, and hertz.
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_KBPS = {3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0), 2: _MPEG2_KBPS, 0: _MPEG2_KBPS}
_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LARGEST_KBPS = 14


def streams_within(source: Path | bytes, container: str) -> list[bytes]:
    """Sound files that libsndfile reads whole and that make up `source`; none where it reads `source` itself whole.

    Args:
        source: a sound file, or the bytes of one.
        container: libsndfile's name of its kind, such as "OGG".
    """
    with opened(source) as file:
        if container == "OGG":
            return _ogg_streams(file.read())
        if container in {"MP3", "MPEG"}:
            return _mp3_streams(file.read())
        if container in {"WAV", "WAVEX"}:
            return _wav_streams(file)
    return []


def bytes_behind_wav(source: Path | bytes) -> tuple[int, int]:
    """Of a WAV: how many bytes of sound its header states, and how many lie behind them that are no chunk and not zero."""
    with opened(source) as file:
        return _wav_sizes(file)[1:]


def opened(source: Path | bytes) -> BinaryIO:
    """The file of that name, or with those bytes, to be read."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _ogg_streams(data: bytes) -> list[bytes]:
    """The streams of `data` that follow each other, if they do; those that run side by side stay together.

    Source: RFC 3533, sections 4 and 6: a stream's first page has the flag 2, and the first pages of a group come first.
    """
    starts = [0]
    for found in _OGG_STREAM_BEGINS.finditer(data, 1):
        before = data.rfind(b"OggS", 0, found.start())
        if before >= 0 and not data[before + 5] & 2:
            starts.append(found.start())
    return [data[start:stop] for start, stop in pairwise([*starts, len(data)])] if len(starts) > 1 else []


def _wav_streams(file: BinaryIO) -> list[bytes]:
    """With a size that means "to the end", where a program that wrote into a pipe left 0."""
    place, stated, behind = _wav_sizes(file)
    if stated or not behind:
        return []
    file.seek(0)
    data = bytearray(file.read())
    struct.pack_into("<I", data, place, _OPEN_SIZE)
    return [bytes(data)]


def _wav_sizes(file: BinaryIO) -> tuple[int, int, int]:
    """Where a WAV states its bytes of sound, how many, and how many lie behind them that are no chunk and not zero."""
    end_of_file = file.seek(0, io.SEEK_END)
    if _chunk(file, 0)[0] != b"RIFF":
        return 0, 0, 0
    place = 12
    while (chunk := _chunk(file, place))[0] != b"data":
        if not chunk[0]:
            return 0, 0, 0
        place += 8 + chunk[1] + chunk[1] % 2
    size = chunk[1]
    end = place + 8 + size
    # Some programs forget the byte that makes a size even.
    for behind in {end, end + size % 2}:
        name, length = _chunk(file, behind)
        if _CHUNK_NAME.fullmatch(name) and behind + 8 + length <= end_of_file:
            return place + 4, size, 0
    file.seek(end)
    return place + 4, size, len(file.read().rstrip(b"\0"))


def _chunk(file: BinaryIO, place: int) -> tuple[bytes, int]:
    """Name and size of the chunk at `place` of a RIFF file, no name where it ends."""
    file.seek(place)
    header = file.read(8)
    return (header[:4], int.from_bytes(header[4:], "little")) if len(header) == 8 else (b"", 0)


def _mp3_streams(data: bytes) -> list[bytes]:
    """The streams of `data` that follow each other, unless it is one that states how many frames it has.

    One that states too few or none is given a first frame that does. One that states too many is cut, and stays as it is.
    """
    frames = list(_mp3_frames(data))
    if not frames:  # such as of layer II
        return []
    stated = [_frames_stated(data, start) for start in frames]
    bounds = [0, *(number for number in range(1, len(frames)) if stated[number] is not None), len(frames)]
    streams = []
    for begin, end in pairwise(bounds):
        stop = frames[end] if end < len(frames) else len(data)
        number = stated[begin]
        sounding = frames[begin + (number is not None) : end]
        # Some programs count the first frame, too.
        if number is not None and len(sounding) <= number + 1:
            streams.append(data[frames[begin] : stop])
        elif sounding:
            streams.append(_with_stating_frame(data[sounding[0] : stop], len(sounding)))
    return [] if streams == [data[frames[0] :]] else streams


def _mp3_frames(data: bytes) -> Iterator[int]:
    """Where the frames of layer III in `data` begin, the last perhaps cut; tags and noise around them are passed over."""
    place, kind = _bytes_of_tag(data), None
    while (place := data.find(b"\xff", place)) >= 0:
        found, size = _mp3_frame(data, place)
        is_followed = size > 0 and _mp3_frame(data, place + size)[0] == found
        # Any bytes may look like a frame: another such must follow, or it must be the last, where the one before leads to.
        if is_followed or (size and found == kind):
            yield place
        # Behind one that is cut another stream may begin, before the end that it states.
        place, kind = (place + size, found) if is_followed else (place + 1, None)


def _bytes_of_tag(data: bytes) -> int:
    """Bytes of the ID3 tag that `data` begins with, whose pictures may hold anything. Source: ID3v2.4, section 3.1."""
    return 10 + sum(data[9 - power] << 7 * power for power in range(4)) if data.startswith(b"ID3") else 0


def _mp3_frame(data: bytes, place: int) -> tuple[tuple[int, int] | None, int]:
    """MPEG version and rate, as their bits say them, of the frame of layer III at `place`, and its bytes, or None and 0.

    Source: ISO/IEC 11172-3, 2.4.1.3 and 2.4.3.1; a frame of MPEG 2 or 2.5 has half as many samples.
    """
    header = data[place : place + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None, 0
    version, index, rate, padding = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or rate == 3 or not _KBPS[version][index]:
        return None, 0
    bytes_per_bit = 144 if version == 3 else 72
    return (version, rate), bytes_per_bit * 1000 * _KBPS[version][index] // _HZ[version][rate] + padding


def _mark(header: bytes | bytearray) -> int:
    """Where in a frame with `header` a mark tells that it does not sound, but says something of the stream."""
    is_mono, is_mpeg1 = header[3] >> 6 == 3, header[1] >> 3 & 3 == 3
    return 4 + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))


def _frames_stated(data: bytes, start: int) -> int | None:
    """How many frames the one at `start` says that follow, 0 where it keeps that to itself; None: it sounds."""
    place = start + _mark(data[start : start + 4])
    if data[place : place + 4] in (b"Xing", b"Info"):
        flags, number = struct.unpack(">II", data[place + 4 : place + 12].ljust(8, b"\0"))
        return number if flags & 1 else 0
    # Fraunhofer's, of which libsndfile knows nothing.
    return 0 if data.startswith(b"VBRI", start + 36) else None


def _with_stating_frame(stream: bytes, number: int) -> bytes:
    """An MP3 `stream` of `number` frames behind one, as of the encoder Xing, that says how many they and all bytes are."""
    header = bytearray(stream[:4])
    header[1] |= 1  # no checksum
    header[2] = _LARGEST_KBPS << 4 | header[2] & 0x0C
    size = _mp3_frame(bytes(header), 0)[1]
    content = bytes(header) + bytes(_mark(header) - 4) + b"Xing" + struct.pack(">III", 3, number, size + len(stream))
    return content.ljust(size, b"\0") + stream
