"""The framework's Request that the code of a stream has in its hands, and will read the body by.

Starlette keeps private by what a Request receives, and whether it has received all.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, Final

from starlette.requests import Request

from .messages import Receive

_RECEIVE: Final = "_receive"

DEPTH: Final = 3
"""So far it is looked for: in a generator that another one has as an argument, and in one that this has."""


def request_in(content: object, receive: Receive) -> Request | None:
    """The Request among a generator's arguments and what is enclosed in its function, or a callback's; None if none.

    It is one that receives from where the response does.
    """
    return next((found for found in _within(content, DEPTH) if getattr(found, _RECEIVE, None) == receive), None)


def is_read(request: Request) -> bool:
    """Whether its body was read to its end, or is being read."""
    return bool(getattr(request, "_stream_consumed", False)) or hasattr(request, "_body")


def give_receive(request: Request, receive: Receive) -> None:
    """Have it receive by another function."""
    setattr(request, _RECEIVE, receive)


def _within(thing: object, depth: int) -> Iterator[Request]:
    if isinstance(thing, Request):
        yield thing
    elif depth:
        for part in _parts_of(thing):
            yield from _within(part, depth - 1)


def _parts_of(thing: Any) -> Iterator[Any]:
    if isinstance(thing, AsyncGeneratorType):
        yield from _locals_of(thing.ag_frame)
    elif isinstance(thing, GeneratorType):
        yield from _locals_of(thing.gi_frame)
    elif isinstance(thing, CoroutineType):
        yield from _locals_of(thing.cr_frame)
    elif isinstance(thing, MethodType):
        yield thing.__func__
        yield from getattr(thing.__self__, "__dict__", {}).values()
    elif isinstance(thing, partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, FunctionType):
        for cell in thing.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # it has no value yet
                continue


def _locals_of(frame: Any) -> Iterator[Any]:
    """A generator's arguments and what is enclosed in its function; one that is over has none."""
    return iter(() if frame is None else tuple(frame.f_locals.values()))
