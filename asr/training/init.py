"""Where a training starts: at random weights, or at those of a trained model, some of which may stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import nn

from asr.config import Section, Tree
from asr.errors import ConfigError
from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model
from asr.text.tokenizer import Tokenizer


class InitConfig(Section):
    """A trained model to start from; without one, weights are drawn at random.

    The model brings its own features and encoder, but for dropout; a configuration need not state them.
    """

    model: str | None = Field(default=None, description="run folder or checkpoint to start from")
    vocabulary: Literal["model", "new"] = Field(
        default="model", description="model: its tokens, and its head; new: those of the training texts, and a new head"
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="parts that do not learn: subsampling, layer1, layer2, ..., head"
    )


def pretrained(config: InitConfig, acoustic: AcousticConfig, tokenizer: Tokenizer) -> tuple[AcousticModel, Tokenizer]:
    """The model of `config.model`, ready to learn on, and its tokens; with a new vocabulary, `tokenizer` and a new head.

    Raises:
        CheckpointError: there is no model.
        ConfigError: the model has other features or another encoder than `acoustic`.
    """
    path = find_checkpoint(Path(config.model or ""))
    model, own_tokenizer = restore_model(load_checkpoint(path), where=str(path))
    different = list(_differences(acoustic.model_dump(mode="json"), model.config.model_dump(mode="json")))
    if different:
        raise ConfigError(
            f"init.model={config.model} has other settings, which cannot be changed: {' '.join(different)}"
        )
    if config.vocabulary == "model":
        fresh = AcousticModel(acoustic, own_tokenizer.size)
        fresh.load_state_dict(model.state_dict())
        return fresh, own_tokenizer
    fresh = AcousticModel(acoustic, tokenizer.size)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    fresh.load_state_dict(weights, strict=False)
    return fresh, tokenizer


def _differences(stated: Tree, found: Tree, prefix: str = "") -> Iterator[str]:
    """What `found` says otherwise than `stated`, each as `key.path=value`."""
    for key, value in found.items():
        if _is_of_training(key) or stated.get(key) == value:
            continue
        if isinstance(value, dict) and isinstance(stated.get(key), dict):
            yield from _differences(stated[key], value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


def settings_of_model(config: InitConfig) -> Tree:
    """The sections `features` and `encoder` of the model to start from, but for its dropout; nothing without one.

    Raises:
        CheckpointError: there is no model.
    """
    if config.model is None:
        return {}
    path = find_checkpoint(Path(config.model))
    model, _ = restore_model(load_checkpoint(path), where=str(path))
    tree: Tree = model.config.model_dump(mode="json")
    tree["encoder"] = {key: value for key, value in tree["encoder"].items() if not _is_of_training(key)}
    return tree


def _is_of_training(key: str) -> bool:
    """Whether a setting of the encoder is no property of the weights: how much is dropped."""
    return key.startswith("dropout")


def freeze(model: AcousticModel, names: tuple[str, ...]) -> None:
    """Stop the parts of `model` called `names` from learning.

    Raises:
        ConfigError: nothing would be left to learn.
    """
    parts = model_parts(model)
    for name in names:
        parts[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("init.freeze: all parts are frozen, so there is nothing to learn")


def part_names(num_layers: int) -> list[str]:
    """The names that people use for the parts of a model with so many recurrent layers."""
    return ["subsampling", *(f"layer{number}" for number in range(1, num_layers + 1)), "head"]


def model_parts(model: AcousticModel) -> dict[str, nn.Module]:
    """The parts of `model` by the names that people use for them."""
    modules = [model.encoder.subsampling, *model.encoder.layers, model.head]
    return dict(zip(part_names(len(model.encoder.layers)), modules, strict=True))
