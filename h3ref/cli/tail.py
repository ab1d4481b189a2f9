"""`h3ref tail URL`: the events of a stream, one a line, for as long as it lasts."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from ..errors import H3Error
from ..sse import MessageEvent
from .shared import FAILED, INTERRUPTED, USAGE, CommandError, add_command, exit_statuses, header, seconds, write_out

if TYPE_CHECKING:
    import httpx2

    from .shared import Commands

MORE: Final = """\
output:
  the type, id and data of an event, separated by tabs; - stands for no id. Data that would not fit on a
  line, or would do something to the terminal, is shown as a JSON string.

examples:
  h3ref tail http://127.0.0.1:3000/events
  h3ref tail http://127.0.0.1:3000/events --ndjson --max 3 | jq .data
  h3ref tail http://127.0.0.1:3000/chat -d '{"prompt": "hi"}' -H 'Authorization: Bearer abc'"""


def add(commands: Commands) -> None:
    """Add `tail URL`."""
    parser = add_command(
        commands,
        "tail",
        run,
        summary="print the events of a stream",
        description="Print the events of a stream as they come, and reconnect if it breaks off.",
        more=MORE,
        statuses=exit_statuses(
            done="the stream ended properly: by the server's 204, by --max, or by its end when it is not reconnected",
            failed="the server refused (status, content type), or the connection failed",
            usage="wrong usage",
        ),
    )
    parser.add_argument("url", metavar="URL", help="where the stream is")
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="'NAME: VALUE'",
        dest="headers",
        help="a request header; may be repeated; not sent on by a redirect to another origin",
    )
    parser.add_argument("-d", "--data", type=_json, metavar="JSON", help="the request's body; makes it a POST")
    parser.add_argument("-X", "--request", metavar="METHOD", dest="method", help="the request's method (GET)")
    parser.add_argument("--last-event-id", default="", metavar="ID", help="resume after this event")
    parser.add_argument("--max", type=_count, metavar="N", help="end after N events")
    parser.add_argument("--ndjson", action="store_true", help="print one JSON object a line: type, data, lastEventId")
    reconnect = parser.add_mutually_exclusive_group()
    reconnect.add_argument(
        "--no-reconnect",
        action="store_const",
        const=False,
        dest="reconnect",
        help="end when the stream ends (the default for all methods but GET)",
    )
    reconnect.add_argument(
        "--reconnect", action="store_const", const=True, dest="reconnect", help="reconnect whatever the method is"
    )
    parser.add_argument("--heartbeat", type=seconds, metavar="SECONDS", help="reconnect after this time without a byte")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing about the connection on stderr")


def run(options: argparse.Namespace) -> None:
    """Print events until the stream ends.

    Raises:
        CommandError: it did not end properly; `--help` explains the status.
    """
    try:
        _tail(options)
    except KeyboardInterrupt:  # the usual end of a stream that has none
        raise CommandError("", INTERRUPTED) from None


def _tail(options: argparse.Namespace) -> None:
    try:
        from ..client import BlockingEventSource, httpx2
        from ..client.urls import shown
    except ImportError as error:
        raise CommandError(str(error), FAILED) from error

    def opened(response: httpx2.Response) -> None:
        if not options.quiet:
            _say(f"connected to {shown(response.url)}")

    def reconnecting(delay: float, error: Exception | None) -> None:
        if not options.quiet:
            _say(f"{_why(error) if error else 'the stream ended'}; reconnecting in {delay:.1f} s")

    try:
        source = BlockingEventSource(
            options.url,
            method=options.method or ("GET" if options.data is None else "POST"),
            headers=options.headers,
            json=options.data,
            last_event_id=options.last_event_id,
            reconnect=options.reconnect,
            heartbeat=options.heartbeat,
            on_open=opened,
            on_reconnect=reconnecting,
        )
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    show = ndjson if options.ndjson else line
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    left = options.max
    try:
        with source:
            for message in source:
                write_out(show(message) + "\n")
                if left is not None:
                    left -= 1
                    if left == 0:
                        return
    except (httpx2.HTTPError, H3Error) as error:
        raise CommandError(_why(error), FAILED) from error
    if not options.quiet:
        _say("the stream ended")


def line(message: MessageEvent) -> str:
    """Return an event as tail prints it."""
    return "\t".join([_shown(message.type), _shown(message.last_event_id) or "-", _shown(message.data)])


def ndjson(message: MessageEvent) -> str:
    """Return an event as a JSON object, with the names of WHATWG's MessageEvent."""
    return _json_text({"type": message.type, "data": message.data, "lastEventId": message.last_event_id})


def _shown(text: str) -> str:
    return text if text.isprintable() else _json_text(text)


def _json_text(value: object) -> str:
    """JSON for people: only characters that would break the line or do something to the terminal are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _why(error: Exception) -> str:
    text = str(error) or "no byte came in time"
    return text if isinstance(error, H3Error) else f"{type(error).__name__}: {text}"


def _say(text: str) -> None:
    print(f"h3ref: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the body is not JSON: {error}") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"the number of events must be 1 or more, not {text!r}")
    return int(text)
