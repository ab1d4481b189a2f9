"""`EngineTasks`: the part of an engine that you enter: its tasks, and their thread."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from .._core.failure import parts_of
from .._core.owned import Owned
from ..errors import EngineError


class EngineTasks(ABC):
    """An engine that may be entered in one task and left in another, as fixtures and lifespans do, and then again.

    It can be made before there is an event loop, as a module's global.
    """

    def __init__(self) -> None:
        self._owned: Owned[None] | None = None
        self._tasks: TaskGroup | None = None
        self._thread = 0

    @abstractmethod
    def _run(self, tasks: TaskGroup) -> AbstractAsyncContextManager[None]:
        """Run while the engine is entered, beside the tasks that channels start."""

    async def __aenter__(self) -> Self:
        if self._owned is not None:
            raise RuntimeError(f"{self!r} has been entered already: enter it once, and share it between all channels")
        self._owned = Owned(self._own())
        try:
            await self._owned.__aenter__()
        except BaseException as error:
            self._owned = None
            for part in parts_of(error):
                if isinstance(part, EngineError):
                    raise part from None  # as it was raised, before task groups have wrapped it
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._owned is not None, "it is entered before it is left"
        try:
            await self._owned.__aexit__(kind, error, where)
        finally:
            self._owned = None

    @asynccontextmanager
    async def _own(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            try:
                self._thread = threading.get_ident()
                async with self._run(tasks):
                    self._tasks = tasks
                    yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """`Engine`: start a task that ends with the engine at the latest."""
        self._entered().start_soon(function, *args)

    def _entered(self) -> TaskGroup:
        """The tasks of an engine that has been entered, in the loop where it was."""
        if self._tasks is None:
            raise RuntimeError(f"{self!r} has not been entered: use `async with engine`, or H3App(lifespan=engine)")
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{self!r} belongs to the event loop of another thread: publish there, with anyio.from_thread.run"
            )
        return self._tasks
