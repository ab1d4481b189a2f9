"""Ties a server's process to the benchmark's: it tells its port and its clocks, and ends when the other does.

The benchmark holds the other ends of stdin and stdout. A line "clocks" is answered with this process's CPU time, memory
and instructions, and "settle" when its garbage is collected; the end of stdin ends the process, so that none is left
behind however the benchmark ended.

A server that was started with `--sample` also notes, each millisecond of CPU time or as often as the system can, where
its main thread is; "samples" is answered with those stacks, innermost first, each with how often it was seen.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .counter import counter

SAMPLE = 0.001
"""Seconds of CPU time between two looks at where the main thread is."""

BACKLOG = 4096
"""Connections that may wait to be accepted."""

_reply = sys.stdout  # until `take_stdout`
_instructions: Callable[[], int | None] = int  # until `hold`
_stacks: Counter[tuple[str, ...]] = Counter()


def take_stdout() -> None:
    """Keep stdout for the answers: what else is printed goes to stderr."""
    global _reply
    _reply = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def allow_files() -> int:
    """Raise the number of files that this process may open as far as it may, and return it."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems say "unlimited" and refuse it.
    with contextlib.suppress(OSError, ValueError):
        wanted = 1 << 16 if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def hold(port: int) -> None:
    """Say that this server listens on a port, and answer the benchmark from a thread from now on."""
    global _instructions
    _instructions = counter()  # before there are threads: only those that come later are counted with their process
    _say({"port": port, "pid": os.getpid()})
    threading.Thread(target=_answer, name="leash", daemon=True).start()


def sample() -> None:
    """Begin to note where the main thread is. Only where the system counts CPU time so (not on Windows)."""
    signal.signal(signal.SIGPROF, _look)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE, SAMPLE)


def _look(number: int, frame: FrameType | None) -> None:
    stack = []
    while frame is not None:
        stack.append(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    _stacks[tuple(stack)] += 1


def _answer() -> None:
    for line in sys.stdin:
        if line.strip() == "clocks":
            _say({"cpu": time.process_time(), "memory": _memory(), "instructions": _instructions()})
        elif line.strip() == "settle":
            gc.collect()
            _say({})
        elif line.strip() == "samples":
            _say({"stacks": list(_stacks.items())})
            _stacks.clear()
    os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # it has ended: so will stdin
        _reply.write(json.dumps(answer) + "\n")
        _reply.flush()


def _memory() -> int | None:
    """Bytes of memory in use; where the system does not tell, the most there ever was; None where not even that."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
