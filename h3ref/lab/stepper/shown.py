"""`Stepper`: the stepper in a notebook, in a frame of its own, or as a picture where no script may run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path

from .columns import Column, rows_of
from .frames import frames_of
from .page import page
from .words import clock, has, label, sentence, summary

HEIGHT = 900
"""Pixels that its frame is high until the program in it has measured."""


class Stepper:
    """Recordings to step through. As the last value of a notebook's cell it shows itself.

    Args:
        columns: one recording, or two.

    Raises:
        ValueError: as `fragment`.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._page = page(columns)

    def save(self, path: str | Path) -> None:
        """Write it as a page of its own, which needs no other file.

        Raises:
            OSError: the file can't be written.
        """
        Path(path).write_text(self._page, encoding="utf-8", newline="\n")

    def _repr_html_(self) -> str:
        """A frame with the page. Where a notebook is not trusted, it and the style are left out, and a table shows."""
        return (
            f'<div class="h3step-still">{self._still()}</div>\n'
            "<style>.h3step-still:has(~ .h3step-frame) { display: none }</style>\n"
            f'<iframe class="h3step-frame" title="{escape(self._title)}, step by step" width="100%" height="{HEIGHT}" '
            f'style="border: 0" srcdoc="{escape(self._page)}"></iframe>'
        )

    def __repr__(self) -> str:
        """What each step of the slider says, as text."""
        rows = [rows_of(column.records) for column in self._columns]
        lines = []
        for frame in frames_of(rows):
            said = [
                sentence(column.title, moment, those[moment.row] if moment.row >= 0 else None)
                for column, those, moment in zip(self._columns, rows, frame.moments, strict=True)
            ]
            lines.append(f"{clock(max(moment.time for moment in frame.moments)):>7}  {' '.join(said)}")
        return "\n".join(lines)

    @property
    def _title(self) -> str:
        return " and ".join(column.title for column in self._columns)

    def _still(self) -> str:
        rows = [rows_of(column.records) for column in self._columns]
        last = frames_of(rows)[-1]
        heads = "".join(f"<th>{escape(column.title)}</th>" for column in self._columns)
        cells = [[", ".join(label(row, arrow) for arrow in row.arrows) or row.words for row in those] for those in rows]
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>"
            for line in zip_longest(*cells, fillvalue="")
        )
        ends = "".join(f"<td><b>The client has {escape(has(moment))}</b></td>" for moment in last.moments)
        says = "".join(
            f"<p><b>{escape(column.title)}</b>: {escape((column.says or summary(those, moment)).replace('`', ''))}</p>"
            for column, those, moment in zip(self._columns, rows, last.moments, strict=True)
        )
        return f"{says}<table><tr>{heads}</tr>{body}<tr>{ends}</tr></table>"
