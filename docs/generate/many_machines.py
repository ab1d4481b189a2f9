"""Keep a run of notebook 10 beside it, for machines without a redis-server: `python -m docs.generate.many_machines`."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
from typing import Any

import nbformat

from .execute import NOTEBOOKS

NOTEBOOK = NOTEBOOKS / "10-many-machines.ipynb"
KEPT = NOTEBOOKS / "results" / "many-machines.json"


async def run() -> Any:
    """Run the notebook's cells up to the one that has the story, and return that."""
    names: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code" and "story" not in names:
            result = eval(compile(cell.source, cell.id, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.isawaitable(result):
                await result
    return names["story"]


def main() -> None:
    """Run it, and write what has happened."""
    os.chdir(NOTEBOOKS)
    asyncio.run(run()).save(KEPT)


if __name__ == "__main__":
    main()
