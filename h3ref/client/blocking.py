"""`BlockingEventSource`: the twin of `EventSource` for code without an event loop."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx2

from ..sse import MessageEvent
from . import http2, sockets
from .protocol import ReadyState
from .pump import Pump
from .redirects import Redirects
from .source import CONNECTED, REFUSAL_SECONDS, REFUSAL_SIZE, Source


class BlockingEventSource(Source[httpx2.Client, Callable[[str], httpx2.Response]]):
    """`EventSource` for code without an event loop: the same arguments, errors and reconnections.

        with BlockingEventSource("http://127.0.0.1:3000/events") as source:
            for message in source:
                print(message.type, message.data)

    One thread iterates; any thread may call `close()`, which ends the iteration. An interrupted wait, as by Ctrl-C,
    closes the connection; the next iteration connects again and resumes.
    """

    _kind = httpx2.Client
    _chunks: Iterator[bytes] | None = None

    def _prepare(self) -> None:
        self._closing = threading.Event()
        self._working = threading.Lock()

    def __enter__(self) -> Self:
        self._enter(lambda: httpx2.Client(verify=sockets.WHEN_NEEDED))
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

        Nothing more is sent, except what ends a stream of HTTP/2. A thread that waits for an answer's head sees the end
        only when the head comes, or at a timeout.
        """
        self._core.close()
        self._closing.set()
        self._wake_reader()
        self._release()

    def _release(self) -> None:
        """Close what is open, unless a thread is using it: that thread calls this when it returns."""
        if self._working.acquire(blocking=False):
            try:
                self._disconnect()
                if self._client is not None and self._given is None:
                    self._client.close()
            finally:
                self._working.release()

    def _step(self) -> None:
        """Connect, or receive; after an end, wait. Once the source is closed, do none of this."""
        if not self._working.acquire(blocking=False):
            if self.ready_state is ReadyState.CLOSED:  # by the thread that is at it
                return
            raise RuntimeError(f"{self!r} is iterated by another thread: receive on one, and pass messages on")
        try:
            if self.ready_state is not ReadyState.CLOSED:
                self._connect_or_receive()
        finally:
            self._working.release()
            if self.ready_state is ReadyState.CLOSED:
                self._release()

    def _connect_or_receive(self) -> None:
        try:
            if self._chunks is None:
                self._connect()
            elif (chunk := next(self._chunks, None)) is not None:
                self._core.feed(chunk)
            else:
                self._wait(None)
        except _Closed:
            self._disconnect()
        except httpx2.HTTPError as error:
            self._wait(error)
        except BaseException as error:
            self._fail(error)
            self._disconnect()
            raise

    def _wait(self, error: httpx2.HTTPError | None) -> None:
        self._disconnect()
        self._closing.wait(self._lost(error, time.monotonic()))

    def _connect(self) -> None:
        request, redirects = self._begin()
        while True:
            response = self._answer_to(request, redirects)
            if self.ready_state is ReadyState.CLOSED:
                _close(response)
                return
            if self._core.announce(response, time.monotonic()):
                self._response = response
                self._chunks = Pump(response) if http2.is_http2(response) else response.iter_bytes()
                self._opened(response)
                return
            try:
                request = redirects.following(response, self._cookies)
                body = _start_of(response)
            finally:
                _close(response)
            if request is None:
                break
        self._response = response
        self._core.refuse(response, body, redirects.fault_of(response))

    def _answer_to(self, request: httpx2.Request | None, redirects: Redirects) -> httpx2.Response:
        if request is not None:
            assert self._client is not None
            return self._send(self._client, request, redirects)
        response = self._take_handed()
        if response is None:
            assert self._reopen is not None, "without it there is no reconnection"
            response = self._reopen(self._core.id_to_send)
        return self._of_the_caller(response)

    def _send(self, client: httpx2.Client, request: httpx2.Request, redirects: Redirects) -> httpx2.Response:
        if self.ready_state is ReadyState.CLOSED:
            raise _Closed
        auth = self._auth if redirects.same_origin else None
        response = client.send(request, stream=True, follow_redirects=False, auth=auth)
        response.history = [*redirects.history, *response.history]
        return response

    def _traced(self, name: str, info: dict[str, Any]) -> None:
        if name == CONNECTED:
            sockets.probe(info["return_value"])
        elif name.endswith(".send_request_headers.started") and self.ready_state is ReadyState.CLOSED:
            raise _Closed  # while the connection was being made

    def _wake_reader(self) -> None:
        """End a read in another thread, which closing the socket would not."""
        chunks, response = self._chunks, self._response
        if isinstance(chunks, Pump):
            chunks.wake()
        elif chunks is not None and response is not None:
            _shut_down(response)

    def _disconnect(self) -> None:
        chunks, self._chunks = self._chunks, None
        handed = self._take_handed()
        if isinstance(chunks, Pump):
            chunks.close()
        elif (chunks is not None or handed is not None) and self._response is not None:
            _close(self._response)


class _Closed(Exception):
    """The source was closed while it connected."""


def _start_of(response: httpx2.Response) -> bytes:
    """Read the start of a body that is not a stream."""
    body = b""
    deadline = time.monotonic() + REFUSAL_SECONDS
    timeouts = response.request.extensions.setdefault("timeout", {})  # looked at by the transport when it reads
    heartbeat, timeouts["read"] = timeouts.get("read"), REFUSAL_SECONDS
    try:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) >= REFUSAL_SIZE or time.monotonic() >= deadline:
                break
    except httpx2.HTTPError:
        pass
    finally:
        timeouts["read"] = heartbeat  # a redirected request has the same
    return body[:REFUSAL_SIZE]


def _close(response: httpx2.Response) -> None:
    """Close the socket, or the stream on a shared one."""
    with contextlib.suppress(httpx2.HTTPError):
        http2.abandon(response)
        response.close()


def _shut_down(response: httpx2.Response) -> None:
    stream = response.extensions.get("network_stream")
    sock = None if stream is None else stream.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
