"""The port to an engine, through which the channels of several processes are one; and an engine in memory.

A `Channel` ends at its process. With an engine it does not: what one process publishes, all hear, in one order, and
whoever was cut off meanwhile reads what it lacks. `h3ref.redis` has the engine that does so by Redis or Valkey.
"""

from __future__ import annotations

from ..errors import EngineError, EngineRefused, EngineUnavailable, EngineUncertain
from .memory import MemoryEngine, MemoryStore
from .port import Engine, Entry, Hear, Lost

__all__ = [
    "Engine",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "EngineUncertain",
    "Entry",
    "Hear",
    "Lost",
    "MemoryEngine",
    "MemoryStore",
]
