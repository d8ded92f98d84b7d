"""Fetching the archives of a corpus: resumed where they broke off, checked by their sums, unpacked in one folder."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from filelock import FileLock

from asr.atomic import write_text
from asr.corpus.archives import extract
from asr.errors import CorpusError
from asr.terminal import FileProgress, tell_nobody

_LOG = logging.getLogger(__name__)
_BLOCK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 30.0
_HTTP_PARTIAL = 206
_HTTP_NOT_FOUND = 404
_HTTP_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file on a server, and how to know that it arrived whole.

    Attributes:
        url: http or https.
        sha256, md5: hexadecimal sums, "" where the publisher states none; one of them is enough.
        size: in bytes, None when unknown.
        name: name of the file on disk; the last part of the URL by default.
        splits: the parts of the corpus that it holds; none named: every part needs it.
    """

    url: str
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    name: str = ""
    splits: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the file on disk.

        Example:
            >>> Download(url="https://example.org/sets/train%20a.tar.gz?v=1").file_name
            'train a.tar.gz'
        """
        return self.name or unquote(urlsplit(self.url).path.rpartition("/")[2])


class BrokenOffError(Exception):
    """A file arrived in part or not at all; trying again may help."""


class _AbsentError(CorpusError):
    """The server has no such file."""


class _NothingLeftError(BrokenOffError):
    """The server has no byte where the rest was to begin."""


@contextmanager
def connection(url: str, start: int = 0, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
    """The server's answer to the wish for the file at `url` from byte `start` on, or by "HEAD" for what is said of it.

    Its status is 206 when it begins there; a server that knows no ranges begins at the file's start. Errors while it is
    read are raised as those of opening it.

    Raises:
        BrokenOffError: the connection fails, or the server is overloaded.
        CorpusError: the server refuses, or `url` is not http or https.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise CorpusError(f"{url}: expected an http or https address")
    request = urllib.request.Request(url, headers={"User-Agent": "bigru-asr"}, method=method)  # noqa: S310 - checked
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            yield response
    except urllib.error.HTTPError as error:
        if error.code == _HTTP_RANGE_NOT_SATISFIABLE and start:
            raise _NothingLeftError("the part fetched earlier does not fit the file") from error
        if error.code >= 500 or error.code == 429:
            raise BrokenOffError(f"the server answers {error.code} {error.reason}") from error
        refusal = _AbsentError if error.code == _HTTP_NOT_FOUND else CorpusError
        raise refusal(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise BrokenOffError(f"the connection failed ({reason or type(error).__name__})") from error


def first_byte(response: http.client.HTTPResponse, asked: int) -> int:
    """Where in the file an answer begins that should begin at the byte `asked`: there, before it, or at the start.

    Raises:
        BrokenOffError: it begins behind it.
    """
    if response.status != _HTTP_PARTIAL:
        return 0
    stated = re.match(r"bytes (\d+)-", response.headers["Content-Range"] or "")
    first = asked if stated is None else int(stated[1])
    if first > asked:
        raise BrokenOffError(f"the server begins at byte {first}, and {asked} was asked for")
    return first


def obtain(
    downloads: Iterable[Download],
    root: Path,
    *,
    mirror: str | None = None,
    progress: FileProgress = tell_nobody,
    shards: Path | None = None,
    shards_share: float = 1.0,
) -> None:
    """Fetches every one of `downloads` into `root` and unpacks it there; what is already done is not done again.

    An archive that is unpacked whole is removed. If what came of it is removed, too, it is fetched again. One process at a
    time does so; the others wait, and find it done.

    Where `shards` are to be made of it in that folder, and on the same disk, room is looked for them, too: `shards_share` of
    the archives' sizes.

    Raises:
        CorpusError: as `fetch` and `extract`, or all of it would not fit, which is told before the first byte is fetched if
            the server states the sizes.
    """
    wanted = [each for each in downloads if not _is_unpacked(each, root)]
    if not wanted:
        return  # perhaps in a folder that nobody may write to
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(root / ".download.lock"))
        except OSError as error:
            raise CorpusError(f"{root}: cannot write the download: {error.strerror or error}") from error
        wanted = [each for each in wanted if not _is_unpacked(each, root)]  # by the process that was waited for
        with contextlib.suppress(BrokenOffError):  # of which more is told where the files themselves are asked for
            share = shards_share if shards is not None and _is_same_disk(root, shards) else 0.0
            _check_room(wanted, root, mirror, share)
        for download in wanted:
            archive = fetch(download, root, mirror=mirror, progress=progress)
            _check_space(archive, archive.stat().st_size, "unpacking it")
            _mark(download, root).unlink(missing_ok=True)  # what it stood for is gone, and soon will be there in part
            folders = extract(archive, root, progress)
            if os.name == "posix":
                os.sync()  # in a power failure, the mark must not outlive what it stands for
            write_text(_mark(download, root), json.dumps(folders))
            archive.unlink()


