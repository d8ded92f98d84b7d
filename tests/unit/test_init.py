"""Starting from a trained model: its weights, its tokens or new ones, parts that stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ragged import encoder_config, shaken

from asr.audio import encode_audio
from asr.corpus.batch_order import BatchesConfig
from asr.corpus.shards import ShardsConfig, combined_index, write_shards
from asr.corpus.utterance import Utterance
from asr.errors import CheckpointError, ConfigError, TextError
from asr.experiment import load_experiment
from asr.features import LogMelConfig
from asr.model import AcousticConfig, AcousticModel
from asr.model.attention import AttentionConfig
from asr.model.checkpoint import Checkpoint, save_checkpoint
from asr.text.tokenizer import CharacterTokenizerConfig, Tokenizer, train_tokenizer
from asr.training.init import InitConfig, freeze, model_parts, new_model, origin, pretrained, refuse_unspellable
from asr.training.optimizer import AdamWConfig, make_optimizer

CONFIG = AcousticConfig(features=LogMelConfig(sample_rate=8000, n_mels=8), encoder=encoder_config())
OLD, NEW = (train_tokenizer([text], CharacterTokenizerConfig()) for text in ("abc", "defgh"))


def saved_model(path: Path, config: AcousticConfig) -> Path:
    model = AcousticModel(config, OLD.size)
    shaken(model)
    tree = config.model_dump(mode="json")
    save_checkpoint(path, Checkpoint(experiment=tree, tokenizer=OLD.state(), model=model.state_dict()))
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "model.pt", CONFIG)


def start(path: Path, tokenizer: Tokenizer = NEW, acoustic: AcousticConfig = CONFIG, **settings: object) -> tuple:
    return pretrained(InitConfig.model_validate({"model": str(path), **settings}), acoustic, lambda: tokenizer)


def test_weights_and_tokens_are_those_of_the_model(trained: Path) -> None:
    model, tokenizer = start(trained)
    expected = torch.load(trained, weights_only=True)["model"]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.items())
    assert tokenizer.state() == OLD.state()


def test_a_new_vocabulary_gets_a_new_head_and_keeps_the_rest(trained: Path) -> None:
    model, tokenizer = start(trained, vocabulary="new")
    expected = torch.load(trained, weights_only=True)["model"]
    assert tokenizer is NEW
    assert model.head.out_features == NEW.size
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, expected[f"encoder.{name}"]), name


def test_a_configuration_file_is_judged_by_the_layers_of_the_model(tmp_path: Path) -> None:
    deep = CONFIG.model_copy(update={"encoder": encoder_config(num_layers=5)})
    model = saved_model(tmp_path / "deep.pt", deep)
    path = tmp_path / "tune.yaml"
    path.write_text(
        f"init: {{model: {model}, freeze: [layer5]}}\nloss: {{intermediate_ctc: {{layers: [4]}}}}\n"
        "augment: {spec_augment: null}\nfeatures: {dither: 0.01}\n",
        encoding="utf-8",
    )
    experiment = load_experiment(str(path))
    assert (experiment.encoder.num_layers, experiment.features.dither) == (5, 0.01)
    pretrained(experiment.init, experiment.acoustic, lambda: NEW)
    path.write_text(path.read_text(encoding="utf-8").replace("layer5", "layer6"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tune\.yaml: init\.freeze: no part 'layer6'"):
        load_experiment(str(path))


def test_dropout_may_change_and_other_settings_may_not(trained: Path) -> None:
    more = CONFIG.model_copy(update={"encoder": encoder_config(dropout=0.4)})
    model, _ = start(trained, acoustic=more)
    assert model.config.encoder.dropout == 0.4
    first, second = (encoder_config(bottleneck={"after": 1, "size": 4, "annealing_updates": each}) for each in (1, 2))
    priced = saved_model(trained.with_name("priced.pt"), CONFIG.model_copy(update={"encoder": first}))
    model, _ = start(priced, acoustic=CONFIG.model_copy(update={"encoder": second}))
    assert model.config.encoder == second
    wider = CONFIG.model_copy(update={"encoder": encoder_config(hidden_size=7)})
    with pytest.raises(ConfigError, match=r"other settings, which cannot be changed: encoder\.hidden_size=6$"):
        start(trained, acoustic=wider)


def test_what_does_not_go_with_the_features_of_the_model_names_it(tmp_path: Path) -> None:
    features = LogMelConfig(sample_rate=16000, n_mels=8, high_hz=6000)
    own = {"features": features, "attention": AttentionConfig(hidden_size=5)}
    path = saved_model(tmp_path / "model.pt", CONFIG.model_copy(update=own))
    for stated, found in (
        (
            "features.sample_rate=8000",
            r"6000 Hz .*; init\.model=\S+ brings .* cannot be changed: features\.sample_rate=16000$",
        ),
        ("encoder.num_layers=-1", r"greater than or equal to 1[^;]*$"),
    ):
        with pytest.raises(ConfigError, match=found):
            load_experiment(None, [f"init.model={path}", "attention=null", "augment.spec_augment=null", stated])


def test_layers_may_be_put_on_top_of_those_of_the_model(trained: Path) -> None:
    higher = CONFIG.model_copy(update={"encoder": encoder_config(num_layers=4)})
    model, _ = start(trained, acoustic=higher)
    expected = torch.load(trained, weights_only=True)["model"]
    found = model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert len(model.encoder.layers) == 4
    with pytest.raises(ConfigError, match=r"other settings, which cannot be changed: encoder\.num_layers=2$"):
        start(trained, acoustic=CONFIG.model_copy(update={"encoder": encoder_config(num_layers=1)}))
    experiment = load_experiment(None, [f"init.model={trained}", "encoder.num_layers=4", "augment.spec_augment=null"])
    assert experiment.encoder == encoder_config(num_layers=4, dropout=experiment.encoder.dropout)


def test_the_model_brings_its_features_and_encoder(trained: Path) -> None:
    common = [f"init.model={trained}", "augment.spec_augment=null"]
    experiment = load_experiment(None, [*common, "encoder.dropout=0.3"])
    assert experiment.features == CONFIG.features
    assert experiment.encoder == encoder_config(dropout=0.3)
    with pytest.raises(CheckpointError, match="nowhere"):
        load_experiment(None, ["init.model=nowhere"])
    with pytest.raises(ConfigError, match=r"init.freeze: no part 'layer3', did you mean 'layer\d'"):
        load_experiment(None, [*common, "init.freeze=[layer3]"])


def test_a_file_is_read_as_the_overrides_leave_it(trained: Path, tmp_path: Path) -> None:
    """The model has fewer features than the file's masks are wide, by default too."""
    file = tmp_path / "mine.yaml"
    file.write_text("augment: {spec_augment: {frequency_width: 20}}", encoding="utf-8")
    start = f"init.model={trained}"
    assert (
        load_experiment(str(file), [start, "augment.spec_augment.frequency_width=2"]).augment.spec_augment is not None
    )
    with pytest.raises(ConfigError, match=rf"^{file}: .*frequency_width=20 may hide all"):
        load_experiment(str(file), [start])


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        start(tmp_path / "nowhere")


