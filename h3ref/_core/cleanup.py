"""`Cleanup`: gives cancelled user code a bounded time, in which what its `finally` awaits goes through.

Two nested scopes stand around the code. To end the code, the outer one is cancelled. The inner one is shielded, and
gets a deadline, only when that very cancellation is thrown into the code, which unwinds from there on. Shielding it at
once would do for code that waits; but code that is inside a shield of its own, waits for a thread, or is about to run
would never hear of its cancellation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any

import anyio

from . import scopes

log = logging.getLogger("h3ref.cleanup")


class Cleanup:
    """Runs user code, and lets it clean up when it is cancelled.

    Args:
        owner: whose code it is, for the log.
        seconds: the most that the cleanup may take.
        waits: called once, when the cancelled code has something to wait for.

    Attributes:
        turn: a number above 0 while the code runs, and a new one each time it has waited; below 1 at other times.
        cancelled: called when the code is cancelled, and raises nothing; None for no call.
    """

    __slots__ = (
        "_around",
        "_calls",
        "_ends_at",
        "_groups",
        "_is_over",
        "_is_passing",
        "_owner",
        "_reason",
        "_scopes",
        "_seconds",
        "_waits",
        "cancelled",
        "turn",
    )

    def __init__(self, owner: object, seconds: float, waits: Callable[[], None]) -> None:
        self._owner = owner
        self._seconds = seconds
        self._waits = waits
        self.turn = 0
        self.cancelled: Callable[[], object] | None = None
        self._calls: list[Callable[[], Any]] | None = None  # made for the first call to come when the code waits
        self._scopes = scopes.Enclosure()
        self._reason: str | None = None  # which tells our cancellation from others, once there is one
        self._ends_at = math.inf
        self._is_passing = False  # whether the code unwinds by a cancellation of its own, and ours along with it
        self._is_over = False  # whether the cleanup itself was cancelled
        self._around = 0  # how many of trio's nurseries were open when the code began
        self._groups: tuple[Any, ...] = ()  # the code's own that were open when the cancellation came

    @coroutine
    def run(self, awaitable: Awaitable[None], new_task: object = None) -> Generator[Any, Any, None]:
        """Run the code in the calling task, until it returns or has unwound.

        It runs step by step, as with `await`, but each cancellation is looked at before the code gets it.

        Args:
            awaitable: the code.
            new_task: that task, if it is an asyncio task that has just begun and runs nothing else; else None.
        """
        code = awaitable.__await__()
        if new_task is not None:
            self._scopes.expect(new_task)
        with self._scopes:
            if self._scopes.status is not None:
                self._around = len(scopes.open_nurseries())
            try:
                self.turn = 1
                yielded = next(code)
                while True:
                    self.turn = -self.turn
                    try:
                        if self._calls:
                            yield from self._tell(yielded)
                        sent = yield yielded
                        self.turn = 1 - self.turn
                    except BaseException as error:  # asyncio throws a cancellation in
                        self.turn = 1 - self.turn
                        yielded = self._pass_on(code.throw, error, error)
                    else:
                        if not self._is_passing and (sent is None or self._reason is None):
                            yielded = code.send(sent)
                        else:  # trio sends it
                            yielded = self._pass_on(code.send, sent, getattr(sent, "error", None))
            except StopIteration:
                return
            finally:
                self.turn = -abs(self.turn)
                self._calls = None
                self._owner, self._waits = None, _nothing  # both refer to this object

    def add(self, call: Callable[[], object]) -> None:
        """Call a function, which raises nothing, when the code waits; at once, if it waits now or is over.

        It is not called if the code comes to its end without waiting: no other task has run meanwhile.
        """
        if self.turn < 1:
            call()
        elif self._calls is None:
            self._calls = [call]
        else:
            self._calls.append(call)

    def add_before_wait(self, call: Callable[[], Coroutine[Any, Any, None] | None]) -> bool:
        """Likewise, in the task that runs the code, which awaits what the function returns before it waits itself.

        On asyncio only what waits for futures may be returned, and on trio nothing: there, the code may have said
        already what wakes its task. Returns False, and calls nothing, if the code waits now or is over.
        """
        if self.turn < 1:
            return False
        self.add(call)
        return True

    def _tell(self, waits_for: Any) -> Generator[Any, Any, None]:
        calls, self._calls = self._calls or (), None
        for call in calls:
            if (waits := call()) is not None:
                try:
                    yield from waits.__await__()
                except BaseException as error:
                    # The code, too, would have been told by what it waits for, which has to know of it.
                    cancel = getattr(waits_for, "cancel", _nothing_to_cancel)
                    if not isinstance(error, anyio.get_cancelled_exc_class()) or not cancel(*error.args):
                        raise

    def cancel(self) -> None:
        """Cancel the code, which has its time to clean up."""
        if self._reason is None:
            self._reason = f"what it belongs to is over ({id(self):#x})"
            if self._scopes.status is None:
                self._scopes.cancel(self._reason)
            else:  # it is not known yet what a call that the code is just beginning will enter
                self.add(partial(self._scopes.cancel, self._reason))
            if self.cancelled is not None:
                self.cancelled()

    def hurry(self, seconds: float) -> None:
        """Limit the cleanup to this many seconds from now on, even one that has yet to begin."""
        self._ends_at = min(self._ends_at, anyio.current_time() + seconds)
        if self._scopes.is_shielded:
            self._scopes.shield(self._ends_at)

    def _pass_on(self, step: Callable[[Any], Any], what: Any, error: BaseException | None) -> Any:
        kept = error is None and not self._scopes.is_shielded and self._is_kept_by_nursery()
        begins = kept or (not self._scopes.is_shielded and self._is_ours(error))
        if begins:
            self._begin()
            if kept:
                self._keep_in_flight()
        elif self._scopes.is_shielded:
            self._go_on(error)
        self._is_passing = not self._scopes.is_shielded and (self._is_passing or self._is_the_codes_own(error))
        is_called = self._reason is not None
        yielded = step(what)
        if self._is_passing and not any(scope.cancel_called for scope in self._scopes.within()):
            self._is_passing = False
            if is_called:  # which is why none of the code's own scopes has taken it
                begins = True
                self._begin()
        if begins:
            self._waits()
        return yielded

    def _is_ours(self, error: BaseException | None) -> bool:
        """Whether it is our cancellation; some libraries raise a new one for it.

        What trio says about it concerns the innermost scope, which may be cancelled as well; it is ours if none of the
        code's own shields keeps ours away.
        """
        status = self._scopes.status
        if self._reason is not None and status is not None:
            shielded = any(map(scopes.shields, scopes.statuses_within(status)))
            return not shielded and isinstance(error, anyio.get_cancelled_exc_class())
        while self._reason is not None and isinstance(error, anyio.get_cancelled_exc_class()):
            if self._reason in str(error):
                return True
            error = error.__context__
        return False

    def _is_kept_by_nursery(self) -> bool:
        """Whether it came while the code waited for the tasks of its nursery, which throws it when they are over."""
        nurseries = self._open_groups()
        return bool(nurseries) and any(map(self._is_ours, scopes.waiting_in(nurseries[-1])))

    def _open_groups(self) -> tuple[Any, ...]:
        """The code's own trio nurseries, outermost first."""
        return scopes.open_nurseries()[self._around :]

    def _is_the_codes_own(self, error: BaseException | None) -> bool:
        """Whether, on asyncio, one of the code's own scopes is cancelled, which takes it unless ours comes."""
        if error is None or self._scopes.status is not None or not isinstance(error, anyio.get_cancelled_exc_class()):
            return False
        if not scopes.is_a_scopes(error):
            return False
        return not any(scope.shield for scope in self._scopes.within())

    def _begin(self) -> None:
        self._ends_at = min(self._ends_at, anyio.current_time() + self._seconds)
        self._scopes.shield(self._ends_at)
        self._groups = self._open_groups()
        # No scope of the code's own may swallow it for being cancelled itself, as that of trio's checkpoint always is.
        for status in scopes.statuses_within(self._scopes.status):
            scopes.let_pass(status)

    def _go_on(self, error: BaseException | None) -> None:
        if error is None:
            self._keep_in_flight()
        elif self._scopes.is_inner_cancelled and not self._is_over:
            self._is_over = True
            log.warning(
                "%r: its cleanup took too long, and is cancelled for good: see Limits.cleanup_timeout", self._owner
            )

    def _keep_in_flight(self) -> None:
        """Keep the code's nurseries from swallowing the cancellation that passes through them as if it were their own.

        A nursery has cancelled itself because of it, and sees no other: the outer scope is behind the shield. On
        asyncio, anyio counts the cancellations of a task, and knows better.
        """
        nurseries = self._open_groups()
        if nurseries and nurseries[-1] in self._groups and nurseries[-1].cancel_scope.cancel_called:
            scopes.let_pass(scopes.status_of_nursery(nurseries[-1]))


def _nothing() -> None: ...


def _nothing_to_cancel(*_: object) -> bool:
    return False
