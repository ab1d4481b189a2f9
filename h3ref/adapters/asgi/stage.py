"""`Stage`: what happens to the bytes written to a connection."""

from __future__ import annotations

from enum import IntEnum, auto


class Stage(IntEnum):
    """What becomes of what is written now. Up to JOINING, the task that streams can send by itself."""

    QUIET = auto()  # it leaves directly, or when this turn of the loop is over
    HEADED = auto()  # it leaves behind the head, which has left in this turn of the loop
    JOINING = auto()  # something left in this turn of the loop: it joins what leaves when that is over
    WAITING = auto()  # the helper is woken for it
    SENDING = auto()  # it waits for a message that the server has not taken yet
    ENDING = auto()  # nothing: the last message is with the server, or waits for those before it
    OVER = auto()  # nothing


QUIET, HEADED, JOINING, WAITING, SENDING, ENDING, OVER = Stage
