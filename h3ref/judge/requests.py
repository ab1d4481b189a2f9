"""Scenes of requests that do not come in one piece."""

from __future__ import annotations

import anyio

from .reply import Reply
from .scenes import Site, data_of, playable, scene
from .verdict import Finding, failed, passed


@scene("C-49")
async def pipelined(site: Site) -> Finding:
    """RFC 9112, section 9.3.2: a request may come before the one before it has been answered."""
    async with site.lines.line() as line:
        await line.send(site.request("/ready", close=False) + site.request("/ready"))
        first = playable(await line.read(Reply("GET", anyio.current_time()), None, site.wait / 3), "/ready")
        second = Reply("GET", anyio.current_time())
        if first.rest:
            second.feed(bytes(first.rest), anyio.current_time())
        if first.closed is None:
            await line.read(second, None, site.wait / 3)
    async with site.lines.line() as line:
        await line.send(site.request("/ticks", close=False) + site.request("/ready"))
        stream = playable(await line.read(Reply("GET", anyio.current_time()), None, site.wait / 3), "/ticks")
    if data_of(stream) != ["1", "2", "3"] and data_of(stream):
        return failed("a request behind a stream's gets into the stream", stream.raw[-200:])
    if bytes(first.body) != b"ready":
        return failed("the first of two is not answered as alone", first.raw[:300])
    if second.head is None:
        if first.head is not None and "close" in first.head.tokens("connection"):
            return passed("the first is answered, and the connection closed, as it says")
        return failed("the second of two is not answered", first.raw[:300])
    if bytes(second.body) != b"ready":
        return failed("the second of two is answered otherwise than the first", second.raw[:300])
    return passed("both are answered, in their order")


@scene("C-50")
async def slow(site: Site) -> Finding:
    """A request that comes in many pieces."""
    request = site.request("/ready")
    async with site.lines.line() as line:
        for begin in range(0, len(request), 7):
            await line.send(request[begin : begin + 7])
            await anyio.sleep(0.01)
        reply = await line.read(Reply("GET", anyio.current_time()), None, site.wait / 2)
    if reply.head is not None and reply.head.status == 408:
        return passed("408: it was too slow")
    playable(reply, "/ready")
    if bytes(reply.body) != b"ready":
        return failed("a request in pieces is answered otherwise", reply.raw[:300])
    return passed("a request in pieces of 7 bytes is answered")


@scene("C-51")
async def half(site: Site) -> Finding:
    """Requests that stop in the middle hold nobody up."""
    request = site.request("/ready")
    async with site.lines.line() as one, site.lines.line() as other:
        await one.send(request[: len(request) // 2])
        await other.send(request[:3])
        reply = playable(await site.get("/ready"), "/ready")
    if bytes(reply.body) != b"ready":
        return failed("others are answered otherwise meanwhile", reply.raw[:300])
    return passed("others are answered meanwhile")
