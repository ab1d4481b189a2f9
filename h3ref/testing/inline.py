"""`InlineRunner`: an event loop that the caller's own thread drives, for systems without threads, as in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .asynchronous import AsyncTestClient
from .clock import VirtualLoop, settle
from .results import Stuck
from .stream import AsyncStream

T = TypeVar("T")


class InlineLoop(VirtualLoop):
    """A virtual loop that nothing outside can wake: neither a thread, nor a socket."""

    def _make_self_pipe(self) -> None:
        """A browser has no pair of sockets; and there is no other thread that would write to one."""

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _pass_time(self, timeout: float | None) -> Any:
        if timeout is None:
            raise Stuck("the app waits for something that can never come: nothing is due, and nothing is outside")
        self._now += timeout
        return []


class InlineRunner:
    """As `Runner`, without a thread: the loop turns while a call waits, and stands still between calls.

    Args:
        client: entered when the runner begins, and left when it ends.
    """

    def __init__(self, client: AsyncTestClient) -> None:
        self.is_open = False
        self._client = client
        self._loop: InlineLoop | None = None

    def now(self) -> float:
        """The seconds since the client was entered, on the loop's clock."""
        return round(self._loop.time() - self._client._began, 9) if self._loop is not None else 0.0

    def begin(self) -> None:
        """Make the loop, and enter the client.

        Raises:
            RuntimeError: it has begun and not ended.
            Exception: what the client raised when it was entered.
        """
        if self.is_open:
            raise RuntimeError("a TestClient is entered once at a time")
        self._loop = InlineLoop()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._close()
            raise
        self.is_open = True

    def call(self, function: Callable[[], Awaitable[T]], timeout: float | None, stream: AsyncStream | None = None) -> T:
        """Run a function in the loop, and let the app come to rest after it; the timeout is the function's own.

        Raises:
            RuntimeError: it has not begun, or has ended.
            Stuck: nothing can happen any more.
            Exception: what the function raised.
        """
        if not self.is_open:
            raise RuntimeError("the client is not open: use it inside `with TestClient(app) as client:`")
        return self._run(_settled(function))

    def end(self) -> BaseException | None:
        """Leave the client, and close the loop; return what went wrong on the way."""
        self.is_open = False
        try:
            self._run(self._client.__aexit__(None, None, None))
        except Exception as error:
            return error
        finally:
            self._close()
        return None

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "begin makes it"
        with _no_loop_runs():
            return self._loop.run_until_complete(coroutine)

    def _close(self) -> None:
        assert self._loop is not None, "begin makes it"
        with _no_loop_runs():
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _settled(function: Callable[[], Awaitable[T]]) -> T:
    try:
        return await function()
    finally:
        await settle()


@contextmanager
def _no_loop_runs() -> Iterator[None]:
    """The loop of the page, if its code runs in one, waits meanwhile."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
