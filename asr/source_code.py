"""The source files that results are made by, so that a result of other code can be told from one of this code."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

from asr.errors import first_of

_PACKAGE = Path(__file__).parent


def _digest(path: Path) -> str:
    return f"{zlib.crc32(path.read_bytes()):08x}"


# Once, when this is imported: a file that is edited later is not the code that runs.
_DIGESTS = {path.relative_to(_PACKAGE).as_posix(): _digest(path) for path in sorted(_PACKAGE.rglob("*.py"))}


def source_files(rooms: Collection[str], others: Collection[Path] = ()) -> dict[str, str]:
    """CRC of every file of the package that stands in one of its `rooms` or in none, and of `others`, by name."""
    own = {f"asr/{name}": crc for name, crc in _DIGESTS.items() if "/" not in name or name.split("/")[0] in rooms}
    return own | {path.name: _digest(path) for path in sorted(others)}


def edited_files(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The files that are not as `before`, for people; "" where all are.

    Example:
        >>> edited_files({"a.py": "1", "b.py": "1"}, {"a.py": "1", "b.py": "2"})
        'b.py'
    """
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return first_of(names)
