"""What a page needs so that everybody can read it, and the theme does not give: levels, and words for machines.

The theme's captions are headings without a level, and a long signature is a list of definitions that define nothing. A
search engine, or whoever passes a link on, gets the page's first sentences and a picture of the whole.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes

CARD = "_static/card.png"

_SIGNATURE = re.compile(r"<dl>\n(?P<items>(?:<dd><em class=\"sig-param\">.*?</dd>\n)+)</dl>", re.DOTALL)
_ITEM = re.compile(r"<dd>(.*?)</dd>\n", re.DOTALL)
_LONGEST = 200


def mend(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Say what the theme leaves out, in one page."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        context["body"] = _SIGNATURE.sub(_lines, context["body"])
    if doctree is None:
        return
    root = app.config.html_baseurl or "../" * pagename.count("/")
    told = {"og:title": str(context.get("title", "")), "og:type": "website", "og:image": f"{root}{CARD}"}
    if words := first_words(doctree):
        told["og:description"] = words
        context["metatags"] += f'<meta name="description" content="{escape(words)}" />\n'
    for name, content in told.items():
        context["metatags"] += f'<meta property="{name}" content="{escape(re.sub("<[^>]+>", "", content))}" />\n'


def first_words(doctree: nodes.document) -> str:
    """The page's first paragraph, up to the end of a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        words = " ".join(paragraph.astext().split())
        if len(words) > 30 and not isinstance(paragraph.parent, nodes.entry):
            return words if len(words) <= _LONGEST else f"{words[:_LONGEST].rpartition(' ')[0]} …"
    return ""


def _lines(found: re.Match[str]) -> str:
    return _ITEM.sub(r'<span class="sig-line">\1</span>', found["items"])


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", mend, priority=900)  # after the theme has made its tree
    return {"parallel_read_safe": True}
