"""The processor's count of instructions, from Linux: what a program does, however fast the machine is now.

This is what `perf stat -e instructions:u` counts, read where it is needed. A machine that is rented often has no such
counter, nor one whose owner forbids it (`kernel.perf_event_paranoid`): then there is no figure.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable
from typing import Final

INSTRUCTIONS: Final = (0, 1)
"""PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS."""

CPU_CLOCK: Final = (1, 1)
"""PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK: nanoseconds, which every Linux counts."""

_CALLS: Final = {"x86_64": 298, "aarch64": 241}
"""The number of the system call perf_event_open, by architecture."""

_SIZE: Final = 112
"""Bytes of perf_event_attr, of its fifth version."""

_FLAGS: Final = 1 << 1 | 1 << 5 | 1 << 6
"""inherit, exclude_kernel, exclude_hv: with the threads that come, and in user mode only."""

_THIS: Final = (0, -1, -1)
"""This process, on any processor, in no group."""

_CLOSE_ON_EXEC: Final = 1 << 3


def counter(event: tuple[int, int] = INSTRUCTIONS) -> Callable[[], int | None]:
    """Begin to count, in this thread and those that it starts, and return what reads the count.

    Args:
        event: what to count, as a type and a number of perf_event_open(2).

    Returns:
        A function that returns the count since now, or None where there is none to be had.
    """
    descriptor = _opened(event)
    if descriptor is None:
        return lambda: None
    return lambda: int.from_bytes(os.read(descriptor, 8), sys.byteorder)


def _opened(event: tuple[int, int]) -> int | None:
    number = _CALLS.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return None
    kind, config = event
    about = struct.pack("=IIQQQQQ", kind, _SIZE, config, 0, 0, 0, _FLAGS).ljust(_SIZE, b"\0")
    descriptor = int(ctypes.CDLL(None, use_errno=True).syscall(number, about, *_THIS, _CLOSE_ON_EXEC))
    return descriptor if descriptor >= 0 else None
