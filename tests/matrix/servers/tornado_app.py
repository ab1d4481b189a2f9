"""Tornado, with the stream's bytes by hand: python tornado_app.py PORT."""

import asyncio
import signal
import sys

from routes import Early, Event, Events, Routes, one
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

routes = Routes(in_parts=True)


class Answer(RequestHandler):
    async def get(self, name: str) -> None:
        key = self.get_query_argument("key", "")
        if name in Routes.PLAIN:
            self.finish(routes.say(name, key))
        elif name in Routes.STREAMS:
            await self.stream(routes.stream(name, key, self.request.headers.get("Last-Event-ID", "")))
        elif name == "early":
            raise Early
        elif name == "echo":
            values = [self.get_query_argument(name, None, strip=False) for name in ("data", "event", "id", "header")]
            if values[3] is not None:
                self.set_header("X-Echo", values[3])
            await self.stream(one(Event(values[0] or "", values[1], values[2])))
        else:
            raise HTTPError(404)

    async def stream(self, events: Events) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.task = asyncio.current_task()
        try:
            async for event in events:
                self.write(event.by_hand())
                await self.flush()
        except StreamClosedError:
            pass
        finally:
            await events.aclose()

    def on_connection_close(self) -> None:
        if task := getattr(self, "task", None):
            task.cancel()

    async def post(self, name: str) -> None:
        self.finish(routes.say(name))


async def main(port: int) -> None:
    server = Application([(r"/(\w+)", Answer)]).listen(port, "127.0.0.1")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.stop()
    await server.close_all_connections()


asyncio.run(main(int(sys.argv[1])))
