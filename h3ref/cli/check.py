"""`h3ref check URL`: judges a server's streams, or a client, by the catalogue of checks."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from .shared import FAILED, USAGE, CommandError, add_command, columns, exit_statuses, folded, header, seconds, write_out

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..judge.catalogue import Check
    from ..judge.verdict import Tell, Verdict
    from .shared import Commands

DEFAULT_TIMEOUT: Final = 30.0
CLIENT_TIMEOUT: Final = 10.0

MORE: Final = """\
what it does:
  URL alone is for any stream that you may read: at most 8 requests, each on a connection of its own, a bounded
  part of each answer, and no more time than --timeout says.

  With --contract, URL is the root of an app with the routes that spec/formats.md describes, such as
  `python -m h3ref.judge.app` serves. First, URL/ticks is judged like any stream. Then the routes are judged, over up to
  twelve connections at once: with readers that read nothing, requests that stop in the middle, and finally a POST to
  /shutdown, which ends the server. Each half has half of --timeout.

  --client COMMAND judges a client. The command is started some fifty times, without a shell, each time with the URL of
  another stream on the loopback interface, in place of {url} or as its last argument. It has to print a line of
  JSON for each message as soon as it comes, {"event": "tick", "data": "1", "id": "7"}, and to
  end when it gives up for good.

