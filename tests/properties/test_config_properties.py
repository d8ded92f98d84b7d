"""Configuration: whatever comes in, a value or one line comes out; and what is written is read back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Section, dump_yaml, merged, overrides_tree, parse_yaml, sections_in, validated
from asr.errors import ConfigError
from asr.experiment import Experiment

KEYS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\x7f\ufeff\uffff\ufffe"), max_size=8
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | KEYS
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)
PIECES = [
    *"ab1.:-+eE_{}[],&*!|>'\"#%@`?=~\n\t 0xno<",
    "!!int ",
    "!!float ",
    "!!timestamp ",
    "!!set ",
    "---\n",
    ": ",
    "&a ",
    "*a",
]
YAML_LIKE = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
# PyYAML writes U+0085 as it is and reads it back as a line break.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85"), max_size=12)
unhurried = settings(max_examples=80)


def _complaint(action: Callable[[], object]) -> str | None:
    """What `action` complains about, None if nothing; any other exception goes through."""
    try:
        action()
    except ConfigError as error:
        return str(error)
    return None


def _same(one: Any, other: Any) -> bool:
    """Equality in which 1, 1.0 and True differ."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


@unhurried
@given(YAML_LIKE | st.text(max_size=30))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    message = _complaint(lambda: parse_yaml(text, where="test"))
    assert message is None or (message.startswith("test:") and len(message.splitlines()) == 1)


@unhurried
@given(TREES)
def test_what_is_dumped_is_read_back(tree: dict[str, Any]) -> None:
    text = dump_yaml(tree)
    assert _same(parse_yaml(text, where="test"), tree)
    assert _same(yaml.safe_load(text), tree)


@unhurried
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_spelling_of_a_number_is_that_number(number: float) -> None:
    for text in (repr(number), f"{number:e}", f"{number:E}"):
        found = parse_yaml(text, where="test")
        assert isinstance(found, float)
        assert math.isclose(found, number, rel_tol=1e-6)


@unhurried
@given(TREES, TREES)
def test_merging_takes_every_change_and_touches_nothing(base: dict[str, Any], changes: dict[str, Any]) -> None:
    before = copy.deepcopy((base, changes))
    result = merged(base, changes)
    assert (base, changes) == before
    assert merged(result, changes) == result
    assert merged(base, {}) == base
    assert merged({}, changes) == changes
    assert result.keys() == base.keys() | changes.keys()


def _leaves(section: Section, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        found += _leaves(value, (*path, name)) if isinstance(value, Section) else [(*path, name)]
    return found


LEAVES = [".".join(path) for path in _leaves(Experiment())]


@unhurried
@given(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=6, unique=True), st.randoms())
def test_order_of_overrides_does_not_matter(leaves: list[str], random: Random) -> None:
    overrides = [f"{leaf}=x" for leaf in leaves]
    assert overrides_tree(overrides) == overrides_tree(random.sample(overrides, len(overrides)))


def _section_types(
    section: type[Section], path: tuple[str, ...] = (), around: Any = None
) -> list[tuple[tuple[str, ...], type[Section]]]:
    """Every section class below `section` with a path to it, all members of unions included."""
    found = [(path, section)]
    for name, field in section.model_fields.items():
        for member in sections_in(field.annotation):
            found += _section_types(member, (*path, name))
    return found


SECTIONS = _section_types(Experiment)


def _tree_with(section: type[Section], path: tuple[str, ...], leaf: dict[str, Any]) -> Any:
    """A tree of `section` that holds `leaf` at `path`; a path through a list takes its first place."""
    if not path:
        return leaf
    field = section.model_fields[path[0]]
    for member in sections_in(field.annotation):
        if any(rest == path[1:] for rest, _ in _section_types(member)):
            inner = _tree_with(member, path[1:], leaf)
            if "kind" in member.model_fields and "kind" not in inner:
                inner = {"kind": member.model_fields["kind"].default} | inner
            return {path[0]: [inner] if str(field.annotation).startswith("tuple") else inner}
    raise AssertionError(path)


@pytest.mark.parametrize(
    ("path", "section"),
    SECTIONS,
    ids=[f"{'.'.join(path) or 'experiment'}-{section.__name__}" for path, section in SECTIONS],
)
def test_misspelt_key_is_named_and_mended_at_every_depth(path: tuple[str, ...], section: type[Section]) -> None:
    kind = {"kind": section.model_fields["kind"].default} if "kind" in section.model_fields else {}
    for name in section.model_fields:
        wrong = name[:-1] + "zz" if len(name) > 3 else name + name
        with pytest.raises(ConfigError) as raised:
            validated(Experiment, _tree_with(Experiment, path, kind | {wrong: 1}), where="test")
        message = str(raised.value)
        assert len(message.splitlines()) == 1
        steps = ".".join(path).replace("decoders", "decoders.0").replace("splits.train", "splits.train.0")
        assert f"{steps}.{wrong}: unknown key".lstrip(".") in message
        assert name in message.split("unknown key")[1]


@unhurried
@given(
    TREES
    | st.dictionaries(
        st.sampled_from(list(Experiment.model_fields)),
        st.recursive(
            SCALARS,
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS | st.just("kind"), inner, max_size=2),
            max_leaves=4,
        ),
    )
)
def test_any_tree_is_an_experiment_or_one_line(tree: dict[str, Any]) -> None:
    message = _complaint(lambda: validated(Experiment, tree, where="test"))
    assert message is None or (message.startswith("test: ") and len(message.splitlines()) == 1)


@unhurried
@given(WORDS)
def test_text_survives_the_round_trip_of_an_experiment(text: str) -> None:
    experiment = Experiment.model_validate({"splits": {"train": text, "test": [text, "1e3"]}})
    again = validated(Experiment, parse_yaml(experiment.yaml(), where="test"), where="test")
    assert again == experiment
