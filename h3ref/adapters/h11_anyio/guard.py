"""`Guard`: looks at a client's bytes before the parser does, and refuses what two readers could read in two ways.

h11 is lenient, as a library for all the world must be: it takes a bare LF for a line end, unfolds lines, and lets a
request have two lengths. A server behind a proxy can't be, for where the two disagree about where a request ends, its
body becomes another request. So the parser gets only what has passed here, and no byte beyond the request that it
reads: what a client sends ahead waits for its turn, and after a stream's request there is none.

Sections are those of RFC 9112, where no other RFC is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple, Protocol

import h11

from .wire import chunk

AROUND_TARGET = 64
"""Bytes of a request's line for all but its target: the method, the version, two spaces and the line end."""

CHUNK_LINE_SIZE = 256
"""Bytes of the line that begins a chunk: its extensions are read by nobody, and must not outgrow what it carries."""

LENGTH_DIGITS = 18
"""More than any body needs, and few enough to count with."""

# Only a set of bytes is repeated possessively here, never a group: after a group that failed half-way, CPython 3.11.2,
# which is Debian 12's, goes on in the wrong place, and takes what the pattern does not allow. So a group that is
# repeated begins with a byte that nothing before it could take: going back finds no second way, and costs no more than
# the way there.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110, section 5.6.2
_REQUEST_LINE = rb"(%b) ([\x21-\x7e]++) HTTP/([0-9]\.[0-9])" % _TOKEN  # section 3
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+"  # section 5; RFC 9110, section 5.5
_FRAMING = re.compile(rb"\r\n(host|content-length|transfer-encoding):[\t ]*+([^\r]*+)")  # in a head in lower case

_QUOTED_TEXT = rb"[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]*+"
_QUOTED = rb'"%b(?:\\[\t\x20-\x7e\x80-\xff]%b)*"' % (_QUOTED_TEXT, _QUOTED_TEXT)  # RFC 9110, section 5.6.4
_EXTENSION = rb";[\t ]*+%b(?:=(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*\r\n" % _EXTENSION)  # section 7.1

_NAME = rb"[a-z0-9\-._~!$&'()*+,;=]*+"
_HOST = re.compile(  # RFC 3986, section 3.2.2, in lower case, then section 3.2.3
    rb"(?:\[[0-9a-f:.]++\]|\[v[0-9a-f]++\.[a-z0-9\-._~!$&'()*+,;=:]++\]|%b(?:%%[0-9a-f]{2}%b)*)(?::[0-9]*+)?"
    % (_NAME, _NAME)
)

_ABSOLUTE = re.compile(rb"[a-z][a-z0-9+.-]*+://(?:[^/?#@]*+@)?([^/?#]*+)")


@cache
def _head_matcher(headers: int) -> Callable[[Bytes], re.Match[bytes] | None]:
    """What matches a well-formed head with so many headers at most: the pattern counts at no cost."""
    return re.compile(rb"(?!CONNECT )%b\r\n(?:%b\r\n){0,%d}\r\n" % (_REQUEST_LINE, _FIELD, headers)).match


_line_end = re.compile(rb"[\r\n]").search
_request_line = re.compile(_REQUEST_LINE).fullmatch
_field_line = re.compile(_FIELD).fullmatch
_trailer_line = re.compile(_FIELD + rb"\r\n").fullmatch
_token = re.compile(_TOKEN).match
_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

LF: Final = 0x0A
VERSIONS: Final = (b"1.1", b"1.0")

Bytes = bytes | bytearray


class Refused(h11.RemoteProtocolError):
    """A request that gets an error for an answer, and the end of its connection.

    The text is one sentence that says which rule was broken. It holds nothing that the client has sent, so that it
    can stand in a log and in the answer.

    Attributes:
        error_status_hint: the answer's status.
        limit: the name in `Limits` of the limit that was the reason; None if it was none.
    """

    def __init__(self, status: int, rule: str, limit: str | None = None) -> None:
        super().__init__(rule, error_status_hint=status)
        self.limit = limit


class RequestLine(NamedTuple):
    """What a request asks for, as it was sent."""

    method: bytes
    target: bytes
    http_version: bytes


