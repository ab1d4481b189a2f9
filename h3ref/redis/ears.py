"""`Ears`: hears what is published on the channels of a process, over one connection for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import anyio
from coredis.connection import BaseConnection

from ..engine.port import Entry, Hear, Lost
from .script import entry_of_message

AT_ONCE: Final = 500
"""The most channels that one command subscribes to."""


class Ears:
    """Subscribes to channels, and tells each of them what it hears.

    Args:
        timeout: seconds of silence after which the server is asked whether it is there, and that it may take to answer.
        last: called with a channel's key and the last entry that it has heard.
    """

    def __init__(self, timeout: float, last: Callable[[bytes, Entry], None]) -> None:
        self._timeout = timeout
        self._last = last
        self._listeners: dict[bytes, tuple[Hear, Lost]] = {}
        self._connection: BaseConnection | None = None

    def __contains__(self, key: bytes) -> bool:
        return key in self._listeners

    def add(self, key: bytes, hear: Hear, lost: Lost) -> None:
        """Tell a channel of what is published on it."""
        self._listeners[key] = (hear, lost)
        self._send(b"SUBSCRIBE", key)

    def discard(self, key: bytes) -> None:
        """Stop telling a channel."""
        if self._listeners.pop(key, None) is not None:
            self._send(b"UNSUBSCRIBE", key)

    def clear(self) -> None:
        """Stop telling anybody."""
        self._listeners.clear()

    def _send(self, command: bytes, *keys: bytes) -> None:
        if self._connection is not None and self._connection.usable:
            self._connection.send_command(command, *keys)

    async def listen(self, connection: BaseConnection) -> None:
        """Subscribe to all channels on a new connection, and tell what it brings, until it is lost."""
        self._connection = connection
        keys = iter(tuple(self._listeners))
        while some := tuple(islice(keys, AT_ONCE)):
            self._send(b"SUBSCRIBE", *some)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, connection, self._timeout)
                async for message in connection.push_messages:
                    self._tell([message, *pending(connection)])
        finally:
            self._connection = None

    def _tell(self, messages: Iterable[Any]) -> None:
        """Tell of messages that have come together: those of a channel as one."""
        entries: dict[bytes, list[Entry]] = {}
        for kind, key, *rest in messages:
            if kind == b"message" and key in self._listeners:
                entry = entry_of_message(rest[0])
                if entry is not None:
                    entries.setdefault(key, []).append(entry)
            elif kind == b"subscribe" and key in self._listeners:
                self._tell_entries(entries)
                self._listeners[key][1]()
        self._tell_entries(entries)

    def _tell_entries(self, entries: dict[bytes, list[Entry]]) -> None:
        while entries:
            key, some = entries.popitem()
            if key in self._listeners:
                self._last(key, some[-1])
                self._listeners[key][0](some)


async def watch(connection: BaseConnection, seconds: float) -> None:
    """Ask a server again and again whether it is there.

    Raises:
        TimeoutError: it does not answer.
    """
    while True:
        await connection.create_request(b"PING", timeout=seconds)
        await anyio.sleep(seconds)


def pending(connection: BaseConnection) -> Iterator[Any]:
    """Messages that came together, which would otherwise be given one by one, each in its own turn of the loop.

    coredis keeps them under this name; without it they come one by one.
    """
    buffer = getattr(connection, "_push_message_buffer_out", None)
    while buffer is not None:
        try:
            yield buffer.receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
            return
