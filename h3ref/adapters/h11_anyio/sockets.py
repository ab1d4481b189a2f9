"""Questions and instructions to the system about a client's socket: what it holds for a peer, and its patience."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

if sys.platform == "linux":
    import fcntl
    import termios

READ_SIZE = 64 * 1024
"""Bytes that are read at a time."""

_TCP = (socket.AF_INET, socket.AF_INET6)

_NO_LINGER = struct.pack("ii", 1, 0)


def bound_silence(sock: socket.socket, seconds: float | None) -> None:
    """Have the system, where it can, end a connection whose peer acknowledges nothing, as one that has vanished.

    Accepted sockets have this from their listener. It counts from the moment when the peer's window is full, which is
    before ours is, so it gets twice the time. None leaves it to the system, which is patient.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and sock.family in _TCP:
        milliseconds = 0 if seconds is None else min(int(seconds * 2000), 2**31 - 1)
        with suppress(OSError):  # the peer has left already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def send_at_once(listener: socket.socket) -> None:
    """Have the system hold back nothing that is sent. Accepted sockets have this from their listener."""
    if listener.family in _TCP:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def in_flight(sock: socket.socket) -> int:
    """Bytes that the system holds for a peer: not sent, or not acknowledged; 0 where it can't tell."""
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def reset_when_closed(sock: socket.socket) -> None:
    """Have the system forget what it has not sent when the socket is closed, and send RST."""
    with suppress(OSError):  # the peer has left already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
