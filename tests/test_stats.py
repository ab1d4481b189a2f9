"""A server's figures: each event and byte once, whichever way it came, while its stream is open and after."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import httpx
import pytest

from h3ref import BlockingSSEWriter, Channel, H3App, H3Event, Limits, Reason, SSEEvent, SSEWriter, Stats, running
from h3ref.adapters.memory import open_memory
from h3ref.sse import EventStreamParser
from h3ref.testing import virtual_backends
from h3ref.writer import stream_of
from tests.clients import open_client, raw, server_of
from tests.pages import ROOT, module_of
from tests.waits import until

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio-virtual", "trio-virtual"])


def app_of(**callbacks: Callable[..., Any]) -> H3App:
    app = H3App()
    app.get("/hello", lambda event: event.send_text("hello"))

    def route(name: str, callback: Callable[..., Any]) -> None:
        @app.get(f"/{name}")
        def handler(event: H3Event) -> None:
            event.start_sse()
            event.set_stream_callback(callback)

    for name, callback in callbacks.items():
        route(name, callback)
    return app


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Have a test fail where it would wait for ever: after 30 seconds of its loop's clock, at once on a virtual one."""

    @functools.wraps(test)
    async def run(*args: Any, **options: Any) -> None:
        with anyio.fail_after(30):
            await test(*args, **options)

    return run


@VIRTUAL
async def test_no_wait_here_is_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    @bounded
    async def waits_for_ever() -> None:
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        await waits_for_ever()
    ticks = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    with pytest.raises(AssertionError, match="it does not come"):
        await until(lambda: False)


@bounded
async def test_each_adapter_counts_what_is_open_and_what_was(adapter: str) -> None:
    go_on = anyio.Event()

    async def two(writer: SSEWriter) -> None:
        await writer.send_event("1")
        await go_on.wait()
        await writer.send_event("2")

    async with open_client(adapter, app_of(two=two)) as client:
        server = server_of(client)
        stats: Callable[[], Stats] = getattr(server, "stats", server.service.stats)
        before = stats()
        assert (before.opened, before.exchanges, before.streams, before.events, before.bytes) == (0, 0, 0, 0, 0)
        assert before.closed == {reason.value: 0 for reason in Reason}
        await (await client.request("GET", "/hello")).read()
        await until(lambda: not server.service.live)
        plain = stats()
        assert (plain.opened, plain.closed["responded"], plain.streams_opened) == (1, 1, 0)
        assert plain.bytes > len("hello")
        reply = await client.request("GET", "/two")
        await reply.receive()
        during = stats()
        assert (during.opened, during.exchanges, during.streams, during.streams_opened) == (2, 1, 1, 1)
        assert (during.events, sum(during.closed.values())) == (1, 1)
        assert during.bytes > plain.bytes + len("data: 1\n\n")
        go_on.set()
        await reply.read()
        await until(lambda: not server.service.live)
        after = stats()
        assert (after.opened, after.exchanges, after.streams, after.streams_opened) == (2, 0, 0, 1)
        assert (after.events, after.closed["complete"]) == (2, 1)
        assert after.bytes == during.bytes + len("data: 2\n\n")
        assert json.loads(json.dumps(dataclasses.asdict(after)))["closed"]["complete"] == 1


@VIRTUAL
@pytest.mark.parametrize("stream_buffer", [40, 64 * 1024])
@bounded
async def test_every_way_to_send_is_counted_once(stream_buffer: int) -> None:
    """What the client gets is what was counted: by a small buffer, which is looked at for each event, and a large."""
    channel = Channel(history=100, newcomers="history", policy="wait", limit=60)

    async def mixed(writer: SSEWriter) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.stream, writer)
            await anyio.sleep(1)
            for number in range(7):
                await writer.send_event(SSEEvent(f"own {number}"))
                await channel.publish(f"published {number}")
                await writer.send_keep_alive()
            await writer.flush()
            writer.send_nowait("at once")
            stream_of(writer).offer(b"data: offered\n\n")
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        await writer.send_event("last")

    def threaded(writer: BlockingSSEWriter) -> None:
        for number in range(50):
            writer.send_event("x" * number)
        writer.send_keep_alive()
        writer.send_nowait("now")

    for number in range(5):
        await channel.publish(f"past {number}")
    limits = Limits(stream_buffer=stream_buffer, stream_keep_alive=None)
    async with open_memory(app_of(mixed=mixed, threaded=threaded), limits=limits) as server:
        for path, events in (("/mixed", 5 + 7 + 7 + 3), ("/threaded", 51)):
            before = server.stats()
            reply = await server.request("GET", path)
            body = await reply.read()
            head = sum(len(name) + len(value) + 4 for name, value in reply.headers.items())
            await until(lambda: not server.service.live)
            after = server.stats()
            assert len(EventStreamParser().feed(body)) == events
            assert after.events - before.events == events
            assert after.bytes - before.bytes == len(body) + head + len("HTTP/1.1 200 OK\r\n\r\n")


