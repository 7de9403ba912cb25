"""A PC without firmware: the tables in guest memory, found as an operating system finds them, and the chips they describe."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from machines.pc_firmware import PlacedTables, acpi_config, place_tables
from plugins.firmware import acpi, placing
from plugins.firmware.placing import PlacingError
from qom.testing import MachineFactory, TestMachine

MIB, GIB = 1 << 20, 1 << 30


def placed(machine: TestMachine) -> PlacedTables:
    with machine.vm.lock:
        return place_tables(machine.vm.machine)  # type: ignore[arg-type]


def scan(machine: TestMachine, first: int, signature: bytes) -> int:
    """The address of an anchor, by looking at every 16th byte up to 1 MiB."""
    data = machine.memory[first:MIB]
    found = [first + at for at in range(0, len(data), 16) if data[at : at + len(signature)] == signature]
    assert len(found) == 1, (signature, found)
    return found[0]


def table(machine: TestMachine, address: int) -> bytes:
    (length,) = struct.unpack("<I", machine.memory[address + 4 : address + 8])
    data = bytes(machine.memory[address : address + length])
    assert data[:4] == b"FACS" or sum(data) & 0xFF == 0, data[:4]
    return data


@pytest.mark.qom_accel("qtest")
def test_tables_are_found_by_their_anchors(qom_machine: MachineFactory) -> None:
    machine = qom_machine(memory="6G", smp=4)
    where = placed(machine)
    rsdp = scan(machine, placing.FIRST, b"RSD PTR ")
    assert rsdp == where.rsdp
    data = bytes(machine.memory[rsdp : rsdp + 36])
    assert sum(data[:20]) & 0xFF == sum(data) & 0xFF == 0 and data[15] == 2
    rsdt, length, xsdt = struct.unpack_from("<IIQ", data, 16)
    assert length == 36
    short = [address for (address,) in struct.iter_unpack("<I", table(machine, rsdt)[36:])]
    assert short == [address for (address,) in struct.iter_unpack("<Q", table(machine, xsdt)[36:])]
    tables = {(data := table(machine, address))[:4]: data for address in short}
    assert {b"FACP", b"APIC"} <= set(tables)
    facs, dsdt = struct.unpack_from("<II", tables[b"FACP"], 36)
    assert table(machine, facs)[:4] == b"FACS" and table(machine, dsdt)[:4] == b"DSDT" and facs % 64 == 0


@pytest.mark.qom_accel("qtest")
def test_smbios_and_mp_anchors_lead_to_their_tables(qom_machine: MachineFactory) -> None:
    machine = qom_machine(memory="64M", smp=2)
    where = placed(machine)
    assert scan(machine, 0xF0000, b"_SM_") == where.smbios
    entry = bytes(machine.memory[where.smbios : where.smbios + 31])
    assert sum(entry) & 0xFF == sum(entry[16:]) & 0xFF == 0
    length, address, count = struct.unpack_from("<HIH", entry, 22)
    structures = bytes(machine.memory[address : address + length])
    assert structures.endswith(b"\x7f\x04\x00\x7f\0\0") and count > 8
    assert scan(machine, 0xF0000, b"_MP_") == where.mp
    pointer = bytes(machine.memory[where.mp : where.mp + 16])
    assert sum(pointer) & 0xFF == 0
    (address,) = struct.unpack_from("<I", pointer, 4)
    (length,) = struct.unpack("<H", machine.memory[address + 4 : address + 6])
    mp = bytes(machine.memory[address : address + length])
    assert mp[:4] == b"PCMP" and sum(mp) & 0xFF == 0
    (entries,) = struct.unpack_from("<H", mp, 34)
    kinds, at = [], 44
    while at < len(mp):
        kinds.append(mp[at])
        at += 20 if mp[at] == 0 else 8
    assert len(kinds) == entries and kinds[:5] == [0, 0, 1, 1, 2] and at == len(mp)


@pytest.mark.qom_accel("qtest")
def test_the_chips_are_as_the_tables_say(qom_machine: MachineFactory) -> None:
    machine = qom_machine(memory="64M")
    assert machine.inl(0x608) == 0xFFFFFFFF  # no PM registers before
    placed(machine)
    assert machine.inl(0x608) <= 0xFFFFFF  # the PM timer
    assert (machine.inb(0x4D0), machine.inb(0x4D1)) == (0, 0x0E)
    machine.outb(0x0A, 2)
    assert machine.part("dma").ready(2)  # channel 4 passes on what channels 0 to 3 ask for
    machine.outb(0xB2, 0xF1)  # ACPI_ENABLE of the FADT
    assert machine.inw(0x604) & 1
    pirq = machine.part("piix3").config[0x60:0x64]
    assert bytes(pirq) == bytes((10, 10, 11, 11))
    machine.memory[0xE8000:0xE8004] = b"RAM!"
    assert machine.memory[0xE8000:0xE8004] == b"RAM!"


@pytest.mark.qom_accel("qtest")
def test_memory_map(qom_machine: MachineFactory) -> None:
    assert placed(qom_machine(memory="6G")).e820 == [
        (0, 0x9FC00, 1),
        (0x9FC00, 0x400, 2),
        (0xE0000, 0x20000, 2),
        (MIB, 3 * GIB - MIB, 1),
        (4 * GIB, 3 * GIB, 1),
    ]
    assert placed(qom_machine(memory="1M")).e820 == [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xE0000, 0x20000, 2)]


def test_what_does_not_fit() -> None:
    room = placing._Room()
    room.table(bytes(0x1FE00))
    with pytest.raises(PlacingError) as caught:
        room.table(b"x")
    assert str(caught.value) == "tables of 130561 bytes: there is room for 130560 at 0xe0000"
    room.anchor(bytes(0x1E0))
    with pytest.raises(PlacingError) as caught:
        room.anchor(bytes(36))
    assert str(caught.value) == "anchor of 36 bytes: there is room for 16 at 0xfffe0"


@pytest.mark.qom_accel("qtest")
def test_hpet_is_there_and_told_of_unless_switched_off(qom_machine: MachineFactory) -> None:
    machine = qom_machine()
    assert machine.read(0xFED00000, 4) == 0x8086A201
    config = acpi_config(machine.vm.machine)  # type: ignore[arg-type]
    table = acpi.build(config).table("HPET")
    assert struct.unpack_from("<IBBBBQ", table, 36) == (0x8086A201, 0, 64, 0, 0, 0xFED00000)
    without = qom_machine(machine="pc,hpet=off")
    assert without.read(0xFED00000, 4) == 0xFFFFFFFF
    assert acpi_config(without.vm.machine).hpet is None  # type: ignore[arg-type]


@pytest.mark.qom_accel("qtest")
@pytest.mark.parametrize("hpet", ["on", "off"])
def test_the_lines_of_the_timer_and_the_clock(qom_machine: MachineFactory, hpet: str) -> None:
    machine = qom_machine(machine=f"pc,hpet={hpet}")
    timer, clock = machine.irq("pic", 0), machine.irq("pic2", 0)
    machine.outb(0x43, 0x30)
    machine.outb(0x40, 0x10)
    machine.outb(0x40, 0x00)  # one shot
    machine.clock_step(1_000_000)
    assert timer.level == 1
    machine.outb(0x70, 0x0B)
    machine.outb(0x71, 0x12)  # an interrupt at each update
    machine.clock_step(1_100_000_000)
    assert clock.level == 1
    if hpet == "on":
        machine.write(0xFED00010, 3, 4)  # legacy replacement
        assert (timer.level, clock.level) == (0, 0)
        machine.write(0xFED00000 + 0x128, machine.read(0xFED000F0, 4) + 1000, 8)
        machine.write(0xFED00000 + 0x120, 4, 4)
        raised = clock.raised
        machine.clock_step(10_000)
        assert clock.raised == raised + 1 and clock.level == 0


@pytest.mark.qom_accel("qtest")
def test_numa_nodes_are_the_processors_and_the_tables(qom_machine: MachineFactory, tmp_path: Path) -> None:
    node = '[[numa]]\ntype = "node"\nnodeid = {n}\ncpus = "{first}-{last}"\nmem = "{mem}G"\n'
    text = "".join(node.format(n=n, first=2 * n, last=2 * n + 1, mem=2 + 2 * n) for n in range(2))
    file = tmp_path / "numa.toml"
    file.write_text(f'[memory]\nsize = "6G"\n\n[smp]\ncpus = 4\n\n{text}')
    machine = qom_machine(file)
    assert [cpu.node_id for cpu in machine.vm.machine.cpus] == [0, 0, 1, 1]
    srat = acpi.build(acpi_config(machine.vm.machine)).table("SRAT")[48:]  # type: ignore[arg-type]
    processors, memory = [], []
    while srat:
        if srat[0] == 0:
            processors.append((srat[3], srat[2]))
        else:
            memory.append((srat[2], *struct.unpack_from("<QQ", srat, 8)))
        srat = srat[srat[1] :]
    assert processors == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert memory == [(0, 0, 2 * GIB), (1, 2 * GIB, GIB), (1, 4 * GIB, 3 * GIB)]
