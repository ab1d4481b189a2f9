"""The framework's Request that a stream's code holds, and will read the body with.

Starlette keeps private which function a Request receives with, and whether it has received everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from gc import get_referents
from inspect import currentframe
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    NoneType,
)
from typing import Any, Final

from starlette.requests import Request

from .messages import Receive

_RECEIVE: Final = "_receive"

DEPTH: Final = 3
"""How deep it is looked for: in a generator that is another one's argument, and in one that is an argument of that."""

CALLERS: Final = 4
"""How many calls out it is looked for around a response: where Starlette or FastAPI calls it, or a wrapper does."""


def request_in(content: object, receive: Receive) -> Request | None:
    """The Request among the arguments of a generator, or enclosed in its function or a callback; None if none.

    It must receive from the same source as the response.
    """
    return _within(content, receive, DEPTH)


def request_around(receive: Receive) -> Request | None:
    """The Request of the endpoint whose response is being called, found among the callers; None if none has it.

    The code that reads with it may be anywhere, as in an object that a dependency has made.
    """
    frame: FrameType | None = currentframe()
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    for _ in range(CALLERS):
        if frame is None:
            break
        for found in frame.f_locals.values():
            if isinstance(found, Request) and getattr(found, _RECEIVE, None) == receive:
                return found
        frame = frame.f_back
    return None


def is_read(request: Request) -> bool:
    """Whether its body was read to its end, or is being read."""
    return bool(getattr(request, "_stream_consumed", False)) or hasattr(request, "_body")


def give_receive(request: Request, receive: Receive) -> None:
    """Have it receive with another function."""
    setattr(request, _RECEIVE, receive)


def _within(thing: Any, receive: Receive, depth: int) -> Request | None:
    kind = type(thing)
    if kind in _PLAIN:
        return None
    parts_of = _PARTS.get(kind)
    if parts_of is None:
        if Request in kind.__mro__:  # what isinstance would say, at a tenth of the cost: it is an abstract class
            return thing if getattr(thing, _RECEIVE, None) == receive else None
        if not isinstance(thing, partial):
            return None
        parts_of = _PARTS[partial]
    for part in parts_of(thing) if depth else ():
        found = _within(part, receive, depth - 1)
        if found is not None:
            return found
    return None


def _enclosed(function: FunctionType) -> Iterable[Any]:
    return map(_content, function.__closure__ or ())


def _held_by(generator: object, code: CodeType) -> Iterable[Any]:
    """Arguments, variables and what is enclosed in the function; a generator that is over has none.

    The garbage collector knows them, too. A look at its frame's `f_locals` would cost a dict, and a frame, for as long
    as the generator lives.
    """
    held = []
    for thing in get_referents(generator):
        kind = type(thing)
        if kind is CellType:
            held.append(_content(thing))
        elif kind not in _PLAIN and (kind is not FunctionType or thing.__code__ is not code):
            held.append(thing)
    return held


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet
        return None


_PLAIN: Final = frozenset((NoneType, CodeType, bool, bytes, dict, float, int, list, set, str, tuple, type))
"""What most arguments are. Nothing is looked for in them, and checking whether each is a Request takes a while."""

_PARTS: Final[dict[type, Callable[[Any], Iterable[Any]]]] = {
    AsyncGeneratorType: lambda thing: _held_by(thing, thing.ag_code),
    GeneratorType: lambda thing: _held_by(thing, thing.gi_code),
    CoroutineType: lambda thing: _held_by(thing, thing.cr_code),
    MethodType: lambda thing: (thing.__func__, *getattr(thing.__self__, "__dict__", {}).values()),
    partial: lambda thing: (thing.func, *thing.args, *thing.keywords.values()),
    FunctionType: _enclosed,
}
"""Where an object of one of these types may hold something; only `partial` can have subclasses."""
