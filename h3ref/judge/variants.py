"""Looks at how the server answers other requests for the same stream."""

from __future__ import annotations

from typing import Final

from .looks import look
from .reply import Framing, Head, Reply
from .seen import Seen, content_of
from .verdict import Finding, failed, not_applicable, not_run, passed

ORIGIN: Final = "https://h3ref.example"
"""Of a page that nobody has."""

STRANGER: Final = "h3ref-check-never-sent"
"""An id that no server has sent."""


@look("C-27", "head")
def head_request(seen: Seen) -> Finding:
    """RFC 9110, section 9.3.2."""
    _, head = seen.answer
    found = _answered(seen.head)
    if found is None:
        return failed("HEAD is not answered", _proof(seen.head))
    if (found.status, found.get("content-type")) != (head.status, head.get("content-type")):
        said = f"HEAD gets {found.status} and {found.get('content-type') or 'no type'}, GET {head.status}"
        return failed(said, found.raw[:400])
    return passed(f"{found.status}, as GET")


@look("C-28", "head")
def no_body_for_head(seen: Seen) -> Finding:
    """RFC 9110, section 9.3.2: "The server MUST NOT send content in the response" to HEAD."""
    assert seen.head is not None, "it is needed"
    if _answered(seen.head) is None:
        return not_run("HEAD is not answered")
    rest = bytes(seen.head.rest)
    if rest and not rest.startswith(b"HTTP/"):
        return failed("bytes come after its head", rest[:200])
    return passed("nothing comes after its head")


@look("C-29", "old")
def no_chunks_for_old(seen: Seen) -> Finding:
    """RFC 9112, section 6.1."""
    found = _answered(seen.old)
    if found is None:
        return not_run("HTTP/1.0 is not answered")
    if found.all("transfer-encoding"):
        return failed("HTTP/1.0 gets a transfer coding, which it does not know", found.line("transfer-encoding"))
    return passed("without a transfer coding")


@look("C-30", "old")
def old_version(seen: Seen) -> Finding:
    """RFC 9110, section 2.5."""
    return _same_stream(seen, seen.old, "HTTP/1.0")


@look("C-31", "again")
def any_accept(seen: Seen) -> Finding:
    """RFC 9110, section 12.5.1: `*/*` accepts an event stream, too."""
    if seen.again is not None and (head := _answered(seen.again)) is not None and head.status == 204:
        return passed("204: nothing follows")
    return _same_stream(seen, seen.again, "Accept: */*")


@look("C-32", "browser")
def cors(seen: Seen) -> Finding:
    """Fetch, section 3.3.3."""
    found = _answered(seen.browser)
    if found is None:
        return not_run("the request with an Origin is not answered")
    allowed = found.all("access-control-allow-origin")
    lines = found.line("access-control-allow-origin") + found.line("access-control-allow-credentials")
    if not allowed:
        return not_applicable("no other origin may read it")
    if len(allowed) > 1 or "," in allowed[0]:
        return failed("it names several origins, and a browser takes none", lines)
    with_credentials = found.get("access-control-allow-credentials") == "true"
    if allowed[0] == "*":
        if with_credentials:
            return failed("a browser refuses * where credentials are allowed", lines)
        return passed("*")
    if allowed[0] == ORIGIN and "origin" not in found.tokens("vary") and "*" not in found.tokens("vary"):
        return failed("it repeats the origin, and does not say Vary: Origin", lines + found.line("vary"))
    return passed(allowed[0])


@look("C-33", "browser", "preflight")
def preflight(seen: Seen) -> Finding:
    """Fetch, section 4.8: what a page asks by `fetch` with a header of its own is asked for before."""
    browser = _answered(seen.browser)
    if browser is None or not browser.all("access-control-allow-origin"):
        return not_applicable("no other origin may read it")
    found = _answered(seen.preflight)
    if found is None:
        return failed("the preflight is not answered", _proof(seen.preflight))
    allowed = found.tokens("access-control-allow-headers")
    if not 200 <= found.status < 300:
        return failed(f"the preflight gets {found.status}", found.raw[:300])
    if not found.all("access-control-allow-origin") or not {"*", "last-event-id"} & set(allowed):
        return failed("Last-Event-ID is not allowed", found.raw[:300])
    return passed("Last-Event-ID is allowed")


