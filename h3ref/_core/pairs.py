"""`Pairs`: a request's headers as they came, taken apart only when asked for, which few streams need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Pairs(Sequence[tuple[bytes, bytes]]):
    """Headers in their order, names in lower case; a subclass knows how they came."""

    __slots__ = ()

    def take_apart(self) -> list[tuple[bytes, bytes]]:
        """The headers, each as its name and its value."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.take_apart())

    def __len__(self) -> int:
        return len(self.take_apart())

    def __getitem__(self, index: Any) -> Any:
        return self.take_apart()[index]
