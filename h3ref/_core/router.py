"""`Router`: method and path to handler, with H3Z's patterns: static, ":id" and "/*"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

Handler = Callable[..., Any]


class Match(NamedTuple):
    """Where a request leads: the handler and what its pattern matched, or the methods that the path has."""

    handler: Handler | None
    params: dict[str, str]
    allowed: tuple[str, ...]


class _Node:
    __slots__ = ("handlers", "param", "static", "wildcard")

    def __init__(self) -> None:
        self.static: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.wildcard: _Node | None = None
        self.handlers: dict[str, tuple[Handler, tuple[str, ...], str]] = {}  # with the names and the pattern


class Router:
    """A tree of path segments. A static segment is preferred to ":id", and ":id" to "/*"."""

    def __init__(self) -> None:
        self._root = _Node()
        self._plain: dict[tuple[str, str], Handler] = {}  # for patterns that are plain paths, as most are

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """Register the handler for a method and a pattern.

        Raises:
            ValueError: a pattern that can match nothing sensible, or that matches the same paths as another pattern of
                the method.
        """
        if not pattern.startswith("/"):
            raise ValueError(f"a pattern begins with '/', not {pattern!r}")
        node, names = self._root, list[str]()
        segments = pattern[1:].split("/")
        for place, segment in enumerate(segments):
            if segment == "*":
                if place != len(segments) - 1:
                    raise ValueError(f"'*' takes all that follows, so it must come last: {pattern!r}")
                node.wildcard = node.wildcard or _Node()
                node, name = node.wildcard, "*"
            elif segment.startswith(":"):
                name = segment[1:]
                if not name:
                    raise ValueError(f"':' needs a name after it: {pattern!r}")
                node.param = node.param or _Node()
                node = node.param
            elif any(char in segment for char in "*?#"):
                raise ValueError(f"'*' stands alone as the last segment, and no path has '?' or '#' in it: {pattern!r}")
            else:
                node = node.static.setdefault(segment, _Node())
                continue
            if name in names:
                raise ValueError(f"two segments are named {name!r}: {pattern!r}")
            names.append(name)
        if method in node.handlers:
            *_, other = node.handlers[method]
            same = "" if other == pattern else f" as {other!r}, which matches the same paths"
            raise ValueError(f"{method} {pattern!r} is registered already{same}: there is one handler for each")
        node.handlers[method] = (handler, tuple(names), pattern)
        if not names and "%" not in pattern:  # percent-encoding is decoded in a path, but not in a pattern
            self._plain[method, pattern] = handler

    def match(self, method: str, path: str) -> Match:
        """Find the handler for a method and a path as it came, still percent-encoded.

        A HEAD request goes to the GET handler if there is no other. Without a handler, `allowed` has the
        methods that the path answers to, empty if there is no such path.
        """
        handler = self._plain.get((method, path))
        if handler is not None:
            return Match(handler, {}, ())
        methods = ("HEAD", "GET") if method == "HEAD" else (method,)
        allowed: set[str] = set()
        segments = path[1:].split("/")
        for node, values in _walk(self._root, segments, ()) if path.startswith("/") else ():
            for name in methods:
                if name in node.handlers:
                    found, names, _ = node.handlers[name]
                    return Match(found, dict(zip(names, values, strict=True)), ())
            allowed |= node.handlers.keys()
        if "GET" in allowed:
            allowed.add("HEAD")
        return Match(None, {}, tuple(sorted(allowed)))


def _walk(node: _Node, segments: list[str], values: tuple[str, ...]) -> Any:
    """Yield every node that the segments lead to, the preferred ones first."""
    if not segments:
        if node.handlers:
            yield node, values
        return
    segment, rest = unquote(segments[0]), segments[1:]
    if segment in node.static:
        yield from _walk(node.static[segment], rest, values)
    if node.param and segment:
        yield from _walk(node.param, rest, (*values, segment))
    if node.wildcard:
        yield node.wildcard, (*values, unquote("/".join(segments)))
