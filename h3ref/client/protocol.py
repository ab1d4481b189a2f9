"""What a source does next: on an answer, on bytes, at an end. No I/O, so that the twins can't differ.

The standard is WHATWG HTML, 9.2.2 "The EventSource interface", 9.2.3 "Processing model" and 9.2.4 "The Last-Event-ID
header". Where it leaves room, or a program differs from a browser, the choice is stated here.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx2

from ..headers import EVENT_STREAM, is_event_stream
from ..sse import DEFAULT_MAX_EVENT_SIZE, EventStreamParser, EventTooLarge, MessageEvent, fault_of_id
from . import urls
from .body import encoded
from .errors import EventSourceError, RedirectRefused, RefusedStatus, WrongContentType
from .urls import shown

if TYPE_CHECKING:
    from httpx2._types import QueryParamTypes

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "QUERY", "TRACE"})
"""Methods that change nothing on the server (RFC 9110, section 9.2.1), so that a request may be sent again."""

LONGEST_WAIT: Final = 24 * 60 * 60.0
"""The most seconds that a client waits: for a server's `retry`, its own, or a byte. Clocks don't take every number."""

LONGEST_RETRY_AFTER: Final = 300.0
"""The most seconds that a server's `Retry-After` can make a client wait."""

LEAST_BACKOFF: Final = 0.5
"""The seconds that are doubled when the reconnection time is shorter: `retry: 0` must not become a busy loop."""

JITTER: Final = 0.25
"""The fraction by which a wait may be longer, so that a server's clients don't all come back at once."""

STEADY: Final = 60.0
"""Seconds after which a connection counts as a good one, even if it brought no message."""

BUSY_STATUSES: Final = (429, 503)
"""The statuses that mean "later" when a Retry-After comes with them (RFC 6585, section 4; RFC 9110, 15.6.4)."""

TRANSIENT: Final = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError, httpx2.ProxyError)
"""9.2.3's "network error": failures that may be gone at the next attempt."""

HeaderFields = Mapping[str, str] | Sequence[tuple[str, str]]
Reconnect = bool | Literal["after_error"]
Comments = Callable[[str], object]


class ReadyState(IntEnum):
    """The state of an `EventSource` (WHATWG HTML, 9.2.2, readyState)."""

    CONNECTING = 0
    OPEN = 1
    CLOSED = 2


