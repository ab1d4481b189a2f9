"""`LogLines`: a log record as the seeds show it, "level: message"."""

from __future__ import annotations

import logging


class LogLines(logging.Formatter):
    """Formats a record as "error: Failed to get SSE writer"; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.message}"
