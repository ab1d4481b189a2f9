"""The port that an adapter implements: it carries bytes, and never decides an order.

Two objects make an adapter. A `Transport` is one request with the way back to its client; the flow asks it
either to send a plain response, or to create a `Connection`, which carries the stream. What may be sent
when is decided before either is called: a flow pulls the trigger of the state machine first.

To write an adapter, copy `adapters/memory.py`. Make one `Service(app, flow=check_flow(flow), ...)` in the event loop
that serves, start a task there that runs `service.streams.run()`, which keeps silent streams alive and ends those that
are too old, and hand the service each request, in a task of its own that has the context of no other request: `await
service.answer(transport)`. That raises nothing, and when it returns, the response is sent, or its connection closed or
cut, so that the adapter may release what it holds. To end in order, call `shut_down()` on each of `service.live`, and
wait until they are answered. Then add a line to `ADAPTERS` in `tests/clients.py`: the contract tests,
`tests/test_contract*.py`, show what it still lacks of all that every adapter can do.

An adapter leaves empty what it can't do, but every member is there: `sharing` and `stalled_since` of a connection may
be None, a transport's `client` may be "", and its `release` may do nothing. An adapter that refuses a request before
it becomes an exchange reports that by `service.log_refusal`; one whose connections are its own sets
`service.count_connections`, which is None otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

__all__ = ["Connection", "End", "Group", "RawHeaders", "Request", "Response", "Sharing", "StreamHead", "Transport"]

HIGH_WATER: Final = 64 * 1024
"""Bytes that are sent at once, without waiting for more; also the default of `Limits.stream_buffer`."""

RawHeaders = Sequence[tuple[bytes, bytes]]
"""The headers of a request, in the order they came: names in lower case, values as they came."""


class Request(NamedTuple):
    """What arrived: the request line and the headers, names in lower case, values as they came."""

    method: str
    target: str
    headers: RawHeaders
    http_version: str = "1.1"


class Response(NamedTuple):
    """A plain response, whole. The adapter adds what frames it: Date, Content-Length, Connection."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class StreamHead(NamedTuple):
    """The head of a stream. The adapter adds what frames it.

    `wire` is set by a flow that reproduces another server's bytes: an adapter that writes its own heads
    sends exactly these, and the body after them unframed.
    """

    headers: list[tuple[str, str]]
    wire: bytes | None = None


class End(Enum):
    """How a body ended, as its client can tell."""

    PROPER = "proper"
    CUT = "cut"


class Connection(Protocol):
    """The way a stream's bytes take to one client.

    A peer that left is told through the `gone` of `Transport.watch`, never by an exception: once it is
    known, every method returns at once and sends nothing.
    """

    @property
    def adapter_type(self) -> str:
        """The adapter's name, as logs show it."""

    @property
    def buffered(self) -> int:
        """How many bytes were taken by `write_chunk` and have not left yet."""

    @property
    def stalled_since(self) -> float | None:
        """The event loop's time since which the reader has taken nothing of what waits; None while nothing waits.

        With it, `Limits.send_timeout` cuts a reader that does not read. It is always None where an adapter can't tell.
        """

    @property
    def sharing(self) -> Sharing | None:
        """What it has in common with others that can be in its group; None if a channel has to write to it alone."""

    async def send_headers(self, head: StreamHead) -> int:
        """Send the head with status 200 and return its size in bytes. Called once, before all else.

        Bounded by the adapter, to `Limits.close_timeout` seconds, and not cut in two by a cancellation: a head is sent
        whole or not at all.

        Raises:
            WriteError: it can't be sent, though the peer is not known to have left.
        """

    def write_chunk(self, data: bytes) -> None:
        """Take bytes of the body and return at once; they leave soon, in order, and are never lost."""

    async def drain(self) -> None:
        """Wait until fewer than `Limits.stream_buffer` bytes are buffered, or the peer has left, or the body has ended.

        Raises:
            WriteError: what is buffered can't be sent, though the peer is not known to have left.
        """

    async def flush(self) -> None:
        """Wait until nothing is buffered, or the peer has left. Raises as `drain` does."""

    async def close(self) -> None:
        """Send what is buffered, then the proper end of the body: the last chunk on HTTP/1.1, EOF on HTTP/1.0.

        Bounded by the adapter, to `Limits.close_timeout` seconds. Called once, and never together with `cut`; for a
        HEAD request there is no body to end.
        """

    async def cut(self) -> None:
        """Send what is buffered, then end without the proper end, so that the client can tell.

        Bounded by the adapter, to `Limits.close_timeout` seconds, and called once.
        """