def test_frozen_parts_do_not_learn() -> None:
    model = AcousticModel(CONFIG, OLD.size)
    freeze(model, ("subsampling", "layer1"))
    learning = {name.split(".")[1] for name, value in model.named_parameters() if value.requires_grad}
    assert not any(value.requires_grad for value in model.encoder.layers[0].parameters())
    assert "subsampling" not in learning
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(AdamWConfig(lr=0.1), model)
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith(("encoder.subsampling", "encoder.layers.0")) for name in moved)


@pytest.mark.parametrize(
    ("settings", "part"),
    [({"vocabulary": "new", "freeze": ["head"]}, "head"), ({"freeze": ["layer1", "layer3"]}, "layer3")],
)
def test_what_begins_at_random_is_not_frozen(trained: Path, settings: dict[str, object], part: str) -> None:
    deeper = CONFIG.model_copy(update={"encoder": CONFIG.encoder.model_copy(update={"num_layers": 3})})
    with pytest.raises(ConfigError, match=f"^init.freeze: '{part}' does not come from init.model={trained}"):
        start(trained, acoustic=deeper, **settings)
    start(trained, acoustic=deeper, freeze=["subsampling", "layer1", "head"])


def test_frozen_parts_keep_their_statistics() -> None:
    model = AcousticModel(CONFIG.model_copy(update={"encoder": encoder_config(norm="batch")}), OLD.size).train()
    freeze(model, ("layer1",))
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    model(torch.randn(2, 8000), torch.tensor([8000, 6000]))
    moved = {name for name, value in model.named_buffers() if name in before and not torch.equal(value, before[name])}
    assert moved
    assert moved == {name for name in before if not name.startswith("encoder.layers.0.")}


