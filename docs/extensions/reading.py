"""What a page needs so that everybody can read it, and the theme does not give: levels, and words for machines.

The theme's captions are headings without a level, a long signature is a list of definitions that define nothing, and a
term has no link to itself as headings have. A search engine, or whoever passes a link on, gets the page's first
sentences and a picture of the whole.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes

CARD = "_static/card.png"

_SIGNATURE = re.compile(r"<dl>\n(?P<items>(?:<dd><em class=\"sig-param\">.*?</dd>\n)+)</dl>", re.DOTALL)
_TERM = re.compile(r"<dt id=\"(term-[\w-]+)\">(.*?)</dt>")
_ITEM = re.compile(r"<dd>(.*?)</dd>\n", re.DOTALL)
_DASH = re.compile(r"(<p>(?:<a [^>]*>)?<strong>[^\n]*?) -- ")
_LONGEST = 200


def mend(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Say what the theme leaves out, in one page."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        body = _TERM.sub(_with_link, _SIGNATURE.sub(_lines, context["body"]))
        context["body"] = _DASH.sub(r"\1 – ", body).replace(">Variables<span", ">Attributes<span")
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


def _with_link(found: re.Match[str]) -> str:
    link = f'<a class="headerlink" href="#{found[1]}" title="Link to this term">¶</a>'
    return f'<dt id="{found[1]}">{found[2]}{link}</dt>'


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", mend, priority=900)  # after the theme has made its tree
    return {"parallel_read_safe": True}
