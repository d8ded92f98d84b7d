"""`asr inspect` on a tiny model: what it prints and writes, and what it says to a mistake."""

from __future__ import annotations

import html.parser
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from ragged import SAMPLE_RATE, encoder_config, ragged_batch, small_model

from asr.cli import main
from asr.model.checkpoint import Checkpoint, save_checkpoint
from asr.text.tokenizer import CharacterTokenizer, CharacterTokenizerConfig

Run = Callable[..., tuple[int, str, str]]
TRAP = "<$&"
OF_A_TOKEN = {"gates": (), "gradients": ("--text", TRAP, "--token", "2")}


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; returns its exit code and what it printed on either stream."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return run


def write_model(folder: Path, **settings: Any) -> Path:
    """A run folder with an untrained model that spells with odd letters."""
    model = small_model(encoder_config(**settings))
    tokenizer = CharacterTokenizer(f" {TRAP}", CharacterTokenizerConfig())
    folder.mkdir()
    save_checkpoint(
        folder / "model.pt",
        Checkpoint(
            experiment=model.config.model_dump(mode="json"), tokenizer=tokenizer.state(), model=model.state_dict()
        ),
    )
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "run")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "sound.wav"
    soundfile.write(path, ragged_batch([3000])[0][0].numpy(), SAMPLE_RATE)
    return path


