"""Scenes about a request and the head of its answer: how a client asks, and what it takes for a stream."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from .stage import Fault, Inapplicable, Stage, Unjudged

Scene = Callable[[Stage], Awaitable[None]]

FIRST: Final = b"data: first\nretry: 50\n\n"
"""What a scene of several connections begins with: a client may come back soon."""


async def accepts_streams(stage: Stage) -> None:
    """C-80: `Accept: text/event-stream`."""
    accept = (await stage.visit()).field("accept")
    if accept is None or "text/event-stream" not in accept.lower():
        raise Fault(f"the request says Accept: {accept}" if accept else "the request has no Accept header")


async def bypasses_caches(stage: Stage) -> None:
    """C-81: no answer from a cache."""
    visit = await stage.visit()
    said = visit.field("cache-control") or ""
    if "no-cache" not in said.lower() and "no-store" not in said.lower():
        raise Fault(f"the request says Cache-Control: {said}" if said else "the request has no Cache-Control header")


def takes_type(media_type: str) -> Scene:
    """C-82: a media type with parameters, or in other letters."""

    async def scene(stage: Stage) -> None:
        visit = await stage.visit()
        await visit.open(b"data: a\n\n", media_type=media_type)
        await visit.end()
        await stage.expect("a", why=f"the media type is {media_type}")

    return scene


async def decodes_as_utf8(stage: Stage) -> None:
    """C-83: another charset is not believed."""
    visit = await stage.visit()
    await visit.open("data: é€\n\n".encode(), media_type="text/event-stream; charset=iso-8859-1")
    await visit.end()
    found = await stage.message()
    if found is None:
        raise Unjudged("the client takes no stream whose media type says a charset")
    if found.data != "é€":
        raise Fault(f"the media type said charset=iso-8859-1, and the client printed {found.data!r} for 'é€' in UTF-8")


async def refuses_other_types(stage: Stage) -> None:
    """C-84: 200 with another media type."""
    visit = await stage.visit()
    await visit.answer("200 OK", "Content-Type: text/plain", body="data: a\n\n")
    if not await stage.stays_away():
        await _back_again(stage, "an answer of text/plain")
    if found := await stage.dismiss():
        raise Fault(f"the answer was text/plain, and the client printed {found[0].data!r}")


async def ends_at_204(stage: Stage) -> None:
    """C-85: 204 means that it is over."""
    await (await stage.visit()).answer("204 No Content")
    if not await stage.stays_away():
        await _back_again(stage, "a 204")


async def ends_at_204_later(stage: Stage) -> None:
    """C-85: the same when it comes back."""
    visit = await stage.visit()
    await visit.open(FIRST)
    await visit.end()
    await ends_at_204(stage)


async def ends_at_404(stage: Stage) -> None:
    """C-86: an error of the client's."""
    await _ends_at(stage, "404 Not Found")


async def ends_at_403_with_a_stream(stage: Stage) -> None:
    """C-86: the media type of an error's answer says nothing."""
    visit = await stage.visit()
    await visit.answer("403 Forbidden", "Content-Type: text/event-stream", body="data: a\n\n")
    if not await stage.stays_away():
        await _back_again(stage, "a 403")
    if found := await stage.dismiss():
        raise Fault(f"the status was 403, and the client printed {found[0].data!r}")


async def ends_at_500(stage: Stage) -> None:
    """C-87: an error of the server's."""
    await _ends_at(stage, "500 Internal Server Error")


async def ends_at_503(stage: Stage) -> None:
    """C-87: one that is called temporary."""
    await _ends_at(stage, "503 Service Unavailable")


async def _ends_at(stage: Stage, status: str) -> None:
    await (await stage.visit()).answer(status, "Content-Type: text/plain", body="no")
    if not await stage.stays_away():
        await _back_again(stage, f"a {status[:3]}")


async def _back_again(stage: Stage, what: str) -> None:
    await (await stage.visit()).answer("204 No Content")
    raise Fault(f"after {what} the client asked again")


