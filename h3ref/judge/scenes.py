"""`scene`: registers functions that play a check of the contract; `Site`: what a scene can use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from .reply import Reply
from .seen import content_of
from .verdict import Finding, failed, not_run
from .wire import Enough, Line, Lines, Target

MOST_CONNECTIONS: Final = 12
MOST_BYTES: Final = 4 * 1024 * 1024


class Site:
    """An app with the contract's routes.

    Args:
        target: its root.
        wait: seconds in which what is right has come.
    """

    def __init__(self, target: Target, wait: float) -> None:
        self._target = target
        self.wait = wait
        self.lines = Lines(target.connect, wait, MOST_CONNECTIONS, MOST_BYTES)

    def request(self, path: str, *fields: tuple[str, str], method: str = "GET", close: bool = True) -> bytes:
        """A request for a route."""
        accept = ("Accept", "text/event-stream")
        return self._target.at(path).request(accept, *fields, method=method, close=close)

    async def get(
        self, path: str, *fields: tuple[str, str], method: str = "GET", enough: Enough | None = None
    ) -> Reply:
        """Ask for a route on a connection of its own; read its answer to the end, if that comes in half the time."""
        async with self.lines.line() as line:
            return await line.ask(self.request(path, *fields, method=method), enough, self.wait / 2)

    @asynccontextmanager
    async def opened(self, path: str, *fields: tuple[str, str]) -> AsyncIterator[tuple[Line, Reply]]:
        """Ask for a stream, of whose answer nothing is read yet.

        Raises:
            Unplayable: by whoever asks for its head, where there is none.
        """
        async with self.lines.line() as line:
            request = self.request(path, *fields)
            await line.send(request)
            yield line, Reply("GET", anyio.current_time(), request)

    async def number(self, path: str) -> tuple[int, bytes]:
        """What a route says as a number, and the answer that says it.

        Raises:
            Unplayable: it says none.
        """
        reply = playable(await self.get(path), path)
        text = bytes(reply.body).strip()
        if not text.isdigit():
            raise Unplayable(not_run(f"{path} does not say a number"))
        return int(text), reply.raw


class Unplayable(Exception):
    """A scene can't be played on; what is found is that."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.seen)
        self.finding = finding


def playable(reply: Reply, path: str) -> Reply:
    """Return an answer of status 200 of which some has come after the head, as most routes have to give.

    Raises:
        Unplayable: it is none.
    """
    if reply.head is None:
        raise Unplayable(failed(f"{path} gets no head", reply.proof))
    if reply.head.status in (404, 405):
        raise Unplayable(not_run(f"{path} gets {reply.head.status}: the route is not there"))
    if reply.head.status != 200:
        raise Unplayable(failed(f"{path} gets {reply.head.status}", reply.head.raw[:300]))
    if not reply.body and not reply.is_over:
        raise Unplayable(not_run(f"{path} gets a head, and then nothing: see C-41"))
    return reply


def data_of(reply: Reply) -> list[str]:
    """The data of the messages that came."""
    return [message.data for _, message in content_of(reply).messages]


def has_messages(count: int) -> Enough:
    """Whether that many messages have come."""
    return lambda reply: reply.head is not None and len(content_of(reply).messages) >= count


Scene = Callable[[Site], Awaitable[Finding]]

SCENES: Final[dict[str, Scene]] = {}


def scene(id: str) -> Callable[[Scene], Scene]:
    """Register a function as the scene of a check."""

    def register(play: Scene) -> Scene:
        SCENES[id] = play
        return play

    return register
