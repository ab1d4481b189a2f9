"""What a source sends: content, data, json, params and auth, at first, again, and after a redirect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from io import BytesIO
from typing import Any

import httpx2
import pytest

from h3ref import EventSource
from tests.test_client import TWINS, collect, streaming
from tests.test_redirects import OTHER, SAME, URL, Web, ask

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"
BODIES: list[tuple[dict[str, Any], bytes, str | None]] = [
    ({"content": "é\n"}, "é\n".encode(), None),
    ({"content": b"\0\xff"}, b"\0\xff", None),
    ({"content": b""}, b"", None),
    ({"data": {"a": "1 2", "b": ["é", 3]}}, b"a=1+2&b=%C3%A9&b=3", FORM),
    ({"data": {}}, b"", None),
    ({"json": {"prompt": "é"}}, '{"prompt":"é"}'.encode(), "application/json"),
    ({"json": 0}, b"0", "application/json"),
    ({}, b"", None),
]


class Streams:
    """Answers each request with a stream of one message that ends; keeps the requests, with their bodies."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        return streaming(b"data: 1\n\n")


def client_of(twin: Any, web: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> Any:
    kind = httpx2.AsyncClient if twin is EventSource else httpx2.Client
    return kind(transport=httpx2.MockTransport(web), **options)


# -- the body


@TWINS
@pytest.mark.parametrize(("body", "sent", "content_type"), BODIES)
async def test_a_body_is_sent_as_httpx2_sends_it_and_again_with_each_reconnection(
    twin: Any, body: dict[str, Any], sent: bytes, content_type: str | None
) -> None:
    web = Streams()
    options: dict[str, Any] = {"method": "POST", "reconnect": True, "reconnection_time": 0} | body
    assert len(await collect(twin, URL, 3, client=client_of(twin, web), **options)) == 3
    assert len(web.requests) == 3
    own = httpx2.Request("POST", URL, **body)
    for request in web.requests:
        assert (request.content, request.headers.get("content-type")) == (sent, content_type)
        assert request.content == own.content
        assert request.headers["content-length"] == own.headers["content-length"] == str(len(sent))


@TWINS
async def test_a_content_type_of_the_users_own_is_kept(twin: Any) -> None:
    web = Web(307, events=SAME)
    bodies: list[dict[str, Any]] = [{"json": {}}, {"data": {"a": "b"}}, {"content": "x"}]
    for body in bodies:
        await ask(twin, web, method="POST", headers={"content-type": "text/own"}, **body)
        assert web.last.headers.get_list("content-type") == ["text/own"]


async def test_a_body_is_encoded_once_and_does_not_change_with_what_it_was_made_of() -> None:
    web = Streams()
    prompt = ["first"]
    source = EventSource(URL, method="POST", json=prompt, client=client_of(EventSource, web))
    prompt.append("later")
    async with source:
        assert web.requests[0].content == b'["first"]'


def generator() -> Iterator[bytes]:
    yield b"x"


async def async_generator() -> AsyncIterator[bytes]:
    yield b"x"


@TWINS
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"content": generator()}, TypeError, "sent again, not generator: read it first; or .* from_response"),
        ({"content": async_generator()}, TypeError, "not async_generator"),
        ({"content": BytesIO(b"x")}, TypeError, "not BytesIO"),
        ({"content": [b"x"]}, TypeError, "not list"),
        ({"content": {"a": "b"}}, TypeError, "not dict"),
        ({"data": b"x"}, TypeError, "data is a form's fields, a mapping, not bytes: pass bytes or text as content"),
        ({"json": object()}, TypeError, "not JSON serializable"),
        ({"json": float("nan")}, ValueError, "not JSON compliant"),
        ({"content": "", "json": 0}, ValueError, "content and json each give a body: pass one of them"),
        ({"content": "", "data": {}, "json": 0}, ValueError, "content and data and json"),
        ({"content": "", "method": "GET"}, ValueError, 'a GET carries no body: pass method="POST" with content'),
        ({"data": {}, "method": "get"}, ValueError, 'pass method="POST" with data'),
        ({"auth": "me:word"}, TypeError, "auth is a tuple of user and password, .* not str"),
        ({"auth": 1}, TypeError, "not int"),
        ({"params": 1}, TypeError, "params is a mapping, a list of pairs, or a query as text, not int"),
    ],
)
def test_what_cant_be_sent_is_refused_before_anything_is(
    twin: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        twin(URL, **({"method": "POST"} | options))


@TWINS
@pytest.mark.parametrize("body", [{"content": "secret"}, {"data": {"a": "secret"}}])
async def test_a_redirect_takes_a_body_along_at_the_origin_and_to_no_other(twin: Any, body: dict[str, Any]) -> None:
    web = Web(307, events=SAME)
    await ask(twin, web, method="POST", **body)
    first, second = web.requests
    assert second.content == first.content != b""
    assert second.headers.get("content-type") == first.headers.get("content-type")
    with pytest.raises(httpx2.HTTPStatusError, match="the request's body is never sent on"):
        await ask(twin, Web(308, events=OTHER), method="POST", **body)
    web = Web(303, events=OTHER)
    await ask(twin, web, method="POST", **body)
    assert (web.last.method, web.last.content) == ("GET", b"")
    assert "secret" not in str(web.last.headers.raw)


# -- the query


@TWINS
@pytest.mark.parametrize(
    ("url", "params", "of_client", "asked"),
    [
        (URL, {"a": "1 2", "b": [1, None, True]}, {}, f"{URL}?a=1+2&b=1&b=&b=true"),
        (URL, [("a", 1), ("a", 2)], {}, f"{URL}?a=1&a=2"),
        (URL, "x=%31", {}, f"{URL}?x=1"),
        (f"{URL}?own=1", None, {}, f"{URL}?own=1"),
        (f"{URL}?own=1", {"a": 1}, {}, f"{URL}?a=1"),
        (f"{URL}?own=1", {}, {}, URL),
        (URL, {"a": 1}, {"params": {"of": "client"}}, f"{URL}?of=client&a=1"),
    ],
)
async def test_params_are_the_query_of_each_request(
    twin: Any, url: str, params: Any, of_client: dict[str, Any], asked: str
) -> None:
    web = Streams()
    await collect(twin, url, 2, client=client_of(twin, web, **of_client), params=params, reconnection_time=0)
    assert [str(request.url) for request in web.requests] == [asked] * 2
    own = httpx2.Client(**of_client).build_request("GET", url, params=params)
    assert str(own.url) == asked


@TWINS
async def test_params_do_not_follow_a_redirect_nor_stand_in_a_log(twin: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "h3ref")
    web = Web(302, events="/elsewhere?b=2")
    await ask(twin, web, params=[("token", "secret")])
    assert [request.url.query for request in web.requests] == [b"token=secret", b"b=2"]
    assert "secret" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("h3ref"))


