"""The whole configuration of a run: every room's section, the checks that span them, and where the run lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from asr.config import Section, Tree, dump_yaml, merged, overrides_tree, read_yaml, validated
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.places import Place, as_file_name
from asr.corpus.shards import ShardIndex, ShardsConfig, combined_index
from asr.decoding import BeamDecoderConfig, DecoderConfig, GreedyDecoderConfig
from asr.errors import ConfigError, did_you_mean
from asr.features import FeatureConfig, LogMelConfig, StoredConfig
from asr.features.augment import AugmentConfig
from asr.model.acoustic import AcousticConfig
from asr.model.attention import AttentionConfig
from asr.model.encoder import EncoderConfig
from asr.recipe import Part, Recipe, find_part, find_recipe, recipe_of_files
from asr.resources import resource
from asr.text.tokenizer import CharacterTokenizerConfig, TokenizerConfig
from asr.training.distributed import Workers
from asr.training.init import InitConfig, fixed_settings, part_names, settings_of_model
from asr.training.loop import TrainingConfig
from asr.training.loss import LossConfig
from asr.training.optimizer import AdamWConfig, CosineConfig, OptimizerConfig, ScheduleConfig
from asr.training.terms import AttentionLossConfig
from asr.training.validation import Validation

CONFIG_FILE = "config.yaml"
"""The resolved configuration, in a run folder."""


class TrainPartConfig(Section):
    """One part to learn from."""

    data: str = Field(description="SPLIT, RECIPE:SPLIT of another corpus, or shards:FOLDER_OR_URL")
    weight: float = Field(default=1.0, gt=0, le=100, description="how often an epoch hears each utterance, on average")


class SplitsConfig(Section):
    """Which parts of the corpora are used for what; null takes the recipe's.

    With parts of several corpora (`RECIPE:SPLIT`), `--root` is the folder that holds one folder per recipe. A part may
    also be a folder of shards that are ready, on a disk or behind a URL (`shards:/data/train`, `shards:https://host/train`).
    """

    train: tuple[TrainPartConfig, ...] | None = Field(
        default=None, min_length=1, description="parts to learn from: a name, or a list of names or {data, weight}"
    )
    dev: str | None = Field(default=None, description="part to choose epochs by")
    test: tuple[str, ...] | None = Field(default=None, description="parts to measure on")

    @field_validator("train", mode="before")
    @classmethod
    def _from_names(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return parts
        return tuple({"data": part} if isinstance(part, str) else part for part in parts)

    @field_validator("train")
    @classmethod
    def _check_once(cls, parts: tuple[TrainPartConfig, ...] | None) -> tuple[TrainPartConfig, ...] | None:
        names = [part.data for part in parts or ()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"each part may stand once, found '{twice}' again; {{data: {twice}, weight: 2}} is heard twice"
            )
        return parts


class Experiment(Section):
    """One run: configuration file plus overrides, resolved."""

    seed: int = Field(default=0, ge=0, lt=2**64, description="everything random follows from it")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    splits: SplitsConfig = SplitsConfig()
    tokenizer: TokenizerConfig = CharacterTokenizerConfig()
    shards: ShardsConfig = ShardsConfig()
    batches: BatchesConfig = BatchesConfig()
    features: FeatureConfig = LogMelConfig()
    augment: AugmentConfig = AugmentConfig()
    encoder: EncoderConfig = EncoderConfig()
    attention: AttentionConfig | None = Field(
        default=None, description="a second decoder, which learns and can be asked beside CTC; null: none"
    )
    init: InitConfig = InitConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = CosineConfig()
    training: TrainingConfig = TrainingConfig()
    decoders: tuple[DecoderConfig, ...] = Field(
        default=(GreedyDecoderConfig(), BeamDecoderConfig()), min_length=1, description="each is evaluated"
    )

    @property
    def acoustic(self) -> AcousticConfig:
        """The part that the model is built from."""
        return AcousticConfig(features=self.features, encoder=self.encoder, attention=self.attention)

    @model_validator(mode="after")
    def _check_across_sections(self) -> Experiment:
        kinds = [decoder.kind for decoder in self.decoders]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"decoders: each kind may stand once, found {', '.join(kinds)}")
        for name, head in (("speaker", self.loss.speaker), ("phones", self.loss.phones)):
            if head is not None and (head.layer or 1) > self.encoder.num_layers:
                raise ValueError(f"loss.{name}.layer={head.layer}: there are {self.encoder.num_layers} layers")
        asking = [kind for kind in kinds if kind in {"attention", "joint"}]
        if asking and self.attention is None:
            raise ValueError(f"decoders: kind {asking[0]} needs an attention decoder: set attention={{}}")
        if self.attention is None and self.loss.attention != AttentionLossConfig():
            raise ValueError(
                "loss.attention: there is no attention decoder to learn: set attention={}, or leave it out"
            )
        intermediate = self.loss.intermediate_ctc
        if intermediate is not None and max(intermediate.layers) >= self.encoder.num_layers:
            raise ValueError(
                f"loss.intermediate_ctc.layers={list(intermediate.layers)} must lie below the last of "
                f"{self.encoder.num_layers} layers, which has its own loss"
            )
        return self

    @model_validator(mode="after")
    def _check_augment(self) -> Experiment:
        has_bands = isinstance(self.features, LogMelConfig)
        if isinstance(self.features, StoredConfig):
            has_bands = self.features.mel_bands is not None
            of_sound = {"silence", "gain", "reverberation", "noise"}
            if given := ", ".join(f"augment.{name}" for name, value in self.augment if value and name in of_sound):
                raise ValueError(
                    f"{given} would change sound, but features.kind=stored has none: set to null, or for files of your own "
                    "take --config own_files_stored"
                )
        if self.augment.warp is not None and (self.features.deltas or not has_bands):
            raise ValueError("augment.warp moves mel bands: it needs features that are such bands, without deltas")
        mask = self.augment.spec_augment
        num_features = self.features.num_static
        if mask is not None and mask.num_frequency_masks and mask.frequency_width >= num_features:
            raise ValueError(
                f"augment.spec_augment.frequency_width={mask.frequency_width} may hide all {num_features} bands of a "
                "frame; choose a smaller width"
            )
        return self

    @model_validator(mode="after")
    def _check_patience(self) -> Experiment:
        patience = self.training.patience
        if self.schedule.kind == "plateau" and patience is not None and patience < self.schedule.patience + 2:
            raise ValueError(
                f"training.patience={patience} ends the training before schedule.patience={self.schedule.patience} lets the "
                f"rate fall and that can help: set training.patience={self.schedule.patience + 2} or more"
            )
        return self

    @model_validator(mode="after")
    def _check_views(self) -> Experiment:
        of_features = (self.augment.spec_augment, self.augment.warp)
        attention = self.encoder.self_attention
        inside = (self.encoder.dropout, attention and attention.dropout, self.encoder.bottleneck)
        if self.loss.consistency is not None and not any((*of_features, *inside)):
            raise ValueError(
                "loss.consistency compares two views of each utterance, and here nothing makes them differ: set "
                "augment.spec_augment={} or encoder.dropout=0.1, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_init(self) -> Experiment:
        if self.init.vocabulary == "new" and self.init.model is None:
            raise ValueError(
                "init.vocabulary=new: there is no model to start from, so that all is new: name one by init.model (--init), "
                "or leave it out"
            )
        known = part_names(self.encoder, attention=self.attention is not None)
        for name in self.init.freeze:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ValueError(f"init.freeze: no part '{name}'{hint}")
        return self

    def tree(self) -> Tree:
        """The configuration as plain types, as stored in checkpoints and `config.yaml`."""
        return self.model_dump(mode="json")

    def yaml(self) -> str:
        """The configuration as YAML, sections in reading order."""
        return dump_yaml(self.tree())


def config_path(name: str) -> Path:
    """The configuration file that `name` means: a path, or a name in `conf/` with or without `.yaml`.

    Raises:
        ConfigError: no such file.
    """
    if Path(name).is_file():
        return Path(name)
    stem = name.removesuffix(".yaml")
    known = {path.stem: path for path in sorted(resource("conf").glob("*.yaml"))}
    if stem not in known:
        raise ConfigError(f"configuration '{name}': no such file, nor a name in conf/{did_you_mean(stem, known)}")
    return known[stem]


def load_experiment(config: str | None, overrides: Iterable[str] = (), begun: Path | None = None) -> Experiment:
    """The experiment of a configuration file (see `config_path`) with `key.path=value` overrides; the rest is defaults.

    `begun` is the file of the resolved configuration of a run that may go on after the model it set out from is gone.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a wrong value.
    """
    tree, changes = Experiment().tree(), overrides_tree(overrides)
    path = None if config is None else config_path(config)
    if path is not None:
        tree = merged(tree, read_yaml(path), [Experiment])
    # A model to start from brings its own features and encoder in the place of the configuration's; what is stated beside
    # that as an override must agree with it, as `pretrained` sees to; of the tokenizer, which the preparation makes, here.
    init = validated(InitConfig, merged(tree, changes, [Experiment])["init"], where="init")
    of_model = settings_of_model(init, changes, begun)
    tree = merged(tree, of_model, [Experiment])
    stated = merged(tree, changes, [Experiment])
    try:
        return validated(Experiment, stated, where="configuration")
    except ConfigError as error:
        if path is not None:
            validated(Experiment, tree, where=str(path))  # a mistake that stands in the file is named as the file's
        if fixed := fixed_settings(of_model, stated):
            raise ConfigError(
                f"{error}; init.model={init.model} brings its own settings, which cannot be changed: {' '.join(fixed)}"
            ) from error
        raise


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recipe with one configuration in one folder.

    Attributes:
        folder: where everything is written.
        recipe: the corpus.
        root: where the corpus lies, None to take what comes along or to download it.
        experiment: the resolved configuration.
        mirror: base URL to download from instead of the publisher's.
        workers: the processes that train together.
        preparation: folder of the run whose shards and tokenizer are used, None: this one's own.
        watch: is told each validation, with the number of epochs that are finished; see `Trainer`.
    """

    folder: Path
    recipe: Recipe
    root: Path | None
    experiment: Experiment
    mirror: str | None = None
    workers: Workers = field(default_factory=Workers)
    preparation: Path | None = None
    watch: Callable[[int, Validation], None] | None = None

    @property
    def prepared_in(self) -> Path:
        """The folder of the stage 'prepare'."""
        return self.preparation or self.folder

    @property
    def train_parts(self) -> list[Part]:
        """The parts to learn from."""
        parts = self.experiment.splits.train
        if parts is None:
            return [find_part(name, self.recipe) for name in self.recipe.splits.train]
        return [find_part(part.data, self.recipe, part.weight) for part in parts]

    @property
    def dev_part(self) -> Part:
        """The part to choose epochs by."""
        return find_part(self.experiment.splits.dev or self.recipe.splits.dev, self.recipe)

    @property
    def test_parts(self) -> list[Part]:
        """The parts to measure on."""
        names = self.experiment.splits.test
        return [find_part(name, self.recipe) for name in (self.recipe.splits.test if names is None else names)]

    @property
    def parts(self) -> list[Part]:
        """All of these, one perhaps in several uses."""
        return [*self.train_parts, self.dev_part, *self.test_parts]

    @property
    def batches_per_update(self) -> int:
        """Batches of all processes together that make one update of the weights."""
        return self.workers.size * self.experiment.training.accumulate

    @property
    def train_index(self) -> ShardIndex:
        """The shards to learn from, all parts together."""
        parts = {self.shards(part): part.weight for part in self.train_parts}
        return combined_index(parts, cache=self.experiment.shards.cache)

    def index(self, part: Part) -> ShardIndex:
        """The shards of `part`."""
        return ShardIndex.load(self.shards(part), cache=self.experiment.shards.cache)

    def shards(self, part: Part) -> Place:
        """Folder with the shards of `part`, or its URL."""
        return part.shards or self.own_shards(part)

    def own_shards(self, part: Part) -> Path:
        """Folder that the shards of `part` are written to when they are not ready."""
        return self.prepared_in / "shards" / as_file_name(part.name)

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer that the prepare stage trained."""
        return self.prepared_in / "tokenizer.json"

    @property
    def model_file(self) -> Path:
        """The model that the average stage leaves."""
        return self.folder / "model.pt"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a user says of a run, but for its folder: names and texts, which another process can be told.

    Attributes:
        recipe: name or path of a recipe; None: `manifest`, the user's own files, stands in its place.
        manifest, dev, test: the user's own files to learn from, to choose by and to measure on.
        root, mirror: as of `Run`.
        config: YAML file or name in `conf/`, None: the recipe's own.
        overrides: `key.path=value`.
    """

    recipe: str | None
    manifest: Path | None = None
    dev: Path | None = None
    test: tuple[Path, ...] = ()
    root: Path | None = None
    mirror: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()

    def run(self, folder: Path | None = None, changes: Iterable[str] = (), *, preparation: Path | None = None) -> Run:
        """The run in `folder` (None: `runs/RECIPE`) with further overrides.

        Raises:
            ConfigError: neither or both of a recipe and a manifest, or a wrong configuration.
            CorpusError: no such recipe or file.
        """
        if self.manifest is None and (self.dev is not None or self.test):
            raise ConfigError("--dev and --test go with --manifest, your own training audio; recipes know their parts")
        if (self.recipe is None) == (self.manifest is None):
            found = f"both {self.recipe} and --manifest" if self.recipe else "none"
            raise ConfigError(f"expected one RECIPE or --manifest, found {found} (`asr recipes` lists the recipes)")
        for option, value in (("--root", self.root), ("--mirror", self.mirror)):
            if self.manifest is not None and value is not None:
                raise ConfigError(
                    f"{option} {value}: says where a recipe's corpus is, and --manifest tells of your own files"
                )
        if self.recipe is not None:
            recipe = find_recipe(self.recipe)
        else:
            recipe = recipe_of_files(self.manifest or Path(), self.test, self.dev)
        folder = folder or Path("runs") / recipe.name
        overrides = (*self.overrides, *changes)
        return Run(
            folder=folder,
            recipe=recipe,
            root=self.root,
            experiment=load_experiment(self.config or recipe.config, overrides, begun=folder / CONFIG_FILE),
            mirror=self.mirror,
            preparation=preparation,
        )
