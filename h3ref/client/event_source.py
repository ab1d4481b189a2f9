"""`EventSource`: receives an event stream on an event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx2

from .._core.errand import Errand
from ..sse import MessageEvent
from . import http2, sockets
from .protocol import ReadyState
from .redirects import Redirects
from .source import CONNECTED, REFUSAL_SECONDS, REFUSAL_SIZE, Source

UNWINDING_READS: Final = 64 * 1024 // len(b"1\r\nx\r\n")
"""How often a cancelled read is tried before the generators are left to the garbage collector: once for each chunk that
httpcore2 may have had from the network at once, since each of them comes before the cancellation."""

READS_A_TURN: Final = 64
"""Reads after which the other tasks have their turn."""


class EventSource(Source[httpx2.AsyncClient, Callable[[str], Awaitable[httpx2.Response]]]):
    """Receives an event stream, and reconnects as WHATWG HTML, section 9.2.3 says; for asyncio and trio.

        async with EventSource("http://127.0.0.1:3000/events") as source:
            async for message in source:
                print(message.type, message.data)

    Entering connects, and raises if that fails (a browser would go on trying: `patient=True`). Once it has been open,
    the source reconnects for ever unless you tell it otherwise, and resumes after the last event that it received. The
    iteration ends when the server answers a reconnection with 204, when the stream ends properly and is not
    reconnected, and when the source is closed.

    If you cancel a wait for a message, as by a timeout, the source stays where it is: the next wait returns what came
    meanwhile.

    Raises, on entering and while iterating:
        RefusedStatus: the server answered with a status other than 200 (`httpx2.HTTPStatusError`).
        RedirectRefused: it redirects where `follow_redirects` does not go (a RefusedStatus).
        WrongContentType: the server answered with something other than an event stream.
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
        """Connect, or receive; after an end, wait."""
        if self._errand is None:
            self._errand = Errand(self._connect_or_receive)
        elif self._errand.is_awaited:
            raise RuntimeError(f"{self!r} is iterated by another task: receive in one, and pass messages on")
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
        request, redirects = self._begin()
        while True:
            response = await self._answer_to(request, redirects)
            chunks = response.aiter_bytes()
            if self.ready_state is ReadyState.CLOSED:  # by another task, just as the answer came
                await _close(chunks, response)
                return
            if self._core.announce(response, anyio.current_time()):
                self._response, self._chunks = response, chunks
                self._opened(response)
                return
            try:
                request = redirects.following(response, self._cookies)
                body = await _start_of(chunks)
            finally:
                await _close(chunks, response)
            if request is None:
                break
        self._response = response
        self._core.refuse(response, body, redirects.fault_of(response))

    async def _answer_to(self, request: httpx2.Request | None, redirects: Redirects) -> httpx2.Response:
        if request is not None:
            assert self._client is not None
            return await self._send(self._client, request, redirects)
        response = self._take_handed()
        if response is None:
            assert self._reopen is not None, "without it there is no reconnection"
            response = await self._reopen(self._core.id_to_send)
        return self._of_the_caller(response)

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request, redirects: Redirects) -> httpx2.Response:
        if self._given is None and request.url.scheme == "https":
            await anyio.to_thread.run_sync(sockets.trusted)
        auth = self._auth if redirects.same_origin else None
        response = await client.send(request, stream=True, follow_redirects=False, auth=auth)
        response.history = [*redirects.history, *response.history]
        return response

    async def _traced(self, name: str, info: dict[str, Any]) -> None:
        if name == CONNECTED:
            sockets.probe(info["return_value"])

    async def _disconnect(self) -> None:
        chunks, self._chunks = self._chunks, None
        if chunks is None and (handed := self._take_handed()) is not None:
            chunks = handed.aiter_bytes()
        if chunks is not None and self._response is not None:
            await _close(chunks, self._response)


async def _start_of(chunks: AsyncGenerator[bytes, None]) -> bytes:
    """Read the start of a body that is not a stream."""
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
                for number in range(1, UNWINDING_READS + 1):
                    if await anext(chunks, None) is None:
                        break
                    if number % READS_A_TURN == 0:
                        await anyio.lowlevel.cancel_shielded_checkpoint()
        finally:
            await chunks.aclose()
            await response.aclose()
