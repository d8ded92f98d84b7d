"""Configuration: frozen sections with defaults beside the code, one YAML file, and `key.path=value` overrides.

A `Section` is a pydantic model that knows its keys; a choice is a union discriminated by `kind`. This module reads YAML
without YAML's traps and turns pydantic's complaints into one line that names the key, the file and the likely intention.
"""

from __future__ import annotations

import copy
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from asr.errors import ConfigError, did_you_mean

Tree = dict[str, Any]
AnySection = TypeVar("AnySection", bound="Section")

# A key that stands in more sections than that is no hint.
_MOST_PLACES = 3


class Section(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")


class _SafeLoader(yaml.SafeLoader):
    """YAML 1.2's view of scalars: `3e-4` is a number, `no`, `on`, `1:30` and `010` are text, a key may stand once."""


_TRAPS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp")}
_SafeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TRAPS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$"),
    list("-+0123456789."),
)


def _mapping_without_duplicates(loader: _SafeLoader, node: yaml.MappingNode) -> Tree:
    keys: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
        if key in keys:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", key_node.start_mark)
        keys.add(key)
    return typing.cast(Tree, loader.construct_mapping(node, deep=True))


_SafeLoader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or `_SafeLoader` would take for something else."""


_Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + _SafeLoader.yaml_implicit_resolvers.get(first, [])
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_SafeLoader.yaml_implicit_resolvers}
}


def parse_yaml(text: str, *, where: str) -> Any:
    """The value that `text` holds as YAML; `where` (a file name) goes into error messages.

    Raises:
        ConfigError: not YAML, a duplicate key, or a key that is not text.

    Example:
        >>> parse_yaml("{lr: 3e-4, word: no}", where="example")
        {'lr': 0.0003, 'word': 'no'}
    """
    try:
        return yaml.load(text, Loader=_SafeLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem}") from error
    # PyYAML lets pass what Python says about a number of 5000 digits, `!!timestamp x`, `!!int ` or a thousand brackets.
    except (yaml.YAMLError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def dump_yaml(tree: Tree) -> str:
    """`tree` as YAML that `parse_yaml`, and any other reader of YAML, gives back as it was; keys keep their order.

    Example:
        >>> print(dump_yaml({"lr": 3e-4, "text": "1e3", "word": "no"}), end="")
        lr: 0.0003
        text: '1e3'
        word: 'no'
    """
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> Tree:
    """The mapping in the YAML file at `path`; an empty file is an empty mapping.

    Raises:
        ConfigError: the file is missing, not UTF-8, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{path}: cannot read the configuration: {reason}") from error
    tree = parse_yaml(text, where=str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(tree).__name__}")
    return tree


def overrides_tree(overrides: Iterable[str]) -> Tree:
    """The tree that `key.path=value` overrides describe, later ones winning; values are read as YAML.

    Raises:
        ConfigError: an override without `=` or with an empty key.

    Example:
        >>> overrides_tree(["optimizer.lr=3e-4", "seed=7"])
        {'optimizer': {'lr': 0.0003}, 'seed': 7}
    """
    result: Tree = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"override '{override}': expected key.path=value, for example optimizer.lr=1e-3")
        value = parse_yaml(text, where=f"override '{override}'")
        for key in reversed(keys):
            value = {key: value}
        result = merged(result, value)
    return result


