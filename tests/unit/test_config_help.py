"""What `asr config explain` says: it must know every key, and say something of each."""

from __future__ import annotations

import pytest

from asr.config_help import Setting, explain
from asr.errors import ConfigError
from asr.experiment import Experiment
from asr.model.cells import CELLS, equations


def every_setting(key: str = "") -> list[Setting]:
    """All settings at and below `key`, of all kinds."""
    found = [setting for explanation in explain(Experiment, key) for setting in explanation.settings]
    if key and [setting.key for setting in found] == [key]:
        return found
    below = {setting.key: setting for setting in found if setting.key != key}
    inner = [setting for name, each in below.items() if "section" in each.values for setting in every_setting(name)]
    return [*found, *inner]


def keys_of(tree: object, path: str = "") -> set[str]:
    """The paths of all values in a configuration."""
    if not isinstance(tree, dict):
        return {path}
    return {key for name, value in tree.items() for key in keys_of(value, f"{path}.{name}" if path else name)}


def test_every_key_of_a_configuration_is_explained() -> None:
    settings = every_setting()
    assert keys_of(Experiment().tree()) <= {setting.key for setting in settings}
    assert [setting.key for setting in settings if not setting.description] == []


def test_bounds_defaults_and_choices_are_told() -> None:
    (explanation,) = explain(Experiment, "training.epochs")
    assert explanation.settings == (
        Setting("training.epochs", "whole number ≥ 1", "20", "passes over the training data"),
    )
    ((norm,),) = [explanation.settings for explanation in explain(Experiment, "encoder.norm")]
    assert (norm.values, norm.default) == ("layer | batch | none", "layer")
    ((factors,),) = [explanation.settings for explanation in explain(Experiment, "augment.speed.factors")]
    assert factors.default == "[0.9, 1.0, 1.1]"


def test_every_cell_is_told_in_the_words_of_its_equations() -> None:
    (explanation,) = explain(Experiment, "encoder.cell")
    told = dict(line.split(maxsplit=1) for line in explanation.text.splitlines())
    assert list(told) == list(CELLS)
    for name, meaning in told.items():
        first_line = (equations(name).__doc__ or "").strip().splitlines()[0]
        assert meaning.partition("; torch's kernel")[0] == first_line.removesuffix(".")
    assert told["lstm"].endswith("; torch's kernel")
    assert told["gru"].endswith("; torch's kernel; on a CPU in single precision a compiled loop of the same equations")
    assert told["gru"] != told["gru_reference"]


@pytest.mark.parametrize(
    "key",
    [
        "augment.gain",
        "augment.noise",
        "augment.silence",
        "encoder.cell_norm",
        "encoder.dropout_over",
        "encoder.gate_bias",
        "encoder.highway",
        "encoder.norm",
        "encoder.recurrent_init",
        "encoder.residual",
        "training.keep_best",
        "training.moving_average",
    ],
)
def test_what_comes_from_a_paper_says_so(key: str) -> None:
    (explanation,) = explain(Experiment, key)
    assert "Source" in explanation.text + explanation.settings[0].description


def test_byte_pairs_say_where_they_come_from() -> None:
    texts = {explanation.key: explanation.text for explanation in explain(Experiment, "tokenizer")}
    assert "Source: Sennrich" in texts["tokenizer (kind: bpe)"]


def test_each_kind_of_a_section_is_told_apart() -> None:
    kinds = {explanation.key: explanation.settings[0].default for explanation in explain(Experiment, "optimizer")}
    assert kinds == {"optimizer (kind: adamw)": "adamw", "optimizer (kind: sgd)": "sgd"}
    rates = {explanation.key: explanation.settings[0].default for explanation in explain(Experiment, "optimizer.lr")}
    assert rates == {"optimizer (kind: adamw)": "0.002", "optimizer (kind: sgd)": "0.1"}
    # Only one of the kinds has it.
    assert [each.key for each in explain(Experiment, "features.n_mfcc")] == ["features"]


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("trainig", "no setting 'trainig', did you mean 'training'?"),
        ("lr", "no setting 'lr', did you mean 'optimizer.lr'?"),
        ("encoder.lr", "encoder: no setting 'lr', did you mean 'optimizer.lr'?"),
        ("kind", "no setting 'kind'; known: "),
        ("training.epoch", "training: no setting 'epoch', did you mean 'epochs'?"),
        ("training.epochs.more", "training.epochs.more: training.epochs is a single setting, nothing is below it"),
        ("training.", "training: no setting ''"),
    ],
)
def test_what_is_not_there_is_said(key: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        explain(Experiment, key)
    assert str(error.value).startswith(complaint)


def test_a_section_that_several_kinds_share_is_explained_once() -> None:
    (explanation,) = explain(Experiment, "tokenizer.normalizer")
    assert explanation.key == "tokenizer.normalizer"
