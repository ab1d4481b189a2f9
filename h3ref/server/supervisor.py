"""`Supervisor`: starts worker processes that share a place, replaces those that die, and ends them."""

from __future__ import annotations

import itertools
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._core.parking import Parking, caller_from_threads
from ..errors import StartupFailed
from .lines import Message
from .place import Place
from .settings import Settings
from .signals import FirstSignal, PassedOnSignal
from .task import Task
from .work import MARGIN
from .worker import Worker

if TYPE_CHECKING:
    from ..adapters.h11_anyio.listeners import Listeners

log = logging.getLogger("h3ref.server")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Seconds before a worker that died early is replaced; they double each time."""

LIVED: Final = 10.0
"""Seconds after which a worker's death is not early any more."""

TRIES: Final = 5
"""Failed starts in a row after which a server that has no worker left gives up."""

TOLD_WITHIN: Final = 1.0
"""Seconds within which a worker tells its figures; otherwise it is left out."""


def serve_workers(
    app: str,
    place: Place,
    settings: Settings,
    *,
    count: int,
    backend: str,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Serve an app with several processes, until the first signal; `serve` says how they end.

    Args:
        app: "module:app".
        place: where they listen.
        settings: what each is told.
        count: how many.
        backend: the event loop, theirs and this process's.
        prepare: called in each before it imports the app; something that `pickle` can pass on.

    Raises:
        OSError, TypeError, ValueError: an argument that can't be used, such as a port that is taken.
        StartupFailed: a worker could not start, and it is the first time; or none is left, and none starts any more.
    """
    if sys.platform == "win32":
        raise ValueError(
            "several workers need sockets that processes can share, which Windows lacks: leave workers out"
        )
    Task(app, settings, backend, "", "", (), 0, prepare).message()  # before anything listens: it can be passed on

    async def main() -> None:
        shares = place.listen(count)
        hangups = Parking()
        supervisor = Supervisor(partial(_task, app, settings, backend, prepare), shares, settings.grace)
        first = PassedOnSignal(supervisor.tell_end)
        try:
            with first.taken(), _hangups_taken(hangups):
                await supervisor.run(first, hangups)
        finally:
            for share in shares:
                share.close()

    anyio.run(main, backend=backend)


def _task(
    app: str,
    settings: Settings,
    backend: str,
    prepare: Callable[[], None] | None,
    shares: Sequence[Listeners],
    number: int,
) -> Task:
    descriptors = tuple(tuple(listener.fileno() for listener in share) for share in shares)
    path = shares[0].url.removeprefix("unix:") if shares[0].url.startswith("unix:") else ""
    return Task(app, settings, backend, shares[0].host, path, descriptors, number, prepare)


@contextmanager
def _hangups_taken(parking: Parking) -> Iterator[None]:
    call_soon = caller_from_threads()

    def take(*_: Any) -> None:
        call_soon(parking.wake)

    before = signal.signal(signal.SIGHUP, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)


@dataclass(eq=False)
class Slot:
    """One share of the place.

    Attributes:
        number: its number.
        worker: the worker that accepts there; None while there is none.
        keeper: the slot whose worker accepts there meanwhile.
        pause: seconds before the next start.
    """

    number: int
    worker: Worker | None = None
    keeper: Slot | None = None
    pause: float = field(default=FIRST_PAUSE)


class Supervisor:
    """Looks after the workers of one server.

    Args:
        task: makes a worker's task, given the shares and the number of its own.
        shares: what each worker listens on. They stay open here, so a client that waits in one is never lost.
        grace: seconds that a worker has to end.
    """

    def __init__(
        self, task: Callable[[Sequence[Listeners], int], Task], shares: Sequence[Listeners], grace: float
    ) -> None:
        self._task = task
        self._shares = shares
        self._grace = grace
        self._slots = [Slot(number) for number in range(len(shares))]
        self._workers: set[Worker] = set()  # whose processes are there
        self._is_announced = False
        self._failed_starts = 0  # in a row
        self._generation = 0  # hang-ups so far
        self._renewing = anyio.Lock()  # one worker at a time
        self._failure: StartupFailed | None = None
        self._over = anyio.Event()  # set when it has to end
        self._reason = ""
        self._tasks: TaskGroup
        self._questions: dict[int, tuple[list[Message], int, anyio.Event]] = {}
        self._numbers = itertools.count()

    async def run(self, first: FirstSignal, hangups: Parking) -> None:
        """Supervise until the first signal, or a failure.

        Raises:
            StartupFailed: that.
        """
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._heed_signal, first)
                self._tasks.start_soon(self._heed_hangups, hangups)
                for slot in self._slots:
                    self._tasks.start_soon(self._fill, slot)
                await self._over.wait()
                await self._end()
                self._tasks.cancel_scope.cancel()
        finally:
            for worker in self._workers:
                worker.reap()
        if self._failure is not None:
            raise self._failure

    async def _heed_signal(self, first: FirstSignal) -> None:
        await first.wait()
        log.info("%s: shutting down", first.name)
        self._reason = first.name or ""
        self._over.set()

    def _fail(self, failure: StartupFailed) -> None:
        if not self._over.is_set():
            self._failure = failure
            self._over.set()

    async def _end(self) -> None:
        """Tell all, stop listening, and wait for their end; the second signal ends this process, and them with it."""
        self.tell_end(self._reason)  # those too that were started meanwhile, and all if it is no signal
        for share in self._shares:
            share.close()
        with anyio.move_on_after(self._grace + MARGIN):
            while self._workers:
                await next(iter(self._workers)).over.wait()
                await anyio.lowlevel.checkpoint()  # in which it is taken off
        for worker in self._workers:
            log.warning("worker %d: process %d does not end, and is killed", worker.number + 1, worker.process)

    def tell_end(self, reason: str) -> None:
        """Tell all workers to end. Once told, a worker ends at once when this process does."""
        for worker in self._workers:
            worker.tell(end=reason)

    # -- starting

    async def _fill(self, slot: Slot) -> None:
        """Start workers until one serves."""
        while not self._over.is_set():
            worker = await self._start(slot)
            if self._over.is_set():
                return
            if isinstance(worker, Worker):
                self._take(slot, worker)
                await self._renew(slot)  # there was a hang-up while it started
                return
            self._failed_starts += 1
            if not self._is_announced or self._is_at_its_end:
                self._fail(worker)
                return
            log.error("worker %d: %s; next attempt in %g s", slot.number + 1, worker, slot.pause)
            await self._pause(slot)

    @property
    def _is_at_its_end(self) -> bool:
        return self._failed_starts >= TRIES and not any(slot.worker for slot in self._slots)

    async def _start(self, slot: Slot) -> Worker | StartupFailed:
        """Start a worker, and return it once it serves, or the error that kept it from serving."""
        try:
            worker = Worker(self._task(self._shares, slot.number), self._generation)
        except OSError as error:
            return StartupFailed(f"a worker did not start: {error.strerror}")
        self._workers.add(worker)
        self._tasks.start_soon(self._attend, slot, worker)
        await worker.settled.wait()
        return worker.why_not if worker.began is None else worker

    def _take(self, slot: Slot, worker: Worker) -> None:
        """Make a worker the slot's."""
        self._failed_starts = 0
        before, slot.worker = slot.worker, worker
        if slot.keeper is not None:
            self._tell_keeper(slot, leave=slot.number)
            slot.keeper = None
        for other in self._slots:
            if other.keeper is slot:
                worker.tell(accept=other.number)
        if before is not None:
            before.tell(retire=True)
        if not self._is_announced and all(each.worker for each in self._slots):
            self._is_announced = True
            url, count = self._shares[0].url, len(self._slots)
            print(f"h3ref serves on {url} with {count} workers (Ctrl-C ends it)", file=sys.stderr, flush=True)

    # -- while they serve

    async def _attend(self, slot: Slot, worker: Worker) -> None:
        await worker.attend(self._hear)
        self._workers.discard(worker)
        if slot.worker is not worker or self._over.is_set():
            return
        slot.worker = None
        self._lend(slot)
        lived = anyio.current_time() - (worker.began or 0.0)
        if lived >= LIVED:
            slot.pause = FIRST_PAUSE
        log.warning(
            "worker %d: process %d %s; another takes its place in %g s",
            *(slot.number + 1, worker.process, worker.ending, slot.pause),
        )
        await self._pause(slot)
        await self._fill(slot)

    async def _pause(self, slot: Slot) -> None:
        pause, slot.pause = slot.pause, min(slot.pause * 2, LONGEST_PAUSE)
        with anyio.move_on_after(pause):
            await self._over.wait()

    def _lend(self, slot: Slot) -> None:
        """Have a neighbour accept the clients of a slot that has no worker, and of those that this one has kept."""
        if len({id(share) for share in self._shares}) == 1:
            return  # all accept from the same sockets
        count = len(self._slots)
        orphans = [slot, *(other for other in self._slots if other.keeper is slot)]
        for orphan in orphans:
            neighbours = (self._slots[(orphan.number + step) % count] for step in range(1, count))
            orphan.keeper = next((each for each in neighbours if each.worker is not None), None)
            self._tell_keeper(orphan, accept=orphan.number)

    def _tell_keeper(self, slot: Slot, **message: int) -> None:
        if slot.keeper is not None and slot.keeper.worker is not None:
            slot.keeper.worker.tell(**message)

    async def _heed_hangups(self, hangups: Parking) -> None:
        while True:
            await hangups.wait()
            self._generation += 1
            log.info("SIGHUP: replacing the workers, one by one")
            for slot in self._slots:
                if not await self._renew(slot):
                    break

    async def _renew(self, slot: Slot) -> bool:
        """Replace the slot's worker if it was started before the last SIGHUP; False if the new one did not start."""
        async with self._renewing:
            if slot.worker is None or slot.worker.generation == self._generation:
                return True  # one that is starting is looked at when it serves
            failure = await self._replace(slot, slot.worker)
        if failure is not None:
            log.error("SIGHUP: a new worker could not start, and the old ones go on: %s", failure)
        return failure is None

    async def _replace(self, slot: Slot, before: Worker) -> StartupFailed | None:
        """Start another worker, and then end the slot's, which has its grace."""
        worker = await self._start(slot)
        if isinstance(worker, StartupFailed) or self._over.is_set():
            return worker if isinstance(worker, StartupFailed) else None
        self._take(slot, worker)
        with anyio.move_on_after(self._grace + MARGIN) as bounded:
            await before.over.wait()
        if bounded.cancelled_caught:
            log.warning("worker %d: process %d does not end, and is killed", slot.number + 1, before.process)
            before.kill()
        return None

    # -- figures

    def _hear(self, worker: Worker, message: Message) -> None:
        match message:
            case {"ask": number}:
                self._tasks.start_soon(self._answer, worker, number)
            case {"stats": number, "figures": figures} if number in self._questions:
                answers, wanted, complete = self._questions[number]
                answers.append({"worker": worker.number, "figures": figures})
                if len(answers) == wanted:
                    complete.set()

    async def _answer(self, asker: Worker, asked: int) -> None:
        number, complete, answers = next(self._numbers), anyio.Event(), list[Message]()
        workers = [slot.worker for slot in self._slots if slot.worker is not None]
        self._questions[number] = answers, len(workers), complete
        try:
            for worker in workers:
                worker.tell(stats=number)
            with anyio.move_on_after(TOLD_WITHIN):
                await complete.wait()
        finally:
            del self._questions[number]
        answers.sort(key=lambda answer: answer["worker"])
        asker.tell(all=asked, figures=[answer["figures"] for answer in answers])
