"""The adapter that a notebook writes before its reader's eyes: the contract test runs on it as it stands there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "08-writing-an-adapter.ipynb"


def notebooks_serving() -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Run the cells that are tagged "adapter", and return the `serving` that they define."""
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if "adapter" in cell.metadata.get("tags", ())]
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell.source, f"{NOTEBOOK.name}, cell {cell.id}", "exec"), names)
    serving: Callable[..., AbstractAsyncContextManager[Any]] = names["serving"]
    return serving
