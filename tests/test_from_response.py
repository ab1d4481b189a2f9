"""`from_response`: a stream in a response that is open, told apart from what is none; with a way to reconnect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx2
import pytest
from mcp.server import MCPServer

from h3ref import (
    BlockingEventSource,
    EventSource,
    EventTooLarge,
    H3App,
    H3Event,
    MessageEvent,
    ReadyState,
    RedirectRefused,
    RefusedStatus,
    SSEEvent,
    WrongContentType,
    running,
)
from h3ref.client import EventSourceError, is_stream
from tests.asgi_servers import on_uvicorn
from tests.logs import logs_kept
from tests.test_client import EOF_HEAD, HEAD, TWINS, VIRTUAL, Scripted, chunk, endless, scripted, streaming

pytestmark = pytest.mark.anyio

URL = "http://test/mcp"
KINDS = ("stream", "json", "notification", "missing")


def answering() -> H3App:
    """A server of JSON-RPC, as MCP's: it answers a call with JSON or with a stream, and a notification with a 202."""
    app = H3App()

    @app.post("/mcp")
    async def mcp(event: H3Event) -> None:
        kind = (await event.read_json())["kind"]
        if kind == "notification":
            event.set_status(202)
            event.send_text("")
        elif kind == "json":
            event.send_json({"result": 1})
        elif kind == "missing":
            event.send_error(404)
        else:
            event.start_sse()
            async with await event.await_sse_writer() as writer:
                await writer.send_event(SSEEvent("progress", comment="soon"))
                await writer.send_event(SSEEvent('{"result": 1}', id="1"))

    return app


async def in_twin(twin: Any, work: Any, blocking_work: Callable[[], None]) -> None:
    """Do the same with either twin."""
    if twin is EventSource:
        await work()
    else:
        await anyio.to_thread.run_sync(blocking_work)


# -- what an answer is


