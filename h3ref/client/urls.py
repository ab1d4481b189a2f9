"""The URL of a stream: which ones are accepted, and how they are shown."""

from __future__ import annotations

import re
from typing import Final

import httpx2

_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")  # of a host's name, as DNS has it (RFC 1035, 2.3.4)
_LONGEST_NAME: Final = 253


def parsed(url: str | httpx2.URL) -> httpx2.URL:
    """Return the URL.

    Raises:
        TypeError: it is neither a str nor an httpx2.URL.
        ValueError: it is not a URL.
    """
    try:
        return httpx2.URL(url)
    except httpx2.InvalidURL as error:  # which is no ValueError
        raise ValueError(f"url is an http or https URL, such as http://127.0.0.1:3000/events: {error}") from None


def check(url: httpx2.URL) -> None:
    """Raise ValueError for a URL that can't be a stream's."""
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"url is an http or https URL, such as http://127.0.0.1:3000/events, not {shown(url)!r}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"a URL's port is from 1 to 65535, not {url.port}")
    host = url.raw_host.decode("ascii")
    if ":" not in host and not _is_name(host.removesuffix(".")):
        raise ValueError(
            f"a URL's host is an address or a name, whose parts are 1 to 63 letters, digits, - or _, not {host!r}"
        )


def shown(url: httpx2.URL) -> str:
    """The URL for logs and errors: without the password and the query, which may be secrets."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _is_name(host: str) -> bool:
    return len(host) <= _LONGEST_NAME and all(_LABEL.fullmatch(label) for label in host.split("."))
