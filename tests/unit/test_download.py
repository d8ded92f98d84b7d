"""Downloads against a server on this machine that breaks off, lies, overloads and knows no ranges."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faulty_server import FaultyServer

from asr.corpus.archives import extract
from asr.corpus.download import Download, fetch, obtain
from asr.errors import CorpusError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass(kw_only=True)
class Server(FaultyServer):
    """One file, with faults, `seconds` after it was asked for."""

    content: bytes = CONTENT
    seconds: float = 0.0

    @property
    def url(self) -> str:
        """Where the file is served."""
        return f"{self.address}/sets/a%20b.bin"

    def body(self, path: str) -> bytes | None:
        """The file, wherever it is asked for."""
        time.sleep(self.seconds)
        return self.content


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with state.serving():
        yield state


def download(server: Server, **changes: Any) -> Download:
    return Download(**({"url": server.url, "sha256": SHA256, "size": len(CONTENT)} | changes))


def test_a_file_arrives_under_its_name_and_once_only(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    path = fetch(download(server), tmp_path / "new", progress=lambda *state: seen.append(state))
    assert path == tmp_path / "new" / "a b.bin"
    assert path.read_bytes() == CONTENT
    for title in ("downloading a b.bin", "checking a b.bin"):
        done = [have for what, have, total in seen if (what, total) == (title, len(CONTENT))]
        assert done[0] == 0
        assert done == sorted(done)
        assert done[-1] == len(CONTENT)
    assert fetch(download(server), tmp_path / "new") == path
    assert len(server.requests) == 1
    assert list(path.parent.iterdir()) == [path]


def test_broken_connections_are_resumed_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000, 200_000, 0]
    path = fetch(download(server), tmp_path, wait_seconds=0)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=500000-", "bytes=500000-"]


def test_tries_are_counted_from_the_last_that_brought_more(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000] * 10
    assert fetch(download(server), tmp_path, retries=1, wait_seconds=0).read_bytes() == CONTENT
    assert len(server.requests) == 11


def test_the_same_bytes_again_are_no_progress(server: Server, tmp_path: Path) -> None:
    """A server without ranges begins anew, and what it breaks off at may vary without end."""
    server.ranges, server.breaks = False, [300_000, 200_000, 290_000, 300_000]
    with pytest.raises(CorpusError, match="run again to go on"):
        fetch(download(server), tmp_path, retries=2, wait_seconds=0)
    assert len(server.requests) == 3


def test_what_is_there_already_is_told_before_the_first_byte(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    (tmp_path / "a b.bin.part").write_bytes(CONTENT[:500_000])
    fetch(download(server), tmp_path, progress=lambda *state: seen.append(state))
    assert seen[0] == ("downloading a b.bin", 500_000, len(CONTENT))


def test_a_later_call_goes_on_from_the_part(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000]
    with pytest.raises(CorpusError, match=r"ended after 300000 of 1024000 bytes; run again to go on"):
        fetch(download(server), tmp_path, retries=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a b.bin.part"]
    assert fetch(download(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=300000-"


def test_a_server_that_begins_before_what_was_asked_repeats_no_byte(server: Server, tmp_path: Path) -> None:
    server.block, server.breaks = 4096, [5000]
    assert fetch(download(server), tmp_path, wait_seconds=0).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_without_ranges_it_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks = False, [300_000]
    assert fetch(download(server), tmp_path, wait_seconds=0).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a b.bin.part").write_bytes(CONTENT)
    assert fetch(download(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 1000, CONTENT + b"more", b"y" * len(CONTENT)])
def test_a_part_of_something_else_is_fetched_anew(part: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a b.bin.part").write_bytes(part)
    assert fetch(download(server), tmp_path, wait_seconds=0).read_bytes() == CONTENT


def test_a_whole_part_without_sum_or_size_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    """Nothing says that a part as long as the file is the file."""
    (tmp_path / "a b.bin.part").write_bytes(b"y" * len(CONTENT))
    unverifiable = download(server, sha256="", size=None)
    assert fetch(unverifiable, tmp_path, wait_seconds=0).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, f"expected sha256 {'0' * 64}, found {SHA256}"),
        ({"sha256": "", "md5": "0" * 32}, "expected md5 0+, found "),
        ({"size": 5}, "expected 5 bytes, found 1024000"),
    ],
)
def test_a_wrong_file_is_refused_and_removed(
    changes: dict[str, Any], message: str, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=message):
        fetch(download(server, **changes), tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(server.requests) == 1


def test_a_wrong_file_on_disk_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(b"old")
    assert fetch(download(server), tmp_path).read_bytes() == CONTENT


def test_an_upper_case_sum_and_unknown_length_are_fine(server: Server, tmp_path: Path) -> None:
    server.states_length = False
    assert fetch(download(server, sha256=SHA256.upper(), size=None), tmp_path).read_bytes() == CONTENT


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429, 500]
    assert fetch(download(server), tmp_path, wait_seconds=0).read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_refusal_is_final(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(CorpusError, match="the server answers 404"):
        fetch(download(server), tmp_path)
    assert len(server.requests) == 1


def test_a_mirror_is_used_instead(server: Server, tmp_path: Path) -> None:
    base = server.url.rpartition("/sets/")[0]
    for url, name in (
        ("https://example.invalid/deep/path/a%20b.bin", ""),
        ("https://example.invalid/v1.zip", "a b.bin"),
    ):
        elsewhere = download(server, url=url, name=name)
        assert fetch(elsewhere, tmp_path / f"for {name}", mirror=f"{base}/mirror/").read_bytes() == CONTENT
        assert server.requests[-1][0] == "/mirror/a%20b.bin"


def test_no_server_and_no_web_address_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"the connection failed .* put the file at .*x\.bin"):
        fetch(Download(url="http://127.0.0.1:9/x.bin"), tmp_path, retries=1, wait_seconds=0)
    with pytest.raises(CorpusError, match="expected an http or https address"):
        fetch(Download(url="file:///etc/passwd"), tmp_path)


def test_a_small_disk_is_noticed_beforehand(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CorpusError, match=r"needs \d\.\d MB, 0\.0 MB are free"):
        fetch(download(server), tmp_path)


def test_an_unwritable_folder_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CorpusError, match="cannot write the download"):
        fetch(download(server), tmp_path / "file")


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


FILES = {"set/a.txt": b"a", "set/deep/b.txt": b"b" * 5000}


@pytest.mark.parametrize("archive", [tar_of(FILES), tar_of(FILES, "w"), tar_of(FILES, "w:xz"), zip_of(FILES)])
def test_archives_are_unpacked(archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(archive)
    extract(path, tmp_path / "out")
    for name, content in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == content


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_how_far_unpacking_is_is_told_in_bytes_of_the_archive(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(make({f"{number}.wav": random.Random(number).randbytes(100_000) for number in range(10)}))
    seen: list[tuple[str, int, int | None]] = []
    extract(path, tmp_path / "out", lambda *state: seen.append(state))
    size = path.stat().st_size
    assert {(title, total) for title, _, total in seen} == {("unpacking archive", size)}
    done = [each for _, each, _ in seen]
    assert done[0] == 0
    assert done == sorted(done)
    assert size / 2 < done[-1] <= size


@pytest.mark.parametrize("name", ["../outside.txt", "set/../../outside.txt", "/tmp/asr_outside.txt"])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_nothing_is_written_outside(name: str, make: Any, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(make({name: b"x"}))
    try:
        extract(path, tmp_path / "out")
    except CorpusError as error:
        assert "outside" in str(error)  # noqa: PT017 - tar strips a leading slash and goes on, which is as good
    assert not (tmp_path / "outside.txt").exists()
    assert not Path("/tmp/asr_outside.txt").exists()


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    path = tmp_path / "archive"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CorpusError, match="cannot be unpacked"):
        extract(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "expected a tar or zip file"),
        (tar_of(FILES)[:-30], "cannot be unpacked"),
        (zip_of({"a": b"abc"}, zipfile.ZIP_STORED).replace(b"abc", b"abd"), "cannot be unpacked: Bad CRC"),
        (zip_of(FILES)[:40] + b"\xff" * 8 + zip_of(FILES)[48:], "cannot be unpacked"),
    ],
)
def test_damaged_archives_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        extract(path, tmp_path / "out")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_any_bit_of_a_compressed_archive_counts(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    whole = tar_of({"a.wav": random.Random(0).randbytes(2000)}, mode)
    for place in random.Random(1).sample(range(40, len(whole) - 8), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match="remove it to fetch it again"):
            extract(path, tmp_path / "out")


def test_a_second_process_waits_and_finds_it_done(server: Server, tmp_path: Path) -> None:
    server.content = tar_of({"a.bin": random.Random(0).randbytes(3_000_000)})
    server.seconds = 0.2
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(obtain, [Download(url=server.url)], tmp_path) for _ in range(2)]:
            each.result()
    assert (tmp_path / "a.bin").stat().st_size == 3_000_000
    assert len(server.requests) == 1


def test_a_corpus_is_obtained_once(server: Server, tmp_path: Path) -> None:
    server.content = tar_of(FILES)
    wanted = [Download(url=server.url)]
    obtain(wanted, tmp_path)
    (tmp_path / ".download.lock").unlink(missing_ok=True)
    obtain(wanted, tmp_path)
    assert not (tmp_path / ".download.lock").exists()  # what is there is read where nothing may be written
    assert (tmp_path / "set" / "a.txt").read_bytes() == b"a"
    assert len(server.requests) == 1


def test_an_archive_that_is_unpacked_is_removed(server: Server, tmp_path: Path) -> None:
    server.content = tar_of(FILES)
    obtain([Download(url=server.url)], tmp_path)
    assert not (tmp_path / "a b.bin").exists()


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_what_was_removed_is_obtained_again(make: Any, server: Server, tmp_path: Path) -> None:
    """Another archive's folder beside it does not pass for it, and files of no account are not missed."""
    server.content = make({"Set/README": b"", "Set/train/1/a.wav": b"a", "Set/train/2/b.wav": b"b", "NOTES": b""})
    wanted = [Download(url=server.url)]
    obtain(wanted, tmp_path)
    (tmp_path / "Set" / "README").unlink()
    (tmp_path / "NOTES").unlink()
    (tmp_path / "Set" / "dev").mkdir()
    shutil.rmtree(tmp_path / "Set" / "train" / "1")  # a partial copy is the user's own choice
    obtain(wanted, tmp_path)
    assert len(server.requests) == 1
    shutil.rmtree(tmp_path / "Set" / "train")
    obtain(wanted, tmp_path)
    assert (tmp_path / "Set" / "train" / "1" / "a.wav").read_bytes() == b"a"
    assert len(server.requests) == 2


