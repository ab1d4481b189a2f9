"""Ports for servers that can't be handed a socket, and for those that come back on the port they had."""

from __future__ import annotations

import secrets
import socket

FIRST, LAST = 20_000, 31_999
"""Below those that a system gives away by itself, to other tests' sockets at the same time."""


def free_port() -> int:
    """A port of this machine that nobody listens on, and that nobody else is likely to be told."""
    while True:
        port = FIRST + secrets.randbelow(LAST - FIRST + 1)  # hypothesis sets the seed of `random`
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
