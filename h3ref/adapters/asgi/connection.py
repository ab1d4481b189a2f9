"""`ASGIConnection`: carries a stream by `http.response.body` messages."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, Final, Literal

import anyio
import anyio.lowlevel

from ..._core.cleanup import Cleanup
from ..._core.errand import within
from ..._core.outflow import Outflow
from ..._core.parking import Parking, clock_here, current_task_id, now, start_task
from ..._core.steps import Steps, begin
from ...connection import StreamHead
from ...errors import WriteError
from .messages import END, Message, Send, part, start
from .owner import Owner
from .stage import ENDING, HEADED, JOINING, OVER, QUIET, SENDING, WAITING, Stage

log = logging.getLogger(__name__)

BUSY: Final = 0.0005
"""Seconds. A stream is busy if its helper has sent something within this time."""

BUSY_TURNS: Final = 2
"""How many turns of the loop its helper waits for more: most of its time is what a message costs the server."""


class ASGIConnection(Outflow):
    """Carries a stream by `http.response.body` messages.

    Under uvicorn the task that streams sends by itself while the server takes all at once: the first event since it
    last waited leaves directly, and what follows together, when it waits again. A helper sends all else: a task that
    starts when first needed, is parked in between, and has the stream's context, no matter which task writes.

    If the server makes a message wait, and the task that sends it is cancelled, the helper sends it again.

    Args:
        send: the server's.
        owner: the request that it belongs to.
        turns: those of the code that streams; None if they can't be known.
        flow: says by `write_paused` whether the server would let a message wait; None if that is not known.
    """

    adapter_type = "asgi"
    sharing = None

    __slots__ = (
        "_flow",
        "_helper",
        "_helper_over",
        "_in_flight",
        "_owner",
        "_parking",
        "_pending",
        "_rest",
        "_scope",
        "_send",
        "_size",
        "_stage",
        "_steps",
        "_turns",
        "stalled_since",
    )

    def __init__(self, send: Send, owner: Owner, *, turns: Cleanup | None, flow: Any = None) -> None:
        super().__init__()
        self._send = send
        self._owner = owner
        self._turns = turns
        self._flow = flow
        # When nothing is under way. If a server may take a message and then make its sender wait, a cancelled sender
        # can't know whether it was taken: there only the helper sends, which nobody cancels.
        self._rest = WAITING if turns is None or flow is None else QUIET
        self._stage = self._rest
        self._pending: list[bytes] = []
        self._size = 0  # of what is pending, and of what the server has not taken yet
        self._in_flight = 0  # of the latter
        self._steps: Steps | None = None  # the call that the server makes wait
        self._scope: anyio.CancelScope | None = None  # what abort ends: the wait for a head, or the helper
        self._helper: object = None  # the task, while there is one
        self._helper_over: anyio.Event | None = None  # made by a task that waits for its end
        self._parking: Parking | None = None  # where it waits for what is next
        self.stalled_since: float | None = None  # while the server has something that it has not taken

    @property
    def buffered(self) -> int:
        return self._size

    @property
    def direct(self) -> ASGIConnection | None:
        return None if self._rest is WAITING else self

    @property
    def is_free(self) -> bool:
        return self._rest is QUIET and self._stage <= JOINING and not self._flow.write_paused

    @property
    def can_end(self) -> bool:
        """Whether this is the task that streams, and nothing is under way, and no helper is about to send."""
        if self._turns is None or (self._flow is not None and self._flow.write_paused):
            return False
        if self._stage > JOINING and (self._stage is not WAITING or self._pending or self._steps is not None):
            return False
        return current_task_id() == self._owner.task

    # -- the head

    async def send_headers(self, head: StreamHead) -> int:
        message, size = start(200, head.headers)
        size = len(head.wire) if head.wire else size
        self._size += size  # what is written, and the end, goes behind it
        self._stage = SENDING
        given_up = False
        try:
            self._owner.note()
            if self._turns is None:
                given_up = await self._send_head_in_scope(message)
            elif (steps := begin(self._send(message))) is not None:
                given_up = await self._send_head_slowly(steps)
            self._owner.note()
        except OSError:
            self._owner.lost()
        except Exception as error:
            self.abort()
            raise WriteError(f"the server refused the head: {error}") from error
        if given_up and self._stage is SENDING:
            self.abort()
            raise WriteError(f"the server did not take the head within {self._owner.limits.close_timeout:g} s")
        if self._stage is SENDING:
            self._size -= size
            self._stage = self._rest
            self._tell_waiters()
            self._owner.opened()
            # Some servers keep the head until the first message of the body comes.
            if self._turns is None:
                self._pending.append(b"")
                self._wake_helper(parks=False)
            else:
                self._send_with_turn(HEADED)
        return size

    async def _send_head_in_scope(self, message: Message) -> bool:
        """Send it whole or not at all, and shielded: a disconnect ends the wait as well. True if it was given up."""
        with anyio.CancelScope(shield=True) as self._scope:
            return await within(self._send(message), self._owner.limits.close_timeout)
        return False  # a disconnect has ended it

    async def _send_head_slowly(self, steps: Steps) -> bool:
        """Likewise, for a call that has begun."""
        self._steps = steps
        self._rest = WAITING
        try:
            return await self._go_on(steps, shield=True)
        except BaseException:
            steps.abandon()
            raise
        finally:
            self._steps = None

    async def _go_on(self, steps: Steps, *, shield: bool) -> bool:
        """Go on with a call for no longer than `close_timeout`. True if it was given up."""
        return await steps.go_on(now() + self._owner.limits.close_timeout, shield=shield)

    # -- what is written

    def write_chunk(self, data: bytes) -> None:
        if not data or self._stage is OVER or self._stage is ENDING:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._stage is QUIET:
            if self._parking is not None:
                self._parking.wake()
            else:
                self._send_with_turn(JOINING)
        elif self._stage is HEADED:
            self._stage = JOINING  # told of the turn already
        elif self._stage is WAITING:
            self._wake_helper()

    def _send_with_turn(self, stage: Stage) -> None:
        """Have it leave when the code that streams waits: in its task, or through the helper if it waits now."""
        self._stage = stage
        assert self._turns is not None, "else it leaves at once"
        if not self._turns.add_before_wait(self._send_joined):
            self._turn_over()

    def send_now(self, data: bytes) -> Coroutine[Any, Any, None] | Literal[False] | None:
        stage = self._stage
        if stage > JOINING or self._rest is not QUIET or self._flow.write_paused:  # as `is_free`, in place
            return False
        if self._pending:
            data = self._behind_pending(data)
        self._stage = SENDING
        try:
            # What `begin` does, in place, for each event.
            call: Any = self._send({"type": "http.response.body", "body": data, "more_body": True})
            code: Any = call if type(call) is CoroutineType else call.__await__()
            waited = code.send(None) if code is call else next(code)
        except StopIteration:
            if self._stage is SENDING:
                self._stage = stage if stage is QUIET else JOINING
                if self._pending and stage is QUIET:  # the server's own code has written it meanwhile
                    self._send_with_turn(JOINING)
                if self._progress is not None:
                    self._tell_waiters()
        except Exception as error:
            self._refused(error)
        else:
            self._steps = Steps(call.__await__() if code is call else code, waited)
            return self._send_slowly(self._steps, data)
        return None

    async def _send_slowly(self, steps: Steps, data: bytes) -> None:
        """The server makes a message wait: from now on the helper sends.

        The task that waits for it may be cancelled, as by a time limit of the user's: then the helper sends it. A
        server that makes a message wait before taking it has not taken it; for one that waits after, see `__init__`.
        """
        self._rest = WAITING
        self._in_flight = len(data)
        self._size += self._in_flight
        self.stalled_since = now()
        try:
            await steps.follow()
        except Exception as error:
            self._refused(error)
        except BaseException:
            self._steps = None
            self.stalled_since = None
            if self._stage is SENDING:
                self._stage = WAITING
            if self._stage is not OVER:
                self._in_flight = 0
                self._pending.insert(0, data)
                self._wake_helper()
            raise
        else:
            self._taken()
        if self._pending:
            self._wake_helper()

    def _taken(self) -> None:
        self._steps = None
        if self._stage is OVER:
            return
        self._size -= self._in_flight
        self._in_flight = 0
        self.stalled_since = None
        if self._stage is SENDING:
            self._stage = self._rest
        self._tell_waiters()

    def _take_pending(self) -> bytes:
        pending = self._pending
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._in_flight = len(data)
        return data

    def _behind_pending(self, data: bytes) -> bytes:
        self._size -= sum(map(len, self._pending))
        if data:
            self._pending.append(data)
        return self._take_pending()

    def _send_joined(self) -> Coroutine[Any, Any, None] | None:
        """The code that streams is about to wait: its task sends what is pending, if nothing makes that wait."""
        if not self.is_free:
            self._turn_over()
            return None
        if self._stage is HEADED:
            self._pending.append(b"")
        self._stage = QUIET
        if not self._pending:
            return None
        return self.send_now(b"") or None  # it is free, so that this is never False

    def _turn_over(self) -> None:
        if self._stage is HEADED:
            self._pending.append(b"")
        elif self._stage is not JOINING:
            return
        parks = self._stage is JOINING and self._rest is QUIET  # after a head, mostly nothing comes for long
        self._stage = self._rest
        if self._pending:
            self._wake_helper(parks=parks)

    def _refused(self, error: Exception) -> None:
        """A server that can't send is taken for a client that left."""
        self._steps = None
        if self._stage is OVER:
            return
        if not isinstance(error, OSError):
            log.warning("the server refused a message: %r", error)
        self._stop()
        self._owner.lost()

    # -- the helper

    def _wake_helper(self, *, parks: bool = True) -> None:
        if self._parking is not None:
            self._parking.wake()
        elif self._helper is None:
            self._scope = self._owner.context.copy().run(anyio.CancelScope)  # only abort ends it: close still needs it
            self._helper = start_task(self._help, self._scope, parks, context=self._owner.context)

    async def _help(self, scope: anyio.CancelScope, parks: bool) -> None:
        parking, clock = Parking(), clock_here()
        try:
            with scope:
                await self._send_pending()
                self._owner.note()  # a middleware may have held the head until now
                while self._stage is not OVER:
                    await self._send_pending()
                    if not parks or self._stage is OVER:
                        return
                    self._parking = parking
                    sent_at = clock()
                    await parking.wait()
                    self._parking = None
                    for _ in range(BUSY_TURNS if clock() - sent_at < BUSY else 0):
                        await anyio.lowlevel.checkpoint()
        finally:
            self._parking = self._helper = None
            if self._scope is scope:
                self._scope = None
            if self._helper_over is not None:
                self._helper_over.set()
            if self._pending:  # they came just when it ended
                self._wake_helper()

    async def _send_pending(self) -> None:
        if self._steps is not None:
            return  # the task that waits for it wakes this one when it is over
        while self._stage is not OVER and self._pending:
            is_last = self._pending[-1] is END
            data = self._take_pending()
            self._in_flight += is_last
            if self._stage is not ENDING:
                self._stage = SENDING
            try:
                call = self._send(part(data, more=not is_last))
                if self._turns is None:
                    self.stalled_since = now()
                    await call
                elif (steps := begin(call)) is not None:
                    self.stalled_since = now()
                    await steps.follow()
            except Exception as error:
                self._refused(error)
            else:
                self._taken()

    def release(self) -> Coroutine[Any, Any, None] | None:
        """Its exchange is over: send nothing more. Returns what waits until the helper has ended, if there is one."""
        if self._stage is not OVER:
            self._stop()
        return None if self._helper is None else self._until_helped()

    async def _until_helped(self) -> None:
        """A server that shields its sends, as hypercorn does on trio, ends them only when the application returns."""
        self._helper_over = anyio.Event()
        with anyio.move_on_after(self._owner.limits.close_timeout, shield=True):
            await self._helper_over.wait()

    # -- waiting, and the end

    def drain(self) -> Coroutine[Any, Any, None]:
        return self._until_below(self._owner.limits.stream_buffer)

    def flush(self) -> Coroutine[Any, Any, None]:
        return self._until_below(1)

    def close(self) -> Coroutine[Any, Any, None]:
        return self._end(proper=True)

    def cut(self) -> Coroutine[Any, Any, None]:
        # An application that returns without the last message tells the server to cut; one that raises does so too, but
        # servers log that with a traceback, and the failure is logged already.
        return self._end(proper=not self._owner.can_cut)

    async def _end(self, *, proper: bool) -> None:
        if self._stage is OVER:
            return
        if self.can_end:
            if (waits := self.end_now(cut=not proper)) is not None:
                await waits
            return
        try:
            with anyio.move_on_after(self._owner.limits.close_timeout):
                self._end_by_helper(proper=proper)
                await self._until_below(1)
        except Exception as error:
            self._refused(error)
        finally:
            self._stop()

    def end_now(self, *, cut: bool) -> Coroutine[Any, Any, None] | None:
        """As `close`, or `cut`, in one message with the rest, where `can_end` allows it; returns what waits for it."""
        proper = not (cut and self._owner.can_cut)
        data = self._take_pending()
        self._stage = ENDING
        try:
            if data or proper:
                self._steps = begin(self._send(part(data, more=not proper)))
                if self._steps is not None:
                    return self._end_slowly(self._steps)
        except Exception as error:
            self._refused(error)
        self._stop()
        return None

    async def _end_slowly(self, steps: Steps) -> None:
        try:
            await self._go_on(steps, shield=True)
        except Exception as error:
            self._refused(error)
        finally:
            self._stop()

    def _end_by_helper(self, *, proper: bool) -> None:
        self._stage = ENDING
        if proper:
            self._pending.append(END)
            self._size += 1  # the end has no bytes, but is waited for
        if self._pending:
            self._wake_helper()

    def abort(self) -> None:
        """Take nothing more; waiting tasks go on. The last message goes its way: ending it is the end's business."""
        if self._stage is not ENDING:
            self._stop()

    def _stop(self) -> None:
        self._stage = OVER
        self._pending.clear()
        self._size = 0
        self.stalled_since = None
        if self._steps is not None:
            self._steps.abandon()
        if self._scope is not None:
            self._scope.cancel()
        self._tell_waiters()