def merged(base: Tree, changes: Tree, within: Iterable[type[Section]] = ()) -> Tree:
    """`base` with the values of `changes`; where a section's `kind` changes, little of its settings stays.

    `within` are the sections that the trees may be. Of a section that becomes another kind, what both kinds have with the
    same default stays; where the defaults differ, as those of learning rates do, so does what a value means, and it falls
    back to the new kind's. Without `within` nothing stays.

    Example:
        >>> merged({"tokenizer": {"kind": "bpe", "size": 100}}, {"tokenizer": {"kind": "characters"}})
        {'tokenizer': {'kind': 'characters'}}
    """
    known = tuple(within)
    result = copy.deepcopy(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            fields = [section.model_fields[key] for section in known if key in section.model_fields]
            inner = [member for field in fields for member in sections_in(field.annotation)]
            result[key] = merged(_kept(old, value, inner), value, inner)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _kept(old: Tree, new: Tree, known: list[type[Section]]) -> Tree:
    """What of the section `old` stays when `new` is laid over it; `known` are the kinds of it that there are."""
    if "kind" not in old or "kind" not in new or old["kind"] == new["kind"]:
        return old
    kinds = {_kind_of(section): section.model_fields for section in known}
    before, after = kinds.get(str(old["kind"]), {}), kinds.get(str(new["kind"]), {})
    return {
        key: value
        for key, value in old.items()
        if key != "kind" and key in before and key in after and before[key].get_default() == after[key].get_default()
    }


def validated(section: type[AnySection], tree: Tree, *, where: str) -> AnySection:
    """`tree` as a checked `section`; `where` (a file, "overrides") goes into the message.

    Raises:
        ConfigError: an unknown key (with a suggestion), a value of the wrong type or range; every complaint in one line.
    """
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        complaints = [_complaint(section, details) for details in _without_echoes(error.errors())]
        raise ConfigError(f"{where}: {'; '.join(dict.fromkeys(complaints))}") from error


def _without_echoes(errors: list[Any]) -> list[Any]:
    """`errors` but for "too short" of a list whose only fault is that its members have been found faulty."""
    inner = {details["loc"][:end] for details in errors for end in range(len(details["loc"]))}
    return [details for details in errors if details["type"] != "too_short" or details["loc"] not in inner]


def _complaint(section: type[Section], details: Any) -> str:
    steps, sections = _followed(section, details["loc"])
    key = ".".join(steps) or "configuration"
    if details["type"] == "extra_forbidden":
        _, around = _followed(section, details["loc"][:-1])
        hint = hint_at_key(section, key, {name for known in around for name in known.model_fields})
        return f"{key}: unknown key{hint}"
    if details["type"] == "union_tag_not_found":
        return f"{key}: 'kind' is missing; known: {', '.join(_kind_of(known) for known in sections)}"
    if details["type"] == "union_tag_invalid":
        kind = str(details["ctx"]["tag"])
        return f"{key}.kind: unknown kind '{kind}'{did_you_mean(kind, map(_kind_of, sections))}"
    message = str(details["msg"]).removeprefix("Value error, ").replace("a valid tuple", "a list such as [a, b]")
    if details["type"] in {"value_error", "missing"}:
        return f"{key}: {message}" if steps else message
    return f"{key}: {message[0].lower()}{message[1:]}, found {details['input']!r}"


def hint_at_key(section: type[Section], key: str, known: Iterable[str]) -> str:
    """Where below `section` a key has the same name as `key`, a whole path, or else which of `known` may be meant."""
    places = list(dict.fromkeys(_paths_to(section, key.rpartition(".")[2])))
    # Another kind of the same section may have it in this very place: then it is the kind that does not fit.
    if key in places or not 0 < len(places) <= _MOST_PLACES:
        return did_you_mean(key.rpartition(".")[2], known)
    return f", did you mean {' or '.join(repr(place) for place in places)}?"


def _paths_to(section: type[Section], name: str) -> Iterator[str]:
    for key, field in section.model_fields.items():
        if key == name:
            yield key
        for inner in sections_in(field.annotation):
            yield from (f"{key}.{path}" for path in _paths_to(inner, name))


def _followed(section: type[Section], location: tuple[Any, ...]) -> tuple[list[str], list[type[Section]]]:
    """The keys on the way from `section` to pydantic's `location`, and the sections that may stand there.

    pydantic puts the kind that it chose from a union between the keys; that is no key of the file.
    """
    steps: list[str] = []
    sections = [section]
    for part in location:
        chosen = [known for known in sections if _kind_of(known) == part]
        if len(sections) > 1 and chosen:
            sections = chosen
            continue
        steps.append(str(part))
        if isinstance(part, str):
            fields = [known.model_fields[part] for known in sections if part in known.model_fields]
            sections = [member for field in fields for member in sections_in(field.annotation)]
    return steps, sections


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Every `Section` class that `annotation` admits: the members of a union, in order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from sections_in(get_args(annotation)[0])
    elif get_origin(annotation) in (typing.Union, types.UnionType, tuple, list):
        for member in get_args(annotation):
            yield from sections_in(member)


def _kind_of(section: type[Section]) -> str:
    return str(section.model_fields["kind"].default) if "kind" in section.model_fields else ""
