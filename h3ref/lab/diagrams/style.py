"""The look of every diagram: the colours, the fonts, and a sheet whose unit is a pixel of the screen.

Colours are those of Okabe and Ito, which people tell apart who see no red or no green; beside each stands a word, a
width or a dash that says the same. A diagram brings a card of its own, light as it is drawn; `palette` has the colours
that take the place of these on a dark page.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import text_to_path

from h3ref.lifecycle import State

from ..story import printable

PIXELS_PER_INCH = 96
"""As in CSS: an SVG's points are shown at this rate, so that a sheet is as large as it says."""

INK, SOFT, FAINT, CARD, EDGE = "#1f2328", "#59636e", "#afb8c1", "#ffffff", "#d1d9e0"
BOX = "#f2f5f8"
WRONG, WRONG_TINT = "#b54700", "#fdf0e6"
WIRE = "#0072b2"
PATH, PATH_TINT = "#0072b2", "#e6f1f8"

STATE_COLOURS = {
    State.REQUESTED: "#afb8c1",
    State.SSE_STARTED: "#e69f00",
    State.HEADERS_SENT: "#56b4e9",
    State.STREAMING: "#0072b2",
    State.CLOSED: "#1f2328",
}

SMALL, TEXT, HEAD, TITLE = 13.0, 13.0, 13.0, 15.0
"""Sizes of letters, in pixels. None is smaller than 13, and no page shows a diagram smaller than it was drawn."""

WIDTH = 690.0
"""Pixels that a page of the docs has for a diagram; where it has less, the diagram scrolls."""

MARGIN = 16.0
"""Pixels that stay free around what is drawn."""

DOTS, DASHES = (1.2, 2.6), (4.0, 2.5)
"""Lengths of what is drawn and what is left out, in turn."""

Weight = Literal["Sans", "Sans-Bold", "Sans-Oblique"]


@cache
def font(size: float, weight: Weight = "Sans") -> FontProperties:
    """DejaVu from matplotlib's own files, so that a diagram is the same on every machine."""
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVu{weight}.ttf")
    return FontProperties(fname=str(file), size=size * 72 / PIXELS_PER_INCH)


@lru_cache(4096)
def width_of(text: str, size: float = TEXT, weight: Weight = "Sans") -> float:
    """How many pixels wide a line of text is."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, font(size, weight), False)
    return float(width) * PIXELS_PER_INCH / 72


def shown(text: str) -> str:
    """The text in one line, with signs that the font has: what it lacks, or what is none, becomes �."""
    return "".join(sign if ord(sign) in _signs() and sign.isprintable() else "�" for sign in " ".join(text.split()))


@cache
def _signs() -> frozenset[int]:
    return frozenset(get_font(str(font(TEXT).get_file())).get_charmap())


def cut(text: str, room: float, size: float = TEXT, weight: Weight = "Sans") -> str:
    """The text, ended by an ellipsis where it is wider than the room."""
    if width_of(text, size, weight) <= room:
        return text
    fits = bisect(range(len(text)), room, key=lambda end: width_of(f"{text[:end].rstrip()}…", size, weight))
    return f"{text[: max(fits - 1, 0)].rstrip()}…"


def wrap(text: str, room: float, size: float = TEXT, weight: Weight = "Sans", *, lines: int = 3) -> list[str]:
    """The text in lines that fit the room; what is over after the last ends in an ellipsis."""
    wrapped: list[str] = []
    for word in text.split():
        longer = f"{wrapped[-1]} {word}" if wrapped else word
        if wrapped and (width_of(longer, size, weight) <= room or len(wrapped) == lines):
            wrapped[-1] = longer
        else:
            wrapped.append(word)
    return [cut(line, room, size, weight) for line in wrapped]


def plain() -> Any:
    """A context in which the reader's own matplotlib settings change nothing of a diagram."""
    return matplotlib.style.context("default", after_reset=True)


class Drawing(Figure):
    """A figure that knows where it may be broken.

    Attributes:
        parts: what it shows, as figures of their own, each narrow enough for a telephone; none if it is one piece.
    """

    parts: tuple[Figure, ...] = ()


