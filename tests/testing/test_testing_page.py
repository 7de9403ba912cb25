"""The tests that docs/testing.md shows pass, as a suite of their own."""

from __future__ import annotations

import re
from pathlib import Path

import all_loaded  # noqa: F401 -- see there
import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_page(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(pytester.path)
    found = FILE.findall(PAGE.read_text())
    for name, text in found:
        (pytester.path / name).write_text(text)
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess("-p", "qom.testing.plugin", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    shown = sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for _, text in found) + 1  # one runs twice
    assert outcomes.pop("skipped", 0) <= 1  # on KVM, where there is none
    assert outcomes.get("passed", 0) >= shown - 1 > 5, result.stdout.str()
    assert set(outcomes) == {"passed"}
