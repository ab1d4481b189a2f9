"""A TCP proxy that does what networks do: stalls, cuts, refuses, and leads somewhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketStream, TaskGroup

from tests.ports import free_port

from .servers import HOST

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Proxy:
    """What comes to `port` goes on to `target`, another port of this machine.

    Attributes:
        port: where it listens, also when it refuses for a while.
        target: where it leads.
        accepted: how many connections it has had.
    """

    def __init__(self, target: int, tasks: TaskGroup) -> None:
        self.port = free_port()
        self.target = target
        self.accepted = 0
        self._tasks = tasks
        self._flowing = anyio.Event()
        self._flowing.set()
        self._connections: set[anyio.CancelScope] = set()
        self._listening = anyio.CancelScope()
        self._closed = anyio.Event()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def stall(self) -> None:
        """Pass nothing on, in any direction, and keep the connections: a network that drops packets."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()

    def go_on(self) -> None:
        """Pass on what waits, and what comes."""
        self._flowing.set()

    def cut(self) -> None:
        """Close all connections; new ones are taken."""
        for connection in self._connections:
            connection.cancel()

    async def refuse(self) -> None:
        """Close all connections and take none, until `accept`."""
        self._listening.cancel()
        await self._closed.wait()

    async def accept(self) -> None:
        """Take connections, again."""
        await self._tasks.start(self._listen)

    def retarget(self, target: int) -> None:
        """Lead new connections somewhere else, and close the others."""
        self.target = target
        self.cut()

    async def _listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        self._closed = anyio.Event()
        with anyio.CancelScope() as self._listening:
            async with await anyio.create_tcp_listener(local_host=HOST, local_port=self.port) as listener:
                task_status.started()
                await listener.serve(self._carry)  # each in a task of its own, which ends with the listener
        self._closed.set()

    async def _carry(self, client: SocketStream) -> None:
        self.accepted += 1
        with anyio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                async with client:
                    await self._flowing.wait()
                    with suppress(OSError):
                        server = await anyio.connect_tcp(HOST, self.target)
                        async with server, anyio.create_task_group() as ways:
                            ways.start_soon(self._pump, client, server, scope)
                            ways.start_soon(self._pump, server, client, scope)
            finally:
                self._connections.discard(scope)

    async def _pump(self, source: SocketStream, sink: SocketStream, scope: anyio.CancelScope) -> None:
        with suppress(*GONE):
            while True:
                data = await source.receive()
                await self._flowing.wait()
                await sink.send(data)
        scope.cancel()  # who is gone on one side is gone on the other


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port, for a while."""
    async with anyio.create_task_group() as tasks:
        proxy = Proxy(target, tasks)
        await proxy.accept()
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()
