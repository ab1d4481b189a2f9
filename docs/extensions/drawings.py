"""Drawings within their pages: as SVG in colours that change with the page's theme, and with a sentence for each.

A picture of a page, `![what it shows](pictures/machine.svg)`, and one that a notebook's cell has put out stand in the
page itself: so a reader who picks the dark theme sees them dark, and each is as large as it was drawn. Where a page has
less room, a drawing scrolls in a box of its own.
"""

from __future__ import annotations

import re
from base64 import b64decode
from html import escape, unescape
from pathlib import Path
from typing import Any

from docutils import nodes

from h3ref.lab.diagrams.palette import themed, variables

FOLDER = "docs/pictures/"
STYLE = "drawings.css"

_IMAGE = re.compile(r'<img alt="(?P<alt>[^"]*)"[^>]* src="data:image/svg\+xml;base64,(?P<data>[^"]+)">')
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<title>.*?</title>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_TEXT = re.compile(r'<g id="text_\d+">')
_ID = re.compile(
    r' id="(?:figure|axes|patch|line2d|legend|matplotlib\.axis|[xy]tick|LineCollection|PathCollection)_\d+"'
)


def inline(svg: str, alt: str) -> str:
    """An SVG as a part of a page: without what only a file needs, and without ids that a second one would have too."""
    drawing = _ID.sub("", _TEXT.sub('<g class="text">', _LEFT_OUT.sub("", svg[svg.index("<svg") :])))
    shown = drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
    return f'<span class="drawing">{" ".join(shown.split())}</span>'


def place(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put each drawing into its page."""
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        if image["uri"].startswith(FOLDER) and image["uri"].endswith(".svg"):
            svg = Path(app.srcdir, image["uri"]).read_text(encoding="utf-8")
            image.replace_self(nodes.raw("", inline(themed(svg), image["alt"]), format="html"))
    for raw in list(doctree.findall(nodes.raw)):
        if (text := _IMAGE.sub(_from_notebook, raw.astext())) != raw.astext():
            raw.replace_self(nodes.raw("", text, format="html"))


def _from_notebook(found: re.Match[str]) -> str:
    return inline(b64decode(found["data"]).decode(), unescape(found["alt"]))


def write_style(app: Any, failure: Exception | None) -> None:
    """Write the dark colours, for pages that are told to be dark, and for readers whose system is."""
    if failure is None and app.builder.format == "html":
        dark = f"{{ {variables()} }}"
        rules = f'body[data-theme="dark"] {dark}\n@media not print {{ @media (prefers-color-scheme: dark) {{\n'
        rules += f'body:not([data-theme="light"]) {dark}\n}} }}\n'
        Path(app.outdir, "_static", STYLE).write_text(rules, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.add_css_file(STYLE)
    app.connect("doctree-resolved", place)
    app.connect("build-finished", write_style)
    return {"parallel_read_safe": True}
