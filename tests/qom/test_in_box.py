"""The index of what is in the box: as the sources are, and enough to do without their modules until a type is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qom import PluginManager, TypeRegistry, TypeRegistryError, UnknownType, default_registry, indexed
from qom.cli import in_box
from qom.indexed import RENEW, Indexed
from qom.plugins import IN_BOX


def in_a_new_process(code: str) -> object:
    """What `code` prints as JSON at its end, in an interpreter that has imported nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_index_is_what_the_sources_say() -> None:
    assert in_box.FILE.read_text(encoding="utf-8") == in_box.text(), f"it is older than the sources: run `{RENEW}`"


def test_the_index_and_the_sources_make_the_same_registry() -> None:
    managers = PluginManager(load_external=False), PluginManager(load_external=False, whole=True)
    lazy, whole = ([(r.name, r.module, r.status, r.types) for r in m.load()] for m in managers)
    assert lazy == whole

    def facts(registry: TypeRegistry) -> list[object]:
        types = [
            (t.name, t.parent, t.abstract, t.interfaces, t.origin, t.implied, sorted(t.ancestry)) for t in registry
        ]
        return [*types, registry.aliases()]

    assert facts(managers[0].registry) == facts(managers[1].registry)
    for found in managers[0].registry:
        other = managers[1].registry.get(found.name)
        assert (found.module, found.is_record) == (other.module, other.is_record)
        assert (found.python_class, found.info and found.info.name) == (
            other.python_class,
            other.info and other.info.name,
        )


def test_names_and_parents_import_nothing_of_the_box() -> None:
    code = f"""
import json, sys
from qom import default_registry
registry = default_registry(load_external=False).fork()
listed = [t.name for t in registry.types("chardev", abstract=False)]
assert registry.is_a("isa-serial", "isa-device") and "pc-machine" in registry and "chardev-null" in listed
tops = {tuple(p for p in IN_BOX.values() if not p.startswith("qom"))!r}
print(json.dumps(sorted(m for m in sys.modules if m.startswith(tops))))
"""
    assert in_a_new_process(code) == []


def test_a_type_brings_its_own_module_and_no_other() -> None:
    code = """
import json, sys
from qom import default_registry
registry = default_registry(load_external=False)
registry.new("chardev-null")
print(json.dumps(sorted(m for m in sys.modules if m.startswith("plugins."))))
"""
    assert in_a_new_process(code) == ["plugins.char", "plugins.char.null"]


def test_a_record_and_a_board_are_made_when_they_are_needed() -> None:
    registry = default_registry(load_external=False)
    model, board = (
        registry.get("qemu64-x86_64-cpu"),
        registry.get("pc") if "pc" in registry else registry.get("pc-machine"),
    )
    assert model.is_record and model.module == "" and model.loaded_class is None
    assert model.info is not None and model.info.name == "qemu64-x86_64-cpu"
    assert board.properties["hpet"].default is True and board.loaded_class is not None
    fork = registry.fork()
    assert fork.get("qemu64-x86_64-cpu").info is model.info


def test_a_class_that_is_registered_by_hand_is_the_one_expected() -> None:
    from plugins.isa.port92 import Port92

    registry = default_registry(load_external=False)
    found = registry.get("port92")
    assert found.is_of(Port92)
    assert registry.register(Port92) is found and found.loaded_class is Port92
    again = PluginManager(registry, load_external=False)
    assert "port92" in {name for row in again.load() if row.status == "loaded" for name in row.types}


GONE = "qom/in_box.py is older than the sources: run `python -m qom.cli.in_box`"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            Indexed("gone", "object", "plugins.isa.port92", "Gone"),
            f"type 'gone': plugins.isa.port92 has no class Gone; {GONE}",
        ),
        (Indexed("gone", "object", "plugins.cpu.x86", ""), f"type 'gone': plugins.cpu.x86 has no such type; {GONE}"),
        (Indexed("gone", "object", "machines", "none.toml"), f"type 'gone': machines has no such type; {GONE}"),
    ],
)
def test_an_index_with_something_that_has_gone(entry: Indexed, text: str) -> None:
    registry = default_registry(load_external=False)
    registry.expect(entry, "qom")
    for _ in range(2):
        with pytest.raises(TypeRegistryError) as raised:
            registry.get("gone").cls  # noqa: B018
        assert str(raised.value) == text


def test_a_module_that_cannot_be_imported_is_named_with_the_type() -> None:
    registry = default_registry(load_external=False)
    registry.expect(Indexed("gone", "object", "plugins.isa.no_such_chip", "Gone"), "qom")
    with pytest.raises(TypeRegistryError) as raised:
        registry.new("gone")
    assert str(raised.value).startswith(
        "type 'gone' cannot be had: plugins.isa.no_such_chip: ModuleNotFoundError: No module named"
    )


def test_a_type_that_only_the_sources_have_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in indexed_rows() if row[1] != "plugins.isa.port92"]
    monkeypatch.setattr("qom.in_box.IN_BOX", tuple(rows))
    registry = default_registry(load_external=False)
    file = Path(in_box.FILE).parents[1] / "plugins" / "isa" / "port92.py"
    with pytest.raises(UnknownType) as raised:
        registry.get("port92")
    assert str(raised.value) == f"no type 'port92'; {file} marks it, and {indexed.stale()}"
    assert registry.suggest_type("port92", []) == f"; {file} marks it, and {indexed.stale()}"


def test_a_package_the_index_does_not_have_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in indexed_rows() if not row[1].startswith("plugins.isa")]
    monkeypatch.setattr("qom.in_box.IN_BOX", tuple(rows))
    manager = PluginManager(load_external=False)
    (row,) = [row for row in manager.load() if row.name == "isa/port92"]
    assert (row.status, row.types) == ("loaded", ("port92",))


def test_a_module_that_does_more_than_bring_types_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(name, module, None if module == "plugins.isa.port92" else types) for name, module, types in indexed_rows()]
    monkeypatch.setattr("qom.in_box.IN_BOX", tuple(rows))
    manager = PluginManager(load_external=False)
    (row,) = [row for row in manager.load() if row.name == "isa/port92"]
    assert (row.status, row.types) == ("loaded", ("port92",))
    assert manager.registry.get("port92").loaded_class is not None


def test_a_package_that_does_more_than_bring_types_brings_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(name, module, None if module == "plugins.isa" else types) for name, module, types in indexed_rows()]
    monkeypatch.setattr("qom.in_box.IN_BOX", tuple(rows))
    lazy, whole = PluginManager(load_external=False), PluginManager(load_external=False, whole=True)
    assert [(r.name, r.status, r.types) for r in lazy.load()] == [(r.name, r.status, r.types) for r in whole.load()]
    assert lazy.registry.get("port92").loaded_class is not None


def indexed_rows() -> tuple[tuple[str, str, tuple[tuple[object, ...], ...] | None], ...]:
    from qom.in_box import IN_BOX as rows

    return rows
