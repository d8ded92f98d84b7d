"""Checkpoints: what goes in comes out, bad files are refused in one line, and no failure costs the previous file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import random
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from ragged import encoder_config, ragged_batch, shaken

from asr.errors import CheckpointError
from asr.features import FeatureExtractor, LogMelConfig
from asr.model import AcousticConfig, AcousticModel
from asr.model.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, restore_model, save_checkpoint
from asr.resources import resource
from asr.text.tokenizer import BpeTokenizerConfig, CharacterTokenizerConfig, train_tokenizer

CONFIG = AcousticConfig(
    features=LogMelConfig(sample_rate=8000, n_mels=8, normalization="global"), encoder=encoder_config(norm="batch")
)
TOKENIZER = train_tokenizer(["räv und igel", "狐"], CharacterTokenizerConfig())


def make_model() -> AcousticModel:
    torch.manual_seed(4)
    model = AcousticModel(CONFIG, TOKENIZER.size)
    shaken(model)
    model.features.fit_normalization([ragged_batch([900, 2000])])
    return model.eval()


def make_checkpoint(**changes: Any) -> Checkpoint:
    values: dict[str, Any] = {
        "experiment": {"seed": 3, **CONFIG.model_dump(mode="json")},
        "tokenizer": TOKENIZER.state(),
        "model": make_model().state_dict(),
    }
    return Checkpoint(**(values | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, make_checkpoint())
    return path


def complaint(path: Path) -> str:
    """The one line that loading `path` and building its model ends with."""
    with pytest.raises(CheckpointError) as raised:
        restore_model(load_checkpoint(path), where=str(path))
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


# What goes in comes out


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    training = {"update": 7, "scores": [(0.5, 1.25, 3)], "state": {0: {"exp_avg": torch.randn(3)}}, "nothing": None}
    checkpoint = make_checkpoint(training=training, note="mean of 3 epochs, räv")
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    found = load_checkpoint(tmp_path / "a.pt")
    assert (found.experiment, found.tokenizer, found.note) == (
        checkpoint.experiment,
        checkpoint.tokenizer,
        checkpoint.note,
    )
    assert list(found.model) == list(checkpoint.model)
    for name, value in checkpoint.model.items():
        assert torch.equal(found.model[name], value), name
        assert found.model[name].dtype == value.dtype
    state = found.training.pop("state")
    expected = training.pop("state")
    assert torch.equal(state[0]["exp_avg"], expected[0]["exp_avg"])
    assert found.training == training


def test_restored_model_says_the_same(saved: Path) -> None:
    model, tokenizer = restore_model(load_checkpoint(saved), where="test")
    batch = ragged_batch([1600, 801])
    assert torch.equal(model(*batch)[0], make_model()(*batch)[0])
    assert not model.training
    assert tokenizer.pieces == TOKENIZER.pieces
    assert tokenizer.decode(tokenizer.encode("Räv 狐")) == "räv 狐"


def test_global_statistics_travel_with_the_weights(saved: Path) -> None:
    model, _ = restore_model(load_checkpoint(saved), where="test")
    fresh = FeatureExtractor(CONFIG.features)
    assert torch.equal(model.features.mean, make_model().features.mean)
    assert not torch.equal(model.features.mean, fresh.mean)
    assert not torch.equal(model.features.scale, fresh.scale)


def test_bpe_model_travels_inside(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["the fox and the hedgehog", "the hen"] * 3, BpeTokenizerConfig(size=20))
    model = AcousticModel(CONFIG, tokenizer.size)
    save_checkpoint(tmp_path / "a.pt", make_checkpoint(tokenizer=tokenizer.state(), model=model.state_dict()))
    _, restored = restore_model(load_checkpoint(tmp_path / "a.pt"), where="test")
    assert restored.encode("the fox") == tokenizer.encode("the fox")


def test_save_leaves_one_file_and_the_usual_permissions(tmp_path: Path) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path / "a.pt", make_checkpoint())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE((tmp_path / "a.pt").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


# Bad files


class Malice:
    """What a stranger's pickle could do on loading."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("legacy", [False, True])