def test_what_was_removed_and_is_unpacked_in_part_is_not_taken_for_whole(server: Server, tmp_path: Path) -> None:
    content = tar_of({"set/a.wav": b"a", "set/b.wav": random.Random(0).randbytes(300_000)})
    server.content = content
    obtain([Download(url=server.url)], tmp_path)
    shutil.rmtree(tmp_path / "set")
    server.content = content[:-1000]
    with pytest.raises(CorpusError, match="remove it to fetch it again"):
        obtain([Download(url=server.url)], tmp_path)
    assert (tmp_path / "set" / "a.wav").exists()
    (tmp_path / "a b.bin").unlink()
    server.content = content
    obtain([Download(url=server.url)], tmp_path)
    assert (tmp_path / "set" / "b.wav").stat().st_size == 300_000


def test_names_that_are_no_text_are_found_again(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding="latin-1") as tar:
        member = tarfile.TarInfo("Sét/a\nb/c.wav")
        tar.addfile(member, io.BytesIO())
    server.content = buffer.getvalue()
    for _ in range(2):
        obtain([Download(url=server.url)], tmp_path)
    assert len(server.requests) == 1


def test_an_unfinished_unpacking_is_repeated(server: Server, tmp_path: Path) -> None:
    server.content = tar_of(FILES)[:-30]
    with pytest.raises(CorpusError, match="remove it to fetch it again"):
        obtain([Download(url=server.url)], tmp_path)
    (tmp_path / "a b.bin").unlink()
    server.content = tar_of(FILES)
    obtain([Download(url=server.url)], tmp_path)
    assert (tmp_path / "set" / "deep" / "b.txt").read_bytes() == FILES["set/deep/b.txt"]


