"""How an accelerator is chosen, and what its class says."""

from types import SimpleNamespace
from typing import Any

import pytest
from accel_board import TestBoard

from accel import Accel, AccelClass, configure_accelerator
from accel.kvm.kvm_accel import KvmAccel
from accel.simulated.simulated_accel import SimulatedAccel
from qom.errors import AccelError, ConfigError
from qom.hw.bus import SystemBus
from qom.object import Root
from qom.registry import TypeRegistry, type_init


@type_init("broken-accel")
class BrokenAccel(Accel):
    """Never works."""

    @classmethod
    def class_init(cls) -> None:
        cls.desc = "Never works"
        cls.accel_class = AccelClass("Broken", broken_init)


def broken_init(accel: Any, machine: Any) -> None:
    raise AccelError("broken: no such hardware")


@type_init("dummy-accel")
class DummyAccel(Accel):
    """Always works."""

    @classmethod
    def class_init(cls) -> None:
        cls.desc = "Always works"
        cls.accel_class = AccelClass("Dummy", dummy_init)


def dummy_init(accel: Any, machine: Any) -> None:
    machine.started_by = accel


def make_machine() -> Any:
    registry = TypeRegistry()
    for cls in (Accel, KvmAccel, SimulatedAccel, SystemBus, TestBoard, BrokenAccel, DummyAccel):
        registry.register(cls, origin="test")
    machine = registry.new("test-board")
    Root(registry).add_child("machine", machine)
    return machine


def choice(name: str, **options: Any) -> SimpleNamespace:
    return SimpleNamespace(name=name, options=options, origin="-accel")


def test_registration_initialises_no_class() -> None:
    registry = TypeRegistry()
    registry.register(KvmAccel)
    assert not registry.get("kvm-accel").initialised
    assert registry.class_of("kvm-accel").accel_class.name == "KVM"


def test_class_init_fills_name_init_machine_and_allowed() -> None:
    registry = make_machine().registry
    facts = registry.class_of("kvm-accel").accel_class
    assert (facts.name, facts.init_machine.__name__, facts.allowed) == ("KVM", "kvm_init", True)
    facts = registry.class_of("simulated-accel").accel_class
    assert (facts.name, facts.init_machine.__name__, facts.allowed) == ("simulated", "simulated_init", True)


def test_the_first_that_works_is_taken() -> None:
    machine = make_machine()
    accel = configure_accelerator(machine, [choice("broken:dummy")])
    assert accel.type_name == "dummy-accel"
    assert accel.path == "/machine/accel"
    assert machine.started_by is accel


def test_choices_are_tried_in_order() -> None:
    machine = make_machine()
    assert configure_accelerator(machine, [choice("broken"), choice("dummy")]).type_name == "dummy-accel"


def test_none_usable_says_why_for_each() -> None:
    machine = make_machine()
    DummyAccel.accel_class.allowed = False
    try:
        with pytest.raises(AccelError) as caught:
            configure_accelerator(machine, [choice("broken:dummy")])
    finally:
        DummyAccel.accel_class.allowed = True
    assert str(caught.value) == (
        "none of the accelerators broken, dummy can be used here: "
        "broken: no such hardware; dummy: not allowed in this program"
    )
    assert "accel" not in machine.children()


def test_one_unusable_accelerator_says_why() -> None:
    with pytest.raises(AccelError, match=r"^accelerator 'broken' cannot be used here: broken: no such hardware$"):
        configure_accelerator(make_machine(), [choice("broken")])


def test_unknown_accelerator_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError) as caught:
        configure_accelerator(make_machine(), [choice("kmv")])
    assert str(caught.value) == (
        "-accel: unknown accelerator 'kmv'; did you mean 'kvm'?; there are: broken, dummy, kvm, simulated"
    )


def test_wrong_option_names_option_and_value() -> None:
    with pytest.raises(ConfigError) as caught:
        configure_accelerator(make_machine(), [choice("kvm", **{"kernel-irqchip": "maybe"})])
    text = str(caught.value)
    assert text.startswith("-accel: accelerator 'kvm': ")
    assert "'kernel-irqchip' cannot be 'maybe'" in text and "on" in text and "split" in text


def test_missing_device_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.kvm.kvm_accel.KvmSystem", lambda: _missing())
    accel = configure_accelerator(make_machine(), [choice("kvm:dummy")])
    assert accel.type_name == "dummy-accel"


def _missing() -> None:
    raise AccelError("kvm: cannot open /dev/kvm: No such file or directory")


@pytest.mark.parametrize("name", ["kvm", "simulated"])
def test_start_and_stop_leave_nothing_open(name: str) -> None:
    machine = make_machine()
    try:
        accel = configure_accelerator(machine, [choice(name)])
    except AccelError as error:
        pytest.skip(str(error))
    system = accel.system
    assert system is not None and not system.closed
    machine.child("accel").unparent()
    assert system.closed and accel.vm is None
    assert machine.system_bus.memory_space._listeners == []
