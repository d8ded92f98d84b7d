"""Pictures: every point inside, nothing that is not finite, and no name taken for markup."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest

from asr.report.static import card, static_page, table
from asr.studies.svg import Series, bar, chart, interval


@pytest.mark.parametrize("y_log", [True, False])
@pytest.mark.parametrize(
    "points", [[(1, 5)], [(1, 100), (2, 100)], [(0, 1e-9), (3, 1e9)], [(1, math.inf), (2, 3), (3, 0)]]
)
def test_points_stand_inside_the_picture(points: list[tuple[float, float]], y_log: bool) -> None:
    picture = chart([Series(points=points, style="dots")], title="<&>", x="x", y="y", y_log=y_log)
    root = ElementTree.fromstring(picture)
    circles = [node for node in root.iter() if node.tag == "circle"]
    assert len(circles) == sum(math.isfinite(y) and (y > 0 or not y_log) for _, y in points)
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 460
        assert 0 <= float(circle.attrib["cy"]) <= 270
    assert 1 <= len([node for node in root.iter() if node.tag == "text"]) < 40


def test_nothing_gives_no_picture() -> None:
    assert chart([Series(points=[])], title="", x="", y="") == ""
    assert chart([Series(points=[(1, -1)])], title="", x="", y="", y_log=True) == ""
    assert card("empty", "") == ""


def test_epochs_are_whole_numbers() -> None:
    picture = chart([Series(points=[(1, 0.5), (2, 0.4)])], title="", x="epoch", y="loss")
    across = re.findall(r'y="246"[^>]*>([^<]*)<', picture)
    assert across == ["0", "1", "2"] or across == ["1", "2"]


@pytest.mark.parametrize("x_log", [True, False])
@pytest.mark.parametrize("ends", [(0.001178, 0.00884), (1e-4, 1e-2), (64, 256), (0.1, 0.5)])
def test_numbers_below_the_picture_stand_apart(ends: tuple[float, float], x_log: bool) -> None:
    picture = chart([Series(points=[(value, 1) for value in ends])], title="", x="lr", y="WER", x_log=x_log)
    places = [float(place) for place in re.findall(r'<text x="([^"]*)" y="246"', picture)]
    assert len(places) >= 2
    assert all(there - here >= 36 for here, there in itertools.pairwise(places))


def test_strips_and_bars_are_well_formed() -> None:
    for picture in (
        interval(0.1, 0.0, 2.0, [0.1, 5.0], most=0.2, colour=9),
        bar(1.5),
        interval(0, 0, 0, [], most=0, colour=0),
    ):
        ElementTree.fromstring(picture)


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    page = static_page(title="a <b>", body=table(("x", "<y>"), [("1", "2")], numbers=(1,)), style=".c0 { color: red; }")
    assert "<title>a &lt;b&gt;</title>" in page
    assert "script-src 'none'" in page
    assert 'data-label="&lt;y&gt;"' in page
    assert not re.search(r"<script|<link|https?://|@import", page)
