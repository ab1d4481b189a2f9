"""One event: the shortest complete program.

    python -m h3ref serve h3ref.examples.minimal:app
    curl -N http://127.0.0.1:3000/events

`python -m h3ref.examples.minimal` runs it as well: its last two lines are all that a program of yours needs.
"""

from h3ref import H3App, H3Event, serve

app = H3App()


@app.get("/events")
async def hello(event: H3Event) -> None:
    event.start_sse()
    async with await event.await_sse_writer() as writer:
        await writer.send_event("hello")


if __name__ == "__main__":
    serve(app)
