"""Streams end when their server is about to end, though nobody tells them: what of it servers let be seen."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import hypercorn.asyncio
import hypercorn.config
import hypercorn.trio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from docs.generate import endings
from docs.generate.endings import HOW, WAYS, How, Way
from h3ref import H3App, H3Event, SSEEvent, SSEWriter
from h3ref.adapters.asgi import ASGIApp, EventSourceResponse, ending, transport
from h3ref.adapters.asgi.ending import Endings, Origin, Servers
from h3ref.lifecycle import State
from tests.ports import free_port
from tests.waits import until

PATIENCE = 20.0
"""Real seconds, on a machine that has other things to do; what is tested is that it ends at all."""

BYE = SSEEvent("bye")

LOOPS_AND_PARSERS = [("asyncio", "h11"), ("asyncio", "httptools"), ("uvloop", "httptools")]

on_uvicorn = pytest.mark.parametrize(("loop", "http"), LOOPS_AND_PARSERS)


# -- servers on threads, where no signal has a handler, and their clients


@contextmanager
def uvicorn_on_thread(app: Any, **options: Any) -> Iterator[tuple[uvicorn.Server, int]]:
    """Run uvicorn on a thread, and look that it is over in the end, though nobody has ended its streams."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", **options))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            held, server.force_exit = thread.is_alive(), True
        assert not held, "the server waits for its streams"


@contextmanager
def hypercorn_on_thread(app: Any, worker: str) -> Iterator[tuple[Callable[[], None], int]]:
    """Run hypercorn on a thread, with a grace of 10 s; yield what ends it."""
    port, ended = free_port(), threading.Event()
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 10

    async def until_ended() -> None:
        await anyio.to_thread.run_sync(ended.wait)

    async def serve() -> None:
        on: Any = hypercorn.trio if worker == "trio" else hypercorn.asyncio
        await on.serve(app, config, shutdown_trigger=until_ended, mode="asgi")

    thread = threading.Thread(target=anyio.run, args=(serve,), kwargs={"backend": worker}, daemon=True)
    thread.start()
    try:
        yield ended.set, port
    finally:
        ended.set()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server waits for its streams"


class Client:
    """A client that sends one request, and reads its stream."""

    def __init__(self, port: int, path: str = "/events", *, version: str = "1.1", headers: str = "") -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        self.data = b""
        self.send(path, version=version, headers=headers)

    def send(self, path: str, *, version: str = "1.1", headers: str = "") -> None:
        self.socket.sendall(f"GET {path} HTTP/{version}\r\nHost: test\r\n{headers}\r\n".encode())

    def until(self, text: bytes) -> bytes:
        while text not in self.data:
            part = self.socket.recv(65536)
            assert part, self.data
            self.data += part
        return self.data

    def rest(self) -> bytes:
        """The body's bytes up to its end."""
        while not self.data.endswith(b"0\r\n\r\n"):
            part = self.socket.recv(65536)
            if not part:
                break
            self.data += part
        return self.data

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


async def for_ever() -> AsyncGenerator[str, None]:
    yield "1"
    await anyio.sleep_forever()


async def endless(request: Request) -> Response:
    return EventSourceResponse(for_ever(), farewell=BYE)


def starlette(endpoint: Any = endless, *middleware: Any) -> Starlette:
    return Starlette(
        routes=[Route("/events", endpoint), Route("/plain", lambda request: PlainTextResponse("plain"))],
        middleware=list(middleware),
    )


async def as_it_is(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def has_farewell_and_proper_end(data: bytes) -> bool:
    return data.endswith(b"data: 1\n\n\r\nb\r\ndata: bye\n\n\r\n0\r\n\r\n")


# -- each way to start a server, and each signal, by processes of their own


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW, ids=lambda how: how.name)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.command)
def test_a_server_ends_as_the_page_says(way: Way, how: How) -> None:
    went = endings.measure(way, how, free_port())
    assert went.kind == endings.documented()[way.command, how.name], went
    if went.kind == "proper":
        assert (went.cleanups, went.teardowns, went.backgrounds) == (4, 2, 2)
        assert went.seconds is not None


