"""The PC as a board: memory, wiring, what firmware is told, and nothing left behind.  No guest runs here."""

from __future__ import annotations

import struct
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pcs import GUESTS, disk_words, image, pc

from qom.errors import QomError
from qom.testing import MachineFactory
from qom.vm.runstate import RunState

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.qom_accel("qtest")
def test_memory_below_and_above_4_gib(qom_machine: MachineFactory) -> None:
    machine = qom_machine(memory="6G")
    for address in (0, 0xBFFFFFF0, 4 * GIB, 4 * GIB + 3 * GIB - 16):
        machine.memory[address : address + 16] = b"here we are....."
        assert machine.memory[address : address + 16] == b"here we are....."
    assert machine.read(0xC0000000, 4) == 0xFFFFFFFF  # the PCI hole
    assert machine.read(7 * GIB, 4) == 0xFFFFFFFF
    # One block of RAM: the part above 4 GiB follows the part below the hole.
    block = machine.vm.machine.ram.ram_block  # type: ignore[attr-defined]
    assert bytes(block.view[0xC0000000:0xC0000010]) == b"here we are....."


@pytest.mark.qom_accel("qtest")
def test_the_reset_vector_lies_in_the_firmware(qom_machine: MachineFactory) -> None:
    memory = qom_machine().memory
    top = memory[0xFFFFFFF0:0x100000000]
    assert top == memory[0xFFFF0:0x100000]
    assert top != b"\xff" * 16
    memory[0xFFFF0:0x100000] = b"\0" * 16  # it is ROM
    assert memory[0xFFFF0:0x100000] == top


@pytest.mark.qom_accel("qtest")
def test_shadow_ram_is_switched_by_pam(qom_machine: MachineFactory) -> None:
    machine = qom_machine()
    memory, pam0 = machine.memory, 0x59
    rom = memory[0xF8000:0xF8010]
    machine.config_write("00.0", pam0, 0x30, 1)
    memory[0xF8000:0xF8010] = b"shadow shadow sh"
    assert memory[0xF8000:0xF8010] == b"shadow shadow sh"
    machine.config_write("00.0", pam0, 0x10, 1)  # read only
    memory[0xF8000:0xF8010] = b"\0" * 16
    assert memory[0xF8000:0xF8010] == b"shadow shadow sh"
    machine.config_write("00.0", pam0, 0x00, 1)
    assert memory[0xF8000:0xF8010] == rom


@pytest.mark.qom_accel("qtest")
def test_a20_wraps_the_second_megabyte(qom_machine: MachineFactory) -> None:
    machine = qom_machine()
    machine.write(0x500, 0x11, 1)
    machine.write(0x100500, 0x22, 1)
    machine.outb(0x64, 0xD1)  # keyboard controller: write output port ...
    machine.outb(0x60, 0xDD)  # ... A20 off
    machine.outb(0x92, 0x00)
    assert machine.read(0x100500, 1) == 0x11
    machine.outb(0x92, 0x02)
    assert machine.read(0x100500, 1) == 0x22


@pytest.mark.qom_accel("qtest")
def test_interrupt_lines_reach_pic_and_ioapic(qom_machine: MachineFactory) -> None:
    machine = qom_machine()
    gsi = machine.part("gsi")
    with machine.vm.lock:
        gsi.line_in("board", 0).set(0)  # where the timer's output is high after reset
    for line, n, reached in ((None, 4, "pic"), (None, 4, "ioapic"), ("board", 9, "pic2"), (None, 0, "ioapic")):
        irq = machine.irq(reached, {4: 4, 9: 1, 0: 2}[n])
        with machine.vm.lock:
            gsi.line_in(line, n).set(1)
            gsi.line_in(line, n).set(0)
        assert (irq.raised, irq.lowered) == (1, 1), irq


def test_what_the_firmware_is_told() -> None:
    with pc("-m", "5G", "-smp", "4") as machine:
        cfg, rtc = machine.part("fw_cfg"), machine.part("rtc")
        assert struct.iter_unpack("<QQI", cfg.file("etc/e820"))
        ranges = list(struct.iter_unpack("<QQI", cfg.file("etc/e820")))
        assert ranges == [(0, 3 * GIB, 1), (4 * GIB, 2 * GIB, 1)]
        assert rtc.get_cmos(0x5F) == 3
        assert rtc.get_cmos(0x5B) | rtc.get_cmos(0x5C) << 8 | rtc.get_cmos(0x5D) << 16 == 2 * GIB >> 16
        assert rtc.get_cmos(0x34) | rtc.get_cmos(0x35) << 8 == (3 * GIB - 16 * MIB) >> 16


