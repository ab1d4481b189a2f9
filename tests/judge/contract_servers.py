"""Servers with the contract's routes, in memory: one that is right, and others that are wrong in one thing."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import parse_qs

import anyio

from tests.judge.faulty import Faulty
from tests.judge.servers import Client

STREAM: Mapping[str, str] = {"Content-Type": "text/event-stream", "Connection": "close"}

FAULTY: list[Faulty] = []


def faulty(check: str, *related: str) -> Callable[[type[GoodContract]], type[GoodContract]]:
    """Add a server to the table."""

    def add(server: type[GoodContract]) -> type[GoodContract]:
        FAULTY.append(Faulty((server.__doc__ or "").rstrip("."), check, server, frozenset(related)))
        return server

    return add


class GoodContract:
    """Does what spec/formats.md asks for."""

    def __init__(self) -> None:
        self.opened = self.sent = 0
        self.gates: dict[str, anyio.Event] = {}
        self.ending = anyio.Event()
        self.began = anyio.current_time()

    async def answer(self, client: Client) -> None:
        """Answer a request; the connection is closed after it."""
        path, _, query = client.path.partition("?")
        found = {name: values[0] for name, values in parse_qs(query).items()}
        await getattr(self, path.removeprefix("/events/"))(client, found)

    # -- plain answers

    async def say(self, client: Client, text: str, status: str = "200 OK") -> None:
        """Answer plainly."""
        await client.head(status, {"Content-Length": str(len(text)), "Connection": "close"})
        await client.send(text.encode())

    async def ready(self, client: Client, query: dict[str, str]) -> None:
        """Say so."""
        await self.say(client, "ready")

    async def count(self, client: Client, query: dict[str, str]) -> None:
        """How many are open."""
        await self.say(client, str(self.opened))

    async def flooded(self, client: Client, query: dict[str, str]) -> None:
        """How much was sent."""
        await self.say(client, str(self.sent))

    async def release(self, client: Client, query: dict[str, str]) -> None:
        """Open a gate."""
        self.gate(query).set()
        await self.say(client, "released")

    async def early(self, client: Client, query: dict[str, str]) -> None:
        """Fail."""
        await self.say(client, "", "500 Internal Server Error")

    async def shutdown(self, client: Client, query: dict[str, str]) -> None:
        """End."""
        await self.say(client, "ending")
        self.ending.set()

    async def echo(self, client: Client, query: dict[str, str]) -> None:
        """One event of what the query says."""
        if any(end in query.get(name, "") for end in "\r\n" for name in ("event", "id", "header")):
            await self.say(client, "", "400 Bad Request")
            return
        await self.begin(client)
        lines = query.get("data", "").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        await client.chunk("".join(f"data: {line}\n" for line in lines).encode() + b"\n")
        await client.end()

    # -- streams

    async def begin(self, client: Client) -> None:
        """Send a stream's head."""
        await client.head("200 OK", {**STREAM, "Transfer-Encoding": "chunked"})

    async def event(self, client: Client, data: object, id: object = "") -> None:
        """Send an event."""
        await client.chunk((f"id: {id}\n" if id else "").encode() + f"data: {data}\n\n".encode())

    async def ticks(self, client: Client, query: dict[str, str]) -> None:
        """Three events."""
        await self.begin(client)
        for number in (1, 2, 3):
            await self.event(client, number, number)
        await client.end()

    async def first(self, client: Client, query: dict[str, str]) -> None:
        """One event, until the server ends."""
        await self.begin(client)
        await self.event(client, "first")
        await self.ending.wait()
        await client.end()

    async def gated(self, client: Client, query: dict[str, str]) -> None:
        """One event, and one that is waited for."""
        await self.begin(client)
        await self.event(client, "before")
        await self.gate(query).wait()
        await self.event(client, "after")
        await client.end()

    async def late(self, client: Client, query: dict[str, str]) -> None:
        """Two events, and a failure."""
        await self.begin(client)
        await self.event(client, 1)
        await self.event(client, 2)

    async def open(self, client: Client, query: dict[str, str]) -> None:
        """Until the client leaves."""
        await self.begin(client)
        self.opened += 1
        try:
            await self.event(client, "open")
            await client.left()
        finally:
            self.opened -= 1

    async def flood(self, client: Client, query: dict[str, str]) -> None:
        """As much as is taken."""
        await self.begin(client)
        self.sent = 0
        while True:
            await self.event(client, "x" * 65536)
            self.sent += 65536

    async def large(self, client: Client, query: dict[str, str]) -> None:
        """One large event."""
        await self.begin(client)
        await self.event(client, "x" * 1_000_000)
        await client.end()

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """An event that never ends."""
        await self.begin(client)
        self.opened += 1
        try:
            await client.chunk(b"data: ")
            while True:
                await client.chunk(b"x" * 65536)
        finally:
            self.opened -= 1

    async def log(self, client: Client, query: dict[str, str]) -> None:
        """A hundred events a second, since the server began."""
        await self.begin(client)
        number = int(client.headers.get("last-event-id", self.published()))
        while True:
            while number < self.published():
                number += 1
                await self.event(client, number, number)
            await anyio.sleep(0.01)

    async def quiet(self, client: Client, query: dict[str, str]) -> None:
        """A comment every second."""
        await self.begin(client)
        await self.event(client, "quiet")
        while True:
            await anyio.sleep(1)
            await client.chunk(b": keep-alive\n\n")

    async def busy(self, client: Client, query: dict[str, str]) -> None:
        """Events, four a second."""
        await self.begin(client)
        for number in range(10):
            await self.event(client, number)
            await anyio.sleep(0.25)
        await client.end()

    # -- what they share

    def gate(self, query: dict[str, str]) -> anyio.Event:
        """The gate of a key."""
        return self.gates.setdefault(query["key"], anyio.Event())

    def published(self) -> int:
        """The number of the last event in the log."""
        return int((anyio.current_time() - self.began) * 100) + 1


