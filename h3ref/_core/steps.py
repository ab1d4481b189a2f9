"""`Steps`: a call that is awaited step by step, so that one which waits for nothing costs just a call."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Generator
from contextlib import suppress
from types import coroutine
from typing import TYPE_CHECKING, Any

import anyio

from .parking import asyncio_loop

if TYPE_CHECKING:
    import asyncio


class Steps:
    """A call that has begun, and waits for something.

    On trio only a call that has entered no scope can be gone on with: its scopes would be around those of the caller.

    Attributes:
        is_over: whether it has come to its end, or was given up.
    """

    __slots__ = ("_code", "_gives_up", "_proxy", "_waited", "is_over")

    def __init__(self, code: Generator[Any, None, object], waited: Any) -> None:
        self._code = code
        self._waited = waited  # for what it waits: a future of its loop's, or None for the loop's next turn
        self._proxy: asyncio.Future[None] | None = None  # where the task waits that goes on with it
        self._gives_up = False
        self.is_over = False

    @coroutine
    def follow(self) -> Generator[Any, Any, None]:
        """Go on with it to its end, as `await` does: a cancellation is the call's, and raises what it makes of that."""
        try:
            while True:
                try:
                    sent = yield self._waited
                except BaseException as error:
                    if not hasattr(self._code, "throw"):
                        raise
                    self._waited = self._code.throw(error)
                else:  # trio sends what it has come to, asyncio nothing
                    self._waited = next(self._code) if sent is None else self._code.send(sent)
        except StopIteration:
            return
        finally:
            self.is_over = True

    async def go_on(self, deadline: float | None = None, *, shield: bool = False) -> bool:
        """Go on with it to its end, while what it waits for is not cancelled; True if it was given up.

        Args:
            deadline: when it is given up, by the loop's clock.
            shield: whether scopes around the task that calls have to wait.

        Raises:
            BaseException: what the call raises.
        """
        if asyncio_loop() is None:
            with anyio.CancelScope(deadline=math.inf if deadline is None else deadline, shield=shield) as scope:
                await self.follow()
            return scope.cancelled_caught
        while not self.is_over:
            if deadline is None:
                await self._until_ready()
            else:
                # Around the waiting alone: what the call has entered it leaves within this task, and before.
                with anyio.CancelScope(deadline=deadline, shield=shield) as scope:
                    await self._until_ready()
                self._gives_up |= scope.cancelled_caught
            self._step()
        return self._gives_up

    def abandon(self) -> None:
        """Have the task that goes on with it end it instead."""
        self._gives_up = True
        if self._proxy is not None:
            _wake(self._proxy)

    async def _until_ready(self) -> None:
        loop = asyncio_loop()
        assert loop is not None, "only asyncio's calls are run so"
        self._proxy = loop.create_future()
        if self._waited is None:
            loop.call_soon(_wake, self._proxy)
        else:
            self._waited._asyncio_future_blocking = False  # said by its `__await__` to a task that would wait for it
            proxy = self._proxy
            self._waited.add_done_callback(lambda _: _wake(proxy))
        try:
            if not self._gives_up:
                await self._proxy
        finally:
            self._proxy = None

    def _step(self) -> None:
        if self._gives_up:
            self.is_over = True
            if hasattr(self._code, "close"):
                with suppress(RuntimeError):  # it does not want to end
                    self._code.close()
            return
        try:
            self._waited = next(self._code)
        except StopIteration:
            self.is_over = True
        except BaseException:
            self.is_over = True
            raise


def begin(call: Awaitable[object]) -> Steps | None:
    """Await something as far as it goes without waiting; None if that is to its end. Raises what it raises."""
    code = call.__await__()
    try:
        waited = next(code)
    except StopIteration:
        return None
    return Steps(code, waited)


def _wake(proxy: asyncio.Future[None]) -> None:
    if not proxy.done():
        proxy.set_result(None)
