"""`Steps`: a call awaited step by step, so that one that waits for nothing costs no more than a call."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Generator
from contextlib import suppress
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

import anyio

from . import scopes
from .parking import asyncio_loop, trio_task

if TYPE_CHECKING:
    import asyncio


class Steps:
    """A call that has begun, and waits for something.

    Attributes:
        is_over: whether it has come to its end, or was given up.
    """

    __slots__ = ("_base", "_code", "_gives_up", "_proxy", "_scope", "_task", "_waited", "is_over")

    def __init__(self, code: Generator[Any, None, object], waited: Any, base: Any = None) -> None:
        self._code = code
        self._waited = waited  # what it waits for: a future of its loop, or None for the loop's next turn
        self._base = base  # what trio knows of the scope in which it began
        self._scope: Any = None  # trio's scope in which it goes on
        self._task: Any = None  # the trio task that goes on with it
        self._proxy: asyncio.Future[None] | None = None  # where the task that goes on with it waits
        self._gives_up = False
        self.is_over = False

    @coroutine
    def follow(self) -> Generator[Any, Any, None]:
        """Go on with it to its end, as `await` does: a cancellation goes to the call, which decides what is raised."""
        try:
            if self._waited is _NOT_BEGUN:
                self._waited = next(self._code)
            while True:
                try:
                    sent = yield self._waited
                except BaseException as error:
                    if not hasattr(self._code, "throw"):
                        raise
                    self._waited = self._code.throw(error)
                else:  # trio sends the outcome, asyncio nothing
                    self._waited = next(self._code) if sent is None else self._code.send(sent)
        except StopIteration:
            return
        finally:
            self.is_over = True

    async def go_on(self, deadline: float | None = None, *, shield: bool = False) -> bool:
        """Go on with it to its end, without cancelling what it waits for; return True if it was given up.

        The calling task is in the scopes in which the call began, and in no others of its own.

        Args:
            deadline: when it is given up, by the loop's clock.
            shield: whether scopes around the calling task have to wait.

        Raises:
            BaseException: what the call raises.
        """
        if asyncio_loop() is None:
            return await self._go_on_in_scope(math.inf if deadline is None else deadline, shield)
        while not self.is_over:
            if deadline is None:
                await self._until_ready()
            else:
                # Around the wait alone: the call leaves what it has entered within this task, and outside this scope.
                with anyio.CancelScope(deadline=deadline, shield=shield) as scope:
                    await self._until_ready()
                self._gives_up |= scope.cancelled_caught
            self._step()
        return self._gives_up

    async def _go_on_in_scope(self, deadline: float, shield: bool) -> bool:
        self._task = trio_task()
        with scopes.put_around(self._base, deadline, shield=shield) as self._scope:
            if self._gives_up:
                self._scope.cancel()
            await self.follow()
        self._gives_up |= self._scope.cancelled_caught
        return self._gives_up

    def due(self) -> None:
        """Its time is up."""
        self.abandon()

    def abandon(self) -> None:
        """Have the task that goes on with it end it instead, whatever it shields."""
        self._gives_up = True
        if self._proxy is not None:
            _wake(self._proxy)
        if self._scope is not None and not self.is_over:
            scopes.lay_open(self._scope, self._task)
            self._scope.cancel()

    async def _until_ready(self) -> None:
        loop = asyncio_loop()
        assert loop is not None, "only asyncio's calls are run this way"
        self._proxy = loop.create_future()
        if self._waited is None:
            loop.call_soon(_wake, self._proxy)
        else:
            self._waited._asyncio_future_blocking = False  # set by its `__await__` for a task that would wait for it
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
                with suppress(RuntimeError):  # it refuses to end
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
    """Await something as far as it goes without waiting; None if that is all the way. Raises what it raises.

    In a trio task that is already cancelled, it begins only when it is gone on with.
    """
    base = scopes.base()
    code = call.__await__()
    if base is not None and scopes.is_cancelled(base):  # for which a scope put around the call would come too late
        return Steps(code, _NOT_BEGUN, base)
    try:
        waited = next(code)
    except StopIteration:
        return None
    return Steps(code, waited, base)


_NOT_BEGUN: Final = object()


def _wake(proxy: asyncio.Future[None]) -> None:
    if not proxy.done():
        proxy.set_result(None)
