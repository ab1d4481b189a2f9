"""What the tests ask of each other: that none is lost to a machine that is busy, or stands still, for a while."""

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


TIMED = {
    *("Deadlines", "Timer", "after", "body_timeout", "cleanup_timeout", "close_timeout", "commit_after", "down_after"),
    *("expires_at", "expires_in", "give_up", "grace", "head_timeout", "keep_alive", "move_on_after", "patience"),
    *("ping", "real_timeout", "reconnection_time", "send_timeout", "settimeout", "shutdown_grace_period", "silence"),
    *("stream_age", "stream_keep_alive", "timeout", "timeout_graceful_shutdown", "ttl", "within"),
}
"""What takes a time that ends something: functions by their first argument, and others by one of that name."""

CONSIDERED = {
    "cluster/figures": """
        channels
        server_cpu
    """,
    "cluster/process": "main",
    "cluster/trial": "Reader",
    "matrix/servers/sse_starlette_app": "streamed",
    "soak/readers": "Reader",
    "test_access": "test_what_the_native_adapter_refuses_is_one_line_each",
    "test_asgi": """
        recorded_by
        recorded_here
        test_a_scope_around_the_app_gets_its_cancellation_back
        test_a_server_that_takes_no_more_is_given_up
        test_a_time_limit_around_a_send_that_waits_loses_nothing_and_doubles_nothing
        test_a_time_limit_of_a_middlewares_around_its_send_is_its_own
    """,
    "test_asgi_cancelled": "test_a_time_limit_of_ones_own_around_each_send_loses_nothing_that_was_taken",
    "test_bench_servers": """
        test_a_server_that_breaks_is_reported_started_anew_and_measured_further
        test_requests_without_an_event_are_given_up
    """,
    "test_blocking_writer": "test_one_that_waits_for_a_reader_is_told_when_our_side_ends_the_stream",
    "test_channel": """
        test_a_client_reads_a_channel_to_its_end_and_does_not_come_back
        test_a_publish_that_gave_up_waiting_published_nothing
        test_what_stalled_readers_have_still_to_get_is_kept_once_for_all_of_them
    """,
    "test_chat_page": """
        test_by_default_a_failure_is_asked_again_and_again
        test_by_default_a_tab_that_is_shown_again_asks_again
    """,
    "test_cleanup": """
        Case
        test_the_grace_of_a_server_bounds_the_cleanup
    """,
    "test_client": """
        test_a_generator_around_a_source_may_be_given_up_at_any_step
        test_a_source_may_be_entered_iterated_and_left_by_three_tasks
        test_a_timeout_around_a_step_costs_neither_a_connection_nor_an_event
        test_a_timeout_around_a_step_is_no_end_for_a_source_that_does_not_reconnect
        test_another_thread_may_close_a_source_that_waits
        test_retry_after_is_heeded_within_limits
        test_the_delay_doubles_up_to_its_limit_and_starts_anew_after_a_message
        test_the_delay_starts_anew_after_a_connection_that_stood
        test_the_servers_retry_takes_over_and_lasts
        test_what_fails_while_nobody_waits_is_told_at_the_next_step
    """,
    "test_client_http2": """
        test_a_wait_that_is_cancelled_leaves_the_stream_and_the_connection_as_they_are
        test_closing_a_blocking_source_leaves_the_connections_other_streams
    """,
    "test_cluster": """
        test_a_process_that_is_cut_off_for_a_while_reads_what_it_lacks
        test_all_of_many_channels_are_caught_up_after_a_cut
        test_what_a_stopped_server_was_asked_for_is_stored_once
        test_what_is_sent_again_to_a_server_that_was_stopped_is_stored_once
        test_while_the_server_is_down_publish_raises_and_streams_stay_open
    """,
    "test_cluster_failover": "test_with_replicas_what_is_acknowledged_survives_the_primary",
    "test_cluster_servers": """
        test_a_stopped_server_answers_nobody_and_is_ended_all_the_same
        test_the_proxy_stalls_cuts_refuses_and_leads_elsewhere
    """,
    "test_compat": "test_what_may_be_read_of_an_event_and_of_a_response",
    "test_context": "test_a_stream_that_is_ended_for_its_thread_is_ended_in_its_own_context",
    "test_contract": """
        starting_app
        test_a_slow_first_item_opens_the_stream_after_commit_after
        test_a_slow_reader_makes_publish_wait_where_the_channel_says_so
        test_a_stream_that_cant_be_opened_in_time_is_answered_at_once
        test_the_broken_flow_asks_too_early_and_then_is_silent
    """,
    "test_contract_bytes": """
        Filling
        test_a_body_that_takes_too_long_is_a_408
        test_a_plain_answer_that_nobody_reads_is_given_up
        test_a_silent_stream_gets_comments
        test_a_stream_ends_in_time_though_its_client_does_not_read
        test_of_a_stream_that_nobody_reads_nothing_is_left_once_it_is_cut
    """,
    "test_ending": """
        test_a_grace_period_lets_streams_finish_themselves
        test_a_stream_that_has_not_begun_begins_and_ends
        test_two_servers_in_one_loop_end_each_with_its_own_streams
    """,
    "test_event_source_response": """
        test_a_slow_first_event_opens_the_stream_after_commit_after
        test_a_time_limit_around_a_yield_that_expires_cuts_the_stream
        test_ping
        test_send_timeout_ends_a_stream_that_nobody_reads
        test_the_framework_answers_also_where_the_head_did_not_wait_for_an_item
    """,
    "test_examples": "test_broken_puts_124_bytes_on_the_wire_and_then_nothing",
    "test_exchange": """
        test_a_slow_body_keeps_the_commit_timer_waiting
        test_after_an_answer_that_was_given_up_no_other_follows
        test_an_adapter_that_misbehaves_harms_no_other_stream
    """,
    "test_expiry": """
        Site
        test_a_stream_ends_properly_when_its_permission_does
        test_it_ends_also_where_nothing_else_of_a_stream_has_a_time
        test_one_that_is_over_before_the_head_is_a_403
        test_what_is_no_time_is_refused_with_a_sentence
        test_when_the_loop_has_ended_there_is_nothing_to_expire
    """,
    "test_flusher": "test_deadlines_end_the_oldest_first_and_spare_who_has_left",
    "test_h11_anyio": """
        test_a_body_that_is_cancelled_ends_the_server
        test_a_client_that_does_not_read_is_cut_at_the_end
        test_a_handler_may_take_longer_than_a_connection_may_be_idle
        test_a_handler_that_cannot_be_cancelled_for_a_client_that_left_does_not_break_the_end
        test_a_handler_that_outlasts_the_grace_period_is_cut_and_answered_with_a_503
        test_a_head_that_does_not_end_is_a_408_when_its_time_is_up
        test_an_idle_connection_is_closed_when_its_time_is_up
    """,
    "test_held": "serving",
    "test_lab_notebook": """
        test_on_a_socket_a_client_leaves_when_it_has_what_it_wants
        test_on_a_socket_every_byte_is_kept
    """,
    "test_limits": """
        test_a_peer_that_has_vanished_is_found_by_the_keep_alive
        test_a_stream_that_is_too_old_ends_properly
        test_every_adapter_keeps_a_silent_stream_alive
        test_who_waits_anew_is_told_after_those_who_wait_already
    """,
    "test_llm_clients": "test_keep_alives_are_passed_over",
    "test_model": "test_the_real_server_takes_the_counterexample_step_by_step",
    "test_moves": "waits",
    "test_nginx": "test_a_configuration_that_ignores_our_header_holds_them_back",
    "test_opening": """
        test_a_first_item_that_meets_the_timers_opening_is_told_with_it
        test_a_flow_may_wrap_the_connection_that_it_sends_by
        test_a_generator_whose_commit_fails_is_closed_and_its_cleanup_told
        test_a_plain_generator_whose_commit_fails_is_told_at_its_next_item
        test_all_tasks_that_wait_for_the_writer_are_told_why_there_is_none
    """,
    "test_outside": "test_what_takes_longer_is_passed_over_and_named",
    "test_parking": """
        test_a_wait_that_was_cancelled_leaves_the_parking_as_good_as_new
        test_a_wake_that_comes_first_ends_the_next_wait_and_only_that
    """,
    "test_recorder": "test_until_waits_for_the_latest_of_several_exchanges",
    "test_redis_engine": """
        test_a_server_that_does_not_answer_is_said_in_a_sentence
        test_a_silent_server_is_found_out_and_is_used_again_when_it_speaks
    """,
    "test_request_body": """
        test_a_client_that_leaves_before_the_head_is_noticed_at_once_where_its_body_is_accounted_for
        test_nothing_is_lost_to_a_request_that_is_in_an_object_of_the_applications
        test_nothing_of_a_body_that_the_generator_reads_is_lost
    """,
    "test_server": """
        test_a_reader_that_never_reads_does_not_hold_up_the_end
        test_a_thread_that_never_returns_is_left_after_the_grace_period
    """,
    "test_shutdown": """
        test_an_answer_that_nobody_reads_is_given_up_and_the_recording_says_so
        test_nobody_is_accepted_any_more
        test_what_was_sent_comes_before_the_farewell
    """,
    "test_testing": "test_real_time_is_real",
    "test_threads": "test_a_hook_that_is_given_up_is_counted_until_it_really_ends",
    "test_upkeep": "test_a_transport_whose_release_raises_ends_no_other_stream",
}
"""Who has a time that is short and real, by module. Such a time may be over before anything else has happened, for the
machine may stand still; each of these holds then, too. Whatever has to come first is waited for before the time begins,
or the test tries again with `waits.LONGER`, or the time is only there to see that nothing comes. Where that can't be,
take virtual time: `running` has it, too."""


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


