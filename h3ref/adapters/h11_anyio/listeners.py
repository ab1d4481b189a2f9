"""The sockets that a server listens on: one for each address that its host stands for."""

from __future__ import annotations

import errno
import os
import socket

BACKLOG = 4096
"""Clients that the system lets wait until they are accepted."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that the host stands for.

    Raises:
        OSError: it can't; the text says which address, why, and what to do.
        ValueError: there is no such port.
    """
    if type(port) is not int:
        raise TypeError(f"a port is an int from 0 to 65535, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is from 0 to 65535, not {port!r}")
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address[0]) for family, _, _, _, address in found):
            bound = (address, listeners[0].getsockname()[1] if listeners else port)
            try:
                listener = socket.create_server(bound, family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # as ::1 for "localhost" where IPv6 is switched off
            else:
                listener.setblocking(False)
                listeners.append(listener)
        if not listeners and missing is not None:
            raise missing
    except OSError as error:
        for listener in listeners:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"port {port} on {host} is taken; choose another, or 0 for a free one") from None
        raise OSError(error.errno, f"can't listen on {host}:{port}: {_plain(error)}") from None
    return listeners


def _plain(error: OSError) -> str:
    """What the system says, without the address that `create_server` adds."""
    return os.strerror(error.errno) if error.errno and not isinstance(error, socket.gaierror) else str(error)
