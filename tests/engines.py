"""The engines that the contract is tested with: each makes as many processes' ends of one server as a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from h3ref.engine import Engine, MemoryEngine, MemoryStore
from h3ref.redis import RedisEngine
from tests.cluster.servers import Kind, Missing, one_server, program
from tests.conftest import missing


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


async def _on(kind: Kind) -> AsyncIterator[Backend]:
    try:
        program(kind)
    except Missing as error:
        missing(str(error))
    with one_server(kind) as server:

        def lose(channel: str) -> None:
            key = f"h3ref:{{{channel}}}"
            last = server("XREVRANGE", key, "+", "-", "COUNT", 1)
            assert isinstance(last, list)
            assert isinstance(last[0], list)
            assert isinstance(last[0][0], bytes)
            server("XDEL", key, last[0][0])

        yield Backend(lambda: RedisEngine(server.url), lose)


ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[Backend]]] = {
    "memory": memory,
    "redis": asynccontextmanager(partial(_on, "redis")),
    "valkey": asynccontextmanager(partial(_on, "valkey")),
}
"""By name. Each is entered for a test: it starts its server, and ends it."""