# -- without a signal


@on_uvicorn
def test_uvicorn_on_a_thread_ends_when_it_is_told_to(loop: str, http: str) -> None:
    with uvicorn_on_thread(starlette(), loop=loop, http=http) as (server, port), Client(port) as client:
        client.until(b"data: 1\n\n")
        server.should_exit = True  # at once: the loop may not have looked yet
        assert has_farewell_and_proper_end(client.rest())


@pytest.mark.parametrize(
    "middleware",
    [
        Middleware(BaseHTTPMiddleware, dispatch=as_it_is),
        Middleware(GZipMiddleware),
        Middleware(CORSMiddleware, allow_origins=["*"]),
    ],
    ids=["BaseHTTPMiddleware", "GZipMiddleware", "CORSMiddleware"],
)
@pytest.mark.parametrize("on", ["uvicorn", "hypercorn", "hypercorn, trio"])
def test_it_ends_behind_middleware(on: str, middleware: Any) -> None:
    app = starlette(endless, middleware, middleware)
    if on == "uvicorn":
        with uvicorn_on_thread(app) as (server, port), Client(port, headers="Origin: http://other\r\n") as client:
            client.until(b"data: 1\n\n")
            server.should_exit = True
            assert has_farewell_and_proper_end(client.rest())
    else:
        worker = on.partition(", ")[2] or "asyncio"
        with hypercorn_on_thread(app, worker) as (end, port), Client(port, headers="Origin: http://a\r\n") as client:
            client.until(b"data: 1\n\n")
            began = time.monotonic()
            end()
            assert has_farewell_and_proper_end(client.rest())
            assert time.monotonic() - began < 10, "not before the server's own grace was over"


def test_a_stream_that_has_not_begun_begins_and_ends() -> None:
    asked = threading.Event()

    async def silent(request: Request) -> Response:
        async def nothing() -> AsyncIterator[str]:
            asked.set()
            await anyio.sleep_forever()
            yield ""

        return EventSourceResponse(nothing(), farewell=BYE, commit_after=0.6)

    with uvicorn_on_thread(starlette(silent)) as (server, port), Client(port) as client:
        assert asked.wait(PATIENCE)
        server.should_exit = True
        assert client.rest().endswith(b"\r\n\r\nb\r\ndata: bye\n\n\r\n0\r\n\r\n")


def test_the_most_requests_of_uvicorn_end_its_streams_too() -> None:
    with uvicorn_on_thread(starlette(), limit_max_requests=2) as (server, port), Client(port) as client:
        client.until(b"data: 1\n\n")
        for _ in range(2):
            with Client(port, "/plain", headers="Connection: close\r\n") as other:
                other.rest()
        assert has_farewell_and_proper_end(client.rest())
        assert not server.should_exit


