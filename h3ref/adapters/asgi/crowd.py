"""`Crowd`: one service's streams by the server that each comes from, so that a look at a few tells about all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from itertools import islice
from typing import TYPE_CHECKING

from ...lifecycle import State

if TYPE_CHECKING:
    from ..._core.exchange import Exchange


class Crowd:
    """Streams, some of which are looked at in each round.

    Args:
        server_of: returns what all requests of one server have in common; None where that can't be seen.
    """

    def __init__(self, server_of: Callable[[Exchange], object | None]) -> None:
        self._server_of = server_of
        self._groups: dict[int, dict[Exchange, None]] = {}  # by the server's id, which its requests keep alive
        self._group_of: dict[Exchange, int] = {}
        self._round: Iterator[Exchange] = iter(())

    def take(self, live: Set[Exchange], most: int) -> set[Exchange]:
        """Return those to look at now: all that are new, one of each server, and some more, each when it is its turn.

        Args:
            live: all that there are.
            most: how many more.
        """
        if not live:
            self.clear()  # no new one may come for long, and those of the last round would be kept
            return set()
        for exchange in self._group_of.keys() - live:
            number = self._group_of.pop(exchange)
            del self._groups[number][exchange]
            if not self._groups[number]:
                del self._groups[number]
        new = {exchange for exchange in live - self._group_of.keys() if exchange.state is not State.REQUESTED}
        for exchange in new:
            number = id(self._server_of(exchange))
            self._groups.setdefault(number, {})[exchange] = None
            self._group_of[exchange] = number
        taken = new | {next(iter(group)) for group in self._groups.values()}
        more = list(islice(self._round, most))
        if len(more) < most:  # all have had their turn: on from the first one
            self._round = iter(tuple(self._group_of))
            more += islice(self._round, most - len(more))
        return (taken | set(more)) & live

    @property
    def shows_a_server(self) -> bool:
        """Whether the server of any of them can be seen."""
        return any(number != _UNSEEN for number in self._groups)

    def clear(self) -> None:
        """Forget all of them."""
        self._groups.clear()
        self._group_of.clear()
        self._round = iter(())


_UNSEEN = id(None)
