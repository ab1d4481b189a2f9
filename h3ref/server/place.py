"""`Place`: where a server listens, as a user says it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..adapters.h11_anyio.listeners import Listeners


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens.

    Args:
        host, port: there, unless one of the next two is given.
        uds: the path of a socket in the file system.
        fd: the number of an open socket.
        reuse_port: whether other processes share the port.

    Raises:
        TypeError, ValueError: an argument that can't be used, or not together with another.
    """

    host: str
    port: int
    uds: str | os.PathLike[str] | None = None
    fd: int | None = None
    reuse_port: bool = False

    def __post_init__(self) -> None:
        if self.uds is not None and (not os.fspath(self.uds) or "\0" in str(self.uds)):
            raise ValueError(f"uds is the path of a socket, a str without NUL, not {self.uds!r}")
        if self.fd is not None and (type(self.fd) is not int or self.fd < 0):
            raise ValueError(f"fd is the number of an open socket, not {self.fd!r}")
        if self.uds is not None and self.fd is not None:
            raise ValueError("a server listens on uds, a socket's path, or on fd, an open socket, not on both")
        if self.reuse_port and (self.uds is not None or self.fd is not None):
            raise ValueError("reuse_port is for a host and a port: leave it out with uds and fd")

    def listen(self, shares: int = 1) -> list[Listeners]:
        """Listen there, once for each process that will accept.

        Raises:
            OSError: it can't; the text says why.
            TypeError, ValueError: there is no such place.
        """
        from ..adapters.h11_anyio.listeners import listen, listen_on_path, take_over

        if self.uds is not None:
            return [listen_on_path(self.uds)] * shares
        if self.fd is not None:
            return [take_over(self.fd)] * shares
        return listen(self.host, self.port, reuse_port=self.reuse_port, shares=shares)
