"""Where a training starts: at random weights, or at those of a trained model, some of which may stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from asr.config import Section, Tree, merged, read_yaml
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.batches import epoch_batches, sequential_batches
from asr.corpus.shard_reader import shard_utterances
from asr.corpus.shards import ShardIndex
from asr.corpus.utterance import Utterance
from asr.errors import CheckpointError, ConfigError, TextError
from asr.model.acoustic import AcousticConfig, AcousticModel
from asr.model.checkpoint import find_checkpoint, load_checkpoint, restore_model
from asr.model.encoder import EncoderConfig
from asr.text.tokenizer import Tokenizer

_NORMALIZATION_BATCHES = 100


class InitConfig(Section):
    """A trained model to start from; without one, weights are drawn at random.

    The model brings its own features, encoder and attention decoder, but for dropout and the bottleneck's price; a
    configuration need not state them. An attention decoder that it lacks begins at random, and one that is not wanted
    (`attention=null`) is left behind. Where `encoder.num_layers` is more than the model has, the layers above those begin at
    random: beside a residual connection what is drawn is little, and the model soon does what it did.
    """

    model: str | None = Field(default=None, description="run folder or checkpoint to start from")
    vocabulary: Literal["model", "new"] = Field(
        default="model", description="model: its tokens, and its head; new: those of the training texts, and a new head"
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="parts that do not learn: subsampling, layer1, layer2, ..., pyramid1, ..., head (with the norm below "
        "it), attention",
    )

    @property
    def keeps_tokens(self) -> bool:
        """Whether the tokens are those of a model to start from, not of the training texts."""
        return self.model is not None and self.vocabulary == "model"


def new_model(
    config: InitConfig,
    acoustic: AcousticConfig,
    of_texts: Callable[[], Tokenizer],
    index: ShardIndex,
    batches: BatchesConfig,
    *,
    seed: int,
) -> tuple[AcousticModel, Tokenizer]:
    """A model that is ready to learn the shards of `index`, and its tokens: at random weights, or as `pretrained`.

    Where the tokens are not those of a model to start from, `of_texts` gives them.

    Raises:
        CheckpointError, ConfigError: as `pretrained`.
        TextError: the model to start from cannot spell a training utterance.
    """
    torch.manual_seed(seed)
    if config.model is not None:
        model, tokenizer = pretrained(config, acoustic, of_texts)
        if config.keeps_tokens:
            refuse_unspellable(config, tokenizer, shard_utterances(index, with_audio=False))
        return model, tokenizer
    tokenizer = of_texts()
    model = AcousticModel(acoustic, tokenizer.size)
    if acoustic.features.normalization == "global":
        if index.seconds < _NORMALIZATION_BATCHES * batches.seconds:
            every = sequential_batches(index, batches)
        else:
            # At random, so that the first ones are like all; not the first epoch, which may be sorted by length.
            every = epoch_batches(index, batches, seed=seed, epoch=1)
        few = islice(every, _NORMALIZATION_BATCHES)
        model.features.fit_normalization((batch.waveforms, batch.num_samples) for batch in few)
    return model, tokenizer


def pretrained(
    config: InitConfig, acoustic: AcousticConfig, of_texts: Callable[[], Tokenizer]
) -> tuple[AcousticModel, Tokenizer]:
    """The model of `config.model`, ready to learn on, and its tokens; with a new vocabulary, `of_texts()` and a new head.

    Raises:
        CheckpointError, ConfigError: as `model_to_start_from`; or what is to be frozen is not the model's.
    """
    model, own_tokenizer = model_to_start_from(config, acoustic)
    tokenizer = own_tokenizer if config.keeps_tokens else of_texts()
    left_behind = ("head.", "attention.embedding.", "attention.output.") if config.vocabulary == "new" else ()
    fresh = AcousticModel(acoustic, tokenizer.size)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(left_behind)}
    fresh.load_state_dict(weights, strict=False)
    parts = model_parts(fresh)
    drawn = {parameter for key, parameter in fresh.named_parameters() if key not in weights}
    for name in config.freeze:
        if not drawn.isdisjoint(parts[name].parameters()):
            raise ConfigError(
                f"init.freeze: '{name}' does not come from init.model={config.model}, but begins at random, and would stay "
                "so: leave it out"
            )
    return fresh, tokenizer


def model_to_start_from(config: InitConfig, acoustic: AcousticConfig) -> tuple[AcousticModel, Tokenizer]:
    """The model of `config.model` as it is, and its tokens.

    Raises:
        CheckpointError: there is no model.
        ConfigError: the model has other features or another encoder than `acoustic`, but for layers on top.
    """
    path = find_checkpoint(Path(config.model or ""))
    model, own_tokenizer = restore_model(load_checkpoint(path), where=str(path))
    found = model.config
    if acoustic.attention is None or found.attention is None:
        found = found.model_copy(update={"attention": acoustic.attention})
    if acoustic.encoder.num_layers > found.encoder.num_layers:
        encoder = found.encoder.model_copy(update={"num_layers": acoustic.encoder.num_layers})
        found = found.model_copy(update={"encoder": encoder})
    different = list(_differences(acoustic.model_dump(mode="json"), found.model_dump(mode="json")))
    if different:
        raise ConfigError(
            f"init.model={config.model} has other settings, which cannot be changed: {' '.join(different)}"
        )
    return model, own_tokenizer


def refuse_unspellable(config: InitConfig, tokenizer: Tokenizer, utterances: Iterable[Utterance]) -> None:
    """Do nothing if the tokens of the model to start from can spell all training `utterances`.

    Raises:
        TextError: they lack a character, which training would find out in the middle of an epoch.
    """
    for utterance in utterances:
        try:
            tokenizer.encode(utterance.text)
        except TextError as error:
            raise TextError(
                f"init.model={config.model}: its tokens cannot spell the training utterance '{utterance.id}': {error}; take "
                "init.vocabulary=new for tokens of these texts and a new head, or mend the text"
            ) from error


def _differences(stated: Tree, found: Tree, prefix: str = "") -> Iterator[str]:
    """What `found` says otherwise than `stated`, each as `key.path=value`."""
    for key, value in found.items():
        if _is_of_training(key) or stated.get(key) == value:
            continue
        if isinstance(value, dict) and isinstance(stated.get(key), dict):
            yield from _differences(stated[key], value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


def settings_of_model(config: InitConfig, stated: Tree, begun: Path | None = None) -> Tree:
    """The sections `features`, `encoder` and `attention` of the model to start from, but for what is of training.

    What the overrides in `stated` say of the section `tokenizer` must be true of its tokens, where these stay. If it is
    gone, `begun`, the configuration of a run that set out from it, knows these sections.

    Raises:
        CheckpointError: there is no model.
        ConfigError: another tokenizer is stated, which would do nothing.
    """
    if config.model is None:
        return {}
    try:
        path = find_checkpoint(Path(config.model))
    except CheckpointError:
        known = read_yaml(begun) if begun is not None and begun.is_file() else {}
        if known.get("init", {}).get("model") != config.model:
            raise
        sections = {key: known.get(key) for key in ("features", "encoder", "attention")}
        return _without_training({key: section for key, section in sections.items() if section is not None})
    model, tokenizer = restore_model(load_checkpoint(path), where=str(path))
    own = {"tokenizer": tokenizer.state()["config"]}
    if config.keeps_tokens and merged(own, {key: stated[key] for key in own if key in stated}) != own:
        raise ConfigError(
            f"init.model={config.model} brings its own tokens, which cannot be changed: {json.dumps(own)[1:-1]}; take "
            "init.vocabulary=new for tokens of these texts and a new head, or leave the tokenizer out"
        )
    tree: Tree = model.config.model_dump(mode="json")
    if tree["attention"] is None:
        del tree["attention"]
    return _without_training(tree)


def fixed_settings(of_model: Tree, stated: Tree) -> list[str]:
    """Those settings `of_model`, as `key.path=value`, that `stated` has otherwise and nothing can change.

    Layers may be put on top, and attention may come and go.
    """
    found = {key: section for key, section in of_model.items() if key in ("features", "encoder")}
    return [text for text in _differences(stated, found) if not text.startswith("encoder.num_layers=")]


def _without_training(tree: Tree) -> Tree:
    return {
        key: _without_training(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if not _is_of_training(key)
    }


def _is_of_training(key: str) -> bool:
    """Whether a setting is no property of the weights: what is added and dropped, and what the bottleneck's price is."""
    return key.startswith(("dither", "dropout", "weight", "annealing"))


