"""Handler, peer and shutdown in every order that chance finds: each run is one that the specification allows.

A run is three scripts, played on the memory adapter and the virtual clock: what the handler and its callback do, when
the peer leaves, when the server ends. What happened is recorded and held against spec/lifecycle.json, to its end.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from h3ref import H3App, H3Error, H3Event, SSEEvent, SSEWriter, flows
from h3ref.adapters.memory import MemoryServer, Reply, open_memory
from h3ref.connection import End
from h3ref.lab.check import check, load_rules
from h3ref.lab.recorder import Recorder
from h3ref.testing import virtual_backends
from tests.flow_runs import heads

RULES = load_rules()

IN_HANDLER = (
    "start_sse", "set_stream_callback", "await_sse_writer", "get_sse_writer", "send_text", "send_error", "raise",
    "sleep", "nap", "send_event", "close", "read_body", "forgive",
)  # fmt: skip
IN_CALLBACK = (
    "send_event",
    "send_nowait",
    "send_keep_alive",
    "flush",
    "close",
    "raise",
    "sleep",
    "nap",
    "bulk",
    "spawn",
)
BESIDE = ("nap", "sleep", "get_sse_writer", "await_sse_writer", "send_event", "send_nowait", "flush", "close")
TIMES = st.sampled_from((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0))


@dataclass(frozen=True)
class Script:
    """Who does what, and when; seconds are virtual.

    Attributes:
        beside: what a second task of the handler's does.
        head: how long the stream's head is on its way.
        fails: whether it can't be sent then.
    """

    method: str
    flow: str
    handler: tuple[str, ...]
    callback: tuple[str, ...]
    beside: tuple[str, ...]
    head: float
    fails: bool
    reads: bool
    leaves: float | None
    ends: float


SCRIPTS = st.builds(
    Script,
    method=st.sampled_from(("GET", "GET", "GET", "HEAD", "POST")),
    flow=st.sampled_from(("by_handler", "by_handler", "by_handler", "broken")),
    handler=st.lists(st.sampled_from(IN_HANDLER), max_size=5).map(tuple)
    | st.lists(st.sampled_from(IN_HANDLER), max_size=3).map(lambda more: ("start_sse", "set_stream_callback", *more))
    | st.lists(st.sampled_from(IN_CALLBACK[:-2]), max_size=4).map(
        lambda more: ("start_sse", "await_sse_writer", *more)
    ),
    callback=st.lists(st.sampled_from(IN_CALLBACK), max_size=5).map(tuple),
    beside=st.just(())
    | st.lists(st.sampled_from(BESIDE), max_size=5).map(tuple)
    | st.lists(st.sampled_from(BESIDE), max_size=3).map(lambda more: ("sleep", "get_sse_writer", *more)),
    head=st.sampled_from((0.0, 0.0, 1.5, 4.0)),
    fails=st.sampled_from((False, False, False, True)),
    reads=st.booleans(),
    leaves=st.none() | TIMES,
    ends=TIMES.map(lambda seconds: seconds + 0.25) | st.just(20.0),
)


class Scripted(Exception):
    """A failure that the script asked for."""


class Play:
    """An app whose one handler plays a script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls = self.told = self.cancelled = self.cleaned = 0
        self.app = H3App()
        self.app.on(script.method, "/play", self.handler)

    async def handler(self, event: H3Event) -> None:
        if not self.script.beside:
            await self.alone(event)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.beside, event)
            await self.alone(event)

    async def beside(self, event: H3Event) -> None:
        writer: SSEWriter | None = None
        for step in self.script.beside:
            with suppress(H3Error):
                match step:
                    case "get_sse_writer":
                        writer = event.get_sse_writer()
                    case "await_sse_writer":
                        writer = await event.await_sse_writer()
                    case _:
                        await self.act(step, writer)

    async def alone(self, event: H3Event) -> None:
        writer: SSEWriter | None = None
        forgiving = False
        for step in self.script.handler:
            try:
                match step:
                    case "start_sse":
                        event.start_sse()
                    case "set_stream_callback":
                        event.set_stream_callback(self.callback)
                    case "await_sse_writer":
                        writer = await event.await_sse_writer()
                    case "get_sse_writer":
                        event.get_sse_writer()
                    case "send_text":
                        event.send_text("plain")
                    case "send_error":
                        event.send_error(404)
                    case "read_body":
                        await event.read_body()
                    case "forgive":
                        forgiving = True
                    case _:
                        await self.act(step, writer)
            except Scripted:
                raise
            except Exception:
                if not forgiving:
                    raise

    async def callback(self, writer: SSEWriter) -> None:
        self.calls += 1
        try:
            for step in self.script.callback:
                await self.act(step, writer)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            await anyio.sleep(0.25)
            self.cleaned += 1
            raise
        finally:
            self.told += 1

    async def act(self, step: str, writer: SSEWriter | None) -> None:
        match step:
            case "sleep":
                await anyio.sleep(1)
            case "nap":
                await anyio.lowlevel.checkpoint()
            case "raise":
                raise Scripted
            case _ if writer is None:
                return
            case "send_event":
                await writer.send_event(SSEEvent("data", id="1"))
            case "send_nowait":
                writer.send_nowait("data")
            case "send_keep_alive":
                await writer.send_keep_alive()
            case "bulk":
                for _ in range(20):
                    await writer.send_event("x" * 8192)
            case "flush":
                await writer.flush()
            case "close":
                await writer.close()
            case "spawn":
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(writer.send_event, "from another task")
                    tasks.start_soon(writer.close)


