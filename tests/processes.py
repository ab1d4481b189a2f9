"""Processes that tests start: with the signals of a terminal's foreground, and none of them left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

IN_FOREGROUND: Callable[[], object] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""For `preexec_fn`, where a test sends SIGINT: a job in a script's background, and all that it starts, ignores it."""

MARK = "H3REF_TEST_MODULE"

PATIENCE = 30.0
"""Real seconds that a process gets which has been told to end."""


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started with `start_new_session=True`, and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def marked() -> Iterator[str]:
    """Mark the processes that are started meanwhile, so that `still_running` finds them, whoever their parent is."""
    before, mark = os.environ.get(MARK), uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        yield mark
    finally:
        if before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = before


def still_running(mark: str, patience: float = PATIENCE) -> list[str]:
    """The command lines of the marked processes that do not end in time; on Linux only, elsewhere nobody tells."""
    deadline = time.monotonic() + patience
    found = []
    for pid in _marked_with(mark):
        with suppress(OSError):  # it is over
            watch = os.pidfd_open(pid)
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if not select.select([watch], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    found.append(f"{pid}: {command}")
            finally:
                os.close(watch)
    return found


def _marked_with(mark: str) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is over, or somebody else's
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
