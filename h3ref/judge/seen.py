"""`Seen`: everything that the judge has seen of a stream; `Content`: what the stream's bytes mean to a client."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ..sse import EventStreamParser, MessageEvent
from .reply import Head, Reply
from .verdict import Finding
from .wire import Target


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the judge waits, in seconds; together `watch`, `short` and `late` are all the time that it takes.

    Attributes:
        watch: how long a stream is watched, and how long an answer may take to begin.
        short: for what a server says at last, as after its answer to HEAD.
        late: for the answers to the second round of requests.
        enough: after so long a stream that sends is watched no longer.
        silence: the longest that a stream may be silent.
    """

    watch: float = 18.0
    short: float = 3.0
    late: float = 9.0
    enough: float = 5.0
    silence: float = 16.0

    @property
    def answer(self) -> float:
        """How long an answer beside the one that is watched may take: they begin up to `short` after it."""
        return self.watch - self.short

    @classmethod
    def of(cls, seconds: float) -> Waits:
        """Those of a judge that may take so long in all."""
        return cls(watch=seconds * 0.6, short=seconds * 0.1, late=seconds * 0.3)


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two blank lines of a stream.

    Attributes:
        raw: its bytes, with the blank line, if there is one.
        lines: its lines, without their ends.
        is_whole: whether a blank line has ended it.
    """

    raw: bytes
    lines: tuple[bytes, ...]
    is_whole: bool

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        return [value for known, value in map(_field, self.lines) if known == name]

    @property
    def fields(self) -> list[bytes]:
        """The names of its fields; b"" for a comment."""
        return [name for name, _ in map(_field, self.lines)]


def _field(line: bytes) -> tuple[bytes, bytes]:
    """WHATWG HTML, section 9.2.6."""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


@dataclass
class Content:
    """A stream's body as a client reads it, decompressed if it must be.

    Attributes:
        body: the bytes of the event stream.
        messages: what a client dispatches, each with the time at which it was complete.
        comments: the comments' texts, likewise.
        fault: why it can't be decompressed; "" if it can.
    """

    body: bytes = b""
    messages: list[tuple[float, MessageEvent]] = field(default_factory=list)
    comments: list[tuple[float, str]] = field(default_factory=list)
    fault: str = ""

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Its blocks that have a line."""
        return tuple(_blocks(self.body.removeprefix(b"\xef\xbb\xbf")))

    @property
    def ids(self) -> list[str]:
        """The messages' ids, without those that only repeat the one before."""
        found: list[str] = []
        for _, message in self.messages:
            if message.last_event_id and message.last_event_id not in found[-1:]:
                found.append(message.last_event_id)
        return found


_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|\Z)")


def _blocks(body: bytes) -> Iterator[Block]:
    begin, lines = 0, list[bytes]()
    for found in _LINE.finditer(body):
        if text := found[0].rstrip(b"\r\n"):
            begin = begin if lines else found.start()
            lines.append(text)
        elif lines and found[0]:
            yield Block(body[begin : found.end()], tuple(lines), True)
            lines = []
    if lines:
        yield Block(body[begin:], tuple(lines), False)


def content_of(reply: Reply) -> Content:
    """Read an answer's body as an event stream."""
    content = Content()
    coding = (reply.head.get("content-encoding") if reply.head else None) or ""
    unpack = _unpacker(coding.strip().lower())
    if unpack is None:
        content.fault = f"the judge reads gzip and deflate, and can't read {coding}"
        return content
    at = reply.begun
    parser = EventStreamParser(None, comments=lambda text, _: content.comments.append((at, text)))
    begin = 0
    body = bytearray()
    for at, end in reply.arrivals:
        try:
            part = unpack(bytes(reply.body[begin:end]))
        except zlib.error as error:
            content.fault = f"it is no {coding}: {error}"
            break
        begin = end
        body += part
        content.messages += [(at, message) for message in parser.feed(part)]
    content.body = bytes(body)
    return content


def _unpacker(coding: str) -> Callable[[bytes], bytes] | None:
    if coding in ("", "identity"):
        return bytes
    if coding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=47).decompress
    return None


@dataclass
class Seen:
    """What was seen of a stream; None for an answer that was not asked for.

    Attributes:
        target: what was judged.
        waits: how long the judge waited.
        main: the answer to a plain request, watched longest.
        watched_until: when that ended.
        browser: that to a request as a page of another origin sends it, which accepts gzip, while `main` goes on.
        head: that to HEAD.
        preflight: that to a preflight by OPTIONS.
        old: that to a request of HTTP/1.0.
        again: that to one which accepts anything, and goes on after an event of `main`, if it had ids.
        after: the id of that event; "" if there was none.
        stranger: that to one with an id which the server has never sent.
        http2: what became of a request by HTTP/2.
    """

    target: Target
    waits: Waits
    main: Reply | None = None
    watched_until: float = 0.0
    browser: Reply | None = None
    head: Reply | None = None
    preflight: Reply | None = None
    old: Reply | None = None
    again: Reply | None = None
    after: str = ""
    stranger: Reply | None = None
    http2: Finding | None = None

    @cached_property
    def content(self) -> Content:
        """What `main` brought."""
        return content_of(self.main) if self.main else Content()

    @cached_property
    def answer(self) -> tuple[Reply, Head]:
        """`main` with its head, which a look that needs it may take as given."""
        assert self.main is not None, "looks are not asked without it"
        assert self.main.head is not None, "nor without its head, but those that say so"
        return self.main, self.main.head
