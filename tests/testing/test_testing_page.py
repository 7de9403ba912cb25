"""The tests that docs/testing.md and README.md show pass, as suites of their own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import all_loaded  # noqa: F401 -- see there
import pytest

pytest_plugins = ["pytester"]

TOP = Path(__file__).parents[2]
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, page: Path) -> tuple[dict[str, int], int]:
    """The outcomes of the tests of a page, and how many tests it shows."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(pytester.path)
    found = FILE.findall(page.read_text())
    for name, text in found:
        (pytester.path / name).write_text(text)
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)  # qom has a test_pc.py, too
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess("-p", "qom.testing.plugin", "-p", "no:cacheprovider")
    return result.parseoutcomes(), sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for _, text in found)


def test_the_page(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, shown = run(pytester, monkeypatch, TOP / "docs" / "testing.md")
    assert shown > 5
    assert outcomes.pop("skipped", 0) <= 1  # on KVM, where there is none
    assert outcomes in ({"passed": shown}, {"passed": shown + 1})  # one runs on two accelerators


def test_the_readme(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(pytester, monkeypatch, TOP / "README.md") == ({"passed": 1}, 1)
