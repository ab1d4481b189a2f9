"""A channel as most make it: published by PUBLISH, heard by SUBSCRIBE, and subscribed again after a fault.

The oracle has to find what it loses. It is also the least that a trial needs to run.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from h3ref import Channel, SSEEvent
from h3ref.engine import EngineUncertain

from .servers import HOST, Call


class NaiveChannel(Channel):
    """Such a channel, by the server at a port."""

    def __init__(self, port: int, **options: Any) -> None:
        super().__init__(**options)
        self._port = port
        self._call: Call | None = None
        self._tasks = anyio.create_task_group()
        self._connected = False

    def is_connected(self) -> bool:
        """Whether it hears."""
        return self._connected

    async def publish(self, event: SSEEvent | str) -> None:
        data = event.data if isinstance(event, SSEEvent) else event
        await anyio.lowlevel.checkpoint()
        try:
            if self._call is None:
                self._call = Call(self._port)
            self._call("PUBLISH", self.name, data or "")
        except OSError as error:
            self._call = None
            raise EngineUncertain("no answer") from error

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        if self._call is not None:
            self._call.close()

    async def _run(self) -> None:
        while True:
            try:
                async with await anyio.connect_tcp(HOST, self._port) as stream:
                    await stream.send(f"SUBSCRIBE {self.name}\r\n".encode())
                    source = BufferedByteReceiveStream(stream)
                    while True:
                        await self._hear(source)
            except (OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                self._connected = False
                await anyio.sleep(0.05)

    async def _hear(self, source: BufferedByteReceiveStream) -> None:
        parts = []
        for _ in range(int((await source.receive_until(b"\r\n", 100))[1:])):
            line = await source.receive_until(b"\r\n", 100)
            if line[:1] == b":":
                self._connected = True
            else:
                parts.append((await source.receive_exactly(int(line[1:]) + 2))[:-2])
        if parts[0] == b"message":
            await super().publish(SSEEvent(parts[2].decode()))
