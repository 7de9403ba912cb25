"""Promise 8.  No singletons: two machines, with two ISA buses and four interrupt controllers, live in one process."""

from __future__ import annotations

import ast
import enum
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from pcs import disk_words, image, pc, registry

from qom import Bus, IsaDevice, Object, TypeRegistry, prop, state, type_init
from qom.properties import Property

ROOT = Path(__file__).parents[2]


def objects(root: Object, kind: str) -> list[Object]:
    return [o for o in root.walk() if o.is_a(kind)]


def test_two_machines_with_two_isa_buses_and_four_interrupt_controllers(tmp_path: Path) -> None:
    disk = disk_words(image(tmp_path, "hello_serial"))
    with pc("-accel", "simulated", *disk) as one, pc("-accel", "simulated", "-m", "64", *disk) as two:
        machines = (one, two)
        assert sum(len(objects(m.vm.root, "isa-bus")) for m in machines) == 2
        assert sum(len(objects(m.vm.root, "isa-i8259")) for m in machines) == 4
        one.start()
        two.start()
        for m in machines:
            m.serial.wait_for("Hello")
        # What is done to one does not reach the other.
        two.vm.stop()
        before = [two.part(name).save_state() for name in ("pic", "pic2", "rtc", "pit")]
        for n in range(16):
            one.part("gsi").line_in(None, n).set(1)
        one.vm.reset()
        assert [two.part(name).save_state() for name in ("pic", "pic2", "rtc", "pit")] == before
        assert one.vm.clock is not two.vm.clock and one.vm.lock is not two.vm.lock
        assert one.vm.registry is not two.vm.registry
        shared = {id(o) for o in one.vm.root.walk()} & {id(o) for o in two.vm.root.walk()}
        assert shared == set()


def test_the_end_of_one_is_not_the_end_of_the_other(tmp_path: Path) -> None:
    disk = disk_words(image(tmp_path, "hello_serial"))
    with pc(*disk) as one:
        with pc(*disk) as two:
            two.start()
            two.serial.wait_for("Hello")
            two.vm.vcpu_failed(two.vm.cpus[0], "made to fail")
            assert two.vm.wait(60) and two.vm.exit_status == 1
        one.start()
        one.serial.wait_for("Hello")
        assert one.vm.failure is None


PACKAGES = ("qom", "accel", "plugins", "machines")
CACHES = {
    "qom.board.files._read",  # board files as read, by path and time of change
    "qom.config.expand._parsed",  # arithmetic as parsed, by its text
    "qom.deprecated._distribution",  # names of distributions, by module
    "qom.deprecated.uses",  # what was used of what will go, for the report of the process
}


def held(value: object, depth: int = 0) -> object:
    """What a module or a class holds: containers and instances of ours by their contents, the rest by identity."""
    if depth < 4:
        if isinstance(value, Mapping):
            return [(held(key, 4), held(inner, depth + 1)) for key, inner in list(value.items())]
        if isinstance(value, list | tuple | set | frozenset | deque):
            return [held(inner, depth + 1) for inner in value]
        if isinstance(value, bytearray):
            return bytes(value)
        if type(value).__module__.partition(".")[0] in PACKAGES and not isinstance(value, type | Property | enum.Enum):
            return [id(value), *(held(inner, depth + 1) for inner in getattr(value, "__dict__", {}).values())]
    return value if isinstance(value, str | int | float | bytes | None) else id(value)


def outside_of_machines() -> dict[str, object]:
    """Everything that modules and classes of the tree hold, by name."""
    found: dict[str, object] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in PACKAGES:
            continue
        for attr, value in list(vars(module).items()):
            if attr.startswith("__") or f"{name}.{attr}" in CACHES or isinstance(value, ModuleType):
                continue
            found[f"{name}.{attr}"] = held(value)
            if isinstance(value, type) and value.__module__ == name:
                mine = {key: inner for key, inner in vars(value).items() if not key.startswith("__")}
                found |= {f"{name}.{attr}.{key}": held(inner) for key, inner in mine.items()}
    return found


def test_a_machine_leaves_modules_and_classes_as_they_are(tmp_path: Path) -> None:
    """What lives belongs to an object: no list, table, cache or attribute of a class knows that a machine was there."""
    disk = disk_words(image(tmp_path, "hello_serial"))

    def live(*words: str) -> None:
        with pc("-accel", "simulated", *words, *disk) as machine:
            machine.vm.observe.accesses(lambda access: None)
            machine.start()
            machine.serial.wait_for("Hello")
            machine.vm.ports.read(0x501, 4)
            machine.vm.reset()
            machine.vm.dump()

    live()  # imports what is imported when it is used, and initialises classes
    before = outside_of_machines()
    live("-m", "64", "-global", "isa-debugcon.readback=7", "-device", "isa-serial,id=another")
    after = outside_of_machines()
    assert len(before) > 2000
    assert [name for name in before if name not in after or before[name] != after[name]] == []


def test_two_machines_of_one_registry() -> None:
    types = registry()
    words = ("-accel", "qtest", "-device", "promise-diary,id=d")
    types.register(Diary, "a third party")
    heard: list[str] = []
    with pc(*words, "-global", "promise-diary.pages=9", types=types) as one, pc(*words, types=types) as two:
        mine, other = (m.vm.root.resolve("/machine/peripheral/d") for m in (one, two))
        assert (mine.pages, other.pages) == (9, 1), "a default for one machine"
        one.vm.observe.accesses(lambda access: heard.append("one"))
        two.vm.ports.read(0x70, 1)
        assert heard == [], "an observer of one machine"
        one.vm.ports.read(0x70, 1)
        assert heard == ["one"]
        for name in ("labels", "notes"):
            getattr(mine, name).append("x")
            assert getattr(other, name) == [], "a list that starts empty"
        logged = len(two.vm.log_lines)
        for device in (mine, other):
            device.guest_error("same", "the same mistake")
        assert len(two.vm.log_lines) == logged + 1, "what one guest did wrong"
        assert one.vm.registry is not types and one.vm.registry.get("promise-diary") is not types.get("promise-diary")


@type_init("promise-diary")
class Diary(IsaDevice):
    """Keeps lists."""

    pages: int = prop(1, "How many pages")
    labels: list[str] = prop([], "What is on them", type="list<str>")
    notes: list[str] = state(factory=list)


def test_registries_do_not_know_of_each_other() -> None:
    one, two = TypeRegistry(), TypeRegistry()
    one.register(Bus)
    assert "bus" in one and "bus" not in two
    fork = one.fork()
    fork.alias("Omnibus", "bus")
    assert "Omnibus" in fork and "Omnibus" not in one


def test_nothing_in_the_tree_rebinds_a_global() -> None:
    """No `global` statement: a module holds what is constant, and everything that lives belongs to an object."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for top in ("qom", "accel", "plugins", "machines")
        for path in sorted((ROOT / top).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Global)
    ]
    assert found == []
