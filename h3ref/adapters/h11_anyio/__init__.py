"""The native adapter: HTTP/1.1 on own non-blocking sockets, on asyncio and trio alike.

`server` listens and accepts, `peer` reads a client's requests, `stream` carries one stream's bytes, `loop` has the
two tasks that serve all streams: the watcher, which notices clients that leave, and the flusher, which sends what
is due.
"""

from .server import Server

__all__ = ["Server"]