@faulty("C-40")
class Gathers(GoodContract):
    """Events are gathered, two at a time."""

    async def gated(self, client: Client, query: dict[str, str]) -> None:
        """Both at once."""
        await self.begin(client)
        await self.gate(query).wait()
        await client.chunk(b"data: before\n\ndata: after\n\n")
        await client.end()


@faulty("C-40")
class HoldsTheHead(GoodContract):
    """Not even the head comes before the end."""

    async def gated(self, client: Client, query: dict[str, str]) -> None:
        """All at once."""
        await self.gate(query).wait()
        await super().gated(client, query)


@faulty("C-40")
class NoFlush(GoodContract):
    """A compressor is not flushed."""

    async def gated(self, client: Client, query: dict[str, str]) -> None:
        """Compressed, for who takes it."""
        if "gzip" not in client.headers.get("accept-encoding", ""):
            await super().gated(client, query)
            return
        packed = zlib.compressobj(wbits=31)
        await client.head("200 OK", {**STREAM, "Transfer-Encoding": "chunked", "Content-Encoding": "gzip"})
        await client.chunk(packed.compress(b"data: before\n\n"))
        await self.gate(query).wait()
        await client.chunk(packed.compress(b"data: after\n\n") + packed.flush())
        await client.end()


@faulty("C-41", "C-58")
class NoWriter(GoodContract):
    """The handler asks for its writer too early."""

    async def first(self, client: Client, query: dict[str, str]) -> None:
        """The head, and then nothing."""
        await self.begin(client)
        await anyio.sleep_forever()


@faulty("C-41", "C-58")
class EndsEmpty(GoodContract):
    """The stream ends without its event."""

    async def first(self, client: Client, query: dict[str, str]) -> None:
        """The head, and then the end."""
        await self.begin(client)
        await client.end()


@faulty("C-42")
class EmptySuccess(GoodContract):
    """A failure before the first event is a 200 that ends."""

    async def early(self, client: Client, query: dict[str, str]) -> None:
        """Nothing tells of it."""
        await self.begin(client)
        await client.end()


@faulty("C-42")
class CutSuccess(GoodContract):
    """A failure before the first event is a 200 that is cut."""

    async def early(self, client: Client, query: dict[str, str]) -> None:
        """It tells of a failure, and not of which."""
        await self.begin(client)


@faulty("C-42")
class SilentSuccess(GoodContract):
    """A failure before the first event is a 200, and then silence."""

    async def early(self, client: Client, query: dict[str, str]) -> None:
        """Nothing tells of it."""
        await self.begin(client)
        await anyio.sleep_forever()


@faulty("C-43")
class LooksWhole(GoodContract):
    """A failure after two events gets the last chunk."""

    async def late(self, client: Client, query: dict[str, str]) -> None:
        """Nothing tells of it."""
        await super().late(client, query)
        await client.end()


