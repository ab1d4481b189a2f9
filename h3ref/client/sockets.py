"""A client's own sockets: probes that find a peer that has vanished, and the certificates that it trusts."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
from typing import Any, Final

import httpx2

PROBE_AFTER: Final = 60
"""Seconds of silence after which a connection is probed; the system's own default is two hours."""

PROBE_EVERY: Final = 15
"""Seconds between two unanswered probes."""

PROBES: Final = 4
"""Unanswered probes that end a connection."""

_TIMES: Final = (
    ("TCP_KEEPIDLE", PROBE_AFTER),
    ("TCP_KEEPALIVE", PROBE_AFTER),  # macOS's name for it
    ("TCP_KEEPINTVL", PROBE_EVERY),
    ("TCP_KEEPCNT", PROBES),
)


def probe(stream: Any) -> None:
    """Switch on TCP keep-alive for a network stream of httpcore2's; one that has it already keeps its own times."""
    sock = None if stream is None else stream.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # closed meanwhile
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _TIMES:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def trusted() -> ssl.SSLContext:
    """The TLS settings of all sources without a client of their own: httpx2's, read once, which takes some 30 ms."""
    return _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=4)
def _trusted(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _WhenNeeded(ssl.SSLContext):
    """`trusted()` at the first handshake: a client that only uses http never needs it."""

    def set_alpn_protocols(self, alpn_protocols: object) -> None: ...

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return trusted().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return trusted().wrap_bio(*args, **options)


WHEN_NEEDED: Final = _WhenNeeded(ssl.PROTOCOL_TLS_CLIENT)