def test_loading_runs_no_code(tmp_path: Path, legacy: bool) -> None:
    path, victim = tmp_path / "a.pt", tmp_path / "victim"
    content = {"format": "bigru-asr checkpoint", "version": 1, "model": Malice(victim)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert "not a readable checkpoint: damaged, or made by something else" in complaint(path)
    assert not victim.exists()


def test_any_flipped_bit_is_found_or_harmless(saved: Path) -> None:
    original, good = saved.read_bytes(), load_checkpoint(saved)
    generator = random.Random(0)
    harmless = 0
    for _ in range(150):
        damaged = bytearray(original)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        saved.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            checkpoint = load_checkpoint(saved)
            harmless += 1
            assert (checkpoint.experiment, checkpoint.tokenizer) == (good.experiment, good.tokenizer)
            assert all(torch.equal(checkpoint.model[name], value) for name, value in good.model.items())
    assert harmless < 75, "the names and dates of a zip file may change, its content may not"


def test_an_entry_that_became_a_folder_is_found(saved: Path) -> None:
    # torch's reader gives such an entry no bytes: the tensor would hold whatever memory held.
    damaged = bytearray(saved.read_bytes())
    start = damaged.index(b"PK\x01\x02", damaged.index(b"PK\x01\x02") + 4)
    damaged[start + 38] ^= 0x10
    saved.write_bytes(damaged)
    assert "damaged" in complaint(saved)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    assert "not a readable checkpoint: damaged, or made by something else" in complaint(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"not a checkpoint\n",
        pickle.dumps({"format": "bigru-asr checkpoint"}),
        b"\x80\x02.",
        bytes(1000),
        b"fLaC" + bytes(99),
    ],
    ids=["text", "pickle", "empty stack", "zeros", "audio"],
)
def test_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert "not a readable checkpoint" in complaint(path)


def test_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    assert "not a readable checkpoint" in complaint(path)


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, [1, 2], torch.zeros(3), {"format": "another program"}], ids=str
)
def test_pytorch_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert complaint(tmp_path / "a.pt") == ": a PyTorch file, but not a checkpoint of this program"


def rewrite(path: Path, **changes: object) -> None:
    """Change the stored content, as another version of this program might have written it."""
    content = torch.load(path, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not ...}, path)


def test_other_version_is_refused(saved: Path) -> None:
    rewrite(saved, version=99)
    assert complaint(saved) == ": checkpoint version 99, this program reads version 1"
    rewrite(saved, version=...)
    assert complaint(saved) == ": checkpoint version None, this program reads version 1"


@pytest.mark.parametrize("part", ["experiment", "tokenizer", "model", "training", "note"])
def test_missing_part_is_named(saved: Path, part: str) -> None:
    rewrite(saved, **{part: ...})
    assert complaint(saved) == f": the checkpoint lacks {part}"


def test_unknown_setting_is_named(saved: Path) -> None:
    experiment = load_checkpoint(saved).experiment
    experiment["encoder"]["num_layer"] = 3
    rewrite(saved, experiment=experiment)
    assert complaint(saved) == ": its configuration: encoder.num_layer: unknown key, did you mean 'num_layers'?"


def test_damaged_tokenizer_is_refused(saved: Path) -> None:
    rewrite(saved, tokenizer={"config": {"kind": "words"}})
    assert "tokenizer" in complaint(saved)


@pytest.mark.parametrize("change", ["shape", "missing", "extra"])
def test_weights_that_do_not_fit_are_refused(saved: Path, change: str) -> None:
    weights = load_checkpoint(saved).model
    if change == "shape":
        weights["head.bias"] = torch.zeros(3)
    elif change == "missing":
        del weights["encoder.subsampling.projection.weight"]
    else:
        weights["encoder.layers.9.norm.weight"] = torch.zeros(3)
    rewrite(saved, model=weights)
    assert complaint(saved) == ": the weights do not fit the configuration stored beside them"


