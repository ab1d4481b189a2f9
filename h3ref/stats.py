"""`Stats`, a server's figures; and `Access`, what its access log says of an exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from ._core.logs import printable

__all__ = ["Access", "Stats"]

SHOWN: Final = 1024
"""The most characters of a path in a line of the access log; a longer path is shortened, but whole in the record."""


@dataclass(frozen=True, slots=True)
class Stats:
    """A server's figures: what is open now, and totals since it began. `dataclasses.asdict` makes them JSON.

    Attributes:
        process: the id of the process that they belong to.
        connections: clients that are connected now; None where another server has the connections, as under ASGI, and
            in memory.
        exchanges: requests that are being answered now, including open streams.
        streams: streams that are open now.
        opened: exchanges begun since the server began: those that are open, and those in `closed`.
        streams_opened: streams begun since then.
        closed: exchanges that are over, by `Reason`; every reason is a key.
        events: events that streams have taken, open ones included; keep-alives are not counted.
        bytes: bytes of heads, bodies, events and keep-alives that were taken for sending, without their framing; a
            client that left need not have got them all.
        refused: how often each limit, by its name in `Limits`, was the reason to refuse or to cut a client. A limit
            that never was is not a key. Nor are those that refuse nobody: `keep_alive` and `requests` end a connection
            between two requests, `stream_age` and `stream_age_jitter` end a stream properly, `stream_keep_alive` sends
            a comment, `stream_buffer` and `handler_threads` make code wait, and past `close_timeout` and
            `cleanup_timeout` only the end of something that is over is given up.
    """

    process: int
    connections: int | None
    exchanges: int
    streams: int
    opened: int
    streams_opened: int
    closed: dict[str, int]
    events: int
    bytes: int
    refused: dict[str, int]


class Access(NamedTuple):
    """What the access log says of one request; `str` makes the line. A log record has it as its attribute `access`.

    It holds neither the query nor a header: clients that can't set headers send their tokens in the query.

    Attributes:
        client: the client's address as far as the adapter knows it, which behind a proxy is the proxy's; otherwise "".
        method: the request's method; "" if the request was refused before it could be read.
        path: the target up to its query, percent-encoded as it came; "" likewise.
        status: the answer's status; 0 if none was sent: the client had left, or a framework answered in our place.
        reason: why the exchange is over, as in `Reason`; "refused" if the adapter refused it before any handler.
        events: the number of events in its stream.
        size: bytes of the answer, counted as in `Stats`.
        seconds: from the end of its head to the end of its answer.
    """

    client: str
    method: str
    path: str
    status: int
    reason: str
    events: int
    size: int
    seconds: float

    def __str__(self) -> str:
        line = f"{printable(self.method)} {printable(self.path[:SHOWN])}" if self.method else "-"
        return (
            f'{printable(self.client) or "-"} "{line}" {self.status or "-"} {self.reason}, '
            f"{self.events} events, {self.size} bytes, {self.seconds:.3f} s"
        )