def origin(init: InitConfig) -> str:
    """What a new training starts from, where that is a model: its settings take the place of the configuration's."""
    frozen = f", {', '.join(init.freeze)} frozen" if init.freeze else ""
    if init.model is None:
        return f"{frozen} as drawn at random" if frozen else ""
    tokens = "features, encoder and tokens" if init.vocabulary == "model" else "features and encoder, and new tokens"
    return f", starting as {init.model} with its {tokens}{frozen}"


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


def part_names(encoder: EncoderConfig, *, attention: bool) -> list[str]:
    """The names that people use for the parts of a model with such an encoder, and perhaps an attention decoder."""
    names = ["subsampling"]
    for number in range(1, encoder.num_layers + 1):
        names += [f"layer{number}", *(f"{block}{number}" for block in encoder.blocks_after(number))]
    return [*names, "head", "attention"] if attention else [*names, "head"]


def model_parts(model: AcousticModel) -> dict[str, nn.Module]:
    """The parts of `model` by the names that people use for them."""
    modules: list[nn.Module] = [model.encoder.subsampling]
    for layer, blocks in zip(model.encoder.layers, model.encoder.blocks, strict=True):
        modules += [layer, *blocks.children()]
    modules.append(nn.ModuleList([model.encoder.norm, model.head]))
    if model.attention is not None:
        modules.append(model.attention)
    names = part_names(model.config.encoder, attention=model.attention is not None)
    return dict(zip(names, modules, strict=True))
