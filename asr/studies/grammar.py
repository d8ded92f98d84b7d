"""What varies in a study, as a user writes it: `key.path=a,b,c` to compare, `key.path=log(1e-4,1e-2)` to search in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from asr.config import parse_yaml
from asr.errors import ConfigError, did_you_mean

SHORT_NAMES = {"cells": "encoder.cell"}
"""Short names of keys that are often varied."""

SpaceKind = Literal["log", "int", "uniform", "choice"]

_OPENING, _CLOSING = "[{(", "]})"
_SPACE = re.compile(r"(log|int|uniform|choice)\((.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Axis:
    """One setting that varies, and its values as text in YAML."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """The values that a search may choose for one setting.

    Attributes:
        key: the setting.
        kind: "log" and "uniform" for numbers, "int" for whole ones, "choice" for any.
        values: lowest and highest, both included, or the choices as text in YAML.
    """

    key: str
    kind: SpaceKind
    values: tuple[str, ...]

    @property
    def written(self) -> str:
        """The space without its key, as a user writes it, such as `log(1e-4,1e-2)`."""
        return f"{self.kind}({','.join(self.values)})"


def split_values(text: str) -> list[str]:
    """`text` at its commas, but for those inside brackets or quotation marks.

    Example:
        >>> split_values("null,{layers: [1, 2]},'a,b'")
        ['null', '{layers: [1, 2]}', "'a,b'"]
    """
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _whole_key(name: str) -> str:
    """The key that `name` means: a short name, or the key itself.

    Raises:
        ConfigError: a misspelt short name, which the configuration would not know as one.
    """
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    if get_close_matches(name, SHORT_NAMES):
        raise ConfigError(f"{name}: unknown key{did_you_mean(name, SHORT_NAMES)}")
    return name


def split_axes(words: Iterable[str]) -> tuple[list[Axis], list[str]]:
    """The settings among `words` (`key.path=value`) that have several values, and the words that fix one.

    Raises:
        ConfigError: a value is empty, is no YAML or stands twice, or a key varies twice.

    Example:
        >>> split_axes(["cells=gru,lstm", "loss.intermediate_ctc={layers: [1, 2]}"])
        ([Axis(key='encoder.cell', values=('gru', 'lstm'))], ['loss.intermediate_ctc={layers: [1, 2]}'])
    """
    axes: list[Axis] = []
    fixed: list[str] = []
    for word in words:
        key, _, text = word.partition("=")
        key = _whole_key(key.strip())
        values = split_values(text)
        if len(values) == 1:
            fixed.append(f"{key}={text}")
            continue
        _check_values(word, values)
        axes.append(Axis(key, tuple(values)))
    _check_keys([axis.key for axis in axes], fixed)
    return axes, fixed


def split_spaces(words: Iterable[str]) -> tuple[list[Space], list[str]]:
    """The settings among `words` (`key.path=value`) that are to be searched for, and the words that fix one.

    Raises:
        ConfigError: bounds that are no two numbers in rising order, fewer than two choices, or a key that stands twice.

    Example:
        >>> split_spaces(["optimizer.lr=log(1e-4,1e-2)", "seed=3"])
        ([Space(key='optimizer.lr', kind='log', values=('1e-4', '1e-2'))], ['seed=3'])
    """
    spaces: list[Space] = []
    fixed: list[str] = []
    for word in words:
        key, _, text = word.partition("=")
        key = _whole_key(key.strip())
        match = _SPACE.fullmatch(text.strip())
        if match is None:
            if len(split_values(text)) > 1:
                raise ConfigError(f"{word}: to search among values, write {key}=choice({text})")
            fixed.append(f"{key}={text}")
            continue
        values = tuple(split_values(match[2]))
        if match[1] == "choice":
            _check_values(word, values)
        else:
            _check_bounds(word, match[1], values)
        spaces.append(Space(key, match[1], values))  # type: ignore[arg-type]
    _check_keys([space.key for space in spaces], fixed)
    return spaces, fixed


def _check_values(word: str, values: Iterable[str]) -> None:
    known: set[str] = set()
    for value in values:
        if not value:
            raise ConfigError(f"{word}: expected values with commas between, found an empty one")
        # However it is written: 1e-3 and 0.001 would be two names of one training.
        meaning = json.dumps(parse_yaml(value, where=word), sort_keys=True, default=str)
        if meaning in known:
            raise ConfigError(f"{word}: '{value}' stands twice")
        known.add(meaning)
    if len(known) < 2:
        raise ConfigError(f"{word}: expected two values or more")


def _check_bounds(word: str, kind: str, values: tuple[str, ...]) -> None:
    bounds = [parse_yaml(value, where=word) for value in values]
    types = (int,) if kind == "int" else (int, float)
    if len(bounds) != 2 or any(isinstance(bound, bool) or not isinstance(bound, types) for bound in bounds):
        expected = "two whole numbers" if kind == "int" else "two numbers"
        raise ConfigError(f"{word}: expected {expected}, the lowest and the highest, as in {kind}(1,10)")
    low, high = bounds
    if low >= high or (kind == "log" and low <= 0):
        above = ", both above 0" if kind == "log" else ""
        raise ConfigError(f"{word}: expected the lower bound first{above}")


def _check_keys(varied: list[str], fixed: list[str]) -> None:
    for key in varied:
        if not key or varied.count(key) > 1:
            raise ConfigError(f"{key or '='}: expected each varied setting once, as key.path=...")
        # Another value of the same key, or of what lies around or inside it, would say nothing or take away what varies.
        others = [(word.partition("=")[0], "is fixed") for word in fixed]
        others += [(other, "varies") for other in varied if other != key]
        for other, how in others:
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                too = " too" if how == "varies" else ""
                raise ConfigError(f"{other}: {how}, and {key} varies{too}: leave one out")
