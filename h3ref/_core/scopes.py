"""Cancel scopes: those put around code, and what anyio and trio keep private about the ones around a task.

`Cleanup` needs the latter in rare cases only, such as a scope of the code's own that is cancelled at the same moment as
the code. If a version of anyio or trio has none of it, there seems to be no such scope, and the usual cases work as
ever; the two scopes are then entered when the code begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import anyio

from .parking import asyncio_loop, asyncio_task, trio_task

if TYPE_CHECKING:
    import asyncio


@cache
def _of_anyio() -> Any:
    """The anyio module that has the scopes of asyncio's tasks; None if it lacks what is used here."""
    try:
        from anyio._backends import _asyncio
    except ImportError:
        return None
    knows = hasattr(_asyncio, "_task_states") and hasattr(_asyncio, "is_anyio_cancellation")
    links = set(getattr(getattr(_asyncio, "CancelScope", None), "__slots__", ()))
    return _asyncio if knows and hasattr(_asyncio, "TaskState") and links >= _LINKS else None


_LINKS: Final = {"_active", "_cancelling_at_enter", "_child_scopes", "_host_task", "_parent_scope", "_tasks"}
"""What anyio's scopes know of each other, and of their tasks."""


class Enclosure:
    """Two scopes, one inside the other, around code that the running task begins.

    Code is hardly ever cancelled, and entering and leaving two scopes costs as much as beginning a task. So they are
    made only when the code is cancelled, and put where they would be had they been entered before it began: within the
    scopes that were around the task then, and around those that the code itself has entered since. Where anyio or trio
    does not allow that, they are entered at once.
    """

    __slots__ = ("_around", "_base", "_cancelling", "_inner", "_outer", "_reason", "_task")

    def __init__(self) -> None:
        self._outer: Any = None
        self._inner: Any = None
        self._reason: str | None = None
        self._task: Any = None  # asyncio's or trio's, while they can still be put around its code
        self._around: Any = None  # the innermost scope that asyncio's task was in when the code began
        self._base: Any = None  # what trio knows of that
        self._cancelling = 0  # how often asyncio's task had been cancelled then

    def __enter__(self) -> None:
        if self._task is None:
            self._task = self._task_to_put_around()
        if self._task is not None:
            return
        self._make()
        self._outer.__enter__()
        self._inner.__enter__()
        if self._reason is not None:
            self._outer.cancel(self._reason)

    def expect(self, task: object) -> None:
        """The next task to enter is an asyncio task that has just begun: no scope is around it."""
        if self._reason is None and _of_anyio() is not None:
            self._task = task

    def _task_to_put_around(self) -> Any:
        """The running task, if they can be put around its code later."""
        self._base = base()
        if self._base is not None:
            return trio_task() if self._reason is None else None
        module = _of_anyio()
        task = None if module is None else asyncio_task()
        if task is None or self._reason is not None:
            return None
        state = module._task_states.get(task)
        self._around = None if state is None else state.cancel_scope
        self._cancelling = task.cancelling()
        return task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool | None:
        self._task = self._around = self._base = None
        if self._inner is None:
            return False
        nested = ExitStack()
        nested.push(self._outer)
        nested.push(self._inner)
        return nested.__exit__(kind, error, where)

    def cancel(self, reason: str) -> None:
        """Cancel the outer scope: at once, or when the code begins."""
        self._reason = reason
        if self._task is not None:
            self._make()
            if self._base is not None:
                _enter(self._outer, self._task, self._base)
                _enter(self._inner, self._task, status_of(self._outer))
            else:
                self._put_around(self._task)
            self._task = None
        if self._outer is not None:
            self._outer.cancel(reason)

    def shield(self, until: float) -> None:
        """Have the inner scope keep the cancellation away until a time of the loop's."""
        self._inner.deadline = until
        self._inner.shield = True

    @property
    def is_shielded(self) -> bool:
        """Whether it does so."""
        return self._inner is not None and bool(self._inner.shield)

    @property
    def is_inner_cancelled(self) -> bool:
        """Whether that time is up."""
        return self._inner is not None and bool(self._inner.cancel_called)

    @property
    def status(self) -> Any:
        """What trio knows of the innermost scope around the code; None on asyncio."""
        return self._base if self._base is None or self._inner is None else status_of(self._inner)

    def within(self) -> Iterator[Any]:
        """The scopes of the code's own that the running task of asyncio is in, innermost first."""
        return _of_asyncio_task(self._around if self._inner is None else self._inner)

    def _make(self) -> None:
        kind: Any = _class_here(asyncio_loop() is None)
        self._outer, self._inner = kind(), kind()

    def _put_around(self, task: asyncio.Task[object]) -> None:
        """Do what entering them does, in place: by now the task may be in others, and it is not the running one."""
        states, outer, inner, around = _of_anyio()._task_states, self._outer, self._inner, self._around
        for scope in (outer, inner):
            scope._host_task, scope._cancelling_at_enter, scope._active = task, self._cancelling, True
        outer._parent_scope, inner._parent_scope = around, outer
        outer._child_scopes.add(inner)
        if around is not None:
            around._child_scopes.add(outer)
        *_, outermost = (None, *_of_asyncio_task(around, task))
        if outermost is not None:  # the task is already in a scope of the code's own
            outermost._parent_scope = inner
            inner._child_scopes.add(outermost)
            if around is not None:
                around._child_scopes.discard(outermost)
            return
        inner._tasks.add(task)
        if around is not None:
            around._tasks.discard(task)
        state = states.get(task)
        if state is None:
            states[task] = _of_anyio().TaskState(None, inner)
        else:
            state.cancel_scope = inner


