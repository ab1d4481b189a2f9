"""The threads of plain `def` code: each is counted as long as it runs, whatever runs on it and whoever still waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, Limits, State, running
from h3ref._core.service import Service
from h3ref._core.threads import Places
from h3ref.adapters.memory import open_memory
from h3ref.connection import End
from h3ref.lifecycle import Reason
from tests.clients import ReplyLike, SocketClient, open_client, server_of
from tests.waits import until, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


class Gate:
    """Where plain defs wait on their threads until the test lets one on, and then another; counts who is there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes = threading.Semaphore(0)
        self.waiting = self.most = self.passed = 0

    def __call__(self, *_: object) -> None:
        with self._lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        assert self._passes.acquire(timeout=20), "the test lets it on"
        with self._lock:
            self.waiting -= 1
            self.passed += 1

    def has_passed(self, count: int) -> bool:
        """Whether so many were let on, and have gone on."""
        return self.passed == count

    def open(self, count: int = 1) -> None:
        """Let so many on."""
        self._passes.release(count)


def idle(service: Service) -> bool:
    """Whether nothing is under way, and no place is taken."""
    threads = service.threads
    return not (service.live or threads.busy or threads.handlers.taken or threads.streams or threads.abandoned)


# -- whatever runs on a thread


def hooked(kind: str, gate: Gate) -> H3App:
    """An app with a plain def at the gate, as a handler or as one kind of hook."""
    app = H3App()
    if kind == "on_request":
        app.on_request(gate)
    elif kind == "on_error":
        app.on_error(gate)
    elif kind != "handler":
        app.on_response(gate)

    async def answer(event: H3Event) -> None:
        if kind == "on_error":
            raise ValueError("on purpose")
        if kind == "on_response of a stream":
            event.start_sse()
            event.set_stream_callback(end)
        else:
            event.send_text("x")

    async def end(writer: object) -> None:
        return

    def answer_on_thread(event: H3Event) -> None:
        gate()
        event.send_text("x")

    app.get("/", answer_on_thread if kind == "handler" else answer)
    return app


@pytest.mark.parametrize("kind", ["handler", "on_request", "on_response", "on_response of a stream", "on_error"])
async def test_no_plain_def_runs_on_more_threads_than_there_are(adapter: str, kind: str) -> None:
    gate = Gate()
    async with open_client(adapter, hooked(kind, gate), limits=Limits(handler_threads=3)) as client:
        service: Service = server_of(client).service

        async def ask() -> None:
            await (await client.request("GET", "/")).read()

        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(ask)
            await until(lambda: len(service.live) == 12)
            for number in range(1, 13):
                await until(lambda: gate.waiting >= min(3, 12 - gate.passed))
                gate.open()
                await until(partial(gate.has_passed, number))
        await until(lambda: idle(service))
    assert (gate.most, gate.passed) == (3, 12)


@pytest.mark.parametrize("path", ["/plain", "/callback", "/blocking", "/awaited", "/generated", "/fails", "/unknown"])
async def test_with_one_thread_no_exchange_waits_for_a_second(adapter: str, path: str) -> None:
    app, called = H3App(), list[str]()
    app.on_request(lambda event: called.append("request"))
    app.on_response(lambda event: called.append("response"))
    app.on_error(lambda event, error: called.append("error"))

    @app.get("/plain")
    def plain(event: H3Event) -> None:
        event.send_text("data: 1\n\n")

    @app.get("/callback")
    def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(one)

    def one(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")

    @app.get("/awaited")
    def awaited(event: H3Event) -> None:
        event.start_sse()
        writer = anyio.from_thread.run(event.await_sse_writer)
        anyio.from_thread.run(writer.send_event, "1")

    @app.sse("/generated", commit_after=0)
    def generated(event: H3Event) -> Iterator[str]:
        yield "1"

    @app.get("/fails")
    def fails(event: H3Event) -> None:
        raise ValueError("on purpose")

    async with open_client(adapter, app, limits=Limits(handler_threads=1, stream_threads=1)) as client:
        with anyio.fail_after(10):
            for _ in range(3):
                reply = await client.request("GET", path)
                body = await reply.read()
                if path not in ("/fails", "/unknown"):
                    assert (reply.status, body) == (200, b"data: 1\n\n")
                await until(lambda: idle(server_of(client).service))
    assert called == (["request", "error", "response"] if path == "/fails" else ["request", "response"]) * 3


async def test_hooks_do_not_wait_for_all_handlers_that_have_not_begun(adapter: str) -> None:
    """With one thread each later handler waits for what the hooks of an earlier one do; so they never stand in line."""
    app, steps, begun = H3App(), queue.SimpleQueue[str](), Gate()

    @app.get("/plain")
    def plain(event: H3Event) -> None:
        begun()
        steps.put("handler")
        raise ValueError("on purpose")

    @app.get("/async")
    async def on_the_loop(event: H3Event) -> None:
        raise ValueError("on purpose")

    app.on_error(lambda event, error: steps.put(f"error {event.path}"))
    app.on_response(lambda event: steps.put(f"response {event.path}"))
    statuses: list[int] = []
    async with open_client(adapter, app, limits=Limits(handler_threads=1)) as client:
        service: Service = server_of(client).service

        async def ask(path: str) -> None:
            statuses.append((await client.request("GET", path)).status)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask, "/plain")
            await until(lambda: len(service.live) == 4 and begun.waiting == 1)
            tasks.start_soon(ask, "/async")
            await until(lambda: len(service.live) == 5)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()  # it has failed, and its hook waits
            begun.open(4)
    assert statuses == [500] * 5
    taken = [steps.get_nowait() for _ in range(14)]
    assert taken[:3] == ["handler", "error /plain", "response /plain"], "the same thread's place, kept"
    assert taken.index("response /async") < 8, "after one handler, or two where it asked late, not after four"


