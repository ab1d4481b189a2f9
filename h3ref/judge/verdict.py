r"""Verdicts: the result of a check, with the bytes that prove it.

verdict = Verdict(check, failed("it is text/html", b"Content-Type: text/html\r\n"))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from .catalogue import Check, Level


class Outcome(StrEnum):
    """What became of a check.

    NOT_APPLICABLE is for what there is nothing to look at, as HTTP/2 where it is not offered; NOT_RUN for what could
    not be looked at, because something else failed, is missing, or had no time left.
    """

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        outcome: what became of it.
        seen: what was seen, as a short clause that stands for itself.
        evidence: the bytes that prove it, as they were received or sent; few, so that a person can read them.
    """

    outcome: Outcome
    seen: str
    evidence: bytes = b""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found, and which check."""

    check: Check
    finding: Finding

    @property
    def is_fault(self) -> bool:
        """Whether a must does not hold."""
        return self.finding.outcome == Outcome.FAILED and self.check.level == Level.MUST


Tell = Callable[[Verdict], object]
"""What a judge calls with each verdict as soon as it is known, once for each check that it was asked for."""


def passed(seen: str, evidence: bytes = b"") -> Finding:
    """It holds."""
    return Finding(Outcome.PASSED, seen, evidence)


def failed(seen: str, evidence: bytes = b"") -> Finding:
    """It does not hold; the evidence shows it."""
    return Finding(Outcome.FAILED, seen, evidence)


def not_applicable(seen: str) -> Finding:
    """There is nothing to look at; `seen` says why."""
    return Finding(Outcome.NOT_APPLICABLE, seen)


def not_run(seen: str) -> Finding:
    """It could not be looked at; `seen` says why."""
    return Finding(Outcome.NOT_RUN, seen)


def faults(verdicts: Iterable[Verdict]) -> list[str]:
    """The ids of the musts that do not hold."""
    return [verdict.check.id for verdict in verdicts if verdict.is_fault]


_ESCAPES = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x5C: "\\\\"}


def shown(data: bytes) -> str:
    r"""Return bytes as a text that a person can read: \r, \n, \t, \\, and \x.. for what is not printable ASCII."""
    return "".join(_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in data)


def from_shown(text: str) -> bytes:
    """The bytes that `shown` made this text of.

    Raises:
        ValueError: it is not such a text.
    """
    back = {escape: bytes([byte]) for byte, escape in _ESCAPES.items()}

    def byte_of(found: re.Match[str]) -> str:
        part = found[0]
        if part.startswith("\\x"):
            return chr(int(part[2:], 16))
        return back[part].decode("latin-1")

    if not re.fullmatch(r"(?:[ -\[\]-~]|\\[nrt\\]|\\x[0-9a-f]{2})*", text):
        raise ValueError(f"these are not bytes as a report shows them: {text!r}")
    return re.sub(r"\\(?:x..|.)", byte_of, text).encode("latin-1")