@VIRTUAL
@bounded
async def test_what_a_channel_drops_is_not_counted() -> None:
    channel = Channel(policy="drop", limit=100)
    limits = Limits(stream_keep_alive=None, send_timeout=None)
    async with open_memory(app_of(all=channel.stream), limits=limits) as server:
        reply = await server.request("GET", "/all")
        await anyio.sleep(1)
        head = server.stats().bytes
        for number in range(100):
            await channel.publish(f"{number}")
        assert channel.stats().dropped > 50
        closing = anyio.create_task_group()
        async with closing:
            closing.start_soon(channel.close)
            body = await reply.read()
        await until(lambda: not server.service.live)
        stats = server.stats()
    assert (
        stats.events
        == len(EventStreamParser().feed(body))
        == channel.stats().delivered
        == 100 - channel.stats().dropped
    )
    assert stats.bytes == head + len(body)


@bounded
async def test_a_group_that_shares_its_bytes_counts_for_each_of_its_streams() -> None:
    channel = Channel()
    async with running(app_of(all=channel.stream)) as server, httpx.AsyncClient(base_url=server.url) as client:
        async with anyio.create_task_group() as tasks:
            bodies: list[bytes] = []

            async def read() -> None:
                bodies.append((await client.get("/all")).content)

            for _ in range(3):
                tasks.start_soon(read)
            await until(lambda: len(channel) == 3)
            heads = server.stats().bytes
            for number in range(20):
                await channel.publish(str(number))
            live = server.stats()
            assert (live.events, live.connections) == (60, 3)
            await channel.close()
        await until(lambda: not server.service.live)
        over = server.stats()
    assert over.events == 60
    assert over.bytes == live.bytes == heads + sum(map(len, bodies))
    assert over.closed["complete"] == 3


@bounded
async def test_a_route_shows_them_from_a_handler_and_from_a_thread(adapter: str) -> None:
    async def on_the_loop(event: H3Event) -> None:
        event.send_json(dataclasses.asdict(event.stats()))

    def on_a_thread(event: H3Event) -> None:
        event.send_json(dataclasses.asdict(event.stats()))

    app = app_of()
    app.get("/loop", on_the_loop)
    app.get("/thread", on_a_thread)
    async with open_client(adapter, app) as client:
        for number, path in enumerate(("/loop", "/thread"), start=1):
            found = json.loads(await (await client.request("GET", path)).read())
            assert found["opened"] == number
            assert found["connections"] is None or found["connections"] >= 1
            await until(lambda: not server_of(client).service.live)


@bounded
async def test_a_generator_is_counted_too() -> None:
    app = H3App()

    @app.sse("/events")
    async def events(event: H3Event) -> AsyncIterator[str]:
        yield "1"
        yield "2"

    async with open_memory(app) as server:
        await (await server.request("GET", "/events")).read()
        await until(lambda: not server.service.live)
        assert server.stats().events == 2


