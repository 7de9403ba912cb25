"""Promise 8.  No singletons: two machines, with two ISA buses and four interrupt controllers, live in one process."""

from __future__ import annotations

import ast
from pathlib import Path

from pcs import disk_words, image, pc

from qom import Bus, Object, TypeRegistry

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
