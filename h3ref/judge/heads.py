"""Looks at a stream's head, and at how its body is framed."""

from __future__ import annotations

import re

from .looks import look
from .reply import Framing
from .seen import Seen
from .verdict import Finding, failed, not_applicable, passed


@look("C-01")
def status(seen: Seen) -> Finding:
    """WHATWG HTML, section 9.2.3: anything but 200 fails the connection."""
    _, head = seen.answer
    if head.status == 200:
        return passed("200")
    first = head.raw.partition(b"\n")[0] + b"\n"
    if 300 <= head.status < 400 and (where := head.get("location")):
        return failed(f"{head.status}: it is elsewhere, at {where}", first + head.line("location"))
    return failed(f"{head.status}", first)


@look("C-02")
def content_type(seen: Seen) -> Finding:
    """WHATWG HTML, section 9.2.3: another type fails the connection."""
    _, head = seen.answer
    kinds = head.all("content-type")
    if head.status != 200:
        return not_applicable("it is no stream")
    if head.is_stream:
        return passed(kinds[0])
    if not kinds:
        return failed("there is no Content-Type", head.raw)
    said = f"it is {kinds[0]}" if len(kinds) == 1 else "there are several"
    return failed(said, head.line("content-type"))


@look("C-03")
def charset(seen: Seen) -> Finding:
    """WHATWG HTML, section 9.2.5: it is decoded as UTF-8, whatever it says."""
    _, head = seen.answer
    found = re.search(r";\s*charset\s*=\s*\"?([^\";\s]*)", head.get("content-type") or "", re.IGNORECASE)
    if found is None:
        return passed("none is named, so it is UTF-8")
    if found[1].lower() in ("utf-8", "utf8"):
        return passed(found[1])
    return failed(f"it names {found[1]}, and is read as UTF-8", head.line("content-type"))


@look("C-04")
def syntax(seen: Seen) -> Finding:
    """RFC 9112, sections 4 and 5."""
    _, head = seen.answer
    if head.faults:
        return failed(head.faults[0].problem, head.faults[0].evidence)
    return passed(f"{len(head.fields)} fields")


@look("C-05")
def framing(seen: Seen) -> Finding:
    """RFC 9112, section 7.1."""
    reply, head = seen.answer
    coding = head.tokens("transfer-encoding")
    if coding and coding != ["chunked"]:
        return failed("Transfer-Encoding is not chunked, and only that", head.line("transfer-encoding"))
    if reply.fault and reply.closed is None:
        return failed(reply.fault.problem, reply.fault.evidence)
    if reply.rest:
        return failed("bytes come after the end of the body", bytes(reply.rest[:200]))
    return passed(f"{reply.framing}, {len(reply.body)} bytes")


@look("C-06")
def lengths(seen: Seen) -> Finding:
    """RFC 9112, section 6.2."""
    _, head = seen.answer
    sizes = head.all("content-length")
    if sizes and head.all("transfer-encoding"):
        return failed("it has both", head.line("transfer-encoding") + head.line("content-length"))
    if len(set(sizes)) > 1 or any(not (size.isascii() and size.isdigit()) for size in sizes):
        return failed("its length is none", head.line("content-length"))
    return passed("one says where it ends" if sizes or head.all("transfer-encoding") else "the connection's end does")


@look("C-07")
def end_of_body(seen: Seen) -> Finding:
    """RFC 9112, section 8."""
    reply, _ = seen.answer
    if reply.fault is not None and reply.closed is not None:
        return failed(reply.fault.problem, reply.fault.evidence)
    if reply.closed is not None and reply.closed[0] == "reset" and not reply.is_complete:
        return failed("the connection was reset", reply.raw[-80:])
    if not reply.is_over:
        return not_applicable("it goes on")
    return passed("it ended as its head says")


@look("C-08")
def told_end(seen: Seen) -> Finding:
    """RFC 9112, section 8: without chunks or a length, a cut looks like an end."""
    reply, head = seen.answer
    if head.status != 200:
        return not_applicable("it is no stream")
    if reply.framing == Framing.CLOSE:
        return failed("it ends with the connection, as a broken one does", head.raw)
    return passed(f"{reply.framing}")


@look("C-09")
def caching(seen: Seen) -> Finding:
    """RFC 9111, section 5.2."""
    _, head = seen.answer
    if head.status != 200:
        return not_applicable("it is no stream")
    said = {token.partition("=")[0] for token in head.tokens("cache-control")}
    if said & {"no-store", "no-cache"}:
        return passed(head.get("cache-control") or "")
    return failed("a cache may keep it", head.line("cache-control") or head.raw)


@look("C-10")
def transforming(seen: Seen) -> Finding:
    """RFC 9111, section 5.2.2.6."""
    _, head = seen.answer
    if head.status != 200:
        return not_applicable("it is no stream")
    if "no-transform" in head.tokens("cache-control"):
        return passed("no-transform")
    return failed("a proxy may compress it", head.line("cache-control") or head.raw)
