"""`Guard`: sees a client's bytes before the parser, and refuses what two readers could read in two ways.

h11 is lenient, as a library for all the world must be: it takes a bare LF for a line end, unfolds lines, and lets a
request have two lengths. A server behind a proxy can't be, for where the two disagree about where a request ends, its
body becomes another request. So the parser gets only what has passed here, and no byte beyond the request that it
reads: what a client sends ahead waits for its turn, and after a stream's request there is none.

Sections are those of RFC 9112, where no other RFC is named.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .framing import Body, body_of
from .grammar import Bytes, absolute_form, control, field_line, head_matcher, host, line_end, request_line, token
from .refused import Refused

AROUND_TARGET = 64
"""Bytes of a request's line for all but its target: the method, the version, two spaces and the line end."""

LF: Final = 0x0A
VERSIONS: Final = (b"1.1", b"1.0")


class Head(NamedTuple):
    """A request's head, as it was sent: its request line, and the lines of its headers, each with its end."""

    method: bytes
    target: bytes
    http_version: bytes
    fields: bytes


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
        "head",
    )

    def __init__(self, head_size: int, target_size: int, headers: int) -> None:
        self.head: Head | None = None  # of the request that is here, once it has ended
        self._headers = headers
        self._match = head_matcher(min(headers, head_size))  # no pattern counts to any number
        self._head_size = head_size
        self._target_size = target_size
        self._line_size = min(head_size, target_size + AROUND_TARGET)
        self._body: Body | None = None  # None until the head has ended
        self._held = bytearray()  # a head that has not ended, or what was sent ahead
        self._line = 0  # where in a head that has not ended its last line begins
        self._scanned = 0  # up to where that line is known to have no end
        self._fields = 0  # headers in a head that has not ended

    def receive(self, data: bytes) -> bytes:
        """Take what has arrived, and return what the parser may have; b"" if that is nothing yet.

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
        """Begin the next request: return what the parser may have of what was sent ahead; b"" if nothing.

        Raises:
            Refused: the head.
        """
        self._body = self.head = None
        return self._take_held() if self._held else b""

    @property
    def has_begun(self) -> bool:
        """Whether part of a head has come, but not all of it."""
        return self._body is None and bool(self._held)

    def check(self) -> None:
        """Check that the body is well formed as far as it has come.

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
        method, target, version = found.groups()
        if version not in VERSIONS:
            return 0
        if target[:1] != b"/":
            _check_authority(target.lower())
        fields = bytes(data[found.end(3) : found.end() - 2])
        self._body = body_of(fields.lower(), version, self._head_size)
        self.head = Head(method, target, version, fields[2:])
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
            if not token(held):
                raise Refused(400, "a request begins with its method")
        while found := line_end(held, self._scanned):
            end = found.start()
            if end >= self._limit:
                break
            if held[end] == LF:
                raise Refused(400, "a line ends with CR and LF, not with LF alone")
            self._scanned = end
            if end + 1 == len(held) or end + 1 >= self._limit:
                break
            if held[end + 1] != LF:
                raise Refused(400, "CR may stand only before LF")
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
        """How far the line that has not ended may reach."""
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
            if not field_line(held, start, end):
                raise Refused(400, _wrong_with(bytes(held[start:end])))
            return
        found = request_line(held, 0, end)
        if not found:
            raise Refused(400, "a request's line is a method, a target and an HTTP version, one space apart")
        if found[3] not in VERSIONS:
            raise Refused(505, "the HTTP version must be 1.1 or 1.0")
        if found[1] == b"CONNECT":  # RFC 9110, section 9.3.6: any 2xx would make a tunnel of the connection
            raise Refused(501, "CONNECT asks a proxy for a tunnel, and this is not a proxy")
        if not self._fits(found):
            raise Refused(414, "the target is too long", "target_size")


def _check_authority(target: bytes) -> None:
    """Refuse an absolute target whose host could be none: it is what counts, whatever Host says (section 3.2.2)."""
    found = absolute_form(target)
    if found is not None and not (found[1] and host(found[1])):
        raise Refused(400, "an absolute target names a host")


def _wrong_with(line: bytes) -> str:
    """The rule that a header's line breaks."""
    name, colon, value = line.partition(b":")
    if line[:1] in b" \t":
        return "a header must not be folded over several lines"  # section 5.2
    if not colon or not token(name):
        return "a header is a name, a colon and a value"
    if name.rstrip(b" \t") != name:
        return "no white space may stand between a header's name and the colon"  # section 5.1
    if control(value) and not control(name):
        return "a header's value holds no control characters"
    return "a header's name is a token"
