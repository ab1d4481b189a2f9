"""Short live measurements: that they measure what they say. How long it took is no matter here."""

from __future__ import annotations

import math
import time

import pytest

from h3ref.lab.latency import FLOWS, Delivery, measure_delivery, measure_first_events, percentile

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.mark.anyio
@on_asyncio
async def test_every_flow_but_the_broken_one_brings_a_first_event() -> None:
    waits = await measure_first_events(3, deadline=1.0)

    assert list(waits) == list(FLOWS)
    assert waits["broken"] == [], "the broken flow brought an event"
    for flow in ("callback", "awaited", "blocking"):
        assert len(waits[flow]) == 3, f"{flow}: a request had no event"
        assert all(0 < seconds < 1.0 for seconds in waits[flow])


@pytest.mark.anyio
@on_asyncio
async def test_a_flow_without_an_event_is_asked_once_and_no_longer_than_the_deadline() -> None:
    begin = time.perf_counter()
    waits = await measure_first_events(50, deadline=0.05)

    assert waits["broken"] == []
    assert time.perf_counter() - begin >= 0.05, "it did not wait for the deadline"


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize(("streams", "events"), [(1, 5), (3, 4)])
async def test_each_event_is_measured_at_each_stream(streams: int, events: int) -> None:
    begin = time.perf_counter()
    delivery = await measure_delivery(streams, events=events, gap=0.001)
    took = time.perf_counter() - begin

    assert delivery.streams == streams
    assert len(delivery.seconds) == streams * events
    assert all(0 < seconds < took for seconds in delivery.seconds), "a time that can't be"
    assert delivery.cpu * streams * events > 0


@pytest.mark.anyio
@on_asyncio
async def test_an_event_that_is_held_back_counts_as_late() -> None:
    """With a long flush gap, what follows the first event waits: that is in the numbers, not hidden by them."""
    delivery = await measure_delivery(2, events=4, gap=0.0, flush_gap=0.2)

    assert max(delivery.seconds) > 0.1


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 75, 3.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 99.5, 100.0),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_percentiles_are_values_that_were_measured(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("values", "percent", "why"),
    [([], 50, "no values"), ([1.0], 0, "above 0"), ([1.0], 101, "at most 100"), ([1.0], math.nan, "above 0")],
)
def test_what_is_no_percentile_is_refused(values: list[float], percent: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        percentile(values, percent)


def test_a_delivery_is_plain_data() -> None:
    assert tuple(Delivery(2, [0.1, 0.2], 0.01)) == (2, [0.1, 0.2], 0.01)
