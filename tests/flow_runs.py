"""Whole exchanges in memory, on the virtual clock: each scenario's steps, log and answer; also with another flows.py.

    outcome = run(SCENARIOS["callback"])
    outcome = run(SCENARIOS["callback"], flows_from(source))

`mutants` yields the source of flows.py with one statement deleted, or with two neighbouring statements swapped.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio

from h3ref import H3App, H3Event, SSEWriter, flows
from h3ref.adapters.memory import MemoryConnection, MemoryServer, Reply, open_memory
from h3ref.blocking import BlockingSSEWriter
from h3ref.connection import End, StreamHead
from h3ref.errors import ConnectionLost, ConnectionNotReady, WriteError
from h3ref.lab.recorder import Recorder, Recording
from h3ref.testing import VirtualLoop
from h3ref.trace import Record

PATIENCE = 60.0
"""Virtual seconds of silence after which a client leaves."""

Client = Callable[["MemoryServer", str], Any]


@dataclass(frozen=True)
class Scenario:
    """One exchange.

    Attributes:
        about: what happens, as a phrase.
        handler: answers `GET /events`.
        flow: the name of the flow that the server is given.
        method: of the request.
        client: what the client does; it reads to the end, or until its patience is at an end, if left out.
        head_takes: virtual seconds that the stream's head is on its way.
        head_fails: whether it can't be sent after that.
    """

    about: str
    handler: Callable[[H3Event], Any]
    flow: str = "by_handler"
    method: str = "GET"
    client: Client | None = None
    head_takes: float = 0.0
    head_fails: bool = False


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        recording: the steps.
        told: the steps and the lines of the log, in one order.
        status: what the client got; 0 for nothing.
        body: the same.
        end: how the body ended; None if the client left.
    """

    recording: Recording = field(default_factory=Recording)
    told: list[str] = field(default_factory=list)
    status: int = 0
    body: bytes = b""
    end: End | None = None

    @property
    def steps(self) -> list[str]:
        """The steps, each with what its trigger did."""
        return [in_words(record) for record in self.recording]


def in_words(record: Record) -> str:
    """A step without its time, as one line."""
    why = f" ({record.reason})" if record.reason else ""
    rejected = f", rejected: {record.error} {record.rule}" if record.error else ""
    return f"{record.step}: {record.before} -> {record.after}{why}{rejected}"


# -- handlers


async def tick(writer: SSEWriter) -> None:
    await writer.send_event("1")
    await anyio.sleep(1)
    await writer.send_event("2")


async def stumble(writer: SSEWriter) -> None:
    await writer.send_event("1")
    raise RuntimeError("the callback raised")


async def keep_alive(writer: SSEWriter) -> None:
    await writer.send_keep_alive()
    await writer.send_event("1")


async def endless(writer: SSEWriter) -> None:
    while True:
        await writer.send_event("1")
        await anyio.sleep(1)


def calls(stream: Callable[[SSEWriter], Any]) -> Callable[[H3Event], None]:
    """A handler that sets a callback."""

    def handler(event: H3Event) -> None:
        event.start_sse()
        event.set_stream_callback(stream)

    return handler


