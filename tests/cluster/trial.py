"""A trial: servers, processes that share a channel by them, publishers and readers; judged by the oracle at its end.

What stands for a process here is an engine with its channel and its streams, several of which share this process: the
faults are between them and the server. `tests.cluster.process` has real ones.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import httpx2
from anyio.abc import TaskGroup

from h3ref import Channel, EventSource, EventStreamParser, H3App, H3Event, MessageEvent, SSEEvent
from h3ref.adapters.memory import MemoryServer, Reply, open_memory
from h3ref.channel.options import Newcomers
from h3ref.engine import EngineRefused, EngineUnavailable, EngineUncertain
from h3ref.redis import RedisEngine
from tests.waits import runs_on_asyncio

from .oracle import GAP, Publisher, Sight, Told, violations
from .process import ServerProcess, server_process
from .proxy import Proxy, proxy_to
from .servers import HOST, Kind, Servers

TALLY: Final = "H3REF_CLUSTER_TALLY"
"""The environment variable that names a file; each trial adds its figures there, as a line of JSON."""

MANY: Final = "H3REF_CLUSTER_CHANNELS"
"""The environment variable that says how many channels are cut off at once, where that is tested."""

PATIENCE: Final = 60.0
"""Real seconds that a trial waits for anything."""

GAP_EVENT: Final = "gap"


class Reader(Sight):
    """A client that reads a stream, and notes what comes.

    Attributes:
        ids: the id that each event of `seen`, gaps included, left as the last event ID.
        times: when each of them came, by the event loop's clock.
    """

    def __init__(self, name: str, owed_from: dict[str, int]) -> None:
        super().__init__(name, owed_from=owed_from)
        self.ids: list[str] = []
        self.times: list[float] = []
        self._reply: Reply | None = None
        self._changed = anyio.Event()

    @property
    def last_event_id(self) -> str:
        """What it would come back with."""
        return self.ids[-1] if self.ids else ""

    async def read(self, reply: Reply) -> None:
        """Read a stream to its end."""
        self._reply = reply
        parser = EventStreamParser()
        while data := await reply.receive():
            self._note(parser.feed(data))

    async def read_from(self, port: int) -> None:
        """Read a stream by HTTP, for as long as this is not cancelled: come back whatever ends it."""
        source = EventSource(
            f"http://{HOST}:{port}/events",
            reconnect=True,
            patient=True,
            reconnection_time=0.05,
            max_reconnection_time=0.2,
            retry_statuses=(500, 503),
        )
        async with source:
            async for message in source:
                self._note([message])

    def _note(self, messages: list[MessageEvent]) -> None:
        for message in messages:
            self.seen.append(GAP if message.type == GAP_EVENT else message.data)
            self.ids.append(message.last_event_id)
            self.times.append(anyio.current_time())
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so that it has seen."""
        with anyio.move_on_after(PATIENCE):
            while not condition():
                await self._changed.wait()
        assert condition(), f"it does not come: {self.name} has seen {len(self.seen)}, at last {self.seen[-20:]}"

    async def until_seen(self, data: str) -> None:
        """Wait until it has seen an event."""
        await self.until(lambda: data in self.seen)

    async def until_more(self, number: int) -> None:
        """Wait until it has seen so many more."""
        wanted = len(self.seen) + number
        await self.until(lambda: len(self.seen) >= wanted)

    def leave(self) -> None:
        """Leave, as a client that closes its socket."""
        assert self._reply is not None, "it reads"
        self._reply.disconnect()


