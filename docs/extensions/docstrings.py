"""Docstrings are plain text with `names` in it: this makes reStructuredText of them, before Sphinx reads them."""

from __future__ import annotations

import re
from typing import Any

from sphinx.ext.napoleon.docstring import GoogleDocstring

_PAGE = re.compile(r"\b((?:docs|spec)/[\w/-]+)\.md\b")
_CODE = re.compile(r"(`[^`]+`)")
SECTIONS = {"Args:", "Attributes:", "Raises:", "Returns:", "Yields:"}
"""What napoleon reads; any other line that ends with a colon, with indented ones below it, begins a list."""

_FIRST = 100
"""Before napoleon, which reads the sections."""


def to_rest(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Change the lines of a docstring in place: no `*` means emphasis, an indented block is code, a page is a link."""
    changed: list[str] = []
    listed = False
    if lines and lines[0].startswith("Create new instance of "):  # what Python says of a named tuple
        lines.clear()
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        before = lines[number - 1] if number else ""
        if indented and before.endswith(":") and not before.startswith(" ") and before not in SECTIONS:
            changed.append("")
            listed = True
        listed = listed and indented
        if listed:
            item = line.removeprefix("    ")
            changed.append(_escaped(f"  {item.strip()}" if item.startswith(" ") else f"- {item}"))
            continue
        if indented and number > 1 and not lines[number - 1].strip() and not _in_code(changed):
            changed += ["::", ""]
        changed.append(line if _in_code(changed) and indented else _escaped(line))
    if remedy := getattr(found, "remedy", None):
        changed += ["", f"Its text ends: “{_escaped(remedy)}”.", ""]
    lines[:] = changed


def skips(app: Any, what: str, name: str, found: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple that have no words of their own: the docstring of their class has them."""
    return True if str(getattr(found, "__doc__", None)).startswith("Alias for field number ") else None


def _in_code(before: list[str]) -> bool:
    """Whether the next indented line belongs to a block of code."""
    for line in reversed(before):
        if line.strip() and not line.startswith("    "):
            return line == "::"
    return False


def _escaped(line: str) -> str:
    parts = _CODE.split(line)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            plain = _PAGE.sub(r":doc:`/\1`", part.replace("*", r"\*"))
            parts[index] = rf"\ {plain}" if index and plain[:1].isalnum() else plain
        elif not re.fullmatch(r"`[\w.]+`", part):
            parts[index] = f"`{part}`"  # code, and no name that could be a link
    return "".join(parts)


def setup(app: Any) -> dict[str, bool]:
    # napoleon takes what stands before the first colon of a property's docstring for its type: here that is a sentence.
    GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end  # type: ignore[method-assign]
    app.connect("autodoc-process-docstring", to_rest, priority=_FIRST)
    app.connect("autodoc-skip-member", skips)
    return {"parallel_read_safe": True}