def _mark(download: Download, root: Path) -> Path:
    """The file that says that an archive was unpacked whole, and into which folders."""
    return root / f".{download.file_name}.extracted"


def _is_unpacked(download: Download, root: Path) -> bool:
    """Whether an archive was unpacked whole, and what came of it is still there."""
    try:
        folders: list[str] = json.loads(_mark(download, root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if folders:
        return all((root / name).is_dir() for name in folders)
    # Of an archive without folders.
    return any(not each.name.startswith(".") for each in root.iterdir())


def _is_same_disk(root: Path, folder: Path) -> bool:
    """Whether `folder`, which may not be there yet, will be on the disk of `root`, which is."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return there.stat().st_dev == root.stat().st_dev


def _check_room(downloads: Iterable[Download], root: Path, mirror: str | None, shards_share: float) -> None:
    """Looks whether the disk is large enough for all of `downloads` whose sizes can be known, and for shards of them.

    Raises:
        BrokenOffError: a server does not answer.
        CorpusError: it is too small.
    """
    needed = taken = total = 0
    names = []
    for download in downloads:
        path = root / download.file_name
        size = _size(path) or download.size or _size_on_server(download, mirror)
        there = min(size, _size(path) or _size(_part(path)))
        # Sound is compressed already, so what comes out of an archive is about as large. It stays, and the archive goes.
        needed = max(needed, taken - there + 2 * size)
        taken, total = taken + size - there, total + size
        names.append(download.file_name)
    shards = round(shards_share * total)
    and_shards = f", and about {shards / 1e6:.1f} MB of shards," if shards else ""
    _check_space(root, max(needed, taken + shards), f"fetching and unpacking {', '.join(names)}{and_shards}")


def _size_on_server(download: Download, mirror: str | None) -> int:
    """Bytes of the file, 0 where the server does not say."""
    for url in _addresses(download, mirror):
        try:
            with connection(url, method="HEAD") as response:
                return int(response.headers["Content-Length"] or 0)
        except _AbsentError:
            continue
        except CorpusError:
            break
    return 0


def fetch(
    download: Download,
    folder: Path,
    *,
    mirror: str | None = None,
    progress: FileProgress = tell_nobody,
    retries: int = 4,
    wait_seconds: float = 1.0,
) -> Path:
    """The path in `folder` of the file of `download`, fetched unless a whole one lies there.

    What has arrived is kept in `NAME.part`; the next try, also that of a later call, goes on from there where the
    server allows it. The file appears under its name when it is complete and its sum is right.

    Args:
        download: what to fetch.
        folder: where to; made if missing.
        mirror: base URL to fetch from instead of the publisher's: the file lies below it by its name on disk or, where there
            is none, by its path on the publisher's server.
        progress: called before the first block and after each, while fetching and while checking.
        retries: further tries after a broken connection or an overloaded server, counted from the last that brought more.
        wait_seconds: before the first further try; doubled before each next in vain.

    Raises:
        CorpusError: the server refuses, the connection breaks too often, the sum is wrong, or the disk is too small.
    """
    path = folder / download.file_name
    if path.exists():
        problem = _mismatch(path, download, progress)
        if not problem:
            return path
        _LOG.warning("%s: %s; fetching it again", path, problem)
    part = _part(path)
    *others, last = _addresses(download, mirror)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for url in others:
            with contextlib.suppress(_AbsentError):
                _complete(url, part, download, progress, retries, wait_seconds)
                break
        else:
            _complete(last, part, download, progress, retries, wait_seconds)
        part.replace(path)
    except _AbsentError as error:
        raise CorpusError("; nor is it at ".join([str(error), *others])) from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot write the download: {error.strerror or error}") from error
    return path


def _part(path: Path) -> Path:
    """Where what has arrived of the file at `path` is kept."""
    return path.with_name(f"{path.name}.part")


def _addresses(download: Download, mirror: str | None) -> list[str]:
    """Where the file may lie, in the order in which that is tried."""
    if mirror is None:
        return [download.url]
    below = (f"/{quote(download.file_name)}", urlsplit(download.url).path)
    return [mirror.rstrip("/") + path for path in dict.fromkeys(below)]


def _complete(
    url: str, part: Path, download: Download, progress: FileProgress, retries: int, wait_seconds: float
) -> None:
    """Completes `part` from `url`, in as many tries as it takes while they bring more than was ever there."""
    num_failed, most = 0, _size(part)
    while True:
        try:
            return _fetch_once(url, part, download, progress)
        except BrokenOffError as error:
            num_failed = 1 if _size(part) > most else num_failed + 1
            most = max(most, _size(part))
            if num_failed > retries:
                raise CorpusError(
                    f"{url}: {error}; run again to go on, name a mirror, or put the file at {part.with_suffix('')}"
                ) from error
            _LOG.warning("%s: %s; trying again", url, error)
            time.sleep(wait_seconds * 2 ** (num_failed - 1))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_once(url: str, part: Path, download: Download, progress: FileProgress) -> None:
    """Completes `part` from `url` and checks it.

    Raises:
        BrokenOffError: the connection fails, or a resumed file turns out wrong (it is removed then).
        CorpusError: trying again is of no use.
    """
    resumed_from = _size(part)
    try:
        _transfer(url, part, download, progress)
    except _NothingLeftError:
        is_verifiable = bool(download.sha256 or download.md5 or download.size is not None)
        if _mismatch(part, download, progress) or not is_verifiable:
            part.unlink()
            raise
        return
    problem = _mismatch(part, download, progress)
    if problem:
        part.unlink()
        if resumed_from:  # perhaps the file on the server has changed since: once more from its start
            raise BrokenOffError(problem)
        raise CorpusError(f"{url}: {problem}; the file was removed, run again or name another mirror")


def _transfer(url: str, part: Path, download: Download, progress: FileProgress) -> None:
    """Appends to `part` what is missing, or writes it anew where the server knows no ranges."""
    have = _size(part)
    with connection(url, have) as response:
        if (first := first_byte(response, have)) < have:
            os.truncate(part, first)
            have = first
        length = response.headers["Content-Length"]
        total = have + int(length) if length else download.size
        _check_space(part, (total or 0) - have)
        title = f"downloading {download.file_name}"
        progress(title, have, total)
        with part.open("ab" if have else "wb") as file:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                have += len(block)
                progress(title, have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise BrokenOffError(f"the connection ended after {have} of {total} bytes")


def _check_space(path: Path, needed: int, what: str = "the download") -> None:
    free = shutil.disk_usage(path if path.is_dir() else path.parent).free
    if needed > free:
        raise CorpusError(f"{path}: {what} needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free on that disk")


def _mismatch(path: Path, download: Download, progress: FileProgress) -> str:
    """How the file at `path` differs from what `download` states, "" if it does not."""
    size = path.stat().st_size
    if download.size is not None and size != download.size:
        return f"expected {download.size} bytes, found {size}"
    for algorithm, expected in (("sha256", download.sha256), ("md5", download.md5)):
        if not expected:
            continue
        title, digest, done = f"checking {download.file_name}", hashlib.new(algorithm), 0
        progress(title, done, size)
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                progress(title, done, size)
        if digest.hexdigest() != expected.lower():
            return f"expected {algorithm} {expected}, found {digest.hexdigest()}"
    return ""
