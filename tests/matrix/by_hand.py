r"""`python -m tests.matrix.by_hand CLIENT ANSWER...`: what a client of the matrix does with answers, without the judge.

It listens, starts the client, and gives each of its requests the next answer, and then the connection's end. The last
answer is for all further ones. It prints each request, and each line that the client prints, with the time.

An answer is written with Python's escapes, as \n and \xff, and {x*1000} is so many x. One that has no status line gets
that of an event stream, whose body ends with its connection. An empty one is an end before the head. With --hold the
last answer's connection stays open.

    python -m tests.matrix.by_hand httpx-sse 'event: a\n\n'
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Final

from tests.matrix.systems import CLIENTS, ROOT
from tests.processes import kill_group

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def bytes_of(text: str) -> bytes:
    """The bytes that an answer, as it is written, stands for."""
    data = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    data = re.sub(rb"\{(.)\*(\d+)\}", lambda found: found[1] * int(found[2]), data)
    return data if not data or data.startswith(b"HTTP/") else HEAD + data


class Told:
    """Prints lines with the seconds since it began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print one; a long one is cut."""
        with self._lock:
            shown = text if len(text) <= 200 else f"{text[:120]} ... {len(text)} characters"
            print(f"{time.monotonic() - self._began:4.1f} {shown}", flush=True)


def answer(listener: socket.socket, answers: list[bytes], hold: bool, told: Told) -> None:
    """Answer whoever connects, until the listener is closed."""
    held = []
    with suppress(OSError):
        for number in range(1_000_000):
            connection, _ = listener.accept()
            head = b""
            while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
                head += part
            lines = [line for line in head.decode("latin-1").split("\r\n") if line]
            fields = [line for line in lines[1:] if re.match("accept:|cache-control:|last-event-id:", line, re.I)]
            told.say(f"asks    {'; '.join([*lines[:1], *fields])}")
            with suppress(OSError):
                connection.sendall(answers[min(number, len(answers) - 1)])
            if hold and number >= len(answers) - 1:
                held.append(connection)
            else:
                connection.close()


def hear(pipe: IO[bytes], tell: Callable[[str], object]) -> None:
    """Tell each line that a program writes."""
    for line in pipe:
        tell(line.decode(errors="replace").strip())


def main() -> None:
    """Have a client answered, for some seconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix.by_hand", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("client", choices=[client.name for client in CLIENTS], metavar="CLIENT")
    parser.add_argument("answers", nargs="+", type=bytes_of, metavar="ANSWER")
    parser.add_argument("--hold", action="store_true", help="leave the last answer's connection open")
    parser.add_argument("--seconds", type=float, default=8, help="how long (%(default)s)")
    options = parser.parse_args()
    told = Told()
    (client,) = [client for client in CLIENTS if client.name == options.client]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        command = [*shlex.split(client.command(os.path.relpath(sys.executable, ROOT))), url]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        errors: list[str] = []
        assert process.stdout
        assert process.stderr
        readers = [
            threading.Thread(target=answer, args=(listener, options.answers, options.hold, told), daemon=True),
            threading.Thread(target=hear, args=(process.stdout, lambda line: told.say(f"prints  {line}"))),
            threading.Thread(target=hear, args=(process.stderr, errors.append)),
        ]
        for reader in readers:
            reader.start()
        with suppress(subprocess.TimeoutExpired):
            process.wait(options.seconds)
        status = process.poll()
        kill_group(process)
        for reader in readers[1:]:
            reader.join()
    said = f": {errors[-1]}" if errors else ""
    told.say("goes on" if status is None else f"ended   with status {status}{said}")


if __name__ == "__main__":
    main()