# -- auth


def key_of(request: httpx2.Request) -> httpx2.Request:
    request.headers["X-Key"] = "secret"
    return request


BASIC = httpx2.BasicAuth("me", "secret")._auth_header


@TWINS
@pytest.mark.parametrize(
    ("auth", "of_client", "name", "value"),
    [
        (("me", "secret"), None, "authorization", BASIC),
        (httpx2.BasicAuth("me", "secret"), ("other", "word"), "authorization", BASIC),
        (key_of, None, "x-key", "secret"),
        (None, ("other", "word"), "authorization", None),
        ("unsaid", ("me", "secret"), "authorization", BASIC),
    ],
)
async def test_auth_goes_with_each_request_before_the_clients_own(
    twin: Any, auth: Any, of_client: Any, name: str, value: str | None
) -> None:
    web = Streams()
    options = {} if auth == "unsaid" else {"auth": auth}
    await collect(twin, URL, 2, client=client_of(twin, web, auth=of_client), reconnection_time=0, **options)
    assert [request.headers.get(name) for request in web.requests] == [value] * 2


@TWINS
@pytest.mark.parametrize("auth", [("me", "secret"), key_of, httpx2.DigestAuth("me", "secret")])
async def test_auth_stays_at_its_origin_and_does_not_come_back(twin: Any, auth: Any) -> None:
    web = Web(307, events=SAME)
    await ask(twin, web, auth=auth)
    secrets = ("authorization", "x-key")
    assert [web.last.headers.get(name) for name in secrets] == [web.requests[0].headers.get(name) for name in secrets]
    web = Web(307, events="http://other/hop", hop="http://test/back")
    await ask(twin, web, auth=auth)
    for request in web.requests[1:]:
        assert not {*secrets} & {*request.headers}
        assert "secret" not in str(request.headers.raw)


@TWINS
async def test_a_challenge_is_answered_with_the_body_sent_again_and_each_time_anew(twin: Any) -> None:
    bodies: list[bytes] = []

    def web(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.read())
        if "authorization" not in request.headers:
            challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
            return httpx2.Response(401, headers={"WWW-Authenticate": challenge})
        assert request.headers["authorization"].startswith('Digest username="me"')
        return streaming(b"data: 1\n\n")

    auth = httpx2.DigestAuth("me", "word")
    options: dict[str, Any] = {"method": "POST", "content": "x", "reconnect": True, "reconnection_time": 0}
    assert len(await collect(twin, URL, 2, client=client_of(twin, web), auth=auth, **options)) == 2
    assert len(bodies) >= 3
    assert {*bodies} == {b"x"}
