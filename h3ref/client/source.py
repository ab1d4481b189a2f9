"""What `EventSource` and its blocking twin share: everything but the I/O."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar

import httpx2

from ..errors import H3Error
from ..sse import DEFAULT_MAX_EVENT_SIZE
from . import sockets, urls
from .protocol import Comments, HeaderFields, Protocol, ReadyState, Reconnect, is_stream, refusal
from .redirects import FollowRedirects, Redirects, checked
from .urls import shown

if TYPE_CHECKING:
    from httpx2._client import UseClientDefault
    from httpx2._types import AuthTypes, QueryParamTypes

log = logging.getLogger("h3ref.client")

REFUSAL_SIZE: Final = 64 * 1024
REFUSAL_SECONDS: Final = 1.0
"""How much of the body of a refusal or a redirect is read, and for how long."""

CONNECTED: Final = "connection.connect_tcp.complete"
"""httpcore2's name for the step that makes a socket."""

Client = TypeVar("Client", httpx2.AsyncClient, httpx2.Client)
Reopen = TypeVar("Reopen")
OnOpen = Callable[[httpx2.Response], object]
OnReconnect = Callable[[float, httpx2.HTTPError | None], object]


class Source(ABC, Generic[Client, Reopen]):
    """A stream that is received; each twin connects, reads and waits in its own way, as the protocol decides."""

    _kind: ClassVar[type[httpx2.AsyncClient] | type[httpx2.Client]]

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
        auth: AuthTypes | UseClientDefault | None = httpx2.USE_CLIENT_DEFAULT,
        last_event_id: str = "",
        client: Client | None = None,
        follow_redirects: FollowRedirects | None = None,
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
        on_open: OnOpen | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> None:
        """Set up a source; nothing is sent before you enter it.

        Args:
            url: where the stream is, http or https; with a `client` that has a base URL it may be relative.
            method: the request's method.
            headers: further request headers, which replace the source's own. A Last-Event-ID among them is taken as
                `last_event_id`.
            params: the URL's query, as httpx2 takes it: it replaces one in `url`, and is added to the client's.
            content: the body as it is. It is sent again when the source reconnects, follows a redirect or answers a
                challenge; so it is a str, sent as UTF-8, or bytes, and nothing that can be read only once.
            data: a form's fields, sent as an application/x-www-form-urlencoded body.
            json: a value, sent as a JSON body. Pass only one of `content`, `data` and `json`. The body is encoded now,
                and later changes to the value don't count. A GET has none.
            auth: the credentials, as httpx2 takes them: a user and a password, an `httpx2.Auth`, or a function that
                changes the request. Left out, the `client`'s; None, no credentials. They never go to another origin.
            last_event_id: the id to resume after; "" for a new stream.
            client: the httpx2 client to connect with, for its auth, proxies, cookies or transport. It stays open; the
                timeouts below replace its own.
            follow_redirects: True: follow them everywhere; to another origin (scheme, host and port) only the headers
                in `h3ref.client.redirects.SAFE_HEADERS` go along, and a body never. "same-origin": not to another
                origin. False: not at all. None: as the `client` does, True without one.
            reconnect: True: after errors and after the body's proper end, as WHATWG says. "after_error": only after
                errors. False: never. None: True for a safe method such as GET, False for others such as POST, which
                should not be sent twice unasked.
            patient: keep trying even if the very first connection can't be made.
            max_reconnects: how many reconnections in a row may bring no message before the source gives up; None for
                any number.
            reconnection_time: seconds before a reconnection, until the server's `retry` says otherwise. They double
                with each reconnection in a row that brings no message, and each wait is up to a quarter longer at
                random.
            max_reconnection_time: the seconds at which doubling stops.
            retry_statuses: statuses after which a reconnection is tried again, such as (502, 504) behind a proxy. 429
                and 503 always are when they come with Retry-After, which is heeded up to 300 s.
            heartbeat: seconds without a byte after which the connection counts as lost; None for no limit. The comments
                that a server sends as keep-alives count as bytes: choose two or three times their interval. It also
                limits the wait for the answer's head. Without it, TCP keep-alive still finds a peer that has vanished,
                after two minutes, but nothing finds a server that is there and stands still.
            connect_timeout: seconds that making a connection may take; None for no limit.
            max_event_size: the most bytes that one event may have; None for no limit.
            comments: called with each comment's text, such as a keep-alive's, when its turn comes among the messages,
                within the wait for the next one. What it raises, that wait raises.
            on_open: called with the response whenever the stream is opened.
            on_reconnect: called before each wait with its seconds, and with the error, or None if the stream ended
                properly.

        Raises:
            ValueError, TypeError: an argument that can't be used.
        """
        if client is not None:
            _check_client(client, self._kind)
        self._core = Protocol(
            url,
            method=method,
            headers=headers,
            params=params,
            content=content,
            data=data,
            json=json,
            last_event_id=last_event_id,
            reconnect=reconnect,
            patient=patient,
            max_reconnects=max_reconnects,
            reconnection_time=reconnection_time,
            max_reconnection_time=max_reconnection_time,
            retry_statuses=retry_statuses,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            max_event_size=max_event_size,
            comments=comments,
        )
        self._auth = _checked_auth(auth)
        if client is None or not client.base_url.host or self._core.url.is_absolute_url:
            urls.check(self._core.url)
        if follow_redirects is None:
            follow_redirects = True if client is None else client.follow_redirects
        self._follow_redirects = checked(follow_redirects)
        self._given: Client | None = client
        self._client: Client | None = None
        self._entered = False
        self._handed: httpx2.Response | None = None  # until it is read
        self._reopen: Reopen | None = None
        self._on_open = on_open
        self._on_reconnect = on_reconnect
        self._response: httpx2.Response | None = None
        self._interrupted = False
        self._prepare()

    @classmethod
    def from_response(
        cls,
        response: httpx2.Response,
        *,
        reopen: Reopen | None = None,
        reconnect: Reconnect | None = None,
        max_reconnects: int | None = None,
        reconnection_time: float = 3.0,
        max_reconnection_time: float = 60.0,
        retry_statuses: Collection[int] = (),
        heartbeat: float | None = None,
        max_event_size: int | None = DEFAULT_MAX_EVENT_SIZE,
        comments: Comments | None = None,
        on_open: OnOpen | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> Self:
        """Make a source of a response that a client has begun to receive, such as `client.stream("POST", ...)` gives.

        Enter it like any other source; leaving it closes the response. It resumes from the Last-Event-ID of the
        response's request, if that had one.

        Args:
            response: the response, whose body has not been read.
            reopen: called with the last event ID, or "", to reconnect; it sends a request of its own and returns the
                response, unread. For an `EventSource` it is awaited. An `httpx2.HTTPError` that it raises counts as a
                failure to connect.
            reconnect: as above; None: True with `reopen`. Without `reopen`, the source never reconnects.
            heartbeat: seconds without a byte after which the connection counts as lost, in place of the request's own
                read timeout; None keeps that: 5 s, unless the client says otherwise.

        The other arguments are those of a source that sends its own requests.

        Raises:
            RefusedStatus: the response is not a stream, and has a status other than 200, such as 202.
            WrongContentType: the response is not a stream but something else, such as JSON. Either error's `response`
                is the one that you passed; nothing of it has been read.
            TypeError: it is not a response of httpx2's, or belongs to the other twin.
            ValueError: an argument that can't be used.
        """
        _check_response(response, cls._kind)
        if reconnect and reopen is None:
            raise ValueError("to reconnect, pass reopen, which asks again: a response alone can't be received twice")
        if not is_stream(response):
            raise refusal(response)
        source = cls(
            response.request.url,
            method=response.request.method,
            last_event_id=response.request.headers.get("last-event-id", ""),
            reconnect=reopen is not None if reconnect is None else reconnect,
            max_reconnects=max_reconnects,
            reconnection_time=reconnection_time,
            max_reconnection_time=max_reconnection_time,
            retry_statuses=retry_statuses,
            heartbeat=heartbeat,
            max_event_size=max_event_size,
            comments=comments,
            on_open=on_open,
            on_reconnect=on_reconnect,
        )
        source._response = source._handed = response
        source._reopen = reopen
        return source

    def _prepare(self) -> None:
        """Create what else a twin needs."""

    @abstractmethod
    def _traced(self, name: str, info: dict[str, Any]) -> object:
        """Take a step of httpcore2's; the asynchronous twin's is awaited."""

    @property
    def url(self) -> str:
        """The stream's URL, as it was asked for (WHATWG HTML, 9.2.2), without `params`."""
        return str(self._core.url)

    @property
    def ready_state(self) -> ReadyState:
        """CONNECTING, OPEN or CLOSED (WHATWG HTML, 9.2.2, readyState)."""
        return self._core.ready_state

    @property
    def last_event_id(self) -> str:
        """The last event ID as of the last message that you received, to resume from elsewhere."""
        return self._core.last_event_id

    @property
    def reconnection_time(self) -> float:
        """The seconds before a reconnection, as the server last said; never more than a day."""
        return self._core.reconnection_time

    @property
    def response(self) -> httpx2.Response | None:
        """The response that the stream is, or was last, read from."""
        return self._response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.method} {shown(self._core.url)} {self.ready_state.name}>"

    def _enter(self, create: Callable[[], Client]) -> None:
        if self._entered or self.ready_state is ReadyState.CLOSED:
            raise RuntimeError(f"{self!r} can be entered once; create another to connect again")
        self._entered = True
        if self._handed is None:
            self._client = create() if self._given is None else self._given

    def _begin(self) -> tuple[httpx2.Request | None, Redirects]:
        """The request that a connection begins with; None where the caller's own way gives the answer."""
        if self._client is None:
            return None, Redirects(False, 0)
        return self._request(self._client), Redirects(self._follow_redirects, self._client.max_redirects)

    def _take_handed(self) -> httpx2.Response | None:
        """Return the response that was passed in, the first time."""
        handed, self._handed = self._handed, None
        return handed

    def _of_the_caller(self, response: httpx2.Response) -> httpx2.Response:
        """Return an answer that the caller's own way gave, with the source's heartbeat.

        Raises:
            TypeError: it is not one.
        """
        _check_response(response, self._kind)
        heartbeat = self._core.timeout.read
        if heartbeat is not None:  # looked at by the transport when it reads
            response.request.extensions.setdefault("timeout", {})["read"] = heartbeat
        return response

    @property
    def _cookies(self) -> httpx2.Cookies:
        return httpx2.Cookies() if self._client is None else self._client.cookies

    def _request(self, client: httpx2.AsyncClient | httpx2.Client) -> httpx2.Request:
        core = self._core
        if (fault := core.fault_of_id) is not None:
            log.info("%r: sends its request without the last event ID, which no header can carry: it %s", self, fault)
        return client.build_request(
            core.method,
            core.url,
            params=core.params,
            headers=core.request_headers(),
            content=core.body.content,
            timeout=core.timeout,
            extensions={"trace": self._traced},
        )

    def _opened(self, response: httpx2.Response) -> None:
        if self.ready_state is not ReadyState.OPEN:  # closed by another thread, just as the answer came
            return
        log.info("%r: open", self)
        sockets.probe(response.extensions.get("network_stream"))  # a given client's may be older than this source
        if self._on_open is not None:
            self._on_open(response)

    def _lost(self, error: httpx2.HTTPError | None, now: float) -> float:
        """Return the seconds to wait; 0 if there is nothing to wait for."""
        delay = self._core.lost(error, now)
        if delay is None:
            return 0.0
        why = "the stream ended" if error is None else f"{type(error).__name__}: {error}"
        log.info("%r: %s; reconnects in %.1f s", self, why, delay)
        if self._on_reconnect is not None:
            self._on_reconnect(delay, error)
        return delay

    def _is_over(self) -> bool:
        """Whether no more messages will come.

        Raises:
            RuntimeError: the source was never entered.
            H3Error: it ended because a wait was given up.
        """
        if not self._entered:
            raise RuntimeError(f"{self!r} is not connected: enter it with `with` or `async with` first")
        if self.ready_state is not ReadyState.CLOSED:
            return False
        if self._interrupted:
            raise H3Error(f"{self!r}: the stream was given up when a wait for it was cancelled, and is not reconnected")
        return True

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._core.close()  # the same would happen again, such as EventTooLarge
        else:
            self._interrupted = self._core.interrupted()