def test_room_for_unpacking_is_looked_for_beforehand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server did not say how large the archive is, that is known when it is there."""
    server.content, server.answers_head, server.states_length = tar_of(FILES), False, False
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(CorpusError, match="unpacking it needs"):
        obtain([Download(url=server.url)], tmp_path)
    assert not (tmp_path / "set").exists()


@dataclass(kw_only=True)
class Shelf(FaultyServer):
    """Several files, by their paths."""

    files: dict[str, bytes] = field(default_factory=dict)

    def body(self, path: str) -> bytes | None:
        """The file, None where there is none."""
        return self.files.get(path)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """Archives at OpenSLR's paths."""
    contents = {number: random.Random(number).randbytes(1_000_000) for number in (12, 31)}
    files = {
        f"/resources/{number}/{number}.tar": tar_of({f"set/{number}/a.wav": contents[number]}, "w")
        for number in contents
    }
    state = Shelf(files=files)
    with state.serving():
        yield state


def of_publisher(address: str) -> list[Download]:
    return [Download(url=f"{address}/resources/{number}/{number}.tar") for number in (12, 31)]


@pytest.mark.parametrize(("free_mb", "fits"), [(2.5, False), (3.5, True)])
def test_room_for_everything_is_looked_for_before_the_first_byte(
    free_mb: float, fits: bool, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most there are what came of the first archive, the second archive, and what comes of it: 3 MB."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mb * 1e6))
    if fits:
        obtain(of_publisher(shelf.address), tmp_path)
        assert (tmp_path / "set" / "31").is_dir()
        return
    with pytest.raises(CorpusError, match=r"fetching and unpacking 12\.tar, 31\.tar needs 3\.0 MB, 2\.5 MB are free"):
        obtain(of_publisher(shelf.address), tmp_path)
    assert not shelf.requests


@pytest.mark.parametrize(
    ("share", "same_disk", "needed"),
    [(1.0, True, 4.0), (0.75, True, 3.5), (0.2, True, 3.0), (1.0, False, 3.0)],
)
def test_room_for_shards_on_the_same_disk_is_looked_for_beforehand(
    share: float, same_disk: bool, needed: float, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came of both archives stays, 2 MB, and the shards come beside it; or, if more, what unpacking needs, 3 MB."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    shards = tmp_path / "runs" / "new" if same_disk else Path("/proc/self")
    with pytest.raises(CorpusError, match=rf"(needs|shards, needs) {needed} MB, 1\.0 MB are free"):
        obtain(of_publisher(shelf.address), tmp_path / "corpora", shards=shards, shards_share=share)
    assert not shelf.requests


def test_room_is_not_needed_for_what_is_there_already(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half = shelf.files.values()
    (tmp_path / "12.tar").write_bytes(whole)
    (tmp_path / "31.tar.part").write_bytes(half[:900_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_300_000))
    obtain(of_publisher(shelf.address), tmp_path)
    assert [asked for _, asked in shelf.requests] == ["bytes=900000-"]


def test_a_server_that_does_not_tell_sizes_is_fetched_from_all_the_same(shelf: Shelf, tmp_path: Path) -> None:
    shelf.answers_head = False
    obtain(of_publisher(shelf.address), tmp_path)
    assert (tmp_path / "set" / "31").is_dir()


def test_a_mirror_may_keep_the_paths_of_the_publisher(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = of_publisher("https://publisher.invalid")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(CorpusError, match=r"12\.tar, 31\.tar needs 3\.0 MB"):
            obtain(downloads, tmp_path, mirror=shelf.address)
    obtain(downloads, tmp_path, mirror=f"{shelf.address}/")
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"12", "31"}


def test_a_mirror_without_the_file_is_told_with_all_that_was_tried(shelf: Shelf, tmp_path: Path) -> None:
    elsewhere = Download(url="https://publisher.invalid/deep/a%20b.tar")
    with pytest.raises(
        CorpusError, match=r"/x/deep/a%20b\.tar: the server answers 404 .*; nor is it at .*/x/a%20b\.tar$"
    ):
        fetch(elsewhere, tmp_path, mirror=f"{shelf.address}/x")
    with pytest.raises(CorpusError, match=r"/a\.tar: the server answers 404 Not Found; check the address$"):
        fetch(Download(url=f"{shelf.address}/a.tar"), tmp_path)
