"""Virtual time and what is outside of the event loop: it is waited for, or it is named where it was not."""

# ruff: noqa: SIM117 (a client, and in it its streams)

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import H3App, H3Event
from h3ref.examples import counter
from h3ref.testing import AsyncTestClient, Stuck, TestClient, TimedOut, virtual_backends

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])

FOR_EVER = 600.0
"""Real seconds, in which a call is `Stuck` long before: whatever time passes over now, it would not pass over."""


def soon(function: Callable[[], Any]) -> Callable[[], object]:
    """What calls a function on the running event loop, from any thread, as each loop has it by itself."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        token = trio.lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(function)
    return lambda: loop.call_soon_threadsafe(function)


async def by_a_thread() -> None:
    """Have a thread of the app's own do something, and wait for it."""
    done = anyio.Event()
    call = soon(done.set)

    def work() -> None:
        time.sleep(0.02)
        call()

    thread = threading.Thread(target=work, name="the app's own")
    thread.start()
    await done.wait()
    await anyio.to_thread.run_sync(thread.join)


async def by_a_process() -> None:
    done = await anyio.run_process([sys.executable, "-c", "print('done')"])
    assert done.stdout.split() == [b"done"]


async def by_a_socket() -> None:
    with answering() as port:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            assert await stream.receive() == b"done"


@contextmanager
def answering() -> Iterator[int]:
    """A server on a port of this machine, which takes its time."""

    def serve() -> None:
        with listener.accept()[0] as client:
            time.sleep(0.02)
            client.sendall(b"done")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def app_that(works: Callable[[], Awaitable[None]]) -> H3App:
    """An app that gives its work a second."""
    app = H3App()

    @app.get("/work")
    async def work(event: H3Event) -> None:
        with anyio.fail_after(1):
            await works()
        event.send_text("done")

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncIterator[str]:
        with anyio.fail_after(1):
            await works()
        yield "done"

    return app


@BACKENDS
@pytest.mark.parametrize("works", [by_a_thread, by_a_process, by_a_socket])
def test_time_waits_for_what_is_outside(works: Callable[[], Awaitable[None]], backend: Any) -> None:
    with TestClient(app_that(works), backend=backend, outside=FOR_EVER) as client:
        assert client.request("GET", "/work").text == "done"
        with client.stream("GET", "/events") as stream:
            assert stream.next_event().data == "done"
        assert client.clock.now() == 0


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", virtual_backends(outside=FOR_EVER), ids=["asyncio-virtual", "trio-virtual"])
async def test_time_waits_in_an_async_test_too(anyio_backend: Any) -> None:
    async with AsyncTestClient(app_that(by_a_thread)) as client:
        assert (await client.request("GET", "/work")).text == "done"
        assert client.now() == 0


@BACKENDS
@pytest.mark.parametrize("outside", [0, 0.001])
def test_what_takes_longer_is_passed_over_and_named(outside: float, backend: Any) -> None:
    app, end = H3App(), threading.Event()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncIterator[str]:
        done = anyio.Event()
        call = soon(done.set)
        threading.Thread(target=lambda: (end.wait(), call()), name="a database").start()
        await done.wait()
        yield "done"

    with TestClient(app, backend=backend, outside=outside) as client, client.stream("GET", "/events") as stream:
        with pytest.raises(TimedOut) as caught:
            stream.next_event()
        assert client.clock.now() >= 60
        remark = (
            f"; time was virtual, and waited only {outside:g} s at a time for the thread 'a database': "
            "virtual=False makes it real, a larger outside= makes it wait longer"
        )
        assert str(caught.value).endswith(remark)
        end.set()
        assert stream.next_event(timeout=10**9).data == "done"


@BACKENDS
def test_where_nothing_is_outside_no_error_says_so(backend: Any) -> None:
    app = H3App()
    app.get("/", never)
    with TestClient(app, backend=backend) as client, pytest.raises(TimedOut) as caught:
        client.request("GET", "/")
    assert str(caught.value).endswith("at 60 s")


async def never(event: H3Event) -> None:
    await anyio.sleep_forever()


@BACKENDS
def test_what_belongs_to_an_event_loop_is_not_outside(backend: Any) -> None:
    app = H3App()

    @app.get("/thread")
    def thread(event: H3Event) -> None:
        event.send_text(threading.current_thread().name)

    @app.get("/executor")
    async def executor(event: H3Event) -> None:
        if backend == "asyncio":
            await asyncio.to_thread(time.sleep, 0)
        event.send_text("done")

    @app.sse("/ticks")
    async def ticks(event: H3Event) -> AsyncIterator[str]:
        for _ in range(100):
            await anyio.sleep(60)
            yield "tick"

    with TestClient(app, backend=backend, outside=FOR_EVER) as client, TestClient(counter.app) as other:
        with other.stream("GET", "/events") as counted, client.stream("GET", "/ticks") as stream:
            assert {client.request("GET", path).status for path in ("/thread", "/executor")} == {200}
            assert other.request("GET", "/").status == 200
            assert len(list(stream.events())) == 100
            assert client.clock.now() == 6000
            counted.take(3)


@BACKENDS
def test_what_never_comes_and_is_never_passed_over_is_stuck(backend: Any) -> None:
    end = threading.Event()

    async def waits() -> None:
        threading.Thread(target=end.wait, name="silent").start()
        await anyio.sleep_forever()

    try:
        with TestClient(app_that(waits), backend=backend, outside=FOR_EVER, real_timeout=0.3) as client:
            with pytest.raises(Stuck, match=r"made no progress for 0\.3 s of real time"):
                client.request("GET", "/work")
    finally:
        end.set()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_silence_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="outside must be seconds, 0 or more, not "):
        TestClient(counter.app, outside=seconds)
