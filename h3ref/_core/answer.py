"""`Answer`: the status, the headers and the plain body that an exchange is answered with."""

from __future__ import annotations

from http import HTTPStatus

from ..connection import Response
from ..errors import H3Error
from ..headers import EVENT_STREAM, check_media_type

BODILESS = (204, 205, 304)
_OF_THE_CONTENT = frozenset(
    f"content-{part}" for part in ("disposition", "encoding", "language", "location", "range", "type")
) | {"cache-control", "etag", "expires", "last-modified"}
"""Headers that describe one answer's content (RFC 9110, section 8), so they go when another takes its place."""

STREAM_HEADERS = [
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
    ("Content-Type", EVENT_STREAM),
]
"""H3Z's, in its order: they keep caches from storing the stream, and nginx and (by no-transform) compressors from
holding it back."""


class Answer:
    """What an exchange is answered with: the handler's own answer, until a failure takes its place.

    Attributes:
        headers: those that were set, in their order; None if none were.
        stream_defaults: a stream's headers, each of which applies unless it was set.
        status: the response's status; a stream's is 200.
    """

    __slots__ = ("_response", "headers", "status", "stream_defaults")

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[tuple[str, str]] | None = None
        self.stream_defaults = STREAM_HEADERS
        self._response: tuple[str | None, bytes] | None = None  # the body's media type, and the body

    # -- what a handler sets

    def set_header(self, name: str, value: str, *, append: bool = False) -> None:
        """Set a header; unless it is appended, it replaces one of the same name."""
        kept = [pair for pair in self.headers or [] if append or pair[0].lower() != name.lower()]
        self.headers = [*kept, (name, value)]

    def set_body(self, content_type: str | None, body: bytes) -> None:
        """Answer with a plain body of this media type."""
        self._response = content_type, body

    def check_stream(self) -> None:
        """Refuse a head that no client would take for a stream's.

        Raises:
            ValueError: the status is not 200, or Content-Type is not text/event-stream.
        """
        if self.status != 200:
            raise ValueError(f"a stream's status is 200, not {self.status}; answer an error with send_error()")
        for name, value in self.headers or ():
            if name.lower() == "content-type":
                check_media_type(value)

    # -- what the exchange makes of it

    @property
    def is_plain(self) -> bool:
        """Whether there is a plain response that has not been taken for sending."""
        return self._response is not None

    def stream_headers(self) -> list[tuple[str, str]]:
        """The stream's headers: our defaults, except those that the handler set, then the handler's."""
        return _with_defaults(self.headers, self.stream_defaults)

    def fail_with(self, error: Exception) -> None:
        """Make the plain response report the error, with its text if the client may know it."""
        status = error.status if isinstance(error, H3Error) else 500
        text = f"{phrase(status)}: {error}" if isinstance(error, H3Error) and error.explains else phrase(status)
        self._replace(status, "text/plain; charset=utf-8", text.encode())
        if status == 503:
            self.set_header("Retry-After", "1")

    def end_unopened(self) -> None:
        """Make the plain response say that there is no stream and will be none: a 204, which keeps a client away."""
        self._replace(204, None, b"")

    def _replace(self, status: int, content_type: str | None, body: bytes) -> None:
        """Replace the answer, whatever it was, and drop the headers that described it."""
        self.headers = [pair for pair in self.headers or [] if pair[0].lower() not in _OF_THE_CONTENT]
        self.status = status
        self._response = content_type, body

    def take(self) -> Response:
        """Return the plain response, once."""
        assert self._response is not None, "is_plain says whether there is one"
        (content_type, body), self._response = self._response, None
        if self.status in BODILESS:
            return Response(self.status, list(self.headers or []), b"")
        defaults = [("Content-Type", content_type)] if content_type else []
        return Response(self.status, _with_defaults(self.headers, defaults), body)


def _with_defaults(own: list[tuple[str, str]] | None, defaults: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if not own:
        return list(defaults)
    named = {name.lower() for name, _ in own}
    return [pair for pair in defaults if pair[0].lower() not in named] + own


def phrase(status: int) -> str:
    """The reason phrase of a status (RFC 9110, section 15), such as "Not Found"."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Error {status}"