@faulty("C-43")
class LeftOpen(GoodContract):
    """A failure after two events leaves the stream open."""

    async def late(self, client: Client, query: dict[str, str]) -> None:
        """Nothing tells of it."""
        await super().late(client, query)
        await anyio.sleep_forever()


@faulty("C-44")
class NeverEnds(GoodContract):
    """A stream that is complete has no end."""

    async def ticks(self, client: Client, query: dict[str, str]) -> None:
        """Three events."""
        await self.begin(client)
        for number in (1, 2, 3):
            await self.event(client, number, number)


@faulty("C-45")
class Blind(GoodContract):
    """A client that leaves is not noticed while nothing is sent."""

    async def open(self, client: Client, query: dict[str, str]) -> None:
        """Until the next event, which does not come."""
        await self.begin(client)
        self.opened += 1
        await self.event(client, "open")
        await anyio.sleep_forever()


@faulty("C-46")
class FeedsOn(GoodContract):
    """What a reader does not take is kept for it."""

    async def flood(self, client: Client, query: dict[str, str]) -> None:
        """It is taken for sent."""
        await self.begin(client)
        await self.event(client, "x")
        self.sent = 0
        while True:
            self.sent += 16 * 65536
            await anyio.sleep(0.01)


@faulty("C-47", "C-46")
class StopsForAll(GoodContract):
    """One who does not read stops all others."""

    def __init__(self) -> None:
        super().__init__()
        self.free = anyio.Lock()

    async def flood(self, client: Client, query: dict[str, str]) -> None:
        """Nobody else is answered meanwhile."""
        async with self.free:
            await super().flood(client, query)

    async def ready(self, client: Client, query: dict[str, str]) -> None:
        """Not while somebody stalls."""
        async with self.free:
            await super().ready(client, query)


@faulty("C-48")
class WritesPart(GoodContract):
    """Of a large event a buffer's size is written."""

    async def large(self, client: Client, query: dict[str, str]) -> None:
        """Only so much."""
        await self.begin(client)
        await self.event(client, "x" * 65536)
        await client.end()


@faulty("C-49")
class LosesSecond(GoodContract):
    """Of two requests that come together the second one is lost."""

    async def ready(self, client: Client, query: dict[str, str]) -> None:
        """Leave the connection open, and forget the rest."""
        if not client.rest:
            await super().ready(client, query)
            return
        await client.head("200 OK", {"Content-Length": "5"})
        await client.send(b"ready")
        await anyio.sleep_forever()


@faulty("C-49")
class MixesThemUp(GoodContract):
    """The answer to the next request stands in the stream."""

    async def ticks(self, client: Client, query: dict[str, str]) -> None:
        """Three events, and more."""
        await self.begin(client)
        for text in ("1", "2", "3", "ready")[: 4 if client.rest else 3]:
            await self.event(client, text)
        await client.end()


@faulty("C-51")
class OneByOne(GoodContract):
    """A request is read to its end before the next one is."""

    reads_one_by_one = True


@faulty("C-50")
class Hasty(GoodContract):
    """A request has to come in one piece."""

    async def ready(self, client: Client, query: dict[str, str]) -> None:
        """400 for all others."""
        if client.pieces > 1:
            await self.say(client, "", "400 Bad Request")
        else:
            await super().ready(client, query)


class Echoing(GoodContract):
    """Sends what it is given as it is."""

    raw = ""

    async def echo(self, client: Client, query: dict[str, str]) -> None:
        """One event of what the query says, as far as it is not looked at."""
        if self.raw not in query:
            await super().echo(client, query)
            return
        header = {"X-Echo": query["header"]} if self.raw == "header" else {}
        await client.head("200 OK", {**STREAM, "Transfer-Encoding": "chunked", **header})
        lines = "".join(f"{name}: {query[name]}\n" for name in ("event", "id") if name == self.raw)
        await client.chunk(f"{lines}data: {query.get('data', '')}\n\n".encode())
        await client.end()


@faulty("C-52")
class RawData(Echoing):
    """Data is sent as it is."""

    raw = "data"

    async def echo(self, client: Client, query: dict[str, str]) -> None:
        """As it is, where it stands alone."""
        if len(query) == 1:
            await super().echo(client, query)
        else:
            await GoodContract.echo(self, client, query)


