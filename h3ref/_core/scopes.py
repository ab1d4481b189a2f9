"""Cancel scopes: what those around a task say of themselves, which anyio and trio keep private.

`Cleanup` needs it in rare cases only, such as a scope of the code's own that is cancelled in the moment in which the
code is. Where a version of anyio or trio has none of it, there seems to be no such scope, and the usual cases stay as
they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import anyio

from .parking import asyncio_loop, asyncio_task, trio_task


@cache
def _of_anyio() -> Any:
    """The module of anyio that has the scopes of asyncio's tasks; None where it is another one."""
    try:
        from anyio._backends import _asyncio
    except ImportError:
        return None
    return _asyncio if hasattr(_asyncio, "_task_states") and hasattr(_asyncio, "is_anyio_cancellation") else None


def new_scopes() -> tuple[anyio.CancelScope, anyio.CancelScope]:
    """Two scopes, made of the class that `anyio.CancelScope()` makes them of, which it looks up each time."""
    kind = _class_here(asyncio_loop() is None)
    return kind(), kind()


@cache
def _class_here(_: bool) -> type[anyio.CancelScope]:
    return type(anyio.CancelScope())


def is_from_outside(error: BaseException) -> bool:
    """Whether a cancellation is that of a scope which the running task is still in, or comes from `Task.cancel`.

    Else it comes from a scope that was left without it. What a shield keeps away does not count.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return True
    return asyncio_loop() is not None and not is_a_scopes(error)


def of_asyncio_task(inner: Any) -> Iterator[Any]:
    """The scopes that the running task of asyncio is in, innermost first, up to `inner`, which is not one of them."""
    module = _of_anyio()
    task = None if module is None else asyncio_task()
    state = None if task is None else module._task_states.get(task)
    scope = getattr(state, "cancel_scope", None)
    while scope is not None and scope is not inner:
        yield scope
        scope = getattr(scope, "_parent_scope", None)


def is_a_scopes(error: BaseException) -> bool:
    """Whether a cancellation on asyncio comes from a scope, and not from `Task.cancel`."""
    module = _of_anyio()
    return module is not None and bool(module.is_anyio_cancellation(error))


def status_of_trio_task() -> Any:
    """What trio knows of the innermost scope of the running task; None on asyncio."""
    return getattr(trio_task(), "_cancel_status", None)


def statuses_within(outermost: Any) -> Iterator[Any]:
    """The same of each scope that trio's task is in, innermost first, up to `outermost`, which is not one of them."""
    status = status_of_trio_task()
    while status is not None and status is not outermost:
        yield status
        status = getattr(status, "parent", None)


def shields(status: Any) -> bool:
    """Whether the scope of which trio knows this is shielded."""
    return bool(getattr(getattr(status, "_scope", None), "shield", False))


def open_nurseries() -> tuple[Any, ...]:
    """Those of trio's running task, outermost first; none on asyncio."""
    return tuple(getattr(trio_task(), "child_nurseries", ()))


def waiting_in(nursery: Any) -> list[BaseException]:
    """What a nursery of trio's will raise when its tasks are over."""
    return list(getattr(nursery, "_pending_excs", ()))


def status_of_nursery(nursery: Any) -> Any:
    """What trio knows of a nursery's scope."""
    return getattr(nursery.cancel_scope, "_cancel_status", None)


def let_pass(status: Any) -> None:
    """Have a scope of trio's swallow no cancellation, though it is cancelled itself."""
    if hasattr(status, "effectively_cancelled"):
        status.effectively_cancelled = False