async def play(script: Script) -> tuple[Play, Recorder, list[Reply]]:
    """Run the script to its end, which the end of the server brings at the latest."""
    played, recorder = Play(script), Recorder()
    replies: list[Reply] = []
    flow = flows.broken if script.flow == "broken" else None

    async def peer(server: MemoryServer) -> None:
        with anyio.CancelScope() as staying:
            tasks.start_soon(leave, staying)
            reply = await server.request(script.method, "/play", body=b"body")
            replies.append(reply)
            if script.reads:
                await reply.read()
            await anyio.sleep_forever()

    async def leave(staying: anyio.CancelScope) -> None:
        if script.leaves is not None:
            await anyio.sleep(script.leaves)
            staying.cancel()
            for reply in replies:
                reply.disconnect()

    with heads(take=script.head, fail=script.fails), anyio.fail_after(1000):  # virtual: a run that hangs fails
        async with anyio.create_task_group() as tasks:
            async with open_memory(played.app, flow=flow, trace=recorder) as server:
                tasks.start_soon(peer, server)
                await anyio.sleep(script.ends)
            tasks.cancel_scope.cancel()
    return played, recorder, replies


@pytest.mark.parametrize("backend", virtual_backends(), ids=["asyncio", "trio"])
@settings(max_examples=300)
@given(script=SCRIPTS)
def test_every_run_is_one_that_the_specification_allows(backend: Any, script: Script) -> None:
    name, options = backend
    played, recorder, replies = anyio.run(play, script, backend=name, backend_options=options)
    recording = recorder.recording
    violation = check(recording, whole=True, rules=RULES)
    assert violation is None, f"{violation}\n{recording}"
    assert played.told == played.calls <= 1, "a callback is called once at most, and told its end as often"
    assert played.cancelled == played.cleaned, "what is cancelled has its time to clean up"
    for exchange in recording.exchanges:
        event(f"closed: {exchange[-1].reason}")
        opened = any(record.step == "headers" for record in exchange)
        if any(record.step == "get_sse_writer" and record.before == "headers_sent" for record in exchange):
            event("the writer was taken while the head was on its way")
        if played.calls:
            assert opened, "no callback is called before the headers have left"
    for reply in replies:
        if reply.is_connected:
            assert reply.end in (End.PROPER, End.CUT), "no client waits for ever"
        if not reply.status or script.method == "HEAD":
            assert not reply._chunks, "no body comes before its head, or without one"
