"""Opus files and tar shards that are the same bytes each time they are made."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

SHARD_BYTES = 3_000_000
# libsndfile maps 0 to 1 onto 256 to 6 kbit/s: this is 12 kbit/s, the least at which Opus still codes all of 16 kHz speech.
OPUS_COMPRESSION = 0.976
OGG_POLYNOMIAL = 0x04C11DB7


def encode_opus(waveform: npt.NDArray[np.float64], sample_rate: int, serial: int) -> bytes:
    """The Ogg Opus file of `waveform` (N,), with `serial` in the place of libsndfile's random number."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION)
    return with_serial(file.getvalue(), serial)


def with_serial(ogg: bytes, serial: int) -> bytes:
    """The Ogg stream `ogg` with another serial number in all its pages, and their checksums to match.

    Source: RFC 3533, section 6.
    """
    result, start = bytearray(ogg), 0
    while start < len(result):
        num_segments = result[start + 26]
        end = start + 27 + num_segments + sum(result[start + 27 : start + 27 + num_segments])
        result[start + 14 : start + 18] = serial.to_bytes(4, "little")
        result[start + 22 : start + 26] = bytes(4)
        result[start + 22 : start + 26] = _ogg_checksum(result[start:end]).to_bytes(4, "little")
        start = end
    return bytes(result)


def _ogg_checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value = (value << 8) & 0xFFFFFFFF ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def _ogg_entry(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1) & 0xFFFFFFFF ^ (OGG_POLYNOMIAL if value >> 31 else 0)
    return value


_OGG_TABLE = [_ogg_entry(byte) for byte in range(256)]


def write_shards(samples: Sequence[tuple[Mapping[str, object], bytes]], split: str, out: Path) -> dict[str, str]:
    """Names and SHA-256 of the shards of `split`, which are written below `out`: a description and an Opus file a sample."""
    shards: list[bytes] = []
    waiting: list[tuple[str, bytes]] = []
    num_bytes = 0
    for row, audio in samples:
        description = json.dumps(row, separators=(",", ":")).encode()
        waiting += [(f"{row['id']}.opus", audio), (f"{row['id']}.json", description)]
        num_bytes += len(audio) + len(description)
        if num_bytes > SHARD_BYTES:
            shards.append(_tar(waiting))
            waiting, num_bytes = [], 0
    if waiting:
        shards.append(_tar(waiting))
    hashes = {}
    for number, content in enumerate(shards):
        name = f"{split}-{number:03d}.tar"
        (out / name).write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def _tar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """A tar of `members`; TarInfo's own time, owner and mode are constants."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()
