"""Callables from the user: whether one is awaited, yields, and accepts the call that it will get."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call to it must be awaited; a plain def goes to a worker thread."""
    plain = function.__func__ if type(function) is MethodType else function
    if type(plain) is FunctionType and plain.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # the same answer at a twentieth of the cost
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call to it only makes a generator, which runs nothing until it is iterated over."""
    plain = function.__func__ if type(function) is MethodType else function
    if type(plain) is FunctionType:  # called for each stream; inspect checks no more than this, in 2 us
        return bool(plain.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR))
    return is_async_generator(function) or any(map(inspect.isgeneratorfunction, (function, _call_of(function))))


def is_async_generator(function: Callable[..., Any]) -> bool:
    """Whether it is an asynchronous generator function."""
    return any(map(inspect.isasyncgenfunction, (function, _call_of(function))))


def is_over(function: Any) -> bool:
    """Whether a stream callback says that it will never send anything, by its attribute `is_over`.

    For a method, the attribute of its object counts; for a `functools.partial`, that of the callable inside.
    """
    while type(function) is partial:
        function = function.func
    owner = function.__self__ if type(function) is MethodType else function
    return getattr(owner, "is_over", False) is True


def name_of(function: Any) -> str:
    """Its name, for a text that its author reads."""
    return getattr(function, "__name__", None) or repr(function)


def check_takes(function: Any, count: int, role: str, what: str) -> None:
    """Refuse an object that can't be called with `count` arguments.

    Raises:
        TypeError: it can't be; the text says what the role takes.
    """
    if not callable(function):
        raise TypeError(f"{role} is a callable that takes {what}, not {function!r}")
    if _plainly_takes(function, count):
        return
    try:
        # Not the function that functools.wraps names as wrapped: the arguments don't go to that one.
        inspect.signature(function, follow_wrapped=False).bind(*[None] * count)
    except TypeError as error:
        raise TypeError(f"{role} must take {what}; {name_of(function)}: {error}") from None
    except ValueError:
        return  # a callable without a signature, as some built-in ones are


def _plainly_takes(function: Any, count: int) -> bool:
    """Whether it is a plain function or method that takes this many; its code object says so at a tenth of the cost."""
    plain = function
    if type(function) is MethodType:
        plain, count = function.__func__, count + 1
    if type(plain) is not FunctionType or hasattr(plain, "__signature__"):
        return False
    code = plain.__code__
    required = code.co_argcount - len(plain.__defaults__ or ())
    return not code.co_kwonlyargcount and required <= count <= code.co_argcount


def _call_of(function: Callable[..., Any]) -> Any:
    return getattr(function, "__call__", None)  # noqa: B004  # an object whose class has the coroutine function
