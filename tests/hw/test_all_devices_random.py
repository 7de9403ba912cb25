"""Random port and memory accesses at every device in the box: they raise nothing and corrupt nothing.

Every concrete device type of the box is put on a bench (with what it cannot do without), and its ports, memory,
configuration space, input lines and clock are driven at random, more than 100,000 accesses in all.  Every access is
checked to return a number that fits its size; every so often the whole bench is: each declared state field still has the
type, length and sign it was declared with, and its saved form loads back into itself.  Beside the bench stands another
of the same registry, which must not change at all; and the RAM of a bench without a DMA master stays as it was.

The numbers come from a seed that is the type's name, so a failure repeats.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest

from qom import Device, IsaDevice, Object, Region, default_registry, state, type_init
from qom.hw import DeviceFault
from qom.hw.bench import PciBench
from qom.hw.reset import Reset, reset_tree

TOTAL = 100_000
REGISTRY = default_registry(load_external=False)
ELSEWHERE = {
    "machine": "a machine is driven as a whole, in its own tests",
    "cpu": "a processor answers no ports or memory; its APIC is a type of its own",
    "kvm-apic": "is in the kernel and answers through KVM only",
    "kvm-i8259": "is in the kernel and answers through KVM only",
    "kvm-ioapic": "is in the kernel and answers through KVM only",
}
TYPES = [
    found.name
    for found in REGISTRY.types("device", abstract=False)
    if not any(found.name == name or found.is_a(name) for name in ELSEWHERE if name in REGISTRY)
]
EACH = -(-TOTAL // len(TYPES))
RAM = 1 << 20
INTERESTING = (0, 1, 2, 3, 0x0A, 0x0B, 0x10, 0x11, 0x20, 0x34, 0x3F, 0x55, 0x7F, 0x80, 0xAA, 0xFE, 0xFF)
DMA_MASTERS = ("piix3-ide", "i8257", "fw_cfg_io")


# -- putting a device of each type on a bench


def disk(bench: PciBench, scratch: Path, name: str) -> Object:
    image = scratch / f"{name}.img"
    image.write_bytes(bytes(range(256)) * 256)
    drive = bench.new("drive", file=str(image), snapshot=True)
    drive.open()
    bench.root.container("/drives").add_child(name, drive)
    return drive  # type: ignore[no-any-return]


def ringbuf(bench: PciBench) -> Object:
    made = bench.new("chardev-ringbuf", size=256)
    bench.root.container("/chardevs").add_child("ring", made)
    made.open()
    return made  # type: ignore[no-any-return]


def plain(bench: PciBench, type_name: str, scratch: Path) -> Device:
    return bench.add(type_name)  # type: ignore[no-any-return]


def with_chardev(bench: PciBench, type_name: str, scratch: Path) -> Device:
    return bench.add(type_name, chardev=ringbuf(bench))  # type: ignore[no-any-return]


def port61(bench: PciBench, type_name: str, scratch: Path) -> Device:
    return bench.add(type_name, pit=bench.add("isa-pit"))  # type: ignore[no-any-return]


def ide_disk(bench: PciBench, type_name: str, scratch: Path) -> Device:
    controller = bench.add("isa-ide")
    made: Device = bench.new(type_name, drive=disk(bench, scratch, "a"), unit=0)
    made.plug(controller.ide)
    return bench.insert(made)  # type: ignore[no-any-return]


def ide_controller(bench: PciBench, type_name: str, scratch: Path) -> Device:
    controller: Device = bench.add(type_name)
    for n, name in enumerate("ab"):
        made = bench.new("ide-hd", drive=disk(bench, scratch, name), unit=n % 2)
        made.plug(controller.buses()[0])
        bench.insert(made)
    return controller


def fw_cfg(bench: PciBench, type_name: str, scratch: Path) -> Device:
    made = bench.add(type_name)
    made.add_file("etc/test", bytes(range(100)))
    made.add_i32(0x0D, 0x12345678)
    return made  # type: ignore[no-any-return]


def a20_gate(bench: PciBench, type_name: str, scratch: Path) -> Device:
    made: Device = bench.new(type_name)
    made.ram = bench.memory.lookup(0).region  # type: ignore[attr-defined, union-attr]
    return bench.insert(made)  # type: ignore[no-any-return]


def ioapic(bench: PciBench, type_name: str, scratch: Path) -> Device:
    bus = bench.new("apic-bus")
    bench.machine.add_child("apic-bus", bus)
    return bench.add(type_name, apic_bus=bus)  # type: ignore[no-any-return]


RECIPES: dict[str, Callable[[PciBench, str, Path], Device]] = {
    "isa-serial": with_chardev,
    "isa-debugcon": with_chardev,
    "port61": port61,
    "ide-hd": ide_disk,
    "isa-ide": ide_controller,
    "piix3-ide": ide_controller,
    "fw_cfg_io": fw_cfg,
    "ioapic": ioapic,
    "a20-gate": a20_gate,
}


class Setup:
    """One bench with one device (and what it needs) on it, and all there is to drive."""

    def __init__(self, type_name: str, scratch: Path, *types: type) -> None:
        self.bench = bench = PciBench(*types, registry=REGISTRY.fork())
        ram = bench.ram(0, RAM)
        assert ram.ram_block is not None
        self.ram = ram.ram_block
        before = {id(f.region) for f in (*bench.ports.flat_view, *bench.memory.flat_view)}
        self.device = RECIPES.get(type_name, plain)(bench, type_name, scratch)
        self.functions = self.program_bars()
        self.ports = [(f.start, f.size) for f in bench.ports.flat_view if id(f.region) not in before]
        self.memory = [(f.start, f.size) for f in bench.memory.flat_view if id(f.region) not in before]
        below = [o for o in bench.root.walk() if isinstance(o, Device)]
        self.lines = [line for device in below for lines in device.lines().values() for line in lines]

    def program_bars(self) -> list[str]:
        """Give every PCI function's BARs addresses and switch it on, as firmware does."""
        functions = [f"{devfn >> 3:02x}.{devfn & 7}" for devfn in self.bench.pci.functions]
        port, address = 0xC000, 0xE000_0000
        for where in functions:
            for bar in range(6):
                at = 0x10 + 4 * bar
                self.bench.config_write(where, at, 0xFFFF_FFFF)
                mask = self.bench.config_read(where, at)
                if mask & 1 and mask & ~3:
                    self.bench.config_write(where, at, port)
                    port += 0x400
                elif mask & ~15:
                    self.bench.config_write(where, at, address)
                    address += 0x1000_0000
            self.bench.config_write(where, 4, 7, 2)
        return functions


