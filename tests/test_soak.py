"""The soak finds what is lost, doubled, left open or grown; and the servers stand it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio
import pytest

from h3ref import MessageEvent
from tests.soak import server as soak_server
from tests.soak.faults import FAULTS, Client
from tests.soak.readers import Reader, Tally
from tests.soak.run import GROWTH, Figures
from tests.soak.server import SoakFailure, server_process

SECONDS = "15" if os.environ.get("H3REF_CI") else "1"
"""For each event loop; every fault is made at least once, however short."""


def message(id: str, data: str) -> MessageEvent:
    return MessageEvent("message", data, id)


@pytest.mark.parametrize(
    ("numbers", "lost", "doubled"),
    [
        (["0", "1", "2"], 0, 0),
        (["5", "6"], 0, 0),
        (["0", "1", "4"], 2, 0),
        (["0", "1", "1", "2"], 0, 1),
        (["a-7", "a-8", "b-0", "b-1"], 0, 0),
        (["a-7", "a-8", "b-0", "b-2"], 1, 0),
    ],
)
def test_a_reader_counts_what_is_lost_and_doubled(numbers: list[str], lost: int, doubled: int) -> None:
    tally = Tally()
    reader = Reader(1, "/count", tally)
    for id in numbers:
        reader.take(message(id, id.rpartition("-")[2]))
    assert (tally.events, tally.lost, tally.doubled) == (len(numbers), lost, doubled)


def test_losses_and_growth_fail_a_soak() -> None:
    flat = [30 * 2**20] * (len(FAULTS) + 5)
    Figures("asyncio", tally=Tally(events=9), memory=flat).check()
    with pytest.raises(SoakFailure, match="lost 1 events"):
        Figures("asyncio", tally=Tally(events=9, lost=1), memory=flat).check()
    with pytest.raises(SoakFailure, match="got 1 twice"):
        Figures("asyncio", tally=Tally(events=9, doubled=1), memory=flat).check()
    with pytest.raises(SoakFailure, match="grew by"):
        Figures("asyncio", tally=Tally(events=9), memory=[*flat, *flat, *([flat[0] + GROWTH + 1] * len(flat))]).check()


def test_what_a_server_takes_in_the_first_half_is_no_growth() -> None:
    rounds = len(FAULTS)
    filling = [20 * 2**20 + 100 * 2**20 * number // rounds for number in range(rounds)]
    full = Figures("asyncio", memory=filling + [120 * 2**20] * rounds)
    assert full.growth == 0
    assert "120.0 MiB at the end" in full.report()
    leak = Figures("asyncio", memory=[number * 2**20 for number in range(4 * rounds)])
    assert leak.growth > rounds * 2**20


def test_a_short_soak_is_measured_from_its_first_round_on() -> None:
    first_round = [30 * 2**20] * (len(FAULTS) - 1) + [45 * 2**20]  # a crowd came last
    assert Figures("asyncio", memory=[*first_round, 45 * 2**20]).growth == 0
    assert Figures("asyncio", memory=first_round).growth == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_stream_that_is_left_open_is_found(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_process("asyncio") as server:
        with Client(server, "/count") as client:
            await client.connect()
            await client.read_event()
            await server.settled(1)
            monkeypatch.setattr(soak_server, "PATIENCE", 0.3)
            with pytest.raises(SoakFailure, match="with 0 streams open the server still has"):
                await server.settled(0)
        monkeypatch.undo()
        await server.settled(0)
        await server.end()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_server_that_ends_badly_is_found(anyio_backend: str) -> None:
    async with server_process("asyncio") as server:
        server.send_signal(signal.SIGKILL)
        with pytest.raises(SoakFailure, match="status -9"):
            await server.end()
        with anyio.fail_after(10), pytest.raises(SoakFailure, match="not answered"):
            await server.get("/hello")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_servers_stand_it(backend: str) -> None:
    command = [sys.executable, "-m", "tests.soak", "--seconds", SECONDS, "--backend", backend]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "lost, doubled    0, 0" in ended.stdout
    assert all(name in ended.stdout for name in FAULTS)
