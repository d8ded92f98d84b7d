"""The checkpoint: one file with the weights, the tokenizer and the full configuration; in training also the optimiser.

It loads with `weights_only=True`, so that a file from a stranger runs no code, and it is written so that a crash, a kill or
a full disk leaves the previous file as it was.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.atomic import replaced
from asr.config import Tree, validated
from asr.errors import CheckpointError, ConfigError, TextError
from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.resources import DEFAULT_MODEL, resource
from asr.text.tokenizer import Tokenizer, tokenizer_from_state

CHECKPOINT_FOLDER = "checkpoints"  # of a run folder
_FORMAT = "bigru-asr checkpoint"
_VERSION = 1
_FOLDER_BIT = 0x10


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        experiment: the resolved configuration, as plain types.
        tokenizer: what `Tokenizer.state` gave.
        model: the model's tensors by name.
        training: what resuming needs (optimiser, progress, ...), None in a model that is only to be used.
        note: where the weights come from, for people.
        longest_seconds: of the utterances that they were learnt from; None where that is not known.
    """

    experiment: Tree
    tokenizer: dict[str, Any]
    model: dict[str, Tensor]
    training: dict[str, Any] | None = None
    note: str = ""
    longest_seconds: float | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, replacing what is there only when all of it is on the disk.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; a file at `path` stays as it was.
    """
    try:
        with replaced(path) as file:
            torch.save({"format": _FORMAT, "version": _VERSION, **vars(checkpoint)}, file)
    # torch reports a failed write as a RuntimeError of its zip writer.
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the disk is full or was taken away"
        kept = "the previous checkpoint is kept" if path.exists() else "nothing was saved"
        raise CheckpointError(f"{path}: cannot write the checkpoint: {reason}; {kept}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the file at `path`, its tensors on the CPU.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint of this program.
    """
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: a PyTorch file, but not a checkpoint of this program")
    if content.get("version") != _VERSION:
        found = content.get("version")
        raise CheckpointError(f"{path}: checkpoint version {found}, this program reads version {_VERSION}")
    if missing := Checkpoint.__dataclass_fields__.keys() - content.keys():
        raise CheckpointError(f"{path}: the checkpoint lacks {', '.join(sorted(missing))}")
    return Checkpoint(**{name: content[name] for name in Checkpoint.__dataclass_fields__})


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            # torch stores checksums but does not compare them: a flipped bit would become a slightly different weight.
            with zipfile.ZipFile(file) as archive:
                # An entry that a flipped bit made a folder has no bytes for torch, which gives whatever memory held.
                damaged = archive.testzip() is not None or any(
                    info.external_attr & _FOLDER_BIT for info in archive.infolist()
                )
            file.seek(0)
            content = None if damaged else torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    # The readers of zip and pickle fail on foreign content in any way that Python knows.
    except Exception as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: damaged, or made by something else") from error
    if damaged:
        raise CheckpointError(f"{path}: the checkpoint is damaged: its checksums do not match")
    return content


def restore_model(checkpoint: Checkpoint, *, where: str) -> tuple[AcousticModel, Tokenizer]:
    """The model and tokenizer that `checkpoint` holds, the model in evaluation mode; `where` names it in messages.

    Raises:
        CheckpointError: the weights do not fit the configuration, or this version knows other settings.
    """
    tree = {name: value for name, value in checkpoint.experiment.items() if name in AcousticConfig.model_fields}
    try:
        tokenizer = tokenizer_from_state(checkpoint.tokenizer)
        config = validated(AcousticConfig, tree, where="its configuration")
    except (ConfigError, TextError) as error:
        raise CheckpointError(f"{where}: {error}") from error
    model = AcousticModel(config, tokenizer.size)
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        raise CheckpointError(f"{where}: the weights do not fit the configuration stored beside them") from error
    return model.eval(), tokenizer


def folder_of(checkpoint: Path) -> Path:
    """The run folder, or whichever else, that the file of a checkpoint lies in."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINT_FOLDER else checkpoint.parent


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file that `path` means: itself, or in a run folder the averaged, best or last one, in this order.

    Where nothing is called so, `english_small` is the model that comes along.

    Raises:
        CheckpointError: nothing there.
    """
    if path.is_file():
        return path
    if path == Path(DEFAULT_MODEL[-1]) and not path.exists():
        path = resource(*DEFAULT_MODEL)
    for candidate in (path / "model.pt", path / CHECKPOINT_FOLDER / "best.pt", path / CHECKPOINT_FOLDER / "last.pt"):
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise CheckpointError(
            f"{path}: no model.pt or checkpoints/best.pt in this folder; is it a run folder, and trained?"
        )
    raise CheckpointError(f"{path}: no such run folder or checkpoint; {DEFAULT_MODEL[-1]} is the one that comes along")
