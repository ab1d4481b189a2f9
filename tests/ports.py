"""Ports for servers that can't be handed a socket, and for those that come back on the port they had."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterator
from itertools import cycle

FIRST, LAST = 20_000, 31_999
"""Below those that a system gives away by itself, to other tests' sockets at the same time."""

WORKERS = 16
"""So many processes of one test run have ports of their own; of more, two share theirs."""


def free_port() -> int:
    """A port of this machine that nobody listens on, and that no other test of this run is told meanwhile."""
    for port in _PORTS:
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("they are told in a circle")


def ports_of_this_process() -> Iterator[int]:
    """Those of this process of the test run, each told again only after all others."""
    number = re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", ""))
    share = (LAST - FIRST + 1) // WORKERS
    first = FIRST + share * (int(number[0]) % WORKERS if number else 0)
    begin = secrets.randbelow(share)  # hypothesis sets the seed of `random`
    return cycle([first + (begin + step) % share for step in range(share)])


_PORTS = ports_of_this_process()
