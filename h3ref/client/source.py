"""The twins: they connect, read and wait as the protocol says."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import anyio
import httpx2

from ..errors import H3Error
from ..sse import DEFAULT_MAX_EVENT_SIZE, MessageEvent
from .protocol import HeaderFields, Protocol, ReadyState, Reconnect, shown

log = logging.getLogger("h3ref.client")

REFUSAL_SIZE: Final = 64 * 1024
REFUSAL_SECONDS: Final = 1.0
"""How much of a refusal's body is read for the error, and for how long."""

UNWINDING_READS: Final = 16
"""How often a cancelled read is tried before the generators are left to the garbage collector."""

Client = TypeVar("Client", httpx2.AsyncClient, httpx2.Client)
OnOpen = Callable[[httpx2.Response], object]
OnReconnect = Callable[[float, httpx2.HTTPError | None], object]


class _Source(Generic[Client]):
    """What the twins share: all but the I/O."""

    def __init__(
        self,
        url: str | httpx2.URL,
        *,
        method: str = "GET",
        headers: HeaderFields | None = None,
        json: Any = None,
        last_event_id: str = "",
        client: Client | None = None,
        reconnect: Reconnect | None = None,
        patient: bool = False,
        max_reconnects: int | None = None,
        reconnection_time: float = 3.0,
        max_reconnection_time: float = 60.0,
        retry_statuses: Collection[int] = (),
        heartbeat: float | None = None,
        connect_timeout: float | None = 10.0,
        max_event_size: int = DEFAULT_MAX_EVENT_SIZE,
        on_open: OnOpen | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> None:
        """Nothing is sent before the source is entered.

        Args:
            url: where the stream is, http or https; with a `client` that has a base URL it may be relative.
            method: the request's method.
            headers: further request headers; they take the place of the source's own. A Last-Event-ID among
                them is taken as `last_event_id`.
            json: what is sent as a JSON body, for a method that has one.
            last_event_id: the id to resume after; "" for a new stream.
            client: the httpx2 client to connect with, for its auth, proxies, cookies or transport. It stays
                open; its timeouts give way to those below.
            reconnect: True: after errors and after the body's proper end, as WHATWG says. "after_error": the
                proper end is the end. False: never. None: True for a safe method such as GET, False for
                others such as POST, which nobody should send twice unasked.
            patient: also go on when the very first connection can't be made.
            max_reconnects: how many reconnections in a row may bring no message before the source gives up;
                None for any number.
            reconnection_time: seconds before a reconnection, until the server's `retry` says otherwise. They
                double with each reconnection in a row that brings no message, and each wait is up to a
                quarter longer at random.
            max_reconnection_time: the seconds at which doubling ends.
            retry_statuses: statuses on which a reconnection is tried again, such as (502, 504) behind a
                proxy. 429 and 503 always are when they come with Retry-After, which is heeded up to 300 s.
            heartbeat: seconds without a byte after which the connection counts as lost; None for no limit.
                Comments that the server sends as a keep-alive are bytes. It also limits the wait for the
                answer's head.
            connect_timeout: seconds that a connection may take to be made; None for no limit.
            max_event_size: the most bytes that one event may have.
            on_open: called with the response whenever the stream is opened.
            on_reconnect: called before each wait with its seconds, and with the error, or None when the
                stream ended properly.

        Raises:
            ValueError, TypeError, httpx2.InvalidURL: an argument that can't be used.
        """
        self._core = Protocol(
            url,
            method=method,
            headers=headers,
            json=json,
            last_event_id=last_event_id,
            reconnect=reconnect,
            patient=patient,
            max_reconnects=max_reconnects,
            reconnection_time=reconnection_time,
            max_reconnection_time=max_reconnection_time,
            retry_statuses=retry_statuses,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            max_event_size=max_event_size,
        )
        if client is None:
            _check_url(self._core.url)
        self._given: Client | None = client
        self._client: Client | None = None
        self._on_open = on_open
        self._on_reconnect = on_reconnect
        self._response: httpx2.Response | None = None
        self._interrupted = False
        self._prepare()

    def _prepare(self) -> None:
        """Create what a twin needs besides."""

    @property
    def url(self) -> str:
        """Where the stream is, as it was asked for (WHATWG HTML, 9.2.2)."""
        return str(self._core.url)

    @property
    def ready_state(self) -> ReadyState:
        """CONNECTING, OPEN or CLOSED (WHATWG HTML, 9.2.2, readyState)."""
        return self._core.ready_state

    @property
    def last_event_id(self) -> str:
        """The last event ID as of the last message that was handed over: resume elsewhere from here."""
        return self._core.last_event_id

    @property
    def reconnection_time(self) -> float:
        """The seconds before a reconnection, as the server last said; never more than a day."""
        return self._core.reconnection_time

    @property
    def response(self) -> httpx2.Response | None:
        """The response that the stream is read from, or was last read from."""
        return self._response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.method} {shown(self._core.url)} {self.ready_state.name}>"

    def _enter(self, create: Callable[[], Client]) -> Client:
        if self._client is not None or self.ready_state is ReadyState.CLOSED:
            raise RuntimeError(f"{self!r} is used once; create another to connect again")
        self._client = create() if self._given is None else self._given
        return self._client

    def _request(self, client: httpx2.AsyncClient | httpx2.Client) -> httpx2.Request:
        core = self._core
        return client.build_request(
            core.method, core.url, headers=core.request_headers(), json=core.json, timeout=core.timeout
        )

    def _opened(self, response: httpx2.Response) -> None:
        log.info("%r: open", self)
        if self._on_open is not None:
            self._on_open(response)

    def _lost(self, error: httpx2.HTTPError | None, now: float) -> float:
        """Return the seconds to wait; 0 if there is nothing to wait for."""
        delay = self._core.lost(error, now)
        if delay is None:
            return 0.0
        why = "the stream ended" if error is None else f"{type(error).__name__}: {error}"
        log.info("%r: %s; reconnects in %.1f s", self, why, delay)
        if self._on_reconnect is not None:
            self._on_reconnect(delay, error)
        return delay

    def _is_over(self) -> bool:
        """Whether no message will come any more.

        Raises:
            RuntimeError: the source was never entered.
            H3Error: it ended because a wait was given up.
        """
        if self._client is None:
            raise RuntimeError(f"{self!r} is not connected: enter it with `with` or `async with` first")
        if self.ready_state is not ReadyState.CLOSED:
            return False
        if self._interrupted:
            raise H3Error(f"{self!r}: the stream was given up when a wait for it was cancelled, and is not reconnected")
        return True

    def _give_up(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._core.close()  # the same would happen again, such as EventTooLarge
        else:
            self._interrupted = self._core.interrupted()


def _check_url(url: httpx2.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"url is an http or https URL, such as http://127.0.0.1:3000/events, not {shown(url)!r}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"a URL's port is from 1 to 65535, not {url.port}")


class EventSource(_Source[httpx2.AsyncClient]):
    """Receives an event stream, and reconnects as WHATWG HTML, section 9.2.3 says; for asyncio and trio.

        async with EventSource("http://127.0.0.1:3000/events") as source:
            async for message in source:
                print(message.type, message.data)

    Entering connects, and raises when that fails (a browser would go on trying: `patient=True`). Once it has
    been open, the source reconnects for ever unless it is told otherwise, and resumes after the last event
    that it received. The iteration ends when the server answers a reconnection with 204, when the stream
    ends properly and is not reconnected, and when the source is closed.

    A wait for a message that is cancelled closes the socket at once; the next iteration connects again and
    resumes. A source that doesn't reconnect is closed by that.

    Raises, on entering and while iterating:
        RefusedStatus: the server answered with another status than 200 (`httpx2.HTTPStatusError`).
        WrongContentType: the server answered with something else than an event stream.
        httpx2.HTTPError: the network's error, when there is no reconnection, or it was the last.
        EventTooLarge: an event was larger than `max_event_size`.
    """

    _chunks: AsyncGenerator[bytes, None] | None = None
    _scope: anyio.CancelScope | None = None
    _idle: anyio.Event

    async def __aenter__(self) -> Self:
        self._enter(httpx2.AsyncClient)
        try:
            while self._chunks is None and not self._is_over():
                await self._step()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MessageEvent:
        while (message := self._core.next_message()) is None:
            if self._is_over():
                raise StopAsyncIteration
            await self._step()
        return message

    async def aclose(self) -> None:
        """Close the connection at once; a task that iterates sees the end. A second call does nothing."""
        self._core.close()
        with anyio.CancelScope(shield=True):
            if self._scope is not None:
                self._scope.cancel()
                await self._idle.wait()
            await self._disconnect()
            if self._client is not None and self._given is None:
                await self._client.aclose()

    async def _step(self) -> None:
        """Connect, or receive; and after an end, wait."""
        if self._scope is not None:
            raise RuntimeError(f"{self!r} is iterated by another task; one task receives, and may hand on")
        self._idle = anyio.Event()
        try:
            with anyio.CancelScope() as self._scope:
                await self._connect_or_receive()
        finally:
            self._scope = None
            self._idle.set()

    async def _connect_or_receive(self) -> None:
        try:
            if self._chunks is None:
                await self._connect()
            elif (chunk := await anext(self._chunks, None)) is not None:
                self._core.feed(chunk)
            else:
                await self._wait(None)
        except httpx2.HTTPError as error:
            await self._wait(error)
        except BaseException as error:
            self._give_up(error)
            await self._disconnect()
            raise

    async def _wait(self, error: httpx2.HTTPError | None) -> None:
        await self._disconnect()
        await anyio.sleep(self._lost(error, anyio.current_time()))

    async def _connect(self) -> None:
        assert self._client is not None
        response = await self._client.send(self._request(self._client), stream=True, follow_redirects=True)
        chunks = response.aiter_bytes()
        if self.ready_state is ReadyState.CLOSED:  # by another task, just as the answer came
            await _close(chunks, response)
            return
        self._response = response
        if self._core.announce(response, anyio.current_time()):
            self._chunks = chunks
            self._opened(response)
            return
        body = b""
        try:
            with anyio.move_on_after(REFUSAL_SECONDS), contextlib.suppress(httpx2.HTTPError):
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= REFUSAL_SIZE:
                        break
        finally:
            await _close(chunks, response)
        self._core.refuse(response, body[:REFUSAL_SIZE])

    async def _disconnect(self) -> None:
        chunks, self._chunks = self._chunks, None
        if chunks is not None and self._response is not None:
            await _close(chunks, self._response)


async def _close(chunks: AsyncGenerator[bytes, None], response: httpx2.Response) -> None:
    """Close the socket, whatever is cancelled around it."""
    with anyio.CancelScope(shield=True), contextlib.suppress(httpx2.HTTPError):
        try:
            # Closing `chunks` closes the outermost of httpx2's generators only, and trio warns about the rest.
            # A cancelled read unwinds all of them; what was received already may come before it.
            with anyio.CancelScope() as read:
                read.cancel()
                for _ in range(UNWINDING_READS):
                    if await anext(chunks, None) is None:
                        break
        finally:
            await chunks.aclose()
            await response.aclose()


class BlockingEventSource(_Source[httpx2.Client]):
    """`EventSource` for code without an event loop: the same arguments, errors and reconnections.

        with BlockingEventSource("http://127.0.0.1:3000/events") as source:
            for message in source:
                print(message.type, message.data)

    One thread iterates; any thread may call `close()`, which ends the iteration.
    """

    _chunks: Iterator[bytes] | None = None

    def _prepare(self) -> None:
        self._closing = threading.Event()
        self._working = threading.Lock()

    def __enter__(self) -> Self:
        self._enter(httpx2.Client)
        try:
            while self._chunks is None and not self._is_over():
                self._step()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> MessageEvent:
        while (message := self._core.next_message()) is None:
            if self._is_over():
                raise StopIteration
            self._step()
        return message

    def close(self) -> None:
        """End the stream at once, from any thread; a thread that iterates sees the end. A second call does nothing.

        A thread that waits for an answer's head sees it only when the head comes, or a timeout.
        """
        self._core.close()
        self._closing.set()
        if self._chunks is not None:
            _wake_reader(self._response)
        self._release()

    def _release(self) -> None:
        """Close what is open, unless a thread is at it: it will call this when it returns."""
        if self._working.acquire(blocking=False):
            try:
                self._disconnect()
                if self._client is not None and self._given is None:
                    self._client.close()
            finally:
                self._working.release()

    def _step(self) -> None:
        """Connect, or receive; and after an end, wait."""
        if not self._working.acquire(blocking=False):
            raise RuntimeError(f"{self!r} is iterated by another thread; one thread receives, and may hand on")
        try:
            self._connect_or_receive()
        finally:
            self._working.release()
            if self._closing.is_set():
                self._core.close()  # the step may have said otherwise since
                self._release()

    def _connect_or_receive(self) -> None:
        try:
            if self._chunks is None:
                self._connect()
            elif (chunk := next(self._chunks, None)) is not None:
                self._core.feed(chunk)
            else:
                self._wait(None)
        except httpx2.HTTPError as error:
            self._wait(error)
        except BaseException as error:
            self._give_up(error)
            self._disconnect()
            raise

    def _wait(self, error: httpx2.HTTPError | None) -> None:
        self._disconnect()
        self._closing.wait(self._lost(error, time.monotonic()))

    def _connect(self) -> None:
        assert self._client is not None
        response = self._client.send(self._request(self._client), stream=True, follow_redirects=True)
        if self._closing.is_set():
            response.close()
            return
        chunks = response.iter_bytes()
        self._response = response
        if self._core.announce(response, time.monotonic()):
            self._chunks = chunks
            self._opened(response)
            return
        body = b""
        deadline = time.monotonic() + REFUSAL_SECONDS
        response.request.extensions["timeout"]["read"] = REFUSAL_SECONDS  # read by the transport when it reads
        try:
            with contextlib.suppress(httpx2.HTTPError):
                for chunk in chunks:
                    body += chunk
                    if len(body) >= REFUSAL_SIZE or time.monotonic() >= deadline:
                        break
        finally:
            response.close()
        self._core.refuse(response, body[:REFUSAL_SIZE])

    def _disconnect(self) -> None:
        if self._chunks is not None and self._response is not None:
            self._chunks = None
            with contextlib.suppress(httpx2.HTTPError):
                self._response.close()


def _wake_reader(response: httpx2.Response | None) -> None:
    """End a read in another thread, which closing the socket would not; HTTP/2 shares its socket, so not there."""
    if response is None or not response.http_version.startswith("HTTP/1"):
        return
    stream = response.extensions.get("network_stream")
    sock = None if stream is None else stream.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