class Protocol:
    """The state of one source; `EventSource` says what the arguments mean."""

    def __init__(
        self,
        url: str | httpx2.URL,
        *,
        method: str = "GET",
        headers: HeaderFields | None = None,
        params: QueryParamTypes | None = None,
        content: str | bytes | None = None,
        data: Mapping[str, Any] | None = None,
        json: Any = None,
        last_event_id: str = "",
        reconnect: Reconnect | None = None,
        patient: bool = False,
        max_reconnects: int | None = None,
        reconnection_time: float = 3.0,
        max_reconnection_time: float = 60.0,
        retry_statuses: Collection[int] = (),
        heartbeat: float | None = None,
        connect_timeout: float | None = 10.0,
        max_event_size: int | None = DEFAULT_MAX_EVENT_SIZE,
        comments: Comments | None = None,
    ) -> None:
        self.url = urls.parsed(url)
        self.method = method.upper()
        self.params = _query(params)
        self.body = encoded(self.method, content=content, data=data, json=json)
        if reconnect not in (None, True, False, "after_error"):
            raise ValueError(f'reconnect is True, False or "after_error", not {reconnect!r}')
        self.reconnect = self.method in SAFE_METHODS if reconnect is None else reconnect
        self.patient = patient
        if max_reconnects is not None and max_reconnects < 0:
            raise ValueError(f"max_reconnects must be a number, 0 or more, or None, not {max_reconnects}")
        self.max_reconnects = max_reconnects
        for name, seconds in (
            ("reconnection_time", reconnection_time),
            ("max_reconnection_time", max_reconnection_time),
        ):
            if not seconds >= 0:
                raise ValueError(f"{name} must be seconds, 0 or more, not {seconds!r}")
        for name, limit in (("heartbeat", heartbeat), ("connect_timeout", connect_timeout)):
            if limit is not None and not 0 < limit <= LONGEST_WAIT:
                raise ValueError(f"{name} is more than 0 seconds and at most a day, or None, not {limit!r}")
        self._reconnection_time = reconnection_time
        self.max_reconnection_time = max_reconnection_time
        self.retry_statuses = retry_statuses
        # httpx2's own 5 s between two reads would cut every quiet stream.
        self.timeout = httpx2.Timeout(
            connect=connect_timeout, read=heartbeat, write=connect_timeout, pool=connect_timeout
        )
        self._headers = httpx2.Headers(headers)
        last_event_id = last_event_id or self._headers.pop("last-event-id", "")
        if any(char in last_event_id for char in "\r\n\0"):
            raise ValueError(f"last_event_id is one line without NUL, not {last_event_id!r}")
        last_event_id.encode()  # a lone surrogate is refused now, not at the first request
        self._comments = comments
        self._heard: list[tuple[str, int]] = []  # while bytes are parsed: each comment, and the messages before it
        self._parser = EventStreamParser(
            max_event_size, last_event_id=last_event_id, comments=None if comments is None else self._hear
        )
        self._delivered_id = last_event_id
        self._received: deque[MessageEvent | str] = deque()  # a str is a comment
        self._state = ReadyState.CONNECTING
        self._turning = threading.Lock()  # a source may be closed by another thread
        self._ever_open = False
        self._opened_at: float | None = None
        self._attempts = 0  # reconnections in a row that brought no message

    @property
    def ready_state(self) -> ReadyState:
        return self._state

    def _turn(self, state: ReadyState) -> bool:
        """Take a state and return True; False if the source is closed, which is its last state."""
        with self._turning:
            if self._state is ReadyState.CLOSED:
                return False
            self._state = state
            return True

    @property
    def last_event_id(self) -> str:
        # What is parsed but not handed over must come again, if the user goes on elsewhere from this id.
        return self._delivered_id if self._received else self._parser.last_event_id

    @property
    def reconnection_time(self) -> float:
        retry = self._parser.retry
        return self._reconnection_time if retry is None else min(retry / 1000, LONGEST_WAIT)

    # -- the request

    def request_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the next request; the user's own replace ours."""
        ours = [
            (b"Accept", EVENT_STREAM.encode()),  # 9.2.2, constructor: set `Accept`
            # 9.2.2, constructor: the cache mode is "no-store"; Fetch, 4.5, "HTTP-network-or-cache fetch", step 8.18:
            # which is "no-cache" on the wire
            (b"Cache-Control", b"no-cache"),
            (b"Accept-Encoding", b"identity"),  # a compressor that is not flushed holds events back
        ]
        if self.body.content_type is not None:
            ours.append((b"Content-Type", self.body.content_type.encode()))
        headers = [(name, value) for name, value in ours if name.decode() not in self._headers]
        headers += self._headers.raw
        # 9.2.3, "reestablish the connection", and 9.2.4: UTF-8, when it is not the empty string.
        if id := self.id_to_send:
            headers.append((b"Last-Event-ID", id.encode()))
        return headers

    @property
    def id_to_send(self) -> str:
        """The last event ID, if a header can carry it; otherwise ""."""
        return self._id_of_header if self.fault_of_id is None else ""

    @property
    def fault_of_id(self) -> str | None:
        """Why no header can carry the last event ID, so that the next request goes without it; None if one can."""
        return fault_of_id(self._id_of_header)

    @property
    def _id_of_header(self) -> str:
        # HTTP can't carry blanks around a value; a browser's are lost on the way.
        return self._parser.last_event_id.strip(" \t")

    # -- what came back

    def announce(self, response: httpx2.Response, now: float) -> bool:
        """Take the head of an answer and return whether a stream follows."""
        if not is_stream(response):
            return False
        # 9.2.3, "announce the connection"
        if self._turn(ReadyState.OPEN):
            self._ever_open = True
            self._opened_at = now
        return True

    def refuse(self, response: httpx2.Response, body: bytes, redirect: str | None = None) -> None:
        """Take an answer that is not a stream, with as much of its body as could be read.

        `redirect` says why it isn't followed, if it is one.

        204 is WHATWG's way for a server to stop a client from coming back. For a request that resumes a stream it is
        the stream's proper end; a new request wanted a stream and gets an error.

        Raises:
            EventSourceError: it is an error.
        """
        if response.status_code == 204 and (self._ever_open or self._parser.last_event_id):
            self.close()
            return
        if redirect is not None:
            assert response.next_request is not None
            redirect = f"a redirect to {shown(response.next_request.url)}: {redirect}"
        raise refusal(_with_body(response, body), redirect)

    def feed(self, chunk: bytes) -> None:
        """Take bytes of the stream, once all messages have been handed over."""
        self._delivered_id = self._parser.last_event_id
        if messages := self._parser.feed(chunk):
            self._attempts = 0
        if self._heard:
            self._place_comments(messages)
        else:
            self._received.extend(messages)

    def _hear(self, text: str, before: int) -> None:
        self._heard.append((text, before))

    def _place_comments(self, messages: list[MessageEvent]) -> None:
        """Put comments in their places among the messages."""
        taken = 0
        for text, before in self._heard:
            self._received.extend(messages[taken:before])
            self._received.append(text)
            taken = before
        self._received.extend(messages[taken:])
        self._heard.clear()

    def next_message(self) -> MessageEvent | None:
        """Return a message that has been received; None once the source is closed (9.2.2, close()).

        Comments are reported when their turn comes, so that they keep their place among the messages.
        """
        while self._received and self._state is not ReadyState.CLOSED:
            received = self._received.popleft()
            if not isinstance(received, str):
                self._delivered_id = received.last_event_id
                return received
            if self._comments is not None:
                self._comments(received)
        return None

    # -- ends

    def lost(self, error: httpx2.HTTPError | None, now: float) -> float | None:
        """Take the end of a connection, or the failure to make one; `error` is None for a body's proper end.

        Returns:
            The seconds to wait before the next attempt, or None if that was the end.

        Raises:
            httpx2.HTTPError: the error, which was the last.
            EventTooLarge: the stream ended before the parser could raise it; the same event would come again.
        """
        if self.ready_state is ReadyState.CLOSED:
            return None
        try:
            self._parser.close()  # 9.2.6: an unfinished block is dropped
        except EventTooLarge:
            self.close()
            raise
        if self._opened_at is not None and now - self._opened_at >= STEADY:
            self._attempts = 0
        self._opened_at = None
        if not self._tries_again(error):
            self.close()  # 9.2.3, "fail the connection"
            if error is not None:
                raise error
            return None
        # 9.2.3, "reestablish the connection": readyState, then "wait a delay"
        if not self._turn(ReadyState.CONNECTING):
            return None
        delay = self._delay(error)
        self._attempts += 1
        return delay

    def interrupted(self) -> bool:
        """Note that the user gave up a wait, and with it the connection; return whether that closed the source."""
        with contextlib.suppress(EventTooLarge):  # it comes again with the next connection
            self._parser.close()
        self._opened_at = None
        if self.reconnect:
            self._turn(ReadyState.CONNECTING)
            return False
        return self._turn(ReadyState.CLOSED)

    def close(self) -> None:
        """9.2.2, close()."""
        self._turn(ReadyState.CLOSED)

    def _tries_again(self, error: httpx2.HTTPError | None) -> bool:
        if not self.reconnect or (self.max_reconnects is not None and self._attempts >= self.max_reconnects):
            return False
        if error is None:
            # 9.2.3: "processResponseEndOfBody": reestablish the connection
            return self.reconnect is True
        if not self._ever_open and not self.patient:
            return False
        if isinstance(error, EventSourceError):
            status = error.response.status_code
            return status in self.retry_statuses or (status in BUSY_STATUSES and _retry_after(error) is not None)
        return isinstance(error, TRANSIENT)

    def _delay(self, error: httpx2.HTTPError | None) -> float:
        """9.2.3: the reconnection time, and "optionally, wait some more": double it, spread it, heed Retry-After."""
        delay = self.reconnection_time
        if self._attempts:
            doubled = max(delay, LEAST_BACKOFF) * 2.0 ** min(self._attempts, 64)
            delay = max(delay, min(doubled, self.max_reconnection_time))
        delay = min(delay, LONGEST_WAIT) * (1 + JITTER * random.random())
        return max(delay, min(_retry_after(error) or 0.0, LONGEST_RETRY_AFTER))


