"""`EventSource`, and what it shares with its blocking twin: they connect, read and wait as the protocol says."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import anyio
import anyio.to_thread
import httpx2

from ..errors import H3Error
from ..sse import DEFAULT_MAX_EVENT_SIZE, MessageEvent
from . import http2, sockets, urls
from .errand import Errand
from .protocol import HeaderFields, Protocol, ReadyState, Reconnect
from .redirects import FollowRedirects, Redirects, checked
from .urls import shown

log = logging.getLogger("h3ref.client")

REFUSAL_SIZE: Final = 64 * 1024
REFUSAL_SECONDS: Final = 1.0
"""How much is read of the body of a refusal, or of a redirect, and for how long."""

CONNECTED: Final = "connection.connect_tcp.complete"
"""httpcore2's name for the step after which a socket is there."""

UNWINDING_READS: Final = 16
"""How often a cancelled read is tried before the generators are left to the garbage collector."""

Client = TypeVar("Client", httpx2.AsyncClient, httpx2.Client)
OnOpen = Callable[[httpx2.Response], object]
OnReconnect = Callable[[float, httpx2.HTTPError | None], object]


class Source(ABC, Generic[Client]):
    """What the twins share: all but the I/O."""

    _kind: ClassVar[type[httpx2.AsyncClient] | type[httpx2.Client]]

    def __init__(
        self,
        url: str | httpx2.URL,
        *,
        method: str = "GET",
        headers: HeaderFields | None = None,
        json: Any = None,
        last_event_id: str = "",
        client: Client | None = None,
        follow_redirects: FollowRedirects | None = None,
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
            follow_redirects: True: wherever they lead; to another origin (scheme, host and port) only the
                headers in `h3ref.client.redirects.SAFE_HEADERS` go along, and a body never. "same-origin":
                not to another origin. False: not at all. None: as the `client` has it, True without one.
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
                Comments that the server sends as a keep-alive are bytes: choose two or three times its interval.
                It also limits the wait for the answer's head. Without it only TCP keep-alive finds a peer that
                has vanished, after two minutes, and no server that is there and stands still.
            connect_timeout: seconds that a connection may take to be made; None for no limit.
            max_event_size: the most bytes that one event may have.
            on_open: called with the response whenever the stream is opened.
            on_reconnect: called before each wait with its seconds, and with the error, or None when the
                stream ended properly.

        Raises:
            ValueError, TypeError: an argument that can't be used.
        """
        if client is not None:
            _check_client(client, self._kind)
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
        if client is None or not client.base_url.host or self._core.url.is_absolute_url:
            urls.check(self._core.url)
        if follow_redirects is None:
            follow_redirects = True if client is None else client.follow_redirects
        self._follow_redirects = checked(follow_redirects)
        self._given: Client | None = client
        self._client: Client | None = None
        self._on_open = on_open
        self._on_reconnect = on_reconnect
        self._response: httpx2.Response | None = None
        self._interrupted = False
        self._prepare()

    def _prepare(self) -> None:
        """Create what a twin needs besides."""

    @abstractmethod
    def _traced(self, name: str, info: dict[str, Any]) -> object:
        """Take a step of httpcore2's; the asynchronous twin's is awaited."""

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

    def _enter(self, create: Callable[[], Client]) -> None:
        if self._client is not None or self.ready_state is ReadyState.CLOSED:
            raise RuntimeError(f"{self!r} is used once; create another to connect again")
        self._client = create() if self._given is None else self._given

    def _request(self, client: httpx2.AsyncClient | httpx2.Client) -> httpx2.Request:
        core = self._core
        if (fault := core.fault_of_id) is not None:
            log.info("%r: asks without the last event ID, which no header carries: it %s", self, fault)
        return client.build_request(
            core.method,
            core.url,
            headers=core.request_headers(),
            json=core.json,
            timeout=core.timeout,
            extensions={"trace": self._traced},
        )

    def _opened(self, response: httpx2.Response) -> None:
        if self.ready_state is not ReadyState.OPEN:  # closed by another thread, just as the answer came
            return
        log.info("%r: open", self)
        sockets.probe(response.extensions.get("network_stream"))  # a given client's may be older than this source
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

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._core.close()  # the same would happen again, such as EventTooLarge
        else:
            self._interrupted = self._core.interrupted()


def _check_client(client: object, kind: type[httpx2.AsyncClient] | type[httpx2.Client]) -> None:
    if isinstance(client, kind):
        return
    if isinstance(client, httpx2.AsyncClient | httpx2.Client):
        hint = "EventSource awaits, and BlockingEventSource does not"
    else:
        hint = "httpx2 is a library of its own, and does not take httpx's clients; make one with httpx2"
    of = f"{type(client).__module__.partition('.')[0]}.{type(client).__qualname__}"
    raise TypeError(f"client is an httpx2.{kind.__name__}, not {of}: {hint}")


class EventSource(Source[httpx2.AsyncClient]):
    """Receives an event stream, and reconnects as WHATWG HTML, section 9.2.3 says; for asyncio and trio.

        async with EventSource("http://127.0.0.1:3000/events") as source:
            async for message in source:
                print(message.type, message.data)

    Entering connects, and raises when that fails (a browser would go on trying: `patient=True`). Once it has
    been open, the source reconnects for ever unless it is told otherwise, and resumes after the last event
    that it received. The iteration ends when the server answers a reconnection with 204, when the stream
    ends properly and is not reconnected, and when the source is closed.

    A wait for a message that is cancelled, as by a timeout, leaves the source where it is: what came meanwhile is
    handed over by the next one.

    Raises, on entering and while iterating:
        RefusedStatus: the server answered with another status than 200 (`httpx2.HTTPStatusError`).
        RedirectRefused: it redirects where `follow_redirects` does not go (a RefusedStatus).
        WrongContentType: the server answered with something else than an event stream.
        httpx2.HTTPError: the network's error, when there is no reconnection, or it was the last.
        EventTooLarge: an event was larger than `max_event_size`.
    """

    _kind = httpx2.AsyncClient
    _chunks: AsyncGenerator[bytes, None] | None = None
    _errand: Errand | None = None

    async def __aenter__(self) -> Self:
        self._enter(lambda: httpx2.AsyncClient(verify=sockets.WHEN_NEEDED))
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
            if self._errand is None and self._is_over():  # one that nobody waited for may have the last error to tell
                raise StopAsyncIteration
            await self._step()
        return message

    async def aclose(self) -> None:
        """Close the connection at once; a task that iterates sees the end. A second call does nothing."""
        self._core.close()
        with anyio.CancelScope(shield=True):
            if self._errand is not None:
                await self._errand.cancel()
                self._errand = None
            await self._disconnect()
            if self._client is not None and self._given is None:
                await self._client.aclose()

    async def _step(self) -> None:
        """Connect, or receive; and after an end, wait."""
        if self._errand is None:
            self._errand = Errand(self._connect_or_receive)
        elif self._errand.is_awaited:
            raise RuntimeError(f"{self!r} is iterated by another task; one task receives, and may hand on")
        errand = self._errand
        await errand.wait()  # whoever gives up here finds it at the next step
        self._errand = None
        errand.result()

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
            self._fail(error)
            await self._disconnect()
            raise

    async def _wait(self, error: httpx2.HTTPError | None) -> None:
        await self._disconnect()
        await anyio.sleep(self._lost(error, anyio.current_time()))

    async def _connect(self) -> None:
        assert self._client is not None
        redirects = Redirects(self._follow_redirects, self._client.max_redirects)
        request: httpx2.Request | None = self._request(self._client)
        while request is not None:
            response = await self._send(self._client, request, redirects)
            chunks = response.aiter_bytes()
            if self.ready_state is ReadyState.CLOSED:  # by another task, just as the answer came
                await _close(chunks, response)
                return
            if self._core.announce(response, anyio.current_time()):
                self._response, self._chunks = response, chunks
                self._opened(response)
                return
            try:
                request = redirects.following(response, self._client.cookies)
                body = await _start_of(chunks)
            finally:
                await _close(chunks, response)
        self._response = response
        self._core.refuse(response, body, redirects.fault_of(response))

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request, redirects: Redirects) -> httpx2.Response:
        if self._given is None and request.url.scheme == "https":
            await anyio.to_thread.run_sync(sockets.trusted)
        auth = httpx2.USE_CLIENT_DEFAULT if redirects.same_origin else None
        response = await client.send(request, stream=True, follow_redirects=False, auth=auth)
        response.history = [*redirects.history, *response.history]
        return response

    async def _traced(self, name: str, info: dict[str, Any]) -> None:
        if name == CONNECTED:
            sockets.probe(info["return_value"])

    async def _disconnect(self) -> None:
        chunks, self._chunks = self._chunks, None
        if chunks is not None and self._response is not None:
            await _close(chunks, self._response)


async def _start_of(chunks: AsyncGenerator[bytes, None]) -> bytes:
    """Read the start of a body that is no stream."""
    body = b""
    with anyio.move_on_after(REFUSAL_SECONDS), contextlib.suppress(httpx2.HTTPError):
        async for chunk in chunks:
            body += chunk
            if len(body) >= REFUSAL_SIZE:
                break
    return body[:REFUSAL_SIZE]


async def _close(chunks: AsyncGenerator[bytes, None], response: httpx2.Response) -> None:
    """Close the socket, or the stream on a shared one, whatever is cancelled around it."""
    with anyio.CancelScope(shield=True), contextlib.suppress(httpx2.HTTPError):
        await http2.aabandon(response)
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
