"""uvicorn, which serves every ASGI app here."""

from __future__ import annotations

import argparse
import socket
from typing import Any

import uvicorn

from . import leash


def run(app: Any, options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=leash.BACKLOG)
    config = uvicorn.Config(
        app,
        loop="uvloop" if options.fast else "asyncio",
        http="httptools" if options.fast else "h11",
        ws="none",
        access_log=False,
        log_level="warning",
        backlog=leash.BACKLOG,
    )
    leash.hold(listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])
