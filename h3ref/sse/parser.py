"""`EventStreamParser`: reads the bytes of an event stream into `MessageEvent`s.

The standard is WHATWG HTML, section 9.2 "Server-sent events": 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting
an event stream". Comments quote the step that the code below them follows.
"""

from __future__ import annotations

import builtins
import json
import logging
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypeVar, overload

from ..errors import H3Error
from .event import MAX_RETRY, SSEEvent, fault_of_id
from .models import read

_Model = TypeVar("_Model")

log = logging.getLogger(__package__)

DEFAULT_MAX_EVENT_SIZE: Final = 16 * 1024 * 1024
"""The most bytes of one received event."""

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 13  # as a number: `in` finds it ten times as fast as b"\r"


class MessageEvent(NamedTuple):
    """One received message, with the fields of WHATWG's MessageEvent.

    Attributes:
        type: the event type; "message" if the sender named none.
        data: the text; its lines are separated by LF.
        last_event_id: the last event ID as of this message (WHATWG: lastEventId).
    """

    type: str
    data: str
    last_event_id: str

    @property
    def retry(self) -> int | None:
        """The reconnection time, in milliseconds, from this message's own block; None if it had none.

        It is not part of the tuple, which is WHATWG's: messages that differ in it alone are equal.
        """
        return None

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, model: builtins.type[_Model]) -> _Model: ...
    def json(self, model: Any = None) -> Any:
        """Return the data read as JSON: the inverse of `SSEEvent.json`.

        Args:
            model: what to read the data into. Pydantic models and msgspec structs read themselves. A dataclass is read
                by its fields' types: scalars, as they stand (but a whole number will do for a float), lists, tuples,
                dicts, unions, literals, enums, and models and dataclasses within. You can also pass one of these types
                by itself, such as `list[Token]`. Names that a dataclass lacks are ignored.

        Raises:
            ValueError: the data is not JSON (`json.JSONDecodeError`), or does not fit the model (the `ValidationError`
                of pydantic and that of msgspec are ValueErrors).
            TypeError: the model, or the type of a field, is none of these.
        """
        return json.loads(self.data) if model is None else read(self.data, model)

    def to_event(self) -> SSEEvent:
        """Return an event that passes this message on, for a relay: its type, its data, and its `last_event_id`.

        Another server's messages must not end a relay, so this never raises for a message that a parser has made. An id
        that no header could bring back (see `fault_of_id`) is left out, so a client that comes back resumes after an
        earlier event; a NUL in the type becomes U+FFFD. The log has a warning of either. "" means no id: to reset the
        last event ID, send `SSEEvent(..., id="")`. `retry` is left out, too: it was meant for this client, about the
        server that it reads.

        Raises:
            TypeError, ValueError: as `SSEEvent`, for a type or data that no parser makes.
        """
        kind: str | None = self.type
        if kind == "message":
            kind = None
        elif kind and "\0" in kind:
            log.warning("a message is passed on with U+FFFD in place of the NUL in its type, which can't be sent")
            kind = kind.replace("\0", "\ufffd")
        id: str | None = self.last_event_id or None
        if id is not None and (fault := fault_of_id(id)):
            log.warning("a message is passed on without its id, which can't be sent: an id %s", fault)
            id = None
        return SSEEvent(self.data, event=kind, id=id)


class _WithRetry(MessageEvent):
    """A message whose block brought a reconnection time. Few do, so the others need no room for it."""

    _retry: int

    @property
    def retry(self) -> int:
        return self._retry

    def _replace(self, **fields: Any) -> MessageEvent:  # type: ignore[override]
        return _with_retry(MessageEvent(*self)._replace(**fields), self._retry)

    def __repr__(self) -> str:
        return f"{repr(MessageEvent(*self))[:-1]}, retry={self._retry})"


