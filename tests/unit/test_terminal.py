"""The bar says how much time is left, and not where it cannot know."""

from __future__ import annotations

import io
import re
import sys

import pytest

from asr.terminal import progress_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("total", "left"), [(10.0, True), (None, False)])
def test_a_bar_speaks_of_time_left_only_where_it_knows_the_end(
    total: float | None, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("reading", total) as advance:
        advance(5)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "reading" in shown
    assert ("left" in shown) is left
    assert re.search(r"0:00:\d\d (-:--:--|0:00:\d\d) left", shown) or not left
