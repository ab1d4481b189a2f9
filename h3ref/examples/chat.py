"""A chat room: a `Channel` that keeps a history, and a form that posts to it.

    python -m h3ref serve h3ref.examples.chat:app
    curl -N 'http://127.0.0.1:3000/chat/events?user=ann'
    curl http://127.0.0.1:3000/chat/send -d '{"user": "bob", "text": "hi"}'

Or open http://127.0.0.1:3000/ in two windows of a browser.

Where REDIS_URL says where a Redis is, all processes that it is served by are one room:

    REDIS_URL=redis://127.0.0.1:6379 python -m h3ref serve h3ref.examples.chat:app --workers 2
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from typing import Any

from h3ref import Channel, EngineError, H3App, H3Event, SSEEvent, SSEWriter
from h3ref.engine import Engine

MAX_USER = 30
MAX_TEXT = 2000


def engine_of(url: str | None) -> Engine | None:
    """What makes the rooms of several processes one, if there is something."""
    if not url:
        return None
    from h3ref.redis import RedisEngine  # here: without it, nobody needs the extra

    return RedisEngine(url)


engine = engine_of(os.environ.get("REDIS_URL"))
app = H3App(lifespan=engine)
room = Channel(history=1000, name="chat", newcomers="history", engine=engine)
ids = itertools.count(1)


@app.get("/chat/events")
async def events(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(take_part)


async def take_part(writer: SSEWriter) -> None:
    """Be in the room until the client leaves. One that comes back gets what its Last-Event-ID says it missed."""
    user = writer.event.query.get("user", "").strip()[:MAX_USER] or "somebody"
    await announce("join", user)
    try:
        await room.stream(writer)
    finally:
        await announce("leave", user)  # goes through, though the leaving user's task is cancelled


async def announce(kind: str, user: str) -> None:
    """Tell who comes and goes; while the engine is down nobody hears of it, and everybody stays."""
    with suppress(EngineError):
        await say(kind, user=user)


@app.post("/chat/send")
async def send(event: H3Event) -> None:
    """Take a message.

    A body that is not JSON raises in `read_json`, and is answered with 400 by that; so is, with 503, what raises in
    `publish` while the engine is down.
    """
    message = await event.read_json()
    problem = problem_with(message)
    if problem:
        event.send_error(422, problem)
        return
    await say("message", user=message["user"].strip(), text=message["text"])
    event.send_json({"sent": True})


def problem_with(message: Any) -> str | None:
    """What is wrong with a message, in words for the one who sent it."""
    if not isinstance(message, dict):
        return 'a message is an object such as {"user": "ann", "text": "hi"}'
    for name, limit in (("user", MAX_USER), ("text", MAX_TEXT)):
        value = message.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            return f'"{name}" must be a text of 1 to {limit} characters, not all blank'
    return None


async def say(kind: str, **fields: str) -> None:
    """Tell everyone in the room. As JSON, whatever it holds is one line; an engine numbers events itself.

    `publish` waits for nobody: a client that reads too slowly is cut, and comes back to what the history has.
    """
    await room.publish(SSEEvent.json(fields, event=kind, id=None if engine else next(ids)))


@app.get("/")
def page(event: H3Event) -> None:
    event.send_html(PAGE)


# What others wrote goes into the page as text, by textContent, never as HTML.
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>h3ref: chat</title>
<ul id="log"></ul>
<form id="form"><input id="text" maxlength="2000" required autofocus> <button>Send</button></form>
<script>
  const user = (prompt("Your name?") || "somebody").slice(0, 30);
  const add = (line) => {
    const item = document.createElement("li");
    item.textContent = line;
    document.getElementById("log").append(item);
  };
  const source = new EventSource("/chat/events?user=" + encodeURIComponent(user));
  const on = (kind, words) => source.addEventListener(kind, (event) => add(words(JSON.parse(event.data))));
  on("message", ({ user, text }) => `${user}: ${text}`);
  on("join", ({ user }) => `${user} joins`);
  on("leave", ({ user }) => `${user} leaves`);
  document.getElementById("form").addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const input = document.getElementById("text");
    const body = JSON.stringify({ user, text: input.value });
    const answer = await fetch("/chat/send", { method: "POST", body });
    if (answer.ok) input.value = "";
    else add("not sent: " + await answer.text());
  });
</script>
</html>
"""