examples:
  h3ref check http://127.0.0.1:3000/events
  h3ref check https://example.com/stream -H 'Authorization: Bearer abc' --format html > report.html
  h3ref check http://127.0.0.1:3000/chat -d '{"prompt": "hi"}' --only C-13 --only C-14
  h3ref check --contract http://127.0.0.1:3000 --timeout 60
  h3ref check --client 'python client.py'
  h3ref check --client 'node client.mjs {url} --quiet' --only C-85
  h3ref check --explain C-13"""


def add(commands: Commands) -> None:
    """Add `check`."""
    parser = add_command(
        commands,
        "check",
        run,
        summary="judge a server's stream, or a client, by the catalogue of checks",
        description="Judge an event stream: send requests as a client may, and say for each check of the catalogue "
        "whether it holds, with the bytes that prove it and what to do about it. Or judge a client by what it does.",
        more=MORE,
        statuses=exit_statuses(
            done="every must holds",
            failed="a must does not hold",
            usage="wrong usage, no connection, or a client that sends no request",
        ),
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="where the stream is")
    parser.add_argument("--contract", action="store_true", help="URL is the root of an app with the contract's routes")
    parser.add_argument("--client", metavar="COMMAND", help="judge the client that this command starts")
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="'NAME: VALUE'",
        dest="headers",
        help="a header of each request; may be repeated",
    )
    parser.add_argument("-d", "--data", metavar="TEXT", help="the request's body; makes it a POST")
    parser.add_argument(
        "--only", action="append", type=_id, default=[], metavar="C-07", help="only this check; may be repeated"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help=f"for everything ({DEFAULT_TIMEOUT:g}); with --client, for whatever it does next ({CLIENT_TIMEOUT:g})",
    )
    parser.add_argument("--format", choices=["text", "json", "html"], default="text", help="of the report (text)")
    parser.add_argument(
        "--system", default="", metavar="'NAME VERSION'", help="the system's name in the report (the URL or COMMAND)"
    )
    parser.add_argument("--list", action="store_true", help="list the checks and exit")
    parser.add_argument("--explain", type=_id, metavar="C-07", help="explain a check and exit")


def run(options: argparse.Namespace) -> None:
    """Judge.

    Raises:
        CommandError: a must does not hold, or it can't be judged; `--help` explains the status.
    """
    from ..judge.catalogue import load_checks

    checks = {check.id: check for check in load_checks()}
    if options.list:
        write_out("".join(f"{check.id} {check.group:<9} {check.level:<7} {check.title}\n" for check in checks.values()))
    elif options.explain:
        if options.explain not in checks:
            raise CommandError(f"there is no check {options.explain}; h3ref check --list shows them", USAGE)
        write_out(folded(explanation(checks[options.explain]), len("rests on: ")))
    else:
        _judge(options, list(checks.values()))


def explanation(check: Check) -> str:
    """All that the catalogue says about a check."""
    return (
        f"{check.id} ({check.level}, {check.group}): {check.title}\n\n"
        f"sent:     {check.sends}\npasses:   {check.passes}\nwhy:      {check.why}\n"
        f"remedy:   {check.remedy}\nrests on: {check.section}\n"
    )


def _judge(options: argparse.Namespace, checks: list[Check]) -> None:
    if options.client is not None:
        _judge_client(options, checks)
    elif options.url:
        _judge_stream(options, checks)
    else:
        raise CommandError("URL or --client COMMAND is required (h3ref check --help says more)", USAGE)


def _judge_stream(options: argparse.Namespace, checks: list[Check]) -> None:
    from ..judge.catalogue import Group, chosen
    from ..judge.contract import NOTICE, judge_contract
    from ..judge.results import SERVER
    from ..judge.seen import Waits
    from ..judge.stream import judge_stream
    from ..judge.wire import Target, Unreachable, connect_to

    body = None if options.data is None else options.data.encode()
    try:
        groups = [Group.STREAM, Group.CONTRACT] if options.contract else [Group.STREAM]
        wanted = chosen(checks, groups, options.only)
        connect = connect_to(options.url)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    if options.contract and body is not None:
        raise CommandError("-d is for a stream of your own: the contract's routes are requested with GET", USAGE)
    target = Target(options.url, connect, tuple(options.headers), "GET" if body is None else "POST", body)

    seconds = options.timeout or DEFAULT_TIMEOUT

    async def judge(tell: Tell) -> None:
        if not options.contract:
            await judge_stream(target, wanted, tell, waits=Waits.of(seconds))
            return
        of = {group: [check for check in wanted if check.group == group] for group in groups}
        await judge_stream(target.at("/ticks"), of[Group.STREAM], tell, waits=Waits.of(seconds / 2))
        await judge_contract(target, of[Group.CONTRACT], tell, seconds=seconds / 2)

    if options.contract and options.format == "text":
        write_out(folded(f"{NOTICE}\n", 0))
    try:
        _report(options, SERVER, options.url, wanted, judge)
    except Unreachable as error:
        raise CommandError(f"no connection to {options.url}: {error}", USAGE) from error


def _judge_client(options: argparse.Namespace, checks: list[Check]) -> None:
    from ..judge.catalogue import Group, chosen
    from ..judge.clients import NoClient, Program, judge_client
    from ..judge.results import CLIENT

    if options.url or options.contract or options.headers or options.data is not None:
        raise CommandError(
            "--client COMMAND goes without URL, --contract, -H and -d: the client sends the requests", USAGE
        )
    try:
        wanted = chosen(checks, [Group.CLIENT], options.only)
        client = Program(options.client)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error

    async def judge(tell: Tell) -> None:
        await judge_client(client, wanted, tell, limit=options.timeout or CLIENT_TIMEOUT)

    try:
        _report(options, CLIENT, options.client, wanted, judge)
    except NoClient as error:
        raise CommandError(f"{options.client}: {error}", USAGE) from error


def _report(
    options: argparse.Namespace,
    kind: str,
    subject: str,
    wanted: Sequence[Check],
    judge: Callable[[Tell], Awaitable[None]],
) -> None:
    """Have something judged, and report it."""
    import anyio

    from ..judge.report import report_as
    from ..judge.results import Results, System
    from ..judge.verdict import faults

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    report = report_as(options.format, write_out, coloured=_shows_colours(), columns=columns())
    verdicts: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        report.tell(verdict)

    report.begin(subject, wanted)
    anyio.run(judge, tell)
    order = {check.id: place for place, check in enumerate(wanted)}
    name, _, version = options.system.rpartition(" ") if " " in options.system else (options.system or subject, "", "")
    report.end(
        Results(
            System(kind, name, version),
            datetime.now(UTC).date().isoformat(),
            _command(options),
            tuple(sorted(verdicts, key=lambda verdict: order[verdict.check.id])),
        )
    )
    if faults(verdicts):
        raise CommandError("", FAILED)


def _command(options: argparse.Namespace) -> str:
    """The command that judges again, without the values of headers and the body, which may be secrets."""
    words = ["h3ref", "check", *(["--contract"] if options.contract else [])]
    words += [options.url] if options.client is None else ["--client", options.client]
    words += [word for name, _ in options.headers for word in ("-H", f"{name}: ...")]
    words += ["-d", "..."] if options.data is not None else []
    words += [word for id in options.only for word in ("--only", id)]
    words += ["--timeout", f"{options.timeout:g}"] if options.timeout else []
    return shlex.join(words)


def _shows_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _id(text: str) -> str:
    if not re.fullmatch(r"C-\d\d", text.upper()):
        raise argparse.ArgumentTypeError(f"a check is named like C-07, not {text!r}")
    return text.upper()
