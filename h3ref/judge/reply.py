"""`Reply`: an answer's bytes, read as they come by a reader that forgives faults, and remembers them.

What a strict parser refuses is what the judge has to show, so this one goes on: it keeps the head as it came, the body
with the time at which each part arrived, and the first fault of its framing with the bytes that prove it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MOST_OF_A_HEAD: Final = 64 * 1024

_STATUS_LINE = re.compile(rb"HTTP/(\d)\.(\d) (\d{3})(?: ([\t -~\x80-\xff]*))?")  # RFC 9112, section 4
_FIELD = re.compile(rb"([!#$%&'*+\-.^`|~\w]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")  # RFC 9110, section 5
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")  # RFC 9112, section 7.1


class Framing(StrEnum):
    """How the end of a body is told (RFC 9112, section 6.3)."""

    CHUNKED = "chunked"
    LENGTH = "by its length"
    CLOSE = "by the end of the connection"
    NONE = "no body"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the bytes of an answer, and which."""

    problem: str
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's head.

    Attributes:
        raw: its bytes, with the empty line.
        at: when its last byte had come.
        status: 0 where there is no status line.
        fields: names in lower case, and values, in their order.
        faults: what is wrong with its lines.
    """

    raw: bytes
    at: float
    status: int
    fields: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...]

    def all(self, name: str) -> list[str]:
        """The values of a field, whose name is in lower case."""
        return [value for known, value in self.fields if known == name]

    def get(self, name: str) -> str | None:
        """The values of a field, joined as RFC 9110, section 5.3 allows; None if there is none."""
        return ", ".join(values) if (values := self.all(name)) else None

    def tokens(self, name: str) -> list[str]:
        """The members of a list, in lower case."""
        return [part.strip().lower() for value in self.all(name) for part in value.split(",") if part.strip()]

    @property
    def is_stream(self) -> bool:
        """Whether its one content type is an event stream's."""
        kinds = [value.partition(";")[0].strip().lower() for value in self.all("content-type")]
        return kinds == ["text/event-stream"]

    def line(self, name: str) -> bytes:
        """The lines of a field as they came; of the status line and all, if it has none."""
        lines = [line for line in self.raw.splitlines(keepends=True) if line.lower().startswith(name.encode() + b":")]
        return b"".join(lines)


