"""The event stream format, both ways: `SSEEvent` is sent, `EventStreamParser` receives `MessageEvent`s.

The standard is WHATWG HTML, section 9.2 "Server-sent events": 9.2.5 "Parsing an event stream" and 9.2.6
"Interpreting an event stream". No I/O here: bytes in, values out.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, NoReturn

from .errors import H3Error

MAX_RETRY: Final = 2**53 - 1
"""The largest reconnection time, in milliseconds, that every client can count with exactly."""

DEFAULT_MAX_EVENT_SIZE: Final = 16 * 1024 * 1024


class SSEEvent:
    """One message to be sent; a value that exists can be sent, whatever is in it.

    Line breaks in `data` and `comment` are carried as several lines (a receiver sees each as LF).

    Args:
        data: the message's text; may be empty. Without data a client dispatches nothing.
        event: the event type; "message" at the client if left out.
        id: the last event ID from here on; "" resets it.
        retry: the reconnection time, in milliseconds.
        comment: text that every client ignores.

    Raises:
        TypeError: an argument of another type than said above.
        ValueError: CR, LF or NUL in `event` or `id`, a negative or too large `retry`, a lone surrogate,
            an `event` without `data` (no client would ever dispatch it), or nothing at all.
    """

    __slots__ = ("comment", "data", "event", "id", "retry")

    data: str | None
    event: str | None
    id: str | None
    retry: int | None
    comment: str | None

    def __init__(
        self,
        data: str | None = None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        if data is not None and not (type(data) is str and data.isascii()):
            _check_text("data", data)
        if event is not None:
            _check_line("event", event)
        if id is not None:
            _check_line("id", id)
        if retry is not None:
            _check_retry(retry)
        if comment is not None:
            _check_text("comment", comment)
        if data is None:
            _check_without_data(event, id, retry, comment)
        _set_data(self, data)
        _set_event(self, event)
        _set_id(self, id)
        _set_retry(self, retry)
        _set_comment(self, comment)

    def encode(self) -> bytes:
        """Return the bytes for the wire: comment, event, id, retry, data, and the blank line that ends it."""
        data, retry, comment = self.data, self.retry, self.comment
        text = "" if comment is None else _lines(": ", comment)
        if self.event is not None:
            text += f"event: {self.event}\n"
        if self.id is not None:
            text += f"id: {self.id}\n"
        if retry is not None:
            text += f"retry: {retry}\n"
        if data is None:
            return f"{text}\n".encode()
        if "\n" in data or "\r" in data:
            return f"{text}{_lines('data: ', data)}\n".encode()
        return f"{text}data: {data}\n\n".encode()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an SSEEvent can't be changed; build a new one to set {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an SSEEvent can't be changed; build a new one without {name}")

    def _fields(self) -> tuple[str | None, str | None, str | None, int | None, str | None]:
        return self.data, self.event, self.id, self.retry, self.comment

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, SSEEvent) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        named = zip(("event", "id", "retry", "comment"), self._fields()[1:], strict=True)
        shown = [repr(self.data)] if self.data is not None else []
        return f"SSEEvent({', '.join(shown + [f'{name}={value!r}' for name, value in named if value is not None])})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, self._fields()


def _rebuild(
    data: str | None, event: str | None, id: str | None, retry: int | None, comment: str | None
) -> SSEEvent:
    return SSEEvent(data, event=event, id=id, retry=retry, comment=comment)


# The guard against assignment covers __init__ too; the slots' own setters are the way past it.
_set_data = SSEEvent.__dict__["data"].__set__
_set_event = SSEEvent.__dict__["event"].__set__
_set_id = SSEEvent.__dict__["id"].__set__
_set_retry = SSEEvent.__dict__["retry"].__set__
_set_comment = SSEEvent.__dict__["comment"].__set__


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        hint = "; decode it first" if isinstance(value, bytes) else "; make it one with str() or json.dumps()"
        raise TypeError(f"{name} must be a str, not {type(value).__name__}{hint}")
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        lone = value[error.start]
        raise ValueError(f"{name} holds the lone surrogate {lone!r}, which UTF-8 can't carry") from None


def _check_line(name: str, value: object) -> None:
    _check_text(name, value)
    assert isinstance(value, str)
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError(f"{name} must be one line without NUL, or it would inject fields: {value!r}")


def _check_retry(value: object) -> None:
    if type(value) is not int:
        raise TypeError(f"retry must be an int of milliseconds, not {type(value).__name__}: {value!r}")
    if not 0 <= value <= MAX_RETRY:
        raise ValueError(f"retry must be from 0 to {MAX_RETRY} milliseconds, not {value if value < 0 else 'more'}")


def _check_without_data(event: str | None, id: str | None, retry: int | None, comment: str | None) -> None:
    if event is not None:
        raise ValueError(f'event {event!r} without data is never dispatched by a client; pass data=""')
    if id is None and retry is None and comment is None:
        raise ValueError("an SSEEvent needs data, id, retry or a comment: there is nothing to send")


def _lines(prefix: str, text: str) -> str:
    """Every line of `text` behind `prefix`; CRLF, CR and LF are each one line break, as in section 9.2.6."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "".join([f"{prefix}{line}\n" for line in lines])


