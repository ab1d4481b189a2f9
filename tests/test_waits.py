"""What the tests ask of each other: that none is lost to a machine that is busy with something else for a while."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests import ports

TESTS = Path(__file__).parent

LEAST = 10
"""Real seconds that what is waited for gets at least. More would hide it where a timer of our own came instead."""

CLOCKS = ("time.monotonic() - ", "time.perf_counter() - ", "anyio.current_time() - ")
WAITS = {"fail_after", "wait", "communicate", "acquire", "result", "create_connection", "HTTPConnection"}


def too_short(source: str) -> Iterator[tuple[int, str]]:
    """The lines in which a test gives up in real time before `LEAST`, or asks for something to be faster than that."""
    for function in ast.parse(source).body:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and "virtual" not in _decorated(function):
            yield from _short_in(function)
        elif isinstance(function, ast.ClassDef):
            for method in function.body:
                yield from _short_in(method)


def _decorated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return " ".join(map(ast.unparse, function.decorator_list)).lower()


def _short_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue  # an app that a test has made: its limits are its own
        if isinstance(child, ast.With | ast.AsyncWith) and "raises(" in ast.unparse(child.items[0]):
            continue  # it gives up on purpose
        if isinstance(child, ast.UnaryOp):
            continue  # it looks that something does not come
        if isinstance(child, ast.Call) and _seconds_of(child) < LEAST:
            yield child.lineno, ast.unparse(child)
        if isinstance(child, ast.Compare) and _most_of(child) < LEAST:
            yield child.lineno, ast.unparse(child)
        yield from _short_in(child)


def _seconds_of(call: ast.Call) -> float:
    """How long a call waits at most, if it says so by a number; 0 is a look, and no wait."""
    name = ast.unparse(call.func).rpartition(".")[2]
    given = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    if name in WAITS and name not in ("create_connection", "HTTPConnection", "acquire"):
        given += call.args[:1]
    numbers = [value for node in given if (value := _number(node)) is not None]
    return min(numbers, default=LEAST) or LEAST if name in WAITS else LEAST


def _most_of(compare: ast.Compare) -> float:
    """What a measured time has to be below, as in `time.monotonic() - began < 2`."""
    sides = [compare.left, *compare.comparators]
    for index, operator in enumerate(compare.ops):
        number = _number(sides[index + 1])
        measured = ast.unparse(sides[index]).startswith(CLOCKS)
        if isinstance(operator, ast.Lt | ast.LtE) and measured and number is not None:
            return number
    return LEAST


def _number(node: ast.expr) -> float | None:
    return float(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None


def test_no_two_tests_of_a_run_are_told_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({ports.free_port() for _ in range(100)}) == 100
    told: list[int] = []
    for worker in range(ports.WORKERS):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        told += islice(ports.ports_of_this_process(), 700)
    assert len(set(told)) == 700 * ports.WORKERS
    assert all(ports.FIRST <= port <= ports.LAST for port in told)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_test_gives_up_on_a_busy_machine(path: Path) -> None:
    short = [f"{path.name}:{line}: {text}" for line, text in too_short(path.read_text(encoding="utf-8"))]
    assert short == [], f"wait {LEAST} s at least, or in virtual time; let the wrong outcome take longer than that"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("async def test():\n    with anyio.fail_after(2):\n        pass", [2]),
        ("async def test():\n    with anyio.fail_after(10):\n        pass", []),
        ("@virtual\nasync def test():\n    with anyio.fail_after(2):\n        pass", []),
        ("def test():\n    assert time.monotonic() - began < 1", [2]),
        ("def test():\n    assert 1 <= time.monotonic() - began < 5", [2]),
        ("def test():\n    assert time.monotonic() - began >= 1", []),
        ("def test():\n    with pytest.raises(TimeoutExpired):\n        process.wait(0.3)", []),
        ("def test():\n    process.communicate(timeout=5)", [2]),
        ("def test():\n    socket.create_connection(('', 80), timeout=5)", [2]),
        ("class Peer:\n    def read(self):\n        self.came.wait(1)", [3]),
        ("def test():\n    assert not came.wait(0.1)", []),
        ("def test():\n    def handler(event):\n        turn.wait(1)", []),
    ],
)
def test_a_short_wait_is_found(source: str, lines: list[int]) -> None:
    assert [line for line, _ in too_short(source)] == lines