@bounded
async def test_every_refusal_by_a_limit_has_its_name() -> None:
    async def read(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    over = threading.Event()

    def blocking(event: H3Event) -> None:
        with event.start_sse_blocking() as writer:
            writer.send_event("1")
            over.wait(30)

    async def stays(writer: SSEWriter) -> None:
        await anyio.sleep_forever()

    app = app_of(stays=stays)
    app.post("/read", read)
    app.get("/blocking", blocking)
    async with open_memory(app, limits=Limits(body_size=3, stream_threads=1, streams=2)) as server:
        try:
            assert (await server.request("POST", "/read", body=b"1234")).status == 413
            assert server.stats().refused == {"body_size": 1}
            assert (await server.request("GET", "/blocking")).status == 200
            assert (await server.request("GET", "/blocking")).status == 503
            assert server.stats().refused == {"body_size": 1, "stream_threads": 1}
            assert (await server.request("GET", "/stays")).status == 200
            assert (await server.request("GET", "/stays")).status == 503
            assert server.stats().refused == {"body_size": 1, "stream_threads": 1, "streams": 1}
            await until(lambda: server.stats().closed["error"] == 3)
        finally:
            over.set()


POST = b"POST /read HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("limit", "sent", "status"),
    [
        ("head_size", b"GET /hello HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 500, 431),
        ("head_size", CHUNKED + b"0\r\n" + b"X: x\r\n" * 100 + b"\r\n", 431),
        ("target_size", b"GET /" + b"x" * 200, 414),
        ("headers", b"GET /hello HTTP/1.1\r\nHost: test\r\n" + b"X: x\r\n" * 10, 431),
        ("body_size", POST + b"Content-Length: 11\r\n\r\n", 413),
        ("body_size", POST + b"Content-Length: 1000000000000000000\r\n\r\n", 413),
        ("body_size", CHUNKED + b"b\r\n12345678901\r\n", 413),
        ("head_timeout", b"GET", 408),
        ("head_timeout", b"", None),
        ("body_timeout", POST + b"Content-Length: 5\r\n\r\n123", 408),
    ],
)
@bounded
async def test_who_is_refused_at_a_socket_is_counted_by_the_limit(limit: str, sent: bytes, status: int | None) -> None:
    async def read(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    app = app_of()
    app.post("/read", read)
    times: dict[str, Any] = {name: 0.1 for name in ("head_timeout", "body_timeout") if name == limit}
    limits = Limits(head_size=400, target_size=100, headers=5, body_size=10, **times)
    async with running(app, limits=limits) as server:
        data = await raw(server.port, sent)
        assert data[:13] == (b"HTTP/1.1 %d " % status if status is not None else b"")
        assert server.stats().refused == {limit: 1}


def test_a_limit_is_counted_or_the_docstring_says_that_it_refuses_nobody() -> None:
    counted = {"head_size", "target_size", "headers", "body_size", "head_timeout", "body_timeout"}
    counted |= {"connections", "connections_per_address", "streams", "stream_threads", "abandoned_threads"}
    counted |= {"server_buffer", "send_timeout"}
    refused = (Stats.__doc__ or "").partition("refused:")[2]
    named = set(re.findall(r"`([a-z_]+)`", refused))
    assert named == {field.name for field in dataclasses.fields(Limits)} - counted


SAMPLE = re.compile(r"(?P<metric>[a-zA-Z_:][\w:]*)\{(?P<labels>[^}]*)\} (?P<number>-?\d+)")
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


@bounded
async def test_the_route_for_prometheus_keeps_to_the_text_format() -> None:
    """The rules of Prometheus' text format 0.0.4."""
    page = module_of(ROOT / "docs" / "how-to" / "watch-a-server.md", "metrics.py")
    page.channels.append(Channel(name='with "quotes" and \\'))
    async with running(page.app, port=0) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/once")).text == "data: hello\n\n"
        reply = await client.get("/metrics")
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.text.endswith("\n")
    kinds: dict[str, str] = {}
    numbers: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    for line in reply.text.splitlines():
        if line.startswith("# TYPE "):
            metric, kind = line.split(" ")[2:]
            assert metric not in kinds, "all lines of a metric are one group"
            assert (kind == "counter") == metric.endswith("_total")
            kinds[metric] = kind
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        assert found["metric"] == next(reversed(kinds)), "a sample stands in the group of its metric"
        labels = tuple(LABEL.findall(found["labels"]))
        assert ",".join(f'{name}="{text}"' for name, text in labels) == found["labels"]
        assert (found["metric"], labels) not in numbers, "a sample is unique"
        numbers[found["metric"], labels] = int(found["number"])
    figures = {field.name for field in dataclasses.fields(Stats)} - {"refused", "process"}  # nobody was; it is a label
    assert figures == {
        metric.removeprefix("h3ref_").removesuffix("_total") for metric in kinds if "channel" not in metric
    }
    process = ("process", str(os.getpid()))
    assert numbers["h3ref_closed_total", (process, ("kind", "complete"))] == 1
    assert numbers["h3ref_events_total", (process,)] == 1
    assert numbers["h3ref_channel_published_total", (("channel", "news"),)] == 0
    assert set(kinds.values()) == {"gauge", "counter"}
