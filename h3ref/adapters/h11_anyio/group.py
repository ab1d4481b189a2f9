"""`StreamGroup`: a server's streams that get the same bytes, which are joined and framed once for many of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .flusher import SENDS_A_TURN, Flusher
from .wire import chunk


class Member(Protocol):
    """What a group asks of a stream."""

    @property
    def group(self) -> Shard | None:
        """The part of a group that it is in."""

    @property
    def is_chunked(self) -> bool:
        """Whether its body is framed as chunks."""

    def joined(self, group: Shard, read_up_to: int) -> None:
        """Note that it is a member now, without a part in the given number of pending pieces."""

    def discarded(self, group: Shard) -> None:
        """Note that it is no longer a member; what it had pending still leaves."""

    def take_shared(self, pieces: list[bytes], framed: bytes) -> bool:
        """Send what is pending; return whether all of it could be sent at once."""


class Shard:
    """The part of a group that is sent to in one go, so that a round over a large group can give way in between.

    A member reads on from its place in `pending`: from 0, unless it was written to alone meanwhile.
    """

    __slots__ = ("_group", "_rest", "members", "pending", "size")

    def __init__(self, group: StreamGroup) -> None:
        self._group = group
        self.size = 0  # of what is pending
        self.members: dict[Member, None] = {}
        self.pending: list[bytes] = []
        self._rest = (0, b"")  # all that was pending when there were so many pieces

    def since(self, number: int) -> bytes:
        """What is pending from a piece on; many ask for all of it at once, when a channel closes."""
        if number:
            return b"".join(self.pending[number:])
        if self._rest[0] != len(self.pending):
            self._rest = (len(self.pending), b"".join(self.pending))
        return self._rest[1]

    def write_chunk(self, data: bytes) -> None:
        self.pending.append(data)
        self.size += len(data)
        if self.size >= self._group.mark:
            self.flush_now()
        elif len(self.pending) == 1:
            self._group.put(self)

    def flush_now(self) -> int:
        """Send what is pending to each member."""
        if not self.pending:
            return 0
        pieces, self.pending, self.size = self.pending, [], 0
        self._rest = (0, b"")
        data = b"".join(pieces)
        framed = chunk(data)
        members = tuple(self.members)
        for member in members:
            if not member.take_shared(pieces, framed if member.is_chunked else data):
                self.discard(member)
                self._group.slow(member)
        return len(members)

    def add(self, connection: Member) -> None:
        self.members[connection] = None
        connection.joined(self, len(self.pending))

    def discard(self, connection: Member) -> None:
        if connection in self.members:
            del self.members[connection]
            connection.discarded(self)
            if not self.members:
                self._group.discard_shard(self)


class StreamGroup:
    """Streams that get the same bytes.

    Args:
        flusher: the server's.
        mark: bytes that may be pending before they are sent at once.
        slow: called with a member that could not take everything pending, once it has been discarded.
    """

    def __init__(self, flusher: Flusher, mark: int, slow: Callable[[Any], None]) -> None:
        self._flusher = flusher
        self.mark = mark
        self.slow = slow
        self._shards: list[Shard] = []

    def add(self, connection: Member) -> bool:
        if connection.group is not None:
            return False
        for shard in reversed(self._shards):
            if len(shard.members) < SENDS_A_TURN:
                break
        else:
            shard = Shard(self)
            self._shards = [*self._shards, shard]
        shard.add(connection)
        return True

    def discard(self, connection: Member) -> None:
        if connection.group is not None and connection.group in self._shards:
            connection.group.discard(connection)

    def write_chunk(self, data: bytes) -> None:
        for shard in self._shards:
            shard.write_chunk(data)

    def put(self, shard: Shard) -> None:
        """Have a shard sent to: at once after quiet if it is the only one, otherwise in a round that gives way."""
        if len(self._shards) == 1:
            self._flusher.put(shard)
        else:
            self._flusher.put_later(shard)

    def discard_shard(self, shard: Shard) -> None:
        """Forget a shard that has no members any more."""
        self._shards = [other for other in self._shards if other is not shard]
        self._flusher.discard(shard)
