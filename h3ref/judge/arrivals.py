"""Looks at when a stream's bytes arrive, and at what stands in between and holds them back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from .looks import look
from .reply import Head, Reply
from .seen import Content, Seen, content_of
from .verdict import Finding, failed, not_applicable, passed

_BUFFERS = {2**power for power in range(10, 18)}
"""Sizes of buffers: chunks of exactly such a size are full buffers."""


@look("C-11", in_time=True)
def head_in_time(seen: Seen) -> Finding:
    """Without the head no client knows that it is connected."""
    reply = seen.main
    assert reply is not None, "it is looked at"
    if reply.head is not None:
        return passed(f"after {reply.head.at - reply.begun:.2f} s")
    if reply.closed is not None:
        return failed("the connection ended before", reply.proof)
    who = proxies([other.head for other in (seen.head, seen.preflight) if other is not None])
    if who:
        return failed(
            f"not in {seen.waits.watch:g} s, while {who} answers other requests: it may hold it back", reply.proof
        )
    return failed(f"not in {seen.waits.watch:g} s: nobody answers, or somebody holds it back", reply.proof)


@look("C-12")
def first_bytes(seen: Seen) -> Finding:
    """What the broken order of spec/lifecycle.json looks like from outside: the head, and then silence."""
    reply, head = seen.answer
    if head.status != 200:
        return not_applicable("it is no stream")
    if reply.body:
        return passed(f"{reply.arrivals[0][0] - head.at:.2f} s after the head")
    if reply.is_over:
        return passed("it ended, and had nothing to say")
    return failed(
        f"the head, and then {seen.waits.watch:g} s of silence: a quiet stream, or one whose handler has no writer",
        head.raw,
    )


@look("C-13", "browser")
def not_held_back(seen: Seen) -> Finding:
    """Nobody on the way may gather events: neither a proxy's buffer nor a compressor."""
    for reply in filter(None, (seen.main, seen.browser)):
        if reply.head is None:
            if reply is seen.browser and seen.main is not None and seen.main.head is not None:
                return failed(
                    "no head comes where gzip is accepted, while one does otherwise: a compressor holds it", reply.proof
                )
            continue
        content = content_of(reply)
        for problem, evidence in _held(reply, content):
            who = proxies([reply.head])
            return failed(f"{problem}; on the way: {who or 'nobody that says so'}", evidence)
    return passed("as far as can be told from here")


def _held(reply: Reply, content: Content) -> Iterator[tuple[str, bytes]]:
    """The signs that somebody gathers what is sent."""
    assert reply.head is not None, "it is looked at"
    coding = reply.head.get("content-encoding")
    if coding and reply.body and not content.body and not content.fault:
        yield f"{len(reply.body)} bytes of {coding} came, and not one event can be read of them", bytes(reply.body[:40])
    full = [size for size in reply.chunks if size in _BUFFERS]
    sizes = [len(block.raw) for block in content.blocks]
    if len(full) >= 2 and full.count(full[0]) * 2 > len(reply.chunks) and sizes and max(sizes) < full[0]:
        begin = full[0]
        yield (
            f"it comes in pieces of {full[0]} bytes, which cut events in two: a full buffer each",
            content.body[max(begin - 60, 0) : begin + 60],
        )
    times: dict[float, list[str]] = {}
    for at, text in content.comments:
        times.setdefault(at, []).append(re.sub(r"\d", "0", text))
    events = {at for at, _ in content.messages}
    for at, texts in times.items():
        if len(texts) > 2 and len(set(texts)) == 1 and at not in events:
            shown = f": {content.comments[0][1]}\n".encode()
            yield f"{len(texts)} keep-alives came at once, which are sent one by one", shown * len(texts)


@look("C-14", "browser")
def not_compressed(seen: Seen) -> Finding:
    """RFC 9110, section 8.4; a compressor has to be flushed after each event."""
    reply = seen.browser
    assert reply is not None, "it is looked at"
    if reply.head is None:
        return failed("with Accept-Encoding: gzip no head came", reply.proof)
    if coding := reply.head.get("content-encoding"):
        who = proxies([reply.head])
        return failed(f"it is {coding}{f', by {who}' if who else ''}", reply.head.line("content-encoding"))
    return passed("with Accept-Encoding: gzip it comes as it is")


@look("C-26", of_events=True)
def heartbeats(seen: Seen) -> Finding:
    """9.2.7: proxies end what is silent."""
    reply, head = seen.answer
    times = [head.at, *(at for at, _ in reply.arrivals)]
    if not reply.is_over:
        times.append(seen.watched_until)
    longest = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
    if longest >= seen.waits.silence:
        return failed(f"{longest:.0f} s of silence", reply.raw[-80:])
    if reply.is_over or times[-1] - times[0] >= seen.waits.silence:
        return passed(f"never more than {longest:.1f} s of silence")
    return passed(f"never more than {longest:.1f} s of silence, while it was watched")


def proxies(heads: list[Head | None]) -> str:
    """Those on the way that say so, by RFC 9110's Via and Server and by what the large ones add."""
    found: list[str] = []
    for head in filter(None, heads):
        for name in ("via", "server", "cf-ray", "x-amz-cf-id", "x-varnish", "x-served-by", "x-powered-by"):
            found += [f"{value} ({name.title()})" for value in head.all(name)]
    return ", ".join(dict.fromkeys(found))
