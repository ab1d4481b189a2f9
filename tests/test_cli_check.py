"""`h3ref check`: what it prints, in three forms, and its exit statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from h3ref.cli import main as cli
from h3ref.judge.app import asgi
from h3ref.judge.catalogue import Group, load_checks
from h3ref.judge.page import page_of
from h3ref.judge.report import Text
from h3ref.judge.results import SERVER, Results, System
from h3ref.judge.verdict import Verdict, failed, from_shown, not_applicable, passed, shown
from h3ref.judge.wire import Target, connect_to
from tests.asgi_servers import on_uvicorn
from tests.clients import SocketClient
from tests.servers import Served, started

CHECKS = load_checks()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each line whole: the terminal that pytest may run in would fold it."""
    monkeypatch.setenv("COLUMNS", "10000")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with started(["-m", "h3ref.judge.app", "--port", "0"], tmp_path_factory.mktemp("judge")) as served:
        yield served


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = cli.main(["check", *arguments])
    except SystemExit as exit:
        status = int(exit.code or 0)
    out, errors = capsys.readouterr()
    return status, out, errors


def url(server: Served, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def test_where_all_musts_hold_it_ends_with_0(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, errors = called(capsys, url(server, "/ticks"), "--timeout", "120")
    assert (status, errors) == (0, "")
    first, *lines, last = out.splitlines()
    assert first == f"{url(server, '/ticks')}: 38 checks"
    assert sorted(line[:4] for line in lines) == [check.id for check in CHECKS if check.group == Group.STREAM]
    assert re.fullmatch(r"\d+ passed, \d+ not applicable", last)


def test_where_one_fails_it_ends_with_1_and_shows_the_bytes_and_the_remedy(
    server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, errors = called(capsys, url(server, "/early"), "--only", "C-01", "--only", "c-04", "--timeout", "60")
    assert (status, errors) == (1, "")
    assert "C-01 must   failed         The answer is 200: 500\n" in out
    assert "     bytes:  HTTP/1.1 500 Internal Server Error\\r\\n\n     remedy: Answer 200 " in out
    assert out.endswith("1 passed, 1 failed; C-01 (must)\n")


def test_a_should_that_fails_is_no_failure(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = called(capsys, url(server, "/ready"), "--only", "C-09", "--timeout", "60")
    assert status == 0
    assert out.endswith("1 failed; C-09 (should)\n")


def test_the_contract_says_what_it_will_do(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "C-44", "--only", "C-01"]
    status, out, errors = called(capsys, "--contract", url(server, ""), *only, "--timeout", "120")
    assert (status, errors) == (0, "")
    assert out.startswith("this strains the server: ")
    assert "POST to /shutdown, which ends it\n" in out
    assert "C-44 must   passed " in out


def test_as_json_it_can_be_read_again(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [url(server, "/early"), "--format", "json", "--system", "h3ref 0.1.0", "-H", "Authorization: secret"]
    status, out, errors = called(capsys, *arguments, "--only", "C-01", "--timeout", "60")
    assert (status, errors) == (1, "")
    assert json.loads(out)["format"] == 1
    results = Results.from_json(out, CHECKS)
    assert results.system == System(SERVER, "h3ref", "0.1.0")
    assert results.to_json() == out
    assert "secret" not in results.command, "what a header says stays out of what is kept"
    (verdict,) = results.verdicts
    assert (verdict.check.id, verdict.is_fault) == ("C-01", True)
    assert verdict.finding.evidence.startswith(b"HTTP/1.1 500 ")


def test_as_a_page_it_is_one_file(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = called(capsys, url(server, "/ticks"), "--format", "html", "--timeout", "120")
    assert status == 0
    assert out.startswith("<!doctype html>")
    assert '<meta name="viewport"' in out
    assert not re.search(r"<script|<link|<img|src=|@import", out)
    assert set(re.findall(r'<details id="(C-\d\d)"', out)) == {c.id for c in CHECKS if c.group == Group.STREAM}


def test_a_page_escapes_what_a_server_says() -> None:
    verdict = Verdict(CHECKS[0], failed("<script>alert(1)</script>", b"<b>\xff\r\n"))
    page = page_of(Results(System(SERVER, "<i>"), "2026-11-30", "h3ref check <x>", (verdict,)))
    assert "<script" not in page
    assert "&lt;b&gt;\\xff\\r\\n" in page
    assert page.count("<i>") == 0
    assert " open><summary>" in page, "what failed stands open"
    assert f'1 failed: <a href="#{CHECKS[0].id}">' in page, "and is named first"


@pytest.mark.parametrize("columns", [80, 120])
def test_an_explanation_is_as_wide_as_the_terminal_and_breaks_no_word(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for check in load_checks():
        monkeypatch.setenv("COLUMNS", "10000")
        _, whole, _ = called(capsys, "--explain", check.id)
        monkeypatch.setenv("COLUMNS", str(columns))
        status, out, _ = called(capsys, "--explain", check.id)
        assert status == 0
        assert max(map(len, out.split("\n"))) <= columns
        assert out.split() == whole.split()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_report_is_as_wide_as_the_terminal(
    columns: int, server: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    status, out, _ = called(capsys, url(server, "/early"), "--only", "C-01", "--timeout", "60")
    assert status == 1
    assert "     remedy: " in out
    assert max(map(len, out.split("\n"))) <= columns


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("columns", [80, 120])
def test_what_a_report_says_of_each_check_is_folded_and_nothing_is_lost(columns: int, coloured: bool) -> None:
    evidence = b"data:  two  blanks\r\n\xff\\" * 20 + b"x" * 200
    for check in CHECKS:
        verdict = Verdict(check, failed("what was seen, which is a sentence as long as one may be " * 3, evidence))
        written: dict[int, str] = {}
        for width in (0, columns):
            parts: list[str] = []
            Text(parts.append, coloured=coloured, columns=width).tell(verdict)
            written[width] = re.sub(r"\x1b\[[\d;]*[mK]|\r", "", "".join(parts))
        assert max(map(len, written[columns].split("\n"))) <= columns
        (whole, folded) = (
            re.fullmatch(r"(C-.*)\n     bytes:  (.*)\n     remedy: (.*)\n", text, re.DOTALL)
            for text in (written[0], written[columns])
        )
        assert whole is not None
        assert folded is not None
        assert folded[1].split() == whole[1].split()
        assert folded[2].replace("\n" + 13 * " ", "") == whole[2]
        assert not re.search(r"(?<!\\)(\\\\)*\\(x.?)?\n", folded[2]), "no escape is broken"
        assert folded[3].split() == whole[3].split()


def test_list_and_explain(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = called(capsys, "--list")
    assert status == 0
    assert [line[:4] for line in out.splitlines()] == [check.id for check in CHECKS]
    for check in CHECKS:
        status, out, _ = called(capsys, "--explain", check.id)
        assert status == 0
        for text in (check.title, check.sends, check.passes, check.why, check.remedy, check.section, check.level):
            assert text in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "URL or --client COMMAND is required"),
        ("ftp://example.com", "a URL begins with http:// or https:// and names a host, not 'ftp://example.com'"),
        ("http://", "a URL begins with http://"),
        ("http://localhost:99999/", "'http://localhost:99999/' is not a URL: Port out of range"),
        ("http://localhost/caf\xe9", "'http://localhost/caf\xe9' has blanks or non-ASCII characters"),
        ("http://localhost/ --only 7", "argument --only: a check is named like C-07, not '7'"),
        ("http://localhost/ --only C-00", "there is no check C-00; h3ref check --list shows them"),
        ("http://localhost/ --only C-44", "C-44 belongs to the group contract: it needs a URL and --contract"),
        ("http://localhost/ --contract -d {}", "-d is for a stream of your own"),
        ("http://localhost/ --timeout 0", "argument --timeout: seconds must be more than 0, not '0'"),
        ("http://localhost/ -H name", "argument -H/--header: a header is written 'Name: value', not 'name'"),
        ("--explain C-00", "there is no check C-00"),
        ("http://127.0.0.1:1/", "no connection to http://127.0.0.1:1/: "),
    ],
)
def test_wrong_usage_and_no_connection_are_status_2(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = called(capsys, *arguments.split())
    assert (status, errors.count("\n")) == (2, 1), errors
    assert errors.startswith(f"h3ref: {said}")


def test_a_terminal_gets_colours_and_how_far_it_is() -> None:
    written: list[str] = []
    report = Text(written.append, coloured=True)
    report.begin("http://x/", CHECKS[:2])
    report.tell(Verdict(CHECKS[0], passed("200")))
    report.tell(Verdict(CHECKS[1], not_applicable("there is none")))
    text = "".join(written)
    assert "0 of 2 done" in text
    assert "1 of 2 done" in text
    assert "2 of 2" not in text
    assert "\x1b[32mpassed        \x1b[0m The answer is 200: 200\n" in text


def test_evidence_is_written_and_read_back() -> None:
    every = bytes(range(256)) + b"\\r\\x41"
    assert from_shown(shown(every)) == every
    assert shown(b"data: \xc3\xa9\r\n\0") == "data: \\xc3\\xa9\\r\\n\\x00"
    for text in ("caf\xe9", "\\q", "\\x4", "\n"):
        with pytest.raises(ValueError, match="these are not bytes"):
            from_shown(text)


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"format": 2}', '{"format": 1}', '{"format": 1, "system": 3}'])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"format|not results"):
        Results.from_json(text, CHECKS)


def test_a_body_makes_it_a_post_with_the_headers_that_are_given() -> None:
    target = Target("http://host:80/a?b=c", connect_to("http://host"), (("accept", "x/y"),), "POST", b"{}")
    assert target.request(("Accept", "text/event-stream")) == (
        b"POST /a?b=c HTTP/1.1\r\nHost: host:80\r\naccept: x/y\r\nContent-Length: 2\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n\r\n{}"
    )
    assert (
        target.request(method="HEAD", version="1.0") == b"HEAD /a?b=c HTTP/1.0\r\nHost: host:80\r\naccept: x/y\r\n\r\n"
    )


def test_the_contracts_app_ends_when_it_is_told_to(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(["-m", "h3ref.judge.app", "--port", "0"], tmp_path_factory.mktemp("judge")) as served:
        status, out, _ = called(capsys, "--contract", url(served, ""), "--only", "C-58", "--timeout", "240")
        assert (status, served.end()) == (0, 0), out
    assert "the stream got its proper end" in out


def test_the_bug_is_named_on_the_command_line(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-m", "h3ref.judge.app", "--port", "0", "--backend", "trio", "--broken"]
    with started(command, tmp_path_factory.mktemp("judge")) as served:
        status, out, _ = called(capsys, "--contract", url(served, ""), "--only", "C-41", "--timeout", "120")
    assert status == 1
    assert "(L-17)" in out
    assert "     remedy: Send the head first, then hand over the writer" in out


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_the_contracts_app_is_there_for_asgi_servers() -> None:
    async with on_uvicorn(asgi(), bare=True) as server:
        client = SocketClient(server)
        assert await (await client.request("GET", "/ready")).read() == b"ready"
        await client.aclose()
