"""`RedisEngine`: an engine on Redis or Valkey."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup
from coredis.connection import BaseConnection
from coredis.exceptions import ConnectionError as LostConnection
from coredis.exceptions import NoScriptError, RedisError

from ..engine.port import Entry, Hear, Lost
from ..engine.tasks import EngineTasks
from ..errors import EngineError, EngineRefused, EngineUnavailable, EngineUncertain
from .address import addresses
from .ears import Ears, watch
from .faults import is_passing, refusal
from .link import Link
from .script import APPEND, DIGEST, entry_of

PAUSE: Final = 0.05
"""Seconds until a failed attempt is made again."""

READS: Final = 100
"""Reads at a time. A server that is asked for thousands of channels at once answers the last of them
too late, and the connection would be given up."""

MOST_KNOWN: Final = 10_000
"""Channels whose last entry is known, besides those that are listened to."""


class RedisEngine(EngineTasks):
    """An engine on Redis 6.2 or later, or on Valkey: it makes the channels of several processes one.

    It holds two connections, whatever the number of channels and streams, and makes them again when they are lost. The
    server keeps the last events of each channel in a stream named `prefix:{name}`.

    Enter it for as long as the app runs, ideally as the app's lifespan, `H3App(lifespan=engine)`, or inside another
    lifespan with `async with engine`. Entering waits until the server is there.

    Args:
        url: `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS, or `unix:///path`.
        prefix: the beginning of the names of all its keys.
        ttl: seconds after the last event of a channel at which its key expires, so that unused channels are no burden;
            None for never.
        timeout: seconds that a connection and an answer may take; a server that falls silent is detected within three
            times that.
        patience: seconds for which `publish`, and entering, keep trying through failures and failovers.
        replicas: how many replicas have to have an event before `publish` returns.
        sentinels: the sentinels that know where the primary is, as "host:port" or (host, port), instead of a host in
            `url`.
        service: the name of the service that they watch over.

    Raises:
        ValueError: not a URL, or not an address; or a number that is too small.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "h3ref",
        ttl: float | None = 86400,
        timeout: float = 2,
        patience: float = 5,
        replicas: int = 0,
        sentinels: Sequence[str | tuple[str, int]] = (),
        service: str | None = None,
    ) -> None:
        super().__init__()
        address, asked = addresses(url, sentinels, service)
        for name, value in (("ttl", ttl), ("timeout", timeout), ("patience", patience)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is a number of seconds above 0, not {value}")
        if replicas < 0:
            raise ValueError(f"replicas is how many replicas must have an event, 0 or more, not {replicas}")
        self._prefix = prefix
        self._ttl = 0 if ttl is None else max(1, int(ttl * 1000))
        self._timeout = timeout
        self._patience = patience
        self._replicas = replicas
        self._reads: anyio.Semaphore
        self._known: dict[str, str] = {}  # the id of the last entry that is known, by channel
        self._channels: dict[bytes, str] = {}  # their names, by their keys, of those that are listened to
        self._ears = Ears(timeout, self._heard)
        place = (address, asked, service or "", timeout)
        self._commands = Link("h3ref:commands", *place, self._keep)
        self._events = Link("h3ref:events", *place, self._ears.listen)

    @asynccontextmanager
    async def _run(self, tasks: TaskGroup) -> AsyncIterator[None]:
        self._known.clear()
        self._reads = anyio.Semaphore(READS)
        async with anyio.create_task_group() as links:
            for link in (self._commands, self._events):
                link.reset()
                links.start_soon(link.run)
            try:
                deadline = anyio.current_time() + self._patience
                for link in (self._commands, self._events):
                    await link.ready(deadline, patient=False)
                yield
            finally:
                self._ears.clear()
                self._channels.clear()
                links.cancel_scope.cancel()

    @property
    def connected(self) -> bool:
        """`Engine`: whether both connections are there."""
        return self._tasks is not None and self._commands.connected and self._events.connected

    # -- keeping

    async def append(
        self,
        channel: str,
        data: bytes,
        *,
        nonce: str,
        keep: int,
        since: str | None = None,
        event_id: str | None = None,
        fence: bool = False,
    ) -> str:
        """`Engine`: append an entry; repeated, without a second entry, until `patience` is over."""
        self._entered()
        known = self._known.get(channel, "") if since is None else since
        deadline = anyio.current_time() + self._patience
        failure: EngineError | None = None
        search = since is not None
        while True:
            try:
                connection = await self._commands.ready(deadline)
            except EngineError as error:
                raise (failure or error) from None
            arguments = (
                *(self._key(channel), nonce.encode(), b"1" if fence else b"0", (event_id or "").encode(), data),
                *(b"%d" % keep, b"%d" % self._ttl, known.encode(), b"1" if search else b"0", known.encode()),
            )
            try:
                id = await self._appended(connection, channel, arguments)
            except EngineUncertain as error:
                failure, search = error, True
            except EngineUnavailable as error:
                failure = failure if isinstance(failure, EngineUncertain) else error
            except _NotNow as error:
                if not isinstance(failure, EngineUncertain):
                    failure = error.refusal
            else:
                if not id:
                    raise EngineUncertain(f"it can't be told whether an event of channel {channel!r} is stored")
                self._know(channel, id)
                return id
            if anyio.current_time() + PAUSE >= deadline:
                raise failure
            await anyio.sleep(PAUSE)

    async def _appended(self, connection: BaseConnection, channel: str, arguments: tuple[bytes, ...]) -> str:
        """Ask once; "" if it can't be told whether it was stored before."""
        what = f"channel {channel!r}"
        place = self._commands.place
        if not connection.usable:
            raise EngineUnavailable(f"the connection to the Redis server at {place} was lost")
        try:
            try:
                answer = await connection.create_request(b"EVALSHA", DIGEST, b"1", *arguments)
            except NoScriptError:
                answer = await connection.create_request(b"EVAL", APPEND, b"1", *arguments)
            if answer and self._replicas:
                milliseconds = int(self._timeout * 1000)
                got = await connection.create_request(
                    b"WAIT", b"%d" % self._replicas, b"%d" % milliseconds, timeout=2 * self._timeout
                )
                if not isinstance(got, int) or got < self._replicas:
                    raise EngineUncertain(f"an event of {what} is stored, but too few replicas have it: {got!r}")
        except (TimeoutError, LostConnection) as error:
            if is_passing(error):
                raise _NotNow(refusal(error, place, what)) from None
            connection.invalidate()
            raise EngineUncertain(
                f"the Redis server at {place} has not answered: an event of {what} may be stored, or not"
            ) from None
        except RedisError as error:
            if is_passing(error):
                connection.invalidate()  # another server may have taken over
                raise _NotNow(refusal(error, place, what)) from None
            raise refusal(error, place, what) from None
        assert isinstance(answer, bytes)
        return answer.decode()

    async def read(self, channel: str, after: str, most: int) -> list[Entry]:
        """`Engine`: return entries; it waits for a connection for as long as `patience` says."""
        self._entered()
        begin = after.rpartition("-")[0].encode() if after else b"-"
        asked = (b"XRANGE", self._key(channel), begin, b"+", b"COUNT", b"%d" % most)
        deadline = anyio.current_time() + self._patience
        await self._commands.ready(deadline)
        async with self._reads:
            items = await self._read(channel, asked, deadline)
        assert isinstance(items, list)
        return [entry_of(item) for item in items]

    async def _read(self, channel: str, asked: tuple[bytes, ...], deadline: float) -> object:
        connection = await self._commands.ready(deadline)
        try:
            return await connection.create_request(*asked)
        except (TimeoutError, LostConnection):
            connection.invalidate()
            raise EngineUnavailable(f"the Redis server at {self._commands.place} has not answered") from None
        except RedisError as error:
            raise refusal(error, self._commands.place, f"channel {channel!r}") from None

    async def _keep(self, connection: BaseConnection) -> None:
        """Watch the connection for commands."""
        await watch(connection, self._timeout)

    # -- listening

    def listen(self, channel: str, hear: Hear, lost: Lost) -> None:
        """`Engine`: have a function called with what is appended."""
        self._entered()
        key = self._key(channel)
        if key in self._ears:
            raise ValueError(f"{self!r} already has a channel {channel!r}: share one Channel of that name")
        self._channels[key] = channel
        self._ears.add(key, hear, lost)

    def unlisten(self, channel: str) -> None:
        """`Engine`: stop calling the functions."""
        key = self._key(channel)
        self._channels.pop(key, None)
        self._ears.discard(key)

    def _heard(self, key: bytes, entry: Entry) -> None:
        self._know(self._channels[key], entry.id)

    def _know(self, channel: str, id: str) -> None:
        self._known.pop(channel, None)
        self._known[channel] = id
        if len(self._known) > MOST_KNOWN + len(self._channels):
            del self._known[next(iter(self._known))]

    def _key(self, channel: str) -> bytes:
        return f"{self._prefix}:{{{channel}}}".encode()

    def __repr__(self) -> str:
        return f"<RedisEngine at {self._commands.place}>"


class _NotNow(Exception):
    """The server has done nothing, but may do it soon."""

    def __init__(self, refusal: EngineRefused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
