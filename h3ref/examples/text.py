"""A text that comes character by character, as from a language model: a generator route.

    python -m h3ref serve h3ref.examples.text:app
    curl -N http://127.0.0.1:3000/events

Or open http://127.0.0.1:3000/ in a browser. A generator that fails before its first item gives a real 500,
and it may still answer something else instead: `event.send_error(404); return`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from h3ref import H3App, H3Event, SSEEvent

PAUSE = 0.03

TEXT = """\
An event stream is plain text over HTTP: fields in lines, and a blank line ends an event.
Line breaks in the data – like the one before this line – arrive as they were sent,
and so do spaces, "quotes", <tags> and ☂ umbrellas.
"""

app = H3App()


@app.sse("/events")
async def events(event: H3Event) -> AsyncIterator[SSEEvent]:
    """Yield what shall be sent: headers, writer and the proper end are taken care of."""
    for character in TEXT:
        yield SSEEvent(character, event="char")
        await anyio.sleep(PAUSE)
    yield SSEEvent("that was all", event="done")


@app.get("/")
def page(event: H3Event) -> None:
    event.send_html(PAGE)


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>h3ref: text</title>
<pre id="text"></pre>
<script>
  const text = document.getElementById("text");
  const source = new EventSource("/events");
  source.addEventListener("char", (message) => { text.textContent += message.data; });
  source.addEventListener("done", () => source.close());
  source.onopen = () => { text.textContent = ""; };  // also after a break: the text comes from its beginning
</script>
</html>
"""