def test_missing_file_and_folder_are_told_apart(tmp_path: Path) -> None:
    assert complaint(tmp_path / "missing.pt") == ": no such checkpoint"
    assert complaint(tmp_path) == ": cannot read the checkpoint: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file_is_not_called_damaged(saved: Path) -> None:
    saved.chmod(0)
    assert complaint(saved) == ": cannot read the checkpoint: Permission denied"


# A failure while saving


def save_fails(path: Path) -> str:
    """The one line that saving to `path` ends with; the file there must be as it was, and alone."""
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as raised:
        save_checkpoint(path, make_checkpoint(note="newer"))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert load_checkpoint(path).note == ""
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value).removeprefix(str(path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to play a full disk")
def test_full_disk_keeps_the_previous_checkpoint(saved: Path) -> None:
    saved.with_name(".model.pt.tmp").symlink_to("/dev/full")
    message = save_fails(saved)
    assert message.startswith(": cannot write the checkpoint: ")
    assert message.endswith("; the previous checkpoint is kept")


class FillingDisk(io.BytesIO):
    """A file on a disk that is full after so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, content: Any) -> int:
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_disk_that_fills_up_keeps_the_previous_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    plain_open = Path.open

    def open_on_full_disk(path: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "wb":
            plain_open(path, mode).close()
            return FillingDisk(room)
        return plain_open(path, mode, **options)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    assert save_fails(saved).startswith(": cannot write the checkpoint: ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (
            RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
            "the disk is full or was taken away",
        ),
    ],
)
@pytest.mark.parametrize("step", ["save", "fsync"])
def test_failure_is_told_with_its_reason(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, step: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(*{"save": (torch, "save", fail), "fsync": (os, "fsync", fail)}[step])
    assert save_fails(saved) == f": cannot write the checkpoint: {reason}; the previous checkpoint is kept"


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_folder_that_cannot_be_written_is_told(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / parent / "a.pt"
    with pytest.raises(CheckpointError, match=r"a\.pt: cannot write the checkpoint: .*; nothing was saved"):
        save_checkpoint(path, make_checkpoint())


def test_half_written_file_of_a_killed_run_does_not_matter(saved: Path) -> None:
    temporary = saved.with_name(".model.pt.tmp")
    temporary.write_bytes(saved.read_bytes()[:1000])
    assert load_checkpoint(saved).note == ""
    save_checkpoint(saved, make_checkpoint(note="newer"))
    assert load_checkpoint(saved).note == "newer"
    assert not temporary.exists()


# Which file is meant


def test_best_file_of_a_run_folder_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("checkpoints/last.pt", "checkpoints/best.pt", "model.pt"):
        (folder / name).write_bytes(b"")
        assert find_checkpoint(folder) == folder / name
        assert find_checkpoint(folder / name) == folder / name


def test_folder_without_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no model\.pt or checkpoints/best\.pt in this folder; is it a run folder"
    ):
        find_checkpoint(tmp_path)
    with pytest.raises(
        CheckpointError, match="no such run folder or checkpoint; english_small is the one that comes along"
    ):
        find_checkpoint(tmp_path / "missing")


def test_the_model_that_comes_along_has_a_name_which_files_of_the_user_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(Path("english_small")) == resource("data", "models", "english_small", "model.pt")
    with pytest.raises(CheckpointError, match="no such"):
        find_checkpoint(tmp_path / "english_small")
    Path("english_small").mkdir()
    with pytest.raises(CheckpointError, match="is it a run folder"):
        find_checkpoint(Path("english_small"))
    Path("english_small", "model.pt").touch()
    assert find_checkpoint(Path("english_small")) == Path("english_small", "model.pt")