async def test_a_thread_that_streams_is_a_streams_however_it_has_got_its_writer(adapter: str) -> None:
    gate, app = Gate(), H3App()

    @app.get("/awaited")
    def awaited(event: H3Event) -> None:
        event.start_sse()
        writer = anyio.from_thread.run(event.await_sse_writer)
        anyio.from_thread.run(writer.send_event, "1")
        gate()

    @app.get("/hello")
    def hello(event: H3Event) -> None:
        event.send_text("hello")

    async with open_client(adapter, app, limits=Limits(handler_threads=1, stream_threads=2)) as client:
        with anyio.fail_after(10):
            replies = [await client.request("GET", "/awaited") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 503]
        await until(lambda: gate.waiting == 2)
        assert await (await client.request("GET", "/hello")).read() == b"hello"
        gate.open(2)
        assert [await reply.read() for reply in replies[:2]] == [b"data: 1\n\n"] * 2
        await until(lambda: idle(server_of(client).service))


async def test_handlers_and_hooks_that_wait_take_turns() -> None:
    """Neither waits for all of the other kind, whichever comes in floods."""
    places, steps = Places(1), list[str]()
    await places.take(is_hook=False)

    async def pass_through(name: str) -> None:
        await places.take(is_hook=name == "hook")
        steps.append(name)
        places.release()

    async with anyio.create_task_group() as tasks:
        for name in ["handler"] * 2 + ["hook"] * 4:
            tasks.start_soon(pass_through, name)
            await wait_all_tasks_blocked()
        places.release()
    assert steps == ["hook", "handler", "hook", "handler", "hook", "hook"]
    assert places.taken == 0


async def test_who_is_cancelled_in_the_line_leaves_the_place_to_the_next() -> None:
    """Also when that happens just as it gets one."""
    places, steps = Places(1), list[str]()
    await places.take(is_hook=False)
    scopes = {name: anyio.CancelScope() for name in ("waits", "gets it", "is next")}

    async def pass_through(name: str) -> None:
        with scopes[name]:
            await places.take(is_hook=False)
            steps.append(name)
            places.release()

    async with anyio.create_task_group() as tasks:
        for name in scopes:
            tasks.start_soon(pass_through, name)
            await wait_all_tasks_blocked()
        scopes["waits"].cancel()
        await wait_all_tasks_blocked()
        places.release()
        scopes["gets it"].cancel()
    assert (steps[-1], "waits" in steps, places.taken) == ("is next", False, 0)


# -- threads that are left to themselves


