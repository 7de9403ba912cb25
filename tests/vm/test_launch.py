"""A machine as an object of a program: from a file, from keywords, from both; nothing is left when it is closed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

import qom
from qom import ConfigError, ConsoleTimeout, LifecycleError, PathError, QomError, RunState, VirtualMachine, open_machine
from qom.hw.isa import IsaDevice

QUIET = {"firmware": "qomfw.bin", "memory": 32}
FILE = """
memory = "16M"
firmware = "qomfw.bin"

[machine]
type = "pc"
accel = "qtest"

[[device]]
driver = "isa-debug-exit"
id = "out"
iobase = 0x501
"""


def descriptors() -> list[str]:
    """What this process has open, the listing itself aside."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return sorted(found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vm.toml"
    path.write_text(FILE)
    return path


def accel_of(vm: VirtualMachine) -> str:
    accel: Any = vm.machine.accel
    return str(accel.type_name)


def test_from_a_file(file: Path) -> None:
    with open_machine(file) as vm:
        assert (vm.machine.ram_size, accel_of(vm)) == (16 << 20, "qtest-accel")
        assert vm.root.resolve("/machine/peripheral/out").iobase == 0x501
        assert vm.run_state is RunState.PRELAUNCH


def test_keywords_come_after_the_file(file: Path) -> None:
    with open_machine(
        file,
        accel="simulated",
        memory="24M",
        smp=2,
        name="both",
        devices=[
            "isa-debugcon,id=debug,iobase=0x402,chardev=d",
            {"driver": "isa-debugcon", "id": "e", "iobase": 0x403},
        ],
        chardevs=["console,id=d"],
        globals={"isa-debugcon.readback": 0x42},
        cpu="qemu32",
    ) as vm:
        assert (vm.machine.ram_size, accel_of(vm), len(vm.cpus)) == (24 << 20, "simulated-accel", 2)
        assert vm.config.name == "both"
        assert vm.cpus[0].type_name == "qemu32-x86_64-cpu"
        assert vm.root.resolve("/machine/peripheral/out").iobase == 0x501
        assert vm.root.resolve("/machine/peripheral/e").readback == 0x42
        vm.ports.write(0x402, ord("!"))
        assert vm.console("d").text == "!"


def test_settings_are_the_other_keys_of_a_file(file: Path) -> None:
    numa = [{"nodeid": 0, "mem": "4M"}, {"nodeid": 1, "mem": "12M"}]
    with open_machine(file, smp=2, settings={"boot": {"menu": True}, "numa": numa, "no-shutdown": True}) as vm:
        assert vm.config.boot == {"menu": True}
        assert [node.mem for node in vm.config.numa] == [4 << 20, 12 << 20]
        assert vm.actions.shutdown == "pause"


def test_keywords_override_entries_of_the_file_by_id(file: Path) -> None:
    with open_machine(file, devices=[{"id": "out", "iobase": 0x601}, "isa-debugcon,id=more,iobase=0x402"]) as vm:
        assert vm.root.resolve("/machine/peripheral/out").iobase == 0x601
        assert [d.id for d in vm.config.devices] == ["out", "more"]
    with pytest.raises(ConfigError) as caught:
        open_machine(file, devices=["isa-debugcon,id=a", "isa-debugcon,id=a"])
    assert str(caught.value) == "devices[1]: device: the id 'a' is given twice, first by devices[0]"
    ini = file.with_suffix(".cfg")
    ini.write_text('[machine]\n  type = "pc"\n  accel = "simulated"\n[memory]\n  size = "8M"\n')
    with open_machine(ini, accel="qtest", cpu="qemu64,-apic") as vm:
        assert (accel_of(vm), vm.machine.ram_size) == ("qtest-accel", 8 << 20)
        assert vm.config.cpu is not None and vm.config.cpu.features == {"apic": False}


