"""A diagram as a file: SVG whose bytes are the same in every run, or PNG."""

from __future__ import annotations

import io
from base64 import b64encode
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from .palette import following
from .style import PIXELS_PER_INCH, Drawing, plain

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


def html(figure: Figure) -> str:
    """Return a figure as HTML for a notebook: images whose sentences say what they show; parts stand side by side.

    Where there is no room for two, one stands below the other; where there is none for one, it scrolls. An image is
    dark where its reader prefers that.
    """
    parts = figure.parts if isinstance(figure, Drawing) else ()
    images = "\n".join(_image(part) for part in parts or (figure,))
    return f'<div class="h3ref-drawing" style="overflow-x: auto">\n{images}\n</div>'


def _image(figure: Figure) -> str:
    width, height = figure.get_size_inches() * PIXELS_PER_INCH
    data = b64encode(following(svg(figure)).encode()).decode()
    return (
        f'<img alt="{escape(str(figure.get_label()))}" width="{width:.0f}" height="{height:.0f}" '
        f'style="display: inline-block; max-width: none" src="data:image/svg+xml;base64,{data}">'
    )


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, of two dots for each pixel of the page."""
    buffer = io.BytesIO()
    with plain():
        figure.savefig(buffer, format="png", dpi=figure.dpi * SHARPNESS, metadata={"Software": "h3ref"})
    return buffer.getvalue()
