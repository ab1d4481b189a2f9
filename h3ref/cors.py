"""`cors`: lets pages of other origins read an app's answers and streams (Fetch, section 3.3, the CORS protocol)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .app import H3App
from .event import H3Event
from .headers import check_token

__all__ = ["cors"]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")

LAST_EVENT_ID = "Last-Event-ID"
"""A browser's EventSource sends it without asking; a page that streams with `fetch` has to ask, so it is allowed.

It is also exposed, for a server whose answer says where it resumes a stream.
"""


def cors(
    app: H3App,
    *,
    origins: Iterable[str],
    methods: Iterable[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    headers: Iterable[str] = ("Content-Type",),
    expose: Iterable[str] = (),
    credentials: bool = False,
    max_age: int = 600,
) -> None:
    """Let pages of other origins read the app's answers: streams, plain answers and errors alike.

    It registers two hooks. On request, it answers a browser's preflight, on every path; so call it before you register
    hooks that refuse visitors who are not logged in, since a preflight carries no credentials. On response, it names
    the origin that may read. It keeps nobody from sending a request: you still have to guard what a request does.

    Args:
        origins: as a browser writes them, such as "https://example.com"; "*" alone stands for all of them.
        methods: the methods that a page may use.
        headers: the headers that a page may send, besides `Last-Event-ID` and those that need no permission.
        expose: the answer's headers that a page may read, besides `Last-Event-ID` and those that need no permission.
        credentials: whether pages may send cookies and the like. If so, the origins have to be named.
        max_age: seconds for which a browser may remember the answer to a preflight.

    Raises:
        TypeError: a str where a list is wanted, or an item that is not a str.
        ValueError: no origin at all; an item that is not an origin, a method or a header's name; "*" with credentials,
            or beside other origins; a negative time.
    """
    allowed = frozenset(_several("origins", origins))
    if not allowed:
        raise ValueError('origins is empty: name those that may read, or allow all of them with ["*"]')
    if "*" in allowed and len(allowed) > 1:
        raise ValueError('"*" stands for all origins: leave the others out, or leave "*" out')
    for origin in allowed - {"*"}:
        _check_origin(origin)
    lists = {
        "methods": _names("methods", methods),
        "headers": _names("headers", headers),
        "expose": _names("expose", expose),
    }
    if credentials and ("*" in allowed or any("*" in names for names in lists.values())):
        raise ValueError('"*" is not for credentials, which any page could then use: name what is allowed')
    if type(max_age) is not int or max_age < 0:
        raise ValueError(f"max_age is a whole number of seconds, 0 or more, not {max_age!r}")

    permits = [
        ("Access-Control-Allow-Methods", ", ".join(name.upper() for name in lists["methods"])),
        ("Access-Control-Allow-Headers", ", ".join(dict.fromkeys([*lists["headers"], LAST_EVENT_ID]))),
        ("Access-Control-Max-Age", str(max_age)),
    ]
    grants = [("Access-Control-Expose-Headers", ", ".join(dict.fromkeys([*lists["expose"], LAST_EVENT_ID])))]
    if credentials:
        grants.append(("Access-Control-Allow-Credentials", "true"))

    async def answer_preflight(event: H3Event) -> None:
        if event.method != "OPTIONS" or "access-control-request-method" not in event.headers or event.answered:
            return
        if _grantee(event, allowed) is None:
            event.send_error(403, "pages of this origin may not read this server's answers")
            return
        for name, value in permits:
            event.set_header(name, value)
        event.set_status(204)
        event.send_text("")

    async def name_origin(event: H3Event) -> None:
        if "*" not in allowed:
            event.set_header("Vary", "Origin", append=True)  # so that no cache gives one origin another's answer
        grantee = _grantee(event, allowed)
        if grantee is not None:
            event.set_header("Access-Control-Allow-Origin", grantee)
            for name, value in grants:
                event.set_header(name, value)

    app.on_request(answer_preflight)
    app.on_response(name_origin)


def _grantee(event: H3Event, allowed: frozenset[str]) -> str | None:
    """What Access-Control-Allow-Origin says to this request; None for an origin that may not read."""
    if "*" in allowed:
        return "*"
    origins = event.headers.getlist("origin")
    return origins[0] if len(origins) == 1 and origins[0] in allowed else None


def _check_origin(origin: str) -> None:
    """Refuse what no browser sends as an origin, so that it would never match."""
    if origin == "null":
        raise ValueError("\"null\" is the origin of every sandboxed page, an attacker's too: it can't be allowed")
    if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
        raise ValueError(
            f"an origin is a scheme, a host and a port if it is not the default one, in lower case and without a "
            f'path, such as "https://example.com"; not {origin!r}'
        )


def _names(argument: str, values: Iterable[str]) -> list[str]:
    names = _several(argument, values)
    for name in names:
        check_token(argument, name)
    return names


def _several(argument: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{argument} is a list of strs: write [{values!r}]")
    several = list(values)
    for value in several:
        if not isinstance(value, str):
            raise TypeError(f"{argument} is a list of strs, and holds {value!r}")
    return several