async def awaits(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await tick(writer)


async def awaits_and_raises(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await stumble(writer)


async def is_early(event: H3Event) -> None:
    """Beside who awaits the writer, another task takes it while the head is on its way."""

    async def early() -> None:
        await anyio.sleep(0.5)
        with suppress(ConnectionLost):
            await event.get_sse_writer().send_event("1")

    event.start_sse()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(early)
        async with await event.await_sse_writer() as writer:
            await writer.send_event("2")


def blocks(event: H3Event) -> None:
    with event.start_sse_blocking() as writer:
        assert isinstance(writer, BlockingSSEWriter)
        writer.send_event("1")
        writer.send_event("2")


def asks_too_early(event: H3Event) -> None:
    event.start_sse()
    for _ in range(10):
        with suppress(ConnectionNotReady):
            event.get_sse_writer()


def asks_then_calls(event: H3Event) -> None:
    asks_too_early(event)
    event.set_stream_callback(tick)


def answers(event: H3Event) -> None:
    event.send_text("hello")


def says_nothing(event: H3Event) -> None: ...


def raises(event: H3Event) -> None:
    raise RuntimeError("the handler raised")


class Over:
    """What streams no more."""

    is_over = True

    async def stream(self, writer: SSEWriter) -> None:
        raise AssertionError("nobody calls it")


def starts(event: H3Event) -> None:
    event.start_sse()


def starts_and_raises(event: H3Event) -> None:
    event.start_sse()
    raise RuntimeError("the handler raised")


async def starts_and_waits(event: H3Event) -> None:
    event.start_sse()
    await anyio.sleep_forever()


def forgets_to_start(event: H3Event) -> None:
    event.set_stream_callback(tick)


# -- clients


async def leaves_after_an_event(server: MemoryServer, method: str) -> Reply:
    reply = await server.request(method, "/events")
    await reply.receive()
    reply.disconnect()
    return reply


async def is_there_when_the_server_ends(server: MemoryServer, method: str) -> Reply:
    reply = await server.request(method, "/events")
    await reply.receive()
    for exchange in list(server.service.live):
        exchange.shut_down()
    return reply


async def waits_when_the_server_ends(server: MemoryServer, method: str) -> Reply:
    replies: list[Reply] = []

    async def request() -> None:
        replies.append(await server.request(method, "/events"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await anyio.sleep(1)
        for exchange in list(server.service.live):
            exchange.shut_down()
    return replies[0]


SCENARIOS: dict[str, Scenario] = {
    "callback": Scenario("a stream by a callback comes to its ordinary end", calls(tick)),
    "awaited": Scenario("a stream by a handler that awaits its writer comes to its ordinary end", awaits),
    "blocking": Scenario("a stream by a handler that blocks its thread comes to its ordinary end", blocks),
    "broken": Scenario(
        "H3Z's order: nobody takes the writer, and the client leaves in the end", asks_too_early, "broken"
    ),
    "keep-alive": Scenario("a comment keeps the connection alive before the event", calls(keep_alive)),
    "too early, then a callback": Scenario(
        "a handler asks too early, and its callback gets the writer", asks_then_calls
    ),
    "plain": Scenario("a plain answer", answers),
    "plain, broken": Scenario("a plain answer in H3Z's order", answers, "broken"),
    "early": Scenario("an event is sent while the head is on its way, and goes behind it", is_early, head_takes=1),
    "early, and the head fails": Scenario(
        "an event is sent while the head is on its way, which can't be sent", is_early, head_takes=1, head_fails=True
    ),
    "early, head": Scenario(
        "an event is sent while the head is on its way, for HEAD, and never leaves",
        is_early,
        method="HEAD",
        head_takes=1,
    ),
    "head": Scenario("HEAD on a route that streams by a callback", calls(tick), method="HEAD"),
    "head, awaited": Scenario("HEAD on a route whose handler awaits its writer", awaits, method="HEAD"),
    "head, blocking": Scenario("HEAD on a route whose handler blocks its thread", blocks, method="HEAD"),
    "silence": Scenario("a handler returns and has sent nothing", says_nothing),
    "silence, broken": Scenario("a handler in H3Z's order returns and has sent nothing", says_nothing, "broken"),
    "nobody writes": Scenario("a handler starts a stream, and nobody will write", starts),
    "over": Scenario("a handler sets a callback of what is over", calls(Over().stream)),
    "never started": Scenario("a handler sets a callback without start_sse", forgets_to_start),
    "handler raises": Scenario("a handler raises before it has sent anything", raises),
    "handler raises after start_sse": Scenario("a handler raises after start_sse", starts_and_raises),
    "callback raises": Scenario("a callback raises after an event", calls(stumble)),
    "awaited raises": Scenario("a handler raises while it streams", awaits_and_raises),
    "client leaves": Scenario("the client leaves while events flow", calls(endless), client=leaves_after_an_event),
    "server ends": Scenario("the server ends while events flow", calls(endless), client=is_there_when_the_server_ends),
    "server ends before the headers": Scenario(
        "the server ends before the headers", starts_and_waits, client=waits_when_the_server_ends
    ),
}


# -- runs


def flows_from(source: str | ast.Module) -> ModuleType:
    """The module h3ref.flows from another source; the real one stays as it is."""
    module = ModuleType("h3ref.flows")
    module.__package__ = "h3ref"
    exec(compile(source, "<flows>", "exec"), vars(module))
    return module


@contextmanager
def heads(*, take: float = 0.0, fail: bool = False) -> Iterator[None]:
    """Let the heads of streams in memory take their time, and fail after it."""
    original = MemoryConnection.send_headers

    async def slowly(connection: MemoryConnection, head: StreamHead) -> int:
        await anyio.sleep(take)
        if fail:
            raise WriteError("the head can't be sent")
        return await original(connection, head)

    MemoryConnection.send_headers = slowly  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        MemoryConnection.send_headers = original  # type: ignore[method-assign]


def run(scenario: Scenario, module: ModuleType = flows) -> Outcome:
    """Run a scenario with the flows of a module, and return what came of it."""
    outcome = Outcome()
    app = H3App()
    app.get("/events", scenario.handler)
    app.on("HEAD", "/events", scenario.handler)

    async def main() -> None:
        recorder = Recorder()

        def listener(record: Record) -> None:
            recorder(record)
            outcome.told.append(in_words(record))

        async with open_memory(app, flow=getattr(module, scenario.flow), trace=listener) as server:
            with anyio.move_on_after(PATIENCE):
                reply = await (scenario.client or _asks)(server, scenario.method)
                outcome.status = reply.status
                try:
                    while chunk := await reply.receive():
                        outcome.body += chunk
                finally:
                    outcome.end = reply.end
                    reply.disconnect()
            outcome.recording = recorder.recording
        outcome.recording = recorder.recording

    is_slow = scenario.head_takes or scenario.head_fails
    with (
        _log_into(outcome.told),
        heads(take=scenario.head_takes, fail=scenario.head_fails) if is_slow else nullcontext(),
    ):
        anyio.run(main, backend_options={"loop_factory": VirtualLoop})
    return outcome


async def _asks(server: MemoryServer, method: str) -> Reply:
    return await server.request(method, "/events")


class _log_into:
    """Collect the package's log meanwhile."""

    def __init__(self, lines: list[str]) -> None:
        self._handler = logging.Handler()
        self._handler.emit = lambda record: lines.append(  # type: ignore[method-assign]
            f"{record.levelname.lower()}: {record.getMessage()}"
        )
        self._logger = logging.getLogger("h3ref")

    def __enter__(self) -> None:
        self._before = self._logger.level, self._logger.propagate
        self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.DEBUG)
        self._logger.propagate = False

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]


# -- mutants

SOURCE = Path(flows.__file__).read_text(encoding="utf-8")
FLOWS = ("by_handler", "callback", "awaited", "blocking", "broken")


@dataclass(frozen=True)
class Mutant:
    """flows.py with one change.

    Attributes:
        flow: the flow that is changed.
        change: what is changed, in words.
        tree: the changed source.
    """

    flow: str
    change: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.flow}: {self.change}"

    @property
    def source(self) -> str:
        """The changed source, without its comments."""
        return ast.unparse(self.tree)


def mutants(source: str = SOURCE) -> Iterator[Mutant]:
    """Every flow with each statement deleted, and with each two neighbouring statements swapped."""
    for flow in FLOWS:
        for number, body in enumerate(_bodies(ast.parse(source), flow)):
            first = 1 if number == 0 else 0  # the docstring
            for place in range(first, len(body)):
                yield _changed(source, flow, number, place, f"without {_words(body[place])}", _delete)
            for place in range(first, len(body) - 1):
                change = f"{_words(body[place + 1])} before {_words(body[place])}"
                yield _changed(source, flow, number, place, change, _swap)


def _bodies(tree: ast.Module, flow: str) -> list[list[ast.stmt]]:
    """The function's own statements, then those of each block in it."""
    function = next(node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == flow)
    return [function.body, *(node.body for node in ast.walk(function) if isinstance(node, ast.If))]


def _changed(
    source: str, flow: str, number: int, place: int, change: str, edit: Callable[[list[ast.stmt], int], None]
) -> Mutant:
    tree = ast.parse(source)
    edit(_bodies(tree, flow)[number], place)
    return Mutant(flow, change, ast.fix_missing_locations(tree))


def _delete(body: list[ast.stmt], place: int) -> None:
    body[place] = ast.Pass()


def _swap(body: list[ast.stmt], place: int) -> None:
    body[place : place + 2] = reversed(body[place : place + 2])


def _words(statement: ast.stmt) -> str:
    text = ast.unparse(statement).splitlines()[0]
    return f"`{text}`"


def timeless(record: Record) -> Record:
    """The record without what may differ from run to run."""
    return replace(record, time=0.0)
