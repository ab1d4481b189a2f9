"""The port to an engine, which makes the channels of several processes one; and an engine in memory.

A `Channel` ends at its process. With an engine it does not: what one process publishes, all of them hear, in one order,
and a process that was cut off meanwhile reads what it missed. `h3ref.redis` has the engine for Redis and Valkey.
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
