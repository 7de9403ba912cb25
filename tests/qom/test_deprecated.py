"""The deprecation path, on made-up names: old ones work, are told once per distribution, and go when it was said."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qom
import qom.hw
from qom import (
    API_VERSION,
    Deprecated,
    GlobalProperty,
    QomDeprecationWarning,
    TypeRegistry,
    UnknownType,
    default_registry,
    deprecated,
)
from qom.cli import main as qom_main

MADE_UP = [
    Deprecated("name", "qom.OldRegion", "1.4", "2.0", "qom.hw.Region"),
    Deprecated("name", "qom.hw.old_or_line", "1.4", "2.0", "qom.or_line"),
    Deprecated("type", "isa-old-serial", "1.2", "2.0", "isa-serial"),
    Deprecated("property", "isa-device.old-index", "1.3", "3.0", "index"),
    Deprecated("property", "isa-serial.old-chardev", "1.3", "3.0", "chardev"),
    Deprecated("hook", "qom_old_types", "1.1", "2.0", "qom_types"),
]
Load = Callable[..., TypeRegistry]


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecated, "TABLE", deprecated.TABLE)
    saved, used = list(deprecated.TABLE), list(deprecated.uses)
    deprecated.TABLE[:] = MADE_UP
    deprecated.uses.clear()
    yield
    deprecated.TABLE[:] = saved
    deprecated.uses[:] = used


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    def make(**sources: str) -> TypeRegistry:
        paths = []
        for name, source in sources.items():
            (tmp_path / f"old_{name}.py").write_text(textwrap.dedent(source))
            paths.append(str(tmp_path / f"old_{name}.py"))
        importlib.invalidate_caches()
        return default_registry(load_external=False, paths=paths)

    yield make
    for name in [n for n in sys.modules if n.startswith("old_")]:
        del sys.modules[name]


def told(caught: list[warnings.WarningMessage]) -> list[str]:
    assert all(w.category is QomDeprecationWarning for w in caught)
    return [str(w.message) for w in caught]


def test_a_public_name(load: Load, tmp_path: Path) -> None:
    source = (
        "from qom import OldRegion\nfrom qom.hw import old_or_line\nimport qom\nassert qom.OldRegion is OldRegion\n"
    )
    with pytest.warns(QomDeprecationWarning) as caught:
        registry = load(one=source, two=source)
    assert [r.status for r in registry.plugins if r.name.startswith("old_")] == ["loaded", "loaded"]
    one, two = (str(tmp_path / f"old_{n}.py") for n in ("one", "two"))
    old = "'qom.OldRegion' is deprecated since 1.4 and goes in 2.0: use 'qom.hw.Region'"
    other = "'qom.hw.old_or_line' is deprecated since 1.4 and goes in 2.0: use 'qom.or_line'"
    assert told(list(caught)) == [f"{one}: {old}", f"{one}: {other}", f"{two}: {old}", f"{two}: {other}"]
    assert [w.filename for w in caught] == [one, one, two, two]
    assert sys.modules["old_one"].OldRegion is qom.hw.Region
    assert not hasattr(qom, "OldRegions") and "OldRegion" not in qom.__all__
    with pytest.raises(AttributeError, match=r"module 'qom\.hw' has no attribute 'older'"):
        _ = qom.hw.older


def test_a_type_name(load: Load) -> None:
    with pytest.warns(QomDeprecationWarning) as caught:
        registry = load(
            sub="""
            from qom import TypeInfo, hookimpl
            @hookimpl
            def qom_types():
                return [TypeInfo(name="my-serial", parent="isa-old-serial", desc="Mine")]
            """
        )
        assert registry.get("my-serial").is_a("isa-serial")
        made = [registry.new("isa-old-serial"), registry.new("isa-old-serial")]
    assert [m.type_name for m in made] == ["isa-serial", "isa-serial"]
    assert {m.rpartition(": ")[0].partition(": ")[2] for m in told(list(caught))} == {
        "type 'isa-old-serial' is deprecated since 1.2 and goes in 2.0"
    }
    assert len(caught) == 2  # the plugin's use of it, and this module's
    assert "isa-old-serial" in registry and "isa-old-serial" not in registry.names("device")
    with pytest.raises(UnknownType):
        registry.get("isa-older-serial")


def test_a_property_name() -> None:
    registry = default_registry(load_external=False)
    port = registry.new("isa-serial")
    with pytest.warns(QomDeprecationWarning, match="property 'isa-device.old-index' is deprecated since 1.3") as caught:
        port.set("old-index", 2)
        assert port.get("old_index") == 2 and port.index == 2
    assert len(caught) == 1
    item = GlobalProperty("isa-serial", "old-index", "3")
    registry.check_global(item)
    registry.globals.append(item)
    assert registry.new("isa-serial").index == 3
    with pytest.raises(qom.UnknownProperty):
        port.set("older-index", 2)


def test_a_file_may_say_the_old_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vm.toml"
    file.write_text(
        '[[device]]\ndriver = "isa-old-serial"\nold-index = 2\nold-chardev = "c"\n'
        '[[chardev]]\nbackend = "null"\nid = "c"\n'
    )
    with pytest.warns(QomDeprecationWarning):
        assert qom_main.main(["check", str(file)]) == 0
    deprecated.uses.clear()
    with pytest.warns(QomDeprecationWarning):
        assert qom_main.main(["tree", str(file), "--properties"]) == 0
    out, err = capsys.readouterr()
    assert "(isa-serial)" in out and "chardev = /chardevs/c" in out and err == ""


def test_a_hook(load: Load) -> None:
    with pytest.warns(QomDeprecationWarning, match="hook 'qom_old_types' is deprecated since 1.1 and goes in 2.0"):
        registry = load(
            hook="""
            from qom import TypeInfo, hookimpl
            @hookimpl
            def qom_old_types():
                return [TypeInfo(name="old-way", desc="Made the old way")]
            @hookimpl
            def qom_types():
                return [TypeInfo(name="new-way", desc="Made the new way")]
            """
        )
    (row,) = [r for r in registry.plugins if r.name == "old_hook"]
    assert (row.status, row.types) == ("loaded", ("new-way", "old-way")), row.reason


OWN = """
from qom import Deprecated, Object, prop, type_init