class Page(html.parser.HTMLParser):
    """The start tags of a page with their attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def check_page(path: Path, num_pictures: int) -> None:
    """Fail unless the page has so many pictures, by day and by night, and asks for nothing that is not in it."""
    page = Page(path)
    assert not {"script", "link", "iframe", "a", "base", "object", "embed", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in {"src", "srcset", "href", "action", "style"} & attributes.keys():
            assert (attributes[name] or "").startswith("data:image/png;base64,"), (tag, name)
    assert [tag for tag, _ in page.tags].count("img") == num_pictures
    assert [attributes["media"] for tag, attributes in page.tags if tag == "source"] == [
        "(prefers-color-scheme: dark)"
    ] * num_pictures
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes) or ""
    assert policy.startswith("default-src 'none'; script-src 'none'; style-src 'sha256-")
    style = path.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_gates(cli: Run, model: Path, audio: Path) -> None:
    code, printed, _ = cli("inspect", "gates", audio, "--model", model, "--layers", "2")
    assert code == 0
    folder = model / "inspect" / "sound"
    assert f"wrote {folder / 'gates.html'}" in printed
    assert "2 backward" in printed
    assert "1 forward" not in printed
    record = json.loads((folder / "gates.json").read_text(encoding="utf-8"))
    assert [layer["layer"] for layer in record["layers"]] == [2, 2]
    num_frames = round(record["seconds"] / record["frame_seconds"])
    for layer in record["layers"]:
        assert len(layer["horizons_ms"]) == len(layer["gates_by_unit"]["update"]) == 6
        assert len(layer["gates_by_frame"]["reset"]) == num_frames
        assert layer["largest_deviation_from_the_model"] < 1e-5
    names = ["gates_overview", "horizons", "gates_2_forward", "gates_2_backward"]
    assert {path.stem for path in folder.glob("*.png")} == set(names)
    check_page(folder / "gates.html", len(names))


def test_without_model_the_one_that_comes_along_is_looked_at_and_nothing_written_beside_it(
    cli: Run, model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asr.resources.resource", lambda *_: model / "model.pt")
    for options, note in (((), "no --model: the small English model"), (("--model", model / "model.pt"), "")):
        code, printed, errors = cli("inspect", "gates", audio, "--layers", "1", *options)
        assert code == 0
        assert errors.startswith(note)
        assert f"wrote {Path('inspect', 'sound', 'gates.html')}" in printed
    assert not (model / "inspect").exists()


def test_sounds_of_one_name_and_models_have_folders_of_their_own(
    cli: Run, model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other_audio, other_model = tmp_path / "b" / "sound.wav", tmp_path / "other.pt"
    other_audio.parent.mkdir()
    shutil.copy(audio, other_audio)
    shutil.copy(model / "model.pt", other_model)

    def written(kind: str, sound: Path, checkpoint: Path) -> str:
        code, printed, _ = cli("inspect", kind, sound, "--model", checkpoint, *OF_A_TOKEN.get(kind, ()))
        assert code == 0
        return Path(printed.partition("wrote ")[2].partition(",")[0]).parent.name

    used = (audio, model / "model.pt"), (other_audio, model / "model.pt"), (audio, other_model)
    folders = [written("gates", *each) for each in used]
    assert folders[0] == "sound"
    assert len(set(folders)) == 3
    # Whatever else is asked of the same, and however it is named.
    assert [written("gradients", *each) for each in used] == folders
    assert written("gates", other_audio.relative_to(tmp_path), (model / "model.pt").relative_to(tmp_path)) == folders[1]


def test_gradients_of_a_given_text(cli: Run, model: Path, audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--text", TRAP, "--token", "2", "--out", out)
    code, _, errors = cli("inspect", "gradients", audio, "--model", model / "model.pt", *options)
    assert (code, errors) == (0, "")
    record = json.loads((out / "gradients.json").read_text(encoding="utf-8"))
    assert record["text"] == TRAP
    assert record["token"] == 2
    assert len(record["layers"]) == 4
    check_page(out / "gradients.html", 3)
    assert "“&lt;$&amp;”" not in (out / "gradients.json").read_text(encoding="utf-8")
    assert f"Looked at: <b>{'&lt;$&amp;'}</b>" in (out / "gradients.html").read_text(encoding="utf-8")


def test_saliency_of_some_tokens(cli: Run, model: Path, audio: Path, tmp_path: Path) -> None:
    options = ("--text", TRAP, "--tokens", "1,3", "--steps", "3", "--out", tmp_path)
    code, printed, _ = cli("inspect", "saliency", audio, "--model", model, *options)
    assert code == 0
    assert " Hz" in printed
    assert f"; looked at: {TRAP}\n" in printed
    record = json.loads((tmp_path / "saliency.json").read_text(encoding="utf-8"))
    assert [(each["token"], each["steps"]) for each in record["saliency"]] == [("<", 3), ("&", 3)]
    check_page(tmp_path / "saliency.html", 3)


def test_steps_that_are_too_few_are_told(
    cli: Run, model: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.inspection.saliency.Saliency.adds_up", False)
    options = ("--text", TRAP, "--tokens", "1", "--steps", "2", "--out", tmp_path)
    code, _, errors = cli("inspect", "saliency", audio, "--model", model, *options)
    told = "the shares of 1 of 1 token (*) add up to another sum than the worth; take more than --steps 2"
    assert (code, errors) == (0, f"warning: {told}\n")
    assert told in (page := (tmp_path / "saliency.html").read_text(encoding="utf-8"))
    assert ">* " in page


def test_a_cell_without_gates_has_gradients(cli: Run, audio: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "plain", cell="rnn", bidirectional=False, num_layers=1)
    code, _, errors = cli("inspect", "gates", audio, "--model", model)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "'rnn' has no gates" in errors
    assert cli("inspect", "gradients", audio, "--model", model, "--text", "$")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("gates --layers 1,3", "--layers 1,3: there is no layer 3; they go from 1 to 2"),
        ("gates --layers 1-9999999999", "--layers 1-9999999999: there is no layer 9999999999; they go from 1 to 2"),
        ("gates --layers one", "--layers one: expected numbers such as 1,3 or 1-2, found 'one'"),
        ("gates --layers 2-1", "--layers 2-1: names no layer"),
        ("gradients --text $ --token 2", "--token 2: there is no token 2; they go from 1 to 1"),
        ("saliency --text $ --tokens 0", "--tokens 0: there is no token 0; they go from 1 to 1"),
        ("gates --out {audio}", "--out {audio}: '{audio}' is a file; expected a folder"),
        ("gradients --text x", "there is no token for 'x' (U+0078)"),
    ],
)
def test_mistakes_are_told_in_one_line(cli: Run, model: Path, audio: Path, arguments: str, message: str) -> None:
    kind, *options = arguments.format(audio=audio).split()
    code, _, errors = cli("inspect", kind, audio, "--model", model, *options)
    assert code == 2
    assert errors.startswith(f"error: {message.format(audio=audio)}")
    assert len(errors.splitlines()) == 1


def test_unusable_sound_is_named(cli: Run, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", torch.zeros(3000).numpy(), SAMPLE_RATE)
    (tmp_path / "empty.wav").touch()
    for name, reason in (("silent.wav", "silent"), ("empty.wav", "empty file"), ("none.wav", "missing")):
        for kind in ("gates", "gradients", "saliency"):
            code, _, errors = cli("inspect", kind, tmp_path / name, "--model", model)
            assert (code, len(errors.splitlines())) == (2, 1)
            assert f"{name}: {reason}" in errors


@pytest.mark.parametrize("what", ["gates", "gradients"])
def test_each_layer_of_a_pyramid_has_frames_of_its_own(cli: Run, audio: Path, tmp_path: Path, what: str) -> None:
    model = write_model(tmp_path / "pyramid", factor=1, pyramid={"after": 1})
    out = tmp_path / "out"
    code, _, error = cli("inspect", what, audio, "--model", model, "--out", out, *OF_A_TOKEN[what])
    assert (code, error) == (0, "")
    record = json.loads((out / f"{what}.json").read_text(encoding="utf-8"))
    num_frames = {}
    for layer in record["layers"]:
        if what == "gates":
            num_frames[layer["layer"]] = len(layer["gates_by_frame"]["update"])
            assert max(layer["horizons_ms"]) <= 1000 * record["seconds"] + 1
        else:
            num_frames[layer["layer"]] = len(layer["token_by_frame"])
    assert num_frames[1] == pytest.approx(2 * num_frames[2], abs=1)
    assert num_frames[2] == pytest.approx(record["seconds"] / record["frame_seconds"], abs=0.01)


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    cli: Run, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.inspection.subject_of", lambda *_: pytest.fail("works"))
    model = write_model(tmp_path / "model")
    (model / "inspect").write_text("")
    code, _, errors = cli("inspect", "gates", audio, "--model", model)
    assert code == 2
    assert f"'{model / 'inspect'}' is a file; expected a folder" in errors
