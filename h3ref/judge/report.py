"""Reports: the judge's findings, as text that grows with each verdict, as JSON, or as a page."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .catalogue import Check
from .page import page_of
from .results import Results
from .verdict import Outcome, Verdict, shown

_STYLES: Final = {Outcome.PASSED: "32", Outcome.FAILED: "1;31", Outcome.NOT_APPLICABLE: "2", Outcome.NOT_RUN: "33"}
_BYTES: Final = 480
"""Bytes of the evidence that a text shows; JSON and the page have all."""
_BYTES_ARE: Final = "     bytes:  "
_INDENT: Final = len("C-07 ")
_BYTE: Final = re.compile(r"\\x..|\\.|.")  # as `shown` writes one


class Report(Protocol):
    """Is told what there is to show, in this order."""

    def begin(self, subject: str, checks: Sequence[Check]) -> None:
        """The judge begins: with what, and with which checks."""

    def tell(self, verdict: Verdict) -> None:
        """A check is done."""

    def end(self, results: Results) -> None:
        """All are."""


class Text:
    """Writes a line for each verdict as it comes, with the evidence and the remedy where it failed, and a summary.

    Args:
        write: takes text.
        coloured: whether there is a terminal that shows colours; it also shows how far the judge is.
        columns: how wide a line may be. No word is broken, and no escape of the bytes. 0: each line stays whole.
    """

    def __init__(self, write: Callable[[str], object], *, coloured: bool, columns: int = 0) -> None:
        self._write = write
        self._coloured = coloured
        self._columns = columns
        self._told = self._all = 0

    def begin(self, subject: str, checks: Sequence[Check]) -> None:
        """Say what is judged."""
        self._all = len(checks)
        self._write(self._folded(f"{subject}: {self._all} check{'' if self._all == 1 else 's'}", _INDENT))
        self._progress()

    def tell(self, verdict: Verdict) -> None:
        """Write its line, and what proves and mends it."""
        check, finding = verdict.check, verdict.finding
        self._told += 1
        outcome = f"{finding.outcome:<14}"
        text = self._folded(f"{check.id} {check.level:<6} {outcome} {check.title}: {finding.seen}", _INDENT)
        text = text.replace(outcome, self._paint(_STYLES[finding.outcome], outcome), 1)  # a colour takes no room
        if finding.outcome == Outcome.FAILED:
            if finding.evidence:
                cut = " ..." if len(finding.evidence) > _BYTES else ""
                text += self._bytes(f"{shown(finding.evidence[:_BYTES])}{cut}")
            text += self._folded(f"     remedy: {check.remedy} ({check.section})", len(_BYTES_ARE))
        self._write(("\r\x1b[K" if self._coloured else "") + text)
        self._progress()

    def end(self, results: Results) -> None:
        """Write how many checks of each level passed, and what failed."""
        counts = Counter(verdict.finding.outcome for verdict in results.verdicts)
        said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
        broken = [v for v in results.verdicts if v.finding.outcome == Outcome.FAILED]
        named = ", ".join(f"{verdict.check.id} ({verdict.check.level})" for verdict in broken)
        text = self._folded(f"{said or 'nothing was checked'}{'; ' if named else ''}{named}", _INDENT)
        self._write(("\r\x1b[K" if self._coloured else "") + text)

    def _folded(self, line: str, indent: int) -> str:
        """A line as wide as it may be; what goes on stands so far to the right."""
        if not self._columns:
            return f"{line}\n"
        lines = textwrap.wrap(
            line, self._columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
        return "".join(f"{part}\n" for part in lines)

    def _bytes(self, text: str) -> str:
        """The evidence, which is broken where the line is full: its blanks count, and it may have none."""
        if not self._columns:
            return f"{_BYTES_ARE}{text}\n"
        room = max(self._columns - len(_BYTES_ARE), len("\\xff"))
        parts = [""]
        for byte in _BYTE.findall(text):
            if len(parts[-1]) + len(byte) > room:
                parts.append("")
            parts[-1] += byte
        return _BYTES_ARE + f"\n{' ' * len(_BYTES_ARE)}".join(parts) + "\n"

    def _progress(self) -> None:
        if self._coloured and self._told < self._all:
            self._write(self._paint("2", f"{self._told} of {self._all} done"))

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._coloured else text


class Whole:
    """Writes all of it at the end, as JSON or as a page of HTML.

    Args:
        write: takes text.
        form: makes it of the results.
    """

    def __init__(self, write: Callable[[str], object], form: Callable[[Results], str]) -> None:
        self._write = write
        self._form = form

    def begin(self, subject: str, checks: Sequence[Check]) -> None:
        """Nothing is shown yet."""

    def tell(self, verdict: Verdict) -> None:
        """Nothing is shown yet."""

    def end(self, results: Results) -> None:
        """Write it."""
        self._write(self._form(results))


FORMATS: Final = ("text", "json", "html")


def report_as(form: str, write: Callable[[str], object], *, coloured: bool, columns: int) -> Report:
    """The report that writes in one of `FORMATS`; only a text is coloured, and as wide as it may be."""
    if form == "text":
        return Text(write, coloured=coloured, columns=columns)
    return Whole(write, Results.to_json if form == "json" else page_of)
