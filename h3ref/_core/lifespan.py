"""`Lifespan`: what an app holds from before its first request until after its last, such as a connection pool."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from .callables import check_takes, is_async, is_generator, name_of
from .parking import start_task

log = logging.getLogger("h3ref.lifespan")

_HOW = "decorate it with contextlib.asynccontextmanager"


class Lifespan:
    """What an app was given as its lifespan.

    Args:
        given: an async context manager; or a callable that takes the app and returns one; None for nothing.

    Raises:
        TypeError: it is neither.
    """

    def __init__(
        self, given: AbstractAsyncContextManager[Any] | Callable[[Any], AbstractAsyncContextManager[Any]] | None
    ) -> None:
        self._given = given
        self._entered: RunVar[int] = RunVar("h3ref_lifespan", 0)  # how often it is entered in the loop that asks
        if given is None or _is_context(given):
            return
        if not callable(given):
            raise TypeError(
                f"a lifespan is an async context manager, or takes the H3App and returns one, not {given!r}"
            )
        check_takes(given, 1, "a lifespan", "the H3App")
        if is_generator(given) or inspect.isasyncgenfunction(given) or is_async(given):
            raise TypeError(f"{name_of(given)} returns no async context manager as it is: {_HOW}")

    @property
    def is_missing(self) -> bool:
        """Whether there is one that has not been entered in the event loop that runs here."""
        return self._given is not None and not self._entered.get()

    @asynccontextmanager
    async def entered(self, app: object) -> AsyncIterator[None]:
        """Enter it for one server, in the task that also leaves it.

        Raises:
            TypeError: the callable returned no async context manager.
            Exception: what it raised.
        """
        if self._given is None:
            yield
            return
        context: Any = self._given if _is_context(self._given) else self._given(app)  # type: ignore[operator]
        if not _is_context(context):
            raise TypeError(
                f"the lifespan {name_of(self._given)} returned {context!r}, no async context manager: {_HOW}"
            )
        async with context:
            self._entered.set(self._entered.get() + 1)
            try:
                yield
            finally:
                self._entered.set(self._entered.get() - 1)


class Held:
    """A lifespan, held by a task of its own: no cancellation reaches it before all that depends on it has ended.

    Nor does its own failure reach that: if it fails by itself, its holder is told, ends in order, and gets the failure
    on leaving.

    Args:
        context: what is entered, and left in the same task.
        failed: called when it has failed by itself.

    Attributes:
        seconds: how long leaving it may take before it is cancelled; None for no limit.
    """

    def __init__(self, context: AbstractAsyncContextManager[None], failed: Callable[[], object]) -> None:
        self.seconds: float | None = None
        self._context = context
        self._failed = failed
        self._task: object  # kept, as `start_task` requires
        self._scope = anyio.CancelScope()
        self._begun = anyio.Event()
        self._left = anyio.Event()
        self._over = anyio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Held:
        self._task = start_task(self._hold)
        try:
            await self._begun.wait()
        except anyio.get_cancelled_exc_class():
            self._scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._over.wait()
            raise
        if self._failure is not None:
            raise self._failure
        return self

    async def __aexit__(self, *_: object) -> None:
        self._left.set()
        if self.seconds is not None:
            self._scope.deadline = anyio.current_time() + self.seconds
        with anyio.CancelScope(shield=True):
            await self._over.wait()
        if self._failure is not None:
            raise self._failure
        if self._scope.cancelled_caught:
            log.warning("the app's lifespan had not ended after the grace period: it was cancelled")

    async def _hold(self) -> None:
        try:
            with self._scope:
                async with self._context:
                    self._begun.set()
                    await self._left.wait()
        except anyio.get_cancelled_exc_class():
            self._failure = RuntimeError("the app's lifespan awaited something that somebody else had cancelled")
            raise  # or the loop ends
        except BaseException as error:  # a trio system task that raises ends the loop
            self._failure = error
            if self._begun.is_set() and not self._left.is_set():
                self._failed()
        finally:
            self._over.set()
            self._begun.set()


def _is_context(given: object) -> bool:
    return hasattr(type(given), "__aenter__") and hasattr(type(given), "__aexit__")
