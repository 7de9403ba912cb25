"""The public API is written down, name by name with signatures, and what is written down is what there is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from qom import API_VERSION
from qom.cli import api

FOUND = sorted((api.ROOT / "docs").glob("api-*.txt"))


def version(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"api-(\d+)\.(\d+)\.txt", name)
    assert match is not None, name
    return int(match[1]), int(match[2])


def test_the_description_is_up_to_date() -> None:
    path = api.path_of(API_VERSION)
    changed = api.changes(path.read_text() if path.exists() else "", api.description())
    assert not changed, (
        f"the public API is not what docs/{path.name} says.  If a qom with that API was published, raise the minor number of"
        " API_VERSION in qom/hookspecs.py (the major one if something is taken away).  Then: python -m qom.cli.api\n"
        + "\n".join(changed)
    )


def test_nothing_is_taken_away_within_a_major_version() -> None:
    described = {version(p.name): api.names(p.read_text()) for p in FOUND}
    assert API_VERSION in described and max(described) == API_VERSION
    for old, new in zip(sorted(described), sorted(described)[1:], strict=False):
        if old[0] == new[0]:
            assert described[old] <= described[new], f"{new} lacks {sorted(described[old] - described[new])}"


def test_every_line_is_of_a_kind_and_says_where() -> None:
    text = api.description()
    kinds = "class|enum|member|constant|value|def|method|classmethod|staticmethod|property|attribute|hook"
    for line in text.splitlines():
        assert re.match(rf"(?:{kinds}) [\w.]+|[\w.]+ is [\w.]+$", line), line
    assert len(api.names(text)) == len(text.splitlines())
    assert " at 0x" not in text and str(api.ROOT) not in text
    assert text == api.description()
    for line in (
        "def qom.prop(default: Any, desc: str, *, type: str | None = None, ",
        "method qom.Region.set_enabled(enabled: bool) -> None",
        "constant qom.hw.pci_config.BAR0 = 16",
        "hook qom_register_types(registry: TypeRegistry) -> None",
        "qom.hw.Region is qom.Region",
        "class accel.AccelClass(name: str, init_machine: Callable[[Any, Any], None], allowed: bool = True) -> None",
    ):
        assert f"\n{line}" in text, line


def test_a_change_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = api.description()
    import qom.hw

    real: Callable[..., object] = qom.hw.Region.set_enabled
    monkeypatch.setattr(qom.hw, "__all__", [n for n in qom.hw.__all__ if n != "find_bus"])
    monkeypatch.setattr(qom.hw.Region, "set_enabled", lambda self, enabled, later=False: real(self, enabled))
    changed = api.changes(before, api.description())
    assert "+method qom.Region.set_enabled(enabled, later = False)" in changed
    assert [line[:20] for line in changed if "find_bus" in line] == ["-def qom.hw.find_bus"]
    assert not api.names(before) <= api.names(api.description())
