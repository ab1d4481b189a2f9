"""What an event says of its request, and what its answers look like, the same on every adapter and under every flow."""

from __future__ import annotations

import http
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from h3ref import H3App, H3Event, Limits, RequestError, ResponseAlreadySent, SSEAlreadyStarted, State, flows
from h3ref.connection import End
from h3ref.event import host_of
from tests.clients import ReplyLike, open_client

pytestmark = pytest.mark.anyio

Do = Callable[[H3Event], Any]
Asks = Callable[..., Awaitable[ReplyLike]]


@pytest.fixture(params=[None, pytest.param(flows.broken, marks=pytest.mark.slow)], ids=["by_handler", "broken"])
def flow(request: pytest.FixtureRequest) -> Any:
    """A plain answer must not depend on the flow."""
    return request.param


@pytest.fixture
async def ask(adapter: str, flow: Any) -> Asks:
    """Send one request to one handler, and return the whole reply with its body under `body`."""

    async def ask(
        handler: Do, method: str = "GET", target: str = "/", pattern: str = "/*", **request: Any
    ) -> ReplyLike:
        app = H3App()
        app.on("GET" if method == "HEAD" else method, pattern, handler)
        options = {"limits": request.pop("limits", None), "flow": flow}
        async with open_client(adapter, app, **options) as client:
            reply = await client.request(method, target, **request)
            reply.body = await reply.read()  # type: ignore[attr-defined]
            assert reply.end is End.PROPER
        return reply

    return ask


def body_of(reply: ReplyLike) -> bytes:
    body = reply.body  # type: ignore[attr-defined]
    assert isinstance(body, bytes)
    return body


async def said(asked: Awaitable[ReplyLike]) -> tuple[int, bytes]:
    """The status and the body of what was asked."""
    reply = await asked
    return reply.status, body_of(reply)


async def value(asked: Awaitable[ReplyLike]) -> Any:
    """The JSON value that was answered."""
    reply = await asked
    assert reply.status == 200, body_of(reply)
    return json.loads(body_of(reply))


# What the request says


