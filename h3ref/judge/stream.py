"""`judge_stream`: judges any stream, with only the requests that a polite client may send.

It opens at most eight connections in all, reads a bounded part of each answer, and ends in the time that it is given.
The requests go out together, in two rounds: the second one is of those that go on where the first one left off. What
was seen is judged by `heads`, `contents`, `arrivals` and `variants`, as soon as all is there that a check needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from ..sse import fault_of_id
from . import arrivals as arrivals  # these register their looks
from . import contents as contents
from . import heads as heads
from . import variants as variants
from .catalogue import Check
from .http2 import ask_by_http2
from .looks import LOOKS, judge_by
from .reply import Reply
from .seen import Seen, Waits, content_of
from .variants import ORIGIN, STRANGER
from .verdict import Tell
from .wire import Enough, Line, Lines, Target, Unreachable

MANY = 64
"""Events that are enough."""
SOME = 5
"""Events that are enough after `Waits.enough`."""

_STREAM = ("Accept", "text/event-stream")
_FRESH = ("Cache-Control", "no-store")  # as browsers ask for a stream


async def judge_stream(target: Target, checks: Sequence[Check], tell: Tell, *, waits: Waits | None = None) -> None:
    """Judge a stream.

    Args:
        target: what to ask, and how.
        checks: of the group stream, those that are wanted.
        tell: is called with each verdict.
        waits: how long to wait for what; None for the defaults.

    Raises:
        Unreachable: no connection can be had.
    """
    if checks:
        await _Judge(target, checks, tell, waits or Waits()).run()


class _Judge:
    def __init__(self, target: Target, checks: Sequence[Check], tell: Tell, waits: Waits) -> None:
        self._target = target
        self._waits = waits
        self._tell = tell
        self._lines = Lines(target.connect, waits.watch)
        self._seen = Seen(target, waits)
        self._asked = list(checks)
        self._done: set[str] = set()
        self._main_answers = anyio.Event()
        self._wanted = {name for check in checks for name in LOOKS[check.id].needs}

    async def run(self) -> None:
        async with self._lines.line() as line:  # before all others: without it there is nothing to judge

            async def main() -> None:
                await self._main(line)

            others = {"browser": self._browser, "head": self._head, "preflight": self._preflight, "old": self._old}
            await self._together({"main": main, **others})
        await self._together({"again": self._again, "stranger": self._stranger, "http2": self._http2})
        assert not self._asked, "every check that was asked for is judged"

    async def _together(self, requests: dict[str, Callable[[], Awaitable[None]]]) -> None:
        async with anyio.create_task_group() as tasks:
            for name, request in requests.items():
                if name in self._wanted:
                    tasks.start_soon(self._one, name, request)

    async def _one(self, name: str, request: Callable[[], Awaitable[None]]) -> None:
        if name != "main":  # which a server that takes no second reader shall have taken first
            with anyio.move_on_after(self._waits.short):
                await self._main_answers.wait()
        await request()
        self._done.add(name)
        for check in [check for check in self._asked if self._done >= set(LOOKS[check.id].needs)]:
            self._asked.remove(check)
            self._tell(judge_by(check, self._seen))

    # -- the requests, each on a connection of its own

    async def _main(self, line: Line) -> None:
        reply = await line.ask(self._target.request(_STREAM, _FRESH), self._has_enough, self._waits.watch)
        self._seen.main, self._seen.watched_until = reply, anyio.current_time()
        self._main_answers.set()
        if reply.is_complete:
            await line.read_end(reply, self._waits.short)

    async def _browser(self) -> None:
        fields = _STREAM, _FRESH, ("Accept-Encoding", "gzip, deflate"), ("Origin", ORIGIN), ("Sec-Fetch-Mode", "cors")
        self._seen.browser = await self._ask(self._target.request(*fields), _has_blocks(3), self._waits.answer)

    async def _head(self) -> None:
        self._seen.head = await self._ask(
            self._target.request(_STREAM, method="HEAD"), None, self._waits.answer, then=self._waits.short
        )

    async def _preflight(self) -> None:
        method = ("Access-Control-Request-Method", self._target.method)
        names = ("Access-Control-Request-Headers", "last-event-id")
        request = self._target.request(("Origin", ORIGIN), method, names, method="OPTIONS")
        self._seen.preflight = await self._ask(request, _has_head, self._waits.answer)

    async def _old(self) -> None:
        self._seen.old = await self._ask(self._target.request(_STREAM, version="1.0"), _has_head, self._waits.answer)

    async def _again(self) -> None:
        ids = [id for id in self._seen.content.ids if not fault_of_id(id)]
        self._seen.after = ids[(len(ids) - 1) // 2] if ids else ""
        known = (("Last-Event-ID", self._seen.after),) if ids else ()
        request = self._target.request(("Accept", "*/*"), *known)
        self._seen.again = await self._ask(request, _has_blocks(2), self._waits.late)

    async def _stranger(self) -> None:
        request = self._target.request(_STREAM, ("Last-Event-ID", STRANGER))
        self._seen.stranger = await self._ask(request, _has_blocks(2), self._waits.late)

    async def _http2(self) -> None:
        self._seen.http2 = await ask_by_http2(self._target, self._waits.late)

    async def _ask(self, request: bytes, enough: Enough | None, seconds: float, *, then: float = 0.0) -> Reply:
        """Ask on a new connection. Where none is to be had any more, the answer is one that was reset."""
        try:
            async with self._lines.line() as line:
                reply = await line.ask(request, enough, seconds)
                return await line.read_end(reply, then) if then else reply
        except Unreachable:
            reply = Reply("", anyio.current_time(), request)
            reply.close("reset", anyio.current_time())
            return reply

    def _has_enough(self, reply: Reply) -> bool:
        if reply.head is None:
            return False
        self._main_answers.set()
        blocks, age = _blocks_in(reply), anyio.current_time() - reply.head.at
        return blocks >= MANY or (blocks >= SOME and age >= self._waits.enough)


def _has_head(reply: Reply) -> bool:
    return reply.head is not None


def _has_blocks(count: int) -> Enough:
    return lambda reply: _blocks_in(reply) >= count


def _blocks_in(reply: Reply) -> int:
    """How many blank lines have come."""
    if reply.head is not None and reply.head.get("content-encoding"):
        return len(content_of(reply).messages)
    return sum(reply.body.count(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r"))