async def test_a_hook_that_is_given_up_is_counted_until_it_really_ends(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, app = Gate(), H3App()

    @app.get("/fails")
    async def fails(event: H3Event) -> None:
        raise ValueError("on purpose")

    @app.on_error
    def hook(event: H3Event, error: Exception) -> None:
        gate()
        raise LookupError("late")

    app.get("/hello", lambda event: event.send_text("hello"))
    async with open_client(adapter, app, limits=Limits(handler_threads=1, close_timeout=0.05)) as client:
        service: Service = server_of(client).service
        for _ in range(5):  # the first runs the hook, the others find no thread for theirs
            assert (await client.request("GET", "/fails")).status == 500
        assert (gate.most, len(service.threads.busy)) == (1, 1)
        async with anyio.create_task_group() as tasks:
            replies: list[bytes] = []

            async def ask() -> None:
                replies.append(await (await client.request("GET", "/hello")).read())

            tasks.start_soon(ask)
            await until(lambda: len(service.live) == 1)
            assert not replies
            gate.open()
        assert replies == [b"hello"]
        await until(lambda: idle(service))
    late = [record.getMessage() for record in caplog.records if "after its time was up" in record.getMessage()]
    assert late == ["hook raised LookupError after its time was up"]


async def test_a_thread_of_an_exchange_that_is_abandoned_is_counted_until_it_really_ends() -> None:
    gate, app = Gate(), H3App()
    app.get("/", gate)
    async with open_memory(app, limits=Limits(handler_threads=2)) as server, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(server.request, "GET", "/")
        await until(lambda: gate.waiting == 2)
        for exchange in list(server.service.live):
            exchange.abandon()
        await until(lambda: not server.service.live)
        assert (server.service.threads.handlers.taken, len(server.service.threads.busy)) == (2, 2)
        gate.open(2)
        await until(lambda: idle(server.service))
        tasks.cancel_scope.cancel()


async def test_the_hooks_of_an_exchange_that_is_abandoned_need_no_second_place() -> None:
    gate, app = Gate(), H3App()
    app.get("/", gate)
    app.on_response(lambda event: event.set_header("X-Hook", "1"))
    async with open_memory(app, limits=Limits(handler_threads=1)) as server, anyio.create_task_group() as tasks:
        replies: list[ReplyLike] = []

        async def ask() -> None:
            replies.append(await server.request("GET", "/"))

        tasks.start_soon(ask)
        await until(lambda: gate.waiting == 1)
        (exchange,) = server.service.live
        exchange.shut_down()
        exchange.abandon()
        await until(lambda: replies)
        assert (replies[0].status, replies[0].headers["x-hook"]) == (503, "1")
        assert server.service.threads.handlers.taken == 1
        gate.open()
        await until(lambda: idle(server.service))


@pytest.mark.parametrize("is_shut_down", [True, False])
async def test_nothing_runs_after_a_hook_whose_thread_was_abandoned(is_shut_down: bool) -> None:
    gate, app, ran = Gate(), H3App(), list[str]()
    app.on_request(gate)
    app.on_request(lambda event: ran.append("hook on a thread"))

    @app.on_request
    async def hook(event: H3Event) -> None:
        ran.append("hook")

    @app.get("/")
    async def handler(event: H3Event) -> None:
        ran.append("handler")
        event.send_text("what the first hook might have refused")

    async with open_memory(app, limits=Limits(handler_threads=2)) as server, anyio.create_task_group() as tasks:
        replies: list[int] = []

        async def ask() -> None:
            replies.append((await server.request("GET", "/")).status)

        tasks.start_soon(ask)
        await until(lambda: gate.waiting == 1)
        (exchange,) = server.service.live
        if is_shut_down:
            exchange.shut_down()
        exchange.abandon()
        await until(lambda: replies)
        assert (replies, ran) == ([503], [])
        gate.open()
        await until(lambda: idle(server.service))
        assert ran == []


async def test_a_handler_that_waits_for_a_thread_when_it_is_cancelled_takes_none() -> None:
    gate, app = Gate(), H3App()

    @app.get("/")
    def handler(event: H3Event) -> None:
        gate()
        event.send_text("x")

    async with open_memory(app, limits=Limits(handler_threads=1)) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.request, "GET", "/")
        await until(lambda: gate.waiting == 1)
        (first,) = server.service.live
        replies: list[int] = []

        async def ask() -> None:
            replies.append((await server.request("GET", "/")).status)

        tasks.start_soon(ask)
        await until(lambda: len(server.service.live) == 2)
        for exchange in server.service.live - {first}:
            exchange.shut_down()
        await until(lambda: replies == [503])
        gate.open()
        await until(lambda: idle(server.service))
    assert gate.passed == 1


# -- streams whose clients have left


