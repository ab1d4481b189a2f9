"""`Reader`: reads from a stream, as cheaply as Python can, the head, the number of events, and the end.

It counts events by the bytes with which their data begins, and parses no more than that: `load.check` has once
parsed each server's stream for good before anything is measured.
"""

from __future__ import annotations

from typing import Final

MARK: Final = b"data: t="
"""How the data of every event begins; the time when it was made follows."""

DIGITS: Final = 19
"""Of nanoseconds since 1970, until the year 2286."""

END: Final = b"\r\n0\r\n\r\n"
"""How a chunked body ends."""


class BadResponse(Exception):
    """The server answered with something other than a stream."""


class Reader:
    """Reads one response.

    Args:
        delays: where the age of each event at its arrival goes, in nanoseconds; None to count them only.
    """

    __slots__ = ("_carry", "_delays", "ended", "events", "head")

    def __init__(self, delays: list[int] | None = None) -> None:
        self.events = 0
        self.ended = False
        self.head: bytes | None = None  # until it is complete
        self._carry = b""
        self._delays = delays

    def feed(self, data: bytes, arrival: int) -> int:
        """Take what arrived then (nanoseconds since 1970); nothing is the end of the connection.

        Returns:
            How many events began in it.

        Raises:
            BadResponse: a status other than 200.
        """
        if not data:
            self.ended = True
            return 0
        data = self._carry + data
        if self.head is None:
            head, blank, rest = data.partition(b"\r\n\r\n")
            if not blank:
                self._carry = data
                return 0
            self.head = head
            if head.split(b" ", 2)[1:2] != [b"200"]:
                line, _, _ = head.partition(b"\r\n")
                raise BadResponse(f"answered {line.decode('latin-1')!r}")
            data = b"\r\n" + rest  # so that END is found in an empty body, too
        if self._delays is None:
            found = data.count(MARK)
            self._carry = data[-(len(MARK) - 1) :]
        else:
            found = self._read_times(data, arrival, self._delays)
        if data.endswith(END):
            self.ended = True
        self.events += found
        return found

    def _read_times(self, data: bytes, arrival: int, delays: list[int]) -> int:
        pieces = data.split(MARK)
        self._carry = data[-(len(MARK) - 1) :]
        found = len(pieces) - 1
        if found and len(pieces[-1]) < DIGITS:  # its time is not complete: it counts when it is
            self._carry = MARK + pieces[-1]
            found -= 1
        for piece in pieces[1 : found + 1]:
            delays.append(arrival - int(piece[:DIGITS]))
        return found
