"""The judge can't be fooled: each faulty server is found by its check, and by no unrelated must."""

from __future__ import annotations

import tomllib

import pytest

from h3ref.judge import catalogue
from h3ref.judge.catalogue import Group, chosen, load_checks
from h3ref.judge.looks import LOOKS
from h3ref.judge.verdict import Outcome
from h3ref.testing import virtual_backends
from tests.judge.servers import Good, judged
from tests.pages import ROOT

CHECKS = chosen(load_checks(), [Group.STREAM], [])

virtual = pytest.mark.parametrize("anyio_backend", virtual_backends(), ids=["asyncio", "trio"])


@virtual
@pytest.mark.anyio
async def test_a_good_server_is_found_clean() -> None:
    findings = await judged(Good().answer, CHECKS)
    assert {id: finding.seen for id, finding in findings.items() if finding.outcome == Outcome.FAILED} == {}
    not_so = {id: finding.outcome for id, finding in findings.items() if finding.outcome != Outcome.PASSED}
    assert not_so == {"C-38": Outcome.NOT_APPLICABLE}


def test_the_wheel_has_the_catalogue() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["spec/checks.json"] == catalogue._PACKAGED.relative_to(ROOT).as_posix()
    assert not catalogue._PACKAGED.exists(), "in the source tree spec/ itself is read"


def test_each_check_of_a_stream_has_its_look() -> None:
    assert sorted(LOOKS) == [check.id for check in CHECKS]
    ids = [check.id for check in load_checks()]
    assert ids == sorted(set(ids))
