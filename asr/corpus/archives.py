"""Unpacking archives: tar, also compressed, and zip, and nothing outside of the folder that they are to go to."""

from __future__ import annotations

import gzip
import lzma
import platform
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from asr.errors import CorpusError
from asr.terminal import FileProgress, tell_nobody

_BLOCK_BYTES = 1 << 18


def extract(archive: Path, folder: Path, progress: FileProgress = tell_nobody) -> list[str]:
    """Unpacks the tar (also compressed) or zip file at `archive` into `folder`; `progress` is told before each member.

    Returns:
        The folders that came of it, at the second level below `folder` or else at the first, by which it can be told later
        whether it is still there: of `LibriSpeech/`, which many archives share, it could not.

    Raises:
        CorpusError: damaged, neither tar nor zip, a member that would land outside `folder`, or no room on the disk.
    """
    if sys.version_info < (3, 11, 4) and not zipfile.is_zipfile(archive):
        raise CorpusError(
            f"{archive}: Python 3.11.4 or newer unpacks it safely, this is {platform.python_version()}: unpack it into "
            f"{folder} by hand, and name the corpus by --root"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if zipfile.is_zipfile(archive):
            folders = _extract_zip(archive, folder, progress)
        elif tarfile.is_tarfile(archive):
            folders = _extract_tar(archive, folder, progress)
        else:
            raise CorpusError(f"{archive}: expected a tar or zip file; remove it to fetch it again")
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{archive}: cannot be unpacked: {error}; remove it to fetch it again") from error
    except OSError as error:
        raise CorpusError(f"{archive}: cannot be unpacked: {error.strerror or error}") from error
    shared = {name.partition("/")[0] for name in folders if "/" in name}
    # A system may call some otherwise.
    return sorted(name for name in folders - shared - {""} if (folder / name).is_dir())


def _extract_zip(archive: Path, folder: Path, progress: FileProgress) -> set[str]:
    """Unpacks, and gives the `_folder` of every member."""
    title, done, size = f"unpacking {archive.name}", 0, archive.stat().st_size
    with zipfile.ZipFile(archive) as zipped:
        for name in zipped.namelist():
            _check_inside(name, folder, archive)
        for member in zipped.infolist():
            progress(title, done, size)
            zipped.extract(member, folder)
            done += member.compress_size
        return {_folder(member.filename, member.is_dir()) for member in zipped.infolist()}


def _extract_tar(archive: Path, folder: Path, progress: FileProgress) -> set[str]:
    """Unpacks, and gives the `_folder` of every member."""
    folders = set()
    title, size = f"unpacking {archive.name}", archive.stat().st_size
    progress(title, 0, size)
    with archive.open("rb") as file, tarfile.open(fileobj=file) as tarred:

        def told(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
            progress(title, file.tell(), size)
            folders.add(_folder(member.name, member.isdir()))
            return tarfile.data_filter(member, path)

        tarred.extractall(folder, filter=told)  # noqa: S202 - it refuses absolute paths, "..", devices and links outside
        # To its end, since that is where a compressed file's own sum stands.
        while tarred.fileobj is not None and tarred.fileobj.read(_BLOCK_BYTES):
            pass
    return folders


def _folder(name: str, is_folder: bool) -> str:
    """The folder that a member lies in, or is, or the one of the second level that holds it; "" of a file in none."""
    parts = PurePosixPath(name.lstrip("/")).parts
    return "/".join((parts if is_folder else parts[:-1])[:2])


def _check_inside(name: str, folder: Path, archive: Path) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise CorpusError(f"{archive}: member '{name}' would be written outside {folder}")
