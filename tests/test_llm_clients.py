"""The servers of docs/how-to/llm-and-agent-servers.md, asked by the packages `openai`, `anthropic` and `mcp`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from types import ModuleType
from typing import Any

import anthropic
import anyio
import httpx2
import openai
import pytest
from mcp.server.mcpserver import Context

from h3ref import EventSource, MessageEvent
from tests.asgi_servers import on_uvicorn
from tests.logs import logs_kept
from tests.pages import ROOT, module_of
from tests.ports import free_port

PAGE = ROOT / "docs" / "how-to" / "llm-and-agent-servers.md"

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

MESSAGES: Any = [{"role": "user", "content": "hello there"}]
Take = Callable[[str], Awaitable[None]]


class Servers:
    """The page's modules, as they are served, and how often each server was asked."""

    def __init__(self) -> None:
        self.openai = module_of(PAGE, "openai_style.py")
        sys.modules["openai_style"] = self.openai  # the next one imports it
        try:
            self.anthropic = module_of(PAGE, "anthropic_style.py")
        finally:
            del sys.modules["openai_style"]
        self.gateway = module_of(PAGE, "gateway.py")
        self.asked = 0

    def generate(self, model: Any) -> None:
        """Put a model in the place of the page's."""
        for module in (self.openai, self.anthropic):
            vars(module)["generate"] = model

    @asynccontextmanager
    async def serving(self, dialect: str, way: str) -> AsyncIterator[str]:
        """Serve a dialect, directly or behind the gateway, and return the URL to ask."""
        module = {"openai": self.openai, "anthropic": self.anthropic}[dialect]
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(on_uvicorn(self._counted(module), bare=True))
            url = f"http://127.0.0.1:{upstream.port}"
            if way == "gateway":
                vars(self.gateway)["UPSTREAM"] = url
                gateway = await stack.enter_async_context(on_uvicorn(self.gateway.app, bare=True))
                url = f"http://127.0.0.1:{gateway.port}"
            yield url

    def _counted(self, module: ModuleType) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.asked += scope["type"] == "http"
            await module.app(scope, receive, send)

        return app


@pytest.fixture
def servers() -> Servers:
    return Servers()


async def ask_openai(url: str, take: Take, **options: Any) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", **options) as client:
        stream = await client.chat.completions.create(model="any", messages=MESSAGES, stream=True)
        async with stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    await take(chunk.choices[0].delta.content)


async def ask_anthropic(url: str, take: Take, **options: Any) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="none", **options) as client,
        client.messages.stream(model="any", max_tokens=10, messages=MESSAGES) as stream,
    ):
        async for text in stream.text_stream:
            await take(text)


ERRORS = (openai.OpenAIError, anthropic.AnthropicError, httpx2.TransportError)
ASK = {"openai": ask_openai, "anthropic": ask_anthropic}
DIALECTS = pytest.mark.parametrize("dialect", ASK)
WAYS = pytest.mark.parametrize("way", ["direct", "gateway"])


class Model:
    """A model that yields some words, and may then raise."""

    def __init__(self, *words: str, then: Exception | None = None) -> None:
        self._words = words
        self._then = then

    async def __call__(self, messages: Any) -> AsyncIterator[str]:
        for word in self._words:
            yield word
        if self._then is not None:
            raise self._then


def ends(servers: Servers) -> dict[str, Model]:
    """The answers that the page's table has, by its words for them."""
    failed = servers.openai.ModelFailed
    return {
        "refused with 529": Model(then=failed(529, "too many questions")),
        "refused with 400": Model(then=failed(400, "no such question")),
        "failed": Model("one ", then=failed(529, "too many questions")),
        "cut": Model("one ", then=ZeroDivisionError()),
        "complete": Model("one ", "two "),
    }


def cells() -> dict[str, dict[str, str]]:
    """What the page's table says, by dialect and answer."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    _, *dialects = (cell.strip(" `") for cell in lines[0].strip("|").split("|"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {dialect: {row[0]: row[place] for row in rows} for place, dialect in enumerate(dialects, start=1)}


ROWS = list(cells()["openai"])


def times(count: int) -> str:
    """How often, in the table's words."""
    return "once" if count == 1 else f"{count} times"


