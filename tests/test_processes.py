"""What the tests see to themselves: the processes that they start are over when they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.processes import IN_FOREGROUND, kill_group, marked, still_running

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of processes that are not ours")

PAUSES = """
import os, signal
print(os.getpid(), flush=True)
signal.pause()
"""
HAS_A_CHILD = f"""
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {PAUSES!r}], stdout=subprocess.PIPE)
print(int(child.stdout.readline()), flush=True)  # which it has written itself: before that it may have no environment
signal.pause()
"""


def with_child(**options: Any) -> tuple[subprocess.Popen[bytes], int]:
    """A process that has started another one, and that one's number."""
    process = subprocess.Popen([sys.executable, "-c", HAS_A_CHILD], stdout=subprocess.PIPE, **options)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def numbers(found: list[str]) -> set[int]:
    return {int(line.partition(":")[0]) for line in found}


def test_what_is_left_is_found_also_when_its_parent_has_gone() -> None:
    with marked() as mark:
        process, child = with_child()
    assert numbers(still_running(mark, patience=0)) == {process.pid, child}
    process.kill()
    process.communicate()
    assert numbers(still_running(mark, patience=0)) == {child}
    os.kill(child, signal.SIGKILL)
    assert still_running(mark) == []


def test_a_group_ends_with_all_that_it_has_started() -> None:
    with marked() as mark:
        process, _ = with_child(start_new_session=True)
        kill_group(process)
        process.communicate()
        assert still_running(mark) == []


def test_sigint_ends_what_a_test_in_the_background_starts_as_in_the_foreground() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process, _ = with_child(preexec_fn=IN_FOREGROUND, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(30) == -signal.SIGINT
    finally:
        kill_group(process)
        process.communicate()
