"""Pictures as SVG inside a page: curves, points, intervals. Colours come from the page, so that it may be dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

NUM_COLOURS = 8

_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 24, 40
_INTERVAL_WIDTH = 160
_NUM_TICKS = 5
_LABEL_WIDTH = 38  # of five digits and a gap


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together.

    Attributes:
        points: x and y; what is not finite, or not above 0 on a logarithmic axis, is left out.
        colour: number of the colour, from 0.
        style: a line, a thin one, or dots.
        labels: what is said where a dot is pointed at, one for each point.
    """

    points: Sequence[tuple[float, float]]
    colour: int = 0
    style: Literal["line", "thin", "dots"] = "line"
    labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Where values stand: from `low` to `high` between the pixels `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool
    is_whole: bool = False

    def at(self, value: float) -> float:
        low, high, here = (self._scaled(each) for each in (self.low, self.high, value))
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    def takes(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.is_log)

    def ticks(self) -> list[float]:
        if not self.is_log:
            return _round_numbers(self.low, self.high, whole=self.is_whole)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
            found = [digit * 10.0**power for power in powers for digit in digits]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) >= 3:
                return found
        return _round_numbers(self.low, self.high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


def chart(
    series: Sequence[Series],
    *,
    title: str,
    x: str,
    y: str,
    x_log: bool = False,
    y_log: bool = False,
    show_x: Callable[[float], str] = "{:g}".format,
) -> str:
    """A picture of `series`, with the names `x` and `y` at its axes; "" where there is no point at all.

    Args:
        series: lines and dots; those behind lie on top.
        title: for people who do not see the picture.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        x_log: whether that is logarithmic.
        y_log: whether that is.
        show_x: how numbers at the horizontal axis are written.
    """
    all_points = [point for each in series for point in each.points]
    across = _axis([value for value, _ in all_points], x_log, _LEFT, _WIDTH - _RIGHT)
    up = _axis([value for _, value in all_points], y_log, _HEIGHT - _BOTTOM, _TOP)
    if across is None or up is None:
        return ""
    parts = [f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(title)}</title>']
    for value in up.ticks():
        at = up.at(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    written = -math.inf
    for value in across.ticks():
        at = across.at(value)
        if at - written < _LABEL_WIDTH:
            continue
        written = at
        parts.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(show_x(value))}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    parts.append(f'<text x="4" y="12">{escape(y)}</text>')
    parts += [part for each in series for part in _drawn(each, across, up)]
    return "".join([*parts, "</svg>"])


def _drawn(series: Series, across: _Axis, up: _Axis) -> Iterable[str]:
    labels = series.labels or [""] * len(series.points)
    kept = [
        (across.at(x), up.at(y), label)
        for (x, y), label in zip(series.points, labels, strict=True)
        if across.takes(x) and up.takes(y)
    ]
    colour = f"c{series.colour % NUM_COLOURS}{' again' if series.colour >= NUM_COLOURS else ''}"
    if series.style != "dots":
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in kept)
        yield f'<polyline class="curve {series.style} {colour}" points="{way}"/>'
    if series.style == "dots" or len(kept) == 1:
        for x, y, label in kept:
            said = f"<title>{escape(label)}</title>" if label else ""
            yield f'<circle class="point {colour}" cx="{x:.1f}" cy="{y:.1f}" r="4">{said}</circle>'


def _axis(values: Iterable[float], is_log: bool, start: float, end: float) -> _Axis | None:
    kept = [value for value in values if math.isfinite(value) and (value > 0 or not is_log)]
    if not kept:
        return None
    low, high = min(kept), max(kept)
    if is_log:
        return _Axis(low=low / 1.1, high=high * 1.1, start=start, end=end, is_log=True)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    # Rates and losses are seen against 0 where that costs little of the picture.
    bottom = 0.0 if 0 <= low < 0.5 * high else low - room
    is_whole = all(value == int(value) for value in kept)
    return _Axis(low=bottom, high=high + room, start=start, end=end, is_log=False, is_whole=is_whole)


def _round_numbers(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About five numbers of few digits from `low` to `high`, whole ones if so wished."""
    rough = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    numbers = range(first, math.floor(high / step + 1e-9) + 1)
    return [round(number * step, 12) for number in numbers]


def interval(value: float, low: float, high: float, seeds: Iterable[float], *, most: float, colour: int) -> str:
    """A strip from 0 to `most` that shows a rate, its interval, and the rate of each seed as a small stroke."""

    def at(rate: float) -> float:
        return 4 + min(max(rate, 0.0), most) / (most or 1.0) * (_INTERVAL_WIDTH - 8)

    strokes = "".join(f'<line class="seed" x1="{at(rate):.1f}" x2="{at(rate):.1f}" y1="2" y2="16"/>' for rate in seeds)
    return (
        f'<svg class="interval" viewBox="0 0 {_INTERVAL_WIDTH} 18" aria-hidden="true">'
        f'<line class="grid" x1="4" x2="{_INTERVAL_WIDTH - 4}" y1="9" y2="9"/>{strokes}'
        f'<line class="curve c{colour % NUM_COLOURS}" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="9" y2="9"/>'
        f'<circle class="point c{colour % NUM_COLOURS}" cx="{at(value):.1f}" cy="9" r="4"/></svg>'
    )


def bar(share: float) -> str:
    """A bar that is filled by `share`, from 0 to 1."""
    return (
        f'<svg class="interval" viewBox="0 0 {_INTERVAL_WIDTH} 18" aria-hidden="true">'
        f'<rect class="filled" x="0" y="4" height="10" width="{max(0.0, min(1.0, share)) * _INTERVAL_WIDTH:.1f}"/></svg>'
    )


def swatch(colour: int) -> str:
    """A piece of line for a legend."""
    again = " again" if colour >= NUM_COLOURS else ""
    return (
        '<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true">'
        f'<line class="curve c{colour % NUM_COLOURS}{again}" x1="0" x2="24" y1="4" y2="4"/></svg>'
    )
