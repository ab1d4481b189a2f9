"""Redirects of `EventSource` and its twin: which are followed, and what goes along to another origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

import h3ref
from h3ref import BlockingEventSource, EventSource, H3Error, RedirectRefused, RefusedStatus
from h3ref.client.redirects import SAFE_HEADERS
from tests.test_client import EOF_HEAD, NO_CONTENT, TWINS, Scripted, scripted, streaming

pytestmark = pytest.mark.anyio

URL = "http://test/events"
SAME, OTHER = "/elsewhere", "https://test/elsewhere"
STATUSES = (301, 302, 303, 307, 308)
GUIDE = Path(__file__).parent.parent / "docs" / "how-to" / "receive.md"


class Web:
    """Answers each URL with the redirect that it is told, and all others with a stream; keeps the requests."""

    def __init__(self, status: int, **redirects: str) -> None:
        self.status = status
        self.redirects = redirects
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        location = self.redirects.get(request.url.path.strip("/"))
        if location is None:
            return streaming(b"data: 1\n\n")
        return httpx2.Response(self.status, headers={"Location": location}, content=b"over there")

    @property
    def last(self) -> httpx2.Request:
        return self.requests[-1]


async def ask(twin: Any, web: Callable[[httpx2.Request], httpx2.Response], url: str = URL, **options: Any) -> Any:
    """Open a source with a client whose answers come from `web`, take a message, and return the last response."""
    of_client = options.pop("of_client", {})
    options.setdefault("follow_redirects", True)
    if options["follow_redirects"] == "unsaid":
        del options["follow_redirects"]
    transport = httpx2.MockTransport(web)
    if twin is EventSource:
        async with (
            httpx2.AsyncClient(transport=transport, **of_client) as client,
            EventSource(url, client=client, **options) as source,
        ):
            assert (await anext(source)).data == "1"
            return source.response

    def block() -> Any:
        with (
            httpx2.Client(transport=transport, **of_client) as client,
            BlockingEventSource(url, client=client, **options) as source,
        ):
            assert next(source).data == "1"
            return source.response

    return await anyio.to_thread.run_sync(block)


# -- which are followed


@TWINS
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    ("follow", "location", "followed"),
    [
        (True, SAME, True),
        (True, OTHER, True),
        (True, "http://www.test/", True),
        (True, "http://test:8000/", True),
        ("same-origin", SAME, True),
        ("same-origin", "http://test:80/elsewhere", True),
        ("same-origin", OTHER, False),
        ("same-origin", "http://www.test/", False),
        ("same-origin", "http://test:8000/", False),
        (False, SAME, False),
        (False, OTHER, False),
    ],
)
async def test_follow_redirects_says_which_are_followed(
    twin: Any, status: int, follow: Any, location: str, followed: bool
) -> None:
    web = Web(status, events=location)
    if followed:
        response = await ask(twin, web, follow_redirects=follow)
        assert [answer.status_code for answer in response.history] == [status]
        assert len(web.requests) == 2
        return
    with pytest.raises(RedirectRefused, match="follow_redirects") as caught:
        await ask(twin, web, follow_redirects=follow)
    assert len(web.requests) == 1
    assert caught.value.response.text == "over there"
    assert caught.value.response.headers["location"] == location


@TWINS
async def test_a_given_clients_own_choice_is_respected_unless_the_source_has_one(twin: Any) -> None:
    for of_client in ({}, {"follow_redirects": False}):
        with pytest.raises(RedirectRefused, match="follow_redirects=True"):
            await ask(twin, Web(302, events=SAME), follow_redirects="unsaid", of_client=of_client)
    await ask(twin, Web(302, events=OTHER), follow_redirects="unsaid", of_client={"follow_redirects": True})
    await ask(twin, Web(302, events=OTHER), follow_redirects=True, of_client={"follow_redirects": False})
    with pytest.raises(RedirectRefused, match="same-origin"):
        await ask(twin, Web(302, events=OTHER), follow_redirects="same-origin", of_client={"follow_redirects": True})


@TWINS
@pytest.mark.parametrize(("status", "method"), [(307, "POST"), (308, "POST"), (301, "PUT"), (302, "QUERY")])
async def test_a_body_goes_to_no_other_origin(twin: Any, status: int, method: str) -> None:
    web = Web(status, events="https://me:secret@test/elsewhere?token=secret")
    with pytest.raises(RedirectRefused, match="body is never sent") as caught:
        await ask(twin, web, method=method, json={"prompt": "secret"})
    assert len(web.requests) == 1
    assert "https://test/elsewhere" in str(caught.value)
    assert "secret" not in str(caught.value)


@TWINS
@pytest.mark.parametrize("status", STATUSES)
async def test_a_body_goes_along_at_its_origin_where_http_says_so(twin: Any, status: int) -> None:
    web = Web(status, events=SAME)
    await ask(twin, web, method="POST", json={"prompt": "hi"})
    if status in (307, 308):
        assert (web.last.method, web.last.content) == ("POST", b'{"prompt":"hi"}')
    else:
        assert (web.last.method, web.last.content) == ("GET", b"")


@TWINS
@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_post_that_becomes_a_get_leaves_its_body_behind_and_goes_anywhere(twin: Any, status: int) -> None:
    web = Web(status, events=OTHER)
    await ask(twin, web, method="POST", json={"prompt": "secret"}, headers={"X-Api-Key": "secret"})
    assert (web.last.method, web.last.content) == ("GET", b"")
    assert "content-type" not in web.last.headers
    assert "secret" not in str(web.last.headers.raw)


# -- what goes along


@TWINS
@pytest.mark.parametrize("location", [OTHER, "http://www.test/", "http://test:8000/", "http://user:word@other/"])
async def test_only_what_is_safe_goes_along_to_another_origin(twin: Any, location: str) -> None:
    web = Web(307, events=location)
    safe = {
        "Accept": "text/event-stream, */*",
        "Accept-Encoding": "gzip",
        "Accept-Language": "de",
        "Cache-Control": "no-cache",
        "User-Agent": "me/1",
        "Last-Event-ID": "7",
    }
    secret = dict.fromkeys(
        ["Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "X-CSRF-Token", "Referer", "Origin"], "secret"
    )
    of_client = {"headers": {"X-Of-The-Client": "secret"}, "cookies": {"session": "secret"}, "auth": ("me", "secret")}
    await ask(twin, web, headers=safe | secret, of_client=of_client)
    first, second = web.requests
    assert first.headers["x-api-key"] == first.headers["x-of-the-client"] == "secret"
    assert {name: second.headers[name] for name in safe} == safe
    assert second.headers["host"] == second.url.netloc.decode()
    ours = {name.lower() for name in SAFE_HEADERS} | {"host"}
    if second.url.userinfo:
        assert second.headers["authorization"] == httpx2.BasicAuth("user", "word")._auth_header
        ours.add("authorization")
    assert set(second.headers) == ours
    assert "secret" not in str(second.headers.raw)


@TWINS
async def test_all_goes_along_at_the_origin_and_auth_and_the_password_of_the_url(twin: Any) -> None:
    web = Web(307, events=SAME)
    await ask(twin, web, "http://me:word@test/events", headers={"X-Api-Key": "1"}, of_client={"cookies": {"a": "b"}})
    assert web.last.headers["authorization"] == web.requests[0].headers["authorization"]
    assert (web.last.headers["x-api-key"], web.last.headers["cookie"]) == ("1", "a=b")
    await ask(twin, web, of_client={"auth": ("me", "word")})
    assert web.last.headers["authorization"].startswith("Basic ")


@TWINS
async def test_what_was_left_behind_does_not_come_back_with_the_origin(twin: Any) -> None:
    web = Web(307, events="http://other/hop", hop="http://test/back")
    response = await ask(twin, web, headers={"X-Api-Key": "secret"}, of_client={"auth": ("me", "secret")})
    assert [answer.url.host for answer in response.history] == ["test", "other"]
    assert str(web.last.url) == "http://test/back"
    assert "x-api-key" not in web.last.headers
    assert "authorization" not in web.last.headers


@TWINS
async def test_a_cookie_that_a_server_set_goes_where_it_belongs(twin: Any) -> None:
    def answers() -> Iterator[httpx2.Response]:
        for host, cookie in (("b", "a=secret"), ("a", "b=mine")):
            yield httpx2.Response(302, headers={"Location": f"http://{host}.test/", "Set-Cookie": f"{cookie}; Path=/"})
        yield streaming(b"data: 1\n\n")

    cookies: list[str | None] = []
    each = answers()

    def web(request: httpx2.Request) -> httpx2.Response:
        cookies.append(request.headers.get("cookie"))
        return next(each)

    await ask(twin, web, "http://a.test/")
    assert cookies == [None, None, "a=secret"]


@TWINS
async def test_a_resumption_is_redirected_with_its_last_event_id(twin: Any) -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
    stream = [EOF_HEAD, b"id: 7\ndata: 1\n\n"]
    async with scripted(stream, [NO_CONTENT]) as there:
        to = redirect % there.url.encode()
        async with scripted([to], [to]) as here:
            messages = []
            options: dict[str, Any] = {"headers": {"X-Api-Key": "secret"}, "reconnection_time": 0}
            if twin is EventSource:
                async with EventSource(here.url, **options) as source:
                    messages = [message async for message in source]
            else:

                def block() -> None:
                    with BlockingEventSource(here.url, **options) as source:
                        messages.extend(source)

                await anyio.to_thread.run_sync(block)
            assert [message.last_event_id for message in messages] == ["7"]
            assert [b"X-Api-Key: secret" in request for request in here.requests] == [True, True]
    assert [b"secret" in request for request in there.requests] == [False, False]
    assert [b"\r\nLast-Event-ID: 7\r\n" in request for request in there.requests] == [False, True]


# -- how they fail


@TWINS
@pytest.mark.parametrize("location", ["ftp://test/", "http://a..b/", "http://[::1", "http://test:99999/", "mailto:me"])
async def test_a_redirect_to_nowhere_is_an_error_of_the_servers(twin: Any, location: str) -> None:
    web = Web(302, events=location)
    with pytest.raises(httpx2.RemoteProtocolError, match="redirect to"):
        await ask(twin, web)
    assert len(web.requests) == 1


@TWINS
async def test_redirects_have_an_end(twin: Any) -> None:
    web = Web(302, events="/events")
    with pytest.raises(httpx2.TooManyRedirects, match="more than 3 redirects"):
        await ask(twin, web, of_client={"max_redirects": 3})
    assert len(web.requests) == 4


@TWINS
async def test_a_redirect_without_a_location_is_a_refusal_as_any(twin: Any) -> None:
    with pytest.raises(RefusedStatus) as caught:
        await ask(twin, lambda request: httpx2.Response(302))
    assert not isinstance(caught.value, RedirectRefused)


@TWINS
async def test_a_redirect_whose_body_never_ends_is_followed_and_the_stream_may_be_silent_for_longer(
    twin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (h3ref.client.blocking, h3ref.client.source):
        monkeypatch.setattr(module, "REFUSAL_SECONDS", 0.1)
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n"
    timeouts: list[Any] = []
    async with scripted([redirect, Scripted.HOLD], [EOF_HEAD, b"data: 1\n\n", Scripted.HOLD]) as server:

        def opened(response: httpx2.Response) -> None:
            timeouts.append(response.request.extensions["timeout"]["read"])

        def block() -> str:
            with BlockingEventSource(server.url, heartbeat=77.0, on_open=opened) as source:
                return next(source).data

        with anyio.fail_after(10):
            if twin is EventSource:
                async with EventSource(server.url, heartbeat=77.0, on_open=opened) as source:
                    assert (await anext(source)).data == "1"
            else:
                assert await anyio.to_thread.run_sync(block) == "1"
            await server.left.wait()
    assert timeouts == [77.0]


def test_the_error_is_one_of_h3refs_and_of_httpx2s() -> None:
    assert issubclass(RedirectRefused, H3Error | httpx2.HTTPStatusError | RefusedStatus)
    for name in ("EventSourceError", "RedirectRefused", "RefusedStatus", "WrongContentType"):
        assert getattr(h3ref, name) is getattr(h3ref.client, name)


def test_the_guide_names_the_headers_that_are_safe() -> None:
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    assert ", ".join(f"`{name}`" for name in SAFE_HEADERS) in text
