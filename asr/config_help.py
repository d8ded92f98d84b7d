"""What each setting means, from the very sections that check it: the text behind `asr config explain`."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from asr.config import Section, dump_yaml, hint_at_key, sections_in
from asr.errors import ConfigError

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_NAMES: dict[Any, str] = {
    bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null", Any: "anything",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One key of a section.

    Attributes:
        key: its whole path, such as "training.epochs".
        values: what it may be, in words.
        default: as YAML on one line, "" where it must be given.
        description: what it means.
    """

    key: str
    values: str
    default: str
    description: str


@dataclass(frozen=True)
class Explanation:
    """One section, or one kind of it.

    Attributes:
        key: its whole path, "" for the whole configuration; with the kind in brackets where there are several.
        text: what it is about, in paragraphs.
        settings: its keys.
    """

    key: str
    text: str
    settings: tuple[Setting, ...]


def explain(root: type[Section], key: str = "") -> list[Explanation]:
    """The section that stands at `key` below `root`, one for each kind that it may be of; of one setting, only that.

    Raises:
        ConfigError: there is no such key.
    """
    sections, path, said = [root], "", ""
    steps = key.split(".") if key else []
    for number, step in enumerate(steps, start=1):
        having = [section for section in sections if step in section.model_fields]
        if not having:
            hint = hint_at_key(
                root,
                f"{path}.{step}" if path else step,
                {name for section in sections for name in section.model_fields},
            )
            raise ConfigError(f"{f'{path}: ' if path else ''}no setting '{step}'{hint}")
        fields = [section.model_fields[step] for section in having]
        # Several kinds may share one section.
        inner = list(dict.fromkeys(section for field in fields for section in sections_in(field.annotation)))
        if not inner and number < len(steps):
            raise ConfigError(f"{key}: {'.'.join(steps[:number])} is a single setting, nothing is below it")
        if not inner:
            return [
                Explanation(_title(path, section, having), _choices(field), (_setting(path, step, section),))
                for section, field in zip(having, fields, strict=True)
            ]
        sections, path, said = inner, ".".join(steps[:number]), fields[0].description or ""
    return [
        Explanation(
            _title(path, section, sections),
            "\n\n".join(filter(None, (said, inspect.getdoc(section)))),
            # What decides about the others comes first.
            tuple(
                _setting(path, name, section) for name in sorted(section.model_fields, key=lambda name: name != "kind")
            ),
        )
        for section in sections
    ]


def _title(path: str, section: type[Section], choices: list[type[Section]]) -> str:
    has_kinds = len(choices) > 1 and "kind" in section.model_fields
    return f"{path} (kind: {section.model_fields['kind'].default})" if has_kinds else path


def _setting(path: str, name: str, section: type[Section]) -> Setting:
    field = section.model_fields[name]
    of_sections = (inspect.getdoc(inner) or "" for inner in sections_in(field.annotation))
    description = field.description or " / ".join(text.partition("\n")[0] for text in of_sections)
    if name == "kind" and not description:
        description = "which one of these it is"
    return Setting(f"{path}.{name}" if path else name, _values(field), _default(field), description)


def _choices(field: FieldInfo) -> str:
    """What each value means that a setting may have, a line for each, where the setting tells so."""
    extra = field.json_schema_extra
    choices = extra.get("choices") if isinstance(extra, dict) else None
    if not isinstance(choices, dict):
        return ""
    width = max(map(len, choices))
    return "\n".join(f"{name:{width}}  {meaning}" for name, meaning in choices.items())


def _values(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return " ".join([_in_words(field.annotation), ", ".join(bounds)]).strip()


def _in_words(annotation: Any) -> str:
    origin, members = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin is Annotated:
        return _in_words(members[0])
    if origin is Literal:
        return " | ".join(map(str, members))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_in_words(member) for member in members))
    if origin in (tuple, list):
        return f"list of: {' / '.join(dict.fromkeys(_in_words(member) for member in members if member is not ...))}"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return f"[{', '.join(map(_as_yaml, value))}]" if isinstance(value, list | tuple) else _as_yaml(value)


def _as_yaml(value: Any) -> str:
    if isinstance(value, BaseModel):
        kind = value.model_dump().get("kind")
        return f"kind: {kind}" if kind else "its defaults"
    return dump_yaml({"value": value}).partition(":")[2].strip()
