"""Scenes of text that would become more than text if nobody checked it."""

from __future__ import annotations

from urllib.parse import quote

from .reply import Reply
from .scenes import Site, playable, scene
from .seen import content_of
from .verdict import Finding, failed, passed

_ENDS = ("\n", "\r", "\r\n")


@scene("C-52")
async def by_data(site: Site) -> Finding:
    """Data with line ends, fields and blank lines in it."""
    for end in _ENDS:
        text = f"a{end}event: evil{end}{end}data: b"
        reply = await _echo(site, data=text)
        messages = [message for _, message in content_of(reply).messages]
        if _is_refused(reply):
            continue
        if any(message.type == "evil" for message in messages) or len(messages) != 1:
            return failed(f"data with {end!r} becomes {len(messages)} events", bytes(reply.body[:200]))
        if messages[0].data != text.replace("\r\n", "\n").replace("\r", "\n"):
            return failed(f"data with {end!r} comes as another text", bytes(reply.body[:200]))
    return passed("it comes as it was, in one event, or is refused")


@scene("C-53")
async def by_event(site: Site) -> Finding:
    """A type with line ends in it."""
    return await _nothing_evil(site, "event")


@scene("C-54")
async def by_id(site: Site) -> Finding:
    """An id with line ends in it."""
    return await _nothing_evil(site, "id")


@scene("C-55")
async def by_header(site: Site) -> Finding:
    """A value of a header with line ends in it."""
    for end in _ENDS:
        reply = await _echo(site, data="good", header=f"a{end}X-Evil: 1")
        if _is_refused(reply) or reply.head is None:
            continue
        if reply.head.all("x-evil") or reply.head.faults:
            return failed(f"a value with {end!r} becomes a field of its own, or breaks the head", reply.head.raw[:300])
    return passed("it is refused, or made harmless")


async def _nothing_evil(site: Site, name: str) -> Finding:
    for end in _ENDS:
        reply = await _echo(site, data="good", **{name: f"a{end}data: evil{end}{end}data: evil"})
        if _is_refused(reply):
            continue
        if b"evil" in b"".join(b"".join(block.values(b"data")) for block in content_of(reply).blocks):
            return failed(f"with {end!r} in it, it becomes data", bytes(reply.body[:200]))
    return passed("it is refused, or made harmless")


async def _echo(site: Site, **query: str) -> Reply:
    path = "/echo?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    reply = await site.get(path)
    return reply if _is_refused(reply) else playable(reply, "/echo")


def _is_refused(reply: Reply) -> bool:
    """A status that says so, or an end without a head or an event."""
    if reply.head is None:
        return reply.closed is not None
    return (reply.head.status >= 400 and reply.head.status != 404) or (reply.is_over and not reply.body)
