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
"""A browser's own EventSource sends it without asking; a page that streams with `fetch` has to ask, so it is allowed.

It is exposed too, for a server that says in its answer where it takes a stream up.
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
    """Let pages of other origins read the app's answers: streams, plain ones and errors alike.

    It registers two hooks. On request, it answers a browser's preflight, for every path; so call it before you
    register hooks that refuse whoever is not logged in, since a preflight carries no credentials. On response, it names
    the origin that may read. It keeps nobody from sending a request: what a request does must be guarded by itself.

    Args:
        origins: as a browser writes them, such as "https://example.com"; "*" alone for all of them.
        methods: that a page may use.
        headers: that a page may send, besides those that need no permission and `Last-Event-ID`.
        expose: headers of the answer that a page may read, besides those that need no permission and `Last-Event-ID`.
        credentials: whether pages may send cookies and the like. Then the origins have to be named.
        max_age: seconds that a browser may remember what a preflight was told.

    Raises:
        TypeError: a str in place of several, or what is no str.
        ValueError: no origin at all, or what is none; what is no method or name; "*" with credentials, or beside other
            origins; a negative time.
    """
    allowed = frozenset(_several("origins", origins))
    if not allowed:
        raise ValueError('origins names none: name those that may read, or let all of them with ["*"]')
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
        raise ValueError('with credentials there is no "*": any page could act for its visitor; name what is allowed')
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
            event.send_error(403, "pages of this origin may not read what this server answers")
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
        raise ValueError("\"null\" is the origin of every sandboxed page, also an attacker's: it can't be allowed")
    if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
        raise ValueError(
            f"an origin is a scheme, a host and a port unless it is the default one, in lower case and without a "
            f'path, such as "https://example.com"; not {origin!r}'
        )


def _names(argument: str, values: Iterable[str]) -> list[str]:
    names = _several(argument, values)
    for name in names:
        check_token(argument, name)
    return names


def _several(argument: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{argument} are several: write [{values!r}]")
    several = list(values)
    for value in several:
        if not isinstance(value, str):
            raise TypeError(f"{argument} are strs, not {value!r}")
    return several
