"""`event_of`: an item of a response's content as an event."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ...blocking import BlockingSSEWriter
from ...sse import SSEEvent
from ...writer import SSEWriter

log = logging.getLogger(__name__)

Item = SSEEvent | str | int | float | Decimal | UUID | Mapping[str, Any]
Callback = Callable[[SSEWriter], Awaitable[None]] | Callable[[BlockingSSEWriter], None]
Content = AsyncIterable[Item] | Iterable[Item] | Callback
Values = AsyncIterable[Any] | Iterable[Any] | Callback

_FIELDS: Final = ("data", "event", "id", "retry", "comment")
_TEXTS: Final = (int, float, Decimal, UUID)
"""Types whose values are sent as their text; but not bool, although an int: it could mean true as well as True."""


def event_of(item: Item) -> SSEEvent | str | None:
    """Return the event that an item stands for, or a str as an event's data; None for a dict that holds nothing.

    A dict with an event's name, and no data, is that event with empty data: without data, no client would dispatch it.

    Raises:
        TypeError: it stands for none, or a value is of a type that `SSEEvent` refuses.
        ValueError: a dict has keys other than `SSEEvent`'s arguments, or a value that it refuses.
    """
    if isinstance(item, SSEEvent | str):
        return item
    if isinstance(item, Mapping):
        return _event_of_dict(item)
    if _is_text(item):
        return str(item)
    raise TypeError(f"an item is an SSEEvent, a str, a number, a UUID, or a dict of SSEEvent's arguments, not {item!r}")


def _event_of_dict(item: Mapping[str, Any]) -> SSEEvent | None:
    unknown = [name for name in item if name not in _FIELDS]
    if unknown:
        raise ValueError(f"a dict holds SSEEvent's arguments, which are {', '.join(_FIELDS)}; not {unknown[0]!r}")
    fields = {name: value for name, value in item.items() if value is not None}
    if not fields:
        log.warning("%r was skipped: it holds nothing to send; leave it out, or send a comment", item)
        return None
    data = fields.get("data")
    if data is None and "event" in fields:
        data = ""
    if isinstance(data, Mapping | list | tuple):
        raise TypeError(f"an event's data is text, not a {type(data).__name__}: json.dumps() it")
    for name, value in (("data", data), ("id", fields.get("id"))):
        if value is not None:
            fields[name] = str(value) if _is_text(value) else value
    return SSEEvent(**fields)


def _is_text(value: object) -> bool:
    return isinstance(value, _TEXTS) and not isinstance(value, bool)
