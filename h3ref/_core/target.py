"""The target of a request (RFC 9112, section 3.2)."""

from __future__ import annotations

import re


def origin_form(target: str) -> str:
    """Return path and query of a target in absolute form, which every server accepts (RFC 9112, section 3.2.2)."""
    scheme, found, rest = target.partition("://")
    if not found or not scheme.isalnum():
        return target
    authority = re.match("[^/?]*", rest)
    assert authority is not None, "the pattern matches even nothing"
    path = rest[authority.end() :]
    return path if path.startswith("/") else f"/{path}"
