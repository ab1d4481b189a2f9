"""A chat room: a `Channel` that keeps a history, and a form that posts to it.

    python -m h3ref serve h3ref.examples.chat:app
    curl -N 'http://127.0.0.1:3000/chat/events?user=ann'
    curl http://127.0.0.1:3000/chat/send -d '{"user": "bob", "text": "hi"}'

Or open http://127.0.0.1:3000/ in two windows of a browser.
"""

from __future__ import annotations

import itertools
from typing import Any

from h3ref import Channel, H3App, H3Event, SSEEvent, SSEWriter

MAX_USER = 30
MAX_TEXT = 2000

app = H3App()
room = Channel(history=100, name="chat", newcomers="history")
ids = itertools.count(1)


@app.get("/chat/events")
async def events(event: H3Event) -> None:
    event.start_sse()
    event.set_stream_callback(take_part)


async def take_part(writer: SSEWriter) -> None:
    """Be in the room until the client leaves. One that comes back gets what its Last-Event-ID says it missed."""
    user = writer.event.query.get("user", "").strip()[:MAX_USER] or "somebody"
    await say("join", user=user)
    try:
        await room.stream(writer)
    finally:
        await say("leave", user=user)  # goes through, though who leaves has been cancelled


@app.post("/chat/send")
async def send(event: H3Event) -> None:
    """Take a message. A body that is not JSON raises in `read_json`, and is answered with 400 by that."""
    message = await event.read_json()
    problem = problem_with(message)
    if problem:
        event.send_error(422, problem)
        return
    id = await say("message", user=message["user"].strip(), text=message["text"])
    event.send_json({"id": id})


def problem_with(message: Any) -> str | None:
    """What is wrong with a message, in words for the one who sent it."""
    if not isinstance(message, dict):
        return 'a message is an object such as {"user": "ann", "text": "hi"}'
    for name, limit in (("user", MAX_USER), ("text", MAX_TEXT)):
        value = message.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            return f'"{name}" must be a text of 1 to {limit} characters, not all blank'
    return None


async def say(kind: str, **fields: str) -> str:
    """Tell everyone in the room, and return the id. As JSON, whatever it holds is one line.

    `publish` waits for nobody: who reads too slowly is cut, and comes back to what the history has.
    """
    id = str(next(ids))
    await room.publish(SSEEvent.json(fields, event=kind, id=id))
    return id


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
