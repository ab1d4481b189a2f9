"""`Stats`: a server's figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """A server's figures: what is open now, and what there was since it began. `dataclasses.asdict` makes them JSON.

    Attributes:
        connections: clients that are connected now; None where the connections are not ours: under an ASGI server, and
            in memory.
        exchanges: requests that are being answered now, open streams among them.
        streams: streams that are open now.
        opened: exchanges begun since the server began: those that are open, and those in `closed`.
        streams_opened: streams begun since then.
        closed: exchanges that are over, by `Reason`, each of which is there.
        events: events that streams took, those of open ones included; keep-alives are not counted.
        bytes: bytes of heads, bodies, events and keep-alives that were taken for sending, without what frames them on
            the way; a client that left need not have got them all.
        refused: how often each limit, by its name in `Limits`, was the reason to refuse or to cut somebody; those that
            were none so far are not there. Never there are those that refuse nobody: `keep_alive` and `requests` end a
            connection between two requests, `stream_age` and `stream_age_jitter` end a stream properly,
            `stream_keep_alive` sends, `stream_buffer` and `handler_threads` let wait, and past
            `close_timeout` and `cleanup_timeout` only the end of what is over is given up.
    """

    connections: int | None
    exchanges: int
    streams: int
    opened: int
    streams_opened: int
    closed: dict[str, int]
    events: int
    bytes: int
    refused: dict[str, int]
