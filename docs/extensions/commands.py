"""`{commands}`: the command line's reference, as the parsers say it."""

from __future__ import annotations

import argparse
import re
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from h3ref.cli.main import build_parser
from h3ref.cli.shared import EXIT_STATUSES

COLUMNS = 80
"""So that a command's usage fits into its block."""


class Commands(SphinxDirective):
    """A section for each command: what it does, how it is called, its arguments, and what else its help says."""

    def run(self) -> list[nodes.Node]:
        parser = build_parser()
        found: list[nodes.Node] = []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    found.append(self._section(name, command))
        found.append(_titled("Exit status", "exit-status", *_more(EXIT_STATUSES)[1:]))
        return found

    def _section(self, name: str, command: argparse.ArgumentParser) -> nodes.section:
        formatter = argparse.HelpFormatter(command.prog, width=COLUMNS)
        formatter.add_usage(command.usage, command._actions, command._mutually_exclusive_groups, prefix="")
        usage = formatter.format_help().strip()
        section = _titled(f"h3ref {name}", f"h3ref-{name}")
        section += _paragraph(command.description or "")
        section += nodes.literal_block(usage, usage, language="text")
        rows = [_row(action, command) for action in command._actions if not isinstance(action, argparse._HelpAction)]
        section += table(["argument", "meaning"], rows)
        section += _more((command.epilog or "").replace(EXIT_STATUSES, ""))
        return section


def _titled(title: str, target: str, *content: nodes.Node) -> nodes.section:
    return nodes.section("", nodes.title(text=title), *content, ids=[target], names=[target])


def _paragraph(text: str) -> nodes.paragraph:
    """Text in one paragraph, with what stands between backticks as code."""
    found = nodes.paragraph()
    for index, part in enumerate(" ".join(text.split()).split("`")):
        found += nodes.literal(text=part) if index % 2 else nodes.Text(part)
    return found


def _row(action: argparse.Action, command: argparse.ArgumentParser) -> list[nodes.Node]:
    formatter = command._get_formatter()
    wanted = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    forms = [f"{form} {wanted}".strip() for form in action.option_strings] or [str(action.metavar or action.dest)]
    names = nodes.paragraph()
    for number, form in enumerate(forms):
        names += [nodes.Text(", ")] if number else []
        names += nodes.literal(text=form)
    return [names, _paragraph(formatter._expand_help(action) if action.help else "")]


def _more(text: str) -> list[nodes.Node]:
    """The rest of a help text: each "heading:" with what is indented below it, or a plain paragraph."""
    found: list[nodes.Node] = []
    for part in text.strip("\n").split("\n\n"):
        heading, newline, body = part.partition(":\n")
        if newline:
            found += [nodes.paragraph(text=f"{heading.capitalize()}:"), _block(heading, body.rstrip())]
        elif part.strip():
            found.append(_paragraph(part))
    return found


def _block(heading: str, body: str) -> nodes.Node:
    """Examples as they are; items, each a name and its meaning, as a table; all else as a paragraph."""
    lines = [line.removeprefix("  ") for line in body.split("\n")]
    if heading.startswith("example"):
        return nodes.literal_block("\n".join(lines), "\n".join(lines), language="text")
    items = [re.fullmatch(r"(\S+)  +(\S.*)", line) for line in lines]
    if not all(items):
        return _paragraph(body)
    rows: list[list[nodes.Node]] = [
        [nodes.paragraph("", "", nodes.literal(text=item[1])), _paragraph(item[2])] for item in items if item
    ]
    return table(["status" if heading == "exit status" else heading.removesuffix("s"), "meaning"], rows)


def table(head: list[str], rows: list[list[nodes.Node]]) -> nodes.table:
    """A table of docutils, from the nodes of its cells."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in head)))
    group += nodes.tbody("", *(nodes.row("", *(nodes.entry("", cell) for cell in row)) for row in rows))
    return nodes.table("", group, classes=["colwidths-auto"])


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
