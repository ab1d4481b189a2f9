"""Scenes of how a stream ends: by itself, by a failure, by its client, and with its server."""

from __future__ import annotations

import anyio

from .scenes import Site, data_of, has_messages, playable, scene
from .verdict import Finding, failed, not_applicable, not_run, passed

_LOOK = 0.02
"""Seconds between two checks whether something has happened."""


@scene("C-43")
async def late_failure(site: Site) -> Finding:
    """A handler that fails after two events."""
    reply = playable(await site.get("/late"), "/late")
    if reply.is_complete:
        return failed("it ends as if it were whole", reply.raw[-80:])
    if reply.closed is None:
        return failed("it is left open", reply.raw[-80:])
    return passed(f"cut after {len(data_of(reply))} events")


@scene("C-44")
async def whole_stream(site: Site) -> Finding:
    """Three events, and the end."""
    reply = playable(await site.get("/ticks"), "/ticks")
    if data_of(reply) != ["1", "2", "3"]:
        return failed(f"what came is {', '.join(data_of(reply)[:5]) or 'nothing'}", reply.raw[-200:])
    if not reply.is_complete:
        return failed("it has no proper end", reply.raw[-80:])
    return passed("three events and the end")


@scene("C-45")
async def leaving(site: Site) -> Finding:
    """A client that leaves while nothing is sent."""
    async with site.opened("/open") as (line, reply):
        playable(await line.read(reply, has_messages(1), site.wait / 2), "/open")
        before, said = await site.number("/count")
        if not data_of(reply) or before < 1:
            return not_run("the stream does not open")
    began = anyio.current_time()
    with anyio.move_on_after(site.wait / 2):
        now = before
        while now >= before:
            now, said = await site.number("/count")
            await anyio.sleep(_LOOK)
        return passed(f"noticed within {anyio.current_time() - began:.2f} s")
    return failed(f"not noticed in {site.wait / 2:g} s, while nothing was sent: /count says {now}", said)


@scene("C-58")
async def shutdown(site: Site) -> Finding:
    """The server ends while a stream is open; it comes last, for after it there is no server."""
    async with site.opened("/first") as (line, reply):
        playable(await line.read(reply, has_messages(1), site.wait / 3), "/first")
        asked = await site.get("/shutdown", method="POST")
        if asked.head is None or asked.head.status in (404, 405, 501):
            return not_applicable("/shutdown is not there")
        began = anyio.current_time()
        await line.read(reply, None, site.wait / 2)
        if reply.is_complete:
            return passed(f"the stream got its proper end after {anyio.current_time() - began:.2f} s")
        if reply.closed is not None:
            return failed("the stream is cut", reply.raw[-80:])
        return failed(f"the stream is still open after {site.wait / 2:g} s", reply.raw[-80:])
