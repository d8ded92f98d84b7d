"""Where a training starts: at random weights, or at those of a trained model, some of which may stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import nn

from asr.config import Section
from asr.errors import ConfigError, did_you_mean
from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model
from asr.text.tokenizer import Tokenizer


class InitConfig(Section):
    """A trained model to start from; without one, weights are drawn at random."""

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
    for section in ("features", "encoder"):
        stated, found = getattr(acoustic, section), getattr(model.config, section)
        different = [
            f"{section}.{name}={getattr(found, name, None)}"
            for name in type(stated).model_fields
            # How much is dropped in training is no property of the weights.
            if not name.startswith("dropout") and getattr(stated, name) != getattr(found, name, None)
        ]
        if different:
            raise ConfigError(f"init.model={config.model} has other settings; state them too: {' '.join(different)}")
    if config.vocabulary == "model":
        fresh = AcousticModel(acoustic, own_tokenizer.size)
        fresh.load_state_dict(model.state_dict())
        return fresh, own_tokenizer
    fresh = AcousticModel(acoustic, tokenizer.size)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    fresh.load_state_dict(weights, strict=False)
    return fresh, tokenizer


def freeze(model: AcousticModel, names: tuple[str, ...]) -> None:
    """Stop the parts of `model` called `names` from learning.

    Raises:
        ConfigError: no such part, or nothing would be left to learn.
    """
    parts = model_parts(model)
    for name in names:
        if name not in parts:
            raise ConfigError(f"init.freeze: no part '{name}'{did_you_mean(name, parts)}; known: {', '.join(parts)}")
        parts[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("init.freeze: all parts are frozen, so there is nothing to learn")


def model_parts(model: AcousticModel) -> dict[str, nn.Module]:
    """The parts of `model` by the names that people use for them."""
    parts: dict[str, nn.Module] = {"subsampling": model.encoder.subsampling}
    parts |= {f"layer{number}": layer for number, layer in enumerate(model.encoder.layers, start=1)}
    parts["head"] = model.head
    return parts
