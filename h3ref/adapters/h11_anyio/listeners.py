"""`Listeners`: the sockets that a server listens on, each of which may be shared with other processes."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

BACKLOG: Final = 4096
"""Clients that the system lets wait until they are accepted."""

UNIX_MODE: Final = 0o666
"""The mode of a socket in the file system: anybody who may enter its folder may connect, as to a port."""

IN_THE_WAY: Final = "a server listens there, or it is a file of another kind"

BALANCES: Final = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")
"""Whether the system spreads connections over sockets that have one port. Elsewhere the last one may get all."""


class Listeners:
    """The sockets that a server listens on: one for each address that its host stands for.

    Attributes:
        sockets: these.
        host: the host it was told to listen on; "" for a socket in the file system.
        port: the port; 0 for a socket in the file system.
        url: where a client on this machine finds it, without a slash at the end; "unix:" with the path for such a one.
    """

    def __init__(self, sockets: Sequence[socket.socket], host: str = "", *, path: str = "", owns: bool = False) -> None:
        self.sockets = list(sockets)
        self.host = host
        self._file = _identity(path) if owns else None  # what is removed at the end, if it is still that one
        self._path = path
        self.port: int = 0 if path else sockets[0].getsockname()[1]
        self.url = f"unix:{path}" if path else _url(host, self.port)

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self.sockets)

    def close(self) -> None:
        """Listen no more, and remove the socket from the file system, unless it is another server's by now."""
        for listener in self.sockets:
            listener.close()
        if self._file is not None and _identity(self._path) == self._file:
            with suppress(OSError):
                Path(self._path).unlink()
        self._file = None


def listen(host: str, port: int, *, reuse_port: bool = False, shares: int = 1) -> list[Listeners]:
    """Listen on every address that the host stands for, so many times: once for each process that will accept.

    Where the system spreads connections, each has sockets of its own on the same port; elsewhere all have the same.

    Args:
        host, port: where; 0 for a free port.
        reuse_port: share the port also with other servers of this user that do the same.
        shares: how many.

    Raises:
        OSError: it can't; the text says which address, why, and what to do.
        TypeError, ValueError: there is no such port, or the system can't share one.
    """
    if type(port) is not int:
        raise TypeError(f"a port is an int from 0 to 65535, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is from 0 to 65535, not {port!r}")
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port=True needs SO_REUSEPORT, which this system lacks")
    if shares == 1 or not BALANCES:
        return [_listen(host, port, reuse_port=reuse_port)] * shares
    if not reuse_port and port:  # sharing among ourselves must not hide that somebody else has it
        _listen(host, port, reuse_port=False).close()
    first = _listen(host, port, reuse_port=True)
    found = [first]
    try:
        while len(found) < shares:
            found.append(_listen(host, first.port, reuse_port=True))
    except BaseException:
        for listeners in found:
            listeners.close()
        raise
    return found


def _listen(host: str, port: int, *, reuse_port: bool) -> Listeners:
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address[0]) for family, _, _, _, address in found):
            bound = (address, listeners[0].getsockname()[1] if listeners else port)
            try:
                listener = socket.create_server(bound, family=family, backlog=BACKLOG, reuse_port=reuse_port)
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
    return Listeners(listeners, host)


def listen_on_path(path: str | os.PathLike[str]) -> Listeners:
    """Listen on a socket in the file system, in place of one that a server has left there which is no more.

    Raises:
        OSError: it can't: a server listens there, it is no socket, or its folder can't be written to.
    """
    text = os.fspath(path)
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no sockets in its file system: listen on a port")
    listener = socket.socket(socket.AF_UNIX)
    try:
        _make_room(text)
        listener.bind(text)
        Path(text).chmod(UNIX_MODE)  # before it listens: until then nobody can connect
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"{text} is taken: {IN_THE_WAY}") from None
        raise OSError(error.errno, f"can't listen on {text}: {_plain(error)}") from None
    listener.setblocking(False)
    return Listeners([listener], path=text, owns=True)


def _make_room(path: str) -> None:
    """Remove a socket on which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(Path(path).stat(follow_symlinks=False).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except BlockingIOError:  # its queue is full: somebody listens
            return


def take_over(descriptor: int) -> Listeners:
    """Listen on a socket that somebody else has bound, such as a supervisor or a service manager; closed at the end.

    Raises:
        OSError: it is not an open socket that listens for connections.
    """
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(error.errno, f"can't listen on descriptor {descriptor}: {_plain(error)}") from None
    try:
        if listener.type != socket.SOCK_STREAM or listener.family not in _FAMILIES:
            raise OSError(errno.EINVAL, "")
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.listen(BACKLOG)  # one that is connected, or not bound, is refused
        listener.setblocking(False)
        return listeners_of([listener])
    except OSError as error:
        listener.detach()
        raise OSError(error.errno, f"descriptor {descriptor} is not a socket that listens for connections") from None


def listeners_of(sockets: Sequence[socket.socket]) -> Listeners:
    """What sockets that already listen say about themselves."""
    name = sockets[0].getsockname()
    return Listeners(sockets, name[0]) if isinstance(name, tuple) else Listeners(sockets, path=os.fsdecode(name) or "?")


_FAMILIES: Final = {getattr(socket, name) for name in ("AF_INET", "AF_INET6", "AF_UNIX") if hasattr(socket, name)}


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from another one that has taken its place."""
    try:
        found = Path(path).stat(follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _plain(error: OSError) -> str:
    """The system's words, without the address that `create_server` adds."""
    return os.strerror(error.errno) if error.errno and not isinstance(error, socket.gaierror) else str(error)