def _checked_auth(auth: object) -> Any:
    """Return the argument `auth`, if it is valid."""
    if auth is None or auth is httpx2.USE_CLIENT_DEFAULT or isinstance(auth, tuple | httpx2.Auth) or callable(auth):
        return auth
    raise TypeError(
        "auth is a tuple of user and password, an httpx2.Auth, a function that takes the request, or None, "
        f"not {type(auth).__name__}"
    )


def _check_response(response: object, kind: type[httpx2.AsyncClient] | type[httpx2.Client]) -> None:
    if not isinstance(response, httpx2.Response):
        of = f"{type(response).__module__.partition('.')[0]}.{type(response).__qualname__}"
        hint = "httpx2 is a different library from httpx; send the request with httpx2"
        raise TypeError(f"a response is an httpx2.Response, not {of}: {hint}")
    stream = httpx2.AsyncByteStream if kind is httpx2.AsyncClient else httpx2.SyncByteStream
    if not isinstance(response.stream, stream):
        raise TypeError(
            f"pass a response of an httpx2.{kind.__name__}: EventSource awaits, and BlockingEventSource does not"
        )


def _check_client(client: object, kind: type[httpx2.AsyncClient] | type[httpx2.Client]) -> None:
    if isinstance(client, kind):
        return
    if isinstance(client, httpx2.AsyncClient | httpx2.Client):
        hint = "EventSource awaits, and BlockingEventSource does not"
    else:
        hint = "httpx2 is a different library from httpx; make the client with httpx2"
    of = f"{type(client).__module__.partition('.')[0]}.{type(client).__qualname__}"
    raise TypeError(f"client is an httpx2.{kind.__name__}, not {of}: {hint}")
