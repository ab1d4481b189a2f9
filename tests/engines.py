"""The engines that the contract is tested with: each makes as many processes' ends of one server as a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from h3ref.engine import Engine, MemoryEngine, MemoryStore


@dataclass(frozen=True)
class Backend:
    """A server, as a test has it.

    Attributes:
        make: makes one more engine on it, as one more process would have it; it is still to be entered.
        lose: has it lose the last entry of a channel, as a failover can.
    """

    make: Callable[[], Engine]
    lose: Callable[[str], None]


@asynccontextmanager
async def memory() -> AsyncIterator[Backend]:
    store = MemoryStore()

    def lose(channel: str) -> None:
        store.channels[channel].pop()

    yield Backend(lambda: MemoryEngine(store), lose)


ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[Backend]]] = {"memory": memory}
"""By name. Each is entered for a test: it starts its server, and ends it."""
