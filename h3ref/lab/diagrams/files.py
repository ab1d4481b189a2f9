"""A diagram as a file: SVG whose bytes are the same in every run, or PNG."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from .style import PIXELS_PER_INCH, plain

SHARPNESS = 2
"""Dots of a PNG for each pixel of the page, as the screens of today have them."""

_FORMATS = (".svg", ".png")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as SVG or PNG, by the path's suffix in any case.

    Raises:
        ValueError: the suffix is another one.
        OSError: the file can't be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(
            f"a diagram is saved as {' or '.join(_FORMATS)}, not as {path.suffix or 'a file without suffix'}"
        )
    path.write_bytes(svg(figure).encode() if suffix == ".svg" else png(figure))


def svg(figure: Figure) -> str:
    """Return a figure as SVG, without a date or a random id in it.

    Letters are written as outlines: the reader's machine need not have the font, and nothing moves. What the picture
    shows stands in its title, in words.
    """
    buffer = io.StringIO()
    words = figure.get_label()
    with plain(), matplotlib.rc_context({"svg.hashsalt": "h3ref", "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", dpi=PIXELS_PER_INCH,
            metadata={"Date": None, "Creator": "h3ref", **({"Title": str(words)} if words else {})},
        )  # fmt: skip
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, of two dots for each pixel of the page."""
    buffer = io.BytesIO()
    with plain():
        figure.savefig(buffer, format="png", dpi=figure.dpi * SHARPNESS, metadata={"Software": "h3ref"})
    return buffer.getvalue()