def test_a_guest_runs_in_the_background_and_is_heard() -> None:
    with open_machine(**QUIET) as vm:
        assert vm.start() is vm
        assert vm.console().read_until("No bootable device.").startswith("qom firmware")
        assert vm.run_state is RunState.RUNNING
        assert not vm.wait(0)
        vm.stop()
        assert vm.run_state is RunState.PAUSED
        assert vm.cpus[0].registers["rip"] == vm.cpus[0].registers.read()["rip"]
        vm.start()
        vm.request_shutdown("enough", 3)
        assert vm.wait(20)
        assert (vm.exit_status, vm.shutdown_reason) == (3, "enough")
        with pytest.raises(ConsoleTimeout) as caught:
            vm.console().read_until("login:")
        assert str(caught.value).startswith("console 'serial0': no 'login:': the machine has ended (enough); its last")


def test_a_machine_that_ended_runs_again_after_a_reset() -> None:
    with open_machine(**QUIET) as vm:
        for status in (3, 4):
            vm.start()
            assert "No bootable device." in vm.console().read_until("No bootable device.")
            vm.request_shutdown("enough", status)
            assert vm.wait(20)
            assert (vm.exit_status, vm.shutdown_reason) == (status, "enough")
            with pytest.raises(LifecycleError, match="run state cannot go from shutdown to running"):
                vm.start()
            vm.reset()


def test_a_closed_machine_is_not_started() -> None:
    before = set(threading.enumerate())
    vm = open_machine(accel="qtest")
    vm.close()
    with pytest.raises(LifecycleError, match="a virtual machine that was closed cannot run"):
        vm.start()
    assert set(threading.enumerate()) == before


def test_a_console_of_a_machine_that_was_not_started_says_so() -> None:
    with open_machine(accel="qtest") as vm, pytest.raises(ConsoleTimeout) as caught:
        vm.console().wait_line("login")
    assert str(caught.value) == (
        "console 'serial0': no line with 'login': the machine was never started; nothing was written on it"
    )


def test_typing_reaches_the_serial_port() -> None:
    with open_machine(accel="qtest") as vm:
        vm.start()
        vm.console().write("ok")
        assert vm.ports.read(0x3FD) & 1  # data ready
        assert chr(vm.ports.read(0x3F8)) == "o"
        for letter in b"hi\r\n":
            vm.ports.write(0x3F8, letter)
        with vm.lock:
            vm.clock.step(10_000_000)  # type: ignore[attr-defined]  # the time that four letters take
        assert vm.console("serial0").text == "hi\n"


def test_stdio_is_left_to_the_program(file: Path) -> None:
    with open_machine(file, serials=["stdio", "console"], debugcon="stdio") as vm:
        assert sorted(vm.consoles) == ["debugcon", "serial0", "serial1"]
    with open_machine(file, nodefaults=True) as vm:
        assert vm.consoles == {}
        with pytest.raises(PathError) as caught:
            vm.console("serial0")
        assert str(caught.value) == "no console 'serial0'; consoles in memory: none"


def test_devices_come_and_go_while_the_machine_is_there() -> None:
    with open_machine(accel="qtest", types=[Blinker]) as vm:
        vm.start()
        one = vm.add("test-blinker", id="one", addr="05.0")
        two = vm.add("test-blinker", addr="06.0")

        def answer(slot: int) -> int:
            vm.ports.write(0xCF8, 0x80000000 | slot << 11, 4)
            return vm.ports.read(0xCFC, 4)

        assert (answer(5), answer(6), answer(7)) == (0x11111AF4, 0x11111AF4, 0xFFFFFFFF)
        vm.remove("one")
        assert not one.realized and answer(5) == 0xFFFFFFFF
        vm.remove(two)
        assert vm.root.resolve("/machine/peripheral-anon").children() == {}
        for wrong, text in (
            ("one", "/machine/peripheral has no child 'one'"),
            ("/machine/system-bus", "/machine/system-bus: is a system-bus, no device"),
        ):
            with pytest.raises(PathError) as caught:
                vm.remove(wrong)
            assert text in str(caught.value)
        with pytest.raises(ConfigError) as refused:
            vm.add("test-blinkr")
        assert "unknown device type 'test-blinkr'; did you mean 'test-blinker'?" in str(refused.value)
        with pytest.raises(QomError) as bad:
            vm.add("test-blinker", id="1!")
        assert "1!" in str(bad.value)
        assert vm.root.resolve("/machine/peripheral").children() == {}


