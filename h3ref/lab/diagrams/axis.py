"""Time as a position on a sheet: ticks at round numbers, and rows that keep their distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class Placed(Protocol):
    """What happened at a time in seconds, and the pixels that it takes above and below its place."""

    time: float
    up: float
    down: float
    y: float


@dataclass(frozen=True)
class Scale:
    """Seconds from 0 to `span`, over `depth` pixels from `top` down (or from the left)."""

    top: float
    depth: float
    span: float

    def y(self, seconds: float) -> float:
        """Where a time is."""
        return self.top + self.depth * seconds / self.span

    def ticks(self, apart: float = 44.0) -> Iterator[tuple[float, str]]:
        """Yield round times, at least that many pixels apart, with their words."""
        step = round_step(self.span * apart / self.depth)
        count = int(self.span / step + 1e-9)
        for number, text in enumerate(times_of([step * number for number in range(count + 1)], of=self.span)):
            yield step * number, text


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not less.

    >>> round_step(0.03)
    0.05
    """
    power = 10.0**-9
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least * (1 - 1e-9):
                return float(f"{digit * power:.0e}")
        power *= 10


def times_of(seconds: Sequence[float], *, of: float | None = None) -> list[str]:
    """The times as words, all in the same unit and with as many digits as their distances need."""
    longest = max(seconds, default=0.0) if of is None else of
    factor, unit = (1000.0, "ms") if longest < (10 if of is None else 1) else (1.0, "s")
    digits = 0 if all(abs(time * factor - round(time * factor)) < 1e-6 for time in seconds) else 1
    if digits and of is not None:
        while digits < 6 and any(abs(time * factor - round(time * factor, digits)) > 1e-9 for time in seconds):
            digits += 1
    return [f"{time * factor:.{digits}f} {unit}" for time in seconds]


def spread(blocks: Sequence[Placed], top: float, depth: float, scale: Scale | None, start: float) -> None:
    """Give each block its place: one below the other, or as near to its time as its neighbours let it.

    Where there is a scale, the sum of the squares of the distances from the true places is the least that is possible
    without an overlap (isotonic regression by pooling adjacent violators).
    """
    offsets, at = [], 0.0  # the place of each, were there no gaps at all
    for block in blocks:
        offsets.append(at + block.up)
        at += block.up + block.down
    if scale is None:
        for block, offset in zip(blocks, offsets, strict=True):
            block.y = top + offset
        return
    spare = max(0.0, depth - at)
    pools: list[tuple[float, int]] = []  # mean of the gaps wanted above, and how many blocks share it
    for block, offset in zip(blocks, offsets, strict=True):
        mean, count = scale.y(block.time - start) - top - offset, 1
        while pools and pools[-1][0] > mean:
            before, more = pools.pop()
            mean, count = (mean * count + before * more) / (count + more), count + more
        pools.append((mean, count))
    gaps = [min(max(mean, 0.0), spare) for mean, count in pools for _ in range(count)]
    for block, offset, gap in zip(blocks, offsets, gaps, strict=True):
        block.y = top + offset + gap