def test_a_head_that_says_close_is_no_shutdown() -> None:
    def closing(app: Any) -> Any:
        async def closes(scope: Any, receive: Any, send: Any) -> None:
            async def send_with_close(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"].append((b"connection", b"close"))
                await send(message)

            await app(scope, receive, send_with_close)

        return closes

    async def slow(request: Request) -> Response:
        async def items() -> AsyncIterator[str]:
            yield "1"
            await anyio.sleep(0.8)  # longer than it takes to look three times
            yield "2"

        return EventSourceResponse(items(), farewell=BYE)

    with uvicorn_on_thread(closing(starlette(slow))) as (_, port), Client(port) as client:
        data = client.rest()
        assert data.endswith(b"data: 2\n\n\r\n0\r\n\r\n")
        assert b"bye" not in data


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
async def test_two_servers_in_one_loop_end_each_with_its_own_streams(anyio_backend: Any) -> None:
    app = starlette(endless, Middleware(BaseHTTPMiddleware, dispatch=as_it_is))
    servers = [
        uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", port=free_port()))
        for _ in range(2)
    ]

    def read_first(server: uvicorn.Server) -> Client:
        client = Client(server.config.port, headers="Connection: close\r\n")
        client.until(b"data: 1\n\n")
        return client

    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(server.serve)
            await anyio.lowlevel.checkpoint()
        clients = [await anyio.to_thread.run_sync(read_first, server) for server in servers]
        servers[1].should_exit = True  # whose handler is installed: it hides that of the other one
        assert has_farewell_and_proper_end(await anyio.to_thread.run_sync(clients[1].rest))
        clients[0].socket.settimeout(0.6)
        with pytest.raises(TimeoutError):
            await anyio.to_thread.run_sync(clients[0].rest)
        clients[0].socket.settimeout(PATIENCE)
        servers[0].should_exit = True
        assert has_farewell_and_proper_end(await anyio.to_thread.run_sync(clients[0].rest))
        for client in clients:
            client.socket.close()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_server_is_remembered_whose_handler_somebody_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    server = uvicorn.Server(
        uvicorn.Config(starlette(), log_config=None, lifespan="off", ws="none", http="httptools", port=free_port())
    )
    looked = anyio.Event()

    def look(servers: Servers) -> None:
        looks(servers)
        looked.set()

    looks = Servers.look
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        # Its `keep_alive` is False from the beginning, so nothing but the server itself tells.
        client = await anyio.to_thread.run_sync(lambda: Client(server.config.port, headers="Connection: close\r\n"))
        await anyio.to_thread.run_sync(client.until, b"data: 1\n\n")
        monkeypatch.setattr(Servers, "look", look)
        await looked.wait()
        handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            server.should_exit = True
            assert has_farewell_and_proper_end(await anyio.to_thread.run_sync(client.rest))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            client.socket.close()


# -- what is looked at


class Cycle:
    """One request as uvicorn has it."""

    def __init__(self, server_state: object = None) -> None:
        self.keep_alive = True
        self.response_started = False
        protocol = SimpleNamespace(server_state=server_state)
        self.transport = SimpleNamespace(get_protocol=lambda: protocol, is_closing=lambda: False)

    async def receive(self) -> Any: ...

    async def send(self, message: Any) -> None: ...


class Worker:
    """Gunicorn's, which SIGQUIT makes alive no longer, and which uvicorn knows by its callback only."""

    alive = True

    async def notify(self) -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_gunicorns_worker_tells_what_its_server_does_not_know() -> None:
    worker = Worker()
    config = uvicorn.Config(starlette(), log_config=None, lifespan="off", port=0, callback_notify=worker.notify)
    server, servers = uvicorn.Server(config), Servers()
    ends = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await until(lambda: server.started)
        cycle = Cycle(server.server_state)
        origin = Origin(cycle.receive, cycle.send)
        for worker.alive in (True, False):
            servers.look()
            ends.append(servers.are_ending(origin))
        server.should_exit = True
    assert ends == [False, True]


@pytest.mark.anyio
async def test_other_handlers_of_signals_tell_nothing() -> None:
    class Supervisor:
        should_exit = threading.Event()  # which is true

        def handle(self, *_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, Supervisor().handle)
    try:
        servers = Servers()
        servers.look()
        assert not servers.are_ending(Origin(Cycle().receive, Cycle().send))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_server_in_another_loop_is_none_of_ours() -> None:
    with uvicorn_on_thread(starlette()) as (server, port), Client(port) as client:
        client.until(b"data: 1\n\n")

        async def look() -> bool:
            servers = Servers()
            server.should_exit = True
            servers.look()
            return servers.are_ending(Origin(Cycle().receive, Cycle().send))

        before = signal.signal(signal.SIGTERM, server.handle_exit)
        try:
            assert not anyio.run(look)
        finally:
            signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("has_head", [False, True])
def test_what_changes_without_a_head_in_between_is_the_shutdown(has_head: bool) -> None:
    cycle = Cycle()
    cycle.response_started = has_head
    origin = Origin(cycle.receive, cycle.send)
    assert not origin.look()
    cycle.keep_alive = False
    assert origin.look()
    assert origin.look(), "it stays so"


def test_what_changes_with_the_head_may_be_the_heads() -> None:
    cycle = Cycle()
    origin = Origin(cycle.receive, cycle.send)
    cycle.response_started, cycle.keep_alive = True, False
    assert not origin.look()
    assert not origin.look()


def test_what_wraps_is_looked_through() -> None:
    cycle = Cycle()

    def wrapped(receive: Any, send: Any, later: bool) -> Any:
        async def receive_more() -> Any:
            return await receive()

        async def send_more(message: Any) -> None:
            if later:
                never(message)
            await send(message)

        if later:
            return receive_more, send_more
        never: Any = None
        return receive_more, send_more

    class Wrapper:
        def __init__(self, receive: Any, send: Any) -> None:
            self.receive, self._send = receive, send

        async def received(self) -> Any: ...

    receive, send = wrapped(cycle.receive, partial(cycle.send), later=True)
    wrapper = Wrapper(receive, send)
    origin = Origin(wrapper.received, partial(print, file=wrapper.received))
    assert not origin.look()
    cycle.keep_alive = False
    assert origin.look()


def test_an_object_whose_methods_lead_to_each_other_is_looked_through_once() -> None:
    asked: list[str] = []

    class Layer:
        @property
        def _receive(self) -> Any:
            asked.append("receive")
            return self.receive

        async def receive(self) -> Any: ...

        async def send(self, message: Any) -> None: ...

    layer = Layer()
    Origin(layer.receive, layer.send).note()
    assert asked == ["receive"]


def test_what_can_not_be_looked_through_is_no_error() -> None:
    class Odd:
        @property
        def _receive(self) -> Any:
            raise RuntimeError("not now")

        async def receive(self) -> Any: ...

    async def send(message: Any) -> None: ...

    for receive in (Odd().receive, print, send):
        origin = Origin(receive, send)
        assert not origin.look()
        assert not origin.has_left()
        assert not Servers().are_ending(origin)


@pytest.mark.anyio
async def test_a_server_that_has_changed_breaks_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    cycle = Cycle()
    del cycle.transport.is_closing
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def items() -> AsyncIterator[str]:
        yield "1"
        await until(lambda: caplog.records)
        await anyio.sleep(0.6)  # longer than it takes to look twice more, and to say it again
        yield "2"

    class Wrapper:
        _receive = cycle.receive

        async def receive(self) -> Any:
            await anyio.sleep_forever()

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await EventSourceResponse(items())(scope, Wrapper().receive, send)
    assert b"".join(sent) == b"data: 1\n\ndata: 2\n\n"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("this server does not show when it shuts down, so its streams may hold it up: ")


@pytest.mark.anyio
async def test_a_request_knows_of_a_client_of_whom_only_the_server_shows_that_it_has_left() -> None:
    cycle, begun, told = Cycle(), anyio.Event(), list[bool]()
    cycle.transport.is_closing = begun.is_set

    async def items() -> AsyncIterator[str]:
        try:
            begun.set()
            yield "1"
            await anyio.sleep_forever()
        finally:
            told.append(await request.is_disconnected())

    class Wrapper:
        _receive = cycle.receive

        async def receive(self) -> Any:
            await anyio.sleep_forever()

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    receive = Wrapper().receive
    request = Request(scope, receive)
    with anyio.fail_after(10):
        await EventSourceResponse(items(), request=request)(scope, receive, send)
    assert told == [True]


# -- what a stream gets then


def test_a_grace_period_lets_streams_finish_themselves() -> None:
    release = threading.Event()

    async def endpoint(request: Request) -> Response:
        async def finishes() -> AsyncIterator[str]:
            yield "1"
            await anyio.to_thread.run_sync(release.wait)
            yield "done"

        if "finishes" in request.query_params:
            return EventSourceResponse(finishes(), farewell=BYE, shutdown_grace_period=600)
        return EventSourceResponse(for_ever(), farewell=BYE, shutdown_grace_period=1)

    with (
        uvicorn_on_thread(starlette(endpoint)) as (server, port),
        Client(port, "/events?finishes") as finishes,
        Client(port) as endless,
    ):
        finishes.until(b"data: 1\n\n")
        endless.until(b"data: 1\n\n")
        began = time.monotonic()
        server.should_exit = True
        assert has_farewell_and_proper_end(endless.rest())
        assert time.monotonic() - began >= 1
        release.set()  # in the middle of its grace
        assert finishes.rest().endswith(b"data: done\n\n\r\n0\r\n\r\n")
        assert b"bye" not in finishes.data


def test_many_streams_end_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    class Counting(Endings):
        def look(self) -> bool:
            before = [exchange for exchange in self._service.live if exchange.state is not State.CLOSED]
            shows = super().look()
            ended.append(sum(exchange.state is State.CLOSED for exchange in before))
            return shows

    monkeypatch.setattr(ending, "ENDS_A_LOOK", 2)
    monkeypatch.setattr(transport, "Endings", Counting)
    with uvicorn_on_thread(starlette()) as (server, port), ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(5)]
        for client in clients:
            client.until(b"data: 1\n\n")
        server.should_exit = True
        assert all(has_farewell_and_proper_end(client.rest()) for client in clients)
    assert [count for count in ended if count] == [2, 2, 1]


