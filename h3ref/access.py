"""The access log: one line a request, when it is over, on the logger `h3ref.access` at level INFO."""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

SHOWN: Final = 1024
"""Characters of a path in a line; a longer one is cut there, and whole in the record."""

_UNSAFE = re.compile(r"[^!#-\[\]-~]")


class Access(NamedTuple):
    """What the access log says of one request; `str` makes the line. A log record has it as its attribute `access`.

    Neither the query nor a header is in it: clients that can set no header send their tokens in the query.

    Attributes:
        client: the client's address, as far as the adapter knows it; behind a proxy the proxy's. "" if it does not.
        method: the request's method; "" if it was refused before it could be read.
        path: the target up to its query, percent-encoded as it came; "" likewise.
        status: the answer's status; 0 if none was sent: the client had left, or a framework answered in our place.
        reason: why it is over, as `Reason` has it; "refused" where the adapter refused it before any handler.
        events: events of its stream.
        size: bytes of the answer, as `Stats` counts them.
        seconds: from the end of its head to the end of its answer.
    """

    client: str
    method: str
    path: str
    status: int
    reason: str
    events: int
    size: int
    seconds: float

    def __str__(self) -> str:
        line = f"{printable(self.method)} {printable(self.path[:SHOWN])}" if self.method else "-"
        return (
            f'{printable(self.client) or "-"} "{line}" {self.status or "-"} {self.reason}, '
            f"{self.events} events, {self.size} bytes, {self.seconds:.3f} s"
        )


def write(access: Access) -> None:
    """Log a request that is over; look at `log.isEnabledFor` before one is built."""
    log.info("%s", access, extra={"access": access})


def printable(text: str) -> str:
    r"""Return text in which whatever could forge a line or a field of a log is escaped, as \x0a."""
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
