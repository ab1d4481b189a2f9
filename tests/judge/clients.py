"""Clients for the judge to judge: a correct one, and others that differ from it by a few lines, each with one fault.

A fault is a subclass; `FAULTS` has each with the checks that are meant for it.
"""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Any
from urllib.parse import urljoin, urlsplit

import anyio
import anyio.abc
import anyio.lowlevel
import h11

from h3ref.judge.clients import Message, Take

PATIENCE, SILENCE = 3.0, 8.0
"""Seconds: a machine may stand still for a while without the impatient client being so where it is not meant to."""

REDIRECTS = (301, 302, 303, 307, 308)


class Correct:
    """Receives streams as WHATWG HTML, section 9.2, has it, written down from there once more."""

    encoding = "utf-8"
    errors = "replace"
    line_ends = "\r\n|\n|\r"
    redirects: tuple[int, ...] = REDIRECTS

    def __init__(self) -> None:
        self.retry = 0.02
        self.last_id = ""
        self.connections = 0

    async def run(self, url: str, take: Take) -> str:
        while await self.connect(url, take):
            await self.wait()
        return ""

    async def wait(self) -> None:
        await anyio.sleep(self.retry)

    # -- one connection

    async def connect(self, url: str, take: Take) -> bool:
        """Receive one stream; whether to come back."""
        parts = urlsplit(url)
        self.begin()
        async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as stream:
            connection = h11.Connection(h11.CLIENT)
            headers = [("Host", parts.netloc), *self.headers().items()]
            request = h11.Request(method="GET", target=parts.path, headers=headers)
            await stream.send((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
            try:
                answer = await self.next(stream, connection)
                if answer.status_code in self.redirects:
                    return await self.connect(urljoin(url, dict(answer.headers)[b"location"].decode()), take)
                if not self.is_stream(answer):
                    return self.comes_back_from(answer.status_code)
                await self.receive(stream, connection, take)
                for message in self.end():
                    await take(message)
            except (h11.RemoteProtocolError, anyio.BrokenResourceError):
                return self.comes_back_from_a_cut()
        return self.comes_back

    comes_back = True

    def comes_back_from_a_cut(self) -> bool:
        return True

    def comes_back_from(self, status: int) -> bool:
        return False

    def headers(self) -> dict[str, Any]:
        id = {"Last-Event-ID": self.last_id.encode()} if self.last_id else {}
        return {"Accept": "text/event-stream", "Cache-Control": "no-cache", **id}

    def is_stream(self, answer: h11.Response) -> bool:
        media_type = dict(answer.headers).get(b"content-type", b"").decode()
        return answer.status_code == 200 and media_type.partition(";")[0].strip().lower() == "text/event-stream"

    async def receive(self, stream: anyio.abc.ByteStream, connection: h11.Connection, take: Take) -> None:
        while not isinstance(event := await self.next(stream, connection), h11.EndOfMessage):
            for message in self.feed(bytes(event.data)):
                await take(message)

    async def next(self, stream: anyio.abc.ByteStream, connection: h11.Connection) -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            try:
                connection.receive_data(await stream.receive())
            except anyio.EndOfStream:
                connection.receive_data(b"")
        return event

    # -- the format

    def begin(self) -> None:
        self.connections += 1
        self.decoder = codecs.getincrementaldecoder(self.encoding)(self.errors)
        self.text: list[str] = []
        self.is_first = True
        self.after_cr = False
        self.forget()
        self.id = self.last_id

    def forget(self) -> None:
        self.data: list[str] = []
        self.event = ""

    def feed(self, data: bytes) -> list[Message]:
        text = self.decoder.decode(data)
        if self.is_first and text:
            self.is_first = False
            text = self.without_bom(text)
        if self.after_cr and text:
            text = text.removeprefix("\n")
            self.after_cr = False
        *lines, rest = re.split(self.line_ends, text)
        found = []
        for line in lines:
            self.text.append(line)
            line = "".join(self.text)
            self.text.clear()
            found += self.take_line(line)
        self.text.append(rest)
        self.after_cr = self.after_cr or text.endswith("\r")
        return found

    def without_bom(self, text: str) -> str:
        return text.removeprefix("\ufeff")

    def end(self) -> list[Message]:
        return []

    def take_line(self, line: str) -> list[Message]:
        if not line:
            return self.dispatch()
        name, _, value = line.partition(":")
        self.take_field(name, value.removeprefix(" "))
        return []

    def take_field(self, name: str, value: str) -> None:
        if name == "data":
            self.data.append(value)
        elif name == "event":
            self.event = value
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 9:
            self.retry = int(value) / 1000

    def dispatch(self) -> list[Message]:
        self.last_id = self.id
        found = [self.message()] if self.data else []
        self.forget()
        return found

    def message(self) -> Message:
        return Message(self.event or "message", "\n".join(self.data), self.last_id)


class ByTheByte(Correct):
    """As correct: it reads a byte at a time, and waits longer than it must."""

    def feed(self, data: bytes) -> list[Message]:
        return [message for at in range(len(data)) for message in super(ByTheByte, self).feed(data[at : at + 1])]

    async def wait(self) -> None:
        await anyio.sleep(self.retry * 1.5)


class ExitsLate(Correct):
    """As correct: it lives on for a while, and says something in the end."""

    async def run(self, url: str, take: Take) -> str:
        await super().run(url, take)
        await anyio.lowlevel.checkpoint()
        return "bye"


# -- faults of the format


class JoinsLines(Correct):
    def message(self) -> Message:
        return super().message()._replace(data="".join(self.data))


class KeepsTheLastLine(Correct):
    def take_field(self, name: str, value: str) -> None:
        if name == "data":
            self.data.clear()
        super().take_field(name, value)


class StripsValues(Correct):
    def take_field(self, name: str, value: str) -> None:
        super().take_field(name, value.strip() if name == "data" else value)


class KeepsTheSpace(Correct):
    def take_line(self, line: str) -> list[Message]:
        return super().take_line(line.replace(": ", ":  ", 1) if line.startswith("data: ") and "  " in line else line)


class IgnoresCase(Correct):
    def take_field(self, name: str, value: str) -> None:
        super().take_field(name.lower(), value)


class ReadsComments(Correct):
    def take_line(self, line: str) -> list[Message]:
        return super().take_line(line.removeprefix(":"))


class KeepsTheType(Correct):
    def forget(self) -> None:
        event = getattr(self, "event", "")
        super().forget()
        self.event = event


class NoTypes(Correct):
    def message(self) -> Message:
        return super().message()._replace(event="message")


class DispatchesWithoutData(Correct):
    def dispatch(self) -> list[Message]:
        self.data = self.data or [""]
        return super().dispatch()


class DispatchesAtTheEnd(Correct):
    def end(self) -> list[Message]:
        self.take_line("".join(self.text) or ":")
        return self.dispatch()


class NoCarriageReturns(Correct):
    line_ends = "\r\n|\n"


class CountsCRLFTwice(Correct):
    def feed(self, data: bytes) -> list[Message]:
        self.after_cr = False
        return super().feed(data)


class SplitsAtUnicodeLines(Correct):
    line_ends = "\r\n|[\n\r\u2028\u2029\x85\x0b\x0c]"


class DecodesEachChunk(Correct):
    def feed(self, data: bytes) -> list[Message]:
        self.decoder.reset()
        return super().feed(data)


class TakesChunksForEvents(Correct):
    def feed(self, data: bytes) -> list[Message]:
        self.text.clear()
        self.forget()
        return super().feed(data)


class Latin1(Correct):
    encoding = "latin-1"


class DropsBrokenCharacters(Correct):
    errors = "ignore"


class KeepsTheBOM(Correct):
    def without_bom(self, text: str) -> str:
        return text


class StripsEveryBOM(Correct):
    def take_line(self, line: str) -> list[Message]:
        return super().take_line(line.lstrip("\ufeff"))


class EndsAtNUL(Correct):
    def message(self) -> Message:
        message = super().message()
        return message._replace(data=message.data.partition("\0")[0])


class NoIds(Correct):
    def message(self) -> Message:
        return super().message()._replace(id=None)


class OwnIdsOnly(Correct):
    own = ""

    def take_field(self, name: str, value: str) -> None:
        super().take_field(name, value)
        if name == "id":
            self.own = self.id

    def dispatch(self) -> list[Message]:
        found = [message._replace(id=self.own) for message in super().dispatch()]
        self.own = ""
        return found


class TakesNULInIds(Correct):
    def take_field(self, name: str, value: str) -> None:
        super().take_field(name, value)
        if name == "id":
            self.id = value


# -- faults in time and size


class OneBehind(Correct):
    kept: list[Message]

    def begin(self) -> None:
        super().begin()
        self.kept = []

    def feed(self, data: bytes) -> list[Message]:
        found = [*self.kept, *super().feed(data)]
        self.kept = found[-1:]
        return found[:-1]

    def end(self) -> list[Message]:
        return self.kept


class DropsLargeEvents(Correct):
    def dispatch(self) -> list[Message]:
        return [message for message in super().dispatch() if len(message.data) < 65_536]


class DropsWhenThereAreMany(Correct):
    def feed(self, data: bytes) -> list[Message]:
        return super().feed(data)[:1000]


class Impatient(Correct):
    async def next(self, stream: anyio.abc.ByteStream, connection: h11.Connection) -> Any:
        with anyio.move_on_after(PATIENCE):
            return await super().next(stream, connection)
        self.comes_back = False
        return h11.EndOfMessage()


# -- faults in asking


class AcceptsAnything(Correct):
    def headers(self) -> dict[str, Any]:
        return super().headers() | {"Accept": "*/*"}


class NoCacheControl(Correct):
    def headers(self) -> dict[str, Any]:
        return {name: value for name, value in super().headers().items() if name != "Cache-Control"}


class ComparesTheWholeType(Correct):
    def is_stream(self, answer: h11.Response) -> bool:
        return answer.status_code == 200 and dict(answer.headers)[b"content-type"] == b"text/event-stream"


class BelievesCharset(Correct):
    def is_stream(self, answer: h11.Response) -> bool:
        if b"8859" in dict(answer.headers).get(b"content-type", b""):
            self.decoder = codecs.getincrementaldecoder("latin-1")()
        return super().is_stream(answer)


class TakesAnyType(Correct):
    def is_stream(self, answer: h11.Response) -> bool:
        return bool(answer.status_code == 200)


class TakesAnyStatus(Correct):
    def is_stream(self, answer: h11.Response) -> bool:
        return b"text/event-stream" in dict(answer.headers).get(b"content-type", b"").lower()


class ComesBackFrom204(Correct):
    def comes_back_from(self, status: int) -> bool:
        return status == 204


class ComesBackFrom404(Correct):
    def comes_back_from(self, status: int) -> bool:
        return 400 <= status < 500


class ComesBackFrom503(Correct):
    def comes_back_from(self, status: int) -> bool:
        return status >= 500


class NoRedirects(Correct):
    redirects = ()


class OldRedirectsOnly(Correct):
    redirects = (301, 302, 303)


class StaysAtItsOrigin(Correct):
    origin = ""

    async def connect(self, url: str, take: Take) -> bool:
        self.origin = self.origin or urlsplit(url).netloc
        return urlsplit(url).netloc == self.origin and await super().connect(url, take)


class NeedsChunks(Correct):
    def is_stream(self, answer: h11.Response) -> bool:
        return super().is_stream(answer) and b"transfer-encoding" in dict(answer.headers)


class UnpacksAtTheEnd(Correct):
    packed: list[bytes] | None = None

    def headers(self) -> dict[str, Any]:
        return super().headers() | {"Accept-Encoding": "gzip"}

    def is_stream(self, answer: h11.Response) -> bool:
        self.packed = [] if b"content-encoding" in dict(answer.headers) else None
        return super().is_stream(answer)

    def feed(self, data: bytes) -> list[Message]:
        if self.packed is None:
            return super().feed(data)
        self.packed.append(data)
        return []

    def end(self) -> list[Message]:
        return [] if self.packed is None else super().feed(zlib.decompress(b"".join(self.packed), wbits=31))


# -- faults in coming back


class LeavesAtTheEnd(Correct):
    comes_back = False


class KnowsHeads(Correct):
    has_head = False

    def begin(self) -> None:
        super().begin()
        self.has_head = False

    def is_stream(self, answer: h11.Response) -> bool:
        self.has_head = True
        return super().is_stream(answer)


class LeavesAtACut(KnowsHeads):
    def comes_back_from_a_cut(self) -> bool:
        return not self.has_head


class LeavesWithoutAHead(KnowsHeads):
    def comes_back_from_a_cut(self) -> bool:
        return self.has_head


class NoLastEventID(Correct):
    def headers(self) -> dict[str, Any]:
        return {name: value for name, value in super().headers().items() if name != "Last-Event-ID"}


class ForgetsTheId(Correct):
    def begin(self) -> None:
        super().begin()
        self.id = ""


class TakesIdsAtOnce(Correct):
    def take_field(self, name: str, value: str) -> None:
        super().take_field(name, value)
        self.last_id = self.id


class EscapesTheId(Correct):
    def headers(self) -> dict[str, Any]:
        found = super().headers()
        return found | ({"Last-Event-ID": self.last_id.encode("ascii", "replace")} if self.last_id else {})


class NeverWaits(Correct):
    async def wait(self) -> None:
        await anyio.sleep(0.02)


class TakesAnyRetry(Correct):
    def take_field(self, name: str, value: str) -> None:
        if name == "retry":
            value = "".join(char for char in value if char.isdigit()) or "0"
        super().take_field(name, value)


class KeepsHalfABlock(Correct):
    def begin(self) -> None:
        before = (getattr(self, "data", []), getattr(self, "event", ""))
        super().begin()
        self.data, self.event = before


class DropsTheFirstBOMOnly(Correct):
    dropped = False

    def without_bom(self, text: str) -> str:
        if self.dropped:
            return text
        self.dropped = text.startswith("\ufeff")
        return super().without_bom(text)


CORRECT: tuple[type[Correct], ...] = (Correct, ByTheByte, ExitsLate)

FAULTS: dict[type[Correct], set[str]] = {
    JoinsLines: {"C-61"},
    KeepsTheLastLine: {"C-61"},
    StripsValues: {"C-62"},
    KeepsTheSpace: {"C-62"},
    IgnoresCase: {"C-62"},
    ReadsComments: {"C-63"},
    KeepsTheType: {"C-64"},
    NoTypes: {"C-64"},
    DispatchesWithoutData: {"C-65"},
    DispatchesAtTheEnd: {"C-66"},
    NoCarriageReturns: {"C-67", "C-77"},
    CountsCRLFTwice: {"C-68"},
    DecodesEachChunk: {"C-68"},
    TakesChunksForEvents: {"C-68", "C-78", "C-79"},
    SplitsAtUnicodeLines: {"C-69"},
    Latin1: {"C-69", "C-83", "C-97"},
    DropsBrokenCharacters: {"C-70"},
    KeepsTheBOM: {"C-71"},
    StripsEveryBOM: {"C-71"},
    EndsAtNUL: {"C-62"},
    NoIds: {"C-73"},
    OwnIdsOnly: {"C-74"},
    TakesNULInIds: {"C-75"},
    OneBehind: {"C-76"},
    DropsLargeEvents: {"C-78"},
    DropsWhenThereAreMany: {"C-79"},
    AcceptsAnything: {"C-80"},
    NoCacheControl: {"C-81"},
    ComparesTheWholeType: {"C-82"},
    BelievesCharset: {"C-83"},
    TakesAnyType: {"C-84"},
    ComesBackFrom204: {"C-85"},
    ComesBackFrom404: {"C-86"},
    TakesAnyStatus: {"C-86"},
    ComesBackFrom503: {"C-87"},
    NoRedirects: {"C-88"},
    OldRedirectsOnly: {"C-88"},
    StaysAtItsOrigin: {"C-89"},
    NeedsChunks: {"C-90"},
    UnpacksAtTheEnd: {"C-91"},
    LeavesAtTheEnd: {"C-92"},
    LeavesAtACut: {"C-93"},
    LeavesWithoutAHead: {"C-94"},
    NoLastEventID: {"C-95"},
    ForgetsTheId: {"C-95"},
    TakesIdsAtOnce: {"C-96"},
    EscapesTheId: {"C-97"},
    NeverWaits: {"C-98"},
    TakesAnyRetry: {"C-98"},
    Impatient: {"C-99"},
    KeepsHalfABlock: {"C-72"},
    DropsTheFirstBOMOnly: {"C-72"},
}
"""Each with the checks that it fails: the one that is meant for it, and where it can't but break another, that one."""


class Anew:
    """A client that is another one each time it is started, as a program is."""

    def __init__(self, kind: type[Correct]) -> None:
        self._kind = kind

    async def run(self, url: str, take: Take) -> str:
        return await self._kind().run(url, take)
