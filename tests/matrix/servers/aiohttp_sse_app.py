"""aiohttp-sse on aiohttp's server, with a ping of one second, and handlers that are cancelled when a client leaves."""

import sys

from aiohttp import web
from aiohttp_sse import sse_response
from routes import Early, Event, Events, Routes, one

routes = Routes()


async def streamed(request: web.Request, events: Events, headers: dict[str, str] | None = None) -> web.StreamResponse:
    async with sse_response(request, headers=headers, ping_interval=1) as response:
        retry = {}
        try:
            async for event in events:
                given = {**retry, **event.given()}
                if "data" in given:
                    await response.send(given.pop("data"), **given)
                retry = {} if "data" in event.given() else given  # it sends no event without data
        finally:
            await events.aclose()
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


app = web.Application()
app.add_routes([web.get("/{name}", answer), web.post("/shutdown", shutdown)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