def value_of(rng: random.Random, size: int) -> int:
    return rng.choice(INTERESTING) if rng.random() < 0.5 else rng.getrandbits(8 * size)


def access(setup: Setup, rng: random.Random) -> None:
    """One random access (or, now and then, something that is not an access and is done on top)."""
    bench = setup.bench
    dice = rng.random()
    if dice < 0.02:
        bench.clock.step(rng.choice((1, 1000, 100_000, 10_000_000)))
    elif dice < 0.04 and setup.lines:
        rng.choice(setup.lines).set(rng.getrandbits(1))
    elif dice < 0.041:
        reset_tree(bench.machine, rng.choice((Reset.COLD, Reset.WARM)))
    kinds = [k for k, there in (("port", setup.ports), ("memory", setup.memory), ("config", setup.functions)) if there]
    kind = rng.choice(kinds) if kinds else "port"
    if kind == "config":
        where, size = rng.choice(setup.functions), rng.choice((1, 2, 4))
        offset = rng.randrange(256) & -size
        if rng.random() < 0.5:
            got = bench.config_read(where, offset, size)
            assert 0 <= got < 1 << 8 * size
        else:
            bench.config_write(where, offset, value_of(rng, size), size)
        if rng.random() < 0.02:
            setup.program_bars()
        return
    space = bench.ports if kind == "port" else bench.memory
    start, length = rng.choice(setup.ports if kind == "port" else setup.memory) if kinds else (0, 0x10000)
    size = rng.choice((1, 1, 1, 2, 4) if kind == "port" else (1, 2, 4, 4, 4, 8))
    address = max(0, start + rng.randrange(-1, min(length, 0x1000) + 1))
    if rng.random() < 0.7:
        address &= -size
    if rng.random() < 0.5:
        got = space.read(address, size)
        assert isinstance(got, int) and 0 <= got < 1 << 8 * size, (hex(address), size, got)
    else:
        space.write(address, value_of(rng, size), size)


# -- what must still hold


def fits(value: Any, declared: Any, where: str) -> None:
    """`value` still is what its reset value was: type, sign, length."""
    if declared is None or value is None:
        return
    if isinstance(declared, bool):
        assert isinstance(value, bool), f"{where}: {value!r} where {declared!r} was declared"
    elif isinstance(declared, int):
        assert isinstance(value, int) and not isinstance(value, bool), (
            f"{where}: {value!r} where {declared!r} was declared"
        )
        if declared >= 0:
            assert value < 1 << 64, f"{where}: {value:#x} does not fit in 64 bits"
    else:
        assert type(value) is type(declared), f"{where}: {value!r} where {declared!r} was declared"
        if isinstance(value, bytearray | bytes) and declared:
            assert len(value) == len(declared), f"{where}: {len(value)} bytes where {len(declared)} were declared"
        if isinstance(value, list | deque) and declared:
            assert len(value) == len(declared), f"{where}: {len(value)} items where {len(declared)} were declared"
            for n, (item, first) in enumerate(zip(value, declared, strict=True)):
                fits(item, first, f"{where}[{n}]")
        if isinstance(value, list | deque | bytearray) and not declared:
            assert len(value) <= 1 << 20, f"{where}: grew to {len(value)} items"


