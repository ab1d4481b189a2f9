"""Every step of every way in raises every error it can: the first is the answer, it is told, and nothing stays open.

What the client is told is what spec/lifecycle.json says: its cell for `fail` in the state that the recording names has
an answer, or the stream is cut. One server answers all cases of a way in, with room for one stream, so that a slot that
were lost would show at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import h11
import pytest

from h3ref import BlockingSSEWriter, H3App, H3Error, H3Event, Lifecycle, Limits, SSEWriter, TooManyStreams
from h3ref._core.exchange import Exchange
from h3ref._core.service import Service
from h3ref.adapters.asgi import EventSourceResponse
from h3ref.adapters.asgi.response import _service
from h3ref.connection import End
from h3ref.errors import RequestError, WriteError
from h3ref.lab.check import check, load_rules
from h3ref.lab.recorder import Recorder, Recording
from tests.clients import ClientLike, open_client, server_of
from tests.conftest import LOOPS, OTHERS
from tests.waits import until

pytestmark = pytest.mark.anyio

RULES = load_rules()
SPEC = json.loads((Path(__file__).resolve().parents[1] / "spec" / "lifecycle.json").read_text(encoding="utf-8"))
ON_FAIL: dict[str, dict[str, int]] = {
    cell["state"]: cell.get("answer", {}) for cell in SPEC["cells"] if cell["trigger"] == "fail"
}
"""State to the status that `fail` answers with there, by reason; nothing where the stream is cut."""

PATIENCE = Limits().close_timeout
"""Seconds that an exchange has to be over in."""


class NotYou(H3Error):
    """An answer of the user's own."""

    status = 403


def rejection() -> Exception:
    """The rejection of another connection, which says nothing of this one."""
    try:
        Lifecycle().trigger("send_event")
    except H3Error as error:
        return error
    raise AssertionError("it is rejected")


ERRORS: dict[str, Callable[[], Exception]] = {
    "another library's": lambda: RuntimeError("the fault"),
    "a status of its own": lambda: NotYou("the fault"),
    "no room": lambda: TooManyStreams("the fault"),
    "a bad request": lambda: RequestError("the fault"),
    "a write error": lambda: WriteError("the fault"),
    "of the system": lambda: OSError("the fault"),
    "a rejection": rejection,
    "several": lambda: ExceptionGroup("the fault", [ValueError(), NotYou("one of them")]),
}
BY_USERS = tuple(ERRORS)
BY_ADAPTERS = ("another library's", "a write error", "of the system")
ELSEWHERE = "cancelled elsewhere"
"""On asyncio: what is awaited was cancelled, and who awaits it was not."""

OPENING: dict[str, tuple[str, ...]] = {
    "watch": BY_ADAPTERS,
    "create_connection": BY_ADAPTERS,
    "response hook": (*BY_USERS, ELSEWHERE),
    "response hook on a thread": BY_USERS,
    "send_headers": BY_ADAPTERS,
    "after the head": BY_ADAPTERS,
}
STREAMING: dict[str, tuple[str, ...]] = {
    "write_chunk": BY_ADAPTERS,
    "flush": BY_ADAPTERS,
    "after an event": BY_USERS,
    "close": BY_ADAPTERS,
    "cut": BY_ADAPTERS,
    "error hook": BY_USERS,
}
FIRST: dict[str, tuple[str, ...]] = {"request hook": (*BY_USERS, ELSEWHERE), "handler": BY_USERS}

STEPS = {**FIRST, **OPENING, **STREAMING}


@dataclass
class Plan:
    """The fault that is due.

    Attributes:
        step: where it is raised.
        error: what is.
    """

    step: str = ""
    error: Exception | None = None

    def at(self, *steps: str) -> None:
        """Raise the fault, if it is due here."""
        if self.step in steps and self.error is not None:
            raise self.error

    async def at_await(self, step: str) -> None:
        """The same, of a step that may await what was cancelled."""
        if self.step == step and self.error is None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        self.at(step)


