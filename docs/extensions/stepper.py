"""`{stepper}`: the bug and its fix beside each other, to be stepped through, with the steps as cards below."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from docs.generate import stepper


class SteppedThrough(SphinxDirective):
    """The stepper as HTML; other builders have its picture from the text around it."""

    def run(self) -> list[nodes.Node]:
        for path in sorted(stepper.FOLDER.iterdir()):
            self.env.note_dependency(str(path))
        builder = self.env.app.builder
        rules = builder.get_relative_uri(self.env.docname, "spec/rules") if builder.format == "html" else ""
        return [nodes.raw("", stepper.site_stepper(rules), format="html")]


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("stepper", SteppedThrough)
    return {"parallel_read_safe": True}