def test_a_stream_of_a_plain_generator_ends_before_its_thread_does() -> None:
    release = threading.Event()

    async def endpoint(request: Request) -> Response:
        def on_thread() -> Iterator[str]:
            yield "1"
            release.wait(PATIENCE)
            yield "2"

        return EventSourceResponse(on_thread(), farewell=BYE)

    with uvicorn_on_thread(starlette(endpoint)) as (server, port), Client(port) as client:
        client.until(b"data: 1\n\n")
        server.should_exit = True
        assert has_farewell_and_proper_end(client.rest())
        release.set()


def test_an_app_says_its_farewell_too_and_background_tasks_run() -> None:
    ran = threading.Event()
    live = H3App()

    @live.get("/events")
    async def events(event: H3Event) -> None:
        async def callback(writer: SSEWriter) -> None:
            await writer.send_event("1")
            await anyio.sleep_forever()

        event.start_sse()
        event.set_stream_callback(callback)

    async def endpoint(request: Request) -> Response:
        return EventSourceResponse(for_ever(), farewell=BYE, background=BackgroundTask(ran.set))

    app = Starlette(routes=[Mount("/live", ASGIApp(live, farewell=BYE)), Route("/events", endpoint)])
    with (
        uvicorn_on_thread(app) as (server, port),
        Client(port, "/live/events") as of_app,
        Client(port, "/events") as of_response,
    ):
        of_app.until(b"data: 1\n\n")
        of_response.until(b"data: 1\n\n")
        server.should_exit = True
        assert has_farewell_and_proper_end(of_app.rest())
        assert has_farewell_and_proper_end(of_response.rest())
    assert ran.is_set()


