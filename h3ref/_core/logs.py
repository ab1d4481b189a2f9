"""Lines of a log: the access log's, text made fit for one line, and `LogLines`, which shows a record as one.

The access log gets one line for each request, when that is over, on the logger `h3ref.access` at level INFO.
"""

from __future__ import annotations

import logging
import re

access_log = logging.getLogger("h3ref.access")

_UNSAFE = re.compile(r"[^!#-\[\]-~]")


def write_access(access: object) -> None:
    """Log a request that is over, as a `stats.Access`; check `access_log.isEnabledFor` before building one."""
    access_log.info("%s", access, extra={"access": access})


def printable(text: str) -> str:
    r"""Return text in which everything that could forge a line or a field of a log is escaped, as in \x0a."""
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


class LogLines(logging.Formatter):
    """Formats a record as "error: Failed to get SSE writer"; a traceback follows on lines of its own.

    Args:
        tracebacks: whether one follows; without them a line is the same on every machine.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if self._tracebacks:
            return super().format(record)
        record.message = record.getMessage()
        return self.formatMessage(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.message}"