@look("C-34", "again", of_events=True)
def resumes(seen: Seen) -> Finding:
    """9.2.4: the id says what the client had last."""
    assert seen.again is not None, "it is needed"
    if not seen.after:
        return not_applicable("there is no id to go on after")
    found = _answered(seen.again)
    if found is None or found.status not in (200, 204):
        return not_run("the request was refused")
    had = seen.content.ids[: seen.content.ids.index(seen.after) + 1]
    more = seen.content.ids[len(had) :]
    ids = content_of(seen.again).ids
    shown = bytes(seen.again.body[:160])
    if ids and ids[0] in had:
        return failed(f"after {seen.after} it begins again with {ids[0]}", shown)
    if ids and more and ids[0] != more[0] and ids[0] in more:
        return failed(f"after {seen.after} it goes on with {ids[0]}, and {more[0]} is missing", shown)
    return passed(f"after {seen.after} comes {ids[0] if ids else 'nothing old'}")


@look("C-35", "again")
def comes_back(seen: Seen) -> Finding:
    """9.2.3: a client comes back as soon as its connection breaks."""
    found = _answered(seen.again)
    if found is None:
        return failed("a client that comes back at once gets no answer", _proof(seen.again))
    if found.status in (409, 423, 429) or found.status >= 500:
        return failed(f"a client that comes back at once gets {found.status}", found.raw[:300])
    return passed(f"{found.status}")


@look("C-36", "stranger", of_events=True)
def tells_gaps(seen: Seen) -> Finding:
    """9.2.4: a client that comes back with an id that is not known has missed something."""
    if not seen.content.ids:
        return not_applicable("there is no id to go on after")
    assert seen.stranger is not None, "it is needed"
    found = _answered(seen.stranger)
    if found is None or found.status not in (200, 204):
        gets = found.status if found else "no answer"
        return failed(f"an id that it does not know gets {gets}", seen.stranger.proof)
    told = content_of(seen.stranger)
    if not told.messages:
        return passed("nothing comes, so nothing is taken for what was missed")
    first, usual = told.messages[0][1], {message.type for _, message in seen.content.messages}
    if first.last_event_id in seen.content.ids[:1]:
        return passed("all comes again")
    if first.type not in usual:
        return passed(f"an event {first.type} tells it")
    return failed("it goes on as if nothing had been missed", bytes(seen.stranger.body[:160]))


@look("C-37", "browser")
def several(seen: Seen) -> Finding:
    """9.2.3: each page has its own connection."""
    reply = seen.browser
    found = _answered(reply)
    if found is None:
        return failed("a second one at the same time gets no answer", _proof(reply))
    _, head = seen.answer
    if found.status != head.status:
        return failed(f"a second one at the same time gets {found.status}", found.raw[:300])
    return passed("two at the same time")


@look("C-38", "http2")
def http2(seen: Seen) -> Finding:
    """RFC 9113."""
    assert seen.http2 is not None, "it is needed"
    return seen.http2


def _answered(reply: Reply | None) -> Head | None:
    return reply.head if reply is not None else None


def _proof(reply: Reply | None) -> bytes:
    return reply.proof if reply is not None else b""


def _same_stream(seen: Seen, reply: Reply | None, what: str) -> Finding:
    """Whether another request gets what the plain one got."""
    _, head = seen.answer
    found = _answered(reply)
    if found is None:
        return failed(f"{what} gets no answer", _proof(reply))
    if found.status != head.status or found.is_stream != head.is_stream:
        kind = found.get("content-type") or "no type"
        return failed(f"{what} gets {found.status} and {kind}", found.raw[:300])
    end = ", to the end of the connection" if reply and reply.framing == Framing.CLOSE else ""
    return passed(f"{what} gets it too{end}")