class Blocked:
    """An app whose streams block, each in a queue of its own, in each way that takes a thread."""

    def __init__(self) -> None:
        self.queues: list[queue.SimpleQueue[str | None]] = []
        self.app = H3App()
        self.app.get("/callback", self.callback)
        self.app.get("/blocking", self.blocking)
        self.app.sse("/generated")(self.generated)
        self.app.get("/hello", self.hello)

    def items(self) -> Iterator[str]:
        """What a stream sends: an event at once, then what comes to its queue, until None does."""
        messages = queue.SimpleQueue[str | None]()
        self.queues.append(messages)
        yield "begins"
        while (message := messages.get(timeout=20)) is not None:
            yield message

    def stream(self, writer: BlockingSSEWriter) -> None:
        for item in self.items():
            writer.send_event(item)

    async def callback(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.stream)

    def blocking(self, event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            self.stream(writer)

    def generated(self, event: H3Event) -> Iterator[str]:
        yield from self.items()

    def hello(self, event: H3Event) -> None:
        event.send_text("hello")

    def put(self, message: str | None) -> None:
        """Put something into each queue."""
        for messages in self.queues:
            messages.put(message)


@pytest.mark.parametrize("path", ["/callback", "/blocking", "/generated"])
async def test_who_has_left_takes_no_live_clients_thread_and_is_bounded_all_the_same(adapter: str, path: str) -> None:
    blocked = Blocked()
    limits = Limits(stream_threads=2, abandoned_threads=3, handler_threads=1, streams=4)
    async with open_client(adapter, blocked.app, limits=limits) as client:
        service: Service = server_of(client).service

        async def opens(threads: int) -> Any:
            reply = await client.request("GET", path)
            assert (reply.status, await reply.receive()) == (200, b"data: begins\n\n")
            assert len(service.threads.busy) == threads
            return reply

        async def refused(limit: str) -> None:
            reply = await client.request("GET", path)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert service.refused == {limit: 1}
            service.refused.clear()

        live = await opens(1)
        for number in range(4):  # each of them leaves a thread behind
            (await opens(2 + number)).disconnect()
            await until(lambda: len(service.streams) == 1)
        await refused("abandoned_threads")
        assert await (await client.request("GET", "/hello")).read() == b"hello"
        for messages in blocked.queues[1:]:
            messages.put("more")
        await until(lambda: len(service.threads.streams) == 1 and not service.threads.abandoned)
        again = await opens(2)
        await refused("stream_threads")
        blocked.put(None)
        assert await live.read() + await again.read() == b""
        await until(lambda: idle(service))
        assert len(service.streams) == 0


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_thread_that_is_left_holds_no_socket_and_the_servers_end_waits_for_it(
    leaves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = Blocked()
    limits = Limits(connections=1, connections_per_address=1, stream_threads=1, abandoned_threads=2)

    async def let_on_at_the_end(service: Service) -> None:
        await until(lambda: service.stopping)
        assert len(service.threads.busy) == 3
        blocked.put(None)

    async with anyio.create_task_group() as tasks, running(blocked.app, limits=limits, grace=20) as server:
        for _ in range(3):
            client = SocketClient(server)
            reply = await client.request("GET", "/callback")
            assert await reply.receive() == b"data: begins\n\n"
            if not leaves:
                (exchange,) = (exchange for exchange in server.service.live if exchange.state is not State.CLOSED)
                exchange.stop(Reason.TIMEOUT)
                assert (await reply.read(), reply.end) == (b"", End.PROPER)
            await client.aclose()
            await until(lambda: server.open_connections == 0)
        tasks.start_soon(let_on_at_the_end, server.service)
    assert idle(server.service)
    assert not caplog.records, "nothing was cut"


async def test_a_stream_that_our_side_has_ended_is_not_counted_as_a_live_clients_either() -> None:
    blocked = Blocked()
    async with open_memory(blocked.app, limits=Limits(stream_threads=1, abandoned_threads=1)) as server:
        first = await server.request("GET", "/callback")
        assert await first.receive() == b"data: begins\n\n"
        (exchange,) = server.service.live
        exchange.stop(Reason.TIMEOUT)
        second = await server.request("GET", "/callback")
        assert (second.status, await second.receive()) == (200, b"data: begins\n\n")
        blocked.put(None)
        assert await first.read() + await second.read() == b""
        await until(lambda: idle(server.service))


async def test_who_leaves_again_and_again_leaves_no_more_threads_than_the_two_bounds_allow() -> None:
    blocked, statuses = Blocked(), list[int]()
    async with open_memory(blocked.app, limits=Limits(stream_threads=4, abandoned_threads=4)) as server:
        for _ in range(40):
            reply = await server.request("GET", "/generated")
            statuses.append(reply.status)
            await reply.receive()
            reply.disconnect()
        assert (statuses.count(200), len(server.service.threads.busy)) == (8, 8)
        blocked.put(None)
        await until(lambda: idle(server.service))
