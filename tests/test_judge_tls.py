"""The judge over TLS: HTTP/1.1 as anywhere, and HTTP/2 where it is offered."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from h3ref.adapters.asgi import ASGIApp
from h3ref.judge.app import Contract
from h3ref.judge.catalogue import Group, chosen, load_checks
from h3ref.judge.seen import Waits
from h3ref.judge.stream import judge_stream
from h3ref.judge.verdict import Finding, Outcome, Verdict
from h3ref.judge.wire import Target, Unreachable, connect_to
from tests.asgi_servers import on_hypercorn
from tests.conftest import require_program

pytestmark = pytest.mark.anyio

CHECKS = chosen(load_checks(), [Group.STREAM], [])
PATIENCE = Waits.of(240)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One that nobody trusts yet, and its key, as hypercorn wants them."""
    openssl, folder = require_program("openssl", "openssl"), tmp_path_factory.mktemp("tls")
    files = {"certfile": str(folder / "cert.pem"), "keyfile": str(folder / "key.pem")}
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files["certfile"], "-keyout", files["keyfile"]]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture
def trusted(certificate: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same one, trusted, as a user makes OpenSSL trust it."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate["certfile"])
    return certificate


async def findings_of(app: Any, config: dict[str, Any], *only: str) -> dict[str, Finding]:
    verdicts: list[Verdict] = []
    async with on_hypercorn(app, bare=True, config=config) as server:
        url = f"https://127.0.0.1:{server.port}/ticks"
        checks = [check for check in CHECKS if not only or check.id in only]
        await judge_stream(Target(url, connect_to(url)), checks, verdicts.append, waits=PATIENCE)
    return {verdict.check.id: verdict.finding for verdict in verdicts}


def contract() -> ASGIApp:
    return ASGIApp(Contract(lambda: None).app)


class FailsByHTTP2:
    """Answers HTTP/2 with 500."""

    def __init__(self) -> None:
        self.app = contract()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("http_version") == "2":
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, send)


async def test_by_both_versions_a_good_server_is_found_clean(trusted: dict[str, str]) -> None:
    findings = await findings_of(contract(), {**trusted, "alpn_protocols": ["h2", "http/1.1"]})
    assert {id: found for id, found in findings.items() if found.outcome == Outcome.FAILED} == {}
    assert findings["C-38"].outcome == Outcome.PASSED
    assert findings["C-38"].seen == "200, text/event-stream"


async def test_a_fault_that_http2_alone_has_is_found(trusted: dict[str, str]) -> None:
    findings = await findings_of(FailsByHTTP2(), {**trusted, "alpn_protocols": ["h2", "http/1.1"]})
    assert [id for id, found in findings.items() if found.outcome == Outcome.FAILED] == ["C-38"]
    assert findings["C-38"].seen == "500, no type"


async def test_where_it_is_not_offered_there_is_nothing_to_look_at(trusted: dict[str, str]) -> None:
    findings = await findings_of(contract(), {**trusted, "alpn_protocols": ["http/1.1"]}, "C-38")
    assert findings["C-38"] == Finding(Outcome.NOT_APPLICABLE, "it is not offered")


async def test_without_the_extra_it_is_not_run(trusted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    findings = await findings_of(contract(), {**trusted, "alpn_protocols": ["h2"]}, "C-02", "C-38")
    assert findings["C-02"].outcome == Outcome.PASSED, "TLS itself needs none"
    assert findings["C-38"].outcome == Outcome.NOT_RUN
    assert "pip install" in findings["C-38"].seen


async def test_a_certificate_that_nobody_trusts_is_no_connection(certificate: dict[str, str]) -> None:
    async with on_hypercorn(contract(), bare=True, config=certificate) as server:
        url = f"https://127.0.0.1:{server.port}/ticks"
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await judge_stream(Target(url, connect_to(url)), CHECKS, print, waits=PATIENCE)
