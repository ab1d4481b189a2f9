"""The client's errors: all are httpx2's errors too, as those of the network are."""

from __future__ import annotations

import httpx2

from ..errors import H3Error


class EventSourceError(H3Error, httpx2.HTTPError):
    """The server answered, but not with an event stream: the connection failed for good.

    Attributes:
        response: the answer; the start of its body has been read, so that `response.text` works.
        request: the request that was answered, after redirects.
    """

    status = 502  # when a handler that reads another server's stream lets it out
    explains = False

    def __init__(self, message: str, response: httpx2.Response) -> None:
        httpx2.HTTPError.__init__(self, message)
        self.response = response
        self.request = response.request

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.response)


class RefusedStatus(EventSourceError, httpx2.HTTPStatusError):
    """The answer's status is not 200. Also an `httpx2.HTTPStatusError`."""


class RedirectRefused(RefusedStatus):
    """The answer is a redirect that is not followed.

    Either `follow_redirects` says so, or it would carry a body to another origin. Where it leads is its Location,
    `error.response.headers["location"]`.
    """


class WrongContentType(EventSourceError):
    """The answer's status is 200, but its content type is not text/event-stream."""
