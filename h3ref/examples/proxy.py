"""An upstream's event stream, passed on in capitals: read with `EventStreamParser`, written with the awaited flow.

    python -m h3ref serve h3ref.examples.proxy:app
    curl -N http://127.0.0.1:3000/upstream                          # what it reads
    curl -N http://127.0.0.1:3000/events                            # what it makes of it

The environment variable H3REF_UPSTREAM names another upstream. It is no parameter of the request: a proxy that
fetches whatever URL it is told is an open door into the network that it stands in.

Within h3ref only adapters, client, lab and cli may use h11 and sockets; the examples are exempt, as the programs
that they are. This one reads its upstream without a library, so it needs no more than h3ref itself does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.abc
import h11

from h3ref import EventStreamParser, H3App, H3Event, SSEEvent

log = logging.getLogger("h3ref.examples.proxy")

DEFAULT_UPSTREAM: Final = "http://127.0.0.1:3000/upstream"
TIMEOUT: Final = 10.0
PAUSE = 0.3

SENTENCE = "every word of this will be shouted"

app = H3App()


@app.get("/events")
async def events(event: H3Event) -> None:
    """While the upstream is being asked nothing has been sent, so that its failure can still be a real 502."""
    try:
        upstream = await Upstream.open(os.environ.get("H3REF_UPSTREAM", DEFAULT_UPSTREAM), event.last_event_id)
    except (OSError, anyio.BrokenResourceError, h11.RemoteProtocolError) as error:
        log.warning("the upstream can't be read: %s", error)
        event.send_error(502, "the upstream can't be read")
        return
    async with upstream:  # a client that leaves cancels what follows, which closes the upstream
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            parser = EventStreamParser()
            while chunk := await upstream.read():
                for message in parser.feed(chunk):
                    await writer.send_event(message._replace(data=message.data.upper()).to_event())


class Upstream:
    """An event stream that somebody else sends, over HTTP/1.1 in the clear."""

    def __init__(self, socket: anyio.abc.SocketStream) -> None:
        self._socket = socket
        self._http = h11.Connection(h11.CLIENT)

    @classmethod
    async def open(cls, url: str, last_event_id: str) -> Upstream:
        """Ask for the stream, from behind the event with that id on.

        Raises:
            ValueError: it is not an http URL.
            OSError, anyio.BrokenResourceError, h11.RemoteProtocolError: it can't be had.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"an upstream is an http URL, not {url!r}")
        headers = [(b"Host", parts.netloc.encode()), (b"Accept", b"text/event-stream")]
        if last_event_id:
            headers.append((b"Last-Event-ID", last_event_id.encode()))
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        request = h11.Request(method="GET", target=target, headers=headers)
        with anyio.fail_after(TIMEOUT):
            upstream = cls(await anyio.connect_tcp(parts.hostname, parts.port or 80))
            try:
                await upstream._ask(request)
            except BaseException:
                await anyio.aclose_forcefully(upstream._socket)
                raise
        return upstream

    async def _ask(self, request: h11.Request) -> None:
        await self._socket.send((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        while isinstance(head := await self._next(), h11.InformationalResponse):
            pass
        if not isinstance(head, h11.Response) or head.status_code != 200:
            raise ConnectionError(f"it answered {getattr(head, 'status_code', 'nothing')}")
        content_type = dict(head.headers).get(b"content-type", b"").decode("latin-1")
        if content_type.partition(";")[0].strip().lower() != "text/event-stream":
            raise ConnectionError(f"it answered with {content_type or 'no content type'}, not with an event stream")

    async def read(self) -> bytes:
        """Wait for the next bytes of the stream; b"" at its proper end.

        Raises:
            anyio.BrokenResourceError, h11.RemoteProtocolError: it broke off.
        """
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                self._http.receive_data(await self._socket.receive())
            except anyio.EndOfStream:
                self._http.receive_data(b"")
        return event

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await anyio.aclose_forcefully(self._socket)


@app.sse("/upstream")
async def words(event: H3Event) -> AsyncIterator[SSEEvent]:
    """A little upstream, in case you have none."""
    for number, word in enumerate(SENTENCE.split()):
        yield SSEEvent(word, event="word", id=str(number))
        await anyio.sleep(PAUSE)
