"""`Upkeep`: looks after one service's open streams: how many, how old, how silent, and whether readers read."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup

from ..connection import Connection
from ..errors import TooManyStreams
from ..lifecycle import Reason, State
from ..limits import Limits
from .deadlines import Deadlines, Due
from .parking import clock_here
from .stream import Stream
from .timer import Timer

log = logging.getLogger("h3ref.upkeep")

LOOKS: Final = 4
"""How often a stream is looked at within the shortest of its times. A look costs no more than counting what was sent,
so that sending itself need not look at the clock."""

LOOKS_A_TURN: Final = 256
"""After this many streams, the task that looks gives way to the others."""

CLOCKS_EVERY: Final = 15.0
"""The shortest of a stream's times, in seconds, is no longer than this if it expires by a clock, which may be set."""


COULD_NOT: Final = "%r could not be looked after, because its connection raised"


class Streaming:
    """What `Upkeep` knows of one stream.

    Attributes:
        stream: the stream itself; None until its head is on its way.
        ends_at: when it is too old, by the loop's time.
        look_every: seconds between two looks at it; 0 if there is nothing to look for.
        look_at: when the next one is.
        expected_at: when it expires, if that is before the next look and so has a place in a queue; else infinity.
    """

    __slots__ = ("ends_at", "expected_at", "look_at", "look_every", "looked_at", "sent", "silent_since", "stream")

    def __init__(self, now: float, ends_at: float | None) -> None:
        self.ends_at = ends_at
        self.stream: Stream | None = None
        self.look_every = self.look_at = 0.0
        self.expected_at = math.inf
        self.looked_at = self.silent_since = now
        self.sent = 0  # events and comments, when it was looked at last

    def is_silent_for(self, seconds: float, now: float, stream: Stream) -> bool:
        """Whether nothing was sent for this long, taking what was sent since the last look to be as old as it."""
        sent = stream.event_count + stream.comment_count
        if sent != self.sent:
            self.sent, self.silent_since = sent, self.looked_at
        self.looked_at = now
        return now - self.silent_since >= seconds


class Attendant(Protocol):
    """Has `Upkeep` look at its streams when it is time, and runs what that takes."""

    def look_at(self, when: float) -> None:
        """Have `Upkeep.look` called at this time, by the loop's clock, if not before."""

    def start(self, function: Callable[[Stream], Coroutine[Any, Any, None]], stream: Stream) -> None:
        """Start a task, with the stream's context, that calls a function with the stream."""


