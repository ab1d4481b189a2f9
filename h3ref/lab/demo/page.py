"""The demo's app: the example's four handlers, and the page, whose streams tick without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from h3ref import H3App, H3Event, flows
from h3ref.adapters.h11_anyio import Server
from h3ref.examples import callback as example

from ..recorder import Recorder
from . import ticks
from .picture import picture
from .report import FIXED, PATHS, place
from .watch import Stream, Watch

_HERE = Path(__file__).parent
_KEEP = 100


class Page:
    """Makes the one app that both servers serve, and knows of each stream what its server knows.

    A panel gives each stream it opens an id of its own, as in `/ticks/callback?stream=ID`, and asks for its state
    at `/state?target=...`: a plain request, which the broken flow answers too.

    Attributes:
        app: what both serve.
        steps: a recorder for each server, of the example's streams.
        traces: what each server is given as `trace`.
    """

    def __init__(self) -> None:
        self.app = H3App()
        self.steps = {name: Recorder(keep=_KEEP, paths=PATHS) for name in ("fixed", "broken")}
        self.traces = {name: Watch(recorder, keep=_KEEP) for name, recorder in self.steps.items()}
        self._servers: dict[str, Server] = {}
        self._events: dict[str, H3Event] = {}
        for path in PATHS:
            handler = example.app.match("GET", path).handler
            assert handler is not None, f"the example has {path}"
            self.app.get(path, handler)
        ticks.add_to(self.app)
        self.app.on_request(self._remember)
        self.app.get("/", self._page)
        self.app.get("/panel/:name", self._panel)
        self.app.get("/state", self._state)

    def serves(self, *, fixed: Server, broken: Server) -> None:
        """Tell it which servers serve its app."""
        self._servers = {"fixed": fixed, "broken": broken}

    async def _remember(self, event: H3Event) -> None:
        if event.path.startswith(ticks.PREFIX):
            self._events[event.target] = event
            if len(self._events) > _KEEP:
                del self._events[next(iter(self._events))]

    async def _page(self, event: H3Event) -> None:
        fixed, broken = self._servers["fixed"].url, self._servers["broken"].url
        policy = f"frame-src {fixed} {broken}"
        config = {
            "panels": {"broken": f"{broken}/panel/broken", "fixed": f"{fixed}/panel/fixed"},
            "places": {"broken": place(flows.broken), "fixed": place(flows.callback)},
        }
        _send(event, "page.html", config, policy)

    async def _panel(self, event: H3Event) -> None:
        name = event.params["name"]
        if name not in self._servers:
            event.send_error(404)
            return
        choices = ["broken"] if name == "broken" else [*FIXED]
        config = {"name": name, "origin": self._servers[name].url, "choices": choices, "prefix": ticks.PREFIX}
        _send(event, "panel.html", config, "connect-src 'self'")

    async def _state(self, event: H3Event) -> None:
        target = event.query.get("target", "")
        shown = self._events.get(target)
        stream = self._stream(target)
        event.set_header("Cache-Control", "no-store")
        event.send_json(
            {
                "state": shown.state if shown else None,
                "reason": shown.reason if shown else None,
                "passed": list(dict.fromkeys(record.before for record in stream.records)),
                "rejected": [
                    {"step": record.step, "error": record.error, "rule": record.rule}
                    for record in stream.records
                    if record.error
                ],
                "picture": picture(stream.records, more=stream.more),
            }
        )

    def _stream(self, target: str) -> Stream:
        return next((found for trace in self.traces.values() if (found := trace.of(target)).records), Stream())


def _send(event: H3Event, file: str, config: dict[str, Any], policy: str) -> None:
    """Send one of the pages; its policy lets it contact nothing but the demo's two servers."""
    data = json.dumps(config).replace("<", "\\u003c")
    event.set_header("Cache-Control", "no-store")
    event.set_header(
        "Content-Security-Policy",
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; {policy}",
    )
    event.send_html((_HERE / file).read_text(encoding="utf-8").replace("{{config}}", data))
