"""The words of a page's text: where a line may end in them, and where they lead.

A browser may break a line at any hyphen, which makes two words of `L-17`, `UTF-8` and `--help`: here none breaks, nor
does a number with its unit. In a table a long name may break at its joints, so that columns find room, and a short one
stays whole. An error's text names its rule, and so do recordings: wherever a page shows the id of a rule or a check, it
is a link.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes

RULES = "spec/rules"

_PARTS = re.compile(r"(<!--.*?-->|<(script|style|svg|textarea|button)\b.*?</\2>|<[^>]+>)", re.DOTALL)
_TAG = re.compile(r"<(/?)(a|code|h[1-4]|pre|summary|td|th)\b")
_WHOLE = re.compile(r"(?<![\w&-])(?:[A-Z]+-\d+|--?[A-Za-z][a-z0-9-]*|\d[\d.,]* (?:s|ms|µs|h|[KM]i?B|GiB|%))(?![\w-])")
_LONG = {True: re.compile(r"\S{16,}"), False: re.compile(r"\S{36,}")}
"""What may break at its joints: within tables, and elsewhere, where a word can have a line to itself."""

_JOINT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_/(=:])(?=\w)|(?<=\w\.)(?!(?:js|json|md|py)\b)(?=\w)")
_NO_LINK = {"a", "h1", "h2", "h3", "h4", "summary"}


def mend(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Mark the words of one page."""
    if "body" in context and app.builder.format == "html":
        places = {
            place: f"{app.builder.get_relative_uri(pagename, name)}#{place}"
            for name, said in app.env.metadata.items()
            for place in said.get("places", ())
            if name != pagename or name == RULES  # the matrix has too many of its own
        }
        context["body"] = marked(context["body"], places)


def marked(body: str, places: dict[str, str]) -> str:
    """Mark the words in a piece of HTML.

    Args:
        body: the HTML.
        places: the address of each id that is documented.
    """
    pieces: list[str] = []
    inside: list[str] = []

    def mark(found: re.Match[str]) -> str:
        word = found[0]
        if word in places and _NO_LINK.isdisjoint(inside):
            return f'<a class="whole" href="{places[word]}">{word}</a>'
        return word if "pre" in inside else f'<span class="whole">{word}</span>'

    def words(text: str) -> str:
        if "th" in inside or ("code" in inside and "pre" not in inside):
            text = _LONG["th" in inside or "td" in inside].sub(lambda found: _JOINT.sub("<wbr>", found[0]), text)
        return _WHOLE.sub(mark, text)

    position = 0
    for part in _PARTS.finditer(body):
        pieces += [words(body[position : part.start()]), part[0]]
        position = part.end()
        if tag := _TAG.match(part[0]):
            if not tag[1]:
                inside.append(tag[2])
            elif tag[2] in inside:
                inside.remove(tag[2])
    return "".join([*pieces, words(body[position:])])


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True}
