"""The PC as a board: memory, wiring, what firmware is told, and nothing left behind.  No guest runs here."""

from __future__ import annotations

import struct
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pcs import GUESTS, disk_words, image, pc

from qom.errors import QomError
from qom.vm.runstate import RunState

MIB, GIB = 1 << 20, 1 << 30


def test_memory_below_and_above_4_gib() -> None:
    with pc("-m", "6G") as machine:
        memory = machine.vm.machine.system_bus.memory_space
        for address in (0, 0xBFFFFFF0, 4 * GIB, 4 * GIB + 3 * GIB - 16):
            memory.write_bytes(address, b"here we are.....")
            assert memory.read_bytes(address, 16) == b"here we are....."
        assert memory.read(0xC0000000, 4) == 0xFFFFFFFF  # the PCI hole
        assert memory.read(7 * GIB, 4) == 0xFFFFFFFF
        # One block of RAM: the part above 4 GiB follows the part below the hole.
        block = machine.vm.machine.ram.ram_block  # type: ignore[attr-defined]
        assert bytes(block.view[0xC0000000:0xC0000010]) == b"here we are....."


def test_the_reset_vector_lies_in_the_firmware() -> None:
    with pc() as machine:
        memory = machine.vm.machine.system_bus.memory_space
        top = memory.read_bytes(0xFFFFFFF0, 16)
        assert top == memory.read_bytes(0xFFFF0, 16)
        assert top != b"\xff" * 16
        memory.write_bytes(0xFFFF0, b"\0" * 16)  # it is ROM
        assert memory.read_bytes(0xFFFF0, 16) == top


def test_shadow_ram_is_switched_by_pam() -> None:
    with pc() as machine:
        bus = machine.vm.machine.system_bus
        memory, ports = bus.memory_space, bus.io_space
        rom = memory.read_bytes(0xF8000, 16)
        ports.write(0xCF8, 0x80000058, 4)  # PAM0 is byte 59h
        ports.write(0xCFD, 0x30, 1)
        memory.write_bytes(0xF8000, b"shadow shadow sh")
        assert memory.read_bytes(0xF8000, 16) == b"shadow shadow sh"
        ports.write(0xCFD, 0x10, 1)  # read only
        memory.write_bytes(0xF8000, b"\0" * 16)
        assert memory.read_bytes(0xF8000, 16) == b"shadow shadow sh"
        ports.write(0xCFD, 0x00, 1)
        assert memory.read_bytes(0xF8000, 16) == rom


def test_a20_wraps_the_second_megabyte() -> None:
    with pc() as machine:
        bus = machine.vm.machine.system_bus
        memory, ports = bus.memory_space, bus.io_space
        memory.write(0x500, 0x11, 1)
        memory.write(0x100500, 0x22, 1)
        for value in (0xD1, 0xDD):  # keyboard controller: write output port, A20 off
            ports.write(0x64 if value == 0xD1 else 0x60, value, 1)
        ports.write(0x92, 0x00, 1)
        assert memory.read(0x100500, 1) == 0x11
        ports.write(0x92, 0x02, 1)
        assert memory.read(0x100500, 1) == 0x22


def test_interrupt_lines_reach_pic_and_ioapic() -> None:
    with pc() as machine:
        part = machine.part
        part("gsi").line_in(None, 4).set(1)
        assert part("pic").irr & 1 << 4
        assert part("ioapic").levels & 1 << 4
        part("gsi").line_in(None, 4).set(0)
        part("gsi").line_in("board", 9).set(1)
        assert part("pic2").irr & 1 << 1
        part("gsi").line_in("board", 9).set(0)
        part("gsi").line_in(None, 0).set(1)
        assert part("ioapic").levels & 1 << 2


def test_what_the_firmware_is_told() -> None:
    with pc("-m", "5G", "-smp", "4") as machine:
        cfg, rtc = machine.part("fw_cfg"), machine.part("rtc")
        assert struct.iter_unpack("<QQI", cfg.file("etc/e820"))
        ranges = list(struct.iter_unpack("<QQI", cfg.file("etc/e820")))
        assert ranges == [(0, 3 * GIB, 1), (4 * GIB, 2 * GIB, 1)]
        assert rtc.get_cmos(0x5F) == 3
        assert rtc.get_cmos(0x5B) | rtc.get_cmos(0x5C) << 8 | rtc.get_cmos(0x5D) << 16 == 2 * GIB >> 16
        assert rtc.get_cmos(0x34) | rtc.get_cmos(0x35) << 8 == (3 * GIB - 16 * MIB) >> 16


def test_the_clock_shows_the_hosts_date_unless_told_otherwise() -> None:
    with pc() as machine:
        today = datetime.now(UTC)
        assert machine.part("rtc").base[:4] in (str(today.year), str(today.year - 1))
    with pc("-M", "pc,rtc-base=1999-12-31T23:59:00") as machine:
        ports = machine.vm.machine.system_bus.io_space
        ports.write(0x70, 0x09, 1)
        assert ports.read(0x71, 1) == 0x99


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
    with pytest.raises(QomError, match="is no bzImage: no setup header"), pc("-kernel", str(wrong)):
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
        (("-device", "isa-serail"), "did you mean 'isa-serial'?"),
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