class Guard:
    """Checks what one client sends, cut as it may arrive, in a time that only its size decides.

    What is wrong with a head, `receive` and `next_request` raise, and the parser sees nothing of it. What is wrong with
    a body, `check` raises, when all that came before it has been returned: so it makes no difference where
    the network has cut. After either there is nothing more to be had, and the connection can only be closed.

    Args:
        head_size: bytes of a request's line and headers, and again of its trailers; more get a 431.
        target_size: bytes of a request's target; a longer one gets a 414.
        headers: lines of headers in a request's head; more get a 431.
    """

    __slots__ = (
        "_body",
        "_fields",
        "_head_size",
        "_headers",
        "_held",
        "_line",
        "_line_size",
        "_match",
        "_scanned",
        "_target_size",
        "request_line",
    )

    def __init__(self, head_size: int, target_size: int, headers: int) -> None:
        self.request_line: RequestLine | None = None  # of the request whose head has ended
        self._headers = headers
        self._match = _head_matcher(min(headers, head_size))  # no pattern counts to any number
        self._head_size = head_size
        self._target_size = target_size
        self._line_size = min(head_size, target_size + AROUND_TARGET)
        self._body: _Body | None = None  # None until the head has ended
        self._held = bytearray()  # a head that has not ended, or what was sent ahead
        self._line = 0  # where in a head that has not ended its last line begins
        self._scanned = 0  # up to where that line is known to have no end
        self._fields = 0  # headers in a head that has not ended

    def receive(self, data: bytes) -> bytes:
        """Take what has arrived, and return what the parser may have; b"" when that is nothing yet.

        Raises:
            Refused: the head.
        """
        head = 0
        if self._body is None and (self._held or not (head := self._match_head(data))):
            self._held += data
            return self._take_held()
        assert self._body is not None, "it begins where the head ends"
        end, passed = self._body.take(data, head)
        if end < len(data) and self._body.refused is None:
            self._held += data[end:]
        return passed

    def next_request(self) -> bytes:
        """Begin with the next request: return what the parser may have of what was sent ahead; b"" if that is nothing.

        Raises:
            Refused: the head.
        """
        self._body = self.request_line = None
        return self._take_held() if self._held else b""

    @property
    def has_begun(self) -> bool:
        """Whether a part of a head is here, and the rest of it is not."""
        return self._body is None and bool(self._held)

    def check(self) -> None:
        """Look whether the body is well formed as far as it has come.

        Raises:
            Refused: it is not.
        """
        if self._body is not None and self._body.refused is not None:
            raise self._body.refused

    def _take_held(self) -> bytes:
        """Return a head with what there is of its body once it has ended."""
        held = self._held
        head = (0 if self._scanned else self._match_head(held)) or self._judge_lines()
        if not head:
            return b""
        assert self._body is not None, "it begins where the head ends"
        end, passed = self._body.take(held, head)
        del held[: end if self._body.refused is None else None]
        return passed

    def _match_head(self, data: Bytes) -> int:
        """Return where the head ends if it is here, whole and well formed, as with nearly every request; or 0."""
        found = self._match(data)
        if found is None or found.end() > self._head_size or not self._fits(found):
            return 0
        line = RequestLine(*found.groups())
        if line.http_version not in VERSIONS:
            return 0
        if line.target[:1] != b"/":
            _check_authority(line.target.lower())
        self._body = _framing_of(data[found.end(3) : found.end()].lower(), line.http_version, self._head_size)
        self.request_line = line
        return found.end()

    def _fits(self, line: re.Match[bytes]) -> bool:
        return line.end(3) + 2 <= self._line_size and line.end(2) - line.start(2) <= self._target_size

    # -- line by line: a head that comes in pieces, or that is refused

    def _judge_lines(self) -> int:
        """Go on to the end of what is held; return where the head ends, or 0.

        A line is judged when it has ended, or has become too long; its end when the byte after it is here.
        """
        held = self._held
        if not self._line and not self._scanned:
            while held.startswith(b"\r\n"):  # section 2.2: empty lines before a request are ignored
                del held[:2]
            if not held or held == b"\r":
                return 0
            if not _token(held):
                raise Refused(400, "a request begins with its method")
        while found := _line_end(held, self._scanned):
            end = found.start()
            if end >= self._limit:
                break
            if held[end] == LF:
                raise Refused(400, "a line ends with CR and LF, not with LF alone")
            self._scanned = end
            if end + 1 == len(held) or end + 1 >= self._limit:
                break
            if held[end + 1] != LF:
                raise Refused(400, "CR stands only before LF")
            if end == self._line:
                return self._end_head()
            self._judge_line(end)
            self._line = self._scanned = end + 2
        else:
            self._scanned = len(held)
        if len(held) > self._limit:
            if not self._line:
                raise Refused(414, "the target is too long", "target_size")
            raise Refused(431, "the head is too large", "head_size")
        return 0

    @property
    def _limit(self) -> int:
        """Up to where the line that has not ended may reach."""
        return self._head_size if self._line else self._line_size

    def _end_head(self) -> int:
        self._line = self._scanned = self._fields = 0
        head = self._match_head(self._held)
        assert head, "each line was judged"
        return head

    def _judge_line(self, end: int) -> None:
        """Refuse a line that is malformed, and say why."""
        held, start = self._held, self._line
        if start:
            self._fields += 1
            if self._fields > self._headers:
                raise Refused(431, "there are too many headers", "headers")
            if not _field_line(held, start, end):
                raise Refused(400, _wrong_with(bytes(held[start:end])))
            return
        found = _request_line(held, 0, end)
        if not found:
            raise Refused(400, "a request's line is a method, a target and an HTTP version, one space apart")
        if found[3] not in VERSIONS:
            raise Refused(505, "the HTTP version is 1.1 or 1.0")
        if found[1] == b"CONNECT":  # RFC 9110, section 9.3.6: any 2xx would make a tunnel of the connection
            raise Refused(501, "CONNECT asks a proxy for a tunnel, and this is no proxy")
        if not self._fits(found):
            raise Refused(414, "the target is too long", "target_size")


