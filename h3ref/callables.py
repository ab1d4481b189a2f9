"""What kind of callable a user gave us: whether it is awaited, yields, and can be called as it will be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of it must be awaited; a plain def goes to a worker thread."""
    plain = function.__func__ if type(function) is MethodType else function
    if type(plain) is FunctionType and plain.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # said at a twentieth of the cost
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call of it only makes a generator, which runs nothing until somebody iterates over it."""
    return is_async_generator(function) or any(map(inspect.isgeneratorfunction, (function, _call_of(function))))


def is_async_generator(function: Callable[..., Any]) -> bool:
    """Whether it is the generator of an `async def`."""
    return any(map(inspect.isasyncgenfunction, (function, _call_of(function))))


def name_of(function: Any) -> str:
    """What to call it in a text for its author."""
    return getattr(function, "__name__", None) or repr(function)


def check_takes(function: Any, count: int, role: str, what: str) -> None:
    """Refuse what can't be called with `count` arguments.

    Raises:
        TypeError: it can't; the text says what the role takes.
    """
    if not callable(function):
        raise TypeError(f"{role} is a callable that takes {what}, not {function!r}")
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError as error:
        raise TypeError(f"{role} must take {what}; {name_of(function)}: {error}") from None
    except ValueError:
        return  # a callable without a signature, as some built-in ones are


def _call_of(function: Callable[..., Any]) -> Any:
    return getattr(function, "__call__", None)  # noqa: B004  # an object whose class has the coroutine function
