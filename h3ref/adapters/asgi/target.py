"""The target of a request under an ASGI server, below the path where the app is mounted.

A scope gives it three times: `path` decoded, `raw_path` as it came, and `root_path`, the part of both that is the
mount's. Servers and frameworks keep to that in their own ways; what is said here of each was observed.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from ..._core.target import origin_form


def target_of(scope: MutableMapping[str, Any]) -> str:
    """The request's target below the path where the app is mounted, percent-encoded, in origin form."""
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
    if (raw != path or "%" in raw) and unquote(raw) != path:
        raw = _rewritten(raw, path)
    root: str = scope.get("root_path", "").rstrip("/")
    below = raw if not root and raw.startswith("/") else _below(_without_authority(raw, root), root)
    query: bytes = scope.get("query_string", b"")
    return f"{below}?{query.decode('latin-1')}" if query else below


def _without_authority(path: str, root: str) -> str:
    """The path of a target in absolute form, which uvicorn with h11 and hypercorn leave as it came.

    Uvicorn writes its root path in front, whatever comes after it.
    """
    absolute = path.removeprefix(root)
    origin = origin_form(absolute)
    return path if origin == absolute else origin


def _rewritten(raw: str, path: str) -> str:
    """The encoded form of a path that a framework has changed without saying so in a root path.

    A framework that takes its mount off the front leaves the rest as it came, except Litestar, which appends a slash
    that the client did not send.
    """
    rest = _end_of(raw, path)
    if rest is None and path.endswith("/") and not unquote(raw).endswith("/"):
        rest = _end_of(raw, path.removesuffix("/"))
        if rest == raw:  # nothing was taken off: the slash is there on purpose
            rest = None
    return quote(path) if rest is None else rest


def _end_of(raw: str, path: str) -> str | None:
    """The end of an encoded path that is a decoded one."""
    at = len(raw)
    while (at := raw.rfind("/", 0, at)) >= 0:
        if unquote(raw[at:]) == path:
            return raw[at:]
    return None


def _below(path: str, root: str) -> str:
    """The part of an encoded path below a decoded root; the whole path if it does not begin with that."""
    end = 0
    while root and end < len(path):
        end = path.find("/", end + 1)
        end = len(path) if end < 0 else end
        if unquote(path[:end]) == root:
            return path[end:] or "/"
    return path