@TWINS
async def test_json_a_202_and_a_stream_are_told_apart(twin: Any) -> None:
    found: list[Any] = []

    async def ask(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            for kind in KINDS:
                async with client.stream("POST", url, json={"kind": kind}) as response:
                    if is_stream(response):
                        async with EventSource.from_response(response) as source:
                            found.append([message.data async for message in source])
                        continue
                    with pytest.raises(EventSourceError) as caught:
                        EventSource.from_response(response)
                    assert caught.value.response is response
                    found.append((type(caught.value), response.status_code, await response.aread()))

    def block(url: str) -> None:
        with httpx2.Client() as client:
            for kind in KINDS:
                with client.stream("POST", url, json={"kind": kind}) as response:
                    if is_stream(response):
                        with BlockingEventSource.from_response(response) as source:
                            found.append([message.data for message in source])
                        continue
                    with pytest.raises(EventSourceError) as caught:
                        BlockingEventSource.from_response(response)
                    assert caught.value.response is response
                    found.append((type(caught.value), response.status_code, response.read()))

    async with running(answering()) as server:
        url = f"{server.url}/mcp"
        await in_twin(twin, lambda: ask(url), lambda: block(url))
    assert found == [
        ["progress", '{"result": 1}'],
        (WrongContentType, 200, b'{"result":1}'),
        (RefusedStatus, 202, b""),
        (RefusedStatus, 404, b"Not Found"),
    ]


@pytest.mark.parametrize(
    ("status", "content_type", "expected"),
    [
        (200, "text/event-stream", True),
        (200, "Text/Event-Stream; charset=utf-8", True),
        (200, "application/json", False),
        (200, None, False),
        (202, "text/event-stream", False),
        (206, "text/event-stream", False),
    ],
)
def test_a_stream_is_a_200_of_its_content_type(status: int, content_type: str | None, expected: bool) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = httpx2.Response(status, headers=headers, content=b"", request=httpx2.Request("POST", URL))
    assert is_stream(response) is expected
    if expected:
        assert EventSource.from_response(response).ready_state is ReadyState.CONNECTING
        return
    with pytest.raises(EventSourceError, match=rf"^POST {URL} was answered with .*, not") as caught:
        EventSource.from_response(response)
    assert isinstance(caught.value, WrongContentType if status == 200 else RefusedStatus)
    assert caught.value.response is response


def opened(content: bytes = b"", **options: Any) -> httpx2.Response:
    response = streaming(content)
    response.request = httpx2.Request("POST", URL, **options)
    return response


@TWINS
def test_what_is_no_response_of_its_kind_is_refused(twin: Any) -> None:
    async def chunks() -> Any:
        yield b""

    with pytest.raises(TypeError, match=r"an httpx2.Response, not httpx.Response: httpx2 is a different library"):
        twin.from_response(httpx.Response(200))
    other: Any = iter([b""]) if twin is EventSource else chunks()
    response = httpx2.Response(200, content=other, request=httpx2.Request("GET", URL))
    with pytest.raises(TypeError, match="EventSource awaits, and BlockingEventSource does not"):
        twin.from_response(response)
    for reconnect in (True, "after_error"):
        with pytest.raises(ValueError, match="to reconnect, pass reopen"):
            twin.from_response(opened(), reconnect=reconnect)


# -- one response


@TWINS
async def test_nothing_is_asked_again_unless_a_way_is_given(twin: Any) -> None:
    told: list[Any] = []
    states: list[str] = []
    response = opened(b"retry: 0\n:a\nid: 7\ndata: 1\n\n", headers={"Last-Event-ID": "6"})
    source = twin.from_response(response, comments=told.append, on_open=told.append)
    assert (source.url, source.last_event_id, source.response) == (URL, "6", response)
    states.append(source.ready_state.name)

    async def receive() -> None:
        async with source:
            states.append(source.ready_state.name)
            told.extend([message async for message in source])

    def block() -> None:
        with source:
            states.append(source.ready_state.name)
            told.extend(source)

    await in_twin(twin, receive, block)
    states.append(source.ready_state.name)
    assert told == [response, "a", MessageEvent("message", "1", "7")]
    assert states == ["CONNECTING", "OPEN", "CLOSED"]
    assert response.is_closed
    assert repr(source) == f"<{twin.__name__} POST {URL} CLOSED>"
    with pytest.raises(RuntimeError, match="can be entered once"):
        await in_twin(twin, source.__aenter__ if twin is EventSource else None, getattr(source, "__enter__", block))


@TWINS
async def test_a_stream_that_breaks_off_raises_and_one_that_is_too_large_too(twin: Any) -> None:
    async def receive(url: str, error: type[Exception], **options: Any) -> None:
        async with (
            httpx2.AsyncClient() as client,
            client.stream("POST", url) as response,
            EventSource.from_response(response, **options) as source,
        ):
            assert (await anext(source)).data == "1"
            with pytest.raises(error):
                await anext(source)
            assert source.ready_state is ReadyState.CLOSED

    def block(url: str, error: type[Exception], **options: Any) -> None:
        with (
            httpx2.Client() as client,
            client.stream("POST", url) as response,
            BlockingEventSource.from_response(response, **options) as source,
        ):
            assert next(source).data == "1"
            with pytest.raises(error):
                next(source)
            assert source.ready_state is ReadyState.CLOSED

    script = [HEAD, chunk(b"data: 1\n\n"), chunk(b"data: 22\n\n")]
    async with scripted(script[:2], script) as server:
        await in_twin(
            twin,
            lambda: receive(server.url, httpx2.RemoteProtocolError),
            lambda: block(server.url, httpx2.RemoteProtocolError),
        )
        await in_twin(
            twin,
            lambda: receive(server.url, EventTooLarge, max_event_size=7),
            lambda: block(server.url, EventTooLarge, max_event_size=7),
        )


@TWINS
@pytest.mark.parametrize("entered", [True, False])
async def test_leaving_the_source_or_closing_it_unentered_closes_the_response(twin: Any, entered: bool) -> None:
    left = anyio.Event()

    async def receive(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            response = await client.send(client.build_request("GET", url), stream=True)
            source = EventSource.from_response(response)
            if entered:
                async with source:
                    assert (await anext(source)).data == "1"
            await source.aclose()
            assert response.is_closed
            with anyio.fail_after(10):
                await left.wait()

    def block(url: str) -> None:
        with httpx2.Client() as client:
            response = client.send(client.build_request("GET", url), stream=True)
            source = BlockingEventSource.from_response(response)
            if entered:
                with source:
                    assert next(source).data == "1"
            source.close()
            assert response.is_closed

    async with running(endless(left.set)) as server:
        url = f"{server.url}/events"
        await in_twin(twin, lambda: receive(url), lambda: block(url))
        with anyio.fail_after(10):
            await left.wait()


@TWINS
async def test_a_heartbeat_takes_the_place_of_the_requests_read_timeout(twin: Any) -> None:
    async def receive(url: str) -> None:
        async with (
            httpx2.AsyncClient(timeout=httpx2.Timeout(60)) as client,
            client.stream("GET", url) as response,
            EventSource.from_response(response, heartbeat=0.05) as source,
        ):
            assert (await anext(source)).data == "1"
            with pytest.raises(httpx2.ReadTimeout):
                await anext(source)

    def block(url: str) -> None:
        with (
            httpx2.Client(timeout=httpx2.Timeout(60)) as client,
            client.stream("GET", url) as response,
            BlockingEventSource.from_response(response, heartbeat=0.05) as source,
        ):
            assert next(source).data == "1"
            with pytest.raises(httpx2.ReadTimeout):
                next(source)

    async with scripted([EOF_HEAD, b"data: 1\n\n", Scripted.HOLD]) as server:
        with anyio.fail_after(10):
            await in_twin(twin, lambda: receive(server.url), lambda: block(server.url))


# -- a way to reconnect


class Answers:
    """The caller's way to reconnect: the next answer, or error; keeps the ids that it was asked with."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.asked: list[str] = []
        self._answers: Iterator[httpx2.Response | Exception] = iter(answers)

    def next(self, last_event_id: str) -> httpx2.Response:
        client = httpx2.Client(transport=httpx2.MockTransport(self._answer(last_event_id)))
        return client.send(client.build_request("GET", URL), stream=True)

    async def anext(self, last_event_id: str) -> httpx2.Response:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer(last_event_id)))
        return await client.send(client.build_request("GET", URL), stream=True)

    def _answer(self, last_event_id: str) -> Callable[[httpx2.Request], httpx2.Response]:
        self.asked.append(last_event_id)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return lambda request: answer


async def all_of(twin: Any, answers: Answers, first: bytes, **options: Any) -> list[str]:
    """Receive to the end by a way to reconnect; return the data."""
    options = {"reconnection_time": 0} | options
    received: list[str] = []

    async def receive() -> None:
        async with EventSource.from_response(opened(first), reopen=answers.anext, **options) as source:
            async for message in source:
                received.append(message.data)

    def block() -> None:
        with BlockingEventSource.from_response(opened(first), reopen=answers.next, **options) as source:
            received.extend(message.data for message in source)

    await in_twin(twin, receive, block)
    return received


@TWINS
async def test_reopen_is_called_with_the_last_event_id_until_the_server_says_204(twin: Any) -> None:
    answers = Answers(
        streaming(b"id: 2\ndata: 2\n\n"),
        httpx2.ConnectError("refused"),
        streaming(b"id: a\x7fb\ndata: 3\n\n"),
        streaming(b"id\ndata: 4\n\n"),
        httpx2.Response(204),
    )
    assert await all_of(twin, answers, b"id: 1\ndata: 1\n\n") == ["1", "2", "3", "4"]
    assert answers.asked == ["1", "2", "2", "", ""]


@TWINS
async def test_reopen_keeps_to_reconnect_and_to_the_statuses_that_are_final(twin: Any) -> None:
    assert await all_of(twin, Answers(), b"data: 1\n\n", reconnect="after_error") == ["1"]
    answers = Answers(httpx2.Response(502), streaming(b"data: 2\n\n"), httpx2.Response(404, text="gone"))
    with pytest.raises(RefusedStatus, match=f"GET {URL} was answered with 404") as caught:
        await all_of(twin, answers, b"data: 1\n\n", retry_statuses=(502,))
    assert caught.value.response.text == "gone"
    redirect = httpx2.Response(302, headers={"Location": "/elsewhere"})
    with pytest.raises(RedirectRefused, match="302 Found, a redirect to http://test/elsewhere"):
        await all_of(twin, Answers(redirect), b"data: 1\n\n")
    errors = [httpx2.ConnectError("refused")] * 3
    with pytest.raises(httpx2.ConnectError):
        await all_of(twin, Answers(*errors), b"data: 1\n\n", max_reconnects=2)


@TWINS
async def test_what_else_reopen_raises_is_the_end(twin: Any) -> None:
    with pytest.raises(LookupError, match="no id to resume from"):
        await all_of(twin, Answers(LookupError("no id to resume from")), b"data: 1\n\n")


@TWINS
async def test_what_reopen_returns_is_a_response_of_httpx2s(twin: Any) -> None:
    async def reopen(last_event_id: str) -> Any:
        return httpx.Response(200)

    way: Any = reopen if twin is EventSource else lambda last_event_id: httpx.Response(200)
    source = twin.from_response(opened(), reopen=way, reconnection_time=0)

    async def receive() -> None:
        async with source:
            await anext(source)

    def block() -> None:
        with source:
            next(source)

    with pytest.raises(TypeError, match=r"not httpx\.Response"):
        await in_twin(twin, receive, block)


@VIRTUAL
async def test_reopen_waits_as_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    waits: list[float] = []
    start = anyio.current_time()

    async def reopen(last_event_id: str) -> httpx2.Response:
        waits.append(anyio.current_time() - start)
        return httpx2.Response(204, request=httpx2.Request("GET", URL))

    def told(seconds: float, error: httpx2.HTTPError | None) -> None:
        waits.append(seconds)

    first = opened(b"retry: 7000\ndata: 1\n\n")
    async with EventSource.from_response(first, reopen=reopen, on_reconnect=told) as source:
        assert [message.retry async for message in source] == [7000]
    assert waits == [7.0, 7.0]


async def test_a_post_is_resumed_by_a_get_as_mcp_has_it() -> None:
    app = H3App()
    asked: list[tuple[str, str]] = []

    @app.on("POST", "/mcp")
    @app.on("GET", "/mcp")
    async def mcp(event: H3Event) -> None:
        asked.append((event.method, event.last_event_id))
        event.start_sse()
        async with await event.await_sse_writer() as writer:
            if event.method == "POST":
                await writer.send_event(SSEEvent("", id="1", retry=0))
            else:
                await writer.send_event(SSEEvent('{"result": 1}', id="2"))

    async with running(app) as server, httpx2.AsyncClient() as client:
        url = f"{server.url}/mcp"

        async def resume(last_event_id: str) -> httpx2.Response:
            request = client.build_request("GET", url, headers={"Last-Event-ID": last_event_id})
            return await client.send(request, stream=True)

        async with (
            client.stream("POST", url, json={"kind": "call"}) as response,
            EventSource.from_response(response, reopen=resume) as source,
        ):
            assert (await anext(source)).data == ""
            assert (await anext(source)).json() == {"result": 1}
    assert asked == [("POST", ""), ("GET", "1")]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_real_mcp_server_answers_in_each_way() -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    headers = {"Accept": "application/json, text/event-stream"}
    found: list[Any] = []

    async def ask(client: httpx2.AsyncClient, url: str, message: dict[str, Any]) -> None:
        request = {"jsonrpc": "2.0"} | message
        async with client.stream("POST", url, json=request, headers=headers) as response:
            if "mcp-session-id" in response.headers:
                headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
            if is_stream(response):
                async with EventSource.from_response(response) as source:
                    found.extend([("stream", message.json()["result"]) async for message in source if message.data])
            elif response.status_code == 202:
                found.append(("accepted", await response.aread()))
            else:
                found.append(("json", json.loads(await response.aread())["result"]))

    for answers_json in (False, True):
        with logs_kept():
            tools = MCPServer("tools")
            tools.tool()(add)
            app = tools.streamable_http_app(json_response=answers_json)
            headers.pop("Mcp-Session-Id", None)
            async with on_uvicorn(app, bare=True) as server, httpx2.AsyncClient() as client:
                url = f"http://127.0.0.1:{server.port}/mcp"
                await ask(client, url, {"id": 1, "method": "initialize", "params": hello})
                await ask(client, url, {"method": "notifications/initialized"})
                call = {"name": "add", "arguments": {"a": 1, "b": 2}}
                await ask(client, url, {"id": 2, "method": "tools/call", "params": call})
    kinds = [kind for kind, _ in found]
    assert kinds == ["stream", "accepted", "stream", "json", "accepted", "json"]
    assert [found[place][1]["structuredContent"] for place in (2, 5)] == [{"result": 3}] * 2


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
