"""Places in a page that Markdown marks by `<a id="L-17"></a>`: links from other pages may lead to them.

A code host knows such a place by itself. Here the item of a list that it stands in becomes a target of the page, beside
its headings, and the site's search finds it. Each term of a glossary is a target,
too: `[flow](glossary.md#term-flow)`.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes

_PLACE = re.compile(r'<a id="([\w-]+)">\s*$')
_ROW = re.compile(r'<tr id="(C-\d\d)">')
"""A row of a table that is HTML, named after the check that it is about."""


def mark(app: Any, doctree: nodes.document) -> None:
    """Make a target of what each place stands in, and tell those who resolve links of it."""
    slugs = dict(app.env.metadata[app.env.docname].get("myst_slugs", {}))
    listed: list[str] = []
    for raw in list(doctree.findall(nodes.raw)):
        if found := _PLACE.match(raw.astext()):
            name = found[1]
            after = raw.next_node(descend=False, siblings=True)
            if isinstance(after, nodes.raw) and after.astext() == "</a>":
                after.parent.remove(after)
            around = raw.parent.parent if isinstance(raw.parent.parent, nodes.list_item) else raw.parent
            around["ids"].append(name)
            raw.parent.remove(raw)
            slugs[name] = (raw.line, name, name)
            listed.append(name)
        listed += _ROW.findall(raw.astext())
    for term in doctree.findall(nodes.term):
        slugs.update((name, (term.line, name, term.astext())) for name in term["ids"])
    if app.env.docname.startswith("notebooks/"):
        listed = []  # a notebook that shows the rules is not where they stand
    # Sphinx has made the index of names by now, so that this is for the search alone.
    doctree.insert(0, addnodes.index(entries=[("single", name, name, "main", None) for name in listed]))
    app.env.metadata[app.env.docname].update(myst_slugs=slugs, places=listed)


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True}