def test_the_clock_shows_the_hosts_date() -> None:
    with pc() as machine:
        today = datetime.now(UTC)
        assert machine.part("rtc").base[:4] in (str(today.year), str(today.year - 1))


@pytest.mark.qom_accel("qtest")
def test_the_clock_shows_the_date_it_is_told(qom_machine: MachineFactory) -> None:
    machine = qom_machine(machine="pc,rtc-base=1999-12-31T23:59:00")
    machine.outb(0x70, 0x09)
    assert machine.inb(0x71) == 0x99


def test_numa_nodes_reach_the_tables() -> None:
    words = ("-smp", "2", "-m", "64M", "-numa", "node,cpus=0,mem=16M", "-numa", "node,cpus=1,mem=48M")
    with pc(*words) as machine:
        tables = machine.part("fw_cfg").file("etc/acpi/tables")
        at = tables.index(b"SRAT")
        length = struct.unpack_from("<I", tables, at + 4)[0]
        srat = tables[at : at + length]
        assert struct.pack("<Q", 48 * MIB) in srat
        assert struct.pack("<Q", 16 * MIB) in srat


def test_a_kernel_becomes_items(tmp_path: Path) -> None:
    wrong = tmp_path / "kernel"
    wrong.write_bytes(b"no kernel" * 100)
    with pytest.raises(QomError, match="is of no known kind: expected a Linux bzImage"), pc("-kernel", str(wrong)):
        pass


def test_parts_have_stable_names() -> None:
    with pc("-smp", "2") as one, pc("-smp", "2", "-hda", str(GUESTS / "hello_serial.bin"), "-snapshot") as two:
        paths = [{obj.path for obj in machine.vm.machine.walk()} for machine in (one, two)]
        assert paths[0] - paths[1] == set()
        assert {p for p in paths[1] - paths[0]} == {"/machine/ide0-hd0"}


def test_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pc("-smp", "3", *disk_words(image(tmp_path, "hello_serial"))) as machine:
        vm = machine.vm
        assert threading.active_count() == threads + 3
        space = vm.machine.system_bus.memory_space
    assert threading.active_count() == threads
    assert not list(space.flat_view)
    assert not vm.machine.realized
    assert vm.root.container("/chardevs").children() == {}


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    threads = threading.active_count()
    words = ("-smp", "2", "-device", "isa-serial,iobase=0x3f8", "-device", "isa-serial,iobase=0x3f8")
    with pytest.raises(QomError) as caught, pc(*words):
        pass
    assert "0x3f8" in str(caught.value)
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-m", "64k"), "a PC needs at least 1 MiB"),
        (("-M", "pcc"), "unknown machine type 'pcc'; did you mean 'pc'?"),
        (("-cpu", "qemu65"), "unknown processor model 'qemu65'; did you mean 'qemu64'"),
        (("-cpu", "qemu64,+ssse4"), "'ssse4'"),
        (("-smp", "65"), "has room for 64"),
        (("-device", "isa-serail"), "did you mean 'isa-serial' or 'isa-parallel'?"),
        (("-device", "isa-serial,bus=nowhere"), "bus 'nowhere' not found"),
        (("-device", "isa-serial,index=9"), "index"),
        (("-bios", "/nonexistent"), "/nonexistent"),
        (("-drive", "file=/nonexistent.img,format=raw"), "/nonexistent.img"),
        (("-device", "i440FX"), "is not a device that can be added by hand"),
        (("-accel", "kvmm"), "unknown accelerator 'kvmm'; did you mean 'kvm'"),
    ],
)
def test_wrong_configurations_say_what_is_wrong(words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(QomError) as caught, pc(*words):
        pass
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_run_state_before_start() -> None:
    with pc() as machine:
        assert machine.vm.run_state is RunState.PRELAUNCH
        assert all(cpu.stop and cpu.stopped for cpu in machine.vm.cpus)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("6T", "-m 6T: a PC with 6T of memory does not fit into the 40 bits that guest-physical addresses have here:"
         " expected at most 1023G"),
        ("1T", "-m 1T: a PC with 1T of memory does not fit into the 40 bits that guest-physical addresses have here:"
         " expected at most 1023G"),
    ],
)  # fmt: skip
def test_more_memory_than_the_processors_have_addresses_for(memory: str, message: str) -> None:
    with pytest.raises(QomError) as caught, pc("-m", memory):
        pass
    assert str(caught.value) == message
