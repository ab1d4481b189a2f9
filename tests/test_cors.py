"""`cors`: what a browser on another page is told, on every adapter, with every kind of answer."""

from __future__ import annotations

from typing import Any

import pytest

from h3ref import H3App, H3Event
from h3ref.adapters.memory import open_memory
from h3ref.cors import cors
from h3ref.event import host_of
from tests.clients import ClientLike, ReplyLike, open_client

pytestmark = pytest.mark.anyio

PAGE, OTHER = "https://page.example", "https://other.example:8443"
EVERYBODY = ["*"]


def make_app(**options: Any) -> H3App:
    app = H3App()
    cors(app, **options)

    @app.get("/plain")
    def plain(event: H3Event) -> None:
        event.send_text("x")

    @app.post("/post")
    def post(event: H3Event) -> None:
        event.set_header("Vary", "Accept")
        event.send_text("x")

    @app.sse("/stream")
    async def stream(event: H3Event) -> Any:
        yield event.last_event_id

    @app.get("/error")
    def error(event: H3Event) -> None:
        event.send_error(403)

    @app.get("/raises")
    def raises(event: H3Event) -> None:
        raise RuntimeError

    @app.get("/nobody")
    def nobody(event: H3Event) -> None:
        event.start_sse()

    return app


async def ask(client: ClientLike, method: str, target: str, origin: str | None = PAGE, **headers: str) -> ReplyLike:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = await client.request(method, target, headers={**sent, **({"Origin": origin} if origin else {})})
    await reply.read()
    return reply


def granted(reply: ReplyLike) -> dict[str, str]:
    """The headers of the CORS protocol, without their common beginning."""
    start = "access-control-"
    return {name.removeprefix(start): value for name, value in reply.headers.items() if name.startswith(start)}


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/plain", 200),
        ("HEAD", "/plain", 200),
        ("GET", "/stream", 200),
        ("HEAD", "/stream", 200),
        ("GET", "/error", 403),
        ("GET", "/raises", 500),
        ("GET", "/nobody", 500),
        ("GET", "/nowhere", 404),
        ("DELETE", "/plain", 405),
    ],
)
async def test_every_kind_of_answer_names_the_origin_that_may_read_it(
    adapter: str, method: str, target: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client(adapter, make_app(origins=[PAGE, OTHER])) as client:
        for origin in (PAGE, OTHER):
            reply = await ask(client, method, target, origin)
            assert reply.status == status
            assert granted(reply) == {"allow-origin": origin, "expose-headers": "Last-Event-ID"}
            assert reply.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "https://evil.example",
        "http://page.example",
        "https://page.example:444",
        "https://page.example.evil.example",
        "https://evil-page.example",
        "https://PAGE.example",
        "https://page.example/",
        "*",
        "",
    ],
)
async def test_nobody_else_is_named_and_no_cache_can_mix_the_two_up(adapter: str, origin: str | None) -> None:
    async with open_client(adapter, make_app(origins=[PAGE], credentials=True)) as client:
        for target in ("/plain", "/stream", "/nowhere"):
            reply = await ask(client, "GET", target, origin)
            assert granted(reply) == {}
            assert reply.headers["vary"] == "Origin"


async def test_all_origins_get_the_same_answer(adapter: str) -> None:
    async with open_client(adapter, make_app(origins=EVERYBODY)) as client:
        for origin in (None, PAGE, "null"):
            reply = await ask(client, "GET", "/stream", origin)
            assert granted(reply) == {"allow-origin": "*", "expose-headers": "Last-Event-ID"}
            assert "vary" not in reply.headers


async def test_a_preflight_is_answered_for_every_path_and_runs_no_handler(adapter: str) -> None:
    async with open_client(adapter, make_app(origins=[PAGE], headers=["X-One"], max_age=60)) as client:
        for target in ("/stream", "/post", "/raises", "/nowhere"):
            reply = await ask(client, "OPTIONS", target, Access_Control_Request_Method="POST")
            assert reply.status == 204
            assert granted(reply) == {
                "allow-origin": PAGE,
                "allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
                "allow-headers": "X-One, Last-Event-ID",
                "max-age": "60",
                "expose-headers": "Last-Event-ID",
            }
            assert reply.headers["vary"] == "Origin"


async def test_a_preflight_of_another_origin_is_refused(adapter: str) -> None:
    async with open_client(adapter, make_app(origins=[PAGE])) as client:
        for origin in (OTHER, "null"):
            reply = await ask(client, "OPTIONS", "/stream", origin, Access_Control_Request_Method="GET")
            assert (reply.status, granted(reply), reply.headers["vary"]) == (403, {}, "Origin")


