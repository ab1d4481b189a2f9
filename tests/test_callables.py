"""What kind of callable it is: the quick answers are those of `inspect`, for whatever a user may give."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from h3ref._core.callables import check_takes, is_async, is_async_generator, is_generator


def plain(one: Any) -> None: ...


def none() -> None: ...


def two(one: Any, another: Any) -> None: ...


def by_default(one: Any = 1, another: Any = 2) -> None: ...


def position_only(one: Any, /) -> None: ...


def any_number(*all: Any) -> None: ...


def by_name(one: Any, *, name: Any) -> None: ...


def by_name_or_not(one: Any, *, name: Any = 1) -> None: ...


async def coroutine(one: Any) -> None: ...


def generator(one: Any) -> Iterator[int]:
    yield 1


async def async_generator(one: Any) -> AsyncIterator[int]:
    yield 1


@functools.wraps(two)
def wraps_two(*all: Any) -> None: ...


@functools.wraps(plain)
def wraps_one(one: Any, another: Any) -> None: ...


@functools.wraps(two)
def wraps_by_name(one: Any, *, name: Any) -> None: ...


def signed(one: Any) -> None: ...


signed.__signature__ = inspect.signature(two)  # type: ignore[attr-defined]


class Holder:
    def method(self, one: Any) -> None: ...

    def too_few(self) -> None: ...

    def all(*all: Any) -> None: ...

    def generates(self, one: Any) -> Iterator[int]:
        yield 1

    async def generates_async(self, one: Any) -> AsyncIterator[int]:
        yield 1

    @classmethod
    def of_class(cls, one: Any) -> None: ...

    @staticmethod
    def static(one: Any) -> None: ...


class Called:
    def __call__(self, one: Any) -> None: ...


class CalledGenerator:
    def __call__(self, one: Any) -> Iterator[int]:
        yield 1


class CalledAsyncGenerator:
    async def __call__(self, one: Any) -> AsyncIterator[int]:
        yield 1


KINDS: dict[str, Callable[..., Any]] = {
    **{function.__name__: function for function in (plain, none, two, by_default, position_only, any_number)},
    **{function.__name__: function for function in (by_name, by_name_or_not, coroutine, generator, async_generator)},
    **{
        "wraps two": wraps_two,
        "wraps one": wraps_one,
        "wraps by name": wraps_by_name,
        "signed": signed,
        "lambda": lambda one: None,
    },
    **{name: getattr(Holder(), name) for name in dir(Holder) if not name.startswith("_")},
    **{"unbound": Holder.method, "class": Called, "built-in": print, "of a type": [].append},
    **{"object": Called(), "generates": CalledGenerator(), "generates async": CalledAsyncGenerator()},
    **{"partial": functools.partial(plain), "partial of two": functools.partial(two, 1)},
    **{"partial generator": functools.partial(generator), "partial coroutine": functools.partial(coroutine)},
}

each_kind = pytest.mark.parametrize("function", KINDS.values(), ids=KINDS)


@each_kind
def test_what_it_is(function: Callable[..., Any]) -> None:
    parts = (function, getattr(function, "__call__", None))  # noqa: B004
    assert is_async(function) is any(map(inspect.iscoroutinefunction, parts))
    assert is_async_generator(function) is any(map(inspect.isasyncgenfunction, parts))
    assert is_generator(function) is any(
        [*map(inspect.isasyncgenfunction, parts), *map(inspect.isgeneratorfunction, parts)]
    )


@each_kind
@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_it_takes(function: Callable[..., Any], count: int) -> None:
    try:
        inspect.signature(function, follow_wrapped=False).bind(*[None] * count)
    except TypeError:
        with pytest.raises(TypeError, match="a hook must take it; "):
            check_takes(function, count, "a hook", "it")
    else:
        check_takes(function, count, "a hook", "it")


def test_what_cannot_be_called_takes_nothing() -> None:
    with pytest.raises(TypeError, match="a hook is a callable that takes it, not 3"):
        check_takes(3, 1, "a hook", "it")


def test_a_decorated_function_is_judged_by_what_is_called() -> None:
    @functools.wraps(two)
    def passes_another(one: Any) -> None:
        two(one, "another")

    check_takes(passes_another, 1, "a hook", "it")
    with pytest.raises(TypeError, match="a hook must take it; plain: missing a required argument: 'another'"):
        check_takes(wraps_one, 1, "a hook", "it")
