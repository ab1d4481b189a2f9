"""Runs the code of one cell in the page, and says what came of it. The worker calls `run` in Pyodide."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from dataclasses import replace
from types import ModuleType
from typing import Any

from h3ref import H3App
from h3ref.lab.stepper import Column, page
from h3ref.testing import AsyncStream, TestClient
from h3ref.trace import Record

FILE = "cell.py"


class Records(list[Record]):
    """Steps with the times of the cell's own clock, as arrivals have them: in it, waiting takes no time."""

    def append(self, record: Record) -> None:
        super().append(replace(record, time=asyncio.get_running_loop().time()))


def run(source: str, path: str) -> str:
    """Run a cell as a script, then its tests, then a request if it has a path; return what came, as JSON.

    Args:
        source: the code.
        path: what is asked for of the cell's `app`, or "".
    """
    _forget_logging()
    streams: list[tuple[str, AsyncStream]] = []
    made = AsyncStream.__init__

    def noted(stream: AsyncStream, client: Any, scope: dict[str, Any], body: bytes, **options: Any) -> None:
        made(stream, client, scope, body, **options)
        stream.records = Records()
        streams.append((f"{scope['method']} {scope['path']}", stream))

    setattr(AsyncStream, "__init__", noted)  # noqa: B010  # so that what the code asks for can be drawn
    failure: dict[str, str] | None = None
    try:
        _perform(source, path)
    except BaseException as error:
        failure = {"line": "".join(traceback.format_exception_only(error)).strip(), "whole": _seen_from_cell(error)}
    finally:
        setattr(AsyncStream, "__init__", made)  # noqa: B010
    return json.dumps({"failure": failure, "streams": [_told(name, stream) for name, stream in streams]})


def _perform(source: str, path: str) -> None:
    module = ModuleType("__main__")
    names = module.__dict__
    exec(compile(source, FILE, "exec"), names)
    for name, test in list(names.items()):
        if name.startswith("test_") and callable(test):
            test()
    app = names.get("app")
    if path and isinstance(app, H3App):
        with TestClient(app) as client, client.stream("GET", path) as stream:
            for event in stream.events():
                print(event.to_event().encode().decode(), end="")


def _told(name: str, stream: AsyncStream) -> dict[str, Any]:
    drawn = page([Column("this run", stream.records)]) if stream.records else ""
    arrivals = [
        {"at": arrival.at, "text": arrival.item if isinstance(arrival.item, str) else arrival.item.data}
        for arrival in stream.arrivals
    ]
    reason = stream.records[-1].reason if stream.records else None
    return {"name": name, "status": stream.status, "reason": reason, "arrivals": arrivals, "page": drawn}


def _seen_from_cell(error: BaseException) -> str:
    """The traceback, from the cell's own first line on."""
    trail = error.__traceback__
    while trail is not None and trail.tb_frame.f_code.co_filename != FILE:
        trail = trail.tb_next
    return "".join(traceback.format_exception(type(error), error, trail))


def _forget_logging() -> None:
    """Of the cell before: its handlers write where it wrote, and its levels are its own."""
    logging.root.handlers.clear()
    for name in ("", *logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.WARNING if name == "" else logging.NOTSET)