async def test_what_is_no_preflight_goes_to_the_routes(adapter: str) -> None:
    app = make_app(origins=[PAGE])
    app.on("OPTIONS", "/plain", lambda event: event.send_text("mine"))
    async with open_client(adapter, app) as client:
        assert (await ask(client, "OPTIONS", "/plain")).status == 200
        assert (await ask(client, "OPTIONS", "/stream")).status == 405
        assert (await ask(client, "GET", "/plain", Access_Control_Request_Method="GET")).status == 200


async def test_credentials_are_allowed_by_name_only(adapter: str) -> None:
    async with open_client(adapter, make_app(origins=[PAGE], credentials=True)) as client:
        expected = {"allow-origin": PAGE, "allow-credentials": "true", "expose-headers": "Last-Event-ID"}
        assert granted(await ask(client, "GET", "/stream")) == expected
        preflight = granted(await ask(client, "OPTIONS", "/stream", Access_Control_Request_Method="GET"))
        assert expected.items() <= preflight.items()
        assert "*" not in "".join(preflight.values())


async def test_a_hook_that_has_answered_before_is_left_in_peace(adapter: str) -> None:
    app = H3App()
    app.on_request(lambda event: event.send_error(401))
    cors(app, origins=[PAGE])
    async with open_client(adapter, app) as client:
        reply = await ask(client, "OPTIONS", "/", Access_Control_Request_Method="GET")
        assert (reply.status, granted(reply)["allow-origin"]) == (401, PAGE)


async def test_names_are_told_once_and_methods_in_upper_case(adapter: str) -> None:
    options = {"methods": ["get", "patch"], "headers": ["Last-Event-ID", "X"], "expose": ["Date", "Last-Event-ID"]}
    async with open_client(adapter, make_app(origins=EVERYBODY, **options)) as client:
        told = granted(await ask(client, "OPTIONS", "/", Access_Control_Request_Method="GET"))
    assert told["allow-methods"] == "GET, PATCH"
    assert told["allow-headers"] == "Last-Event-ID, X"
    assert told["expose-headers"] == "Date, Last-Event-ID"


async def test_an_answers_own_vary_stays(adapter: str) -> None:
    app, seen = make_app(origins=[PAGE]), list[list[str]]()

    @app.on_response
    async def look(event: H3Event) -> None:
        seen.append([value for name, value in host_of(event).answer.headers or [] if name == "Vary"])

    async with open_client(adapter, app) as client:
        await ask(client, "POST", "/post")
    assert seen == [["Accept", "Origin"]]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"origins": []}, ValueError, "origins is empty"),
        ({"origins": PAGE}, TypeError, r"origins is a list of strs: write \['https://page.example'\]"),
        ({"origins": [None]}, TypeError, "origins is a list of strs, and holds None"),
        ({"origins": EVERYBODY, "credentials": True}, ValueError, r'"\*" is not for credentials'),
        ({"origins": [PAGE], "credentials": True, "headers": EVERYBODY}, ValueError, "for credentials"),
        ({"origins": [PAGE], "credentials": True, "methods": EVERYBODY}, ValueError, "for credentials"),
        ({"origins": [PAGE], "credentials": True, "expose": EVERYBODY}, ValueError, "for credentials"),
        ({"origins": ["*", PAGE]}, ValueError, "stands for all origins"),
        ({"origins": ["null"]}, ValueError, "sandboxed"),
        ({"origins": [PAGE], "headers": ["X Y"]}, ValueError, "headers 'X Y' is not a token"),
        ({"origins": [PAGE], "headers": ["X\r\nY: z"]}, ValueError, "is not a token"),
        ({"origins": [PAGE], "methods": [""]}, ValueError, "methods '' is not a token"),
        ({"origins": [PAGE], "expose": "X"}, TypeError, "expose is a list of strs"),
        ({"origins": [PAGE], "max_age": -1}, ValueError, "max_age"),
        ({"origins": [PAGE], "max_age": 1.5}, ValueError, "max_age"),
        *(
            ({"origins": [origin]}, ValueError, "an origin is a scheme, a host and a port")
            for origin in (
                "page.example",
                "https://page.example/",
                "https://Page.example",
                "https://page.example:443",
                "http://page.example:80",
                "https://*.page.example",
                "https://page.example\r\nX: y",
                "https://user@page.example",
                "https://",
                "",
            )
        ),
    ],
)
async def test_what_no_browser_could_use_or_nobody_should_is_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    app = H3App()
    with pytest.raises(error, match=match):
        cors(app, **options)
    assert not app.request_hooks
    assert not app.response_hooks


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://[::1]:3000", "chrome-extension://abc", "https://a-b.c_d"]
)
async def test_what_a_browser_sends_as_an_origin_is_taken(origin: str) -> None:
    app = H3App()
    cors(app, origins=[origin])
    app.get("/", lambda event: event.send_text("x"))
    async with open_memory(app) as client:
        reply = await client.request("GET", "/", headers={"Origin": origin})
    assert reply.headers["access-control-allow-origin"] == origin