class EventTooLarge(H3Error):
    """A received event is larger than the parser's limit; nothing more is read from its connection.

    Attributes:
        limit: the most bytes that an event may have.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"an event of more than {limit} bytes arrived; pass a larger max_event_size to take it")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.limit,)


class EventStreamParser:
    """Reads an event stream from chunks of bytes, wherever they are cut.

    Each byte is examined a fixed number of times, so the cost is linear, whatever the chunks and lines are.

    Args:
        max_event_size: the most bytes that an event may have: all its lines but comments, and the line that is being
            received, even if it is a comment. Line ends and the BOM are not counted. None for no limit: then the sender
            decides how much memory an event takes.
        last_event_id: the last event ID of an earlier connection, which this one continues.
        comments: called with each comment as soon as its line has ended: with its text, without the colon and one space
            after it, and with the number of messages from this `feed` that came before it.

    Attributes:
        retry: the reconnection time last received, in milliseconds, or None.
    """

    __slots__ = (
        *("_comments", "_data", "_failed", "_id", "_last_event_id", "_limit", "_line", "_retry", "_size", "_start"),
        *("_type", "_untold"),
        "retry",
    )

    def __init__(
        self,
        max_event_size: int | None = DEFAULT_MAX_EVENT_SIZE,
        *,
        last_event_id: str = "",
        comments: Callable[[str, int], object] | None = None,
    ) -> None:
        if max_event_size is not None and max_event_size < 1:
            raise ValueError(f"max_event_size must be at least 1 byte, or None for no limit, not {max_event_size}")
        self._limit = sys.maxsize if max_event_size is None else max_event_size
        self._last_event_id = last_event_id
        self._comments = comments
        self.retry: int | None = None
        self._reset()

    def _reset(self) -> None:
        self._start = _BOM  # dropped if the next bytes are it: the BOM, or the LF that belongs to a CR before
        self._line: bytes | bytearray = b""  # the line that has not ended
        self._size = 0  # of the lines of the block that has not ended, as max_event_size counts
        self._failed = self._untold = False
        # 9.2.6: "a data buffer, an event type buffer, and a last event ID buffer must be associated with" a
        # stream. The last one begins with the ID of the connection before, as in browsers, not empty: or the
        # first message without an id would lose it.
        self._data: list[str] = []
        self._type = ""
        self._id = self._last_event_id
        self._retry: int | None = None

    @property
    def last_event_id(self) -> str:
        """The last event ID string, as of the last block that has ended."""
        return self._last_event_id

    def feed(self, chunk: bytes) -> list[MessageEvent]:
        """Take the next bytes and return the messages that they complete.

        Raises:
            EventTooLarge: an event grew beyond the limit. Messages that were complete before it are returned first, and
                the next call raises, as does every further one until `close`.
        """
        if self._failed:
            self._raise_too_large()
        if self._start:
            chunk = self._without_start(chunk)
            if not chunk:
                return []
        if _CR in chunk:
            # 9.2.5: a line ends with CRLF, with LF "not preceded by" CR, or with CR "not followed by" LF.
            if chunk.endswith(b"\r"):
                self._start = b"\n"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._size + len(self._line) + len(chunk) > self._limit:
            chunk = self._within_limit(chunk)
        messages: list[MessageEvent] = []
        end = chunk.rfind(b"\n") + 1
        if end:
            lines = self._line + chunk[:end]
            self._line = chunk[end:]
            messages = self._take_lines(lines[:-1].decode("utf-8", "replace").split("\n"))
            if lines.endswith(b"\n\n"):
                self._size = 0
            else:
                self._count(lines)
        else:
            if not isinstance(self._line, bytearray):
                self._line = bytearray(self._line)  # grows in place, however many pieces there are
            self._line += chunk
        if self._failed and not messages:
            self._raise_too_large()
        return messages

    def close(self) -> list[MessageEvent]:
        """End the stream, and return an empty list.

        9.2.6: "Once the end of the file is reached, any pending data must be discarded." The parser is then ready for
        the next connection; `last_event_id` and `retry` stay.

        Raises:
            EventTooLarge: as `feed`, if it was not raised before.
        """
        untold = self._untold
        self._reset()
        if untold:
            raise EventTooLarge(self._limit)
        return []

    def _without_start(self, chunk: bytes) -> bytes:
        """Drop what 9.2.5 lets go before a line: one leading BOM, whose bytes may come one by one, or a CR's LF."""
        chunk, self._line = bytes(self._line + chunk), b""
        if len(chunk) < len(self._start) and self._start.startswith(chunk):
            self._line = chunk
            return b""
        start, self._start = self._start, b""
        return chunk.removeprefix(start)

    def _take_lines(self, lines: list[str]) -> list[MessageEvent]:
        """9.2.6, the four kinds of line. Common fields are taken here at once, by the rules of `_take_field`."""
        messages: list[MessageEvent] = []
        data, retry = self._data, self._retry
        for line in lines:
            if line:
                name, _, value = line.partition(": ")
                if name == "data":
                    data.append(value)
                elif name == "event":
                    self._type = value
                elif name == "id" and "\0" not in value:
                    self._id = value
                else:
                    # "Collect the characters on the line before the first U+003A COLON character (:)"; without
                    # one, "using the whole line as the field name, and the empty string as the field value".
                    name, colon, value = line.partition(":")
                    # "If value starts with a U+0020 SPACE character, remove it from value."
                    value = value.removeprefix(" ")
                    if name or not colon:
                        self._take_field(name, value)
                        retry = self._retry
                    elif self._comments is not None:
                        # "If the line starts with a U+003A COLON character (:): Ignore the line."
                        self._comments(value, len(messages))
                continue
            # "If the line is empty (a blank line): Dispatch the event". Step 1, before data is looked at: "Set the
            # last event ID string of the event source to the value of the last event ID buffer."
            self._last_event_id = self._id
            # Step 2: "If the data buffer is an empty string, set the data buffer and the event type buffer to the
            # empty string and return." A data field, even an empty one, has left a LF there; here, an item.
            if data:
                # Step 3: the buffer's last LF is removed, or here never added. Steps 4 to 6: the event's type is
                # "message", unless the event type buffer is not empty. Step 8, "queue a task": it is returned.
                text = data[0] if len(data) == 1 else "\n".join(data)
                messages.append(_new_tuple(MessageEvent, (self._type or "message", text, self._id)))
                data.clear()  # Step 7: "Set the data buffer and the event type buffer to the empty string."
                if retry is not None:
                    messages[-1] = _with_retry(messages[-1], retry)
                    retry = self._retry = None
            else:
                retry = self._retry = None
            self._type = ""
        return messages

    def _take_field(self, name: str, value: str) -> None:
        """9.2.6, "process the field". Names "must be compared literally, with no case folding performed"."""
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:  # "If the field value does not contain U+0000 NULL [...]"
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            # "If the field value consists of only ASCII digits, then interpret the field value as an integer in
            # base ten". No digit at all is no integer. One that nobody can wait for is cut to MAX_RETRY, and
            # never converted: int() refuses thousands of digits.
            digits = value.lstrip("0")
            self.retry = min(int(digits or "0"), MAX_RETRY) if len(digits) <= len(str(MAX_RETRY)) else MAX_RETRY
            self._retry = self.retry
        # "Otherwise: the field is ignored."

    def _count(self, lines: bytes | bytearray) -> None:
        """Add the lines that were taken to the size of the block that has not ended."""
        if lines == b"\n":
            self._size = 0
            return
        blank = lines.rfind(b"\n\n")
        if blank >= 0:
            self._size, lines = 0, lines[blank + 2 :]
        elif lines[:1] == b"\n":
            self._size, lines = 0, lines[1:]
        self._size += sum([len(line) for line in lines.split(b"\n") if line[:1] != b":"])

    def _within_limit(self, chunk: bytes) -> bytes:
        """Return the part of the chunk before the line that makes an event too large, or all if none does."""
        size, taken, held = self._size, 0, self._line
        for line in chunk.split(b"\n"):
            whole = held + line
            if size + len(whole) > self._limit:
                self._failed = self._untold = True
                return chunk[:taken]
            if not whole:
                size = 0
            elif whole[:1] != b":":
                size += len(whole)
            taken += len(line) + 1
            held = b""
        return chunk

    def _raise_too_large(self) -> NoReturn:
        self._data, self._line = [], b""
        self._untold = False
        raise EventTooLarge(self._limit)


def _with_retry(fields: tuple[str, str, str], retry: int) -> MessageEvent:
    message = _WithRetry(*fields)
    message._retry = retry
    return message


_new_tuple: Final = tuple.__new__  # MessageEvent(...) takes the way through a Python function, and twice the time
