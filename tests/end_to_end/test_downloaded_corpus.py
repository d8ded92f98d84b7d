"""A recipe without --root: what a run needs is fetched from a server, unpacked beside the runs, and not fetched again."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from asr.corpus.download import Download
from asr.errors import CorpusError
from asr.experiment import Run, load_experiment
from asr.pipeline import run_stages
from asr.recipe import Recipe, find_corpus, find_recipe

SPLITS = ("train-clean-5", "dev-clean-2", "test-other", "train-clean-100")


class Handler(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Recipe, str]]:
    """LibriSpeech's imitation as archives on a server, and the recipe with their sums; and the server's address."""
    recipe, files = find_recipe("librispeech"), tmp_path / "files"
    recipe.imitate(tmp_path / "whole")
    files.mkdir()
    downloads = []
    for split in SPLITS:
        with tarfile.open(files / f"{split}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "whole" / "LibriSpeech" / split, f"LibriSpeech/{split}")
        md5 = hashlib.md5((files / f"{split}.tar.gz").read_bytes()).hexdigest()
        downloads.append(Download(url=f"http://nowhere.invalid/{split}.tar.gz", md5=md5, splits=(split,)))
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield replace(recipe, downloads=tuple(downloads)), f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def make_run(recipe: Recipe, mirror: str, name: str) -> Run:
    splits = "splits={train: train-clean-5, dev: dev-clean-2, test: [test-other]}"
    return Run(folder=Path(name), recipe=recipe, root=None, experiment=load_experiment(None, [splits]), mirror=mirror)


def test_only_what_is_used_is_fetched_and_only_once(
    served: tuple[Recipe, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, mirror = served
    run_stages(make_run(recipe, mirror, "one"), ["prepare"])
    assert sorted(Handler.asked) == ["/dev-clean-2.tar.gz", "/test-other.tar.gz", "/train-clean-5.tar.gz"]
    assert (tmp_path / "corpora" / "librispeech" / "LibriSpeech" / "test-other").is_dir()
    run_stages(make_run(recipe, mirror, "two"), ["prepare"])
    assert len(Handler.asked) == 3


def test_a_mirror_of_the_publishers_folders_serves_subsets_of_both(
    served: tuple[Recipe, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train-clean-5 and test-other are in different folders at OpenSLR, whose mirrors have its folders."""
    monkeypatch.chdir(tmp_path)
    recipe, mirror = served
    published = {each.splits: each.url for each in find_recipe("librispeech").downloads}
    downloads = tuple(replace(each, url=published[each.splits]) for each in recipe.downloads)
    for each in downloads:
        path = tmp_path / "files" / urlsplit(each.url).path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / each.file_name).rename(path)
    run_stages(make_run(replace(recipe, downloads=downloads), mirror, "one"), ["prepare"])
    assert {path.parent.name for path in (tmp_path / "files").glob("resources/*/*")} == {"12", "31"}
    assert (tmp_path / "corpora" / "librispeech" / "LibriSpeech" / "test-other").is_dir()


def test_a_subset_that_was_removed_is_fetched_again(
    served: tuple[Recipe, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, mirror = served
    run_stages(make_run(recipe, mirror, "one"), ["prepare"])
    folder = tmp_path / "corpora" / "librispeech"
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["LibriSpeech"]
    shutil.rmtree(folder / "LibriSpeech" / "train-clean-5")
    run_stages(make_run(recipe, mirror, "two"), ["prepare"])
    assert Handler.asked[3:] == ["/train-clean-5.tar.gz"]


def test_a_run_looks_for_room_for_its_shards_before_it_downloads(
    served: tuple[Recipe, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, mirror = served
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(CorpusError, match=r"and about \d\.\d MB of shards, needs"):
            run_stages(make_run(recipe, mirror, "one"), ["prepare"])
    assert not Handler.asked


def test_an_archive_with_another_sum_is_refused(
    served: tuple[Recipe, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, mirror = served
    wrong = tuple(replace(download, md5="0" * 32) for download in recipe.downloads)
    with pytest.raises(CorpusError, match=r"train-clean-5\.tar\.gz: expected md5 0+, found"):
        run_stages(make_run(replace(recipe, downloads=wrong), mirror, "one"), ["prepare"])


def test_evaluation_fetches_what_it_measures_on(
    served: tuple[Recipe, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, mirror = served
    folder = find_corpus(recipe, {"test-other"}, mirror=mirror)
    assert len(list(recipe.read(folder, "test-other"))) == 3
    assert Handler.asked == ["/test-other.tar.gz"]