def test_a_run_goes_on_after_the_model_it_set_out_from_is_gone(trained: Path, tmp_path: Path) -> None:
    begun, overrides = (
        tmp_path / "config.yaml",
        [f"init.model={trained}", "encoder.dropout=0.3", "augment.spec_augment=null"],
    )
    experiment = load_experiment(None, overrides)
    begun.write_text(experiment.yaml(), encoding="utf-8")
    trained.unlink()
    assert load_experiment(None, overrides, begun) == experiment
    assert load_experiment(None, [*overrides, "encoder.dropout=0.1"], begun).acoustic.encoder.dropout == 0.1
    for changed, file in ((overrides, None), (overrides, tmp_path / "none.yaml"), ([f"init.model={trained}x"], begun)):
        with pytest.raises(CheckpointError, match="no such run folder or checkpoint"):
            load_experiment(None, changed, file)


def test_a_model_to_start_from_is_told(trained: Path) -> None:
    assert origin(InitConfig()) == ""
    told = origin(InitConfig(model=str(trained), freeze=("subsampling", "layer1")))
    assert told == f", starting as {trained} with its features, encoder and tokens, subsampling, layer1 frozen"
    assert origin(InitConfig(freeze=("layer1",))) == ", layer1 frozen as drawn at random"
    told = origin(InitConfig(model=str(trained), vocabulary="new"))
    assert told == f", starting as {trained} with its features and encoder, and new tokens"


def test_nothing_left_to_learn_is_an_error() -> None:
    model = AcousticModel(CONFIG, OLD.size)
    with pytest.raises(ConfigError, match="nothing to learn"):
        freeze(model, tuple(model_parts(model)))


WITH_ATTENTION = CONFIG.model_copy(update={"attention": AttentionConfig(hidden_size=5, attention_size=4)})


@pytest.fixture
def trained_with_attention(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "attention.pt", WITH_ATTENTION)


def test_attention_keeps_what_does_not_depend_on_the_vocabulary(trained_with_attention: Path) -> None:
    expected = torch.load(trained_with_attention, weights_only=True)["model"]
    model, _ = start(trained_with_attention, acoustic=WITH_ATTENTION, vocabulary="new")
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, expected[name])}
    assert {name for name in expected if name.split(".")[1] in {"embedding", "output"} or "head" in name} == (
        expected.keys() - kept
    )
    assert model.attention.output.out_features == NEW.size
    same, _ = start(trained_with_attention, acoustic=WITH_ATTENTION)
    assert all(torch.equal(same.state_dict()[name], value) for name, value in expected.items())


def test_attention_may_come_and_go(trained: Path, trained_with_attention: Path) -> None:
    model, _ = start(trained, acoustic=WITH_ATTENTION)
    assert model.attention is not None
    expected = torch.load(trained, weights_only=True)["model"]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.items())
    model, _ = start(trained_with_attention)
    assert model.attention is None
    smaller = WITH_ATTENTION.model_copy(update={"attention": AttentionConfig(hidden_size=4, attention_size=4)})
    with pytest.raises(ConfigError, match=r"cannot be changed: attention\.hidden_size=5$"):
        start(trained_with_attention, acoustic=smaller)


def test_attention_is_brought_along_unless_it_is_not_wanted(
    trained: Path, trained_with_attention: Path, tmp_path: Path
) -> None:
    common = "augment.spec_augment=null"
    brought = load_experiment(None, [common, f"init.model={trained_with_attention}", "decoders=[{kind: joint}]"])
    assert brought.attention == WITH_ATTENTION.attention
    assert load_experiment(None, [common, f"init.model={trained_with_attention}", "attention=null"]).attention is None
    assert load_experiment(None, [common, f"init.model={trained}", "attention={}"]).attention == AttentionConfig()
    file = tmp_path / "mine.yaml"
    file.write_text("attention: {hidden_size: 9}", encoding="utf-8")
    assert load_experiment(str(file), [common, f"init.model={trained}"]).attention == AttentionConfig(hidden_size=9)


