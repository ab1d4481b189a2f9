"""`SSEEvent`: a message to send, and what its fields may hold."""

from __future__ import annotations

import re
from typing import Final, Self

from .values import text_of

MAX_RETRY: Final = 2**53 - 1
"""The largest reconnection time, in milliseconds, that every client can represent exactly."""

MAX_ID_SIZE: Final = 4096
"""The most bytes of an event's id, in UTF-8: half of the header size that the strictest of common servers take."""

_FEW: Final = MAX_ID_SIZE // 4  # characters that fit whatever they are
_BLANKS: Final = (" ", "\t")
_control = re.compile("[\x00-\x08\x0a-\x1f\x7f]").search  # RFC 9110, section 5.5: what no header's value holds


class SSEEvent:
    """One message to send; any value that can be constructed can be sent.

    Line breaks in `data` and `comment` are sent as several lines (a receiver sees each break as LF).

    Args:
        data: the message's text; may be empty. Without data a client dispatches nothing.
        event: the event type; left out, "message" at the client.
        id: the last event ID from here on; "" resets it. A client that comes back sends it in a header, so a header
            must be able to carry it: see `fault_of_id`. A whole number is taken as text.
        retry: the reconnection time, in milliseconds.
        comment: text that every client ignores.

    Raises:
        TypeError: an argument of another type.
        ValueError: CR, LF or NUL in `event`; an `id` with a control character other than TAB, with a blank at either
            end, or of more than 4096 bytes; a negative or too large `retry`; a lone surrogate; an `event` without
            `data` (no client would ever dispatch it); or nothing at all.
    """

    __slots__ = ("_comment", "_data", "_event", "_id", "_retry", "_wire")

    def __init__(
        self,
        data: str | None = None,
        *,
        event: str | None = None,
        id: str | int | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        # What is printable has no control character or surrogate: a quick look that spares most values the checks.
        if event is not None and (event.__class__ is not str or not event.isprintable()):
            event = _checked_line("event", event)
        if id is not None and (
            id.__class__ is not str or len(id) > _FEW or not id.isprintable() or (" " in id and " " in (id[0], id[-1]))
        ):
            id = _checked_id(id)
        if data.__class__ is not str or retry is not None or comment is not None:
            data, retry, comment = _checked_rest(data, event, id, retry, comment)
        self._data = data
        self._event = event
        self._id = id
        self._retry = retry
        self._comment = comment
        # Encoded here and now: that it can be encoded is what makes it valid, and it is sent at least once.
        try:
            if data is None or retry is not None or comment is not None or "\n" in data or "\r" in data:
                self._wire = self._encode()
            elif event is None:
                self._wire = (f"data: {data}\n\n" if id is None else f"id: {id}\ndata: {data}\n\n").encode()
            elif id is None:
                self._wire = f"event: {event}\ndata: {data}\n\n".encode()
            else:
                self._wire = f"event: {event}\nid: {id}\ndata: {data}\n\n".encode()
        except UnicodeEncodeError as error:  # all but data has been checked
            raise _lone_surrogate("data", error) from None

    @classmethod
    def json(
        cls,
        value: object,
        *,
        event: str | None = None,
        id: str | int | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> Self:
        """Return an event whose data is a value as JSON (RFC 8259), compact and on one line.

        Args:
            value: what `json.dumps` takes; also dataclasses, pydantic models and msgspec structs, at any depth. A str
                becomes a JSON string. Models and structs write themselves: their fields are named by their aliases, and
                values of other types in them, such as a datetime, are written as the model writes them.
            event: as `SSEEvent`.
            id: likewise.
            retry: likewise.
            comment: likewise.

        Raises:
            TypeError: `value` is, or holds, something of a type that JSON lacks; the text says where. Or as `SSEEvent`.
            ValueError: NaN or an infinity, in a model too; or a value that contains itself. Or as `SSEEvent`.
        """
        if event is None and id is None and retry is None and comment is None:  # as most have it: names cost time
            return cls(text_of(value))
        return cls(text_of(value), event=event, id=id, retry=retry, comment=comment)

    @property
    def data(self) -> str | None:
        """The message's text."""
        return self._data

    @property
    def event(self) -> str | None:
        """The event type."""
        return self._event

    @property
    def id(self) -> str | None:
        """The last event ID from here on."""
        return self._id

    @property
    def retry(self) -> int | None:
        """The reconnection time, in milliseconds."""
        return self._retry

    @property
    def comment(self) -> str | None:
        """Text that every client ignores."""
        return self._comment

    def encode(self) -> bytes:
        """Return the bytes for the wire: comment, event, id, retry, data, and the blank line that ends it."""
        return self._wire

    def _encode(self) -> bytes:
        text = "" if self._comment is None else _lines(": ", self._comment)
        if self._event is not None:
            text += f"event: {self._event}\n"
        if self._id is not None:
            text += f"id: {self._id}\n"
        if self._retry is not None:
            text += f"retry: {self._retry}\n"
        if self._data is not None:
            text += _lines("data: ", self._data)
        return f"{text}\n".encode()

    def _fields(self) -> tuple[str | None, str | None, str | None, int | None, str | None]:
        return self._data, self._event, self._id, self._retry, self._comment

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if isinstance(other, SSEEvent) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        named = zip(("event", "id", "retry", "comment"), self._fields()[1:], strict=True)
        shown = [repr(self._data)] if self._data is not None else []
        return f"SSEEvent({', '.join(shown + [f'{name}={value!r}' for name, value in named if value is not None])})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, self._fields()


def _rebuild(data: str | None, event: str | None, id: str | None, retry: int | None, comment: str | None) -> SSEEvent:
    return SSEEvent(data, event=event, id=id, retry=retry, comment=comment)


def _checked_text(name: str, value: object) -> str:
    """Return the text itself, exactly a str: a subclass could format itself as another text."""
    if not isinstance(value, str):
        hint = "; decode it first" if isinstance(value, bytes) else "; make it one with str() or json.dumps()"
        raise TypeError(f"{name} must be a str, not {type(value).__name__}{hint}")
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _lone_surrogate(name, error) from None
    return text


def _lone_surrogate(name: str, error: UnicodeEncodeError) -> ValueError:
    return ValueError(f"{name} {_fault_of_surrogate(error)}")


def _fault_of_surrogate(error: UnicodeEncodeError) -> str:
    return f"holds the lone surrogate {error.object[error.start]!r}, which UTF-8 can't carry"


def _checked_line(name: str, value: object) -> str:
    line = _checked_text(name, value)
    for place, char in enumerate(line):
        if char in "\n\r\0":
            raise ValueError(f"{name} {_fault_of_line(char, place)}")
    return line


def _fault_of_line(char: str, place: int) -> str:
    # The text leaves out the value: a log may get to see it.
    return f"must be one line without NUL, or it would inject fields: it holds {char!r} at {place}"


def _checked_id(value: object) -> str:
    if isinstance(value, int) and value.__class__ is not bool:
        return _id_of_number(value)
    id = _checked_text("id", value)
    if fault := fault_of_id(id):
        raise ValueError(f"id {fault}")
    return id


def _id_of_number(number: int) -> str:
    try:
        text = int.__repr__(number)  # a subclass could show itself as another text
    except ValueError:  # more digits than Python makes a text of
        text = None
    if text is None or len(text) > MAX_ID_SIZE:
        raise ValueError(f"id must have at most {MAX_ID_SIZE} bytes, or servers would refuse the header with it")
    return text


def fault_of_id(id: str) -> str | None:
    """Say why an id can't be sent: no `Last-Event-ID` header would bring it back. None if it can; "" can.

    A header's value holds no control character but TAB, and loses the blanks around it (RFC 9110, section 5.5); the
    WHATWG's parser drops an id with NUL.
    """
    if found := _control(id):
        char, place = found.group(), found.start()
        if char in "\n\r\0":
            return _fault_of_line(char, place)
        return f"must hold no control character but TAB, or no header could bring it back: it holds {char!r} at {place}"
    if id[:1] in _BLANKS or id[-1:] in _BLANKS:
        return "must neither begin nor end with a space or TAB, or a header would bring it back without them"
    try:
        size = len(id.encode())
    except UnicodeEncodeError as error:
        return _fault_of_surrogate(error)
    if size > MAX_ID_SIZE:
        return f"must have at most {MAX_ID_SIZE} bytes, or servers would refuse the header with it: it has {size}"
    return None


def _checked_retry(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"retry must be an int of milliseconds, not {type(value).__name__}")
    if not 0 <= value <= MAX_RETRY:
        shown = value if abs(value) < 10**20 else "a number of more than 20 digits"
        raise ValueError(f"retry must be from 0 to {MAX_RETRY} milliseconds, not {shown}")
    return value


def _checked_rest(
    data: str | None, event: str | None, id: str | None, retry: int | None, comment: str | None
) -> tuple[str | None, int | None, str | None]:
    """Check what few events have: no data, data that is not exactly a str, a retry, a comment."""
    if data is not None:
        data = _checked_text("data", data)
    elif event is not None:
        raise ValueError('an event type without data is never dispatched by a client; pass data=""')
    elif id is None and retry is None and comment is None:
        raise ValueError("an SSEEvent needs data, id, retry or a comment: there is nothing to send")
    retry = None if retry is None else _checked_retry(retry)
    comment = None if comment is None else _checked_text("comment", comment)
    return data, retry, comment


def _lines(prefix: str, text: str) -> str:
    """Every line of `text` behind `prefix`; CRLF, CR and LF are each one line break, as in section 9.2.5."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return prefix + text.replace("\n", f"\n{prefix}") + "\n"
