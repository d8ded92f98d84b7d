"""What all pictures share: themes by day and by night, PNG, and a time axis below the sound and its tokens."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asr.inspection.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_INCHES_PER_SECOND = 3.1
_MOST_INCHES = 60.0


class Theme(NamedTuple):
    """Colours by day or by night."""

    background: str
    ink: str
    line: str
    sound: str
    shares: str


DAY = Theme("#ffffff", "#1c2230", "#c0392b", "Greys", "RdBu_r")
NIGHT = Theme("#191e27", "#e6e9ef", "#ff8f7a", "gray", "berlin")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture.

    Attributes:
        name: of its file, without ending.
        title: what it shows.
        caption: how it is to be read.
        day: PNG on white.
        night: PNG on dark.
        width: in pixels of the screen; each holds more than one of the picture.
        height: the same.
        small: whether it stands beside others.
    """

    name: str
    title: str
    caption: str
    day: bytes
    night: bytes
    width: int
    height: int
    small: bool = False


def draw(name: str, title: str, caption: str, make: Callable[[Theme], Figure], *, small: bool = False) -> Picture:
    """The picture of the figure that `make` draws in each theme."""
    day, night = (_png(make, theme) for theme in (DAY, NIGHT))
    # A PNG tells its size in its header, from the sixteenth byte on.
    width, height = (int.from_bytes(day[place : place + 4], "big") for place in (16, 20))
    scale = 100 / _DPI
    return Picture(
        name=name,
        title=title,
        caption=caption,
        day=day,
        night=night,
        width=round(width * scale),
        height=round(height * scale),
        small=small,
    )


def _png(make: Callable[[Theme], Figure], theme: Theme) -> bytes:
    import matplotlib as mpl
    from PIL import Image

    ink: Any = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), theme.ink
    )
    back: Any = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.background)
    settings: Any = {
        "font.size": 9.0, "axes.titlesize": 10.0, "axes.titlelocation": "left", "grid.alpha": 0.25,
        "legend.framealpha": 0.0,
    }  # fmt: skip
    buffer = io.BytesIO()
    with mpl.rc_context({**ink, **back, **settings}), warnings.catch_warnings():
        # A token may be of a script that the font lacks; it is shown as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        make(theme).savefig(buffer, dpi=_DPI, format="png")
    # A palette makes a third of the size, and no difference to the eye.
    palette = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        palette, "PNG", optimize=True
    )
    return palette.getvalue()


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def over_time(subject: Subject, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure with the tokens and the sound on top, and an axis of each of `heights` in inches below."""
    width = min(max(7.0, 1.6 + _INCHES_PER_SECOND * subject.seconds), _MOST_INCHES)
    figure = make_figure(width, 1.75 + sum(heights) + 0.35 * len(heights))
    axes = figure.subplots(1 + len(heights), 1, sharex=True, height_ratios=[1.1, *heights])
    axes[0].set_xlim(-subject.frame_seconds / 2, subject.seconds - subject.frame_seconds / 2)
    axes[-1].set_xlabel("time in seconds")
    return figure, list(axes)


def show_sound(figure: Figure, axis: Axes, subject: Subject, theme: Theme) -> None:
    """The log-mel picture, the tokens above it at their times."""
    image = heat(axis, subject.log_mel.T, subject.hop_seconds, cmap=theme.sound)
    figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03, label="log power")
    label_features(axis, subject, subject.log_mel.shape[1])
    longest = max(map(len, subject.pieces), default=1)
    for number, (piece, time) in enumerate(zip(subject.pieces, subject.times, strict=True)):
        axis.axvline(time, color=theme.line, linewidth=0.5, alpha=0.6)
        # Longer pieces would run into each other on one line.
        level = 1.04 if longest == 1 else 1.04 + 0.16 * (number % 2)
        write_token(axis, time, level, piece, fontweight="bold", fontsize=10)


def write_token(axis: Axes, time: float, level: float, piece: str, **settings: Any) -> None:
    """`piece` at its time and a height in parts of the axis; a dollar sign is no formula."""
    place = axis.get_xaxis_transform()
    axis.text(time, level, piece, transform=place, ha="center", parse_math=False, **settings)


def label_features(axis: Axes, subject: Subject, rows: int) -> None:
    """Frequencies in kHz where the rows are mel bands, else their numbers."""
    centres = subject.band_centres_hz
    if centres is None or len(centres) != rows:
        axis.set_ylabel("feature")
        return
    shown = np.array([hz for hz in (500, 1000, 2000, 4000, 8000, 16000) if centres[0] < hz < centres[-1]])
    axis.set_yticks(np.interp(shown, centres, np.arange(rows)), [f"{hz / 1000:g}" for hz in shown])
    axis.set_ylabel("kHz")


def heat(axis: Axes, rows: Any, seconds: float, **settings: Any) -> Any:
    """`rows` (R, columns), the first at the bottom, as an image, each column `seconds` wide around its own time."""
    num_rows, columns = rows.shape
    extent = (-seconds / 2, (columns - 0.5) * seconds, -0.5, num_rows - 0.5)
    return axis.imshow(rows, aspect="auto", origin="lower", extent=extent, interpolation="nearest", **settings)


def mark_tokens(axes: Sequence[Axes], subject: Subject, theme: Theme) -> None:
    """Thin lines at the times of the tokens."""
    for axis in axes:
        for time in subject.times:
            axis.axvline(time, color=theme.line, linewidth=0.4, alpha=0.35)