@pytest.mark.parametrize("make", [ASGIApp, EventSourceResponse])
def test_what_can_not_be_used_is_refused(make: Any) -> None:
    what: Any = H3App() if make is ASGIApp else ["1"]
    with pytest.raises(ValueError, match="shutdown_grace_period must be seconds, 0 or more, not -1"):
        make(what, shutdown_grace_period=-1)
    with pytest.raises(TypeError, match="farewell is an SSEEvent, or None for none, not 'bye'"):
        make(what, farewell="bye")


# -- a client that is not heard


@pytest.mark.parametrize("behind", [(), (Middleware(BaseHTTPMiddleware, dispatch=as_it_is),)], ids=["", "middleware"])
@on_uvicorn
def test_a_client_that_has_sent_a_further_request_and_leaves_ends_its_stream(
    loop: str, http: str, behind: tuple[Any, ...]
) -> None:
    cancelled = threading.Event()

    async def endpoint(request: Request) -> Response:
        async def items() -> AsyncIterator[str]:
            try:
                yield "1"
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        return EventSourceResponse(items())

    with uvicorn_on_thread(starlette(endpoint, *behind), loop=loop, http=http) as (_, port):
        with Client(port) as client:
            client.until(b"data: 1\n\n")
            client.send("/plain")
            assert not cancelled.wait(0.5), "it is still there"
        assert cancelled.wait(PATIENCE)