def check(setup: Setup) -> None:
    for found in setup.bench.root.walk():
        for attr, field in found.state_fields().items():
            fits(getattr(found, attr), field.value(), f"{found.path}: {attr}")
        saved = found.save_state()
        found.load_state(saved)
        assert found.save_state() == saved, found.path


def picture(setup: Setup) -> dict[str, Any]:
    return {found.path: found.save_state() for found in setup.bench.root.walk()}


@pytest.mark.parametrize("type_name", TYPES)
def test_random_accesses_raise_nothing_and_corrupt_nothing(type_name: str, tmp_path: Path) -> None:
    drive(type_name, tmp_path, EACH)


def drive(type_name: str, scratch: Path, count: int, *types: type) -> None:
    (scratch / "one").mkdir()
    (scratch / "two").mkdir()
    setup, other = Setup(type_name, scratch / "one", *types), Setup(type_name, scratch / "two", *types)
    bystander = picture(other)
    rng = random.Random(type_name)
    masters = any(o.type_name in DMA_MASTERS for o in setup.bench.root.walk())
    for n in range(count):
        access(setup, rng)
        if n % 100 == 0:
            check(setup)
    check(setup)
    assert picture(other) == bystander, "another bench has changed"
    assert bytes(other.ram.view) == bytes(RAM) and other.bench.system.resets == []
    if not masters:
        assert bytes(setup.ram.view) == bytes(RAM), "no device here masters memory, yet RAM has changed"
    setup.bench.clock.step(1_000_000_000)
    setup.bench.reset()
    check(setup)
    setup.bench.close()
    other.bench.close()
    assert setup.bench.ports.flat_view == []


def test_every_type_of_the_box_is_driven_and_the_total_is_reached() -> None:
    left_out = {t.name for t in REGISTRY.types("device", abstract=False)} - set(TYPES)
    for name in left_out:
        assert any(name == known or REGISTRY.is_a(name, known) for known in ELSEWHERE), name
    assert EACH * len(TYPES) >= TOTAL


@type_init("bad-device")
class BadDevice(IsaDevice):
    """Wrong in as many ways as the test is to notice, one at a time."""

    how: ClassVar[str] = ""
    shared: ClassVar[bytearray] = bytearray(4)
    count: int = state()
    table: bytearray = state(factory=lambda: bytearray(8))

    def realize(self) -> None:
        self.isa.map_ports(0x300, Region("bad", 4, self._read, self._write, (1, 4)))

    def save_state(self) -> dict[str, Any]:
        saved = super().save_state()
        return {**saved, "count": self.shared[0]} if self.how == "shared" else saved

    def load_state(self, saved: dict[str, Any]) -> None:
        if self.how != "shared":
            super().load_state(saved)

    def _read(self, offset: int, size: int) -> int:
        return self.count if isinstance(self.count, int) else 0

    def _write(self, offset: int, value: int, size: int) -> None:
        if self.how == "raise":
            self.table[offset * 4] = value
        elif self.how == "grow":
            self.count = self.count << 32 | value
        elif self.how == "type":
            self.count = None if value == 3 else str(value)  # type: ignore[assignment]
        elif self.how == "append":
            self.table.append(value & 0xFF)
        elif self.how == "memory":
            self.dma.write(0x1234, value, 1)
        elif self.how == "shared":
            self.shared[0] = value & 0xFF


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("", None, ""),
        ("raise", DeviceFault, "write to bad at offset"),
        ("grow", AssertionError, "does not fit in 64 bits"),
        ("type", AssertionError, "count: .* where 0 was declared"),
        ("append", AssertionError, "bytes where 8 were declared"),
        ("memory", AssertionError, "yet RAM has changed"),
        ("shared", AssertionError, "another bench has changed"),
    ],
)
def test_a_device_with_a_bug_is_noticed(
    how: str, error: type[Exception] | None, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BadDevice, "how", how)
    with pytest.raises(error, match=text) if error is not None else nullcontext():
        drive("bad-device", tmp_path, 1000, BadDevice)
