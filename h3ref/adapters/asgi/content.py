"""The content of an `EventSourceResponse`, as a handler that streams it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
from types import AsyncGeneratorType
from typing import Any

from ..._core.callables import check_takes, is_async, is_generator, name_of
from ..._core.generator import encoded_value, items_handler
from ..._core.stream import encode
from ...event import H3Event, host_of
from ...sse import SSEEvent
from .items import Item, Values, event_of


def handler_for(content: Values, commit_after: float, *, json: bool) -> Callable[[H3Event], Awaitable[None]]:
    """Return the handler that streams the content: items, or with `json` any values.

    Raises:
        TypeError: it can't be streamed.
        ValueError: `commit_after` is negative.
    """
    made = encoded_value if json else encoded_item
    if isinstance(content, AsyncGeneratorType):  # the rest takes longer to find out
        return items_handler(lambda event: content, commit_after, made, is_async=True)
    if isinstance(content, str | bytes | bytearray | memoryview | Mapping | SSEEvent):
        raise TypeError(f"content yields events, and is not one itself: put the {type(content).__name__} in a list")
    if isinstance(content, AsyncIterable):
        return items_handler(lambda event: aiter(content), commit_after, made, is_async=True)
    if isinstance(content, Iterable):
        return items_handler(lambda event: _items(content), commit_after, made, is_async=False)
    if not callable(content):
        raise TypeError(f"content is an iterable of events, or a callback that takes the writer, not {content!r}")
    if is_generator(content):
        raise TypeError(f"{name_of(content)} is a generator function: call it, and pass what it returns")
    check_takes(content, 1, "a stream callback", "the writer")
    return _callback_handler(content)


def _items(content: Iterable[Any]) -> Iterator[Any]:
    """Yield the items; none of the content's code runs before the worker thread does."""
    iterator = iter(content)
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _callback_handler(callback: Callable[[Any], Any]) -> Callable[[H3Event], Awaitable[None]]:
    async def stream(event: H3Event) -> None:
        host_of(event).source = callback
        event.start_sse()
        await callback(await event.await_sse_writer())

    async def stream_on_thread(event: H3Event) -> None:
        host_of(event).source = callback
        await host_of(event).stream_on_thread(lambda: callback(event.start_sse_blocking()))

    return stream if is_async(callback) else stream_on_thread


def encoded_item(item: Item) -> bytes | None:
    """The bytes of an item; None for one that holds nothing.

    Raises:
        TypeError, ValueError: as `event_of`.
    """
    event = event_of(item)
    return None if event is None else encode(event)
