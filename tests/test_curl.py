"""What curl makes of our streams: events as they are sent, and an exit status that tells a proper end from a cut."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Event, SSEEvent, SSEWriter, running
from tests.conftest import require_program

pytestmark = pytest.mark.anyio


@pytest.fixture
def curl() -> str:
    return require_program("curl", "curl")


def app_of(received: Callable[[], Any], received_blocking: Callable[[], Any]) -> H3App:
    """Every flow sends an event, waits until curl has shown it, and only then sends the next."""
    app = H3App()

    async def tick(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await received()
        await writer.send_event("2")

    @app.get("/callback")
    def callback(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(tick)

    @app.get("/awaited")
    async def awaited(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            await tick(writer)

    @app.get("/blocking")
    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            tick_blocking(writer)

    def tick_blocking(writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        received_blocking()
        writer.send_event("2")

    @app.sse("/generated")
    async def generated(event: H3Event) -> Any:
        yield "1"
        await received()
        yield "2"

    return app


@pytest.mark.parametrize("route", ["callback", "awaited", "blocking", "generated"])
async def test_curl_shows_events_as_they_are_sent(curl: str, route: str) -> None:
    on_loop, on_thread = anyio.Event(), threading.Event()

    def wait_on_thread() -> None:
        assert on_thread.wait(30), "curl had the first event before the second was sent"

    async with running(app_of(on_loop.wait, wait_on_thread)) as server:
        command = [curl, "-sSN", f"{server.url}/{route}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  # read on a thread
        assert process.stdout is not None
        with anyio.fail_after(10):
            assert await anyio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True) == "data: 1\n"
            on_loop.set()
            on_thread.set()
            rest = await anyio.to_thread.run_sync(process.stdout.read, abandon_on_cancel=True)
            status = await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        process.stdout.close()
    assert rest == "\ndata: 2\n\n"
    assert status == 0, "the body ended properly, or curl would have said 18"


async def run(curl: str, *arguments: str, body: bytes | None = None) -> tuple[int, str, str]:
    """Run curl to its end; return its exit status, and what it printed on stdout and stderr."""
    with anyio.fail_after(10):
        done = await anyio.run_process([curl, "-sSN", *arguments], input=body, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def ending() -> H3App:
    """Two streams: one ends properly, one breaks off."""
    app = H3App()

    @app.sse("/ends")
    async def ends(event: H3Event) -> Any:
        yield SSEEvent("1", id="a")
        yield "2"

    @app.sse("/breaks")
    async def breaks(event: H3Event) -> Any:
        yield SSEEvent("1", id="a")
        yield "2"
        raise RuntimeError("on purpose")

    return app


SENT = "id: a\ndata: 1\n\ndata: 2\n\n"


async def test_a_cut_body_is_exit_status_18_and_shows_what_was_sent(curl: str) -> None:
    async with running(ending()) as server:
        assert (await run(curl, f"{server.url}/ends"))[:2] == (0, SENT)
        assert (await run(curl, f"{server.url}/breaks"))[:2] == (18, SENT)
        assert (await run(curl, f"{server.url}/ends"))[:2] == (0, SENT)


async def test_http_1_0_gets_the_stream_bare_until_the_connection_ends(curl: str) -> None:
    async with running(ending()) as server:
        status, printed, _ = await run(curl, "--http1.0", "-i", f"{server.url}/ends")
        head, _, body = printed.partition("\r\n\r\n")
        assert (status, body) == (0, SENT)
        assert "Content-Type: text/event-stream" in head
        assert "Transfer-Encoding" not in head
        assert "Content-Length" not in head
        assert (await run(curl, "--http1.0", f"{server.url}/breaks"))[:2] == (0, SENT)  # HTTP/1.0 can't tell


async def test_head_is_the_head_alone_and_runs_no_stream(curl: str) -> None:
    app = H3App()
    streamed: list[SSEWriter] = []

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    async def stream(writer: SSEWriter) -> None:
        streamed.append(writer)

    async with running(app) as server:
        status, printed, _ = await run(curl, "-I", f"{server.url}/events")
    assert status == 0
    assert printed.startswith("HTTP/1.1 200 OK\r\n")
    assert printed.endswith("\r\n\r\n")
    assert printed.count("\r\n\r\n") == 1
    assert "Content-Type: text/event-stream\r\n" in printed
    assert streamed == []


@pytest.mark.parametrize(
    "headers",
    [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]],
    ids=["plain", "chunked", "100"],
)
async def test_the_answer_to_a_post_with_a_body_streams(curl: str, headers: list[str]) -> None:
    app = H3App()

    @app.sse("/prompt", method="POST")
    async def prompt(event: H3Event) -> Any:
        for word in (await event.read_body()).decode().split(" "):
            yield word

    body = " ".join(["grüne", "☂", *map(str, range(50_000))])
    async with running(app) as server:
        status, printed, verbose = await run(
            curl, "-v", *headers, "--data-binary", "@-", f"{server.url}/prompt", body=body.encode()
        )
    assert (status, printed) == (0, "".join(f"data: {word}\n\n" for word in body.split(" ")))
    assert ("< HTTP/1.1 100 Continue" in verbose) == ("Expect: 100-continue" in headers)


async def test_the_last_event_id_is_utf_8(curl: str) -> None:
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> Any:
        yield event.last_event_id

    async with running(app) as server:
        assert (await run(curl, "-H", "Last-Event-ID: ünï ☂", f"{server.url}/events"))[:2] == (0, "data: ünï ☂\n\n")


async def test_a_failure_before_the_stream_is_a_500(curl: str) -> None:
    app = H3App()

    @app.get("/events")
    def events(event: H3Event) -> None:
        event.start_sse()
        raise RuntimeError("on purpose")

    async with running(app) as server:
        status, printed, said = await run(curl, "-f", f"{server.url}/events")
    assert (status, printed) == (22, "")
    assert "500" in said


async def test_a_curl_that_is_killed_cancels_its_stream(curl: str) -> None:
    app = H3App()
    left = anyio.Event()

    @app.get("/events")
    async def events(event: H3Event) -> None:
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            try:
                await writer.send_event("1")
                await anyio.sleep_forever()
            finally:
                left.set()

    with anyio.fail_after(10):
        async with running(app) as server, await anyio.open_process([curl, "-sSN", f"{server.url}/events"]) as process:
            assert process.stdout is not None
            assert await process.stdout.receive() == b"data: 1\n\n"
            process.kill()
            await left.wait()
