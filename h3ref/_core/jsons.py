"""`read_json`: reads a JSON file that a person may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: str | Path) -> Any:
    """Return what a file holds.

    Raises:
        OSError: it can't be read.
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