def _query(params: QueryParamTypes | None) -> httpx2.QueryParams | None:
    if params is not None and not isinstance(params, str | bytes | Mapping | list | tuple):
        raise TypeError(f"params is a mapping, a list of pairs, or a query as text, not {type(params).__name__}")
    return None if params is None else httpx2.QueryParams(params)


def is_stream(response: httpx2.Response) -> bool:
    """Whether an answer is an event stream: its status is 200 and its content type `text/event-stream`."""
    return response.status_code == 200 and is_event_stream(response.headers.get("content-type", ""))


def refusal(response: httpx2.Response, redirect: str | None = None) -> EventSourceError:
    """The error for an answer that is not a stream; `redirect` says where it leads, and why it isn't followed."""
    where = f"{response.request.method} {shown(response.request.url)}"
    if response.status_code != 200:
        status = f"{response.status_code} {response.reason_phrase}".rstrip()
        if redirect is not None:
            return RedirectRefused(f"{where} was answered with {status}, {redirect}", response)
        return RefusedStatus(f"{where} was answered with {status}, not with an event stream", response)
    found = response.headers.get("content-type")
    content_type = f"content type {found!r}" if found else "no content type"
    return WrongContentType(f"{where} was answered with {content_type}, not {EVENT_STREAM}", response)


def _retry_after(error: httpx2.HTTPError | None) -> float | None:
    """The seconds in the answer's Retry-After (RFC 9110, section 10.2.3), or None if it has none."""
    if not isinstance(error, EventSourceError):
        return None
    value = error.response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:15])
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for a zone of thousands of hours
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _with_body(response: httpx2.Response, body: bytes) -> httpx2.Response:
    """The response with a body that has been read and decoded."""
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_TRANSFER]
    answer = httpx2.Response(response.status_code, headers=headers, content=body, request=response.request)
    answer.history = response.history
    return answer


_OF_THE_TRANSFER: Final = (b"content-encoding", b"content-length", b"transfer-encoding")
