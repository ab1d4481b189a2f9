"""Registration, what it refuses, and hooks: their order, what they may change, and how they fail."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from h3ref import H3App, H3Event, RequestError, ResponseAlreadySent, SSEWriter, flows
from h3ref.connection import End
from tests.clients import ClientLike, open_client

pytestmark = pytest.mark.anyio


async def told(client: ClientLike, target: str, method: str = "GET") -> tuple[int, str]:
    """The status and the body of an answer."""
    reply = await client.request(method, target)
    return reply.status, (await reply.read()).decode()


def hello(event: H3Event) -> None:
    event.send_text("hello")


# Registration


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
async def test_a_method_registers_directly_and_as_a_decorator(adapter: str, method: str) -> None:
    app = H3App()
    register = getattr(app, method)
    assert register("/direct", hello) is hello
    assert register("/decorated")(hello) is hello
    async with open_client(adapter, app) as client:
        assert await told(client, "/direct", method.upper()) == (200, "hello")
        assert await told(client, "/decorated", method.upper()) == (200, "hello")


async def test_on_takes_any_method_in_any_case(adapter: str) -> None:
    app = H3App()
    assert app.on("patch", "/direct", hello) is hello
    assert app.on("REPORT", "/decorated")(hello) is hello
    async with open_client(adapter, app) as client:
        assert await told(client, "/direct", "PATCH") == (200, "hello")
        assert await told(client, "/decorated", "REPORT") == (200, "hello")


async def test_a_handler_may_be_any_callable(adapter: str) -> None:
    class Greeter:
        def __call__(self, event: H3Event) -> None:
            event.send_text("object")

        def method(self, event: H3Event) -> None:
            event.send_text("method")

        async def async_method(self, event: H3Event) -> None:
            event.send_text("async method")

    class AsyncGreeter:
        async def __call__(self, event: H3Event) -> None:
            event.send_text("async object")

    async def greet(name: str, event: H3Event) -> None:
        event.send_text(f"partial {name}")

    app = H3App()
    app.get("/object", Greeter())
    app.get("/method", Greeter().method)
    app.get("/async-method", Greeter().async_method)
    app.get("/async-object", AsyncGreeter())
    app.get("/partial", functools.partial(greet, "Ann"))
    app.get("/lambda", lambda event: event.send_text("lambda"))
    async with open_client(adapter, app) as client:
        assert await told(client, "/object") == (200, "object")
        assert await told(client, "/method") == (200, "method")
        assert await told(client, "/async-method") == (200, "async method")
        assert await told(client, "/async-object") == (200, "async object")
        assert await told(client, "/partial") == (200, "partial Ann")
        assert await told(client, "/lambda") == (200, "lambda")


async def test_a_handler_may_have_further_parameters_with_defaults(adapter: str) -> None:
    def greet(event: H3Event, name: str = "Bob", *rest: Any, loud: bool = False, **more: Any) -> None:
        event.send_text(name)

    app = H3App()
    app.get("/", greet)
    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (200, "Bob")


async def test_a_route_added_while_the_app_is_served_counts(adapter: str) -> None:
    app = H3App()
    async with open_client(adapter, app) as client:
        assert (await told(client, "/late"))[0] == 404
        app.get("/late", hello)
        assert await told(client, "/late") == (200, "hello")


async def test_a_plain_def_that_returns_an_awaitable_is_a_500_with_a_hint(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(event: H3Event) -> None:
        event.send_text("never")

    app = H3App()
    app.get("/", lambda event: answer(event))
    async with open_client(adapter, app) as client:
        assert (await told(client, "/"))[0] == 500
    assert "make it async def" in caplog.text


class TestWhatRegistrationRefuses:
    """A mistake is told where it is made, not when the first request comes."""

    pytestmark: list[pytest.MarkDecorator] = []  # noqa: RUF012

    @pytest.mark.parametrize("handler", ["hello", 42, object()])
    def test_a_handler_that_cannot_be_called(self, handler: Any) -> None:
        app = H3App()
        for register in (app.get, app.post, app.put, app.delete):
            with pytest.raises(TypeError, match="a handler is a callable that takes the H3Event, not"):
                register("/", handler)
        with pytest.raises(TypeError, match="a handler is a callable"):
            app.on("GET", "/")(handler)

    def test_a_handler_that_takes_no_event(self) -> None:
        def nothing() -> None: ...

        with pytest.raises(TypeError, match="a handler must take the H3Event; nothing: too many positional"):
            H3App().get("/", nothing)  # type: ignore[type-var]

    def test_a_handler_that_takes_more_than_an_event(self) -> None:
        def two(event: H3Event, other: int) -> None: ...

        with pytest.raises(
            TypeError, match="a handler must take the H3Event; two: missing a required argument: 'other'"
        ):
            H3App().get("/", two)  # type: ignore[type-var]

    def test_a_handler_that_wants_a_keyword(self) -> None:
        def keyword(event: H3Event, *, other: int) -> None: ...

        with pytest.raises(TypeError, match="keyword: missing a required"):
            H3App().get("/")(keyword)  # type: ignore[type-var]

    def test_a_generator_is_sent_to_sse(self) -> None:
        def plain(event: H3Event) -> Iterator[str]:
            yield "x"

        async def asynchronous(event: H3Event) -> AsyncIterator[str]:
            yield "x"

        class Object:
            def __call__(self, event: H3Event) -> Iterator[str]:
                yield "x"

        for generator in (plain, asynchronous, Object(), functools.partial(plain)):
            with pytest.raises(TypeError, match=r"is a generator; register it with app\.sse\('/x'\)"):
                H3App().get("/x", generator)  # type: ignore[type-var]

    def test_sse_takes_nothing_but_a_generator(self) -> None:
        async def handler(event: H3Event) -> None: ...

        with pytest.raises(TypeError, match=r"handler yields nothing; register it with app\.get\(\)"):
            H3App().sse("/")(handler)  # type: ignore[type-var]

    def test_sse_checks_what_the_generator_takes(self) -> None:
        def items() -> Iterator[str]:
            yield "x"

        with pytest.raises(TypeError, match="a generator must take the H3Event; items"):
            H3App().sse("/")(items)  # type: ignore[type-var]

    @pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
    def test_sse_takes_no_negative_time(self, seconds: float) -> None:
        def items(event: H3Event) -> Iterator[str]:
            yield "x"

        with pytest.raises(ValueError, match="commit_after must be seconds, 0 or more"):
            H3App().sse("/", commit_after=seconds)(items)

    def test_a_bad_pattern(self) -> None:
        with pytest.raises(ValueError, match="begins with '/'"):
            H3App().get("hello", hello)

    @pytest.mark.parametrize("name", ["on_request", "on_response"])
    def test_a_hook_that_takes_no_event(self, name: str) -> None:
        with pytest.raises(TypeError, match="a hook must take the H3Event; <lambda>"):
            getattr(H3App(), name)(lambda: None)

    def test_an_error_hook_that_takes_no_exception(self) -> None:
        with pytest.raises(TypeError, match="a hook must take the H3Event and the exception; <lambda>"):
            H3App().on_error(lambda event: None)  # type: ignore[type-var]

    @pytest.mark.parametrize("name", ["on_request", "on_response", "on_error"])
    def test_a_hook_that_cannot_be_called(self, name: str) -> None:
        with pytest.raises(TypeError, match="a hook is a callable that takes"):
            getattr(H3App(), name)(None)

    @pytest.mark.parametrize("name", ["on_request", "on_response", "on_error"])
    def test_a_hook_that_yields(self, name: str) -> None:
        async def hook(*args: Any) -> AsyncIterator[None]:
            yield

        with pytest.raises(TypeError, match="hook is a generator, whose body would never run"):
            getattr(H3App(), name)(hook)


# Hooks


async def test_hooks_run_around_the_handler_in_the_order_of_registration(adapter: str) -> None:
    app, order = H3App(), list[str]()

    @app.on_request
    def first(event: H3Event) -> None:
        order.append("request 1")

    @app.on_response
    async def third(event: H3Event) -> None:
        order.append("response 1")

    @app.on_request
    async def second(event: H3Event) -> None:
        order.append("request 2")

    @app.on_response
    def fourth(event: H3Event) -> None:
        order.append("response 2")

    @app.get("/")
    def handler(event: H3Event) -> None:
        order.append("handler")
        event.send_text("x")

    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (200, "x")
    assert order == ["request 1", "request 2", "handler", "response 1", "response 2"]


async def test_a_hooks_decorator_returns_the_hook() -> None:
    app = H3App()
    assert app.on_request(hello) is hello
    assert app.on_response(hello) is hello


async def test_a_request_hook_sees_requests_that_no_route_takes(adapter: str) -> None:
    app, seen = H3App(), list[str]()
    app.on_request(lambda event: seen.append(event.path))
    async with open_client(adapter, app) as client:
        assert (await told(client, "/nowhere"))[0] == 404
    assert seen == ["/nowhere"]


async def test_a_hook_shares_the_context_with_the_handler(adapter: str) -> None:
    app = H3App()

    @app.on_request
    async def hook(event: H3Event) -> None:
        event.context["user"] = "Ann"

    @app.get("/")
    def handler(event: H3Event) -> None:
        event.send_text(event.context["user"])

    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (200, "Ann")


async def test_a_hook_that_reads_the_body_leaves_it_for_the_handler(adapter: str) -> None:
    app = H3App()

    @app.on_request
    async def hook(event: H3Event) -> None:
        event.context["size"] = len(await event.read_body())

    @app.post("/")
    async def handler(event: H3Event) -> None:
        event.send_json([event.context["size"], await event.read_json()])

    async with open_client(adapter, app) as client:
        reply = await client.request("POST", "/", body=b'{"a":1}')
        assert await reply.read() == b'[7,{"a":1}]'


async def test_a_request_hook_that_answers_takes_the_handlers_place(adapter: str) -> None:
    app, ran = H3App(), list[str]()

    @app.on_request
    def guard(event: H3Event) -> None:
        if "authorization" not in event.headers:
            event.send_error(401)

    @app.on_response
    def finish(event: H3Event) -> None:
        event.set_header("X-Seen", "yes")

    @app.get("/")
    def handler(event: H3Event) -> None:
        ran.append("handler")
        event.send_text("in")

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/")
        assert (reply.status, await reply.read()) == (401, b"Unauthorized")
        assert reply.headers["x-seen"] == "yes"
        assert not ran
        reply = await client.request("GET", "/", headers={"Authorization": "x"})
        assert (reply.status, await reply.read()) == (200, b"in")


async def test_a_later_hook_runs_though_an_earlier_one_has_answered_and_cannot_answer_again(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, raised = H3App(), list[str]()

    @app.on_request
    def first(event: H3Event) -> None:
        event.send_text("first")

    @app.on_request
    def second(event: H3Event) -> None:
        with pytest.raises(ResponseAlreadySent):
            event.send_text("second")
        raised.append("second")

    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (200, "first")
    assert raised == ["second"]


async def test_a_failing_request_hook_is_a_500_and_the_handler_does_not_run(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, ran = H3App(), list[str]()

    @app.on_request
    def hook(event: H3Event) -> None:
        raise RuntimeError("secret")

    @app.get("/")
    def handler(event: H3Event) -> None:
        ran.append("handler")

    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (500, "Internal Server Error")
    assert not ran
    assert "RuntimeError: secret" in caplog.text


async def test_a_request_hook_may_refuse_with_a_request_error(adapter: str) -> None:
    app = H3App()

    @app.on_request
    async def hook(event: H3Event) -> None:
        raise RequestError("a name is missing")

    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (400, "Bad Request: a name is missing")


def app_with_every_outcome() -> H3App:
    app = H3App()
    app.get("/plain", hello)

    @app.get("/stream")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(one_event)

    @app.get("/500")
    def fail(event: H3Event) -> None:
        raise RuntimeError("secret")

    @app.get("/nothing")
    def nothing(event: H3Event) -> None: ...

    return app


async def one_event(writer: SSEWriter) -> None:
    await writer.send_event("x")


@pytest.mark.parametrize("hook_is_async", [False, True])
@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/plain", "GET", 200),
        ("/plain", "HEAD", 200),
        ("/plain", "POST", 405),
        ("/nowhere", "GET", 404),
        ("/500", "GET", 500),
        ("/nothing", "GET", 500),
        ("/stream", "GET", 200),
        ("/stream", "HEAD", 200),
    ],
)
async def test_a_response_hook_sets_headers_whatever_the_response(
    adapter: str, hook_is_async: bool, target: str, method: str, status: int
) -> None:
    app, calls = app_with_every_outcome(), list[str]()

    def hook(event: H3Event) -> None:
        calls.append(event.path)
        event.set_header("X-Served-By", "h3ref")

    async def async_hook(event: H3Event) -> None:
        hook(event)

    app.on_response(async_hook if hook_is_async else hook)
    async with open_client(adapter, app) as client:
        reply = await client.request(method, target)
        assert reply.status == status
        assert reply.headers["x-served-by"] == "h3ref"
        await reply.read()
        assert reply.end is End.PROPER
    assert calls == [target]


async def test_a_response_hook_may_replace_a_streams_default_header(adapter: str) -> None:
    app = app_with_every_outcome()
    app.on_response(lambda event: event.set_header("cache-control", "no-store"))
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/stream")
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-type"] == "text/event-stream"
        assert await reply.read() == b"data: x\n\n"


async def test_a_failing_response_hook_is_logged_and_changes_no_plain_answer(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with_every_outcome()

    @app.on_response
    def failing(event: H3Event) -> None:
        raise RuntimeError("secret")

    @app.on_response
    def later(event: H3Event) -> None:
        event.set_header("X-Later", "yes")

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/plain")
        assert (reply.status, await reply.read()) == (200, b"hello")
        assert reply.headers["x-later"] == "yes"
    assert "hook failing raised" in caplog.text


async def test_a_response_hook_that_fails_on_a_stream_is_a_real_500(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with_every_outcome()

    @app.on_response
    async def failing(event: H3Event) -> None:
        raise RuntimeError("secret")

    async with open_client(adapter, app) as client:
        assert await told(client, "/stream") == (500, "Internal Server Error")
    assert "RuntimeError: secret" in caplog.text


async def test_a_response_hook_cannot_answer_in_place_of_the_answer(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with_every_outcome()
    app.on_response(lambda event: event.send_text("mine"))
    async with open_client(adapter, app) as client:
        assert await told(client, "/plain") == (200, "hello")
    assert "ResponseAlreadySent" in caplog.text


async def test_a_response_hook_cannot_change_the_status(adapter: str, caplog: pytest.LogCaptureFixture) -> None:
    app = app_with_every_outcome()
    app.on_response(lambda event: event.set_status(201))
    async with open_client(adapter, app) as client:
        assert await told(client, "/plain") == (200, "hello")
    assert "its status stays 200" in caplog.text


@pytest.mark.parametrize("hook_is_async", [False, True])
async def test_an_error_hook_gets_the_event_and_the_exception(adapter: str, hook_is_async: bool) -> None:
    app, seen = app_with_every_outcome(), list[str]()

    def hook(event: H3Event, error: Exception) -> None:
        seen.append(f"{event.path} {error!r}")

    async def async_hook(event: H3Event, error: Exception) -> None:
        hook(event, error)

    app.on_error(async_hook if hook_is_async else hook)
    async with open_client(adapter, app) as client:
        assert await told(client, "/500") == (500, "Internal Server Error")
        assert await told(client, "/plain") == (200, "hello")
        assert (await told(client, "/nowhere"))[0] == 404
    assert seen == ["/500 RuntimeError('secret')"]


async def test_an_error_hook_may_answer(adapter: str) -> None:
    app = app_with_every_outcome()

    @app.on_error
    async def hook(event: H3Event, error: Exception) -> None:
        event.set_status(502)
        event.send_json({"error": type(error).__name__})

    async with open_client(adapter, app) as client:
        assert await told(client, "/500") == (502, '{"error":"RuntimeError"}')
        assert await told(client, "/nothing") == (502, '{"error":"Unanswered"}')


async def test_error_hooks_run_in_order_and_the_first_answer_stands(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, order = app_with_every_outcome(), list[str]()

    @app.on_error
    def first(event: H3Event, error: Exception) -> None:
        order.append("first")
        event.send_error(503, "first")

    @app.on_error
    async def second(event: H3Event, error: Exception) -> None:
        order.append("second")
        event.send_error(504, "second")

    async with open_client(adapter, app) as client:
        assert await told(client, "/500") == (503, "first")
    assert order == ["first", "second"]
    assert "hook second raised" in caplog.text


async def test_a_failing_error_hook_leaves_the_500(adapter: str, caplog: pytest.LogCaptureFixture) -> None:
    app = app_with_every_outcome()

    @app.on_error
    def hook(event: H3Event, error: Exception) -> None:
        raise ValueError("the hook's own")

    async with open_client(adapter, app) as client:
        assert await told(client, "/500") == (500, "Internal Server Error")
    assert "ValueError: the hook's own" in caplog.text
    assert "RuntimeError: secret" in caplog.text


async def test_an_error_hook_hears_of_a_failing_request_hook(adapter: str) -> None:
    app = H3App()

    @app.on_request
    def request(event: H3Event) -> None:
        raise KeyError("k")

    @app.on_error
    def error(event: H3Event, error: Exception) -> None:
        event.send_error(500, repr(error))

    async with open_client(adapter, app) as client:
        assert await told(client, "/") == (500, "KeyError('k')")


async def test_an_error_hook_hears_of_a_failing_stream_callback(adapter: str) -> None:
    app, seen = H3App(), list[str]()

    @app.get("/")
    def stream(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(fail)

    async def fail(writer: SSEWriter) -> None:
        await writer.send_event("x")
        raise RuntimeError("late")

    @app.on_error
    def error(event: H3Event, error: Exception) -> None:
        seen.append(repr(error))

    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/")
        assert (reply.status, await reply.read()) == (200, b"data: x\n\n")
        assert reply.end is End.CUT
    assert seen == ["RuntimeError('late')"]


async def test_a_response_hook_sees_what_an_error_hook_answered(adapter: str) -> None:
    app = app_with_every_outcome()
    app.on_error(lambda event, error: event.send_error(503, "later"))
    app.on_response(lambda event: event.set_header("X-Served-By", "h3ref"))
    async with open_client(adapter, app) as client:
        reply = await client.request("GET", "/500")
        assert (reply.status, await reply.read()) == (503, b"later")
        assert reply.headers["x-served-by"] == "h3ref"


async def test_hooks_run_under_the_broken_flow_as_well(adapter: str, caplog: pytest.LogCaptureFixture) -> None:
    app, order = app_with_every_outcome(), list[str]()
    app.on_request(lambda event: order.append("request"))
    app.on_response(lambda event: order.append("response"))
    app.on_error(lambda event, error: order.append("error"))
    with caplog.at_level(logging.CRITICAL, "h3ref"):
        async with open_client(adapter, app, flow=flows.broken) as client:
            assert await told(client, "/plain") == (200, "hello")
            assert (await told(client, "/500"))[0] == 500
    assert order == ["request", "response", "request", "error", "response"]


def test_a_handler_that_is_none_by_mistake_is_refused() -> None:
    with pytest.raises(TypeError, match="a handler is a callable that takes the H3Event, not None"):
        H3App().get("/", None)  # type: ignore[call-overload]


async def test_a_response_hook_runs_once_though_another_failed(adapter: str) -> None:
    app, calls = H3App(), list[str]()

    @app.on_response
    async def first(event: H3Event) -> None:
        calls.append("first")

    @app.on_response
    async def second(event: H3Event) -> None:
        calls.append("second")
        raise RuntimeError("no headers today")

    @app.sse("/stream")
    async def stream(event: H3Event) -> Any:
        yield "1"

    async with open_client(adapter, app) as client:
        assert (await client.request("GET", "/stream")).status == 500
    assert calls == ["first", "second"]
