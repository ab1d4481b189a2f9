"""`LogLines`: a log record as the seeds show it, "level: message"; `captured_log` collects them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class LogLines(logging.Formatter):
    """Formats a record as "error: Failed to get SSE writer"; a traceback follows on lines of its own.

    Args:
        tracebacks: whether it does; without them a line is the same on every machine.
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


def is_of_a_step(record: logging.LogRecord) -> bool:
    """Whether a record tells of one step, as the seeds' lines do, and not of a whole exchange as the access log's."""
    return record.name != "h3ref.access"


@contextmanager
def captured_log(*, tracebacks: bool = True) -> Iterator[list[str]]:
    """Collect what the package logs, as lines "level: message"."""
    lines: list[str] = []
    logger = logging.getLogger("h3ref")
    handler, level = _Collector(lines), logger.level
    handler.setFormatter(LogLines(tracebacks=tracebacks))
    handler.addFilter(is_of_a_step)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
