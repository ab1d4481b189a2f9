"""`{limits}`: the table of what a server allows, from `Limits` and its docstring."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from docs.extensions.commands import table
from h3ref import Limits


class LimitsTable(SphinxDirective):
    """A row for each limit: its name, its default, and what the docstring says of it."""

    def run(self) -> list[nodes.Node]:
        text = (inspect.getdoc(Limits) or "").partition("Args:")[2]
        said = dict(re.findall(r"^ {4}(\w+): (.+?)$", text.replace("\n        ", " "), re.MULTILINE))
        rows = []
        for field in fields(Limits):
            meaning = nodes.paragraph()
            children, messages = self.parse_inline(said[field.name].replace("`", "``"))
            meaning += [*children, *messages]
            said_by_default = "None" if field.default is None else f"{field.default:,}"
            default = nodes.paragraph("", "", nodes.literal(text=said_by_default))
            rows.append([nodes.paragraph("", "", nodes.literal(text=field.name)), default, meaning])
        return [table(["limit", "default", "meaning"], rows)]


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("limits", LimitsTable)
    return {"parallel_read_safe": True}