@dataclass(slots=True)
class Reply:
    """An answer, as far as it has come.

    Args:
        method: of its request; the answer to HEAD has no body.
        begun: when the request had been sent.
        request: its bytes.

    Attributes:
        head: None until it has come.
        informational: heads of 1xx that came before it.
        framing: how the body ends; known with the head.
        body: what has come of it, without chunks' sizes, still compressed if it is.
        arrivals: when what came, as pairs of a time and the body's length since then.
        chunks: the sizes of its chunks.
        fault: the first fault of the body's framing.
        is_complete: whether its proper end has come. A body that ends with the connection has none of its own.
        closed: how and when the server ended the connection: "end" or "reset"; None if it has not.
        rest: what came after the proper end.
    """

    method: str
    begun: float
    request: bytes = b""
    head: Head | None = None
    informational: list[Head] = field(default_factory=list)
    framing: Framing = Framing.NONE
    body: bytearray = field(default_factory=bytearray)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    fault: Fault | None = None
    is_complete: bool = False
    closed: tuple[str, float] | None = None
    rest: bytearray = field(default_factory=bytearray)
    _waiting: bytearray = field(default_factory=bytearray)
    _looked: int = 0  # so far there is no end of the head
    _left: int = 0  # bytes of the chunk, or of the whole body
    _raw: bytearray = field(default_factory=bytearray)

    @property
    def raw(self) -> bytes:
        """All that came, as it came."""
        return bytes(self._raw)

    @property
    def proof(self) -> bytes:
        """How it begins; where nothing has come, the request that was sent."""
        return self.raw[:300] or self.request

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come."""
        return self.is_complete or self.closed is not None or self.fault is not None

    def feed(self, data: bytes, at: float) -> None:
        """Take the next bytes, and when they came."""
        self._raw += data
        self._waiting += data
        while self.head is None:
            if not self._read_head(at):
                return
        before = len(self.body)
        self._read_body()
        if len(self.body) > before:
            self.arrivals.append((at, len(self.body)))

    def close(self, how: str, at: float) -> None:
        """Take the end of the connection: "end" or "reset"."""
        if self.closed is not None:
            return
        self.closed = (how, at)
        if self.head is None and self._waiting:
            self.fault = self.fault or Fault("the connection ended inside the head", self.raw[-200:])
        elif self.is_complete or self.fault or self.head is None:
            return
        elif self.framing == Framing.CLOSE and how == "end":
            self.is_complete = True
        else:
            missing = "the last chunk" if self.framing == Framing.CHUNKED else "the rest of its length"
            self.fault = Fault(f"the connection ended before {missing}", self.raw[-120:])

    # -- the head

    def _read_head(self, at: float) -> bool:
        """Read a head, if it is whole; of several, as with 103, one."""
        end = _END_OF_HEAD.search(self._waiting, self._looked)
        if end is None:
            self._looked = max(len(self._waiting) - 3, 0)
            if len(self._waiting) > MOST_OF_A_HEAD:
                self.fault = self.fault or Fault("no end of the head in 64 KiB", bytes(self._waiting[:200]))
            return False
        raw = bytes(self._waiting[: end.end()])
        del self._waiting[: end.end()]
        self._looked = 0
        head = read_head(raw, at)
        if 100 <= head.status < 200 and head.status != 101:
            self.informational.append(head)
            return bool(self._waiting)
        self.head = head
        self._frame(head)
        return True

    def _frame(self, head: Head) -> None:
        """RFC 9112, section 6.3."""
        lengths = head.all("content-length")
        if self.method == "HEAD" or head.status in (204, 304):
            self.framing, self.is_complete = Framing.NONE, True
        elif "chunked" in head.tokens("transfer-encoding"):
            self.framing = Framing.CHUNKED
        elif lengths and lengths[0].isascii() and lengths[0].isdigit():
            self.framing, self._left = Framing.LENGTH, int(lengths[0][:15])
            self.is_complete = self._left == 0
        else:
            self.framing = Framing.CLOSE

    # -- the body

    def _read_body(self) -> None:
        if self.is_complete:
            self.rest += self._waiting
            self._waiting.clear()
        elif self.framing == Framing.CHUNKED:
            while self._read_chunk():
                pass
            if self.is_complete:
                self.rest += self._waiting
                self._waiting.clear()
        elif self.framing == Framing.LENGTH:
            self._take(len(self._waiting))
            if self._left == 0:
                self.is_complete = True
                self._read_body()
        else:
            self.body += self._waiting
            self._waiting.clear()

    def _take(self, most: int) -> None:
        count = min(self._left, most)
        self.body += self._waiting[:count]
        del self._waiting[:count]
        self._left -= count

    def _read_chunk(self) -> bool:
        """RFC 9112, section 7.1; says whether there may be more to read."""
        if self.fault or not self._waiting:
            return False
        if self._left > 2:  # the chunk's data, and the CRLF behind it
            self._left -= 2
            self._take(len(self._waiting))
            self._left += 2
            return True
        if self._left:
            return self._read_end_of_chunk()
        line, separator, _ = bytes(self._waiting).partition(b"\n")
        if not separator:
            if len(line) > 200:
                self.fault = Fault("a chunk begins without its size", bytes(line[:80]))
            return False
        found = _CHUNK.fullmatch(line.removesuffix(b"\r"))
        if found is None or not line.endswith(b"\r"):
            self.fault = Fault("it is no size of a chunk, in hexadecimal and with CRLF", bytes(line[:80] + b"\n"))
            return False
        size = int(found[1], 16)
        if size == 0:
            return self._read_trailers(len(line) + 1)
        del self._waiting[: len(line) + 1]
        self.chunks.append(size)
        self._left = size + 2
        return True

    def _read_end_of_chunk(self) -> bool:
        wanted = b"\r\n"[2 - self._left :]
        came = bytes(self._waiting[: self._left])
        if not wanted.startswith(came):
            self.fault = Fault(f"the chunk of {self.chunks[-1]} bytes does not end with CRLF", self.raw[-120:])
            return False
        del self._waiting[: len(came)]
        self._left -= len(came)
        return True

    def _read_trailers(self, begin: int) -> bool:
        end = re.compile(rb"(?:[^\n]+\r\n)*?\r\n").match(self._waiting, begin)
        if end is None:
            return False
        del self._waiting[: end.end()]
        self.is_complete = True
        return False


def read_head(raw: bytes, at: float) -> Head:
    """Read a head that is whole, whatever is wrong with it."""
    faults: list[Fault] = []
    lines = raw.split(b"\n")[:-2]
    for line in lines:
        if not line.endswith(b"\r"):
            faults.append(Fault("a line of the head ends without CR", line + b"\n"))
            break
    first, *others = [line.removesuffix(b"\r") for line in lines]
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        faults.append(Fault("the first line is no status line", first))
    fields: list[tuple[str, str]] = []
    for line in others:
        matched = _FIELD.fullmatch(line)
        if matched is None:
            faults.append(Fault("this line of the head is no field", line))
        else:
            fields.append((matched[1].decode("latin-1").lower(), matched[2].decode("latin-1")))
    return Head(raw, at, int(found[3]) if found else 0, tuple(fields), tuple(faults))
