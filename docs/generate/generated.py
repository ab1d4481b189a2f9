"""Generated parts of a Markdown file, each between `<!-- generated: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

_PART = re.compile(r"^<!-- generated: (?P<name>\w+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)


def render(text: str, parts: Mapping[str, Iterable[str]]) -> str:
    """Return the file's text with its generated parts made new.

    Args:
        parts: by name, the lines of each.

    Raises:
        ValueError: the markers are not those of the parts, each once.
    """
    found = [part["name"] for part in _PART.finditer(text)]
    if sorted(found) != sorted(parts):
        raise ValueError(f"the generated parts must be {', '.join(parts)}, each once; found: {', '.join(found)}")
    return _PART.sub(lambda part: _part(part["name"], parts[part["name"]]), text)


def drifted(text: str, parts: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of the parts that differ from what they are generated from.

    Raises:
        ValueError: as `render`.
    """
    fresh = _PART.finditer(render(text, parts))
    return [old["name"] for old, new in zip(_PART.finditer(text), fresh, strict=True) if old[0] != new[0]]


def update(page: Path, parts: Callable[[], Mapping[str, Iterable[str]]], *, check: bool, command: str) -> int:
    """Make a page's generated parts new, or only look whether they are; return the exit status of a command for it.

    Args:
        page: the Markdown file.
        parts: makes the parts; what it raises as OSError or ValueError is told, and the status is 1.
        check: change nothing; the status is 1 if a part has drifted.
        command: what the reader runs to have the page written.
    """
    try:
        fresh = {name: list(lines) for name, lines in parts().items()}
        text = page.read_text(encoding="utf-8")
        stale = drifted(text, fresh)
    except (OSError, ValueError) as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 1
    if not check:
        page.write_text(render(text, fresh), encoding="utf-8")
    elif stale:
        print(f"{page}: drifted: {', '.join(stale)}; run {command}", file=sys.stderr)
        return 1
    return 0


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool | Collection[str] = False
) -> Iterator[str]:
    """The lines of a Markdown table; with numbers, these columns are set flush right, or all but the first."""
    right = head[1:] if numbers is True else numbers or ()
    rule = ["--:" if name in right else "---" for name in head]
    for row in (head, rule, *rows):
        yield f"| {' | '.join(row)} |"


def _part(name: str, lines: Iterable[str]) -> str:
    body = "\n".join(lines).strip("\n")
    return f"<!-- generated: {name} -->\n\n{body}\n\n<!-- end -->"
