"""Diagrams: drawn from the lifecycle's table and from recordings, never made up.

    from h3ref.lab import diagrams

    diagrams.save(diagrams.machine(), "machine.svg")
    diagrams.save(diagrams.side_by_side(broken, fixed), "bug.png")
    print(diagrams.mermaid_machine())

The drawn ones need matplotlib, of the extra `lab`; those as Mermaid text need nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .mermaid import mermaid_machine, mermaid_sequence

if TYPE_CHECKING:
    from .files import png, save, svg
    from .lanes import sequence, side_by_side
    from .states import machine
    from .streams import timeline

__all__ = [
    "machine",
    "mermaid_machine",
    "mermaid_sequence",
    "png",
    "save",
    "sequence",
    "side_by_side",
    "svg",
    "timeline",
]

_DRAWN = {
    "machine": ".states",
    "png": ".files",
    "save": ".files",
    "sequence": ".lanes",
    "side_by_side": ".lanes",
    "svg": ".files",
    "timeline": ".streams",
}


def __getattr__(name: str) -> Any:
    """Import what draws when it is first asked for, so that Mermaid text needs no matplotlib."""
    if name not in _DRAWN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_DRAWN[name], __name__), name)
