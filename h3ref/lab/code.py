"""`CodeBeside`: pieces of code in columns, in colour, with the decisive line of each marked."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from .themed import style

Piece = str | Callable[..., Any] | Sequence[Callable[..., Any]]
"""Code: as text, or what it is the code of."""

_RULES: Final = """\
.h3code { display: flex; flex-wrap: wrap; gap: 12px; margin: 8px 0; }
.h3code figure { flex: 1 1 min(100%, 370px); margin: 0; min-width: 0; overflow: hidden;
  border: 1px solid var(--h3lab-edge); border-radius: 6px; }
.h3code figcaption { padding: 4px 10px; font: 600 14px/1.5 system-ui, sans-serif; text-align: left;
  color: var(--h3lab-ink); background: var(--h3lab-card); border-bottom: 1px solid var(--h3lab-edge); }
.h3lab.h3code figure pre { margin: 0; padding: 8px 0; background: none; border: 0; color: var(--h3lab-ink);
  white-space: normal;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.h3code pre .line { display: block; white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere;
  min-height: 1.5em; border-left: 4px solid transparent; font-weight: inherit; line-height: 1.5;
  padding: 0 8px 0 calc((var(--indent) + 2) * 1ch + 6px); text-indent: calc((var(--indent) + 2) * -1ch); }
.h3code pre .bug { background: var(--h3lab-bad-tint); border-color: var(--h3lab-bad); font-weight: 700; }
.h3code pre .fix { background: var(--h3lab-good-tint); border-color: var(--h3lab-good); font-weight: 700; }
.h3code .bug::after { content: "\\a0✗"; color: var(--h3lab-bad); }
.h3code .fix::after { content: "\\a0✓"; color: var(--h3lab-good); }
.h3code [class^="h3k"] { color: var(--h3lab-word); }
.h3code [class^="h3s"] { color: var(--h3lab-text); }
.h3code [class^="h3c"] { color: var(--h3lab-soft); font-style: italic; }
.h3code :is(.h3nf, .h3nd, .h3nc) { color: var(--h3lab-name); }
@media (max-width: 760px) { .h3code figure { flex-basis: 100%; } }
"""


class CodeBeside:
    """Code in columns, one below the other where a page is narrower than 760 pixels.

    As the last value of a notebook's cell it shows itself.

    Args:
        columns: by its heading, each piece.
        bug, fix: what the line has in it that is marked as the bug, or as a fix.

    Raises:
        ValueError: what is to be marked is in no line, or in several of one piece.
    """

    def __init__(self, columns: Mapping[str, Piece], *, bug: Sequence[str] = (), fix: Sequence[str] = ()) -> None:
        self._columns = {name: _text(piece).split("\n") for name, piece in columns.items()}
        self._marks = {part: "bug" for part in bug} | {part: "fix" for part in fix}
        for part in self._marks:
            counts = [sum(part in line for line in lines) for lines in self._columns.values()]
            if max(counts, default=0) != 1:
                raise ValueError(f"{part!r} is to mark one line, and is in {max(counts, default=0)} lines of a piece")

    def _mark(self, line: str) -> str:
        return next((mark for part, mark in self._marks.items() if part in line), "")

    def _repr_html_(self) -> str:
        figures = "\n".join(
            f"<figure><figcaption>{escape(name)}</figcaption><pre>{self._block(lines)}</pre></figure>"
            for name, lines in self._columns.items()
        )
        return f'{style(_RULES)}\n<div class="h3lab h3code">\n{figures}\n</div>'

    def _block(self, lines: Sequence[str]) -> str:
        """The lines as HTML: where a page drops its style, they are still lines, and the marked ones bold."""
        return "\n".join(self._lines(lines))

    def _lines(self, lines: Sequence[str]) -> Iterator[str]:
        formatter = HtmlFormatter(nowrap=True, classprefix="h3")
        coloured = highlight("\n".join(lines), PythonLexer(stripnl=False), formatter).rstrip("\n").split("\n")
        for line, html in zip(lines, coloured, strict=True):
            indent = len(line) - len(line.lstrip())
            mark = self._mark(line)
            name, told = ("b", f' aria-label="the {mark}"') if mark else ("span", "")
            html = html.replace("(</span>", "(</span><wbr>")  # a long call breaks before what it is given
            yield f'<{name} class="{f"line {mark}".strip()}"{told} style="--indent: {indent}">{html}</{name}>'

    def __repr__(self) -> str:
        """The pieces one below the other; before a marked line stands what it is."""
        parts = []
        for name, lines in self._columns.items():
            told = [f"{self._mark(line) and f'{self._mark(line)}:':5}{line}".rstrip() for line in lines]
            parts.append("\n".join([f"{name}", *told]))
        return "\n\n".join(parts)


def _text(piece: Piece) -> str:
    if isinstance(piece, str):
        return textwrap.dedent(piece).strip("\n")
    each = [piece] if callable(piece) else piece
    return "\n\n\n".join(textwrap.dedent(inspect.getsource(one)).strip("\n") for one in each)
