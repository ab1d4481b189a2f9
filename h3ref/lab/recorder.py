"""`Recorder` keeps what a server traces, and `Recording` is what it kept: steps to look at, save and read again.

recorder = Recorder()
async with running(app, trace=recorder) as server:
    ...
    await recorder.until("connection_closed", exchange="/events")
recorder.of("/events").save("events.ndjson")
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import overload

import anyio
import anyio.lowlevel

from h3ref import trace
from h3ref.trace import STEPS, Record

from .sequence import draw

Predicate = Callable[[Record], bool]


class Recording(Sequence[Record]):
    """Steps as they happened, of one exchange or of several. It never changes.

    Args:
        records: in the order in which they were recorded.
    """

    __slots__ = ("_records",)

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records = tuple(records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Recording: ...
    def __getitem__(self, index: int | slice) -> Record | Recording:
        return Recording(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __eq__(self, other: object) -> bool:
        return self._records == other._records if isinstance(other, Recording) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._records)

    @property
    def exchanges(self) -> tuple[Recording, ...]:
        """A recording for each exchange, in the order of their first records.

        A `request` begins an exchange, also where its number was used before: by an earlier run of the server.
        """
        found: list[list[Record]] = []
        latest: dict[int, list[Record]] = {}
        for record in self._records:
            if record.exchange not in latest or record.step == trace.REQUEST.name:
                latest[record.exchange] = []
                found.append(latest[record.exchange])
            latest[record.exchange].append(record)
        return tuple(map(Recording, found))

    @classmethod
    def merged(cls, recordings: Iterable[Sequence[Record]]) -> Recording:
        """Return what several servers have recorded by one clock, as the processes of a machine do, in order of time.

        Exchanges are numbered anew, for each server counts from 1.
        """
        found = [exchange for records in recordings for exchange in cls(records).exchanges]
        found.sort(key=lambda exchange: exchange[0].time)
        numbered = [replace(record, exchange=number) for number, one in enumerate(found, 1) for record in one]
        return cls(sorted(numbered, key=lambda record: record.time))  # which keeps the order where times are the same

    def of(self, what: int | str) -> Recording:
        """Return the recording of one exchange.

        Args:
            what: its number; or its path, with or without method and query ("/events", "POST /events?topic=a"):
                of several such exchanges the latest.

        Raises:
            LookupError: there is none; or there are several with that number, as where a file goes on after a restart
                of the server, which counts from 1 again.
        """
        exchanges = self.exchanges
        same = [_request_of(exchange[0]) for exchange in exchanges if exchange[0].exchange == what]
        if len(same) > 1:
            raise LookupError(
                f"{len(same)} exchanges have the number {what} ({', '.join(same)}), from several runs of the "
                "server: take the path, which means the latest, or record each run into a file of its own"
            )
        for exchange in reversed(exchanges):
            if exchange[0].exchange == what if isinstance(what, int) else _asks(exchange[0], what):
                return exchange
        there = ", ".join(f"{exchange[0].exchange} ({_request_of(exchange[0])})" for exchange in exchanges)
        raise LookupError(f"no exchange {what!r} was recorded; there is {there or 'none at all'}")

    @property
    def path(self) -> str:
        """The path of the request, without its query; "" if the request was not recorded.

        Raises:
            ValueError: there are several exchanges.
        """
        self._check_single("path")
        return _request_of(self[0]).partition(" ")[2].partition("?")[0] if self else ""

    @property
    def states(self) -> tuple[str, ...]:
        """The states that the exchange has been in, in order.

        Raises:
            ValueError: there are several exchanges.
        """
        self._check_single("states")
        if not self:
            return ()
        return (self[0].before, *(record.after for record in self if record.after != record.before))

    def _check_single(self, name: str) -> None:
        if len(self.exchanges) > 1:
            raise ValueError(f"{name} is for one exchange, and this recording has {len(self.exchanges)}: take .of()")

    def to_ndjson(self) -> str:
        """Return the text that `from_ndjson` reads: a line for each record; spec/formats.md has the format."""
        return "".join(f"{record.to_json()}\n" for record in self)

    @classmethod
    def from_ndjson(cls, text: str) -> Recording:
        """Read what `to_ndjson`, or another implementation, wrote.

        Raises:
            ValueError: a line is not a record; the text has its number, and says what is wrong with it.
        """
        lines = text.split("\n")  # not splitlines: a string in JSON may contain other line ends
        if not lines[-1]:
            lines.pop()  # what stands behind the last line feed
        return cls(_read(line, number) for number, line in enumerate(lines, 1))

    def save(self, path: str | Path) -> None:
        """Write it to a file, as NDJSON.

        Raises:
            OSError: the file can't be written.
        """
        Path(path).write_text(self.to_ndjson(), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a file of NDJSON.

        Raises:
            OSError: the file can't be read.
            ValueError: a line of it is not a record, or it is not UTF-8; the text has the file's name.
        """
        try:
            return cls.from_ndjson(Path(path).read_bytes().decode("utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __str__(self) -> str:
        """The sequence diagram of each exchange, in text."""
        exchanges = self.exchanges
        if len(exchanges) < 2:
            return draw(self)
        return "\n\n".join(draw(exchange, title=_request_of(exchange[0])) for exchange in exchanges)

    def __repr__(self) -> str:
        named = ", ".join(_request_of(exchange[0]) for exchange in self.exchanges)
        return f"<Recording of {named or 'nothing'}: {len(self)} records>"


class Recorder:
    """A trace listener, to be passed as `trace` to one server. Records may come from any thread.

    Args:
        keep: how many exchanges are kept, the latest ones; None for all.
        paths: the paths whose exchanges are kept; None for all.

    Raises:
        ValueError: keep is less than 1.
    """

    def __init__(self, *, keep: int | None = None, paths: Collection[str] | None = None) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep is the number of exchanges to keep, at least 1, or None for all; not {keep}")
        self._keep = keep
        self._paths = paths
        self._lock = threading.RLock()  # a predicate may look at the recording
        self._records: dict[int, list[tuple[int, Record]]] = {}  # by exchange, each with its place in the whole
        self._dropped = 0  # the last exchange that was not kept: they are numbered as they begin
        self._places = count()
        self._waiting: deque[_Waiting] = deque()

    def __call__(self, record: Record) -> None:
        """Keep a record."""
        with self._lock:
            records = self._records.get(record.exchange)
            if records is None:
                if not self._wants(record):
                    return
                records = self._begin(record.exchange)
            records.append((next(self._places), record))
            for waiting in [waiting for waiting in self._waiting if waiting.ends_with(record)]:
                self._waiting.remove(waiting)
                waiting.wake()

    def _wants(self, record: Record) -> bool:
        if record.exchange <= self._dropped:
            return False
        return self._paths is None or _request_of(record).partition(" ")[2].partition("?")[0] in self._paths

    def _begin(self, exchange: int) -> list[tuple[int, Record]]:
        if self._keep is not None and len(self._records) >= self._keep:
            self._dropped = next(iter(self._records))
            del self._records[self._dropped]
        return self._records.setdefault(exchange, [])

    @property
    def recording(self) -> Recording:
        """Everything that was kept so far."""
        with self._lock:
            kept = [pair for records in self._records.values() for pair in records]
        return Recording(record for _, record in sorted(kept, key=lambda pair: pair[0]))

    def of(self, what: int | str) -> Recording:
        """Return what was recorded of one exchange so far. Arguments and errors are those of `Recording.of`."""
        return self.recording.of(what)

    async def until(self, what: str | Predicate, *, exchange: int | str | None = None) -> Record:
        """Wait until a step has been recorded, and return the first such record; at once, if there is one already.

        It waits as long as it takes: put `anyio.fail_after` around it where the step may never come.

        Args:
            what: the name of a step, such as "connection_closed"; or a function that returns true for the record.
            exchange: whose step it must be, as in `of`: of several exchanges that of the latest. None for any.

        Raises:
            ValueError: no step has that name.
            Exception: what the function raised.
        """
        if isinstance(what, str) and what not in STEPS:
            raise ValueError(f"no step {what!r}: it is one of {', '.join(STEPS)}")
        waiting = _Waiting(lambda record: self._is_of(record, exchange) and _is_step(record, what))
        with self._lock:
            if not any(map(waiting.ends_with, self.recording)):
                self._waiting.append(waiting)
        try:
            await waiting.wait()
        finally:
            with self._lock, suppress(ValueError):
                self._waiting.remove(waiting)
        return waiting.found()

    def _is_of(self, record: Record, exchange: int | str | None) -> bool:
        if exchange is None or isinstance(exchange, int):
            return exchange in (None, record.exchange)
        asking = (number for number, records in self._records.items() if _asks(records[0][1], exchange))
        return record.exchange == max(asking, default=None)


class _Waiting:
    """One task that waits for a record, which may come from any thread."""

    def __init__(self, wanted: Predicate) -> None:
        self._wanted = wanted
        self._event = anyio.Event()
        self._wake = _call_soon()
        self._record: Record | None = None
        self._error: Exception | None = None

    def ends_with(self, record: Record) -> bool:
        try:
            if self._wanted(record):
                self._record = record
        except Exception as error:  # it belongs to the one who waits, not to the exchange
            self._error = error
        return self._record is not None or self._error is not None

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop has ended meanwhile
            self._wake(self._event.set)

    async def wait(self) -> None:
        if self._record is None and self._error is None:
            await self._event.wait()
        else:
            await anyio.lowlevel.checkpoint()

    def found(self) -> Record:
        if self._error is not None:
            raise self._error
        assert self._record is not None, "it is woken by a record"
        return self._record


def _call_soon() -> Callable[[Callable[[], None]], object]:
    """Return what calls a function on this loop from any thread, without waiting, so that a thread may hold a lock."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon


def _is_step(record: Record, what: str | Predicate) -> bool:
    return record.step == what if isinstance(what, str) else what(record)


def _request_of(record: Record) -> str:
    """The request line's method and target, from the first record of an exchange."""
    return record.detail or "" if record.step == trace.REQUEST.name else ""


def _asks(record: Record, what: str) -> bool:
    """Whether an exchange's first record is a request for a path, with or without method and query."""
    method, _, target = _request_of(record).partition(" ")
    wanted_method, space, wanted = what.rpartition(" ")
    if space and method != wanted_method:
        return False
    return wanted == (target if "?" in wanted else target.partition("?")[0]) and bool(target)


def _read(line: str, number: int) -> Record:
    if not line.strip():
        raise ValueError(f"line {number}: it is empty; each line is a record")
    try:
        return Record.from_json(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
