"""Scenes about coming back: when a client does, with which Last-Event-ID, and what it forgets by then."""

from __future__ import annotations

import time
from typing import Final

import anyio

from .heads import FIRST, Scene
from .stage import Fault, Stage, Unjudged
from .visit import Visit

SHORTEST: Final = 0.4
"""Seconds that the scenes of `retry` ask for; three times, so that a machine that stands still once hides nothing."""

BOM: Final = "\ufeff".encode()


async def _back(stage: Stage) -> Visit:
    try:
        return await stage.visit()
    except Unjudged as error:
        raise Unjudged(f"the client did not come back: {error}") from None


async def _returned(stage: Stage, *chunks: bytes) -> Visit:
    """A client's second visit, after a stream that had these bytes and a proper end.

    Raises:
        Unjudged: it does not come back.
    """
    visit = await stage.visit()
    await visit.open(FIRST, *chunks)
    await visit.end()
    return await _back(stage)


async def comes_back(stage: Stage) -> None:
    """C-92: after the proper end of a stream."""
    visit = await stage.visit()
    await visit.open(FIRST)
    await visit.end()
    await _must_come(stage, "the stream ended")


async def comes_back_after_a_cut(stage: Stage) -> None:
    """C-93: after the connection broke."""
    visit = await _returned(stage)
    await visit.open(b"data: a\n\ndata: half of an eve")
    await visit.cut()
    await _must_come(stage, "the connection was closed in the middle of an event")


async def tries_again_without_a_head(stage: Stage) -> None:
    """C-94: after a connection that was closed before the head."""
    visit = await _returned(stage)
    await visit.cut()
    await _must_come(stage, "the connection was closed before the head of an answer")


async def _must_come(stage: Stage, what: str) -> None:
    if await stage.stays_away():
        raise Fault(f"{what}, and the client did not come back")
    await (await stage.visit()).answer("204 No Content")


def id_on_return(stream: bytes, wanted: str | None, *, why: str, cut: bool = False) -> Scene:
    """C-95: a scene of one stream, and the Last-Event-ID that the next request must have."""

    async def scene(stage: Stage) -> None:
        visit = await stage.visit()
        await visit.open(FIRST, stream)
        await (visit.cut() if cut else visit.end())
        _check_id(await _back(stage), wanted, why)

    return scene


def later_id(stream: bytes, wanted: str | None, *, why: str, cut: bool = False) -> Scene:
    """C-96, C-97: the same for a client that has been seen to bring an id."""

    async def scene(stage: Stage) -> None:
        visit = await _returned(stage, b"id: 1\ndata: a\n\n")
        if visit.field("last-event-id") != "1":
            raise Unjudged("the client brings no id at all")
        await visit.open(stream)
        await (visit.cut() if cut else visit.end())
        if not cut and await stage.stays_away():
            raise Fault(f"the client had come back once, and did not after a stream of {stream!r}")
        _check_id(await _back(stage), wanted, why)

    return scene


def _check_id(visit: Visit, wanted: str | None, why: str) -> None:
    found = visit.field("last-event-id") or None
    if found != wanted:
        said = f"Last-Event-ID: {found}" if found is not None else "no Last-Event-ID"
        must = f"Last-Event-ID: {wanted}" if wanted is not None else "none"
        raise Fault(f"the client came back with {said}, and must bring {must}: {why}")


async def keeps_the_id(stage: Stage) -> None:
    """C-97: over a failed attempt, and over a stream that brings no id."""
    visit = await stage.visit()
    await visit.open(FIRST, b"id: 7\ndata: a\n\n")
    await visit.end()
    second = await _back(stage)
    _check_id(second, "7", "the stream before had it")
    await second.open(b"data: b\n\n")
    await second.end()
    third = await _back(stage)
    _check_id(third, "7", "the stream before had no id, which takes none back")
    await third.cut()
    _check_id(await _back(stage), "7", "the attempt before was closed before the head, which takes none back")


async def brings_the_id_through_a_redirect(stage: Stage) -> None:
    """C-95: a redirect when the client comes back."""
    visit = await stage.visit()
    await visit.open(FIRST, b"id: 7\ndata: a\n\n")
    await visit.end()
    second = await _back(stage)
    _check_id(second, "7", "the stream before had it")
    await second.answer("307 Temporary Redirect", f"Location: {stage.url}/moved")
    if await stage.stays_away():
        raise Unjudged("the client does not follow redirects")
    _check_id(await stage.visit(), "7", "a redirect to the same origin changes none of its headers")


def waits(*first: bytes) -> Scene:
    """C-98: a scene in which a client may not come back sooner than it was told, three times over."""

    async def scene(stage: Stage) -> None:
        visit = await stage.visit()
        await visit.open(*first, b"data: a\n\n")
        for _ in range(3):
            began = time.monotonic()
            await visit.end()
            visit = await _back(stage)
            waited = time.monotonic() - began
            if waited < SHORTEST * 0.95:  # some timers round
                told, took = SHORTEST * 1000, waited * 1000
                raise Fault(f"the client was told to wait {told:.0f} ms, and came back after {took:.0f} ms")
            await visit.open(b"data: b\n\n")

    return scene


def forgets(stream: bytes, then: bytes, *wanted: str, why: str) -> Scene:
    """C-72: a scene of a stream that is cut off, and of the next one, which begins anew."""

    async def scene(stage: Stage) -> None:
        visit = await _returned(stage)
        await visit.open(stream)
        await visit.cut()
        second = await _back(stage)
        await second.open(then)
        await second.end()
        await stage.expect("first", *wanted, why=why)

    return scene


async def drops_each_bom(stage: Stage) -> None:
    """C-72: each connection may have a BOM."""
    visit = await stage.visit()
    await visit.open(BOM + FIRST)
    await visit.end()
    second = await _back(stage)
    await second.open(BOM + b"data: b\n\n")
    await second.end()
    found = await stage.message()
    if found is None or found.data != "first":
        raise Unjudged("the client does not drop the BOM of its first connection")
    await stage.expect("b", why="each connection may have a BOM")


async def bears_silence(stage: Stage) -> None:
    """C-99: a quiet stream is not a fault."""
    visit = await stage.visit()
    await visit.open(b"data: a\n\n")
    await anyio.sleep(stage.silence)
    await visit.send(b"data: b\n\n")
    await visit.end()
    found = [await stage.message(), await stage.message()]
    if [one and one.data for one in found] != ["a", "b"]:
        raise Fault(f"the stream was silent for {stage.silence:g} s, and the client did not wait for what came then")