@WAYS
@DIALECTS
@pytest.mark.parametrize("answer", [row for row in ROWS if row.startswith(("refused", "failed", "cut"))])
async def test_a_client_is_told_how_an_answer_ends(servers: Servers, dialect: str, way: str, answer: str) -> None:
    servers.generate(ends(servers)[answer])
    taken: list[str] = []

    async def take(text: str) -> None:
        taken.append(text)

    async with servers.serving(dialect, way) as url:
        with pytest.raises(ERRORS) as caught:
            await ASK[dialect](url, take)
    assert cells()[dialect][answer] == f"asked {times(servers.asked)}, `{caught.typename}`"
    assert taken == ([] if "refused" in answer else ["one "])
    if answer != "cut":
        assert ("no such question" if answer.endswith("400") else "too many questions") in str(caught.value)
    if "refused" in answer:
        assert isinstance(caught.value, openai.APIStatusError | anthropic.APIStatusError)
        assert caught.value.status_code == int(answer[-3:])


@WAYS
@DIALECTS
async def test_an_answer_is_read_word_by_word(servers: Servers, dialect: str, way: str) -> None:
    taken: list[str] = []
    went_on = anyio.Event()

    async def generate(messages: Any) -> AsyncIterator[str]:
        yield "one "
        await went_on.wait()  # the client has the first word by then, or nobody ever goes on
        yield "two "

    async def take(text: str) -> None:
        taken.append(text)
        went_on.set()

    servers.generate(generate)
    async with servers.serving(dialect, way) as url:
        with anyio.fail_after(20):
            await ASK[dialect](url, take)
    assert taken == ["one ", "two "]
    assert servers.asked == 1


@DIALECTS
async def test_who_ends_properly_counts_as_complete(servers: Servers, dialect: str) -> None:
    """Why a stream that broke must not end properly."""
    module = {"openai": servers.openai, "anthropic": servers.anthropic}[dialect]
    name = {"openai": "chunks", "anthropic": "steps"}[dialect]
    whole = vars(module)[name]

    async def short(asked: Any) -> AsyncIterator[Any]:
        async with aclosing(whole(asked)) as events:
            async for event in events:
                if "[DONE]" not in event.data and "message_stop" not in event.data:
                    yield event

    vars(module)[name] = short
    servers.generate(Model("one ", "two "))
    await complete(servers, dialect, "ends properly, without its last event")


@DIALECTS
async def test_a_middleware_makes_a_broken_answer_look_complete(servers: Servers, dialect: str) -> None:
    module = {"openai": servers.openai, "anthropic": servers.anthropic}[dialect]

    @module.app.middleware("http")  # type: ignore[untyped-decorator]
    async def as_it_is(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    servers.generate(Model("one ", "two ", then=ZeroDivisionError()))
    await complete(servers, dialect, "ends properly, without its last event")


@DIALECTS
async def test_keep_alives_are_passed_over(servers: Servers, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"openai": servers.openai, "anthropic": servers.anthropic}[dialect]
    response, sent = module.EventSourceResponse, []

    def impatient(content: Any, **options: Any) -> Any:
        factory = options.pop("ping_message_factory", None)

        def ping() -> Any:
            sent.append(True)
            if len(sent) == 3:
                pinged.set()
            return factory() if factory else {"comment": "keep-alive"}

        return response(content, ping=0.02, ping_message_factory=ping, **options)

    async def generate(messages: Any) -> AsyncIterator[str]:
        yield "one "
        await pinged.wait()
        yield "two "

    pinged = anyio.Event()
    monkeypatch.setattr(module, "EventSourceResponse", impatient)
    servers.generate(generate)
    await complete(servers, dialect, "complete, with keep-alives")
    assert len(sent) >= 3


async def complete(servers: Servers, dialect: str, answer: str) -> None:
    """See that a client takes an answer for complete, as the page says."""
    taken: list[str] = []

    async def take(text: str) -> None:
        taken.append(text)

    async with servers.serving(dialect, "direct") as url:
        with anyio.fail_after(20):
            await ASK[dialect](url, take)
    assert taken == ["one ", "two "]
    assert cells()[dialect][answer] == f"asked {times(servers.asked)}, no error"


class Left(Exception):
    """The client has had enough."""


@WAYS
@DIALECTS
@pytest.mark.parametrize("when", ["before the first word", "after it"])
async def test_a_client_that_leaves_stops_the_model(servers: Servers, dialect: str, way: str, when: str) -> None:
    began, stopped = anyio.Event(), anyio.Event()

    async def generate(messages: Any) -> AsyncIterator[str]:
        began.set()
        try:
            if when != "before the first word":
                yield "one "
            await anyio.sleep_forever()
            yield "never"
        finally:
            stopped.set()

    async def leave(_: str) -> None:
        raise Left

    async def ask(url: str) -> None:
        with client, suppress(Left):
            await ASK[dialect](url, leave)

    servers.generate(generate)
    client = anyio.CancelScope()
    async with servers.serving(dialect, way) as url, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, url)
        with anyio.fail_after(20):
            await began.wait()
            if when == "before the first word":
                client.cancel()
            await stopped.wait()  # while all servers are still up
    assert servers.asked == 1