class MessageEvent(NamedTuple):
    """One message received, as WHATWG's MessageEvent has it.

    Attributes:
        type: the event type, "message" if the sender named none.
        data: the text; its lines are separated by LF.
        last_event_id: the last event ID as of this message (WHATWG: lastEventId).
    """

    type: str
    data: str
    last_event_id: str

    def json(self) -> Any:
        """Return the data read as JSON.

        Raises:
            ValueError: the data is not JSON (`json.JSONDecodeError`).
        """
        return json.loads(self.data)


class EventTooLarge(H3Error):
    """A received event is larger than the parser's limit; the parser has dropped what it held.

    Attributes:
        limit: the largest event in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"an event of more than {limit} bytes arrived; pass a larger max_event_size to take it")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.limit,)


class EventStreamParser:
    """Reads an event stream from chunks of bytes, however they are cut.

    Args:
        max_event_size: the most bytes that one event's data, or one line, may have.

    Attributes:
        last_event_id: the last event ID string, as of the last block that ended.
        retry: the reconnection time last received, in milliseconds, or None.
    """

    __slots__ = ("_data", "_id", "_line", "_max", "_size", "_start", "_type", "last_event_id", "retry")

    def __init__(self, max_event_size: int = DEFAULT_MAX_EVENT_SIZE) -> None:
        if max_event_size < 1:
            raise ValueError(f"max_event_size must be at least 1 byte, not {max_event_size}")
        self._max = max_event_size
        self.last_event_id = ""
        self.retry: int | None = None
        self._reset()

    def _reset(self) -> None:
        # What stands before the next byte: b"BOM" at the stream's start, b"\r" where a LF would belong to a CR.
        self._start = b"BOM"
        self._line: list[bytes] = []  # the pieces of a line that has not ended
        self._clear_block()
        self._id = self.last_event_id  # 9.2.6: the last event ID buffer outlives the block

    def _clear_block(self) -> None:
        self._type = ""
        self._data: list[bytes] = []
        self._size = 0  # of the data, and of an unfinished line

    def feed(self, chunk: bytes) -> list[MessageEvent]:
        """Take the next bytes and return the messages that they complete.

        Raises:
            EventTooLarge: an event grew over the limit; the stream should be given up.
        """
        if self._start:
            chunk = self._skip_start(chunk)
        if b"\r" in chunk:
            # 9.2.5: CRLF, CR and LF each end a line; a LF that follows in the next chunk belongs to this CR.
            if chunk.endswith(b"\r"):
                self._start = b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = chunk.rfind(b"\n")
        if end < 0:
            self._hold(chunk)
            return []
        whole, rest = chunk[:end], chunk[end + 1 :]
        if self._line:
            self._line.append(whole)
            self._size -= sum(map(len, self._line[:-1]))
            whole = b"".join(self._line)
            self._line = []
        events = self._take_lines(whole.split(b"\n"))
        self._hold(rest)
        return events

    def close(self) -> list[MessageEvent]:
        """Take the end of the stream: an unfinished block is dropped (9.2.6), so the list is empty.

        The parser is then ready for the next connection; `last_event_id` and `retry` stay.
        """
        self._reset()
        return []

    def _skip_start(self, chunk: bytes) -> bytes:
        if self._start == b"\r":
            if not chunk:
                return chunk
            self._start = b""
            return chunk[1:] if chunk[:1] == b"\n" else chunk
        # 9.2.5: one leading BOM is dropped; its three bytes may come one by one.
        seen = b"".join(self._line) + chunk
        self._line, self._size = [], 0
        if len(seen) < 3 and b"\xef\xbb\xbf".startswith(seen):
            if seen:
                self._line = [seen]
                self._size = len(seen)
            return b""
        self._start = b""
        return seen.removeprefix(b"\xef\xbb\xbf")

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._line.append(piece)
            self._size += len(piece)
            if self._size > self._max:
                self._too_large()

    def _take_lines(self, lines: list[bytes]) -> list[MessageEvent]:
        events: list[MessageEvent] = []
        data, size, limit = self._data, self._size, self._max
        for line in lines:
            if line[:6] == b"data: ":
                value = line[6:]
            elif not line:
                self._size = size
                if data:
                    events.append(self._dispatch())
                else:
                    self.last_event_id = self._id  # 9.2.6, dispatch, step 1: also without data
                self._clear_block()
                data, size = self._data, 0
                continue
            else:
                name, _, value = line.partition(b":")
                if value[:1] == b" ":
                    value = value[1:]  # 9.2.6: one leading space belongs to the separator
                if name != b"data":
                    if len(line) > limit:
                        self._too_large()
                    self._take_field(name, value)
                    continue
            size += len(value)
            if size > limit:
                self._too_large()
            data.append(value)
        self._size = size
        return events

    def _take_field(self, name: bytes, value: bytes) -> None:
        """9.2.6, "process the field": data is handled by the caller, an empty name is a comment."""
        if name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:  # "if the field value does not contain U+0000 NULL"
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():  # "if it consists of only ASCII digits"; bytes.isdigit is that
            digits = value.lstrip(b"0")
            self.retry = min(int(digits or b"0"), MAX_RETRY) if len(digits) <= 16 else MAX_RETRY

    def _dispatch(self) -> MessageEvent:
        """9.2.6, "dispatch the event", with data: the final LF of the data buffer is never added here."""
        self.last_event_id = self._id
        return MessageEvent(self._type or "message", b"\n".join(self._data).decode("utf-8", "replace"), self._id)

    def _too_large(self) -> NoReturn:
        self._reset()
        raise EventTooLarge(self._max)
