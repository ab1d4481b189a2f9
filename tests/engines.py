"""The engines that the contract is tested with: each makes as many processes' ends of one server as a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from h3ref.engine import Engine, MemoryEngine, MemoryStore

Make = Callable[[], Engine]
"""Makes one more engine on the same server, as one more process would have it; it is still to be entered."""


@asynccontextmanager
async def memory() -> AsyncIterator[Make]:
    store = MemoryStore()
    yield lambda: MemoryEngine(store)


ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[Make]]] = {"memory": memory}
"""By name. Each is entered for a test: it starts its server, and ends it."""
