"""`Link`: one connection to the server, made again whenever it is lost."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis.connection import BaseConnection, TCPConnection, TCPLocation, UnixDomainSocketConnection
from coredis.exceptions import ConnectionError as LostConnection
from coredis.exceptions import RedisError, StalePrimaryError

from ..errors import EngineError, EngineRefused, EngineUnavailable
from .address import Address
from .faults import failure, is_ours

log = logging.getLogger("h3ref.redis")

PAUSES: Final = (0.05, 1.0)
"""Seconds between two attempts to connect: those after the first failure, and the most of all."""


class Link:
    """Holds one connection for as long as `run` runs; a server that falls silent is detected within three timeouts.

    Args:
        name: the name by which the server lists the connection.
        address: where the server is.
        sentinels: the sentinels to ask where it is; empty if the address says it.
        service: the service that they watch over.
        timeout: seconds that a connection, and each answer, may take.
        serve: runs beside each new connection; it is cancelled when that is lost.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        sentinels: Sequence[Address],
        service: str,
        timeout: float,
        serve: Callable[[BaseConnection], Awaitable[None]],
    ) -> None:
        self._name = name
        self._address = address
        self._sentinels = list(sentinels)
        self._service = service
        self._timeout = timeout
        self._serve = serve
        self._connection: BaseConnection | None = None
        self._changed = anyio.Event()
        self._failures = 0
        self.place = str(address)
        self.failure: EngineError = EngineUnavailable(f"the Redis server at {self.place} is not connected yet")

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and self._connection.usable

    async def ready(self, deadline: float, *, patient: bool = True) -> BaseConnection:
        """Wait for a connection.

        Args:
            deadline: the loop's time until which to wait.
            patient: whether to keep waiting after a refusal.

        Raises:
            EngineUnavailable, EngineRefused: why there was none in time.
        """
        while True:
            connection = self._connection
            if connection is not None and connection.usable:
                return connection
            if not patient and isinstance(self.failure, EngineRefused):
                raise self.failure
            with anyio.move_on_at(deadline) as waiting:
                await self._changed.wait()
            if waiting.cancelled_caught:
                raise type(self.failure)(str(self.failure))

    def reset(self) -> None:
        """Begin anew, maybe on another event loop; `run` comes next."""
        self._connection = None
        self._changed = anyio.Event()
        self._failures = 0

    async def run(self) -> None:
        """Hold a connection for ever."""
        is_ours.set(True)
        while True:
            try:
                async with self._opened() as connection:
                    self._failures = 0  # it has answered
                    self._set(connection)
                    await self._serve(connection)
            except Exception as error:  # whatever it is: nobody else would connect again
                self._set(None, failure(error, self.place))
            except BaseExceptionGroup as group:  # on trio: it has failed just as it was cancelled
                raise group.split(Exception)[1] or group from None
            else:
                self._set(None, EngineUnavailable(f"the Redis server at {self.place} has closed the connection"))
            self._failures += 1
            if self._failures == 1:
                log.warning("%s; trying again", self.failure)
            first, most = PAUSES
            await anyio.sleep(min(most, first * 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0))

    def _set(self, connection: BaseConnection | None, failure: EngineError | None = None) -> None:
        self._connection = connection
        if failure is not None:
            self.failure = failure
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[BaseConnection]:
        """Connect, and watch: the body is cancelled when the connection is lost or the server falls silent."""
        if self._sentinels:
            location = await self._located()
            self.place = f"{location.host}:{location.port}"
            address = self._address
            async with opened(location, self._timeout, name=self._name, **address.options) as connection:
                role = await connection.create_request(b"ROLE")
                if not (isinstance(role, list) and role and role[0] in (b"master", "master")):
                    raise StalePrimaryError(f"{self.place} is not a primary")
                yield connection
        else:
            assert self._address.location is not None
            options = self._address.options
            async with opened(self._address.location, self._timeout, name=self._name, **options) as connection:
                yield connection

    async def _located(self) -> TCPLocation:
        """Ask the sentinels where the primary is; one that knows is asked first next time."""
        why: EngineError = EngineUnavailable("no sentinel")
        for sentinel in tuple(self._sentinels):
            assert sentinel.location is not None
            try:
                async with opened(sentinel.location, self._timeout, **sentinel.options) as connection:
                    answer: Any = await connection.create_request(
                        b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode()
                    )
            except (RedisError, OSError, TimeoutError) as error:
                why = failure(error, str(sentinel))
                continue
            if answer:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                host, port = answer
                return TCPLocation(host.decode() if isinstance(host, bytes) else host, int(port))
            why = EngineRefused(f"the sentinel at {sentinel} knows no service {self._service!r}")
        raise why


@asynccontextmanager
async def opened(
    location: Any, seconds: float, *, name: str | None = None, **options: Any
) -> AsyncIterator[BaseConnection]:
    """Open a connection; the body is cancelled when it is lost. Each answer may take `seconds`.

    Raises:
        RedisError, OSError, TimeoutError: it can't be opened, or was lost.
    """
    kind = TCPConnection if isinstance(location, TCPLocation) else UnixDomainSocketConnection
    connection = kind(location, stream_timeout=seconds, connect_timeout=seconds, client_name=name, **options)
    failures: list[Exception] = []
    begun = False

    async def carry(*, task_status: TaskStatus[None]) -> None:
        try:
            await connection.run(task_status=task_status)
        except RedisError as error:  # it also stands for a cancellation, which comes again
            failures.append(error)
            if not begun:
                task_status.started()
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(carry)
            begun = True
            if not failures:
                try:
                    yield connection
                finally:
                    connection.invalidate()
                    tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
    finally:
        for kept in vars(connection).values():  # which coredis closes only where it has connected
            if isinstance(kept, MemoryObjectSendStream | MemoryObjectReceiveStream):
                kept.close()
    if not begun or failures:
        raise failures[0] if failures else LostConnection("lost as soon as it was there")
