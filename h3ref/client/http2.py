"""What httpcore2 leaves out over HTTP/2: telling the server that a stream is given up.

It forgets a response that is closed early. The server goes on sending, to nobody, and what it sends is never
acknowledged, so it fills the connection's window for all other streams. There is no public way to send RST_STREAM; the
private parts used here are looked for first, and where they are missing, httpcore2 does as it always does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import Any, Final

import httpcore2
import httpx2

GOODBYE_SECONDS: Final = 2.0
"""Seconds that telling a connection of the end of a stream may take."""

_BROKEN: Final = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError)


class _Goodbye:
    """What httpcore2 wants of a request before it writes for it."""

    extensions: Final = {"timeout": {"write": GOODBYE_SECONDS}}


def is_http2(response: httpx2.Response) -> bool:
    """Whether the answer's connection may be shared with other streams."""
    return response.http_version == "HTTP/2"


def abandon(response: httpx2.Response) -> None:
    """Tell the server that nobody reads this answer any more, and end a read of it in another thread."""
    connection, stream_id = _connection_of(response)
    if connection is None:
        return
    import h2.events

    with _unless_over():
        with connection._state_lock:
            _reset(connection, stream_id)
            if (waiting := connection._events.get(stream_id)) is not None:
                # Whoever waits for this stream looks here when something has come: the ping's answer.
                ended = h2.events.StreamReset.__new__(h2.events.StreamReset)  # its arguments change with versions
                ended.stream_id, ended.error_code, ended.remote_reset = stream_id, 8, False
                waiting.append(ended)
        connection._write_outgoing_data(_Goodbye)
        wake(response)


def wake(response: httpx2.Response) -> None:
    """Make the server answer, so that the thread that reads the answer's connection has something to read."""
    connection, _ = _connection_of(response)
    if connection is None:
        return
    with _unless_over():
        with connection._state_lock:
            connection._h2_state.ping(b"goodbye!")
        connection._write_outgoing_data(_Goodbye)


async def aabandon(response: httpx2.Response) -> None:
    """Tell the server that nobody reads this answer any more."""
    connection, stream_id = _connection_of(response)
    if connection is None:
        return
    with _unless_over():
        _reset(connection, stream_id)
        await connection._write_outgoing_data(_Goodbye)


def _unless_over() -> AbstractContextManager[None]:
    """Suppress errors that come only because the stream or the connection is already over."""
    import h2.exceptions

    return suppress(h2.exceptions.ProtocolError, *_BROKEN)


def _reset(connection: Any, stream_id: int) -> None:
    from h2.errors import ErrorCodes

    connection._h2_state.reset_stream(stream_id, ErrorCodes.CANCEL)


def _connection_of(response: httpx2.Response) -> tuple[Any, int]:
    """httpcore2's connection and its number for the answer; None if it isn't HTTP/2, or httpcore2 has changed."""
    found: Any = response.stream
    for name in ("_stream", "_httpcore_stream", "_stream", "_connection"):
        found = getattr(found, name, None)
    stream_id = response.extensions.get("stream_id")
    if stream_id is None or not all(hasattr(found, name) for name in _REACHED) or found.is_closed():
        return None, 0
    return found, stream_id


_REACHED: Final = ("_h2_state", "_state_lock", "_events", "_write_outgoing_data", "is_closed")
