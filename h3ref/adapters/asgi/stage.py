"""`Stage`: what happens to the bytes written to a connection."""

from __future__ import annotations

from enum import IntEnum, auto


class Stage(IntEnum):
    """What becomes of what is written now. Up to JOINING, the task that streams can send by itself."""

    QUIET = auto()  # it leaves directly, or when the code that streams waits
    HEADED = auto()  # it leaves behind the head, since which the code has not waited
    JOINING = auto()  # something left, and the code has not waited since: it joins what leaves when that does
    WAITING = auto()  # the helper is woken for it
    SENDING = auto()  # it waits behind a message that the server has not taken yet
    ENDING = auto()  # nothing: the last message is with the server, or waits for those before it
    OVER = auto()  # nothing


QUIET, HEADED, JOINING, WAITING, SENDING, ENDING, OVER = Stage
