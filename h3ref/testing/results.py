"""What a test gets from an app: arrivals, whole responses, and errors that say what came instead."""

from __future__ import annotations

import json as json_module
import re
from typing import Any, NamedTuple

from ..errors import H3Error
from ..headers import Headers
from ..sse import MessageEvent


class StreamEnded(H3Error):
    """There is no next event: the stream has ended; the text says how, and what came before."""


class NotAStream(H3Error):
    """An event was asked for, but the answer is not an event stream; the text shows the answer."""


class TimedOut(H3Error, TimeoutError):
    """Something did not happen in time; the text says what happened instead."""


class Stuck(TimedOut):
    """The app made no progress in real time; the text says where it is. Its loop may have to be left behind."""


class Arrival(NamedTuple):
    """Something that came on a stream.

    Attributes:
        at: when, in seconds since the client was entered.
        item: the event; or the text of a comment, such as a keep-alive.
    """

    at: float
    item: MessageEvent | str


class Response(NamedTuple):
    """A whole response.

    Attributes:
        status: the HTTP status.
        headers: the headers; names match in any case.
        body: the bytes, empty if there are none.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, in the charset that the content type names, or UTF-8."""
        return self.body.decode(_charset(self.headers), "replace")

    def json(self) -> Any:
        """Return the body read as JSON.

        Raises:
            ValueError: it is not JSON (`json.JSONDecodeError`).
        """
        return json_module.loads(self.body)


def _charset(headers: Headers) -> str:
    found = re.search(r'charset="?([\w.:-]+)', headers.get("content-type", ""))
    return found[1] if found else "utf-8"
