"""What the documentation shows: its Python runs, and its commands are such as there are."""

from __future__ import annotations

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
