"""Nothing that an app sets can split a response: each way to set something refuses CR, LF and NUL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from h3ref import H3App, H3Event, running
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.testing import TestClient
from tests.clients import open_client, raw

BAD = ("\r\nX-Evil: 1", "\r\n\r\nHTTP/1.1 200 OK", "\r", "\n", "\0")
GET = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

Set = Callable[[H3Event, Any], object]
SETS: Mapping[str, Set] = {
    "the value of a header": lambda event, bad: event.set_header("X-One", f"a{bad}b"),
    "the beginning of a value": lambda event, bad: event.set_header("X-One", f"{bad}b"),
    "the end of a value": lambda event, bad: event.set_header("X-One", f"a{bad}"),
    "a value beside another": lambda event, bad: event.set_header("Set-Cookie", f"a=1{bad}", append=True),
    "the value of a header of ours": lambda event, bad: event.set_header("Content-Type", f"text/event-stream{bad}"),
    "the name of a header": lambda event, bad: event.set_header(f"X-One{bad}", "a"),
    "a media type": lambda event, bad: event.send_bytes(b"", f"text/plain{bad}"),
    "a redirection": lambda event, bad: event.redirect(f"/a{bad}b"),
    "the end of a redirection": lambda event, bad: event.redirect(f"/a{bad}"),
    "a redirection's status": lambda event, bad: event.redirect("/", f"302 Found{bad}"),  # type: ignore[arg-type]
    "a status": lambda event, bad: event.set_status(f"200 OK{bad}"),  # type: ignore[arg-type]
    "an error's status": lambda event, bad: event.send_error(f"404{bad}"),  # type: ignore[arg-type]
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", SETS)
async def test_a_handler_and_its_hooks_are_refused(adapter: str, name: str) -> None:
    app, refused = H3App(), list[str]()

    def tries(event: H3Event, place: str) -> None:
        for bad in BAD:
            with pytest.raises((TypeError, ValueError)):
                SETS[name](event, bad)
        refused.append(place)

    @app.on_request
    async def before(event: H3Event) -> None:
        tries(event, "on_request")

    @app.on_response
    async def after(event: H3Event) -> None:
        tries(event, "on_response")

    @app.on_error
    async def failed(event: H3Event, error: Exception) -> None:
        tries(event, "on_error")

    @app.get("/plain")
    async def plain(event: H3Event) -> None:
        tries(event, "handler")
        event.send_text("x")

    @app.get("/stream")
    async def stream(event: H3Event) -> None:
        tries(event, "before the stream")
        event.start_sse()
        tries(event, "stream")
        async with await event.await_sse_writer() as writer:
            await writer.send_event("x")

    @app.get("/fails")
    async def fails(event: H3Event) -> None:
        event.start_sse()  # and nobody writes

    async with open_client(adapter, app) as client:
        for target, status, places in (
            ("/plain", 200, ["on_request", "handler", "on_response"]),
            ("/stream", 200, ["on_request", "before the stream", "stream", "on_response"]),
            ("/fails", 500, ["on_request", "on_error", "on_response"]),
        ):
            refused.clear()
            reply = await client.request("GET", target)
            assert reply.status == status
            assert not {"x-one", "x-evil", "location", "set-cookie"} & reply.headers.keys()
            await reply.read()
            assert refused == places


@pytest.mark.anyio
async def test_what_stands_in_a_body_may_hold_anything_and_stays_there() -> None:
    text = "".join(BAD)
    app = H3App()
    app.get("/", lambda event: event.send_error(404, text))
    async with running(app) as server:
        data = await raw(server.port, GET)
    head, _, body = data.partition(b"\r\n\r\n")
    assert body == text.encode()
    assert f"Content-Length: {len(text)}".encode() in head
    assert b"X-Evil" not in head


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_route_whose_method_is_no_token_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="is not a token"):
        H3App().on(f"GET{bad}", "/")
    with pytest.raises(ValueError, match="is not a token"):
        H3App().sse("/", method=f"GET{bad}")


@pytest.mark.parametrize("status", [302.0, True, "302", None])
def test_a_status_is_a_whole_number(status: Any) -> None:
    app, caught = H3App(), list[type[Exception]]()

    @app.get("/")
    async def handler(event: H3Event) -> None:
        for call in (event.set_status, event.send_error, partial(event.redirect, "/")):
            with pytest.raises(ValueError, match="status is") as raised:
                call(status)
            caught.append(raised.type)
        event.send_text("x")

    with TestClient(app) as client:
        assert client.request("GET", "/").status == 200
    assert len(caught) == 3


# EventSourceResponse


async def nothing() -> Any:
    yield "1"


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_response_for_starlette_refuses_headers_and_media_types(bad: str) -> None:
    arguments: list[dict[str, Any]] = [
        {"headers": {"X-One": f"a{bad}b"}},
        {"headers": {f"X-One{bad}": "a"}},
        {"headers": {"X-One": f"a{bad}"}},
        {"media_type": f"text/event-stream; charset=utf-8{bad}"},
        {"media_type": f"text/event-stream{bad}"},
    ]
    for one in arguments:
        with pytest.raises(ValueError, match=r"header|media type"):
            EventSourceResponse(nothing(), **one)


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_what_is_set_on_a_response_for_starlette_later_is_refused_when_it_is_sent(bad: str) -> None:
    async def endpoint(request: Request) -> EventSourceResponse:
        response = EventSourceResponse(nothing())
        response.headers["X-One"] = f"a{bad}b"
        return response

    with TestClient(Starlette(routes=[Route("/", endpoint)])) as client, pytest.raises(ValueError, match="x-one must"):
        client.request("GET", "/")
