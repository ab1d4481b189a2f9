"""`H3App`: an app's routes and hooks."""

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
    """An app's routes and hooks, served by `serve`, `running` or an ASGI server.

    A handler takes the `H3Event`. An `async def` runs on the event loop, a plain `def` on a worker thread.

    Hooks, `async def` or plain `def`, are called in the order in which you register them:
        on_request(event): before the handler; a hook that answers takes the handler's place.
        on_response(event): before the head leaves, for plain answers and streams alike; it may still set headers.
        on_error(event, error): after a hook, a handler or a callback has raised; it may still answer, if nothing has.

    Args:
        lifespan: what the app holds while it is served, such as a connection pool: an async context manager, or a
            function that takes the app and returns one, such as one made with `contextlib.asynccontextmanager`. Each
            server enters it before its first request, and leaves it in the same task after its last stream has ended.
            The value that it yields is ignored. If entering it raises, the server does not start.

    Raises:
        TypeError: the lifespan is neither of these.
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
        """Register a handler for a method and a pattern; call it directly, or use it as a decorator.

        Args:
            method: such as "GET" or "PATCH".
            pattern: a path. A segment ":id" matches any one segment (`event.params["id"]`), and a last "/*" the rest of
                the path (`event.params["*"]`). A static segment wins over ":id", and ":id" wins over "/*".
            handler: takes the `H3Event`.

        Raises:
            TypeError: the handler can't be called with an event, or is a generator.
            ValueError: the pattern or the method can't be used, or already has a handler.
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
        """Register a generator, async or plain, that yields `SSEEvent`s or strs: its items become the stream.

        Nothing is sent before the first item, so until then the generator may still answer plainly
        (`event.send_error(404); return`), and if it raises, the client gets a real 500.

        Args:
            pattern: as in `on`.
            method: the method, such as "POST" for a stream that answers a prompt.
            commit_after: seconds after which the headers are sent even if no item has come. If they can't be sent, the
                client is told why at once; an async generator is then closed, a plain one at its next item.
            json: the generator yields values instead. Each value, a str too, is sent as the JSON that `SSEEvent.json`
                makes of it; only an `SSEEvent` is sent as it is.

        Raises:
            TypeError: it is not a generator.
            ValueError: the pattern or the method can't be used, or already has a handler; a negative `commit_after`.
        """

        _check_pattern("sse", pattern)
        check_token("method", method)

        def register(generator: V) -> V:
            check_takes(generator, 1, "a generator", "the H3Event")
            self._router.add(method.upper(), pattern, generator_handler(generator, commit_after, json))
            return generator

        return register

    def on_request(self, hook: F) -> F:
        """Register a hook to be called with the event before the handler."""
        return _hook(self.request_hooks, hook, 1, "the H3Event")

    def on_response(self, hook: F) -> F:
        """Register a hook to be called with the event before the head of its response leaves."""
        return _hook(self.response_hooks, hook, 1, "the H3Event")

    def on_error(self, hook: E) -> E:
        """Register a hook to be called with the event and the exception after something has raised."""
        return _hook(self.error_hooks, hook, 2, "the H3Event and the exception")

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager that enters the app's lifespan, if it has one, and leaves it in the same task.

        `serve`, `running`, the test clients and ASGI servers enter it themselves. An app that mounts this one does it
        in its own lifespan, since no server sees that of a mounted app: `async with streams.lifespan(): yield`.
        """
        return self._lifespan.entered(self)

    @property
    def lacks_lifespan(self) -> bool:
        """Whether the app has a lifespan that nobody has entered in the event loop that runs here."""
        return self._lifespan.is_missing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as an ASGI 3 app: `uvicorn module:app` serves it. See `adapters.asgi.ASGIApp`."""
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
        raise TypeError(f"{name_of(hook)} is a generator, whose body would never run: write a hook without yield")
    hooks.append(hook)
    return hook
