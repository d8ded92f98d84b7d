"""Compilation by numba: at once, for given signatures, kept on disk where that is possible."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core import caching

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.signedinteger[Any]]


def compiled(*signatures: str, reorder_sums: bool = False) -> Callable[[Function], Function]:
    """A decorator that gives a function as machine code that runs without Python's lock.

    With signatures the cost falls on the import, not on the first utterance, and no other type is compiled by surprise.
    `reorder_sums` lets the compiler add in the order that suits the processor's vectors; what is not finite stays so.
    """

    def decorate(function: Function) -> Function:
        # Python's check of a division by zero would keep a loop from becoming vector instructions.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        if reorder_sums:
            options["fastmath"] = {"reassoc", "contract", "nsz"}
        try:
            with _kept_by_our_rules():
                result: Any = numba.njit(list(signatures), cache=True, **options)(function)
        except RuntimeError:
            # Neither the installation nor the user's cache folder can be written: compile anew in every process.
            result = numba.njit(list(signatures), **options)(function)
            _tell_of_compiling("in every process: neither the installation nor the user's cache folder can be written")
        else:
            if result.stats.cache_misses:
                _tell_of_compiling("once")
        return cast(Function, result)

    return decorate


@lru_cache(maxsize=1)
def _tell_of_compiling(when: str) -> None:
    """At the first of many functions, for those who wait: on a terminal only, since nothing is wrong."""
    if sys.stderr.isatty():
        print(f"compiling for this processor, up to a minute, {when}", file=sys.stderr, flush=True)


class _BySources:
    """What is kept on disk holds until a source changes that went into it; numba looks at the function's own file alone."""

    _py_file: str

    def get_source_stamp(self) -> str:
        return _digest(Path(self._py_file))


class InChosenFolder(_BySources, caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """Machine code in NUMBA_CACHE_DIR, where it is set."""


class BesideSource(_BySources, caching.InTreeCacheLocator):  # type: ignore[misc]
    """Machine code beside the source, where that can be written."""


class InUsersFolder(_BySources, caching.UserWideCacheLocator):  # type: ignore[misc]
    """Machine code in the user's cache folder."""


@contextmanager
def _kept_by_our_rules() -> Iterator[None]:
    """In here, numba keeps machine code as the classes above say; what else uses numba is left alone."""
    before = numba.config.CACHE_LOCATOR_CLASSES
    places = (InChosenFolder, BesideSource, InUsersFolder)
    numba.config.CACHE_LOCATOR_CLASSES = ",".join(f"{__name__}.{place.__name__}" for place in places)
    try:
        yield
    finally:
        numba.config.CACHE_LOCATOR_CLASSES = before


@lru_cache
def _digest(source: Path) -> str:
    """Of all that goes into the machine code of the file `source`: it, this file, and what it imports of compiled code."""
    digest = hashlib.sha256()
    for path in sorted({Path(__file__), *_sources(source)}):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@lru_cache
def _sources(source: Path) -> frozenset[Path]:
    """The file `source` and, if it knows this module, those that it imports from and that do so as well."""
    text = source.read_text(encoding="utf-8")
    if __name__ not in text:
        return frozenset()
    found = {source}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                path = getattr(sys.modules.get(str(name)), "__file__", None)
                if path and path.endswith(".py"):
                    found |= _sources(Path(path)) if path != __file__ else set()
    return frozenset(found)
