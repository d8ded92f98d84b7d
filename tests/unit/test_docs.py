"""What the documentation shows: its Python runs, and its commands are such as there are."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from pathlib import Path

import pytest
import typer
from documents import PAGES, ROOT, blocks, commands, run_python

from asr.cli.main import app

OF_PYTHON = [page for page in PAGES if any(language == "python" for language, _ in blocks(page))]


@pytest.mark.parametrize("page", OF_PYTHON, ids=lambda page: page.stem)
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_python(page)


def test_alignment_of_the_page_about_ctc_is_what_the_model_gives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    page = ROOT / "docs" / "ctc.md"
    run_python(page)
    found = capsys.readouterr().out.strip()
    (shown,) = re.findall(r"^    (\S*\.\.\.\S*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    # Another processor adds in another order, and may be sure of a letter one frame earlier or later, or of another one.
    assert SequenceMatcher(None, shown, found, autojunk=False).ratio() > 0.95


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_known_with_their_options(page: Path) -> None:
    for words in commands(page):
        command, name = typer.main.get_command(app), "asr"
        while words and words[0] in getattr(command, "commands", {}):
            name = words.pop(0)
            command = command.commands[name]  # type: ignore[attr-defined]
        assert not hasattr(command, "commands"), words
        command.make_context(name, words)


def test_there_are_commands_to_look_at() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 40