def short_times(source: str) -> Iterator[str]:
    """Who has a short time in real time, once for each; "" for the module itself."""
    tree = ast.parse(source)
    virtual = _virtual_names(tree)
    for statement in tree.body:
        name = getattr(statement, "name", "")
        in_virtual_time = _runs_virtually(statement, virtual)
        if not in_virtual_time and any(map(_is_short_time, _calls_in(statement))):
            yield name


def _virtual_names(tree: ast.Module) -> set[str]:
    """What the module calls virtual time: marks and parameters that are made of it."""
    found = {"virtual_backends"}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and found & set(_names_in(statement.value)):
            found.update(*map(_names_in, statement.targets))
    return found


def _runs_virtually(statement: ast.stmt, virtual: set[str]) -> bool:
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    decorated = {name for decorator in statement.decorator_list for name in _names_in(decorator)}
    by_client = {"TestClient", "AsyncTestClient"} & set(_names_in(statement))
    return bool(decorated & virtual) or (bool(by_client) and "virtual=False" not in ast.unparse(statement))


def _names_in(node: ast.AST) -> list[str]:
    named = (each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute))
    return [each.id if isinstance(each, ast.Name) else each.attr for each in named]


def _calls_in(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _is_short_time(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    given = [keyword.value for keyword in call.keywords if keyword.arg in TIMED]
    given += call.args[:1] if name in TIMED else []
    sums = [node for node in given if isinstance(node, ast.Constant | ast.BinOp)]  # as time.time() + 0.1
    return any(
        0 < (_number(part) or 0) < LEAST for node in sums for part in ast.walk(node) if isinstance(part, ast.expr)
    )


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


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_test_runs_a_race_with_a_short_time(path: Path) -> None:
    module = path.relative_to(TESTS).with_suffix("").as_posix()
    found = sorted(short_times(path.read_text(encoding="utf-8")))
    assert found == sorted(CONSIDERED.get(module, "").split()), "see what `CONSIDERED` says"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("async def test():\n    event.expires_in(0.3)", ["test"]),
        ("async def test():\n    event.expires_at(time.time() + 0.3)", ["test"]),
        ("async def test():\n    event.expires_in(3600)", []),
        ("async def test():\n    limits = Limits(stream_age=1)", ["test"]),
        ("async def test():\n    @app.sse('/', commit_after=0.1)\n    async def stream(event): ...", ["test"]),
        ("IN_TIME = mark(virtual_backends())\n@IN_TIME\nasync def test():\n    event.expires_in(0.3)", []),
        ("def test():\n    with TestClient(app) as client:\n        client.get('/', timeout=1)", []),
        (
            "def test():\n    with TestClient(app, virtual=False) as client:\n        client.get('/', timeout=1)",
            ["test"],
        ),
        ("class Site:\n    def __init__(self):\n        self.timer = Timer(0.1, self.end)", ["Site"]),
        ("LIMITS = Limits(send_timeout=0.1)", [""]),
    ],
)
def test_a_short_time_is_found(source: str, names: list[str]) -> None:
    assert list(short_times(source)) == names
