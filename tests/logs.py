"""Loggers, as tests leave them to each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def levels_of_logs() -> dict[str, int]:
    """The levels of the loggers that a test could leave set for those after it: the root, and ours."""
    ours = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "h3ref"]
    levels = {name: logging.getLogger(name).level for name in ["root", *ours]}
    return {name: level for name, level in levels.items() if level}


@contextmanager
def logs_kept() -> Iterator[None]:
    """Put the root's handlers and the levels back that something inside sets, such as a framework for itself."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], levels_of_logs()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in (dict.fromkeys(levels_of_logs(), logging.NOTSET) | levels).items():
            logging.getLogger(name).setLevel(level)
