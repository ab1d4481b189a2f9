"""aiohttp-sse: its responses, on aiohttp's own server."""

from __future__ import annotations

import argparse
import asyncio
import socket

from aiohttp import web
from aiohttp_sse import sse_response

from . import leash, work

audience = work.Audience()


async def stream(request: web.Request) -> web.StreamResponse:
    gives_way, data = "yield" in request.query, work.data()
    async with sse_response(request) as response:
        for number in range(int(request.query["count"])):
            await response.send(data, event=work.TYPE, id=str(number))
            if gives_way:
                await asyncio.sleep(0)
    return response


async def first(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        await response.send(work.data(), event=work.TYPE, id="0")
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        await response.wait()
    return response


async def fan(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        async for number, data in audience.events():
            await response.send(data, event=work.TYPE, id=str(number))
    return response


async def go(request: web.Request) -> web.Response:
    await audience.publish(int(request.query["count"]), float(request.query["rate"]))
    return web.Response(text="done")


async def end(request: web.Request) -> web.Response:
    await audience.end()
    return web.Response(text="done")


async def subscribers(request: web.Request) -> web.Response:
    return web.Response(text=str(len(audience)))


def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    app = web.Application()
    app.add_routes([web.get(f"/{handler.__name__}", handler) for handler in (subscribers, stream, first, silent, fan)])
    app.add_routes([web.post("/go", go), web.post("/end", end)])
    listener = socket.create_server(("127.0.0.1", 0), backlog=leash.BACKLOG)
    leash.hold(listener.getsockname()[1])
    web.run_app(app, sock=listener, access_log=None, print=None, backlog=leash.BACKLOG)