def redirected(status: str) -> Scene:
    """C-88: a redirect of one kind, to the same origin."""

    async def scene(stage: Stage) -> None:
        visit = await stage.visit()
        await visit.answer(status, f"Location: {stage.url}/moved")
        if await stage.stays_away():
            raise Fault(f"the redirect by {status} was not followed")
        moved = await stage.visit()
        if not moved.target.endswith("/moved"):
            raise Fault(f"after a redirect by {status} to {stage.url}/moved the client asked for {moved.target}")
        await moved.open(b"data: a\n\n")
        await moved.end()
        await stage.expect("a")

    return scene


async def redirected_elsewhere(stage: Stage) -> None:
    """C-89: a redirect to another origin, for a client that follows one to its own."""
    visit = await stage.visit()
    await visit.answer("307 Temporary Redirect", f"Location: {stage.url}/moved")
    if await stage.stays_away():
        raise Unjudged("the client does not follow redirects")
    visit = await stage.visit()
    await visit.answer("307 Temporary Redirect", f"Location: {stage.elsewhere}/there")
    if await stage.stays_away():
        raise Fault("a redirect to another origin, which allows every page to read it, was not followed")
    there = await stage.visit()
    await there.open(b"data: a\n\n")
    await there.end()
    await stage.expect("a")


async def takes_a_length(stage: Stage) -> None:
    """C-90: a body that Content-Length frames."""
    visit = await stage.visit()
    await visit.open(b"data: a\n\n", b"data: b\n\n", framing="length: 18")
    await visit.cut()
    await stage.expect("a", "b")


async def takes_a_body_without_framing(stage: Stage) -> None:
    """C-90: HTTP/1.0, whose body ends with the connection."""
    visit = await stage.visit()
    await visit.open(b"data: a\n\n", b"data: b\n\n", framing="eof")
    await visit.cut()
    await stage.expect("a", "b")


async def decompresses_at_once(stage: Stage) -> None:
    """C-91: where gzip is asked for, each event comes out when it has come."""
    visit = await stage.visit()
    if "gzip" not in (visit.field("accept-encoding") or ""):
        raise Inapplicable("the client asks for no compression, which is well")
    packer = zlib.compressobj(wbits=31)
    await visit.open(fields=["Content-Encoding: gzip"])
    for data in ("a", "b"):
        event = packer.compress(f"data: {data}\n\n".encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
        await visit.send(event)
        await stage.expect(data, why="the stream is compressed, and was flushed behind the event")


async def delivers_at_once(stage: Stage) -> None:
    """C-76: a message comes out when its blank line has come, whatever follows."""
    visit = await stage.visit()
    await visit.open()
    for data in ("a", "b", "c"):
        await visit.send(f"data: {data}\n\n".encode())
        await stage.expect(data, why="its blank line had been sent")


async def delivers_at_the_carriage_return(stage: Stage) -> None:
    """C-77: a CR ends its line, whether or not a LF follows."""
    visit = await stage.visit()
    await visit.open(b"data: first\n\n")
    if await stage.message() is None:
        raise Unjudged("the client does not print a message at once")
    await visit.send(b"data: a\r\r")
    await stage.expect("a", why="two CR had been sent, and a LF that may follow adds nothing")


async def takes_large_events(stage: Stage) -> None:
    """C-78: an event of a mebibyte."""
    visit = await stage.visit()
    data = "x" * (1 << 20)
    await visit.open(f"data: {data}\n\ndata: b\n\n".encode())
    await visit.end()
    found = await stage.message()
    if found is None or found.data != data:
        what = f"printed {len(found.data):,} characters" if found else "printed nothing"
        raise Fault(f"an event of {len(data):,} bytes was sent, and the client {what}")
    await stage.expect("b")


async def takes_many_events(stage: Stage) -> None:
    """C-79: ten thousand at once."""
    visit = await stage.visit()
    wanted = [str(number) for number in range(10_000)]
    await visit.open("".join(f"data: {data}\n\n" for data in wanted).encode())
    await visit.end()
    await stage.expect(*wanted, why="they must come in order, none lost and none twice")