class Sheet:
    """A figure on a card; x goes right and y goes down, in pixels.

    Args:
        width, height: of the whole, the card's margin included.
        words: what the picture shows, in words, for readers who can't see it.
    """

    # Lines and patches are added as artists of no kind: as their own, each would have its extent measured for limits
    # that are set here once and for all.

    def __init__(self, width: float, height: float, words: str) -> None:
        self.figure = Drawing(
            figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH, facecolor="none"
        )
        FigureCanvasAgg(self.figure)
        self.figure.set_label(printable(words))  # it becomes the title of an SVG, which can't hold all signs
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_axis_off()
        self.axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
        self.width, self.height = width, height
        self.box(1, 1, width - 2, height - 2, radius=10, line=EDGE)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = TEXT,
        weight: Weight = "Sans",
        colour: str = INK,
        align: Literal["left", "center", "right"] = "left",
        ground: str | None = None,
    ) -> None:
        """Write a line whose letters' middle is at y; `ground` is a colour to lay under it."""
        label = self.axes.text(
            x,
            y,
            text,
            fontproperties=font(size, weight),
            color=colour,
            ha=align,
            va="center_baseline",
            parse_math=False,
            zorder=6,
        )
        if ground is not None:
            label.set_bbox({"facecolor": ground, "edgecolor": "none", "pad": 1.5})

    def line(
        self,
        points: Sequence[tuple[float, float]],
        *,
        colour: str = INK,
        thick: float = 1.2,
        dash: tuple[float, ...] = (),
        order: float = 2,
    ) -> None:
        """Draw a line through the points; `dash` is lengths on and off, in its own thickness."""
        xs, ys = zip(*points, strict=True)
        style: Any = (0, dash) if dash else "-"
        line = Line2D(
            xs, ys, color=colour, linewidth=thick * 0.75, linestyle=style, zorder=order, solid_capstyle="butt",
            solid_joinstyle="round", dash_capstyle="butt",
        )  # fmt: skip
        self.axes.add_artist(line)

    def curve(
        self, points: Sequence[tuple[float, float]], *, colour: str = INK, thick: float = 1.2, order: float = 2
    ) -> None:
        """Draw a line with round corners through the points."""
        radius = 10.0
        vertices, codes = [points[0]], [Outline.MOVETO]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
            codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
        outline = Outline([*vertices, points[-1]], [*codes, Outline.LINETO])
        patch = PathPatch(outline, facecolor="none", edgecolor=colour, linewidth=thick * 0.75, zorder=order)
        self.axes.add_artist(patch)

    def head(
        self,
        x: float,
        y: float,
        direction: Literal["left", "right", "up", "down"],
        *,
        colour: str = INK,
        size: float = 8,
    ) -> None:
        """Draw an arrow's head with its point at (x, y)."""
        dx, dy = {"left": (1, 0), "right": (-1, 0), "up": (0, 1), "down": (0, -1)}[direction]
        half = size * 0.42
        base = (x + dx * size, y + dy * size)
        corners = [
            (x, y),
            (base[0] + dy * half, base[1] + dx * half),
            (base[0] - dy * half, base[1] - dx * half),
            (x, y),
        ]
        outline = Outline(corners, closed=True)
        self.axes.add_artist(PathPatch(outline, facecolor=colour, edgecolor="none", zorder=4))

    def cross(self, x: float, y: float, *, colour: str = WRONG, size: float = 5, thick: float = 2.4) -> None:
        """Draw an X around (x, y)."""
        for slope in (1, -1):
            self.line([(x - size, y - size * slope), (x + size, y + size * slope)], colour=colour, thick=thick, order=5)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = CARD,
        line: str | None = None,
        thick: float = 1.2,
        dash: tuple[float, ...] = (),
        radius: float = 5,
        order: float = 1,
        hatch: str = "",
    ) -> None:
        """Draw a box with round corners; (x, y) is its upper left one."""
        radius = min(radius, width / 2, height / 2)
        style: Any = (0, dash) if dash else "-"
        self.axes.add_artist(
            FancyBboxPatch(
                (x + radius, y + radius),
                width - 2 * radius,
                height - 2 * radius,
                boxstyle=f"round,pad={radius},rounding_size={radius}" if radius else "square,pad=0",
                facecolor=fill,
                edgecolor=line or "none",
                linewidth=thick * 0.75 if line else 0,
                linestyle=style,
                zorder=order,
                hatch=hatch,
            )
        )

    def badge(self, x: float, y: float, text: str, *, colour: str = PATH) -> None:
        """Draw a number in a filled round around (x, y)."""
        width = badge_width(text)
        self.box(x - width / 2, y - 9, width, 18, fill=colour, radius=9, line=CARD, thick=1.5, order=5)
        self.text(x, y, text, size=SMALL, weight="Sans-Bold", colour=CARD, align="center")


def badge_width(text: str) -> float:
    """How many pixels wide a badge with this text is."""
    return max(18.0, width_of(text, SMALL, "Sans-Bold") + 11)


def _towards(start: tuple[float, float], end: tuple[float, float], distance: float) -> tuple[float, float]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = (dx * dx + dy * dy) ** 0.5
    part = min(distance, length / 2) / length if length else 0.0
    return start[0] + dx * part, start[1] + dy * part
