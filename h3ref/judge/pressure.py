"""Scenes of large and endless events, and of a reader that stalls."""

from __future__ import annotations

import anyio

from .reply import Reply
from .scenes import Site, data_of, has_messages, playable, scene
from .verdict import Finding, failed, not_run, passed

MOST_WAITING = 64 * 1024 * 1024
"""Bytes that are too much for a reader that reads nothing: the systems at both ends keep a tenth of that."""

PART_OF_ENDLESS = 1024 * 1024
"""Bytes of an endless event that are read before its reader leaves: fewer than the smallest may have."""

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
        came = ", ".join(f"an event of {size:,} characters" for size in sizes[:5]) or "no event"
        return failed(f"what comes is {came}{'' if reply.is_complete else ', and no end'}", reply.raw[-80:])
    return passed("a million characters in one event")


@scene("C-59")
async def endless_event(site: Site) -> Finding:
    """An event that never ends, whose reader leaves in the middle; others ask meanwhile."""
    before, _ = await site.number("/count")
    async with site.opened("/endless") as (line, reply):
        await line.read(reply, lambda reply: len(reply.body) >= PART_OF_ENDLESS, site.wait / 3)
        if found := await _not_endless(site, reply):
            return found
        ready = await site.get("/ready")
        if ready.head is None:
            return failed(f"others get no answer in {site.wait / 2:g} s while it is sent", ready.proof)
        during, said = await site.number("/count")
    if during <= before:
        return not_run("/count does not count it")
    began = anyio.current_time()
    with anyio.move_on_after(site.wait / 3):
        while during > before:
            during, said = await site.number("/count")
            await anyio.sleep(_LOOK)
        return passed(f"passed on; that its reader has left is noticed within {anyio.current_time() - began:.2f} s")
    return failed(f"its reader has left in the middle, and it is sent on: /count says {during}", said)


async def _not_endless(site: Site, reply: Reply) -> Finding | None:
    """What else an endless event is; None where it is one, and is passed on as it comes."""
    if reply.head is not None and reply.head.status >= 400 and reply.head.status not in (404, 405):
        return passed(f"refused with {reply.head.status}, before anything was sent")
    silent = reply.head is not None and reply.head.status == 200 and not reply.body and not reply.is_over
    if silent and data_of(await site.get("/first", enough=has_messages(1))):
        return failed("the head, and nothing of the event, while another stream's comes: it is gathered", reply.raw)
    playable(reply, "/endless")
    if data_of(reply):
        return failed("it comes as an event that has an end, which it has not", reply.raw[-80:])
    if reply.is_complete:
        return failed("it is cut short, and ends as if it were whole", reply.raw[-80:])
    if reply.is_over:
        return passed(f"cut after {len(reply.body)} bytes, so that its reader can tell")
    if len(reply.body) < PART_OF_ENDLESS:
        return failed(f"{len(reply.body)} bytes of it come, and then none: the rest is gathered", reply.raw[-80:])
    return None