def _check_authority(target: bytes) -> None:
    """Refuse an absolute target whose host could be none: it is what counts, whatever Host says (section 3.2.2)."""
    found = _ABSOLUTE.match(target)
    if found is not None and not (found[1] and _HOST.fullmatch(found[1])):
        raise Refused(400, "an absolute target names a host")


def _wrong_with(line: bytes) -> str:
    """The rule that a header's line has broken."""
    name, colon, value = line.partition(b":")
    if line[:1] in b" \t":
        return "a header is not folded over several lines"  # section 5.2
    if not colon or not _token(name):
        return "a header is a name, a colon and a value"
    if name.rstrip(b" \t") != name:
        return "no white space stands between a header's name and the colon"  # section 5.1
    if _control(value) and not _control(name):
        return "a header's value holds no control characters"
    return "a header's name is a token"


def _framing_of(fields: Bytes, version: bytes, trailer_size: int) -> _Body:
    """Judge the fields that decide where the request leads and where it ends; they are in lower case.

    Raises:
        Refused: they could be read in two ways, or not at all.
    """
    found: list[tuple[bytes, bytes]] = _FRAMING.findall(fields)
    if len(found) == 1 and found[0][0] == b"host" and _HOST.fullmatch(found[0][1]):
        return _NO_BODY  # as nearly always
    hosts, lengths, codings = 0, list[bytes](), list[bytes]()
    for name, value in found:
        value = value.rstrip(b" \t")
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise Refused(400, "Host is a host's name or address, with or without a port")
        elif name == b"content-length":
            lengths.append(value)
        else:
            codings.append(value)
    # Section 3.2. An empty Host is a client's that has no name for the server.
    if hosts > 1:
        raise Refused(400, "there is one Host")
    if not hosts and version == b"1.1":
        raise Refused(400, "a request of HTTP/1.1 has a Host")
    if codings:  # sections 6.1 and 6.3
        if lengths:
            raise Refused(400, "a request has Content-Length or Transfer-Encoding, not both")
        if version == b"1.0":
            raise Refused(400, "there is no Transfer-Encoding in HTTP/1.0")
        if codings != [b"chunked"]:
            raise Refused(400, "Transfer-Encoding is chunked, and nothing else")
        return _Chunked(trailer_size)
    if not lengths:
        return _NO_BODY
    if len(lengths) > 1:  # section 6.3 would let one pass that is repeated; nobody in good faith sends it
        raise Refused(400, "there is one Content-Length")
    if not lengths[0].isdigit():
        raise Refused(400, "Content-Length is a number in decimal digits")  # RFC 9110, section 8.6
    if len(lengths[0]) > LENGTH_DIGITS:
        raise Refused(413, "the body is too large", "body_size")
    return _Counted(int(lengths[0]))


