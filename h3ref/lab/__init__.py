"""The laboratory: looks at the library from outside, with recordings, diagrams, benchmarks and the demo."""

from __future__ import annotations

from typing import Any


def load_ipython_extension(ipython: Any) -> None:
    """Let figures, lifecycles and recordings show themselves in Jupyter: `%load_ext h3ref.lab`."""
    from .diagrams import jupyter  # for whoever draws nothing, no matplotlib

    jupyter.register(ipython)
