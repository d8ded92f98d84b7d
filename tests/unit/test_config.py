"""YAML without its traps, overrides, merging, and complaints that name the key in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, ValidationError, model_validator

from asr.config import Section, dump_yaml, merged, overrides_tree, parse_yaml, read_yaml, sections_in, validated
from asr.errors import AsrError, ConfigError, did_you_mean
from asr.experiment import load_experiment
from asr.features.spectral import MfccConfig
from asr.features.stored import StoredConfig
from asr.text.normalize import NormalizerConfig
from asr.text.tokenizer import BpeTokenizerConfig
from asr.training.optimizer import PlateauConfig, SgdConfig


class Small(Section):
    kind: Literal["small"] = "small"
    width: int = Field(default=3, ge=1, le=9)
    names: tuple[str, ...] = ("a",)


class Inner(Section):
    depth: int = 1
    ratio: float = 0.5
    fast: bool = True


class Large(Section):
    kind: Literal["large"] = "large"
    weight: float = 1.0
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _check(self) -> Large:
        if self.weight < self.inner.ratio:
            raise ValueError(f"weight={self.weight:g} is below inner.ratio={self.inner.ratio:g}")
        return self


Either = Annotated[Small | Large, Field(discriminator="kind")]


class Whole(Section):
    seed: int = 0
    name: str = "x"
    mode: Literal["on", "off"] = "off"
    choice: Either = Small()
    several: tuple[Either, ...] = Field(default=(Small(),), min_length=1)
    optional: Inner | None = None
    inner: Inner = Inner()


def load(*overrides: str) -> Whole:
    """As experiments are loaded: overrides over the defaults."""
    tree = merged(Whole().model_dump(mode="json"), overrides_tree(overrides))
    return validated(Whole, tree, where="configuration")


def complaint(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*overrides)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message.removeprefix("configuration: ")


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 0.0003),
        ("3E+4", 30000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5e3", -1500.0),
        ("12", 12),
        ("-12", -12),
        ("+7", 7),
        ("1_000", 1000),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'3e-4'", "3e-4"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("0b_", "0b_"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01 12:00:00", "2024-01-01 12:00:00"),
        ("1.2.3", "1.2.3"),
        ("3e", "3e"),
        ("e4", "e4"),
        ("räv", "räv"),
        ("[3e-4, no]", [0.0003, "no"]),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    found = parse_yaml(text, where="test")
    assert found == value
    assert type(found) is type(value)


def test_special_floats_are_read_and_then_refused() -> None:
    assert parse_yaml("[.inf, -.inf]", where="test") == [float("inf"), -float("inf")]
    assert complaint("inner.ratio=.inf") == "inner.ratio: input should be a finite number, found inf"
    assert complaint("inner.ratio=.nan") == "inner.ratio: input should be a finite number, found nan"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "file.yaml:3: not valid YAML: key 'a' stands twice"),
        ("x:\n  a: 1\n  a: 1", "file.yaml:3: not valid YAML: key 'a' stands twice"),
        ("- {a: 1, a: 1}", "file.yaml:1: not valid YAML: key 'a' stands twice"),
        ("1: a", "file.yaml:1: not valid YAML: key 1 is not text"),
        ("true: a", "file.yaml:1: not valid YAML: key True is not text"),
        ("a:\n\tb: 1", "file.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: [1, 2", "file.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c", "file.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "file.yaml:2: not valid YAML: but found another document"),
        ("a: *b", "file.yaml:1: not valid YAML: found undefined alias 'b'"),
        ("!!python/name:os.system x", "file.yaml:1: not valid YAML: could not determine a constructor for the tag"),
        ("!!int x", "file.yaml: not valid YAML: invalid literal for int()"),
        ("!!timestamp x", "file.yaml: not valid YAML: "),
        ("1" * 5000, "file.yaml: not valid YAML: Exceeds the limit"),
        ("[" * 600, "file.yaml: not valid YAML: maximum recursion depth exceeded"),
        ("a: &a {b: *a}", "file.yaml:1: not valid YAML: found unconstructable recursive node"),
        ("\x00", "file.yaml: not valid YAML: unacceptable character"),
        ('"a\\nb": 1\n"a\\nb": 2', "file.yaml:2: not valid YAML: key 'a\\nb' stands twice"),
    ],
)
def test_what_is_not_yaml_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml(text, where="file.yaml")
    assert str(raised.value).startswith(message)
    assert len(str(raised.value).splitlines()) == 1


def test_file_is_read_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("name: räv 狐\n".encode())
    assert read_yaml(path) == {"name": "räv 狐"}
    path.write_bytes(b"")
    assert read_yaml(path) == {}
    path.write_bytes(b"# nothing but a comment\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: räv".encode("latin-1"), ": cannot read the configuration: not UTF-8 text"),
        ("name: x".encode("utf-16"), ": cannot read the configuration: not UTF-8 text"),
        (b"- a\n- b\n", ": expected `key: value` lines, found list"),
        (b"just words", ": expected `key: value` lines, found str"),
        (b"a: 1\na: 2", ":2: not valid YAML: key 'a' stands twice"),
        (None, ": cannot read the configuration: No such file or directory"),
        ("folder", ": cannot read the configuration: Is a directory"),
    ],
)
def test_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_yaml(path)
    assert str(raised.value) == f"{path}{message}"


def test_dumped_text_is_quoted_for_every_reader() -> None:
    tree = {"b": "no", "a": ["1e3", "3e-4", "1:30", "2024-01-01", "0x1F", ".5", "null", "räv", "true"], "c": 3e-4}
    text = dump_yaml(tree)
    assert parse_yaml(text, where="test") == tree
    assert list(parse_yaml(text, where="test")) == ["b", "a", "c"]
    assert yaml.safe_load(text) == tree
    assert "räv" in text


# Overrides and merging


@pytest.mark.parametrize(
    ("overrides", "tree"),
    [
        ([], {}),
        (["a=1"], {"a": 1}),
        (["a.b.c=x"], {"a": {"b": {"c": "x"}}}),
        (["a.b=1", "a.c=2"], {"a": {"b": 1, "c": 2}}),
        (["a=1", "a=2"], {"a": 2}),
        (["a=1", "a.b=2"], {"a": {"b": 2}}),
        (["a="], {"a": None}),
        (["a=null"], {"a": None}),
        (["a=x=y"], {"a": "x=y"}),
        (["a=[1, {b: no}]"], {"a": [1, {"b": "no"}]}),
        (["a={b: 1}", "a.c=2"], {"a": {"b": 1, "c": 2}}),
        ([" a.b =1"], {"a": {"b": 1}}),
    ],
)
def test_overrides_make_a_tree(overrides: list[str], tree: dict[str, object]) -> None:
    assert overrides_tree(overrides) == tree


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", ".a=1", "a.=1", "", "  =1"])
def test_override_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError) as raised:
        overrides_tree([override])
    assert str(raised.value) == f"override '{override}': expected key.path=value, for example optimizer.lr=1e-3"


def test_override_with_broken_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^override 'a\.b=\[1':1: not valid YAML: "):
        overrides_tree(["a.b=[1"])


@pytest.mark.parametrize(
    ("base", "changes", "result"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"kind": "x", "b": 1}}, {"a": {"b": 2}}, {"a": {"kind": "x", "b": 2}}),
        ({"a": {"kind": "x", "b": 1}}, {"a": {"kind": "x", "c": 2}}, {"a": {"kind": "x", "b": 1, "c": 2}}),
        ({"a": {"kind": "x", "b": 1}}, {"a": {"kind": "y"}}, {"a": {"kind": "y"}}),
        ({"a": {"b": 1}}, {"a": {"kind": "y"}}, {"a": {"b": 1, "kind": "y"}}),
        ({"s": {"a": {"kind": "x", "b": 1}, "k": 1}}, {"s": {"a": {"kind": "y"}}}, {"s": {"a": {"kind": "y"}, "k": 1}}),
    ],
)
def test_merging_replaces_a_section_only_when_its_kind_changes(
    base: dict[str, object], changes: dict[str, object], result: dict[str, object]
) -> None:
    assert merged(base, changes) == result


def test_merging_shares_nothing_with_its_arguments() -> None:
    base: dict[str, Any] = {"a": {"b": {"c": 1}}}
    changes: dict[str, Any] = {"d": {"e": {"f": 1}}}
    result = merged(base, changes)
    result["a"]["b"]["c"] = result["d"]["e"]["f"] = 2
    assert (base, changes) == ({"a": {"b": {"c": 1}}}, {"d": {"e": {"f": 1}}})


def test_overrides_reach_every_depth() -> None:
    assert load("optional.depth=3").optional == Inner(depth=3)
    assert load("inner.ratio=3e-4").inner == Inner(ratio=0.0003)
    assert load("choice.kind=large", "choice.inner.depth=7").choice == Large(inner=Inner(depth=7))
    assert load("several=[{kind: large}, {kind: small, width: 5}]").several == (Large(), Small(width=5))
    assert load("choice.names=[no, 1e3x]").choice == Small(names=("no", "1e3x"))
    assert load("optional={}").optional == Inner()
    assert load("optional.depth=3", "optional=null").optional is None


@pytest.mark.parametrize(
    ("in_file", "stated", "section"),
    [
        # What both kinds have stays, down to sections within.
        ("features: {high_hz: 6000, n_mels: 40}", ["features.kind=mfcc"], MfccConfig(high_hz=6000, n_mels=40)),
        ("features: {normalization: none}", ["features.kind=stored"], StoredConfig(normalization="none")),
        (
            "tokenizer: {normalizer: {dotless_i: true}}",
            ["tokenizer.kind=bpe", "tokenizer.size=99"],
            BpeTokenizerConfig(normalizer=NormalizerConfig(dotless_i=True), size=99),
        ),
        ("schedule: {warmup_updates: 7, final_share: 0}", ["schedule.kind=plateau"], PlateauConfig(warmup_updates=7)),
        # A learning rate is of its optimizer: the other has another default.
        ("optimizer: {lr: 0.001, l1: 0.5}", ["optimizer.kind=sgd"], SgdConfig(l1=0.5)),
        ("optimizer: {lr: 0.001}", ["optimizer.kind=sgd", "optimizer.lr=0.3"], SgdConfig(lr=0.3)),
    ],
)
def test_another_kind_keeps_what_means_the_same_in_both(
    in_file: str, stated: list[str], section: Section, tmp_path: Path
) -> None:
    config = tmp_path / "some.yaml"
    # Masks as wide as usual hide all cepstra.
    config.write_text(f"{in_file}\naugment: {{spec_augment: null}}\n")
    experiment = load_experiment(str(config), stated)
    assert getattr(experiment, stated[0].partition(".")[0]) == section


def test_kind_may_stand_before_or_behind_what_belongs_to_it() -> None:
    settings = ["choice.kind=large", "choice.weight=2.5"]
    assert load(*settings).choice == load(*reversed(settings)).choice == Large(weight=2.5)


def test_no_is_false_where_a_truth_is_expected_and_text_where_text_is() -> None:
    assert load("inner.fast=no").inner.fast is False
    assert load("mode=on").mode == "on"
    assert load("name=no").name == "no"


# Complaints


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", "sed: unknown key, did you mean 'seed'?"),
        ("zzz=1", "zzz: unknown key; known: choice, inner, mode, name, optional, seed, several"),
        ("inner.rato=1", "inner.rato: unknown key, did you mean 'ratio'?"),
        ("optional.dept=1", "optional.dept: unknown key, did you mean 'depth'?"),
        ("choice.widht=1", "choice.widht: unknown key, did you mean 'width'?"),
        ("choice={kind: large, wieght: 1}", "choice.wieght: unknown key, did you mean 'weight'?"),
        ("choice={kind: large, inner: {fats: 1}}", "choice.inner.fats: unknown key, did you mean 'fast'?"),
        ("choice={kind: large, width: 1}", "choice.width: unknown key; known: inner, kind, weight"),
        ("choice={kind: large, large: 1}", "choice.large: unknown key; known: inner, kind, weight"),
        ("choice.small=1", "choice.small: unknown key; known: kind, names, width"),
        ("several=[{kind: large, wieght: 1}]", "several.0.wieght: unknown key, did you mean 'weight'?"),
        (
            "several=[{kind: small}, {kind: large, inner: {deph: 1}}]",
            "several.1.inner.deph: unknown key, did you mean 'depth'?",
        ),
        ("choice.kind=lagre", "choice.kind: unknown kind 'lagre', did you mean 'large'?"),
        ("choice.kind=3", "choice.kind: unknown kind '3'; known: large, small"),
        ("several=[{width: 3}]", "several.0: 'kind' is missing; known: small, large"),
        ("several=[]", "several: tuple should have at least 1 item after validation, not 0, found []"),
        ("several=[3]", "several.0: input should be a valid dictionary or object to extract fields from, found 3"),
        ("seed=x", "seed: input should be a valid integer, unable to parse string as an integer, found 'x'"),
        ("seed=1.5", "seed: input should be a valid integer, got a number with a fractional part, found 1.5"),
        ("seed=null", "seed: input should be a valid integer, found None"),
        ("seed=[1]", "seed: input should be a valid integer, found [1]"),
        ("name=3e-4", "name: input should be a valid string, found 0.0003"),
        ("mode=no", "mode: input should be 'on' or 'off', found 'no'"),
        (
            "inner.fast=perhaps",
            "inner.fast: input should be a valid boolean, unable to interpret input, found 'perhaps'",
        ),
        ("inner=3", "inner: input should be a valid dictionary or instance of Inner, found 3"),
        ("inner=null", "inner: input should be a valid dictionary or instance of Inner, found None"),
        ("choice.width=0", "choice.width: input should be greater than or equal to 1, found 0"),
        ("choice.names=a", "choice.names: input should be a list such as [a, b], found 'a'"),
        ("choice.names=[a, 1]", "choice.names.1: input should be a valid string, found 1"),
        ("choice={kind: large, weight: 0.1}", "choice: weight=0.1 is below inner.ratio=0.5"),
        ("several=[{kind: large, weight: 0.1}]", "several.0: weight=0.1 is below inner.ratio=0.5"),
        ("inner.a\nb=1", "inner.a\\nb: unknown key; known: depth, fast, ratio"),
    ],
)
def test_complaint_names_key_and_likely_intention(override: str, message: str) -> None:
    assert complaint(override) == message


def test_every_complaint_of_a_configuration_stands_in_its_line() -> None:
    assert complaint("sed=1", "inner.rato=1", "choice.width=0") == (
        "choice.width: input should be greater than or equal to 1, found 0; "
        "inner.rato: unknown key, did you mean 'ratio'?; "
        "sed: unknown key, did you mean 'seed'?"
    )


def test_check_of_the_whole_names_no_key() -> None:
    with pytest.raises(ConfigError, match=r"^test: weight=0.1 is below inner.ratio=0.5$"):
        validated(Large, {"weight": 0.1}, where="test")


def test_sections_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Whole().seed = 3


def test_members_of_a_union_are_found_wherever_it_stands() -> None:
    assert list(sections_in(Either)) == [Small, Large]
    assert list(sections_in(Inner | None)) == [Inner]
    assert list(sections_in(Whole.model_fields["several"].annotation)) == [Small, Large]
    assert list(sections_in(int | None)) == []


# Errors


def test_message_of_an_error_is_one_line_whatever_it_quotes() -> None:
    assert str(AsrError("a\nb\r\nc\u2028d\x0be")) == r"a\nb\nc\nd\ne"
    assert str(AsrError("two  spaces stay")) == "two  spaces stay"


def test_hint_is_a_close_name_or_all_names() -> None:
    assert did_you_mean("hiden_size", ["hidden_size", "num_layers"]) == ", did you mean 'hidden_size'?"
    assert did_you_mean("x", iter(["b", "a"])) == "; known: a, b"
