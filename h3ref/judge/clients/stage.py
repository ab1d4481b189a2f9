"""`Stage`: one scene's server on the loopback interface, and the one client that is started for it.

A scene is a script. It waits for the client's requests and messages, answers, and raises `Fault` where the client does
what it must not. No scene asks how long something took, but for the one that says how soon a client may come back: it
waits until the client has done something, or has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
import anyio.abc

from .program import Client, NotAMessage
from .vectors import Message
from .visit import LONGEST_HEAD, Transcript, Visit, parsed_head

PATH: Final = "/stream"
MOST_DISMISSALS: Final = 3
LAST_WORDS: Final = 300


class Fault(Exception):
    """The client has done what it must not, or not what it must."""


class Unjudged(Exception):
    """The scene did not come to what it is about, for another reason."""


class Inapplicable(Exception):
    """This client does nothing that the scene could look at."""


class Stage:
    """One scene's server and its client.

    Args:
        limit: the most seconds to wait for anything that the client does.
        silence: seconds for which a quiet stream is quiet.

    Attributes:
        silence: as it was given.
        transcript: what was sent and received, for people.
        url: what the client is given.
        elsewhere: the same path at another origin, which this stage serves too.
        misprint: why a line that the client printed is not a message; "" if all were.
    """

    def __init__(self, limit: float, silence: float) -> None:
        self.silence = silence
        self.transcript = Transcript()
        self.url = self.elsewhere = self.misprint = ""
        self._limit = limit
        self._visits: deque[Visit] = deque()
        self._messages: deque[Message] = deque()
        self._ended = False
        self._news = anyio.Event()

    # -- for scenes

    async def visit(self) -> Visit:
        """Wait for the client's next request.

        Raises:
            Unjudged: none has come within the limit, or the client has ended.
        """
        if not await self._wait():
            raise Unjudged(f"no request came {self._why_none()}")
        return self._visits.popleft()

    async def stays_away(self) -> bool:
        """Whether the client ends, or lets the limit pass, without another request."""
        return not await self._wait()

    async def message(self) -> Message | None:
        """Wait for the client's next message; None if none has come within the limit, or the client has ended.

        A request that comes meanwhile is answered with 204, which ends a client: then all that it printed has come.
        """
        with anyio.move_on_after(self._limit):
            while not self._messages and not self._ended:
                if self._visits:
                    await self._visits.popleft().answer("204 No Content")
                else:
                    await self._next()
        return self._messages.popleft() if self._messages else None

    async def expect(self, *data: str, why: str = "") -> None:
        """Wait for messages with these data, which must be the next ones.

        Args:
            data: the data of each.
            why: what another one shows, for people.

        Raises:
            Fault: another one has come, or none within the limit.
        """
        because = f": {why}" if why else ""
        for wanted in data:
            found = await self.message()
            if found is None:
                raise Fault(f"{wanted[:80]!r} was sent, and not printed {self._why_none()}{because}")
            if found.data != wanted:
                raise Fault(f"the client printed {found.data[:80]!r} where {wanted[:80]!r} must come{because}")

    async def dismiss(self) -> list[Message]:
        """Answer all further requests with 204, which ends a client, and return what it prints until it has ended.

        A client that neither ends nor comes back is left alone when the limit has passed.
        """
        for _ in range(MOST_DISMISSALS):
            if not await self._wait():
                break
            await self._visits.popleft().answer("204 No Content")
        found = list(self._messages)
        self._messages.clear()
        return found

    # -- behind it

    async def _wait(self) -> bool:
        """Wait for a request."""
        with anyio.move_on_after(self._limit):
            while not self._visits and not self._ended:
                await self._next()
        return bool(self._visits)

    async def _next(self) -> None:
        self._news = anyio.Event()
        await self._news.wait()

    def _why_none(self) -> str:
        return "before the client ended" if self._ended else f"within {self._limit:g} s"

    async def _run(self, client: Client) -> None:
        try:
            words = await client.run(self.url, self._take)
        except NotAMessage as error:
            words = self.misprint = str(error)
        self.transcript.note(f"the client ends: {' '.join(words.split())[-LAST_WORDS:]}")
        self._ended = True
        self._news.set()

    async def _take(self, message: Message) -> None:
        self.transcript.message(message)
        self._messages.append(message)
        self._news.set()

    async def _serve(self, stream: anyio.abc.ByteStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                data = b""
                while b"\r\n\r\n" not in data and len(data) <= LONGEST_HEAD:
                    data += await stream.receive()
                visit = Visit(stream, parsed_head(data), self.transcript)
                self.transcript.request(data)
                if visit.method == "GET":
                    self._visits.append(visit)
                    self._news.set()
                    await visit.over()
                else:  # a page's preflight
                    await visit.allow()


@asynccontextmanager
async def raised(client: Client, limit: float, silence: float = 0.0) -> AsyncIterator[Stage]:
    """Have a stage with a client that has been started for it, and end both.

    Raises:
        OSError: the client can't be started, or nobody can listen on the loopback interface.
    """
    stage = Stage(limit, silence)
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as here,
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as there,
        anyio.create_task_group() as group,
    ):
        stage.url, stage.elsewhere = (
            f"http://127.0.0.1:{one.extra(anyio.abc.SocketAttribute.local_port)}{PATH}" for one in (here, there)
        )
        for listener in (here, there):
            group.start_soon(listener.serve, stage._serve)
        group.start_soon(stage._run, client)
        yield stage
        group.cancel_scope.cancel()