class _Body(Protocol):
    """A request's body, as it comes by."""

    refused: Refused | None

    def take(self, data: Bytes, start: int) -> tuple[int, bytes]:
        """Return where in data, from `start` on, that ends which belongs to it and is well formed; and what passes.

        That is what came before `start`, and the body.
        """


class _Counted:
    """As long as Content-Length says."""

    __slots__ = ("_left", "refused")

    def __init__(self, size: int) -> None:
        self.refused: Refused | None = None
        self._left = size

    def take(self, data: Bytes, start: int) -> tuple[int, bytes]:
        size = min(self._left, len(data) - start)
        self._left -= size
        return start + size, bytes(data[: start + size])


_NO_BODY = _Counted(0)


class _Chunked:
    """As long as its chunks say (section 7.1).

    The parser gets what has come at once as one chunk, without extensions: to read a chunk takes it as long as to read
    thousands of bytes, and a client may send chunks of one byte.
    """

    __slots__ = ("_end", "_left", "_line", "_pieces", "_step", "_trailer_size", "refused")

    def __init__(self, trailer_size: int) -> None:
        self.refused: Refused | None = None
        self._trailer_size = trailer_size
        self._left = 0  # bytes of the chunk's data, or of its end, that have not come
        self._line = bytearray()  # a line that has not ended
        self._step: Callable[[Bytes, int], int] | None = self._take_size  # what comes next; None after the end
        self._pieces: list[Bytes] = []  # of the data that has come now
        self._end: list[Bytes] = []  # the lines behind it

    def take(self, data: Bytes, start: int) -> tuple[int, bytes]:
        at = start
        try:
            while self._step is not None and at < len(data):
                at = self._step(data, at)
        except Refused as refused:
            self.refused, self._step = refused, None
        come = b"".join(self._pieces)
        passed = b"".join([data[:start], chunk(come) if come else b"", *self._end])
        self._pieces.clear()
        self._end.clear()
        return at, passed

    def _take_size(self, data: Bytes, at: int) -> int:
        at = self._take_line(data, at, CHUNK_LINE_SIZE, 400, "the line that begins a chunk is too long")
        if self._line.endswith(b"\n"):
            found = _CHUNK_LINE.fullmatch(self._line)
            if found is None:
                raise Refused(400, "a chunk begins with its size in hexadecimal digits, then CR and LF")
            self._left = int(found[1], 16)
            self._step = self._take_data if self._left else self._take_trailer
            if not self._left:
                self._end.append(b"0\r\n")
            self._line.clear()
        return at

    def _take_data(self, data: Bytes, at: int) -> int:
        size = min(self._left, len(data) - at)
        self._pieces.append(data[at : at + size])
        self._left -= size
        if not self._left:
            self._left, self._step = 2, self._take_data_end
        return at + size

    def _take_data_end(self, data: Bytes, at: int) -> int:
        if data[at] != b"\r\n"[-self._left]:
            raise Refused(400, "a chunk's data is as long as its size says, and ends with CR and LF")
        self._left -= 1
        if not self._left:
            self._step = self._take_size
        return at + 1

    def _take_trailer(self, data: Bytes, at: int) -> int:
        start = at - len(self._line)
        at = self._take_line(data, at, self._trailer_size, 431, "the trailers are too large", "head_size")
        if self._line.endswith(b"\n"):
            self._trailer_size -= at - start
            if self._line == b"\r\n":
                self._step = None
            elif not _trailer_line(self._line):
                raise Refused(400, "a trailer is a name, a colon and a value, and ends with CR and LF")
            self._end.append(bytes(self._line))
            self._line.clear()
        return at

    def _take_line(self, data: Bytes, at: int, size: int, status: int, rule: str, limit: str | None = None) -> int:
        """Add to the line what data has of it, and return where that ends."""
        end = data.find(b"\n", at) + 1 or len(data)
        if len(self._line) + end - at > size:
            raise Refused(status, rule, limit)
        self._line += data[at:end]
        return end
