"""`captured_log`: what the package logs, as lines "level: message"."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from h3ref._core.logs import LogLines


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