def inject(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    """Have the methods of every adapter raise what the plan says."""
    patched: set[type] = set()
    original = Service.begin
    create_connection = Exchange._create_connection

    def patch(kind: type, name: str, *, is_async: bool = False, after: str = "", step: str = "") -> None:
        method = getattr(kind, name)

        def call(self: Any, *args: Any) -> Any:
            plan.at(step or name)
            return method(self, *args)

        async def call_async(self: Any, *args: Any) -> Any:
            plan.at(step or name)
            result = await method(self, *args)
            if after:
                plan.at(after)
            return result

        monkeypatch.setattr(kind, name, call_async if is_async else call)

    def patch_end(kind: Any) -> None:
        end_now = kind.end_now

        def call(self: Any, *, cut: bool) -> Any:
            plan.at("cut" if cut else "close")
            return end_now(self, cut=cut)

        monkeypatch.setattr(kind, "end_now", call)

    def begin(service: Service, transport: Any, *args: Any) -> Exchange:
        if type(transport) not in patched:
            patched.add(type(transport))
            patch(type(transport), "watch")
            patch(type(transport), "create_connection")
        return original(service, transport, *args)

    def create(exchange: Exchange) -> Any:
        connection = create_connection(exchange)
        if type(connection) not in patched:
            patched.add(type(connection))
            patch(type(connection), "write_chunk")
            if hasattr(connection, "direct"):  # what leaves by it is written as well
                patch(type(connection), "send_now", step="write_chunk")
            patch(type(connection), "send_headers", is_async=True, after="after the head")
            for name in ("flush", "close", "cut"):
                patch(type(connection), name, is_async=True)
            if hasattr(connection, "end_now"):  # which does what they do
                patch_end(type(connection))
        return connection

    monkeypatch.setattr(Service, "begin", begin)
    monkeypatch.setattr(Exchange, "_create_connection", create)


class Ways:
    """An app with each way in, whose user code raises what the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told: list[Exception] = []
        self.entered = self.left = 0  # generators
        self.go_on = threading.Event()
        self.app = H3App()
        self.app.on_request(self.request_hook)
        self.app.on_response(self.response_hook)
        self.app.on_response(self.response_hook_on_a_thread)
        self.app.on_error(self.error_hook)
        for way in (self.callback, self.callback_on_a_thread, self.awaited, self.swallowed):
            self.app.get(f"/{way.__name__}", way)
        for on_thread in (self.blocking, self.blocking_swallowed):
            self.app.get(f"/{on_thread.__name__}", on_thread)
        self.app.sse("/generated")(self.generated)
        self.app.sse("/generated_on_a_thread")(self.generated_on_a_thread)
        self.app.sse("/late", commit_after=0)(self.late)
        self.app.sse("/late_on_a_thread", commit_after=0)(self.late_on_a_thread)

    # -- hooks

    async def request_hook(self, event: H3Event) -> None:
        await self.plan.at_await("request hook")

    async def response_hook(self, event: H3Event) -> None:
        if event.state == "sse_started":
            await self.plan.at_await("response hook")

    def response_hook_on_a_thread(self, event: H3Event) -> None:
        if event.state == "sse_started":
            self.plan.at("response hook on a thread")

    async def error_hook(self, event: H3Event, error: Exception) -> None:
        self.told.append(error)
        self.plan.at("error hook")

    # -- what streams

    async def stream(self, writer: SSEWriter) -> None:
        await writer.send_event("1")
        await writer.flush()
        self.after_an_event()

    def stream_on_a_thread(self, writer: BlockingSSEWriter) -> None:
        writer.send_event("1")
        writer.flush()
        self.after_an_event()

    def after_an_event(self) -> None:
        self.plan.at("after an event")
        if self.plan.step in ("cut", "error hook"):
            raise KeyError("the first fault")

    # -- the ways in

    async def callback(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.stream)
        self.plan.at("handler")

    async def callback_on_a_thread(self, event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(self.stream_on_a_thread)
        self.plan.at("handler")

    async def awaited(self, event: H3Event) -> None:
        event.start_sse()
        self.plan.at("handler")
        async with await event.await_sse_writer() as writer:
            await self.stream(writer)

    async def swallowed(self, event: H3Event) -> None:
        event.start_sse()
        for _ in range(3):
            with suppress(Exception):
                await event.await_sse_writer()

    def blocking(self, event: H3Event) -> None:
        self.plan.at("handler")
        with event.start_sse_blocking() as writer:
            self.stream_on_a_thread(writer)

    def blocking_swallowed(self, event: H3Event) -> None:
        for _ in range(3):
            with suppress(Exception):
                event.start_sse_blocking()

    async def generated(self, event: H3Event) -> AsyncIterator[str]:
        with self.counted():
            self.plan.at("handler")
            yield "1"
            self.after_an_event()

    def generated_on_a_thread(self, event: H3Event) -> Iterator[str]:
        with self.counted():
            self.plan.at("handler")
            yield "1"
            self.after_an_event()

    async def late(self, event: H3Event) -> AsyncIterator[str]:
        with self.counted():
            await anyio.sleep_forever()
            yield "never"

    def late_on_a_thread(self, event: H3Event) -> Iterator[str]:
        with self.counted():
            assert self.go_on.wait(30)
            yield "never"

    def counted(self) -> Any:
        ways = self

        class Counted:
            def __enter__(self) -> None:
                ways.entered += 1

            def __exit__(self, *_: object) -> None:
                ways.left += 1

        return Counted()


WITH_FIRST = {**FIRST, **OPENING, **STREAMING}
UNFLUSHED = {step: errors for step, errors in WITH_FIRST.items() if step != "flush"}
TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "callback": WITH_FIRST,
    "callback_on_a_thread": WITH_FIRST,
    "awaited": WITH_FIRST,
    "swallowed": OPENING,
    "blocking": WITH_FIRST,
    "blocking_swallowed": {step: errors for step, errors in OPENING.items() if step != "watch"},
    "generated": UNFLUSHED,
    "generated_on_a_thread": UNFLUSHED,
    "late": OPENING,
    "late_on_a_thread": OPENING,
}
"""Way in to the steps that may raise in it, and each step to what it may raise."""

PLACES = [("memory", "asyncio"), ("h11_anyio", "trio"), ("asgi-hypercorn", "asyncio")]
"""Every adapter on one event loop, and each of these on an adapter; the rest is slow."""


@pytest.mark.parametrize(
    ("adapter", "anyio_backend"),
    [
        pytest.param(name, loop, id=f"{name}-{loop}", marks=[] if (name, loop) in PLACES else pytest.mark.slow)
        for name in OTHERS
        for loop in LOOPS
    ],
    indirect=True,
)
@pytest.mark.parametrize("way", TABLE)
async def test_the_first_error_is_the_answer_and_nothing_is_left_open(
    adapter: str,
    anyio_backend: Any,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "h3ref")
    plan = Plan()
    inject(monkeypatch, plan)
    ways = Ways(plan)
    recorder = Recorder()
    wrong: list[str] = []
    async with open_client(adapter, ways.app, trace=recorder, limits=Limits(streams=1)) as client:
        for number, (step, name) in enumerate(cases(way, anyio_backend), start=1):
            ways.go_on.clear()
            plan.step, plan.error = step, None if name == ELSEWHERE else ERRORS[name]()
            caplog.clear()
            ways.told.clear()
            with anyio.fail_after(PATIENCE):
                status, body, end = await ask(client, f"/{way}")
                await until_all_is_over(client, ways)
            case = Case(step, name, plan.error, recorder.recording.of(number))
            wrong += [f"{step}, {name}: {what}" for what in case.wrong(status, body, end, told(caplog), ways.told)]
        plan.step = ""
        with anyio.fail_after(PATIENCE):
            assert await ask(client, "/generated") == (200, b"data: 1\n\n", End.PROPER)
    assert not wrong, "\n".join(wrong)


def cases(way: str, loop: str) -> Iterator[tuple[str, str]]:
    for step, names in TABLE[way].items():
        for name in names:
            if name != ELSEWHERE or loop == "asyncio":
                yield step, name


async def ask(client: ClientLike, path: str) -> tuple[int, bytes, End | None]:
    """Status, body and end of the answer; 0 where there is none."""
    try:
        reply = await client.request("GET", path)
        return reply.status, await reply.read(), reply.end
    except (AssertionError, h11.RemoteProtocolError, anyio.BrokenResourceError):
        return 0, b"", End.CUT


async def until_all_is_over(client: ClientLike, ways: Ways) -> None:
    service = server_of(client).service
    await until(lambda: not service.live)
    assert len(service.streams) == 0
    ways.go_on.set()  # a thread learns at its next item that nobody waits for it
    await until(lambda: not service.threads.busy and ways.entered == ways.left)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the exchange, each with its traceback."""
    formatter = logging.Formatter("%(message)s")
    told = [record for record in caplog.records if record.name in ("h3ref.exchange", "h3ref.stream")]
    return [formatter.format(record) for record in sorted(told, key=lambda record: record.levelno == logging.WARNING)]


@dataclass
class Case:
    """One fault, and the steps of the exchange that met it.

    Attributes:
        error: what was raised; None for a cancellation that was somebody else's.
    """

    step: str
    name: str
    error: Exception | None
    recording: Recording

    def wrong(self, status: int, body: bytes, end: End | None, log: list[str], told: list[Exception]) -> Iterator[str]:
        """What is not as it has to be."""
        # Whose end fails has sent none: what ends then is the transport, which belongs to no exchange.
        violation = check(self.recording, whole=self.step not in ("close", "cut"), rules=RULES)
        if violation is not None:
            yield str(violation)
        closing = next((record for record in self.recording if record.after == "closed"), None)
        if closing is None:
            yield "it is not closed"
            return
        if self.step == "close":  # all was sent: only the end of the connection fails
            if (closing.reason, status, end) != ("complete", 200, End.CUT):
                yield f"{closing.reason}, {status} {end}"
            if len(log) != 1 or "could not be ended: the fault" not in log[0]:
                yield f"logged {log}"
            return
        if closing.reason != "error":
            yield f"closed for {closing.reason}"
        answer = ON_FAIL[closing.before].get("error")
        wanted = self.status if answer else 0 if self.step == "send_headers" else 200
        if status != wanted and not (wanted == 0 and status == 500):  # hypercorn answers where there is nothing
            yield f"the status is {status}, not {wanted}"
        if not answer and status == 200 and (end is not End.CUT or body not in (b"", b"data: 1\n\n")):
            yield f"the stream is {body!r}, and its end {end}"
        first = "the first fault" if self.step in ("cut", "error hook") else self.text
        if not log or first not in log[0]:
            yield f"the log says first {log[0] if log else 'nothing'!r}, not {first!r}"
        if len(told) != 1 or first not in str(told[0]):
            yield f"on_error was told {told}"

    @property
    def status(self) -> int:
        return self.error.status if isinstance(self.error, H3Error) else 500

    @property
    def text(self) -> str:
        if self.error is None:
            return "cancelled"
        return str(self.error) if self.name == "a rejection" else "the fault"


# -- EventSourceResponse: what fails is raised to the framework, and later than the head it cuts the stream as well


class Contents:
    """What an endpoint may return, each raising its fault where the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.entered = self.left = 0
        self.go_on = threading.Event()

    async def generator(self) -> AsyncIterator[str]:
        self.entered += 1
        try:
            self.plan.at("at once")
            yield "1"
            self.plan.at("after an event")
        finally:
            self.left += 1

    def on_a_thread(self) -> Iterator[str]:
        self.entered += 1
        try:
            self.plan.at("at once")
            yield "1"
            self.plan.at("after an event")
        finally:
            self.left += 1

    async def late(self) -> AsyncIterator[str]:
        self.entered += 1
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            self.left += 1

    def late_on_a_thread(self) -> Iterator[str]:
        self.entered += 1
        try:
            assert self.go_on.wait(30)
            yield "never"
        finally:
            self.left += 1

    async def callback(self, writer: SSEWriter) -> None:
        self.entered += 1
        try:
            await writer.send_event("1")
            await writer.flush()
            self.plan.at("after an event")
        finally:
            self.left += 1

    def callback_on_a_thread(self, writer: BlockingSSEWriter) -> None:
        self.entered += 1
        try:
            with writer:
                writer.send_event("1")
                writer.flush()
                self.plan.at("after an event")
        finally:
            self.left += 1

    def of(self, kind: str) -> Any:
        content = getattr(self, kind)
        return content if "callback" in kind else content()


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("generator", ("at once", "head", "after an event", "event")),
        ("on_a_thread", ("at once", "head", "after an event", "event")),
        ("late", ("head",)),
        ("late_on_a_thread", ("head",)),
        ("callback", ("after an event", "event")),
        ("callback_on_a_thread", ("after an event", "event")),
    ],
)
async def test_a_response_tells_the_framework_the_first_error(
    kind: str, steps: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan()
    for step in steps:
        for name in BY_USERS if step in ("at once", "after an event") else BY_ADAPTERS:
            contents = Contents(plan)
            plan.step, plan.error = step, ERRORS[name]()
            caplog.clear()
            with anyio.fail_after(PATIENCE):
                raised, sent = await respond(contents, kind, plan)
            where = f"{step}, {name}: {raised!r} {sent}"
            gone = step == "event" or (step == "head" and name == "of the system")  # the client has left
            if gone:
                assert raised is None, where
            elif step == "head":
                assert isinstance(raised, WriteError), where
                assert raised.__cause__ is plan.error, where
            elif step == "at once" and name == "no room":
                assert getattr(raised, "status_code", 0) == 503, where
            else:
                assert raised is plan.error, where
            if step in ("at once", "head"):
                assert not sent, where
            else:
                assert sent[-1].get("more_body", True), f"{where}: it ends as if all was well"
            assert contents.left == contents.entered <= 1, where  # a thread may be left alone before it begins


async def respond(contents: Contents, kind: str, plan: Plan) -> tuple[BaseException | None, list[Any]]:
    """Have a response answer; return what it raised, and what the server has taken."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        plan.at("head" if message["type"] == "http.response.start" else "event" if message["body"] else "")
        sent.append(message)

    async def receive() -> Any:
        await anyio.sleep_forever()

    response = EventSourceResponse(contents.of(kind), commit_after=0 if "late" in kind else 60)
    raised = None
    try:
        await response({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    except Exception as error:
        raised = error
    service = _service()
    assert not service.live
    assert len(service.streams) == 0
    contents.go_on.set()  # a thread learns at its next item that nobody waits for it
    await until(lambda: not service.threads.busy)
    return raised, sent
