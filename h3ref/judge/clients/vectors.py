"""`Case`: one case of `spec/vectors/parse`, with its checks; and several cases in one stream.

What a case must lead to stands in the vectors. The parser of this project only says which cases can follow one another
in one stream, so that a client is started a few times and not a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from h3ref.sse import EventStreamParser

_PACKAGED = Path(__file__).with_name("vectors")  # put there when a wheel is built
_IN_SOURCE = Path(__file__).resolve().parents[3] / "spec" / "vectors" / "parse"

BASIC: Final = "C-60"
LINES: Final = "C-61"
SYNTAX: Final = "C-62"
COMMENTS: Final = "C-63"
TYPES: Final = "C-64"
NO_DATA: Final = "C-65"
CUT_OFF: Final = "C-66"
LINE_ENDS: Final = "C-67"
PIECES: Final = "C-68"
UTF8: Final = "C-69"
BROKEN_UTF8: Final = "C-70"
BOM: Final = "C-71"
IDS: Final = "C-73"
IDS_KEPT: Final = "C-74"
IDS_WITH_NUL: Final = "C-75"

ORDER: Final = (
    BASIC, LINES, SYNTAX, COMMENTS, TYPES, NO_DATA, CUT_OFF, LINE_ENDS, UTF8, BROKEN_UTF8, BOM, IDS, IDS_KEPT,
    IDS_WITH_NUL, PIECES,
)  # fmt: skip
"""The checks that cases belong to, from what all streams need to what few do: a case is of the last that it needs."""

_ABOUT_IDS: Final = {IDS, IDS_KEPT, IDS_WITH_NUL}
_FILES: Final = ("fields", "blocks", "line_ends", "decoding", "last_event_id")
_MARK: Final = "the end of case "


class Message(NamedTuple):
    """One message, as a client printed it or as it must be.

    Attributes:
        event: its type.
        data: its data.
        id: the last event ID; None where a client prints none.
    """

    event: str
    data: str
    id: str | None = None


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: what is shown, in words.
        stream: what is sent.
        messages: what must come out of it.
        needs: the checks whose matter it shows.
        check: the one that it belongs to.
    """

    name: str
    stream: bytes
    messages: tuple[Message, ...]
    needs: frozenset[str]
    check: str

    def is_met_by(self, messages: Sequence[Message]) -> bool:
        """Whether these are the messages that must come out: of the id only where the case is about ids."""
        if len(messages) != len(self.messages):
            return False
        with_ids = bool(self.needs & _ABOUT_IDS)
        return all(
            (found.event, found.data) == (wanted.event, wanted.data)
            and (not with_ids or (found.id or "") == (wanted.id or ""))
            for found, wanted in zip(messages, self.messages, strict=True)
        )


def mark(number: int) -> bytes:
    """What follows a case in a stream of several: an event that says so, and takes back the last event ID."""
    return f"id\ndata: {_MARK}{number}\n\n".encode()


def is_mark(message: Message, number: int) -> bool:
    """Whether a message is the mark behind the case with this number."""
    return message.data == f"{_MARK}{number}"


def load() -> list[Case]:
    """The cases that a client can be asked, all of one connection.

    Raises:
        OSError: they are not there.
    """
    folder = _PACKAGED if _PACKAGED.is_dir() else _IN_SOURCE
    cases = []
    for name in _FILES:
        for case in json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["cases"]:
            if not {"then", "starts_from"} & case.keys() and case["chunks"]:
                cases.append(_case(name, case))
    return cases


def joined(cases: Iterable[Case]) -> tuple[list[Case], list[Case]]:
    """Return the cases that can follow one another in one stream, each with its mark, and those that can't."""
    together: list[Case] = []
    alone: list[Case] = []
    for case in cases:
        (alone if case.stream.startswith(b"\xef\xbb\xbf") or not ends(case) else together).append(case)
    return together, alone


def ends(case: Case) -> bool:
    """Whether a mark can follow the case, and is not taken for a part of its last block."""
    parser = EventStreamParser()
    messages = [*parser.feed(case.stream), *parser.feed(mark(0))]
    return len(messages) == len(case.messages) + 1 and messages[-1].data == f"{_MARK}0"


def _case(theme: str, case: dict[str, Any]) -> Case:
    stream = octets(case["chunks"])
    messages = tuple(Message(one["type"], one["data"], one["last_event_id"]) for one in case["messages"])
    needs = frozenset(_needs(theme, stream, messages))
    return Case(case["name"], stream, messages, needs, max(needs, key=ORDER.index))


def _needs(theme: str, stream: bytes, messages: Sequence[Message]) -> Iterator[str]:
    """The checks whose matter a stream shows."""
    yield BASIC
    text = stream.decode(errors="replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if b"\r" in stream:
        yield LINE_ENDS
    if any("\n" in message.data for message in messages):
        yield LINES
    if any(line.startswith(":") for line in lines):
        yield COMMENTS
    if any(line.partition(":")[0] == "event" for line in lines):
        yield TYPES
    plain = all(not line or line.startswith((":", "data: ", "event: ", "id: ")) for line in lines)
    if not plain or b"\0" in stream or any(one.data != one.data.strip() or ":" in one.data for one in messages):
        yield SYNTAX
    if lines[:-1].count("") != len(messages):
        yield NO_DATA
    if lines[-1] or (messages and lines[-2:] != ["", ""]) or (not messages and "data" in text and lines[-2]):
        yield CUT_OFF
    if "\ufeff" in text:
        yield BOM
    if not stream.isascii():
        yield UTF8
    if "\ufffd" in text:
        yield BROKEN_UTF8
    if theme == "last_event_id":
        yield IDS
        if any(line in ("id", "id:") for line in lines) or len(messages) > 1 or _is_kept(stream):
            yield IDS_KEPT
        if b"\0" in stream:
            yield IDS_WITH_NUL


def _is_kept(stream: bytes) -> bool:
    """Whether an id comes in another block than a message."""
    return any(b"id" in block and b"data" not in block for block in stream.split(b"\n\n"))


def octets(value: Any) -> bytes:
    """Bytes as the vectors write them.

    Raises:
        ValueError: they are written in another way.
    """
    match value:
        case str():
            return value.encode()
        case {"hex": digits}:
            return bytes.fromhex(digits)
        case {"repeat": part, "times": times}:
            return octets(part) * int(times)
        case [*parts]:
            return b"".join(map(octets, parts))
    raise ValueError(f"no bytes: {value!r}")