class Group(Protocol):
    """Connections that get the same bytes, so that an adapter can frame and keep them just once.

    A channel makes one for connections with the same `sharing`; where that is None, it writes to each by itself.
    """

    def add(self, connection: Any) -> bool:
        """Give a connection what is written from now on; False if it can't be, as when it is in a group already.

        A connection that ends leaves by itself.
        """

    def discard(self, connection: Any) -> None:
        """Give it nothing more; what was written before still leaves. It is no error if it is no member."""

    def write_chunk(self, data: bytes) -> None:
        """As `Connection.write_chunk`, for every member, in one order with what is written to it alone."""


class Sharing(Protocol):
    """What connections that can be in one group have in common: the `Connection.sharing` of each."""

    def create_group(self, mark: int, slow: Callable[[Any], None]) -> Group:
        """Create a group without members.

        Args:
            mark: bytes that may be pending before they are sent at once.
            slow: called on the loop's thread with a member that could not take all that was pending. It has been
                discarded; what it was given stays its own, and counts as buffered.
        """


class Transport(Protocol):
    """One request, and the way back to its client."""

    @property
    def request(self) -> Request:
        """The request's line and headers."""

    @property
    def client(self) -> str:
        """The client's address, for the access log; "" if it is not known. Asked for before anything else."""

    async def read_body(self) -> bytes:
        """Return the request's whole body. Never called by two tasks at once, nor begun after the head of a stream.

        Called again only if it was cancelled. A stream may open while it waits: it gets the body all the same.

        Raises:
            BodyTooLarge: it is longer than the server allows.
            BodyTimeout: it took longer than the server allows.
            RequestError: it broke off or is malformed.
        """

    def watch(self, gone: Callable[[], None]) -> None:
        """From now on call `gone`, once, when the client leaves; at once, if it has left already.

        - It may be called on any thread, since a plain def calls `start_sse` on its worker thread. So the code that
          watches must run on the loop already, or be started there; `gone` may be called on either thread.
        - It is called at most once for a request, when that asks for a stream.
        - `gone` must also be called while the body has not been read, and after a half-close, which counts as leaving.
        - Anything else that the client sends is read and thrown away; a body that nobody has read, only from
          `create_connection` on.
        - After our own close, nothing waits for `gone`.
        """

    async def send_response(self, response: Response) -> int:
        """Send a plain response and return its size in bytes, head included; a client that left is no error.

        A reader that takes nothing of it for `Limits.send_timeout` seconds is given up, which `service.refused` counts
        as "send_timeout". If a client still sends its body when the answer goes out, its socket must be read for a
        while longer before it is closed (RFC 9112, section 9.6); otherwise a reset may cost the client its answer. No
        body goes out for a HEAD request, and neither body nor Content-Length with a 204.
        """

    def create_connection(self) -> Connection:
        """Create the connection that carries this request's stream; nothing is sent yet."""

    def release(self) -> None:
        """Give back what is held for the client, such as its socket; where nothing is held, there is nothing to do.

        Called when the stream's connection has ended while a thread still runs, which may never learn of it: on the
        loop's thread, maybe more than once, and maybe after `answer` has returned. It must not raise.
        """
