"""What `make dist` tries: every extra has its run, and an archive with a fault is not let through."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests import dist

PROJECT = tomllib.loads((dist.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INDEX = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
README = (dist.ROOT / "README.md").read_text(encoding="utf-8")


def on_an_index() -> str:
    """The README as the build makes it for a package index."""
    text = README
    for each in INDEX["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def test_each_extra_has_a_run() -> None:
    assert dist.EXTRAS.keys() == PROJECT["project"]["optional-dependencies"].keys()
    assert set(dist.USERS) < dist.EXTRAS.keys()


def test_on_a_package_index_no_link_of_the_readme_leads_nowhere() -> None:
    assert len(dist.relative_links(README)) > 30
    assert dist.relative_links(on_an_index()) == []


def test_on_a_package_index_the_readme_keeps_its_words_and_its_code() -> None:
    text = on_an_index()
    assert re.findall(r"^#+ .+", text, re.MULTILINE) == re.findall(r"^#+ .+", README, re.MULTILINE)
    assert re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE) == re.findall(
        r"^```.*?^```", README, re.DOTALL | re.MULTILINE
    )
    assert "`flows.broken`" in text
    assert "src=" not in text


def test_a_home_is_written_in_front_of_what_is_relative() -> None:
    urls = PROJECT["project"].get("urls", {})
    assert all(url in INDEX["substitutions"][-1]["replacement"] for url in urls.values())


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["h3ref-1/h3ref/a.py"], "the sdist lacks README.md"),
        (["h3ref-1/h3ref/a.py", "h3ref-1/README.md", "h3ref-1/x"], "the sdist has x, which is no file of the project"),
    ],
)
def test_an_sdist_with_a_fault_is_told(names: list[str], fault: str) -> None:
    assert dist.faults_of_sdist([*names, "h3ref-1/PKG-INFO"], ["h3ref/a.py", "README.md"]) == [fault]


def test_a_wheel_with_a_fault_is_told() -> None:
    files = ["h3ref/a.py", "spec/vectors/parse/a.json", "tests/test_a.py"]
    data = ["h3ref/lab/lifecycle.json", "h3ref/judge/checks.json", "h3ref/judge/clients/vectors/a.json"]
    assert dist.faults_of_wheel(["h3ref/a.py", *data, "h3ref-1.dist-info/METADATA"], files) == []
    assert dist.faults_of_wheel([*data, "tests/test_a.py"], files) == [
        "the wheel lacks h3ref/a.py",
        "the wheel has tests/test_a.py, which is not the package's",
    ]
