"""`AsyncTestClient`: drives an app, without a socket, in the event loop of the test; `TestClient` is made of it."""

# ruff: noqa: ASYNC109 (a timeout of ours says what came instead; `anyio.fail_after` can be used as well)

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote, urlencode

import anyio
from anyio.abc import TaskGroup

from .._core.exchange import Flow
from .._core.owned import Owned
from ..adapters.asgi import ASGIApp
from ..app import H3App
from ..limits import Limits
from .clock import settle
from .lifespan import Lifespan
from .results import Response
from .stream import ASGI, AsyncStream, Message, keep_failure, listen

HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]

PATIENCE: Final = 60.0
"""The most seconds, on the loop's clock, that a wait takes if it is given no timeout."""

UNREAD: Final = 256 * 1024
"""Bytes of events that may lie unread before the app's next send has to wait."""


class AsyncTestClient:
    """Drives an app in the event loop of the test, without a socket.

        async with AsyncTestClient(app) as client:
            async with await client.stream("GET", "/events") as stream:
                event = await stream.next_event()

    Time is the loop's: virtual if the loop's is, as with `virtual_backends()`. `TestClient`, which brings its own loop
    with virtual time, explains the arguments. You may leave a client in a task other than the one that entered it, as
    fixtures of pytest-asyncio and cells of a notebook do.
    """

    __test__ = False  # no test of pytest's

    def __init__(
        self,
        app: H3App | ASGI,
        *,
        headers: HeaderFields | None = None,
        timeout: float = PATIENCE,
        raise_app_exceptions: bool = True,
        lifespan: bool = True,
        unread: int = UNREAD,
        flow: Flow | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not isinstance(app, H3App) and (flow is not None or limits is not None):
            raise TypeError("flow and limits are for an H3App: leave them out for any other app")
        self.timeout = timeout
        self.raise_app_exceptions = raise_app_exceptions
        self.unread = unread
        self.streams: list[AsyncStream] = []
        self._given = app
        self._app: ASGI = ASGIApp(app, flow=flow, limits=limits, trace=listen) if isinstance(app, H3App) else app
        self._headers = _pairs(headers)
        self._wants_lifespan = lifespan
        self._lifespan: Lifespan | None = None
        self._owned: Owned[TaskGroup]
        self._tasks: TaskGroup
        self._began = 0.0

    def now(self) -> float:
        """The seconds since the client was entered, on the loop's clock."""
        return round(anyio.current_time() - self._began, 9)

    async def advance(self, seconds: float) -> None:
        """Let time pass; whatever falls due in it happens."""
        await anyio.sleep(seconds)
        await settle()

    async def stream(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderFields | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncStream:
        """Send a request and return its stream as soon as the head is there; see `TestClient.stream`."""
        return await self._open(self._request(method, target, headers, params, json, body), timeout, keeps=False)

    async def _open(self, request: tuple[Message, bytes], timeout: float | None, *, keeps: bool) -> AsyncStream:
        stream = AsyncStream(self, *request, keeps=keeps)
        self.streams.append(stream)
        self._tasks.start_soon(stream._run, self._app)
        try:
            await stream._in_time(stream._headed, timeout, "no answer came")
        except BaseException:
            await stream.cancel()
            raise
        return stream

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderFields | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return the whole response; see `TestClient.request`."""
        stream = await self._open(self._request(method, target, headers, params, json, body), timeout, keeps=True)
        async with stream:
            content = await stream.read(timeout)
        return Response(stream.status, stream.headers, content)

    async def __aenter__(self) -> AsyncTestClient:
        self._began = anyio.current_time()
        self._owned = Owned(anyio.create_task_group())
        self._tasks = await self._owned.__aenter__()
        if isinstance(self._given, H3App):
            self._given.error_hooks.append(keep_failure)
        try:
            if self._wants_lifespan:
                self._lifespan = Lifespan(self._app)
                self._tasks.start_soon(self._lifespan.run)
                await self._lifespan.pass_on("startup", self.timeout)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            async with anyio.create_task_group() as leaving:
                for stream in self.streams:
                    leaving.start_soon(stream.leave)
            if self._lifespan is not None:
                await self._lifespan.pass_on("shutdown", self.timeout)
        finally:
            await self._end()
        if error is None:
            for stream in self.streams:
                stream._raise_failure()

    async def _end(self) -> None:
        if isinstance(self._given, H3App):
            self._given.error_hooks.remove(keep_failure)
        self._tasks.cancel_scope.cancel()
        await self._owned.__aexit__(None, None, None)

    def _request(
        self,
        method: str,
        target: str,
        headers: HeaderFields | None,
        params: Mapping[str, str] | None,
        json: Any,
        body: bytes,
    ) -> tuple[Message, bytes]:
        if not target.startswith("/"):
            raise ValueError(f"a target is a path such as '/events', not {target!r}")
        path, _, query = target.partition("?")
        if params:
            query = "&".join(filter(None, (query, urlencode(params))))
        fields = {"host": "testserver", "accept": "*/*", "user-agent": "h3ref-testing"}
        if json is not None:
            body = json_module.dumps(json).encode()
            fields["content-type"] = "application/json"
        if body:
            fields["content-length"] = str(len(body))
        given = [*self._headers, *_pairs(headers)]
        named = {name for name, _ in given}
        sent = [*((name, value) for name, value in fields.items() if name not in named), *given]
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},  # uvicorn's, which decides how Starlette listens
            "http_version": "1.1",
            "method": method.upper(),
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent],
            "client": ("testclient", 50000),
            "server": ("testserver", 80),
            "extensions": {},
        }
        if self._lifespan is not None:
            scope["state"] = dict(self._lifespan.state)
        return scope, body


def _pairs(headers: HeaderFields | None) -> list[tuple[str, str]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name.lower(), value) for name, value in pairs]
