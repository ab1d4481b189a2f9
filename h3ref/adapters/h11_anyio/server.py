"""`Server`: listens, accepts clients, and ends in order."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import h11

from ...exchange import Service
from ...lifecycle import State
from .loop import Loop
from .peer import ClientConnection
from .tasks import Tasks

log = logging.getLogger(__name__)

ACCEPTS_A_TURN = 64
BACKLOG = 4096


class Server:
    """An app on a port of this machine, HTTP/1.1 in the clear.

    Attributes:
        host: the host it was told to listen on.
        port: the port it listens on.
    """

    def __init__(self, service: Service, host: str, port: int, flush_gap: float) -> None:
        self._listeners = _listen(host, port)
        self.service = service
        self.host = host
        self.loop = Loop(flush_gap, service.limits.close_timeout, service.limits.keep_alive)
        self.port: int = self._listeners[0].getsockname()[1]
        self._clients: set[ClientConnection] = set()
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
        return self.loop.accepting

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @asynccontextmanager
    async def serving(self, grace: float, stuck: Callable[[], None]) -> AsyncIterator[None]:
        """Serve while the body runs, then shut down within `grace` seconds.

        `stuck` is called when user code is still running after that, which can't be ended; it is waited for.
        """
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = Tasks(tasks, self._cancel)
                tasks.start_soon(self.loop.run)
                for listener in self._listeners:
                    tasks.start_soon(self._accept, listener)
                try:
                    yield
                except Exception as error:  # carried past the task group, which would wrap it
                    failure = error
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._shut_down(grace, stuck)
                    self.loop.stop()
                    tasks.cancel_scope.cancel()
        finally:
            self.loop.watcher.close()
        if failure is not None:
            raise failure

    async def _accept(self, listener: socket.socket) -> None:
        while self.is_accepting:
            try:
                await anyio.wait_readable(listener)
                for _ in range(ACCEPTS_A_TURN):
                    sock, _ = listener.accept()
                    self._begin(sock)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError) as error:
                if not self.is_accepting:
                    return
                # Out of descriptors or memory: those who wait in the backlog are served when some are free again.
                log.warning("accepting a connection failed: %s", error)
                await anyio.sleep(0.1)

    def _begin(self, sock: socket.socket) -> None:
        """A function of its own, so that the task that accepts keeps no client alive."""
        try:
            client = ClientConnection(sock, self)
        except OSError as error:
            log.debug("a client left at once: %s", error)
            sock.close()
            return
        self._clients.add(client)
        try:
            client.begin()
        except Exception:
            log.exception("serving a connection failed")
            client.close()

    def answer(self, client: ClientConnection, request: h11.Request | h11.RemoteProtocolError) -> None:
        """Start a task that answers a client's request, or refuses it."""
        self._tasks.start(client.serve, request)

    def _cancel(self) -> None:
        for exchange in list(self.service.live):
            exchange.cancel()

    def left(self, client: ClientConnection) -> None:
        """A client's socket is closed."""
        self._clients.discard(client)
        if self._changed is not None:
            self._changed.set()

    async def _shut_down(self, grace: float, stuck: Callable[[], None]) -> None:
        """Stop accepting; end the streams; let plain handlers finish; then leave what is left."""
        self.loop.accepting = False
        self.service.stopping = True
        for listener in self._listeners:
            anyio.notify_closing(listener)
            listener.close()
        for client in list(self._clients):
            client.stop_waiting()
        for exchange in list(self.service.live):
            if exchange.state is not State.REQUESTED:
                exchange.shut_down()
        with anyio.move_on_after(grace * 0.8):
            await self._until_no_clients()
        if self._clients:
            log.warning("%d connections are still open after %g s: they are cut", len(self._clients), grace * 0.8)
            for exchange in list(self.service.live):
                exchange.shut_down()
                exchange.abandon()
            with anyio.move_on_after(grace * 0.1):
                await self._until_no_clients()
            for client in self._clients:
                client.abort()
            with anyio.move_on_after(grace * 0.1):
                await self._until_no_clients()
        if self._clients:
            stuck()
            await self._until_no_clients()

    async def _until_no_clients(self) -> None:
        while self._clients:
            self._changed = anyio.Event()
            await self._changed.wait()

    def __repr__(self) -> str:
        return f"<Server {self.url}, {len(self._clients)} connections>"


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that the host stands for.

    Raises:
        OSError: it can't; the text says which address, why, and what to do.
        ValueError: there is no such port.
    """
    if type(port) is not int:
        raise TypeError(f"a port is an int from 0 to 65535, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is from 0 to 65535, not {port!r}")
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address[0]) for family, _, _, _, address in found):
            bound = (address, listeners[0].getsockname()[1] if listeners else port)
            try:
                listener = socket.create_server(bound, family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # as ::1 for "localhost" where IPv6 is switched off
            else:
                listener.setblocking(False)
                listeners.append(listener)
        if not listeners and missing is not None:
            raise missing
    except OSError as error:
        for listener in listeners:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"port {port} on {host} is taken; choose another, or 0 for a free one") from None
        raise OSError(error.errno, f"can't listen on {host}:{port}: {_plain(error)}") from None
    return listeners


def _plain(error: OSError) -> str:
    """What the system says, without the address that `create_server` adds."""
    return os.strerror(error.errno) if error.errno and not isinstance(error, socket.gaierror) else str(error)
