"""`Channel`: one sender, many streams."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from .._core.stream import Stream
from ..connection import HIGH_WATER, Group
from ..engine.port import Engine
from ..errors import ChannelClosed
from ..lifecycle import Reason
from ..sse import SSEEvent
from ..writer import SSEWriter, stream_of
from .alone import Alone
from .log import Log
from .newcomer import Newcomer
from .options import Newcomers, Options, Policy
from .reader import Event, Reader
from .stats import ChannelStats
from .subscription import Each, Subscription


class Channel:
    """A named fan-out of events to many streams: each event is encoded, kept and framed once for all of them.

    A slow subscriber reads on at its own pace, and holds up nobody else, unless the policy says so.

    A channel belongs to the event loop of its streams: publish there. From a plain `def` handler or callback, and from
    any thread of `anyio.to_thread`, call `anyio.from_thread.run(channel.publish, event)`; a thread that anyio did not
    start also passes the loop's `token`.

    With an `engine`, channels of the same name in several processes are one channel: what one process publishes, all of
    them send, in one order, and each event has an id with which a client can resume at another process. While the
    engine can't be reached, streams stay open, and the events that they miss follow later; `publish` raises. If events
    are lost for good, `gap` tells the client.

    Args:
        history: how many past events are kept for clients that reconnect; they resume after the event whose `id` is
            their Last-Event-ID, so give the events ids. Use each id once: a client resumes after its last use, and
            misses what lies between.
        name: its name in logs and `repr`; with an engine, the name by which processes share it.
        newcomers: what a subscriber without a last event ID gets first: "live", nothing, or "history", everything that
            is kept.
        policy: what happens when `limit` bytes wait for a slow subscriber. "disconnect": its stream is cut, with the
            reason slow_consumer; its client reconnects, and resumes from the history. "drop": it misses the oldest of
            them. "wait": `publish` waits for it, so nobody loses an event; but then a client that does not read holds
            up every publisher and all other readers, until `Limits.send_timeout` cuts it. Left out, it is "disconnect"
            with a history, and "drop" without one.
        limit: bytes that may wait for one subscriber; left out, 64 KiB for "wait" and 1 MiB for the others.
        gap: the type of an event that tells a client that the history does not reach back to its last event ID, which
            is the event's data; it comes before everything from the history. Left out, none is sent; `stats().gaps`
            counts them in any case. With an engine it also comes where events are missing for everybody, with the id of
            the last one before them as its data.
        engine: connects it with the channels of other processes, such as `h3ref.redis.RedisEngine`; you enter it
            yourself.

    Raises:
        ValueError: a negative `history`, an unknown `newcomers` or `policy`, a `limit` below 1, or a `gap` that can't
            be an event type; with an engine, no `name`, or the policy "wait", with which one slow reader would stop its
            process.
    """

    def __init__(
        self,
        history: int = 0,
        *,
        name: str | None = None,
        newcomers: Newcomers = "live",
        policy: Policy | None = None,
        limit: int | None = None,
        gap: str | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._options = Options(history, name, newcomers, policy, limit, gap, engine)
        self.name = self._options.name
        self._history = history
        self._reader = None if engine is None else Reader(self, engine, history)
        self._alone = Alone(self.name)
        self._log = Log()
        self._keep = 64  # events that the log may hold before it is looked at which of them are needed
        self._subscriptions: dict[Subscription, None] = {}  # in the order of their coming
        self._thread = 0  # where these run: nothing here is safe for two threads
        self._behind: dict[Subscription, None] = {}  # those that read the log
        self._groups: dict[object, Group] = {}  # of those that are live; None is the key of `Each`
        self._shared: dict[object, Subscription] = {}  # by connection, those that are in a group of their adapter's
        self._look_at: float = math.inf  # the log's size when somebody may have reached the limit
        self._moved: anyio.Event | None = None  # set when somebody has caught up a bit; made by a publish that waits
        self._unyielded = 0  # bytes published since the publisher last gave way to other tasks
        self._delivered = self._dropped = self._disconnected = self._gaps = 0  # of those who have left
        self._published, self._open = 0, True

    def __len__(self) -> int:
        """The number of subscribers."""
        return len(self._subscriptions)

    def __bool__(self) -> bool:
        return True  # a channel that nobody listens to is a channel all the same

    @property
    def closed(self) -> bool:
        """Whether it is closed for good. A handler can check this, and answer plainly instead of starting a stream."""
        return not self._open

    is_over = closed
    """What a flow looks at before the headers leave; see `H3Event.set_stream_callback`."""

    def stats(self) -> ChannelStats:
        """Return the channel's figures as they are now."""
        subscriptions = self._subscriptions
        return ChannelStats(
            subscribers=len(subscriptions),
            published=self._published,
            delivered=self._delivered + sum(subscription.taken for subscription in subscriptions),
            dropped=self._dropped + sum(subscription.dropped for subscription in subscriptions),
            disconnected=self._disconnected,
            gaps=self._gaps,
            largest_lag=max((subscription.lag for subscription in subscriptions), default=0),
            **({} if self._reader is None else self._reader.figures()),
        )

    # -- publishing

    async def publish(self, event: SSEEvent | str) -> None:
        """Send an event to every subscriber, and deal with slow ones as the policy says.

        If it is cancelled while it waits, it has published nothing. From a thread, call
        `anyio.from_thread.run(channel.publish, event)`.

        With an engine it returns once the engine has the event, which gets an id if it has none. If it is cancelled
        then, you can't know whether the event is published.

        Raises:
            ChannelClosed: it is closed.
            TypeError, ValueError: what `SSEEvent` refuses; with an engine, an id that looks like one of its own.
            RuntimeError: its subscribers, or its engine, belong to the event loop of another thread; or its engine has
                not been entered.
            EngineUnavailable: the engine could not be reached; the event is not published.
            EngineUncertain: the engine did not answer; the event may be published, or not.
            EngineRefused: the engine won't take it.
        """
        self._check_open()
        if self._subscriptions:
            self._check_thread("publish, event")
        event = event if isinstance(event, SSEEvent) else SSEEvent(event)
        if self._reader is not None:
            await self._reader.publish(event)
            return
        data = event.encode()
        self._unyielded += len(data)
        if self._unyielded >= HIGH_WATER:
            await anyio.lowlevel.checkpoint_if_cancelled()
        if self._log.size >= self._look_at:
            await self._make_room()
            self._check_open()  # again: it may have been closed meanwhile
        # No await from here on: all subscribers, and the history, see the events in the same order.
        self._published += 1
        self._log_event(event.id, data)
        for group in tuple(self._groups.values()):
            group.write_chunk(data)
        if self._unyielded >= HIGH_WATER:  # now, so that events are in the order of the calls
            self._unyielded = 0
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def _log_event(self, id: str | None, data: bytes) -> None:
        if self._history or self._behind:
            self._log.append(id, data)
            if len(self._log) > self._keep:
                self._forget()
        else:
            self._log.skip(id, data)

    def _check_open(self) -> None:
        if not self._open:
            raise ChannelClosed(f"{self!r}: nothing can be published or streamed any more; check channel.closed first")

    def _check_thread(self, call: str) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{self!r} belongs to the event loop of another thread, where its subscribers are: "
                f"call anyio.from_thread.run(channel.{call})"
            )

    async def _make_room(self) -> None:
        """Deal with subscribers that have reached the limit as the policy says."""
        while self._options.policy == "wait" and self._open and self._full():
            if self._moved is None:
                self._moved = anyio.Event()
            await self._moved.wait()
        self._relieve()

    def _full(self) -> list[Subscription]:
        return [late for late in self._behind if late.lag >= self._options.limit]

    def _relieve(self) -> None:
        """Drop what is too much for a subscriber, or disconnect it."""
        for late in self._full():
            if self._options.policy == "drop":
                late.drop(self._options.limit)
            elif self._options.policy == "disconnect":
                self._disconnect(late)
        nearest = max((late.lag for late in self._behind), default=-math.inf)
        self._look_at = self._log.size + self._options.limit - nearest

    def _disconnect(self, late: Subscription) -> None:
        self._disconnected += 1
        late.stream.stop(Reason.SLOW_CONSUMER)

    def _forget(self) -> None:
        """Forget all but the history, and what somebody has still to read."""
        needed = min((late.cursor for late in self._behind), default=self._log.end)
        self._log.forget_before(min(needed, self._log.end - self._history))
        self._keep = len(self._log) + len(self._log) // 8 + 64  # a part at a time: to forget is work, too

    # -- subscribing

    async def stream(self, writer: SSEWriter, *, last_event_id: str | None = None) -> None:
        """The stream callback: subscribe, replay what the client missed, and stay until either side closes.

        A client that reconnects gets what followed its `Last-Event-ID`, each event once, as far back as the history
        reaches; if the history does not hold that id, it gets the whole history, after the event that `gap` names. Set
        as a stream callback on a closed channel, it makes the answer a 204, after which a browser does not come back.

        Args:
            writer: the stream's writer.
            last_event_id: resume after this id instead of the header's; "" for a newcomer.

        Raises:
            ChannelClosed: it is closed, and the headers have left. Let it out, and the stream is cut.
            RuntimeError: its subscribers belong to the event loop of another thread.
        """
        if self._subscriptions:
            self._check_thread("stream, writer")
        stream = stream_of(writer)
        await stream.until_headed()
        if stream.is_active:
            self._check_open()
        if self._subscriptions:  # again: another event loop's may have come meanwhile
            self._check_thread("stream, writer")
        self._thread = threading.get_ident()
        if last_event_id is None:
            last_event_id = writer.event.last_event_id
        subscription = await self._admit(stream, last_event_id)
        try:
            while stream.is_active:
                await self._catch_up(subscription)
                if not stream.is_active:
                    return
                # No await since it has read all: what is published next reaches this subscriber live.
                if not subscription.is_live:
                    self._go_live(subscription)
                await subscription.parking.wait()  # until it falls behind, or the stream ends
                if stream.is_active:  # else what is pending leaves together with the stream's end
                    await subscription.connection.flush()
                self.tell_moved()
        finally:
            stream.discard_feed(subscription)

    def stream_from(self, last_event_id: str) -> Callable[[SSEWriter], Coroutine[Any, Any, None]]:
        """Return a stream callback that is `stream`, but resumes after this id instead of the header's.

        It is for clients that can set no header, such as a page that loads for the first time and sends the id in its
        query. When a browser reconnects, its header is newer, so prefer that: `channel.stream_from(event.last_event_id
        or event.query.get("lastEventID", ""))`.

        Args:
            last_event_id: the id of the last event that the client has; "" for a newcomer.

        Raises:
            TypeError, ValueError: it is not a str, or can't be sent.
        """
        if not isinstance(last_event_id, str):
            raise TypeError(f'a last event ID is a str, "" for a newcomer, not {last_event_id!r}')
        SSEEvent(last_event_id)  # as the event that tells of a gap has it
        return partial(self.stream, last_event_id=last_event_id)

    async def _admit(self, stream: Stream, last_event_id: str) -> Subscription:
        """Make a stream a subscriber; with an engine, as soon as what it has missed is known."""
        if self._reader is not None:
            return await self._reader.admit(Newcomer(stream, last_event_id))
        self._alone.look(stream)
        return self.place(stream, last_event_id)

    def _subscription_of(self, stream: Stream, last_event_id: str, missed: bool) -> Subscription:
        """A newcomer's subscription at its first event; if it missed events that are lost, it is told so first."""
        oldest = max(self._log.start, self._log.end - self._history)
        if not last_event_id:
            if self._options.newcomers == "history":
                return Subscription(self, stream, self._log, oldest)
            if not missed:
                return Subscription(self, stream, self._log, self._log.end)
            oldest = self._log.end
        next = self._log.number_after(last_event_id)
        if next is not None and next >= oldest and last_event_id:
            return Subscription(self, stream, self._log, next)
        self._gaps += 1
        preface = self._options.made_gap(last_event_id) or b""
        return Subscription(self, stream, self._log, oldest, preface)

    async def _catch_up(self, late: Subscription) -> None:
        """Pass on all that was published, at the reader's pace, and leave its place to what the stream itself sends."""
        if late.is_even:
            return
        self._fell_behind(late)
        try:
            while late.stream.is_active and not late.is_even:
                if not late.bring_before_turns():
                    await late.connection.flush()
                elif not late.is_even:
                    await late.parking.wait()
                await anyio.lowlevel.checkpoint()
        finally:
            self._behind.pop(late, None)
            self.tell_moved()

    def _go_live(self, subscription: Subscription) -> None:
        self._behind.pop(subscription, None)
        subscription.go_live()
        # A traced stream is written to by itself, so that each event is recorded.
        sharing = None if subscription.stream.is_traced else subscription.connection.sharing
        if sharing is not None:
            if sharing not in self._groups:
                self._groups[sharing] = sharing.create_group(self._options.mark, self._slow)
            if self._groups[sharing].add(subscription.connection):
                self._shared[subscription.connection] = subscription
                return
        if None not in self._groups:
            self._groups[None] = Each(self._options.mark, self._fell_behind)
        self._groups[None].add(subscription)

    def _slow(self, connection: object) -> None:
        self._fell_behind(self._shared.pop(connection))

    def _fell_behind(self, late: Subscription) -> None:
        if late.is_live:
            late.fall_behind()
        self._behind[late] = None
        self._look_at = min(self._look_at, self._log.size + self._options.limit - late.lag)

    # -- what its reader asks of it

    def bring(self, events: Sequence[Event]) -> None:
        """Keep events, and pass them on to all subscribers as one piece."""
        if self._log.size >= self._look_at:
            self._relieve()
        self._published += len(events)
        self._pass_on(events)

    def bring_gap(self, id: str | None) -> None:
        """Tell all subscribers that events are missing here."""
        self._gaps += 1
        data = self._options.made_gap(self._log.last_id or "", id)
        if data is not None:
            self._pass_on([(id, data)])

    def _pass_on(self, events: Sequence[Event]) -> None:
        for id, data in events:
            self._log_event(id, data)
        pieces = [data for _, data in events]
        joined = b"".join(pieces)
        for group in tuple(self._groups.values()):
            if isinstance(group, Each):
                group.write_events(joined, pieces)
            else:
                group.write_chunk(joined)

    def place(self, stream: Stream, last_event_id: str, missed: bool = False) -> Subscription:
        """Make a stream a subscriber, by what the log has now; a live one may have missed events since it came."""
        subscription = self._subscription_of(stream, last_event_id, missed)
        self._subscriptions[subscription] = None
        stream.add_feed(subscription)
        self._behind[subscription] = None  # so that what comes before its task goes on is kept
        return subscription

    def has(self, last_event_id: str) -> bool:
        """Whether the history reaches back to an event."""
        next = self._log.number_after(last_event_id)
        return next is not None and next >= self._log.end - self._history

    # -- what a subscription asks of it

    def mark_for(self, stream: Stream) -> int:
        """Bytes that a stream's connection is given at a time."""
        return min(self._options.mark, stream.high_water)

    def hold(self, subscription: Subscription) -> None:
        """Let a live subscriber read the log from here on."""
        self._discard_from_group(subscription)
        self._fell_behind(subscription)

    def discard(self, subscription: Subscription) -> None:
        """Remove a subscriber whose stream has ended or was told to end: it gets nothing more, and counts no more."""
        self._discard_from_group(subscription)
        del self._subscriptions[subscription]
        self._behind.pop(subscription, None)
        self._delivered += subscription.taken
        self._dropped += subscription.dropped
        if not self._subscriptions:
            self._groups.clear()
            if self._reader is not None:
                self._reader.rest()
        self.tell_moved()

    def tell_moved(self) -> None:
        """Have a waiting publish look again: a subscriber has caught up a bit, or one has left."""
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    def _discard_from_group(self, subscription: Subscription) -> None:
        connection = subscription.connection
        if self._shared.get(connection) is subscription:
            del self._shared[connection]
            self._groups[connection.sharing].discard(connection)
        elif None in self._groups:
            self._groups[None].discard(subscription)

    async def close(self) -> None:
        """End every subscriber's stream properly; a second call does nothing. From a thread, call it like `publish`.

        Raises:
            RuntimeError: its subscribers belong to the event loop of another thread.
        """
        if self._subscriptions:
            self._check_thread("close")
        self._open = False
        self.tell_moved()
        streams = [subscription.stream for subscription in self._subscriptions]
        streams += [] if self._reader is None else self._reader.streams
        for stream in streams:
            stream.close(Reason.COMPLETE)  # asks the subscription for its rest, and wakes it
        try:
            for _ in range(2):  # in which most of them end by themselves: trio runs those that are ready in any order
                await anyio.lowlevel.checkpoint()
        finally:
            left = [stream for stream in streams if not stream.is_ended]
            for stream in left:
                stream.cancel()
        async with anyio.create_task_group() as ends:
            for stream in left:
                ends.start_soon(stream.end)

    def __repr__(self) -> str:
        return f"<Channel {self.name}, {f'{len(self)} subscribers' if self._open else 'closed'}>"
