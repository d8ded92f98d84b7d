"""What the documentation shows: its Python runs, and its commands are such as there are."""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from pathlib import Path

import pytest
import typer
from documents import PAGES, ROOT, blocks, commands, run_python
from pydantic import ValidationError

from asr.cli.main import app
from asr.model import CELLS, EncoderConfig

OF_PYTHON = [page for page in PAGES if any(language == "python" for language, _ in blocks(page))]


@pytest.mark.parametrize("page", OF_PYTHON, ids=lambda page: page.stem)
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_python(page)


def test_a_list_of_nemo_that_cuts_recordings_is_not_taken_for_one_of_whole_files() -> None:
    from_nemo = run_python(ROOT / "docs" / "guide.md", "def from_nemo")["from_nemo"]
    whole, part = ({"audio_filepath": "a.wav", "duration": 1.5, "text": "x", "offset": offset} for offset in (0.0, 3.5))
    # `asr data check` compares them with what is there.
    assert [record["seconds"] for record in from_nemo([json.dumps(whole)])] == [1.5]
    with pytest.raises(ValueError, match=r"a\.wav.*3\.5"):
        list(from_nemo(map(json.dumps, [whole, part])))


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


def test_the_table_of_options_is_what_cells_accept() -> None:
    switched_on = {"cell_norm": True, "initial_state": "learnt", "recurrent_init": "orthogonal", "gate_bias": 1.0}
    around = {"norm": "none", "residual": True, "highway": True, "dropout_over": "utterance"}
    accepted = {}
    for cell in CELLS:
        EncoderConfig(cell=cell, **around)
        for option, value in switched_on.items():
            try:
                accepted[cell, option] = bool(EncoderConfig(cell=cell, **{option: value}))
            except ValidationError:
                accepted[cell, option] = False
    _, table = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8").split("| cell | `cell_norm`")
    head, _, *rows = f"| cell | `cell_norm`{table}".partition("\n\n")[0].splitlines()
    options = re.findall(r"`(\w+)`", head)
    told = {}
    for row in rows:
        cells, *answers = (part.strip() for part in row.strip("|").split("|"))
        for cell in re.findall(r"`(\w+)`", cells):
            told |= {
                (cell, option): {"yes": True, "-": False}[each] for option, each in zip(options, answers, strict=True)
            }
    assert told == accepted