@pytest.mark.parametrize(
    ("stated", "is_true"),
    [
        ("tokenizer.kind=characters", True),
        ("tokenizer.normalizer.lowercase=true", True),
        ("tokenizer.kind=bpe", False),
        ("tokenizer=bpe", False),
        ("tokenizer.size=300", False),
        ("tokenizer.normalizer.lowercase=false", False),
    ],
)
def test_another_tokenizer_than_that_of_the_tokens_that_stay_is_refused(
    trained: Path, stated: str, is_true: bool
) -> None:
    common = ("augment.spec_augment=null", f"init.model={trained}")
    if is_true:
        load_experiment(None, [*common, stated])
        return
    with pytest.raises(ConfigError, match=r'its own tokens.*: "tokenizer": \{"kind": "char.*take init\.vocabulary=new'):
        load_experiment(None, [*common, stated])
    if stated == "tokenizer.kind=bpe":
        load_experiment(None, [*common, stated, "init.vocabulary=new"])


def test_a_new_vocabulary_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"init\.vocabulary=new: there is no model to start from.*--init"):
        load_experiment(None, ["init.vocabulary=new"])


def test_texts_that_the_tokens_of_the_model_cannot_spell_are_named() -> None:
    said = [Utterance(id=name, audio=b"", text=text) for name, text in [("a-1", "cab"), ("a-2", "cabbage")]]
    refuse_unspellable(InitConfig(model="runs/old"), OLD, said[:1])
    with pytest.raises(TextError, match=r"runs/old.*'a-2'.*'e' \(U\+0065\), 'g'.*init\.vocabulary=new"):
        refuse_unspellable(InitConfig(model="runs/old"), OLD, said)


def test_they_are_named_before_the_training_begins(trained: Path, tmp_path: Path) -> None:
    sound = encode_audio(np.zeros(2000, np.float32), 8000, "wav")
    write_shards(
        [Utterance(id="a-2", audio=sound, text="cabbage")], tmp_path / "shards", sample_rate=8000, config=ShardsConfig()
    )
    index = combined_index({tmp_path / "shards": 1.0})
    new_model(InitConfig(model=str(trained), vocabulary="new"), CONFIG, lambda: NEW, index, BatchesConfig(), seed=0)
    with pytest.raises(TextError, match=r"'a-2'.*'e' \(U\+0065\), 'g'"):
        new_model(InitConfig(model=str(trained)), CONFIG, lambda: NEW, index, BatchesConfig(), seed=0)


def test_global_normalisation_is_by_all_parts_whichever_comes_first(tmp_path: Path) -> None:
    for name, volume, size in (("quiet", 0.001, 1900), ("loud", 0.5, 2000)):
        noise = np.random.default_rng(0).uniform(-volume, volume, (120, size)).astype(np.float32)
        clips = [
            Utterance(id=f"{name}{n}", audio=encode_audio(row, 8000, "wav"), text="a") for n, row in enumerate(noise)
        ]
        write_shards(clips, tmp_path / name, sample_rate=8000, config=ShardsConfig(megabytes=0.01))
    acoustic = CONFIG.model_copy(update={"features": CONFIG.features.model_copy(update={"normalization": "global"})})
    parts = [tmp_path / "quiet", tmp_path / "loud"]
    # Of 60 s of sound, all is heard in batches of 20 s; in those of one utterance it is a random hundred.
    every, *some = (
        new_model(InitConfig(), acoustic, lambda: OLD, combined_index(dict.fromkeys(order, 1.0)), batches, seed=0)[0]
        for order, batches in (
            (parts, BatchesConfig(seconds=20)),
            (parts, BatchesConfig(seconds=0.25, sorted_first_epoch=True)),
            (parts[::-1], BatchesConfig(seconds=0.25, sorted_first_epoch=True)),
        )
    )
    for model in some:
        assert (model.features.mean - every.features.mean).abs().max() < 3  # between the parts there are 12


def test_weights_at_random_follow_from_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        model, _ = new_model(InitConfig(), CONFIG, lambda: OLD, None, BatchesConfig(), seed=seed)  # type: ignore[arg-type]
        return model.head.weight

    first, again, other = weights(1), weights(1), weights(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
