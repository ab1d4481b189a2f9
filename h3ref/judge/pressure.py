"""Scenes of large events, and of a reader that stalls."""

from __future__ import annotations

import anyio

from .scenes import Site, data_of, playable, scene
from .verdict import Finding, failed, not_run, passed

MOST_WAITING = 64 * 1024 * 1024
"""So much for one reader who reads nothing is too much: what the systems at both ends keep is a tenth of it."""

_SAME = 5
_LOOK = 0.1


@scene("C-46")
async def back_pressure(site: Site) -> Finding:
    """A reader that reads nothing, of a stream that sends what it can."""
    async with site.opened("/flood") as (line, reply):
        playable(await line.read(reply, lambda reply: len(reply.body) > 0, site.wait / 3), "/flood")
        sent, same, said = -1, 0, b""
        with anyio.move_on_after(site.wait / 2):
            while same < _SAME and sent < MOST_WAITING:
                now, said = await site.number("/flooded")
                same = same + 1 if now == sent else 0
                sent = now
                await anyio.sleep(_LOOK)
    if sent >= MOST_WAITING:
        return failed(f"{sent >> 20} MiB wait for a reader who reads nothing, and more come", said)
    if same < _SAME:
        return not_run(f"{sent >> 20} MiB were sent, and it was not seen to stop")
    return passed(f"it stops at {sent >> 20} MiB")


@scene("C-47")
async def others_meanwhile(site: Site) -> Finding:
    """Others ask while one reader reads nothing."""
    slowest = 0.0
    async with site.opened("/flood") as (line, reply):
        playable(await line.read(reply, lambda reply: len(reply.body) > 0, site.wait / 3), "/flood")
        for _ in range(20):
            began = anyio.current_time()
            with anyio.move_on_after(site.wait / 2) as waited:
                playable(await site.get("/ready"), "/ready")
            if waited.cancelled_caught:
                return failed(f"others get no answer in {site.wait / 2:g} s", site.request("/ready"))
            slowest = max(slowest, anyio.current_time() - began)
    return passed(f"others are answered in {slowest * 1000:.0f} ms at most")


@scene("C-48")
async def large_event(site: Site) -> Finding:
    """One event of a million characters."""
    reply = playable(await site.get("/large"), "/large")
    sizes = [len(data) for data in data_of(reply)]
    if sizes != [1_000_000] or not reply.is_complete:
        return failed(f"what came are events of {sizes} characters", reply.raw[-80:])
    return passed("a million characters in one event")
