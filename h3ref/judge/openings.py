"""Scenes of how a stream begins: events come when they are sent, and an early failure is reported."""

from __future__ import annotations

from uuid import uuid4

from .arrivals import proxies
from .scenes import Site, data_of, has_messages, playable, scene
from .verdict import Finding, failed, not_run, passed


@scene("C-40")
async def one_by_one(site: Site) -> Finding:
    """The second event is sent when the first one has come, so anything that holds back the first one shows.

    A browser takes gzip, so that a compressor on the way has its turn.
    """
    key = uuid4().hex
    async with site.opened(f"/gated?key={key}", ("Accept-Encoding", "gzip, deflate")) as (line, reply):
        await line.read(reply, has_messages(1), site.wait / 3)
        came = data_of(reply)
        ready = await site.get(f"/release?key={key}")
        await line.read(reply, has_messages(2), site.wait / 2)
    who = proxies([reply.head, ready.head])
    if not data_of(reply):
        if reply.head is not None and reply.head.status != 200:
            playable(reply, "/gated")
        return not_run("no event comes at all, also later")
    if not came:
        where = f", by {who}" if who else ""
        return failed(f"nothing came until the next event had been sent: it is held back{where}", reply.proof)
    if len(data_of(reply)) < 2:
        return failed("the second event does not come", reply.raw[-200:])
    return passed("the first event came before the second one was sent")


@scene("C-41")
async def writer_in_time(site: Site) -> Finding:
    """L-17: a handler that asks for its writer before the head has been sent never gets one."""
    async with site.opened("/first") as (line, reply):
        await line.read(reply, lambda reply: reply.head is not None, site.wait / 2)
        if reply.head is None:
            return not_run("no head comes")
        if reply.head.status != 200:
            playable(reply, "/first")
        await line.read(reply, has_messages(1), site.wait / 2)
        if data_of(reply) == ["first"]:
            return passed("the head, and then the event")
        ready = await site.get("/ready")
    answers = "while it answers other requests" if ready.head is not None else "and it answers nothing else"
    if reply.is_over:
        return failed("the stream ends without its event", reply.raw[:400])
    return failed(
        f"the head, and then silence, {answers}: the writer was asked for before it was ready (L-17)", reply.raw[:400]
    )


@scene("C-42")
async def early_failure(site: Site) -> Finding:
    """A handler that fails before its first event."""
    reply = await site.get("/early")
    if reply.head is None:
        return failed("no head comes", reply.proof)
    if reply.head.status >= 500:
        return passed(f"{reply.head.status}")
    if reply.head.status == 404:
        return not_run("/early gets 404: the route is not there")
    if reply.is_complete:
        then = "the end, as of a stream that had nothing to send"
    else:
        then = "silence" if reply.closed is None else "a cut, which does not say why"
    return failed(f"{reply.head.status}, and then {then}", reply.raw[:400])
