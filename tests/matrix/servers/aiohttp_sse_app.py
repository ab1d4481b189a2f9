"""aiohttp-sse on aiohttp's server, with a ping of one second, and handlers that are cancelled when a client leaves.

Its streams are told to end when the server is, as its example graceful_shutdown.py has it.
"""

import contextlib
import sys
import weakref

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response
from routes import Early, Event, Events, Routes, one, until

routes = Routes()
streams: weakref.WeakSet[EventSourceResponse] = weakref.WeakSet()


async def streamed(request: web.Request, events: Events, headers: dict[str, str] | None = None) -> web.StreamResponse:
    async with sse_response(request, headers=headers, ping_interval=1) as response:
        streams.add(response)
        retry = {}
        async with contextlib.aclosing(until(events, response.wait())) as lasting:
            async for event in lasting:
                given = {**retry, **event.given()}
                if "data" in given:
                    await response.send(given.pop("data"), **given)
                retry = {} if "data" in event.given() else given  # it sends no event without data
    return response


async def answer(request: web.Request) -> web.StreamResponse:
    name, query = request.match_info["name"], request.query
    if name in Routes.PLAIN:
        return web.Response(text=routes.say(name, query.get("key", "")))
    if name in Routes.STREAMS:
        last = request.headers.get("last-event-id", "")
        return await streamed(request, routes.stream(name, query.get("key", ""), last))
    if name == "early":
        raise Early
    if name == "echo":
        headers = {"X-Echo": query["header"]} if "header" in query else None
        event = Event(query.get("data", ""), query.get("event"), query.get("id"))
        return await streamed(request, one(event), headers)
    raise web.HTTPNotFound


async def shutdown(request: web.Request) -> web.Response:
    return web.Response(text=routes.say("shutdown"))


async def end_streams(app: web.Application) -> None:
    for stream in streams:
        stream.stop_streaming()


app = web.Application()
app.on_shutdown.append(end_streams)
app.add_routes([web.get("/{name}", answer), web.post("/shutdown", shutdown)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
