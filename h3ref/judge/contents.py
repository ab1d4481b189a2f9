"""Looks at the content of an event stream: the format of WHATWG HTML, sections 9.2.5 and 9.2.6."""

from __future__ import annotations

from ..sse import MAX_RETRY, fault_of_id
from .looks import look
from .seen import Block, Seen
from .verdict import Finding, failed, not_applicable, passed

_FIELDS = {b"data", b"event", b"id", b"retry", b""}
_BOM = b"\xef\xbb\xbf"
_LEAST_RETRY, _MOST_RETRY = 100, 10 * 60 * 1000
_SHOWN = 200


@look("C-15", of_events=True)
def encoding(seen: Seen) -> Finding:
    """9.2.5: event streams are UTF-8."""
    body = seen.content.body
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not _is_complete(seen):
            return passed("as far as it was read")
        return failed(f"not from its byte {error.start} on", body[max(error.start - 40, 0) : error.end + 40])
    return passed(f"{len(body)} bytes")


@look("C-16", of_events=True)
def dispatched(seen: Seen) -> Finding:
    """9.2.6: a block without data is dropped."""
    for block in _whole(seen):
        if b"event" in block.fields and b"data" not in block.fields:
            return failed("an event without data, which no client sees", block.raw[:_SHOWN])
    return passed(f"{len(seen.content.messages)} events came")


@look("C-17", of_events=True)
def last_block(seen: Seen) -> Finding:
    """9.2.6: what has no blank line at the end is discarded."""
    blocks = seen.content.blocks
    if not _is_complete(seen):
        return not_applicable("it goes on, or was cut")
    if blocks and not blocks[-1].is_whole and set(blocks[-1].fields) - {b""}:
        return failed("the last event has no blank line behind it, so no client sees it", blocks[-1].raw[-_SHOWN:])
    return passed("the last event is whole")


@look("C-18", of_events=True)
def known_fields(seen: Seen) -> Finding:
    """9.2.6: the field is ignored."""
    for block in _whole(seen):
        for name, line in zip(block.fields, block.lines, strict=True):
            if name not in _FIELDS:
                return failed("a line that every client ignores", line[:_SHOWN])
    return passed("data, event, id, retry and comments are all that there is")


@look("C-19", of_events=True)
def no_nul(seen: Seen) -> Finding:
    """9.2.6: an id with a NUL is ignored."""
    body = seen.content.body
    if (place := body.find(b"\0")) >= 0:
        return failed(f"there is one, at byte {place}", body[max(place - 40, 0) : place + 40])
    return passed("there is none")


@look("C-20", of_events=True)
def line_ends(seen: Seen) -> Finding:
    """9.2.5: CRLF, LF and CR each end a line."""
    body = seen.content.body
    alone = body.replace(b"\r\n", b"\n").find(b"\r")
    if alone >= 0:
        place = body.find(b"\r")
        return failed("a CR alone ends a line", body[max(place - 40, 0) : place + 40])
    kinds = {"CRLF": b"\r\n" in body, "LF": b"\n" in body.replace(b"\r\n", b"")}
    if all(kinds.values()):
        place = body.find(b"\r\n")
        return failed("CRLF and LF are mixed", body[max(place - 40, 0) : place + 40])
    return passed(next((name for name, found in kinds.items() if found), "no line came"))


@look("C-21", of_events=True)
def byte_order_mark(seen: Seen) -> Finding:
    """9.2.5: one at the start is dropped; elsewhere it belongs to the name of a field."""
    body = seen.content.body
    for block in seen.content.blocks:
        for line in block.lines:
            if line.startswith(_BOM):
                return failed("one stands before a field, whose name it becomes part of", line[:_SHOWN])
    return passed("one, at the start" if body.startswith(_BOM) else "there is none")


@look("C-22", of_events=True)
def usable_ids(seen: Seen) -> Finding:
    """9.2.4: the id comes back as the value of a field, which RFC 9110, section 5.5 says what may be in."""
    found = [value for block in _whole(seen) for value in block.values(b"id")]
    if not found:
        return not_applicable("there is no id")
    for value in found:
        if fault := fault_of_id(value.decode("utf-8", "replace")):
            return failed(f"one {fault}", b"id: " + value[:_SHOWN])
    return passed(f"{len(found)} ids")


@look("C-23", of_events=True)
def ids(seen: Seen) -> Finding:
    """9.2.4: without ids nothing says where a client goes on."""
    if not seen.content.messages:
        return not_applicable("no event came")
    if seen.content.ids:
        return passed(f"as {seen.content.ids[0]}")
    return failed("no event has one", seen.content.blocks[0].raw[:_SHOWN])


@look("C-24", of_events=True)
def sane_retry(seen: Seen) -> Finding:
    """9.2.6: only digits count."""
    found = [value for block in _whole(seen) for value in block.values(b"retry")]
    if not found:
        return not_applicable("there is none")
    for value in found:
        if not value.isdigit():
            return failed("it is no number, and is ignored", b"retry: " + value[:_SHOWN])
        number = int(value) if len(value) < 20 else MAX_RETRY
        if number < _LEAST_RETRY:
            return failed(f"{number} ms: all clients come back at once", b"retry: " + value)
        if number > _MOST_RETRY:
            return failed(f"{number / 60_000:.0f} minutes", b"retry: " + value[:_SHOWN])
    return passed(f"{found[-1].decode()} ms")


@look("C-25", of_events=True)
def retry(seen: Seen) -> Finding:
    """9.2.6: without one each client chooses its own."""
    if any(block.values(b"retry") for block in seen.content.blocks):
        return passed("it is said")
    return failed("each client takes its own, from 1 to 5 s", seen.content.body[:80])


def _whole(seen: Seen) -> list[Block]:
    return [block for block in seen.content.blocks if block.is_whole]


def _is_complete(seen: Seen) -> bool:
    reply, _ = seen.answer
    return reply.is_complete
