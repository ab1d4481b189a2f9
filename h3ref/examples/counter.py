"""One tick a second: a stream callback; a client that comes back resumes where it was.

    python -m h3ref serve h3ref.examples.counter:app
    curl -N http://127.0.0.1:3000/events
    curl -N -H 'Last-Event-ID: 6' http://127.0.0.1:3000/events      # goes on with 7

Or open http://127.0.0.1:3000/ in a browser.
"""

from __future__ import annotations

import anyio

from h3ref import H3App, H3Event, SSEEvent, SSEWriter

TICKS = 10

app = H3App()


@app.get("/events")
def events(event: H3Event) -> None:
    """Only says that there shall be a stream; `count` is called when its writer is ready."""
    event.start_sse()
    event.set_stream_callback(count)


async def count(writer: SSEWriter) -> None:
    """Send the ticks that this client has not seen; when it returns, the stream is closed properly.

    A client that leaves cancels it, most likely in its sleep: there is nothing to check for.
    """
    for number in range(first_number(writer.event.last_event_id), TICKS):
        await writer.send_event(SSEEvent(str(number), event="counter", id=str(number)))
        await anyio.sleep(1)
    await writer.send_event(SSEEvent("that was all", event="done"))


def first_number(last_event_id: str) -> int:
    """The number to begin with: the id comes from the client, so it may be anything."""
    try:
        return max(int(last_event_id) + 1, 0)
    except ValueError:
        return 0


@app.get("/")
def page(event: H3Event) -> None:
    event.send_html(PAGE)


# To a browser a stream that ends is one that broke: it would come back after some seconds, for ever.
# So the stream says that it is done, and the page closes its end.
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>h3ref: counter</title>
<h1>Counter: <output id="number">–</output></h1>
<p id="state">connecting</p>
<script>
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  const source = new EventSource("/events");
  source.onopen = () => show("state", "connected");
  source.onerror = () => show("state", "lost, trying again");
  source.addEventListener("counter", (message) => show("number", message.data));
  source.addEventListener("done", (message) => {
    source.close();
    show("state", message.data);
  });
</script>
</html>
"""