async def test_method_path_and_target(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_json([event.method, event.path, event.target, event.state])

    got = await value(ask(handler, "PUT", "/caf%C3%A9/a%20b?x=%31"))
    assert got == ["PUT", "/café/a b", "/caf%C3%A9/a%20b?x=%31", "requested"]


async def test_params(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_json(dict(event.params))

    got = await value(ask(handler, target="/users/J%C3%BCrgen%2F1/files/a/b.txt?x=1", pattern="/users/:name/files/*"))
    assert got == {"name": "Jürgen/1", "*": "a/b.txt"}
    assert await value(ask(handler, target="/static", pattern="/static")) == {}


async def test_query_the_last_value_wins_and_getlist_has_them_all(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        query = event.query
        event.send_json(
            [query["a"], query.getlist("a"), query.getlist("no"), query.get("no"), "b" in query, len(query)]
        )

    assert await value(ask(handler, target="/?a=1&b=2&a=3")) == ["3", ["1", "3"], [], None, True, 2]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("?", {}),
        ("?a", {"a": ""}),
        ("?a=", {"a": ""}),
        ("?a=&b", {"a": "", "b": ""}),
        ("?a=1%202&b=1+2&c=1%2B2", {"a": "1 2", "b": "1 2", "c": "1+2"}),
        ("?caf%C3%A9=%E2%82%AC", {"café": "€"}),
        ("?a=b=c", {"a": "b=c"}),
        ("?a=/x?y", {"a": "/x?y"}),
        ("?a=1;b=2", {"a": "1;b=2"}),
        ("?a=1&&b=2&", {"a": "1", "b": "2"}),
        ("?a=%FF&b=100%", {"a": "\ufffd", "b": "100%"}),
    ],
)
async def test_query_decodes(ask: Asks, query: str, expected: dict[str, str]) -> None:
    def handler(event: H3Event) -> None:
        event.send_json(dict(event.query))

    assert await value(ask(handler, target=f"/{query}")) == expected


async def test_a_query_name_keeps_its_case(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_json(["A" in event.query, "a" in event.query])

    assert await value(ask(handler, target="/?A=1")) == [True, False]


async def test_headers_in_any_case(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        headers = event.headers
        event.send_json(
            [headers["x-one"], headers["X-ONE"], "X-One" in headers, headers.get("X-Two"), headers.getlist("X-ONE")]
        )

    assert await value(ask(handler, headers={"X-One": "1"})) == ["1", "1", True, None, ["1"]]


async def test_of_repeated_headers_the_last_wins_and_getlist_has_them_all(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_json([event.headers["x-one"], event.headers.getlist("x-one")])

    assert await value(ask(handler, headers={"X-One": "1", "x-one": "2"})) == ["2", ["1", "2"]]


async def test_a_header_that_is_missing_is_a_key_error(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(KeyError):
            event.headers["no"]
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


async def test_last_event_id_is_utf8_and_the_last_one_as_with_any_header(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_json(event.last_event_id)

    assert await value(ask(handler)) == ""
    assert await value(ask(handler, headers={"Last-Event-ID": "42"})) == "42"
    assert await value(ask(handler, headers={"Last-Event-ID": "é€"})) == "é€"
    assert await value(ask(handler, headers={"Last-Event-ID": "1", "last-event-id": "2"})) == "2"


async def test_context_is_a_dict_for_one_request(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        assert event.context == {}
        event.context["a"] = 1
        event.send_json(event.context)

    assert await value(ask(handler)) == {"a": 1}
    assert await value(ask(handler)) == {"a": 1}


# The request's body


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)), b"long" * 50_000], ids=["none", "one", "any", "long"])
async def test_body(ask: Asks, body: bytes) -> None:
    async def handler(event: H3Event) -> None:
        first = await event.read_body()
        assert await event.read_body() is first
        event.send_bytes(first)

    assert await said(ask(handler, "POST", body=body)) == (200, body)


async def test_a_body_is_read_from_a_plain_def_too(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_bytes(anyio.from_thread.run(event.read_body))

    assert await said(ask(handler, "POST", body=b"abc")) == (200, b"abc")


async def test_a_get_may_have_a_body(ask: Asks) -> None:
    async def handler(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    assert await said(ask(handler, body=b"abc")) == (200, b"abc")


async def read_json(event: H3Event) -> None:
    event.send_json(await event.read_json())


@pytest.mark.parametrize("sent", [None, True, 0, 1.5, "é€", [1, [2]], {"a": {"b": None}}])
async def test_a_json_body(ask: Asks, sent: Any) -> None:
    assert await value(ask(read_json, "POST", body=json.dumps(sent).encode())) == sent
    assert await value(ask(read_json, "POST", body=json.dumps(sent, ensure_ascii=False).encode())) == sent


async def test_a_json_body_may_begin_with_a_byte_order_mark(ask: Asks) -> None:
    assert await value(ask(read_json, "POST", body=b"\xef\xbb\xbf[1]")) == [1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"[1] [2]",
        b'"\xff"',
        '["utf-16"]'.encode("utf-16"),
        '["utf-16"]'.encode("utf-16-le"),
        b"[" * 100_000,
        b"9" * 5000,
        b"[NaN]",
        b"-Infinity",
    ],
    ids=["empty", "open", "quotes", "two", "no utf-8", "utf-16", "utf-16 bare", "deep", "huge", "nan", "infinity"],
)
async def test_a_body_that_is_no_json_is_a_400(ask: Asks, body: bytes) -> None:
    status, text = await said(ask(read_json, "POST", body=body))
    assert status == 400
    assert text.startswith(b"Bad Request: the body is not JSON")


async def test_a_handler_may_take_bad_json_in_its_own_way(ask: Asks) -> None:
    async def handler(event: H3Event) -> None:
        with pytest.raises(RequestError):
            await event.read_json()
        event.send_error(422, (await event.read_body()).decode())

    assert await said(ask(handler, "POST", body=b"{")) == (422, b"{")


@pytest.mark.parametrize("size", [101, 5000, 300_000])
async def test_a_body_that_is_too_large_is_a_413(ask: Asks, size: int) -> None:
    async def handler(event: H3Event) -> None:
        event.send_bytes(await event.read_body())

    limits = Limits(body_size=100)
    status, text = await said(ask(handler, "POST", body=b"x" * size, limits=limits))
    assert status == 413
    assert b"the limit is 100" in text
    assert await said(ask(handler, "POST", body=b"x" * 100, limits=limits)) == (200, b"x" * 100)


async def test_a_body_that_is_too_large_stays_so_when_it_is_read_again(ask: Asks) -> None:
    async def handler(event: H3Event) -> None:
        with pytest.raises(RequestError):
            await event.read_body()
        await event.read_body()

    assert (await said(ask(handler, "POST", body=b"x" * 101, limits=Limits(body_size=100))))[0] == 413


async def test_a_body_that_nobody_reads_does_no_harm(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_text("x")

    assert await said(ask(handler, "POST", body=b"x" * 1000)) == (200, b"x")


# Answers


@pytest.mark.parametrize(
    ("answer", "content_type", "body"),
    [
        (lambda event: event.send_text("é€"), "text/plain; charset=utf-8", "é€".encode()),
        (lambda event: event.send_text(""), "text/plain; charset=utf-8", b""),
        (lambda event: event.send_html("<p>é"), "text/html; charset=utf-8", "<p>é".encode()),
        (lambda event: event.send_json({"a": ["é", None, 1]}), "application/json", '{"a":["é",null,1]}'.encode()),
        (lambda event: event.send_bytes(b"\0\xff"), "application/octet-stream", b"\0\xff"),
        (lambda event: event.send_bytes(bytearray(b"x"), "image/png"), "image/png", b"x"),
        (lambda event: event.send_bytes(memoryview(b"xy")), "application/octet-stream", b"xy"),
    ],
)
async def test_an_answer_has_its_type_and_its_length(ask: Asks, answer: Do, content_type: str, body: bytes) -> None:
    reply = await ask(answer)
    assert reply.status == 200
    assert reply.headers["content-type"] == content_type
    assert reply.headers["content-length"] == str(len(body))
    assert body_of(reply) == body


async def test_a_large_answer_arrives_whole(ask: Asks) -> None:
    data = bytes(range(256)) * 20_000
    assert await said(ask(lambda event: event.send_bytes(data))) == (200, data)


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_async_and_plain_handlers_answer_alike(ask: Asks, kind: str) -> None:
    async def handler(event: H3Event) -> None:
        event.send_text("x")

    assert await said(ask(handler if kind == "async" else lambda event: event.send_text("x"))) == (200, b"x")


@pytest.mark.parametrize("status", [201, 299, 400, 418, 599, http.HTTPStatus.ACCEPTED])
async def test_set_status(ask: Asks, status: int) -> None:
    def handler(event: H3Event) -> None:
        event.set_status(500)
        event.set_status(status)
        event.send_text("x")

    assert await said(ask(handler)) == (status, b"x")


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600, -1, True, 200.0, "200", None])
async def test_a_status_that_is_not_final_is_refused(ask: Asks, status: Any) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(ValueError, match="from 200 to 599"):
            event.set_status(status)
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


async def test_a_status_cannot_change_when_the_answer_is_decided(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_text("x")
        with pytest.raises(ValueError, match="its status stays 200"):
            event.set_status(201)

    assert await said(ask(handler)) == (200, b"x")


async def test_set_header_replaces_in_any_case(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.set_header("X-One", "1")
        event.set_header("x-one", "2")
        event.set_header("X-Latin", "\xe9\xa0\x85")
        event.set_header("X-Empty", "")
        event.set_header("X-Tab", "a\tb c")
        event.set_header("content-type", "text/csv")
        event.send_text("a,b")

    reply = await ask(handler)
    assert reply.headers["x-one"] == "2"
    assert reply.headers["x-latin"] == "\xe9\xa0\x85"
    assert reply.headers["x-empty"] == ""
    assert reply.headers["x-tab"] == "a\tb c"
    assert reply.headers["content-type"] == "text/csv"


async def test_a_header_may_be_set_after_the_answer(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.send_text("x")
        event.set_header("X-Late", "yes")

    assert (await ask(handler)).headers["x-late"] == "yes"


@pytest.mark.parametrize("char", ["\r\nX: y", "\r", "\n", "\0", "\x01", "\x0b", "\x1f", "\x7f", "€"])
async def test_a_header_value_that_could_split_the_response_is_refused(ask: Asks, char: str) -> None:
    def handler(event: H3Event) -> None:
        for text in (f"a{char}b", f"{char}b", f"a{char}"):
            with pytest.raises(ValueError, match="header X-One must"):
                event.set_header("X-One", text)
        with pytest.raises(ValueError, match="header Content-Type must"):
            event.send_bytes(b"", f"a{char}b")
        assert event.state is State.REQUESTED
        event.send_text("x")

    reply = await ask(handler)
    assert (reply.status, body_of(reply)) == (200, b"x")
    assert not {"x-one", "x"} & reply.headers.keys()


@pytest.mark.parametrize("name", ["", "X One", "X:", "X\r\nY", "X\0", "é", " X", "X ", "X(", "{X}", "X/Y"])
async def test_a_header_name_that_is_no_token_is_refused(ask: Asks, name: str) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(ValueError, match="is not a token"):
            event.set_header(name, "x")
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


@pytest.mark.parametrize(("name", "text"), [("X", 1), ("X", None), ("X", b"x"), (b"X", "x"), (None, "x")])
async def test_a_header_that_is_no_text_is_refused(ask: Asks, name: Any, text: Any) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(TypeError, match="a header's name and value are strs"):
            event.set_header(name, text)
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


# Redirections and errors


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect(ask: Asks, status: int) -> None:
    reply = await ask(lambda event: event.redirect("/there?a=1#b", status))
    assert (reply.status, body_of(reply)) == (status, b"")
    assert reply.headers["location"] == "/there?a=1#b"
    assert reply.headers["content-length"] == "0"
    assert "content-type" not in reply.headers


async def test_redirect_is_found_by_default(ask: Asks) -> None:
    assert (await ask(lambda event: event.redirect("/"))).status == 302


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/é€", "/%C3%A9%E2%82%AC"),
        ("/a b", "/a%20b"),
        ("/a%20b?x=%C3%A9", "/a%20b?x=%C3%A9"),
        ("https://[::1]:3000/a;b?c=d&e=f+g#h", "https://[::1]:3000/a;b?c=d&e=f+g#h"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("", ""),
    ],
)
async def test_redirect_encodes_what_a_url_cannot_hold(ask: Asks, location: str, sent: str) -> None:
    assert (await ask(lambda event: event.redirect(location))).headers["location"] == sent


@pytest.mark.parametrize("location", ["/a\r\nSet-Cookie: x", "/a\n", "\r/a", "/a\0", "/\ud800"])
async def test_redirect_refuses_what_could_split_the_response(ask: Asks, location: str) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(ValueError, match=r"Location must|surrogates"):
            event.redirect(location)
        event.send_text("x")

    reply = await ask(handler)
    assert (reply.status, body_of(reply)) == (200, b"x")
    assert not {"location", "set-cookie"} & reply.headers.keys()


@pytest.mark.parametrize("status", [200, 300, 304, 305, 404, "302"])
async def test_redirect_refuses_a_status_that_leads_nowhere(ask: Asks, status: Any) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(ValueError, match="a redirect's status is one of"):
            event.redirect("/", status)
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


async def test_redirect_takes_the_place_of_a_location_set_before(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.set_header("location", "/old")
        event.redirect("/new")
        headers = [pair for pair in host_of(event).answer.headers or [] if pair[0].lower() == "location"]
        assert headers == [("Location", "/new")]

    assert (await ask(handler)).headers["location"] == "/new"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (lambda event: event.send_error(404), 404, b"Not Found"),
        (lambda event: event.send_error(422, "é"), 422, "é".encode()),
        (lambda event: event.send_error(500, ""), 500, b""),
        (lambda event: event.send_error(499), 499, b"Error 499"),
        (lambda event: event.send_error(http.HTTPStatus.CONFLICT), 409, b"Conflict"),
    ],
)
async def test_send_error(ask: Asks, answer: Do, status: int, body: bytes) -> None:
    reply = await ask(answer)
    assert (reply.status, body_of(reply)) == (status, body)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("status", [0, 200, 302, 399, 600])
async def test_send_error_refuses_a_status_that_is_no_error(ask: Asks, status: int) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(ValueError, match="from 400 to 599"):
            event.send_error(status)
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


@pytest.mark.parametrize("answered", [float("nan"), float("inf"), "\ud800", {1, 2}, object()])
async def test_what_is_no_json_is_refused_before_the_answer_is_decided(ask: Asks, answered: Any) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises((TypeError, ValueError)):
            event.send_json(answered)
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
async def test_what_is_no_bytes_is_refused_before_the_answer_is_decided(ask: Asks, data: Any) -> None:
    def handler(event: H3Event) -> None:
        with pytest.raises(TypeError):
            event.send_bytes(data)
        event.send_text("x")

    assert await said(ask(handler)) == (200, b"x")


# Two answers, no answer, a broken handler


@pytest.mark.parametrize(
    "second",
    [
        lambda event: event.send_text("2"),
        lambda event: event.send_html("2"),
        lambda event: event.send_json(2),
        lambda event: event.send_bytes(b"2"),
        lambda event: event.redirect("/2"),
        lambda event: event.send_error(400),
        lambda event: event.start_sse(),
    ],
)
async def test_a_second_answer_is_refused_and_the_first_stands(ask: Asks, second: Do) -> None:
    def handler(event: H3Event) -> None:
        event.send_text("1")
        assert event.state is State.CLOSED
        with pytest.raises(ResponseAlreadySent):
            second(event)

    reply = await ask(handler)
    assert (reply.status, body_of(reply)) == (200, b"1")
    assert "location" not in reply.headers


async def test_a_second_answer_that_the_handler_lets_out_leaves_the_first(
    ask: Asks, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(event: H3Event) -> None:
        event.send_text("1")
        event.send_text("2")

    assert await said(ask(handler)) == (200, b"1")


async def test_a_plain_answer_after_start_sse_is_refused(ask: Asks, caplog: pytest.LogCaptureFixture) -> None:
    def handler(event: H3Event) -> None:
        event.start_sse()
        with pytest.raises(SSEAlreadyStarted):
            event.send_text("x")
        raise RuntimeError

    assert await said(ask(handler)) == (500, b"Internal Server Error")


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_raising_handler_is_a_500_that_leaks_nothing(
    ask: Asks, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(event: H3Event) -> None:
        raise RuntimeError("secret")

    def plain(event: H3Event) -> None:
        raise RuntimeError("secret")

    reply = await ask(handler if kind == "async" else plain)
    assert (reply.status, body_of(reply)) == (500, b"Internal Server Error")
    assert "secret" not in str(reply.headers)
    assert "RuntimeError: secret" in caplog.text


async def test_a_handler_that_raises_after_its_answer_leaves_the_answer(
    ask: Asks, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(event: H3Event) -> None:
        event.send_text("1")
        raise RuntimeError("late")

    assert await said(ask(handler)) == (200, b"1")
    assert "RuntimeError: late" in caplog.text


async def test_a_500_does_not_wear_the_headers_of_the_answer_that_failed(
    ask: Asks, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(event: H3Event) -> None:
        event.set_status(201)
        event.set_header("Content-Type", "application/json")
        event.set_header("Content-Encoding", "br")
        event.set_header("Cache-Control", "max-age=3600")
        event.set_header("ETag", '"1"')
        event.set_header("Content-Security-Policy", "default-src 'self'")
        event.set_header("X-Request-Id", "7")
        raise RuntimeError

    reply = await ask(handler)
    assert (reply.status, body_of(reply)) == (500, b"Internal Server Error")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert not {"content-encoding", "cache-control", "etag"} & reply.headers.keys()
    assert reply.headers["content-security-policy"] == "default-src 'self'"
    assert reply.headers["x-request-id"] == "7"


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_handler_that_sends_nothing_is_a_500_that_says_so(
    ask: Asks, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(event: H3Event) -> str:
        return "an answer that is returned is not sent"

    status, body = await said(ask(handler if kind == "async" else lambda event: "returned"))
    assert status == 500
    assert b"the handler returned without an answer: call event.send_text()" in body


async def test_404(ask: Asks) -> None:
    reply = await ask(lambda event: None, pattern="/a", target="/b")
    assert (reply.status, body_of(reply)) == (404, b"Not Found")
    assert "allow" not in reply.headers


async def test_405_with_allow(adapter: str, flow: Any) -> None:
    app = H3App()
    app.get("/x/:id", lambda event: event.send_text("x"))
    app.delete("/x/:id", lambda event: event.send_text("x"))
    async with open_client(adapter, app, flow=flow) as client:
        for method in ("POST", "OPTIONS", "BREW"):
            reply = await client.request(method, "/x/1")
            assert (reply.status, await reply.read()) == (405, b"Method Not Allowed")
            assert reply.headers["allow"] == "DELETE, GET, HEAD"


# Answers without a body


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_204_and_304_have_neither_body_nor_length(ask: Asks, status: int, method: str) -> None:
    def handler(event: H3Event) -> None:
        event.set_status(status)
        event.set_header("ETag", '"1"')
        event.send_text("never")

    reply = await ask(handler, method)
    assert (reply.status, body_of(reply)) == (status, b"")
    assert not {"content-length", "content-type", "transfer-encoding"} & reply.headers.keys()
    assert reply.headers["etag"] == '"1"'


async def test_205_has_an_empty_body(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.set_status(205)
        event.send_text("never")

    reply = await ask(handler)
    assert (reply.status, body_of(reply), reply.headers["content-length"]) == (205, b"", "0")


async def test_head_has_the_head_of_get_and_no_body(ask: Asks) -> None:
    def handler(event: H3Event) -> None:
        event.set_header("X-Method", event.method)
        event.send_text("hello")

    reply = await ask(handler, "HEAD")
    assert (reply.status, body_of(reply)) == (200, b"")
    assert reply.headers["content-length"] == "5"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-method"] == "HEAD"


async def test_head_of_an_error_has_no_body_either(ask: Asks, caplog: pytest.LogCaptureFixture) -> None:
    def handler(event: H3Event) -> None:
        raise RuntimeError

    reply = await ask(handler, "HEAD")
    assert (reply.status, body_of(reply), reply.headers["content-length"]) == (500, b"", "21")
    reply = await ask(handler, "HEAD", target="/b", pattern="/a")
    assert (reply.status, body_of(reply), reply.headers["content-length"]) == (404, b"", "9")


# Several at once


async def test_requests_at_once_do_not_mix(adapter: str, flow: Any) -> None:
    app, got = H3App(), dict[str, str]()

    @app.get("/async/:id")
    async def asynchronous(event: H3Event) -> None:
        event.context["id"] = event.params["id"]
        await anyio.lowlevel.checkpoint()
        event.send_text(event.context["id"])

    @app.get("/plain/:id")
    def plain(event: H3Event) -> None:
        event.context["id"] = event.params["id"]
        event.send_text(event.context["id"])

    async with open_client(adapter, app, flow=flow) as client:

        async def ask(target: str) -> None:
            reply = await client.request("GET", target)
            got[target] = (await reply.read()).decode()

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, f"/async/{number}")
                tasks.start_soon(ask, f"/plain/{number}")
    assert len(got) == 60
    assert all(body == target.rpartition("/")[2] for target, body in got.items())


async def test_a_slow_plain_def_delays_no_one_else(adapter: str, flow: Any) -> None:
    app, may_go_on = H3App(), anyio.Event()

    @app.get("/slow")
    def slow(event: H3Event) -> None:
        anyio.from_thread.run(may_go_on.wait)
        event.send_text("slow")

    @app.get("/quick")
    def quick(event: H3Event) -> None:
        event.send_text("quick")

    async with open_client(adapter, app, flow=flow) as client, anyio.create_task_group() as tasks:

        async def ask_slow() -> None:
            reply = await client.request("GET", "/slow")
            assert await reply.read() == b"slow"

        tasks.start_soon(ask_slow)
        for _ in range(3):
            reply = await client.request("GET", "/quick")
            assert await reply.read() == b"quick"
        may_go_on.set()


async def test_the_server_goes_on_after_every_kind_of_failure(adapter: str, flow: Any) -> None:
    app = H3App()

    @app.get("/:kind")
    def handler(event: H3Event) -> None:
        kind = event.params["kind"]
        if kind == "raise":
            raise RuntimeError
        if kind == "group":
            raise ExceptionGroup("several", [ValueError(), KeyError()])
        if kind == "stop":
            raise StopIteration
        if kind == "answer":
            event.send_text("x")

    async with open_client(adapter, app, flow=flow) as client:
        for kind, status in (("raise", 500), ("group", 500), ("stop", 500), ("nothing", 500), ("answer", 200)):
            reply = await client.request("GET", f"/{kind}")
            assert reply.status == status
            await reply.read()
