"""`Server`: listens, accepts clients, and ends in order."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import anyio
import h11

from ..._core.lifespan import Held
from ..._core.parking import Parking
from ..._core.service import Service
from ...stats import Stats
from .guard import Head
from .listeners import listen
from .loop import Loop
from .peer import ClientConnection
from .sockets import READ_SIZE, bound_silence
from .tasks import Tasks

log = logging.getLogger(__name__)

ACCEPTS_A_TURN = 64

FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""What a client is told for whom there is no room."""


class Server:
    """An app on a port of this machine, HTTP/1.1 in the clear.

    Attributes:
        host: the host it was told to listen on.
        port: the port it listens on.
    """

    def __init__(self, service: Service, host: str, port: int, flush_gap: float) -> None:
        self._listeners = listen(host, port)
        for listener in self._listeners:
            bound_silence(listener, service.limits.send_timeout)
        self.service = service
        self.host = host
        self.loop = Loop(flush_gap, service.limits, service.streams.stop)
        self.port: int = self._listeners[0].getsockname()[1]
        self._clients: set[ClientConnection] = set()
        service.count_connections = self._clients.__len__
        self._by_address: Counter[str] = Counter()  # empty without a limit for each
        self._changed: anyio.Event | None = None  # set when a client has left; made by who waits for that
        self._tasks: Tasks

    @property
    def url(self) -> str:
        """Where a client on this machine finds it, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_accepting(self) -> bool:
        """Whether it takes new connections, and further requests on those it has."""
        return not self.service.stopping

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def stats(self) -> Stats:
        """Return the figures as they are now."""
        return self.service.stats()

    @asynccontextmanager
    async def serving(self, grace: float, stuck: Callable[[], None]) -> AsyncIterator[None]:
        """Enter the app's lifespan, serve while the body runs, then shut down within `grace` seconds, and leave it.

        `stuck` is called when user code is still running after that, which can't be ended; it is waited for.

        Raises:
            Exception: what the lifespan raised.
        """
        failure: Exception | None = None
        body = anyio.CancelScope()
        try:
            async with Held(self.service.app.lifespan(), body.cancel) as held, anyio.create_task_group() as tasks:
                self._tasks = Tasks(tasks, self._cancel)
                tasks.start_soon(self.loop.run)
                tasks.start_soon(self.service.streams.run)
                for listener in self._listeners:
                    tasks.start_soon(self._accept, listener)
                try:
                    with body:
                        yield
                except Exception as error:  # carried past the task group, which would wrap it
                    failure = error
                finally:
                    over = anyio.current_time() + grace
                    with anyio.CancelScope(shield=True):
                        await self._shut_down(grace, stuck)
                    held.seconds = max(over - anyio.current_time(), grace * 0.1)
                    self.loop.stop()
                    tasks.cancel_scope.cancel()
        finally:
            self._close_listeners()
            self.loop.watcher.release()
        if failure is not None:
            raise failure

    async def _accept(self, listener: socket.socket) -> None:
        """Have connections taken as they come, by the watcher; this task only waits for that to fail."""
        failed = Parking()
        while self.is_accepting:
            self.loop.watcher.watch(listener, lambda: self._take_connections(listener, failed))
            await failed.wait()
            # Out of descriptors or memory: those who wait in the backlog are served when some are free again.
            await anyio.sleep(0.1)

    def _take_connections(self, listener: socket.socket, failed: Parking) -> None:
        try:
            for _ in range(ACCEPTS_A_TURN):
                self._begin(*listener.accept())
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("accepting a connection failed: %s", error)
            self.loop.watcher.discard(listener)
            failed.wake()

    def _begin(self, sock: socket.socket, peer: Sequence[Any]) -> None:
        limits = self.service.limits
        sock.setblocking(False)
        if limits.connections is not None and len(self._clients) >= limits.connections:
            self._turn_away(sock, peer[0], "connections")
            return
        address = None
        if limits.connections_per_address is not None:
            address = network_of(peer[0])
            if self._by_address[address] >= limits.connections_per_address:
                self._turn_away(sock, peer[0], "connections_per_address")
                return
        try:
            client = ClientConnection(sock, self, address)
        except OSError as error:
            log.debug("a client left at once: %s", error)
            sock.close()
            return
        self._clients.add(client)
        if address is not None:
            self._by_address[address] += 1
        try:
            client.begin()
        except Exception:
            log.exception("serving a connection failed")
            client.release()

    def _turn_away(self, sock: socket.socket, host: str, limit: str) -> None:
        """Say that there is no room, in one packet and without waiting: a storm must cost no more than that."""
        self.service.refused[limit] += 1
        log.debug("a connection was refused: limit %s", limit)
        with suppress(OSError):
            with suppress(BlockingIOError):
                sock.recv(READ_SIZE)  # unread bytes would make closing cost the client the answer
            sock.send(FULL)
        self.service.log_refusal(host, 503, len(FULL))
        sock.close()

    def answer(self, client: ClientConnection, request: Head | h11.RemoteProtocolError) -> None:
        """Start a task that answers a client's request, or refuses it."""
        self._tasks.start(client.serve, request)

    def _cancel(self) -> None:
        for exchange in list(self.service.live):
            exchange.cancel()

    def discard(self, client: ClientConnection) -> None:
        """A client's socket is closed; or a task that had still to end after that is over."""
        if client in self._clients:
            self._clients.discard(client)
            if client.address is not None:
                self._by_address[client.address] -= 1
                if not self._by_address[client.address]:
                    del self._by_address[client.address]
        if self._changed is not None:
            self._changed.set()

    async def _shut_down(self, grace: float, stuck: Callable[[], None]) -> None:
        """Accept no more; end the streams; let plain handlers finish; then cut what is left."""
        self.service.stopping = True
        self._close_listeners()
        for client in list(self._clients):
            client.release_if_idle()
        with anyio.move_on_after(grace * 0.8):
            await self.service.shut_down(within=grace * 0.4)
            await self._until_idle()
        if self._is_busy:
            log.warning(
                "%d connections are still open, and %d requests not over, after %g s: they are cut",
                len(self._clients),
                len(self.service.live),
                grace * 0.8,
            )
            for exchange in list(self.service.live):
                exchange.shut_down()
                exchange.abandon(within=grace * 0.1)
            with anyio.move_on_after(grace * 0.1):
                await self._until_idle()
            for client in self._clients:
                client.cut()
            with anyio.move_on_after(grace * 0.1):
                await self._until_idle()
        if self._is_busy:
            stuck()
            await self._until_idle()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self.loop.watcher.discard(listener)
                listener.close()

    @property
    def _is_busy(self) -> bool:
        """Whether a client is connected, or something is still run for one that was."""
        return bool(self._clients or self.service.live)

    async def _until_idle(self) -> None:
        while self._is_busy:
            self._changed = anyio.Event()
            await self._changed.wait()

    def __repr__(self) -> str:
        return f"<Server {self.url}, {len(self._clients)} connections>"


def network_of(host: str) -> str:
    """What connections are counted by: the address, or for IPv6 the network of 64 bits that one client has at least."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ip_network((address, 64), strict=False))