def test_types_are_added_to_one_machine_only() -> None:
    types = qom.default_registry()
    with open_machine(accel="qtest", registry=types, types=[Blinker], devices=["test-blinker"]):
        assert "test-blinker" not in types
    with pytest.raises(QomError) as caught:
        open_machine(accel="qtest", types=[dict])
    assert "dict" in str(caught.value)


@qom.type_init("test-blinker")
class Blinker(qom.PciDevice):
    vendor_id, device_id, hotpluggable = 0x1AF4, 0x1111, True


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"memory": "64X"}, "memory=: memory: 'size' cannot be '64X'"),
        ({"smp": "cpus=0"}, "smp=: smp: 'cpus' cannot be '0'"),
        ({"accel": "kwm"}, "accel=: unknown accelerator 'kwm'; did you mean 'kvm'?"),
        ({"machine": "pcc"}, "machine=: unknown machine type 'pcc'; did you mean 'pc'"),
        ({"devices": ["isa-debugcom"]}, "devices[0]: unknown device type 'isa-debugcom'; did you mean 'isa-debugcon'"),
        ({"devices": [{"id": "x"}]}, "devices[0]: device: 'driver' is required"),
        ({"devices": [7.5]}, "devices[0]: cannot be 7.5: expected a mapping or an option string"),
        ({"serials": ["tty"]}, "serials[0]: unknown character device 'tty'"),
        ({"globals": {"iobase": 5}}, "globals=: 'iobase': expected TYPE.PROPERTY"),
        ({"globals": {"isa-debugcon.iobas": 5}}, "globals['isa-debugcon.iobas']: 'isa-debugcon' has no property"),
        ({"settings": {"bot": 1}}, "settings['bot']: unknown key 'bot'; did you mean 'boot'"),
        ({"settings": {"boot": {"menu": 7}}}, "settings['boot']: boot: 'menu' cannot be 7"),
        ({"settings": {"memory": 7}, "memory": 8}, "settings['memory']: 'memory' is said by 'memory=', too"),
        ({"variables": {"a": 1}}, "variables=: there is no file that could use variables"),
        ({"firmware": "not-there.bin"}, "firmware=: "),
    ],
)
def test_wrong_keywords_are_named(given: dict[str, Any], text: str) -> None:
    before = descriptors(), threading.active_count()
    with pytest.raises(QomError) as caught:
        open_machine(**{"accel": "qtest", **given})
    assert str(caught.value).startswith(text)
    assert (descriptors(), threading.active_count()) == before


def test_a_wrong_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "vm.toml"
    with pytest.raises(ConfigError) as caught:
        open_machine(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"
    path.write_text('[machine]\ntype = "pc"\n\n[[device]]\ndriver = "isa-debugcom"\n')
    with pytest.raises(ConfigError) as caught:
        open_machine(path, accel="qtest")
    assert str(caught.value).startswith(f"{path}:4")


def test_no_thread_and_no_descriptor_is_left() -> None:
    with open_machine(accel="qtest"):  # what is loaded only once is loaded now
        pass
    before = descriptors(), set(threading.enumerate())
    with open_machine(**QUIET, smp=2) as vm:
        vm.start()
        vm.console().read_until("No bootable")
    assert (descriptors(), set(threading.enumerate())) == before
    with pytest.raises(KeyError), open_machine(**QUIET) as vm:
        vm.start()
        raise KeyError
    assert (descriptors(), set(threading.enumerate())) == before
    vm.close()
    with pytest.raises(LifecycleError) as caught:
        vm.start()
    assert str(caught.value) == "a virtual machine that was closed cannot run"
    assert (descriptors(), set(threading.enumerate())) == before


def test_a_device_that_cannot_be_taken_out_does_not_keep_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    types = qom.default_registry()
    types.register(Clinging, "tests")
    with open_machine(accel="qtest"):
        pass
    before = descriptors(), set(threading.enumerate())
    with open_machine(accel="qtest", devices=["test-clinging"], registry=types):
        pass
    assert (descriptors(), set(threading.enumerate())) == before
    told = (
        "qom: machine: while it was closed: /machine/peripheral-anon/test-clinging: unrealize raised RuntimeError: no;"
    )
    assert capsys.readouterr().err.startswith(told)


@qom.type_init("test-clinging")
class Clinging(IsaDevice):
    def unrealize(self) -> None:
        raise RuntimeError("no")
