"""Every configuration that travels with the code: it loads, says nothing twice, and survives its own YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asr.config import merged, parse_yaml, read_yaml, validated
from asr.errors import ConfigError
from asr.experiment import Experiment, config_path, load_experiment
from asr.resources import resource

FILES = sorted(resource("conf").glob("*.yaml"))


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every value of `tree` by its dotted path; an empty section counts as a value."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{path}.{name}".lstrip("."))
    return found


def test_there_are_configurations() -> None:
    assert len(FILES) >= 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configuration_loads_and_is_found_by_its_name(path: Path) -> None:
    assert config_path(path.stem) == config_path(path.name) == config_path(str(path)) == path
    assert load_experiment(path.stem) == load_experiment(str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configuration_holds_only_what_differs_from_the_defaults(path: Path) -> None:
    tree = read_yaml(path)
    complete = load_experiment(str(path))
    repeated = [leaf for leaf in leaves(tree) if _is_default(_without(tree, leaf.split(".")), complete)]
    assert repeated == []


def _is_default(tree: dict[str, Any], complete: Experiment) -> bool:
    """Whether `tree`, which lacks a value, still means `complete`; without its kind, a section may mean nothing."""
    try:
        return _resolved(tree) == complete
    except ConfigError:
        return False


def _resolved(tree: dict[str, Any]) -> Experiment:
    return validated(Experiment, merged(Experiment().tree(), tree), where="test")


def _without(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """`tree` without the value at `path`, and without sections that this leaves empty."""
    first, *rest = path
    inner = _without(tree[first], rest) if rest else {}
    return {name: value for name, value in tree.items() if name != first} | ({first: inner} if inner else {})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configuration_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("config", [None, *(path.stem for path in FILES)])
def test_experiment_survives_its_own_yaml(config: str | None) -> None:
    experiment = load_experiment(config)
    tree = parse_yaml(experiment.yaml(), where="test")
    assert tree == experiment.tree()
    assert validated(Experiment, tree, where="test") == experiment


def test_every_choice_survives_its_own_yaml() -> None:
    overrides = [
        "features.kind=mfcc",
        "tokenizer.kind=bpe",
        "optimizer.kind=sgd",
        "schedule.kind=plateau",
        "decoders=[{kind: beam, width: 3}]",
        "augment={speed: {}, gain: {}, noise: {}, spec_augment: null}",
        "splits={train: '1e3', test: ['no', 'on']}",
        "optimizer.lr=3e-4",
    ]
    experiment = load_experiment(None, overrides)
    assert experiment.splits.test == ("no", "on")
    assert validated(Experiment, parse_yaml(experiment.yaml(), where="test"), where="test") == experiment