QOM_DEPRECATED = (
    Deprecated("type", "my-old-bell", "0.8", "1.0", "my-bell"),
    Deprecated("property", "my-bell.volume", "0.8", "1.0", "loudness"),
)

@type_init("my-bell")
class Bell(Object):
    "A bell."
    loudness: int = prop(1, "How loud", type="uint8")
"""


def test_a_plugin_deprecates_types_and_properties_of_its_own(load: Load) -> None:
    registry = load(own=OWN).fork()
    with pytest.warns(QomDeprecationWarning) as caught:
        bell = registry.new("my-old-bell", volume=7)
    assert bell.loudness == 7
    assert [m.partition(": ")[2] for m in told(list(caught))] == [
        "type 'my-old-bell' is deprecated since 0.8 and goes in 1.0: use 'my-bell'",
        "property 'my-bell.volume' is deprecated since 0.8 and goes in 1.0: use 'loudness'",
    ]
    assert "my-old-bell" not in default_registry(load_external=False)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("QOM_DEPRECATED = 'my-bell'", "QOM_DEPRECATED is 'my-bell': expected a tuple of Deprecated(...)"),
        (
            "from qom import Deprecated\nQOM_DEPRECATED = (Deprecated('name', 'qom.Object', '1', '2', 'x.Y'),)",
            "QOM_DEPRECATED: name 'qom.Object': expected a type or a property",
        ),
    ],
)
def test_a_wrong_declaration_is_a_broken_plugin(load: Load, source: str, reason: str) -> None:
    (row,) = [r for r in load(wrong=source).plugins if r.name == "old_wrong"]
    assert (row.status, row.reason) == ("broken", reason)


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old_lister.py"
    file.write_text("from qom import OldRegion\n" + OWN)
    try:
        assert qom_main.main(["plugins", "--deprecations", "--no-plugins", "--plugin", str(file)]) == 0
    finally:
        del sys.modules["old_lister"]
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line.split() for line in out.splitlines()]
    assert len(lines) == 1 + len(MADE_UP) + 2
    assert lines[0] == ["what", "name", "since", "until", "instead", "used", "by"]
    assert ["name", "qom.OldRegion", "1.4", "2.0", "qom.hw.Region", str(file)] in lines
    assert ["type", "my-old-bell", "0.8", "1.0", "my-bell", "-"] in lines
    deprecated.TABLE.clear()
    assert qom_main.main(["plugins", "--deprecations", "--no-plugins"]) == 0
    assert capsys.readouterr().out == "Nothing is deprecated.\n"


def test_nothing_outlives_the_version_it_was_to_go_in() -> None:
    real = importlib.import_module("qom.deprecated").TABLE
    assert real is deprecated.TABLE
    for entry in [d for d in real if d not in MADE_UP]:
        since, until = (tuple(int(n) for n in text.split(".")) for text in (entry.since, entry.until))
        assert entry.kind in deprecated.KINDS and until[1] == 0 and since[0] < until[0]
        assert until > API_VERSION, f"{entry} is to be taken away"


def test_using_it_again_costs_little() -> None:
    registry = default_registry(load_external=False)
    looked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "packages_distributions", lambda: looked.append("") or {})
        deprecated._distribution.cache_clear()
        with pytest.warns(QomDeprecationWarning):
            for _ in range(100):
                registry.new("isa-old-serial")
    deprecated._distribution.cache_clear()
    assert len(looked) == 1
