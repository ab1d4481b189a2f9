"""The native adapter: HTTP/1.1 on its own non-blocking sockets, on asyncio and trio alike.

`server` has an `acceptor` for each of its `listeners`, and starts `tasks` that answer. `peer` is one client's
connection: what it sends goes through the `guard` to h11; the guard judges by `grammar` and `framing`, and raises what
is in `refused`.

`transport` is one request; `answer` carries a plain answer's bytes, `stream` a stream's, `group` those of many streams;
`wire` frames.

`loop` has what all connections share: the `watcher`, which notices what comes and who leaves; the `flusher`, which
sends what is due; `deadlines` for silent clients; the `backlog` of what slow readers have not taken. `sockets` asks
and instructs the system.
"""

from .server import Server

__all__ = ["Server"]
