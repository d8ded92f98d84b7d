"""Features that lie in files: Sphinx cepstra, Kaldi archives, numpy arrays; the form is told by the first bytes.

A Kaldi archive holds many matrices, so its path is followed by a place, as in `.scp` lists: `feats.ark:1234`.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from asr.audio.io import UnusableAudioError

Frames = npt.NDArray[np.float32]

_NUMPY_MARK, _KALDI_MARK = b"\x93NUMPY", b"\0B"
_PLACE = re.compile(r"(?P<archive>.+):(?P<offset>[0-9]+)")


def read_frames(source: Path | bytes, num_features: int, *, name: str = "") -> Frames:
    """The stored frames (T, num_features) of `source`, which may be written to.

    Args:
        source: a file, a place in a Kaldi archive, or the bytes of one matrix.
        num_features: values per frame.
        name: what to call it in errors; the path by default.

    Raises:
        UnusableAudioError: missing, empty, none of the known forms, cut off, with another number of values per frame, or
            with values that are not finite.
    """
    name = name or (str(source) if isinstance(source, Path) else "features")
    with _opened(source, name) as file:
        start = file.tell()
        mark = file.read(len(_NUMPY_MARK))
        file.seek(start)
        if mark.startswith(_NUMPY_MARK):
            frames = _numpy_matrix(file, name)
        elif mark.startswith(_KALDI_MARK):
            frames = _kaldi_matrix(file, name)
        else:
            frames = _sphinx_matrix(file, num_features, name)
    if frames.ndim != 2 or frames.shape[1] != num_features:
        raise UnusableAudioError(name, "other shape", f"expected (T, {num_features}), found {frames.shape}")
    if len(frames) == 0:
        raise UnusableAudioError(name, "no frames")
    with np.errstate(over="ignore"):
        frames = np.require(frames, np.float32, ("C", "W"))  # Kaldi's reader gives views of what it has read
    if not np.isfinite(frames).all():
        raise UnusableAudioError(name, "values not finite")
    return frames


def file_and_offset(source: Path) -> tuple[Path, int]:
    """The file that `source` means, and the byte where its matrix begins: of a place in an archive, the archive."""
    place = _PLACE.fullmatch(str(source))
    return (Path(place["archive"]), int(place["offset"])) if place and not source.exists() else (source, 0)


def encode_frames(frames: Frames) -> bytes:
    """The bytes of a `.npy` file that holds `frames` (T, F)."""
    buffer = io.BytesIO()
    np.save(buffer, frames)
    return buffer.getvalue()


def _opened(source: Path | bytes, name: str) -> BinaryIO:
    """`source` open at the place where its matrix begins."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path, offset = file_and_offset(source)
    try:
        file = path.open("rb")
        file.seek(offset)
    except OSError as error:
        raise UnusableAudioError(name, "missing", error.strerror or str(error)) from error
    return file


def _numpy_matrix(file: BinaryIO, name: str) -> Frames:
    try:
        frames: Frames = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UnusableAudioError(name, "truncated or damaged", f"not a whole .npy file: {error}") from error
    if not np.issubdtype(frames.dtype, np.floating):
        raise UnusableAudioError(name, "not features", f"expected floating-point numbers, found {frames.dtype}")
    return frames


def _kaldi_matrix(file: BinaryIO, name: str) -> Frames:
    from kaldiio.matio import read_kaldi

    try:
        frames: Frames = read_kaldi(file)
    # A cut archive shows as whatever fails first in the reader.
    except Exception as error:
        raise UnusableAudioError(name, "truncated or damaged", f"not a whole Kaldi matrix: {error}") from error
    return frames


def _sphinx_matrix(file: BinaryIO, num_features: int, name: str) -> Frames:
    """Frames of a Sphinx file: the number of values as a 32-bit integer, then 32-bit floats, in either byte order."""
    data = file.read()
    if not data:
        raise UnusableAudioError(name, "empty file")
    stated = {order: int(np.frombuffer(data[:4].ljust(4, b"\0"), f"{order}i4")[0]) for order in "<>"}
    found = (len(data) - 4) // 4
    order = next((order for order, count in stated.items() if 4 * count + 4 == len(data)), None)
    if order is None:
        counts = " or ".join(map(str, stated.values()))
        raise UnusableAudioError(
            name,
            "not features or truncated",
            f"neither numpy nor Kaldi, and as a Sphinx file it states {counts} values and holds {found}",
        )
    if stated[order] % num_features:
        raise UnusableAudioError(
            name, "other shape", f"{stated[order]} values do not divide into {num_features} a frame"
        )
    return np.frombuffer(data, f"{order}f4", offset=4).reshape(-1, num_features).astype(np.float32)
