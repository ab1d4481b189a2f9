"""`H3App`: an application's routes and hooks."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeVar, overload

from ._core.callables import check_takes, is_generator, name_of
from ._core.generator import DEFAULT_COMMIT_AFTER, generator_handler
from ._core.lifespan import Lifespan
from ._core.router import Handler, Match, Router
from .event import H3Event
from .headers import check_token
from .sse import SSEEvent

AnyHandler = Callable[[H3Event], Awaitable[None] | None]
AnyErrorHook = Callable[[H3Event, Exception], Awaitable[None] | None]
AnyGenerator = Callable[[H3Event], AsyncIterable[SSEEvent | str] | Iterator[SSEEvent | str]]
AnyGeneratorOfValues = Callable[[H3Event], AsyncIterable[Any] | Iterator[Any]]

F = TypeVar("F", bound=AnyHandler)
E = TypeVar("E", bound=AnyErrorHook)
H = TypeVar("H", bound=Callable[..., Any])
G = TypeVar("G", bound=AnyGenerator)
V = TypeVar("V", bound=AnyGeneratorOfValues)

_LATER: Any = object()  # no handler was given: it comes by decoration (None would be one given by mistake)


class H3App:
    """Routes and hooks; served by `serve`, `running` or an ASGI server.

    A handler takes the `H3Event`. An `async def` runs on the event loop, a plain `def` on a worker thread.

    Hooks, each called in the order of registration, `async def` or plain `def`:
        on_request(event): before the handler; one that answers takes the handler's place.
        on_response(event): before the head leaves, plain or stream; may still set headers.
        on_error(event, error): when a hook, handler or callback raised; may still answer, if nothing has.

    Args:
        lifespan: what the app holds as long as it is served, as a pool of connections: an async context manager, or a
            function that takes the app and returns one, made with `contextlib.asynccontextmanager`. Each server enters
            it before its first request, and leaves it in the same task when its last stream has ended. What it yields
            is not looked at. What it raises when it is entered ends the server.

    Raises:
        TypeError: the lifespan is neither.
    """

    def __init__(
        self,
        *,
        lifespan: AbstractAsyncContextManager[Any] | Callable[[H3App], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        self._lifespan = Lifespan(lifespan)
        self._router = Router()
        self.request_hooks: list[Handler] = []
        self.response_hooks: list[Handler] = []
        self.error_hooks: list[Handler] = []
        self._asgi: Any = None

    @overload
    def on(self, method: str, pattern: str) -> Callable[[F], F]: ...
    @overload
    def on(self, method: str, pattern: str, handler: F) -> F: ...
    def on(self, method: str, pattern: str, handler: Any = _LATER) -> Any:
        """Register a handler for a method and a pattern, called directly or as a decorator.

        Args:
            method: such as "GET" or "PATCH".
            pattern: a path; a segment ":id" matches any one segment (`event.params["id"]`), a last "/*" all
                that follows (`event.params["*"]`). Static segments are preferred to ":id", that to "/*".
            handler: takes the `H3Event`.

        Raises:
            TypeError: the handler can't be called with an event, or is a generator.
            ValueError: the pattern or the method can't be used, or has a handler already.
        """

        _check_pattern(method, pattern)
        check_token("method", method)

        def register(handler: F) -> F:
            check_takes(handler, 1, "a handler", "the H3Event")
            if is_generator(handler):
                raise TypeError(f"{name_of(handler)} is a generator; register it with app.sse({pattern!r})")
            self._router.add(method.upper(), pattern, handler)
            return handler

        return register if handler is _LATER else register(handler)

    @overload
    def get(self, pattern: str) -> Callable[[F], F]: ...
    @overload
    def get(self, pattern: str, handler: F) -> F: ...
    def get(self, pattern: str, handler: Any = _LATER) -> Any:
        """Register a handler for GET, and for HEAD; see `on`."""
        return self.on("GET", pattern, handler)

    @overload
    def post(self, pattern: str) -> Callable[[F], F]: ...
    @overload
    def post(self, pattern: str, handler: F) -> F: ...
    def post(self, pattern: str, handler: Any = _LATER) -> Any:
        """Register a handler for POST; see `on`."""
        return self.on("POST", pattern, handler)

    @overload
    def put(self, pattern: str) -> Callable[[F], F]: ...
    @overload
    def put(self, pattern: str, handler: F) -> F: ...
    def put(self, pattern: str, handler: Any = _LATER) -> Any:
        """Register a handler for PUT; see `on`."""
        return self.on("PUT", pattern, handler)

    @overload
    def delete(self, pattern: str) -> Callable[[F], F]: ...
    @overload
    def delete(self, pattern: str, handler: F) -> F: ...
    def delete(self, pattern: str, handler: Any = _LATER) -> Any:
        """Register a handler for DELETE; see `on`."""
        return self.on("DELETE", pattern, handler)

    @overload
    def sse(
        self, pattern: str, *, method: str = "GET", commit_after: float = DEFAULT_COMMIT_AFTER, json: Literal[True]
    ) -> Callable[[V], V]: ...
    @overload
    def sse(
        self, pattern: str, *, method: str = "GET", commit_after: float = DEFAULT_COMMIT_AFTER, json: bool = False
    ) -> Callable[[G], G]: ...
    def sse(
        self, pattern: str, *, method: str = "GET", commit_after: float = DEFAULT_COMMIT_AFTER, json: bool = False
    ) -> Any:
        """Register a generator, async or plain, that yields `SSEEvent`s or strs: the stream is what it yields.

        Until its first item nothing is sent, so that it may still answer (`event.send_error(404); return`) and
        its failure is a real 500.

        Args:
            pattern: as in `on`.
            method: the method, such as "POST" for a stream that answers a prompt.
            commit_after: seconds after which the headers are sent though no item has come. If they can't be, the client
                is told why at once; an async generator is closed then, a plain one at its next item.
            json: the generator yields values instead: all but an `SSEEvent`, a str too, is sent as the JSON that
                `SSEEvent.json` makes of it.

        Raises:
            TypeError: not a generator.
            ValueError: the pattern or the method can't be used, or has a handler already; a negative `commit_after`.
        """

        _check_pattern("sse", pattern)
        check_token("method", method)

        def register(generator: V) -> V:
            check_takes(generator, 1, "a generator", "the H3Event")
            self._router.add(method.upper(), pattern, generator_handler(generator, commit_after, json))
            return generator

        return register

    def on_request(self, hook: F) -> F:
        """Register a hook that is called with the event before the handler."""
        return _hook(self.request_hooks, hook, 1, "the H3Event")

    def on_response(self, hook: F) -> F:
        """Register a hook that is called with the event before the head of its response leaves."""
        return _hook(self.response_hooks, hook, 1, "the H3Event")

    def on_error(self, hook: E) -> E:
        """Register a hook that is called with the event and the exception when something raised."""
        return _hook(self.error_hooks, hook, 2, "the H3Event and the exception")

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return what enters the app's lifespan, and leaves it in the same task; an app without one holds nothing.

        `serve`, `running`, the test clients and ASGI servers do so by themselves. An application that mounts this one
        does it in its own lifespan, since no server sees that of a mounted app: `async with streams.lifespan(): yield`.
        """
        return self._lifespan.entered(self)

    @property
    def lacks_lifespan(self) -> bool:
        """Whether it has a lifespan that nobody has entered in the event loop that runs here."""
        return self._lifespan.is_missing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as an ASGI 3 application: `uvicorn module:app` serves it. See `adapters.asgi.ASGIApp`."""
        if self._asgi is None:
            from .adapters.asgi import ASGIApp

            self._asgi = ASGIApp(self)
        await self._asgi(scope, receive, send)

    def match(self, method: str, path: str) -> Match:
        """Find the handler for a request; see `Router.match`."""
        return self._router.match(method, path)


def _check_pattern(method: str, pattern: object) -> None:
    if not isinstance(pattern, str):
        written = f'@app.{method.lower()}("/path")'
        raise TypeError(f"a pattern is a str that begins with '/', not {pattern!r}; write {written}")


def _hook(hooks: list[Handler], hook: H, count: int, what: str) -> H:
    check_takes(hook, count, "a hook", what)
    if is_generator(hook):
        raise TypeError(f"{name_of(hook)} is a generator, whose body would never run: a hook must not yield")
    hooks.append(hook)
    return hook