class Node:
    """What stands for a process: an engine, a channel by it, and a server of streams.

    Attributes:
        channel: its own; its gaps are events of the type "gap".
    """

    def __init__(self, trial: Trial, channel: Channel, server: MemoryServer, target: str) -> None:
        self.channel = channel
        self._server = server
        self._trial = trial
        self._target = target

    @property
    def connected(self) -> bool:
        """Whether it has its engine's server."""
        return bool(self.channel.stats().connected)

    async def reader(self, last_event_id: str = "", *, connected: bool = True) -> Reader:
        """Open a stream: what is published from now on is owed to it.

        Args:
            last_event_id: what its client comes with.
            connected: whether to wait until the channel is connected.
        """
        reader, before = Reader(f"reader {len(self._trial.readers)}", {}), len(self.channel)
        self._trial.readers.append(reader)
        if connected:
            await until(lambda: self.connected)
        await self.attach(reader, last_event_id)
        if connected:
            await until(lambda: len(self.channel) > before)
        reader.owed_from.update(self._trial.begun())
        return reader

    async def request(self, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask for a stream of the channel."""
        return await self._server.request("GET", self._target, headers=headers)

    async def attach(self, reader: Reader, last_event_id: str) -> None:
        """Let a reader read here from now on: a new one, or one that comes back."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        reply = await self.request(headers)
        assert reply.status == 200
        self._trial.tasks.start_soon(reader.read, reply)

    def publisher(self, name: str) -> Voice:
        """Somebody who publishes here."""

        async def send(data: str) -> None:
            await self.channel.publish(SSEEvent(data))

        return self._trial.publisher(name, send)


class Voice(Publisher):
    """A publisher that notes what it is told.

    Attributes:
        longest: seconds that a publish took at most.
    """

    def __init__(self, name: str, send: Callable[[str], Awaitable[None]]) -> None:
        super().__init__(name)
        self.longest = 0.0
        self._send = send
        self._number = 0

    async def publish(self, times: int = 1) -> Told:
        """Publish events, and return what was said of the last one."""
        for _ in range(times):
            self._number += 1
            data = f"{self.name}-{self._number}"
            self.told[data] = Told.UNCERTAIN  # for now
            began = anyio.current_time()
            try:
                await self._send(data)
                self.told[data] = Told.ACKNOWLEDGED
            except EngineUncertain:
                pass
            except (EngineUnavailable, EngineRefused):
                self.told[data] = Told.REFUSED
            self.longest = max(self.longest, anyio.current_time() - began)
        return self.told[self.last]

    @property
    def last(self) -> str:
        """The event that it published last."""
        return f"{self.name}-{self._number}"


class Trial:
    """One trial.

    Attributes:
        servers: what it may start.
        tasks: a task group, for what runs beside.
        readers, voices: what is judged at the end.
    """

    def __init__(self, servers: Servers, tasks: TaskGroup, stack: AsyncExitStack) -> None:
        self.servers = servers
        self.tasks = tasks
        self.readers: list[Reader] = []
        self.voices: list[Voice] = []
        self._stack = stack

    async def node(self, url: str = "", *, history: int = 1000, newcomers: Newcomers = "live", **options: Any) -> Node:
        """What stands for a process that uses the server at a URL; options are the engine's."""
        engine = RedisEngine(*([url] if url else []), **({"timeout": 1.0, "patience": 15.0} | options))
        await self._enter(engine)
        return await self.node_of(Channel(history, name="news", engine=engine, gap=GAP_EVENT, newcomers=newcomers))

    async def _enter(self, engine: RedisEngine) -> None:
        """Enter it, however little patience it has with a server that stands still for a while."""
        end = anyio.current_time() + PATIENCE
        while True:
            try:
                await self._stack.enter_async_context(engine)
            except EngineUnavailable:
                assert anyio.current_time() < end, "its server does not come"
            else:
                return

    async def node_of(self, channel: Channel) -> Node:
        """What stands for a process that has this channel."""
        return (await self.nodes_of([channel]))[0]

    async def nodes_of(self, channels: Sequence[Channel]) -> list[Node]:
        """What stands for one process that has these channels, for each of them."""
        app = H3App()

        @app.get("/events/:number")
        def events(event: H3Event) -> None:
            event.start_sse()
            event.set_stream_callback(channels[int(event.params["number"])].stream)

        server = await self._stack.enter_async_context(open_memory(app))
        return [Node(self, channel, server, f"/events/{number}") for number, channel in enumerate(channels)]

    async def proxy(self, port: int) -> Proxy:
        """A proxy to a port of this machine."""
        return await self._stack.enter_async_context(proxy_to(port))

    def publisher(self, name: str, send: Callable[[str], Awaitable[None]]) -> Voice:
        """Somebody who publishes in some way."""
        voice = Voice(name, send)
        self.voices.append(voice)
        return voice

    async def process(self, url: str) -> ServerProcess:
        """A process of its own that serves the channel by the server at a URL."""
        loop = "asyncio" if runs_on_asyncio() else "trio"
        return await self._stack.enter_async_context(server_process(loop, url))

    async def publisher_at(self, name: str, port: int) -> Voice:
        """Somebody who publishes by HTTP at a port; what is not answered with 200 may be published, or not."""
        client = await self._stack.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE))

        async def send(data: str) -> None:
            try:
                reply = await client.post(f"http://{HOST}:{port}/publish", json=[data])
            except httpx2.HTTPError as error:
                raise EngineUncertain("there was no answer") from error
            if reply.status_code != 200:
                raise EngineUncertain(f"the answer was {reply.status_code}")

        return self.publisher(name, send)

    def reader_at(self, port: int) -> Reader:
        """A client that reads by HTTP at a port. It may come a bit later: the test says what is owed to it."""
        reader = Reader(f"reader {len(self.readers)}", self.begun())
        self.readers.append(reader)
        self.tasks.start_soon(reader.read_from, port)
        return reader

    def begun(self) -> dict[str, int]:
        """How many events each publisher has begun to publish."""
        return {voice.name: len(voice.told) for voice in self.voices}

    @asynccontextmanager
    async def publishing(self, *voices: Voice, pause: float = 0.002) -> AsyncIterator[None]:
        """Let publishers publish one event after another meanwhile; then each until an event is acknowledged."""
        over = anyio.Event()

        async def run(voice: Voice) -> None:
            while not over.is_set():
                await voice.publish()
                await anyio.sleep(pause)
            await self.finish(voice)

        async with anyio.create_task_group() as running:
            for voice in voices:
                running.start_soon(run, voice)
            try:
                yield
            finally:
                over.set()

    async def finish(self, voice: Voice) -> None:
        """Let a publisher publish until an event is acknowledged: the last one, for which readers wait."""
        end = anyio.current_time() + PATIENCE
        while await voice.publish() is not Told.ACKNOWLEDGED:
            assert anyio.current_time() < end, "nothing can be published"
            await anyio.sleep(0.05)

    async def judge(self) -> None:
        """Wait until all readers have seen all publishers' last events, and see that everything holds.

        Raises:
            AssertionError: something is lost unseen, doubled, made up or reordered.
        """
        for voice in self.voices:
            if voice.told.get(voice.last) is not Told.ACKNOWLEDGED:
                await self.finish(voice)
        for reader in self.readers:
            for voice in self.voices:
                if len(voice.told) > reader.owed_from.get(voice.name, 0):
                    await reader.until_seen(voice.last)
        found = violations(self.voices, self.readers)
        assert not found, "\n".join(found[:20])

    def tally(self, name: str) -> dict[str, Any]:
        """Its figures."""
        told = [verdict for voice in self.voices for verdict in voice.told.values()]
        return {
            "name": name,
            "server": self.servers.kind,
            "published": len(told),
            "acknowledged": told.count(Told.ACKNOWLEDGED),
            "delivered": sum(len(reader.events) for reader in self.readers),
            "gaps": sum(reader.gaps for reader in self.readers),
            "longest": max((voice.longest for voice in self.voices), default=0.0),
        }


Row: TypeAlias = Callable[[Trial], Awaitable[None]]


@asynccontextmanager
async def open_trial(kind: Kind) -> AsyncIterator[Trial]:
    """A trial with servers of one kind, all of which are gone at its end."""
    with Servers(kind) as servers:
        async with anyio.create_task_group() as tasks:
            async with AsyncExitStack() as stack:
                yield Trial(servers, tasks, stack)
            tasks.cancel_scope.cancel()


def in_trial(row: Row) -> Callable[[Kind], Awaitable[None]]:
    """Make a test of a function that takes a trial: it runs on each kind of server, and is judged at its end."""

    @functools.wraps(row)
    async def test(server_kind: Kind) -> None:
        async with open_trial(server_kind) as trial:
            await row(trial)
            await trial.judge()
            if TALLY in os.environ:
                with Path(os.environ[TALLY]).open("a") as file:  # noqa: ASYNC230
                    file.write(json.dumps(trial.tally(row.__name__)) + "\n")

    del test.__wrapped__  # pytest asks it for its arguments
    return test


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so that no task tells of: looked at every 2 ms."""
    end = anyio.current_time() + PATIENCE
    while not condition():
        assert anyio.current_time() < end, "it does not come"
        await anyio.sleep(0.002)
