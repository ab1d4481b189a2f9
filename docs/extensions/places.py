"""Places in a page that Markdown marks by `<a id="L-17"></a>`: links from other pages may lead to them.

A code host knows such a place by itself. Here it becomes a target of the page, beside its headings, and so does each
term of a glossary: `[flow](glossary.md#term-flow)`.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes

_PLACE = re.compile(r'<a id="([\w-]+)">\s*$')


def mark(app: Any, doctree: nodes.document) -> None:
    """Make a target of each place, and tell those who resolve links of it."""
    slugs = dict(app.env.metadata[app.env.docname].get("myst_slugs", {}))
    for raw in list(doctree.findall(nodes.raw)):
        if found := _PLACE.match(raw.astext()):
            name = found[1]
            after = raw.next_node(descend=False, siblings=True)
            if isinstance(after, nodes.raw) and after.astext() == "</a>":
                after.parent.remove(after)
            raw.replace_self(nodes.target("", "", ids=[name]))
            slugs[name] = (raw.line, name, name)
    for term in doctree.findall(nodes.term):
        slugs.update((name, (term.line, name, term.astext())) for name in term["ids"])
    app.env.metadata[app.env.docname]["myst_slugs"] = slugs


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True}
