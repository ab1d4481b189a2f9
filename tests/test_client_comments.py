"""Comments: `EventSource` tells them to who wants them, in their place among the messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from h3ref import BlockingEventSource, EventSource, H3App, ReadyState, SSEWriter, running
from tests.test_client import EOF_HEAD, TWINS, scripted, streaming
from tests.waits import until

pytestmark = pytest.mark.anyio

URL = "http://test/events"
Told = list[tuple[str, str]]
HELLO = [("comment", "Hello")]


async def listen(twin: Any, url: str, told: Told, **more: Any) -> None:
    """Iterate to the end; keep comments and messages as they come."""
    options: dict[str, Any] = {"reconnect": False, "comments": lambda text: told.append(("comment", text))} | more
    if twin is EventSource:
        async with EventSource(url, **options) as source:
            async for message in source:
                told.append((message.type, message.data))
        return

    def block() -> None:
        with BlockingEventSource(url, **options) as source:
            told.extend((message.type, message.data) for message in source)

    await anyio.to_thread.run_sync(block)


# The first four are those of LaunchDarkly's contract tests for clients, whose fifth is that there are some.
@TWINS
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([b":Hello\n"], HELLO),
        ([b":Hello\n", b":World\n"], [*HELLO, ("comment", "World")]),
        ([b":Hello\n", b"data: Hello\n\n"], [*HELLO, ("message", "Hello")]),
        ([b"data: Hello\n\n", b":Hello\n"], [("message", "Hello"), *HELLO]),
        ([b"data: 1\n\n: a\n\n:b\ndata: 2\n: c\n\n:\n"], [
            *[("message", "1"), ("comment", "a"), ("comment", "b"), ("comment", "c")],
            *[("message", "2"), ("comment", "")],
        ]),
    ],
    ids=["one", "two in a row", "before an event", "after an event", "among them"],
)  # fmt: skip
async def test_comments_are_told_as_they_come_in_their_place(twin: Any, sent: list[bytes], expected: Told) -> None:
    told: Told = []
    seen = anyio.Event()
    async with scripted([EOF_HEAD, *sent, seen]) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, twin, server.url, told)
        await until(lambda: told == expected)  # while the connection is open, and no block may have ended
        seen.set()
    assert told == expected


@TWINS
async def test_the_keep_alive_of_a_silent_stream_is_told(twin: Any) -> None:
    app = H3App()

    @app.get("/events")
    async def events(event: Any) -> None:
        event.start_sse()
        event.set_stream_callback(stay)

    async def stay(writer: SSEWriter) -> None:
        await writer.send_keep_alive()

    told: Told = []
    async with running(app) as server:
        await listen(twin, f"{server.url}/events", told)
    assert told == [("comment", "keep-alive")]


@TWINS
async def test_comments_go_on_over_a_reconnection(twin: Any) -> None:
    told: Told = []
    answers = iter([streaming(b":a\ndata: 1\n\n:lost\r"), streaming(b": b\n"), httpx2.Response(204)])
    kind = httpx2.AsyncClient if twin is EventSource else httpx2.Client
    client: Any = kind(transport=httpx2.MockTransport(lambda request: next(answers)))
    await listen(twin, URL, told, client=client, reconnect=True, reconnection_time=0)
    assert told == [("comment", "a"), ("message", "1"), ("comment", "lost"), ("comment", "b")]


def source_of(twin: Any, content: bytes, comments: Callable[[str], object]) -> Any:
    kind = httpx2.AsyncClient if twin is EventSource else httpx2.Client
    client: Any = kind(transport=httpx2.MockTransport(lambda request: streaming(content)))
    return twin(URL, client=client, comments=comments, reconnect=False)


async def test_what_the_hook_raises_comes_out_of_the_wait_and_nothing_is_lost() -> None:
    def refuse(text: str) -> None:
        raise LookupError(text)

    async with source_of(EventSource, b":a\ndata: 1\n\n", refuse) as source:
        with pytest.raises(LookupError, match="a"):
            await anext(source)
        assert (await anext(source)).data == "1"
    with source_of(BlockingEventSource, b":a\ndata: 1\n\n", refuse) as blocking:
        with pytest.raises(LookupError, match="a"):
            next(blocking)
        assert next(blocking).data == "1"


async def test_the_hook_runs_where_the_wait_is() -> None:
    ran: list[Any] = []
    task = anyio.get_current_task().id
    async with source_of(
        EventSource, b":a\ndata: 1\n\n", lambda text: ran.append(anyio.get_current_task().id)
    ) as source:
        assert ran == []
        await anext(source)
    assert ran == [task]
    with source_of(BlockingEventSource, b":a\ndata: 1\n\n", lambda text: ran.append(threading.get_ident())) as blocking:
        next(blocking)
    assert ran == [task, threading.get_ident()]


async def test_a_comment_that_waits_for_its_turn_does_not_move_the_last_event_id() -> None:
    told: list[str] = []
    async with source_of(EventSource, b"id: 1\ndata: 1\n\n:a\n\nid: 2\n\n", told.append) as source:
        await anext(source)
        assert (source.last_event_id, told) == ("1", [])
        with pytest.raises(StopAsyncIteration):
            await anext(source)
        assert (source.last_event_id, told) == ("2", ["a"])


def test_a_hook_that_closes_the_source_ends_it() -> None:
    told: list[str] = []

    def close(text: str) -> None:
        told.append(text)
        source.close()

    source = source_of(BlockingEventSource, b"data: 1\n\n:a\n:b\ndata: 2\n\n", close)
    with source:
        assert [message.data for message in source] == ["1"]
        assert source.ready_state is ReadyState.CLOSED
    assert told == ["a"]
