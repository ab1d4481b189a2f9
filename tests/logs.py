"""Loggers, as tests leave them to each other."""

from __future__ import annotations

import logging


def levels_of_logs() -> dict[str, int]:
    """The levels of the loggers that a test could leave set for those after it: the root, and ours."""
    ours = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "h3ref"]
    levels = {name: logging.getLogger(name).level for name in ["root", *ours]}
    return {name: level for name, level in levels.items() if level}
