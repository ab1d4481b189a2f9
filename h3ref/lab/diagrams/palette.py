"""The colours of drawings on a dark page, and SVG that changes to them with its reader's or its page's settings.

A drawing is made in light colours. `dark` has the others in their place, for a page that picks one of two files;
`themed` has variables of CSS, whose values a page may set.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .style import BOX, CARD, EDGE, FAINT, INK, PATH_TINT, SOFT, STATE_COLOURS, WIRE, WRONG, WRONG_TINT


class Colour(NamedTuple):
    """What a colour is called in CSS, and which one takes its place on a dark page."""

    name: str
    dark: str


PALETTE: Final = {
    INK: Colour("ink", "#e6edf3"),
    SOFT: Colour("soft", "#a3adb8"),
    FAINT: Colour("faint", "#5b6570"),
    CARD: Colour("card", "#16191d"),
    EDGE: Colour("edge", "#363d45"),
    BOX: Colour("box", "#242a31"),
    WRONG: Colour("wrong", "#ff9a5c"),
    WRONG_TINT: Colour("wrong-tint", "#3a2416"),
    WIRE: Colour("wire", "#4ea8e8"),
    PATH_TINT: Colour("path-tint", "#142b3d"),
    "#e69f00": Colour("orange", "#e69f00"),
    "#56b4e9": Colour("sky", "#9bd6f7"),
    "#009e73": Colour("green", "#2cc295"),
    "#cc79a7": Colour("pink", "#d992b9"),
    "#d55e00": Colour("vermilion", "#f0803c"),
    "#332288": Colour("violet", "#a99bf5"),
    "#7f7f7f": Colour("grey", "#9c9c9c"),
}
"""Each colour that a drawing may have."""

assert set(STATE_COLOURS.values()) <= set(PALETTE)

_HEX = re.compile(r"#[0-9a-f]{6}(?=[;\" ])")


def colours_of(svg: str) -> set[str]:
    """The colours that an SVG of ours has."""
    return set(_HEX.findall(svg))


def dark(svg: str) -> str:
    """The same drawing in the colours for a dark page."""
    return _HEX.sub(lambda found: PALETTE[found[0]].dark if found[0] in PALETTE else found[0], svg)


def themed(svg: str) -> str:
    """The same drawing with a variable for each colour, `--drawing-ink` and so on, that is light unless it is set.

    One that has other colours, as a reader's own figure may, stays as it is: half of it would not be seen.
    """
    if not colours_of(svg) <= PALETTE.keys():
        return svg
    return _HEX.sub(lambda found: f"var(--drawing-{PALETTE[found[0]].name}, {found[0]})", svg)


def following(svg: str) -> str:
    """The same drawing, which is dark where its reader prefers that, or where the image that shows it is told to be."""
    rule = f"@media (prefers-color-scheme: dark) {{ svg {{ {variables()} }} }}"
    return themed(svg).replace("</style>", f"{rule}</style>", 1)


def variables() -> str:
    """The dark colours as declarations of CSS."""
    return " ".join(f"--drawing-{colour.name}: {colour.dark};" for colour in PALETTE.values())
