"""`Program`: a client under test, a command that gets a URL and prints a line of JSON for each message."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from subprocess import DEVNULL, PIPE
from typing import Any, Final, Protocol

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from .vectors import Message

LONGEST_LINE: Final = 16 * 1024 * 1024
LAST_WORDS: Final = 2000
"""Characters of a program's stderr that are kept."""

GRACE: Final = 5.0
"""Seconds that a program has after SIGTERM."""

Take = Callable[[Message], Awaitable[object]]


class NotAMessage(Exception):
    """A client has printed a line that is not a message."""


class Client(Protocol):
    """What is judged: a program, or in tests a function."""

    async def run(self, url: str, take: Take) -> str:
        """Receive the stream at a URL until there is nothing more to come, and hand each message over.

        Returns:
            What the client said besides, for people.

        Raises:
            NotAMessage: it has printed a line that is none.
        """


class Program:
    """A command line.

    Args:
        command: the program with its arguments, as a POSIX shell splits them; no shell runs it. The URL stands in place
            of each `{url}`, or is the last argument.

    Raises:
        ValueError: it names no program that is there, or its quotes are left open.
    """

    def __init__(self, command: str) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"{command!r} is not a command: {error}") from None
        if not self._arguments:
            raise ValueError("the command is empty: name a program, as in 'python client.py {url}'")
        if shutil.which(self._arguments[0]) is None:
            raise ValueError(f"there is no program {self._arguments[0]!r}; the command is {command!r}")

    def arguments(self, url: str) -> Sequence[str]:
        """The program with its arguments for a URL."""
        if any("{url}" in one for one in self._arguments):
            return [one.replace("{url}", url) for one in self._arguments]
        return [*self._arguments, url]

    async def run(self, url: str, take: Take) -> str:
        """As `Client` has it; the program and those that it starts are ended when this is cancelled.

        Raises:
            OSError: it can't be started.
            NotAMessage: it has printed a line that is none.
        """
        process = await anyio.open_process(
            self.arguments(url), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        words = _LastWords()
        fault: NotAMessage | None = None
        try:
            async with anyio.create_task_group() as group:
                assert process.stdout is not None
                assert process.stderr is not None
                group.start_soon(words.listen, process.stderr)
                try:
                    await _hand_over(process.stdout, take)
                    await process.wait()
                except NotAMessage as error:
                    fault = error
                group.cancel_scope.cancel()  # a child of its may hold stderr open
        finally:
            await _end(process)
        if fault is not None:
            raise fault
        return f"{words}(it ended with status {process.returncode})"


class _LastWords:
    """The end of what a program says."""

    def __init__(self) -> None:
        self._text = b""

    async def listen(self, stream: anyio.abc.ByteReceiveStream) -> None:
        async for part in stream:
            self._text = (self._text + part)[-LAST_WORDS:]

    def __str__(self) -> str:
        text = self._text.decode(errors="replace").strip()
        return f"{text}\n" if text else ""


async def _hand_over(stdout: anyio.abc.ByteReceiveStream, take: Take) -> None:
    lines = BufferedByteReceiveStream(stdout)
    with suppress(anyio.IncompleteRead, anyio.EndOfStream):
        while True:
            line = await lines.receive_until(b"\n", LONGEST_LINE)
            if line.strip():
                await take(message_of(line))


def message_of(line: bytes) -> Message:
    """Return the message that a line says.

    Raises:
        NotAMessage: it is not a JSON object, or its `data` is not a string.
    """
    try:
        value: Any = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise NotAMessage(
            f'a message is a line such as {{"event": "tick", "data": "1", "id": "7"}}, not {line[:200]!r}'
        )
    event, id = value.get("event"), value.get("id")
    return Message(str(event) if event else "message", value["data"], None if id is None else str(id))


async def _end(process: anyio.abc.Process) -> None:
    """End a program with all that it has started in its session."""
    with anyio.CancelScope(shield=True):
        _signal(process, signal.SIGTERM)
        with anyio.move_on_after(GRACE):
            await process.wait()
        _signal(process, signal.SIGKILL)
        await process.wait()
        await process.aclose()


def _signal(process: anyio.abc.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
