"""`Way`: one response's `receive` and `send`, as sse-starlette's users know them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from ..._core.parking import Parking

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

CloseHandler = Callable[[Any], Awaitable[None]]

_DENIAL: Final = "websocket."
"""The prefix of a message's type when a WebSocket is refused (the ASGI extension Websocket Denial Response)."""


class SendTimeoutError(TimeoutError):
    """The server did not take a message within `send_timeout`: the client does not read."""


class Way:
    """The way of one response's messages, with a head of its own in place of the stream's.

    A failure here ends the stream as a client that leaves does; afterwards it is raised to the caller of the response.

    Args:
        receive: the server's.
        send: the server's.
        head: the status, and the headers.
        on_close: awaited with the message that says that the client has left, before the stream hears of it.
        denies: whether a WebSocket is refused.
        wants_empty: whether an empty part of the body is sent, too: for a server that keeps the head until one comes.
        is_timed: whether `watch` runs beside it.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        head: tuple[int, list[tuple[bytes, bytes]]],
        *,
        on_close: CloseHandler | None,
        denies: bool,
        wants_empty: bool,
        is_timed: bool,
    ) -> None:
        self._failure: Exception | None = None
        self._refusal: Exception | None = None  # what the server's `send` raised
        self._has_left = False  # whether the client has
        self._missing = 0  # announced bytes that the server has not taken
        self._taken = Parking()  # where the content waits until it takes some
        self._sending_since: float | None = None  # while the server has a part of the body that it has not taken
        self._listening: anyio.CancelScope | None = None  # around the server's `receive`
        self._receive = receive
        self._send = send
        self._head = head
        self._on_close = on_close
        self._wants_empty = wants_empty
        self._is_timed = is_timed
        self._prefix = _DENIAL if denies else ""

    @property
    def failure(self) -> Exception | None:
        """What was raised first; a server that can't send to a client that has left has not failed."""
        return self._failure or (None if self._has_left else self._refusal)

    def announce(self, data: bytes) -> bytes:
        """Count on bytes that are about to be sent, and return them."""
        self._missing += len(data)
        return data

    async def until_taken(self) -> None:
        """Wait until the server has taken all that was announced."""
        while self._missing > 0:
            await self._taken.wait()

    async def receive(self) -> Message:
        """Receive what the server has to say; a stream that is given up hears that its client has left."""
        message = await (self._receive_while_taken() if self._is_timed else self._receive())
        if message is None:
            return {"type": "http.disconnect"}
        if not message["type"].endswith(".disconnect"):
            return message
        self._has_left = True
        if self._on_close is not None:
            try:
                await self._on_close(message)
            except Exception as error:
                self.fail(error)
        return {"type": "http.disconnect"}

    async def _receive_while_taken(self) -> Message | None:
        message: Message | None = None
        with anyio.CancelScope() as self._listening:
            if not isinstance(self._failure, SendTimeoutError):
                message = await self._receive()
        return message

    async def watch(self, send_timeout: float) -> None:
        """Give the stream up when a part of its body is not taken in time; runs until it is cancelled."""
        wait = send_timeout
        while wait > 0:
            await anyio.sleep(wait)
            since = self._sending_since
            wait = send_timeout if since is None else since + send_timeout - anyio.current_time()
        self.fail(_timed_out(send_timeout))
        if self._listening is not None:
            self._listening.cancel()

    async def send(self, message: Message) -> None:
        """Send a message of the stream's.

        Raises:
            ConnectionAbortedError: it can't be sent, or has failed and must not end as if it had not.
        """
        is_head = message["type"] == "http.response.start"
        is_last = not is_head and not message.get("more_body", False)
        if is_last and self._failure is not None:
            raise ConnectionAbortedError("the response has failed: its body has no proper end")
        if not self._wants_empty and not (is_head or is_last or message["body"]):
            return
        if self._is_timed and not is_head:
            self._sending_since = anyio.current_time()
        try:
            await self._pass_on(message)
        except Exception as error:
            self._refusal = error
            raise ConnectionAbortedError("the server refused a message") from error
        self._sending_since = None
        self._missing -= len(message.get("body", b""))
        self._taken.wake()

    async def send_head_alone(self, send_timeout: float | None) -> None:
        """Send the whole answer to a HEAD request.

        Raises:
            SendTimeoutError: a message was not taken in time.
            Exception: what the server's `send` raised.
        """
        end = {"type": "http.response.body", "body": b"", "more_body": False}
        for message in ({"type": "http.response.start"}, end):
            with anyio.move_on_after(send_timeout) as limit:
                await self._pass_on(message)
            if send_timeout is not None and limit.cancelled_caught:
                raise _timed_out(send_timeout)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status, headers = self._head
            message = {"type": message["type"], "status": status, "headers": headers}
        if self._prefix:
            message = {**message, "type": self._prefix + message["type"]}
        await self._send(message)

    def fail(self, error: Exception) -> None:
        """Keep what has failed; the first one counts."""
        if self._failure is None:
            self._failure = error


def _timed_out(seconds: float) -> SendTimeoutError:
    return SendTimeoutError(f"the server did not take a message within {seconds:g} s")
