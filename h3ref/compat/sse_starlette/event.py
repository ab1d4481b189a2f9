"""`ServerSentEvent`: an event that takes anything it is given, and the bytes of anything that a stream may yield."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["JSONServerSentEvent", "ServerSentEvent", "ensure_bytes"]

DEFAULT_SEPARATOR: Final = "\r\n"


class ServerSentEvent:
    """One message to send, checked only when it is encoded; `h3ref.SSEEvent` is the strict one.

    Args:
        data: anything; its `str` is the message's text. Without data a client dispatches nothing.
        event: the event type; line breaks in it are removed.
        id: the last event ID from here on; line breaks in it are removed.
        retry: the reconnection time, in milliseconds.
        comment: text that every client ignores.
        sep: what ends a line; CRLF if left out.
    """

    DEFAULT_SEPARATOR = DEFAULT_SEPARATOR

    def __init__(
        self,
        data: Any = None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
        sep: str | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        self.comment = comment
        self._sep = self.DEFAULT_SEPARATOR if sep is None else sep

    def encode(self) -> bytes:
        """Return the bytes for the wire: comment, id, event, data, retry, and the blank line that ends it.

        Raises:
            TypeError: `retry` is not an int.
            UnicodeEncodeError: a lone surrogate, which UTF-8 can't carry.
        """
        if self.retry is not None and not isinstance(self.retry, int):
            raise TypeError(f"retry argument must be int, not {self.retry!r}")
        lines = [f": {line}" for line in _lines(self.comment)]
        if self.id is not None:
            lines.append("id: " + "".join(_lines(self.id)))
        if self.event is not None:
            lines.append("event: " + "".join(_lines(self.event)))
        lines += [f"data: {line}" for line in _lines(self.data)]
        if self.retry is not None:
            lines.append(f"retry: {self.retry}")
        return self._sep.join([*lines, "", ""] if lines else ["", ""]).encode()

    def __repr__(self) -> str:
        named = ((name, getattr(self, name)) for name in ("data", "event", "id", "retry", "comment"))
        given = ", ".join(f"{name}={value!r}" for name, value in named if value is not None)
        return f"{type(self).__name__}({given})"


class JSONServerSentEvent(ServerSentEvent):
    """An event whose data is a value, sent as compact JSON.

    Args:
        data: what `json.dumps` takes; None for no data.
        args: none; there for a subclass.
        kwargs: those of `ServerSentEvent`.

    Raises:
        TypeError: a value that JSON lacks.
        ValueError: NaN or an infinity.
    """

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        if data is not None:
            data = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        super().__init__(data, *args, **kwargs)


def ensure_bytes(item: Any, sep: str) -> bytes:
    """Return the bytes of an item that a stream yields.

    Args:
        item: bytes, which are sent as they are; a `ServerSentEvent`; a dict of its arguments; or anything else, whose
            `str` is an event's data.
        sep: what ends a line, except for bytes and a `ServerSentEvent`, which have their own.

    Raises:
        TypeError: a dict with another key.
    """
    if isinstance(item, ServerSentEvent):
        return item.encode()
    if isinstance(item, bytes | memoryview):
        return bytes(item)
    if isinstance(item, dict):
        return ServerSentEvent(**{**item, "sep": sep}).encode()
    return ServerSentEvent(str(item), sep=sep).encode()


def _lines(value: Any) -> list[str]:
    """The lines of a value's text; CRLF, CR and LF are each one line break. None has none."""
    if value is None:
        return []
    text = str(value)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")