class Upkeep:
    """The open streams of one service. One attendant looks after all of them; without it they are only counted.

    Args:
        limits: how many there may be, and how long they may last.
        refused: counts refusals and cuts by limit.

    Attributes:
        opened: how many there have been so far.
    """

    def __init__(self, limits: Limits, refused: Counter[str]) -> None:
        self._refused = refused
        self._now = clock_here()
        self._most = limits.streams
        self._age = limits.stream_age
        self._jitter = limits.stream_age_jitter
        self.opened = 0
        self._open: dict[Connection, Streaming] = {}
        # Those that are looked at equally often; in each, the one that was looked at longest ago comes first.
        self._rounds: dict[float, dict[Connection, Streaming]] = {}
        # Those that expire before they are looked at again, the first one first, each with a number to tell it by.
        self._expiring: list[tuple[float, int, Streaming]] = []
        self._numbers = count()
        self._deadlines = Deadlines()
        self._next_look = math.inf
        self._attendant: Attendant | None = None
        self._timer: Timer | None = None  # for the deadlines, while there is no attendant

    def _look_every(self, stream: Stream) -> float:
        return _look_every(self._age, stream.send_timeout, stream.keep_alive, stream.host.expiry is not None)

    def __len__(self) -> int:
        return len(self._open)

    def check(self) -> None:
        """See that there is room for one more.

        Raises:
            TooManyStreams: there is none.
        """
        if self._most is not None and len(self._open) >= self._most:
            self._refused["streams"] += 1
            raise TooManyStreams(f"all {self._most} streams that this server allows are open; try again later")

    def add(self, connection: Connection) -> None:
        """Count a stream, whose age begins."""
        begins_at = self._now()
        age = self._age
        self.opened += 1
        ends_at = None if age is None else begins_at + age * (1 - self._jitter * random.random())
        self._open[connection] = Streaming(begins_at, ends_at)

    def look_after(self, connection: Connection, stream: Stream) -> None:
        """Look after a stream that was added: its head is on its way. Until it waits, there is nothing to look for."""
        found = self._open[connection]
        found.stream = stream
        stream.host.running.add(partial(self._begin_to_look, connection, found, stream))

    def _begin_to_look(self, connection: Connection, found: Streaming, stream: Stream) -> None:
        if found.stream is stream and not found.look_every:  # else it is over, or looked at for its expiry
            self._join_round(connection, found, stream, found.looked_at)
            self._expect(found, stream)

    def _join_round(self, connection: Connection, found: Streaming, stream: Stream, since: float) -> None:
        found.look_every = self._look_every(stream)
        if not found.look_every:
            return
        found.look_at = since + found.look_every
        self._rounds.setdefault(found.look_every, {})[connection] = found
        self._look_at_latest(found.look_at)

    def expiry_changed(self, connection: Connection) -> None:
        """A stream's permission now ends at another time."""
        found = self._open.get(connection)
        if found is not None and found.stream is not None:
            if found.look_every != self._look_every(found.stream):
                self._discard_from_round(connection, found)
                self._join_round(connection, found, found.stream, self._now())
            self._expect(found, found.stream)

    def _expect(self, found: Streaming, stream: Stream) -> None:
        """Have it expire at its time, if that is before it is looked at again."""
        expiry = stream.host.expiry
        if expiry is None:
            return
        due_at = expiry.due_at
        if due_at < min(found.look_at, found.expected_at):
            found.expected_at = due_at
            heappush(self._expiring, (due_at, next(self._numbers), found))
            self._look_at_latest(due_at)

    def _look_at_latest(self, when: float) -> None:
        if when < self._next_look:
            self._next_look = when
            if self._attendant is not None:
                self._attendant.look_at(when)

    def discard(self, connection: Connection) -> None:
        """It has ended."""
        found = self._open.pop(connection, None)
        if found is not None:
            found.stream = None
            self._discard_from_round(connection, found)

    def _discard_from_round(self, connection: Connection, found: Streaming) -> None:
        if found.look_every:
            del self._rounds[found.look_every][connection]
            if not self._rounds[found.look_every]:
                del self._rounds[found.look_every]

    def stop(self, connection: Connection) -> None:
        """Cut a stream whose reader doesn't read, for an adapter that can hold no more for it."""
        found = self._open.get(connection)
        if found is not None and found.stream is not None:
            self._refused["server_buffer"] += 1
            self._stop(found.stream, Reason.SLOW_CONSUMER)

    def add_deadline(self, due: Due, seconds: float) -> None:
        """Tell something, in a callback of the loop or in another task, when some seconds are over.

        It is told even if nothing looks after the streams.
        """
        when = self._deadlines.add(due, seconds, self._now())
        if self._attendant is None:
            if self._timer is None:
                self._timer = Timer(self._tell_due)
            self._timer.set(when)
        else:
            self._look_at_latest(when)

    def _tell_due(self) -> None:
        next_look = self._deadlines.look(self._now())
        if self._timer is not None and next_look < math.inf:
            self._timer.set(next_look)

    def discard_deadline(self, due: Due, seconds: float) -> None:
        """It need not be told any more; a second call does nothing."""
        self._deadlines.discard(due, seconds)

    async def run(self) -> None:
        """Look after the streams until cancelled."""
        async with anyio.create_task_group() as tasks:
            attendant = _Task(tasks)
            self.attend(attendant)
            try:
                while True:
                    with anyio.CancelScope(deadline=self.look()) as attendant.sleeping:
                        await anyio.sleep_forever()
                    attendant.sleeping = None
            finally:
                if self._attendant is attendant:  # else another one has taken over
                    self._attendant = None

    def attend(self, attendant: Attendant) -> None:
        """Have this one look after the streams from now on."""
        self._attendant = attendant
        if self._next_look < math.inf:
            attendant.look_at(self._next_look)

    def look(self) -> float:
        """Do what is due by now; return when to look again, by the loop's clock: infinity for never."""
        at = self._now()
        looks = [self._deadlines.look(at), *(self._look(looked_at, at) for looked_at in tuple(self._rounds.values()))]
        self._next_look = min(*looks, self._look_at_expiring(at))
        return self._next_look

    def _look_at_expiring(self, now: float) -> float:
        """End those whose time has come; return when the next one is due."""
        for _ in range(LOOKS_A_TURN):
            if not self._expiring:
                return math.inf
            due_at, _number, found = self._expiring[0]
            if due_at > now:
                return due_at
            heappop(self._expiring)
            found.expected_at = math.inf
            stream = found.stream
            if stream is None or stream.lifecycle.state is State.CLOSED:
                continue
            expiry = stream.host.expiry
            if expiry is None or expiry.due_at > now:
                self._expect(found, stream)  # it was renewed, or the clock was set
                continue
            try:
                stream.host.expire()
                self.end_soon(stream)
            except Exception:
                log.exception(COULD_NOT, stream)
        return now

    def _look(self, looked_at: dict[Connection, Streaming], now: float) -> float:
        """Look at those whose time has come; return when the next one is due."""
        for _ in range(LOOKS_A_TURN):
            if not looked_at:
                return now
            connection, found = next(iter(looked_at.items()))
            if found.look_at > now:
                return max(found.look_at, now + found.look_every / 16)  # so that some are looked at together
            del looked_at[connection]
            looked_at[connection] = found
            found.look_at = now + found.look_every
            try:
                self._look_at(connection, found, now)
            except Exception:  # the adapter's: this task looks after all other streams, too
                log.exception(COULD_NOT, found.stream)
        return now

    def _look_at(self, connection: Connection, found: Streaming, now: float) -> None:
        stream = found.stream
        assert stream is not None, "only those are looked at whose head is on its way"
        if not stream.is_active:
            return
        if found.ends_at is not None and now >= found.ends_at:
            self._stop(stream, Reason.TIMEOUT)
            return
        self._expect(found, stream)
        stalled_since = connection.stalled_since
        if stalled_since is not None:
            if stream.send_timeout is not None and now - stalled_since >= stream.send_timeout:
                self._refused["send_timeout"] += 1
                self._stop(stream, Reason.SLOW_CONSUMER)
            return  # what already waits will show, when it arrives, that the connection is alive
        if stream.keep_alive is None:
            return
        if found.is_silent_for(stream.keep_alive - found.look_every / 2, now, stream):
            if stream.comment is None:
                stream.offer_keep_alive()
            else:
                assert self._attendant is not None, "only the attendant looks"
                self._attendant.start(_show_alive, stream)  # the user's code makes the comment
            found.sent, found.silent_since = stream.event_count + stream.comment_count, now

    def _stop(self, stream: Stream, reason: Reason) -> None:
        """Stop a stream, even if its own task can't end it, such as that of a thread that waits for room."""
        stream.host.stop(reason)
        self.end_soon(stream)

    def end_soon(self, stream: Stream) -> None:
        """Bring a closed stream's connection to its end beside the task that streams, which may be unable to."""
        if self._attendant is not None:
            self._attendant.start(self._bring_to_end, stream)
        elif stream.host.uses_thread:  # nothing looks after it: at least it no longer counts
            stream.host.release()

    async def _bring_to_end(self, stream: Stream) -> None:
        """Bring a closed stream's connection to its end; what is held for the client does not wait for a thread."""
        await stream.end()
        if stream.host.uses_thread:
            stream.host.release()


@lru_cache
def _look_every(age: float | None, send_timeout: float | None, keep_alive: float | None, expires: bool) -> float:
    clocks = CLOCKS_EVERY if expires else None
    return min((time for time in (age, send_timeout, keep_alive, clocks) if time is not None), default=0.0) / LOOKS


async def _show_alive(stream: Stream) -> None:
    stream.offer_keep_alive()


class _Task:
    """The attendant that `Upkeep.run` makes.

    It sleeps on when a stream comes, and is woken when it is time: most streams that come alone are over by then.

    Attributes:
        sleeping: the scope in which it sleeps until the next look; None while it looks.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self.sleeping: anyio.CancelScope | None = None
        self._tasks = tasks

    def look_at(self, when: float) -> None:
        if self.sleeping is not None:
            self.sleeping.deadline = when

    def start(self, function: Callable[[Stream], Coroutine[Any, Any, None]], stream: Stream) -> None:
        stream.host.context.copy().run(self._tasks.start_soon, function, stream)