@cache
def _class_here(is_trio: bool) -> Any:
    """The class of the scopes that `anyio.CancelScope()` makes, which looks it up each time; on trio, trio's own."""
    if is_trio:
        from trio import CancelScope

        return CancelScope
    return type(anyio.CancelScope())


def base() -> Any:
    """What trio knows of the innermost scope of the running task, if `put_around` can be used for it; else None."""
    task = trio_task()
    if task is None:
        return None
    status = getattr(task, "_cancel_status", None)
    kinds: tuple[Any, Any] = (type(task), type(status))
    return status if _knows(*kinds) else None


@cache
def _knows(task: type, status: type) -> bool:
    """Whether trio's classes have all that is used here to put a scope around code that has begun."""
    has_all = all(hasattr(task, name) for name in _OF_A_TASK) and all(hasattr(status, name) for name in _OF_A_STATUS)
    return has_all and all(hasattr(_class_here(True), name) for name in _OF_A_SCOPE)


_OF_A_TASK: Final = ("_activate_cancel_status", "_cancel_status")
_OF_A_STATUS: Final = ("_scope", "effectively_cancelled", "parent")
_OF_A_SCOPE: Final = ("_cancel_status", "_has_been_entered")


@contextmanager
def put_around(status: Any, deadline: float = math.inf, *, shield: bool = False) -> Iterator[Any]:
    """Put a scope around what the running trio task has begun since it was in another one.

    A call that has begun may have entered scopes, which it will leave: a scope entered now would be within them.

    Args:
        status: what trio knows of that other one, as `base` returned it.
        deadline: of the scope, by the loop's clock.
        shield: whether scopes around it have to wait.
    """
    scope = _class_here(True)(shield=shield)
    _enter(scope, trio_task(), status)
    if deadline < math.inf:
        scope.deadline = deadline
    with ExitStack() as stack:
        stack.push(scope)
        yield scope


def _enter(scope: Any, task: Any, around: Any) -> None:
    """Do what entering a trio scope does, in place: by now the task may be in others, and it may not be running."""
    scope._has_been_entered = True
    scope._cancel_status = status = type(around)(scope=scope, parent=around)
    own = task._cancel_status
    if own is around:
        task._activate_cancel_status(status)
        return
    while own.parent is not around:
        own = own.parent
    own.parent = status


def is_cancelled(status: Any) -> bool:
    """Whether trio cancels a task in the scope with this status."""
    return bool(status.effectively_cancelled)


def lay_open(scope: Any, task: Any) -> None:
    """Let no shield within a trio scope keep the scope's cancellation away from a task."""
    own = task._cancel_status
    while own is not None and own is not status_of(scope):
        own._scope.shield = False
        own = own.parent


def adopt(task: Any, status: Any) -> None:
    """Put a trio task that was just started into the scope with this status."""
    task._activate_cancel_status(status)


def is_from_outside(error: BaseException) -> bool:
    """Whether a cancellation comes from a scope that the running task is still in, or from `Task.cancel`.

    Otherwise it comes from a scope that was left without it. What a shield keeps away does not count.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return True
    return asyncio_loop() is not None and not is_a_scopes(error)


def _of_asyncio_task(last: Any, task: asyncio.Task[object] | None = None) -> Iterator[Any]:
    """The scopes of an asyncio task, or of the running one, innermost first, up to `last`, which is left out."""
    module = _of_anyio()
    if module is not None and task is None:
        task = asyncio_task()
    state = None if task is None else module._task_states.get(task)
    scope = getattr(state, "cancel_scope", None)
    while scope is not None and scope is not last:
        yield scope
        scope = getattr(scope, "_parent_scope", None)


def is_a_scopes(error: BaseException) -> bool:
    """Whether a cancellation on asyncio comes from a scope, and not from `Task.cancel`."""
    module = _of_anyio()
    return module is not None and bool(module.is_anyio_cancellation(error))


def status_of_trio_task() -> Any:
    """What trio knows of the innermost scope of the running task; None on asyncio."""
    return getattr(trio_task(), "_cancel_status", None)


def status_of(scope: Any) -> Any:
    """What trio knows of one of its scopes that was entered; None on asyncio."""
    return getattr(scope, "_cancel_status", None)


def statuses_within(outermost: Any) -> Iterator[Any]:
    """The same for each scope that the trio task is in, innermost first, up to `outermost`, which is left out."""
    status = status_of_trio_task()
    while status is not None and status is not outermost:
        yield status
        status = getattr(status, "parent", None)


def shields(status: Any) -> bool:
    """Whether the scope with this status is shielded."""
    return bool(getattr(getattr(status, "_scope", None), "shield", False))


def open_nurseries() -> tuple[Any, ...]:
    """The nurseries of the running trio task, outermost first; none on asyncio."""
    return tuple(getattr(trio_task(), "child_nurseries", ()))


def waiting_in(nursery: Any) -> list[BaseException]:
    """What a trio nursery will raise when its tasks are over."""
    return list(getattr(nursery, "_pending_excs", ()))


def status_of_nursery(nursery: Any) -> Any:
    """What trio knows of a nursery's scope."""
    return getattr(nursery.cancel_scope, "_cancel_status", None)


def let_pass(status: Any) -> None:
    """Keep a trio scope from swallowing cancellations, even though it is cancelled itself."""
    if hasattr(status, "effectively_cancelled"):
        status.effectively_cancelled = False