@faulty("C-53")
class RawEvent(Echoing):
    """A type is sent as it is."""

    raw = "event"


@faulty("C-54")
class RawId(Echoing):
    """An id is sent as it is."""

    raw = "id"


@faulty("C-55")
class RawHeader(Echoing):
    """A header's value is sent as it is."""

    raw = "header"


@faulty("C-56")
class Gap(GoodContract):
    """Who comes back misses one."""

    async def log(self, client: Client, query: dict[str, str]) -> None:
        """One too late."""
        if last := client.headers.get("last-event-id"):
            client.headers["last-event-id"] = str(int(last) + 1)
        await super().log(client, query)


@faulty("C-56")
class Double(GoodContract):
    """Who comes back gets one again."""

    async def log(self, client: Client, query: dict[str, str]) -> None:
        """One too early."""
        if last := client.headers.get("last-event-id"):
            client.headers["last-event-id"] = str(int(last) - 1)
        await super().log(client, query)


@faulty("C-57")
class NoKeepAlive(GoodContract):
    """Nothing is sent in silence."""

    async def quiet(self, client: Client, query: dict[str, str]) -> None:
        """Nothing."""
        await self.begin(client)
        await self.event(client, "quiet")
        await anyio.sleep_forever()


@faulty("C-57")
class KeepAliveAlways(GoodContract):
    """Keep-alives come by the clock, whatever is sent."""

    async def busy(self, client: Client, query: dict[str, str]) -> None:
        """One after each event."""
        await self.begin(client)
        for number in range(10):
            await self.event(client, number)
            await client.chunk(b": keep-alive\n\n")
            await anyio.sleep(0.25)
        await client.end()


@faulty("C-58")
class CutsAll(GoodContract):
    """Streams are cut when the server ends."""

    async def first(self, client: Client, query: dict[str, str]) -> None:
        """Without the end."""
        await self.begin(client)
        await self.event(client, "first")
        await self.ending.wait()


@faulty("C-58")
class GoesOnForEver(GoodContract):
    """The server waits for its streams."""

    async def first(self, client: Client, query: dict[str, str]) -> None:
        """For ever."""
        await self.begin(client)
        await self.event(client, "first")
        await anyio.sleep_forever()


@faulty("C-59")
class WaitsForItsEnd(GoodContract):
    """An event is sent when it is whole."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """Never."""
        await self.begin(client)
        self.opened += 1
        await anyio.sleep_forever()


@faulty("C-59")
class KeepsTheRest(GoodContract):
    """Of an event's parts those behind a buffer's size are kept until it is whole."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """So much, and no more."""
        await self.begin(client)
        self.opened += 1
        await client.chunk(b"data: " + b"x" * 65536)
        await anyio.sleep_forever()


@faulty("C-59")
class SendsOnForNobody(GoodContract):
    """Who leaves in the middle of an event is not noticed: its writes are not looked at."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """For ever."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await super().endless(client, query)
        self.opened += 1
        await anyio.sleep_forever()


@faulty("C-59")
class EndsIt(GoodContract):
    """An event that is too long for it ends, and so does its stream, as if both were whole."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """Some of it, and the end."""
        await self.begin(client)
        await client.chunk(b"data: " + b"x" * 65536)
        await client.end()


@faulty("C-59")
class MakesTwoOfIt(GoodContract):
    """An event that is too long for it becomes several."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """One after the other."""
        await self.begin(client)
        self.opened += 1
        try:
            while True:
                await self.event(client, "x" * 65536)
        finally:
            self.opened -= 1


@faulty("C-59")
class HoldsAllUp(GoodContract):
    """Others wait for an event's end."""

    def __init__(self) -> None:
        super().__init__()
        self.free = anyio.Lock()

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """Nobody else is answered meanwhile."""
        async with self.free:
            await super().endless(client, query)

    async def ready(self, client: Client, query: dict[str, str]) -> None:
        """Not while an event is sent."""
        async with self.free:
            await super().ready(client, query)


class Refuses(GoodContract):
    """An event that is too large is refused."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """With a status."""
        await self.say(client, "", "500 Internal Server Error")


class Cuts(GoodContract):
    """An event that is too large is cut."""

    async def endless(self, client: Client, query: dict[str, str]) -> None:
        """Without the end."""
        await self.begin(client)
        await client.chunk(b"data: " + b"x" * 65536)


CORRECT = [GoodContract, Refuses, Cuts]