@DIALECTS
async def test_who_says_so_is_not_asked_again(servers: Servers, dialect: str) -> None:
    module = {"openai": servers.openai, "anthropic": servers.anthropic}[dialect]
    failed = servers.openai.ModelFailed

    @module.app.exception_handler(failed)  # type: ignore[untyped-decorator]
    async def refuse(request: Any, error: Any) -> Any:
        return module.JSONResponse(module.said(error), error.status, {"x-should-retry": "false"})

    async def take(text: str) -> None:
        raise AssertionError(text)

    servers.generate(Model(then=failed(529, "too many questions")))
    async with servers.serving(dialect, "gateway") as url:
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            await ASK[dialect](url, take)
    assert servers.asked == 1


async def test_the_gateway_says_when_nobody_is_behind_it(servers: Servers) -> None:
    async def take(text: str) -> None:
        raise AssertionError(text)

    vars(servers.gateway)["UPSTREAM"] = f"http://127.0.0.1:{free_port()}"
    async with on_uvicorn(servers.gateway.app, bare=True) as gateway:
        with pytest.raises(openai.InternalServerError, match="the upstream has not answered") as caught:
            await ask_openai(f"http://127.0.0.1:{gateway.port}", take, max_retries=0)
    assert caught.value.status_code == 502


async def test_the_gateway_passes_on_what_is_no_stream(servers: Servers) -> None:
    @servers.openai.app.post("/v1/embeddings")  # type: ignore[untyped-decorator]
    async def embeddings(request: dict[str, Any]) -> dict[str, Any]:
        return {"object": "list", "model": "any", "data": [], "usage": {"prompt_tokens": 1, "total_tokens": 1}}

    async with (
        servers.serving("openai", "gateway") as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client,
    ):
        assert (await client.embeddings.create(model="any", input="hi", encoding_format="float")).data == []
    assert servers.asked == 1


@asynccontextmanager
async def agent() -> AsyncIterator[str]:
    """Serve the page's agent with its tools."""
    with logs_kept():  # MCP's server sets up the root's log
        module = module_of(PAGE, "agent.py")
        async with on_uvicorn(module.app, bare=True) as server:
            url = f"http://127.0.0.1:{server.port}"
            vars(module)["TOOLS"] = f"{url}/mcp/"
            yield f"{url}/agent"


async def read(url: str, to: int) -> list[MessageEvent]:
    async with EventSource(url, method="POST", json={"to": to}) as source:
        return [message async for message in source]


async def test_an_agent_tells_how_far_its_tool_is() -> None:
    async with agent() as url:
        events = [(event.type, event.json()) for event in await read(url, 2)]
        assert events == [
            ("progress", {"done": 1, "total": 2}),
            ("progress", {"done": 2, "total": 2}),
            ("result", "counted to 2"),
        ]
        (error,) = await read(url, 1001)
        assert error.type == "error"
        assert "too far" in error.json()


async def test_who_leaves_an_agent_cancels_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    report, stopped = Context.report_progress, anyio.Event()

    async def report_and_wait(context: Context, done: float, total: float) -> None:
        try:
            await report(context, done, total)
            await anyio.sleep_forever()
        finally:
            stopped.set()

    monkeypatch.setattr(Context, "report_progress", report_and_wait)
    async with agent() as url:
        async with EventSource(url, method="POST", json={"to": 2}) as source:
            assert (await anext(source)).json() == {"done": 1, "total": 2}
        with anyio.fail_after(20):
            await stopped.wait()
