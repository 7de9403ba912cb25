"""Random port and memory accesses at every device in the box: they raise nothing and corrupt nothing.

Every concrete device type of the box is put on a bench (with what it cannot do without), and its ports, memory,
configuration space, input lines and clock are driven at random: more than 100,000 accesses in short sequences that
Hypothesis makes (and shortens when one fails), and as many again in one long sequence for each type, seeded by its name.
Every access is checked to return a number that fits its size; every so often the whole bench is: each declared state
field still has the type, length and range it was declared with, and its saved form loads back into itself.  Beside the
bench stands another of the same registry, which must not change at all; and the RAM of a bench without a DMA master stays
as it was.  Last, a device's declared state is all there is: handed to a fresh device, it goes on alike.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qom import Device, IsaDevice, Object, Region, TypeRegistry, default_registry, state, type_init
from qom.hw import DeviceFault
from qom.hw.address_space import AddressSpace
from qom.hw.bench import PciBench
from qom.hw.pci_bus import PciBus
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
SEQUENCE = 200
PHASES = (Phase.generate, Phase.shrink)
RANGES = {  # of state that is not a 64-bit number, by attribute
    "epoch": (
        -(10**23),
        10**23,
    ),  # nanoseconds from 1970 to any date that fits the clock's registers, year 9999 included
    "first_epoch": (-(10**23), 10**23),
    "isr": (0, (1 << 256) - 1),  # local APIC: one bit for each of 256 vectors
    "irr": (0, (1 << 256) - 1),
    "tmr": (0, (1 << 256) - 1),
}
RAM = 1 << 20
INTERESTING = (
    0,
    1,
    2,
    3,
    0x0A,
    0x0B,
    0x10,
    0x11,
    0x20,
    0x34,
    0x3F,
    0x55,
    0x7F,
    0x80,
    0xAA,
    0xFE,
    0xFF,
    0x30,
    0x90,
    0xA0,
    0xA1,
    0xC4,
    0xC8,
    0xCA,
    0xE0,
    0xE7,
    0xEC,
    0xEF,
    0xF0,
)
REACH_RAM = ("piix3-ide", "i8257", "fw_cfg_io", "i440FX", "a20-gate")  # DMA masters, and what shows RAM elsewhere


# -- putting a device of each type on a bench


def disk(bench: PciBench, scratch: Path, name: str) -> Object:
    image = scratch / f"{name}.img"
    if not image.exists():
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


def floppy_controller(bench: PciBench, type_name: str, scratch: Path) -> Device:
    bench.add("i8257")
    controller: Device = bench.add("isa-fdc")
    for port, value in ((0xD6, 0xC0), (0xD4, 0), (0x0B, 0x56), (0x05, 0xFF), (0x05, 0x03), (0x0A, 2), (0x3F2, 0x1C)):
        bench.outb(port, value)  # channel 2 moves to memory; the chip is out of reset, drive 0 turns
    return controller


def floppy(bench: PciBench, type_name: str, scratch: Path) -> Device:
    controller: Any = floppy_controller(bench, type_name, scratch)
    for n, name in enumerate("ab"):
        made: Device = bench.new("floppy", drive=disk(bench, scratch, name), unit=n)
        made.plug(controller.cable)
        bench.insert(made)
    return made if type_name == "floppy" else controller  # type: ignore[no-any-return]


def fw_cfg(bench: PciBench, type_name: str, scratch: Path) -> Device:
    made = bench.add(type_name)
    made.add_file("etc/test", bytes(range(100)))
    made.add_i32(0x0D, 0x12345678)
    return made  # type: ignore[no-any-return]


def a20_gate(bench: PciBench, type_name: str, scratch: Path) -> Device:
    made: Device = bench.new(type_name)
    made.ram = bench.memory.lookup(0).region  # type: ignore[attr-defined, union-attr]
    return bench.insert(made)  # type: ignore[no-any-return]


class Processor:
    """What a local APIC asks of its processor."""

    is_bootstrap = True
    path = "/processor"

    def __getattr__(self, name: str) -> Callable[..., None]:
        assert name in {
            "raise_interrupt",
            "lower_interrupt",
            "request_nmi",
            "request_smi",
            "request_init",
            "request_sipi",
        }, name
        return lambda *args: None


def local_apic(bench: PciBench, type_name: str, scratch: Path) -> Device:
    made: Any = bench.new(type_name)
    made.cpu, made.apic_bus, made.view = Processor(), bench.add("apic-bus"), bench.sysbus.memory
    return bench.insert(made)  # type: ignore[no-any-return]


def host_function(bench: PciBench, type_name: str, scratch: Path) -> Device:
    host = bench.add("i440FX-pcihost")  # takes the configuration ports over from the bench's own host bridge
    made: Device = bench.new(type_name)
    made.plug(host.pci_bus)
    return bench.insert(made)  # type: ignore[no-any-return]


def ioapic(bench: PciBench, type_name: str, scratch: Path) -> Device:
    local = local_apic(bench, "apic", scratch)
    made: Any = bench.new(type_name)
    made.apic_bus = local.apic_bus  # type: ignore[attr-defined]
    return bench.insert(made)  # type: ignore[no-any-return]


def vga(bench: PciBench, type_name: str, scratch: Path) -> Device:
    return bench.add(type_name, vgamem_mb=1)  # type: ignore[no-any-return]


def vmgenid(bench: PciBench, type_name: str, scratch: Path) -> Device:
    return bench.add(type_name, guid="324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87")  # type: ignore[no-any-return]


RECIPES: dict[str, Callable[[PciBench, str, Path], Device]] = {
    "isa-serial": with_chardev,
    "isa-debugcon": with_chardev,
    "isa-pcspk": port61,
    "ide-hd": ide_disk,
    "isa-ide": ide_controller,
    "piix3-ide": ide_controller,
    "isa-fdc": floppy,
    "floppy": floppy,
    "isa-parallel": with_chardev,
    "fw_cfg_io": fw_cfg,
    "apic": local_apic,
    "ioapic": ioapic,
    "i440FX": host_function,
    "a20-gate": a20_gate,
    "VGA": vga,
    "vmgenid": vmgenid,
}


class Setup:
    """One bench with one device (and what it needs) on it, and all there is to drive."""

    def __init__(self, type_name: str, scratch: Path, registry: TypeRegistry, *types: type) -> None:
        self.bench = bench = PciBench(*types, registry=registry)
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
        buses = [found for found in self.bench.root.walk() if isinstance(found, PciBus)]
        functions = [f"{devfn >> 3:02x}.{devfn & 7}" for devfn in buses[-1].functions]
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


class Dice:
    """Where random numbers come from: a generator, or the digits of one number that Hypothesis chose (0: all zeros)."""

    def __init__(self, source: random.Random | int) -> None:
        self.source = source

    def below(self, limit: int) -> int:
        if isinstance(self.source, int):
            self.source, digit = divmod(self.source, limit)
            return digit
        return self.source.randrange(limit)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def one_in(self, n: int) -> bool:
        return self.below(n) == n - 1


def value_of(dice: Dice, size: int) -> int:
    return dice.pick(INTERESTING) if dice.one_in(2) else dice.below(1 << 8 * size)


def access(setup: Setup, dice: Dice) -> None:
    """One random access (or, now and then, a burst of them, or something that is not an access and is done on top)."""
    bench = setup.bench
    kinds = [k for k, there in (("port", setup.ports), ("memory", setup.memory), ("config", setup.functions)) if there]
    kind = dice.pick(kinds) if kinds else "port"
    is_write = dice.below(2)
    if kind == "config":
        where, size = dice.pick(setup.functions), dice.pick((1, 2, 4))
        offset = dice.below(256) & -size
        if is_write:
            bench.config_write(where, offset, value_of(dice, size), size)
        else:
            got = bench.config_read(where, offset, size)
            assert 0 <= got < 1 << 8 * size
        if dice.one_in(100):
            setup.program_bars()
    else:
        space = bench.ports if kind == "port" else bench.memory
        start, length = dice.pick(setup.ports if kind == "port" else setup.memory) if kinds else (0, 0x10000)
        size = dice.pick((1, 1, 1, 2, 4) if kind == "port" else (4, 4, 4, 1, 2, 8))
        address = start + dice.below(min(length, 0x1000) + 1)
        if not dice.one_in(3):
            address &= -size
        for _ in range(256 if dice.one_in(200) else 1):
            if is_write:
                space.write(address, value_of(dice, size), size)
            else:
                got = space.read(address, size)
                assert isinstance(got, int) and 0 <= got < 1 << 8 * size, (hex(address), size, got)
    if dice.one_in(50):
        bench.clock.step(dice.pick((1, 1000, 100_000, 10_000_000)))
    if dice.one_in(50) and setup.lines:
        dice.pick(setup.lines).set(dice.below(2))
    if dice.one_in(1000):
        reset_tree(bench.machine, dice.pick((Reset.COLD, Reset.WARM)))


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
        low, high = RANGES.get(where.rpartition(" ")[2], (-(1 << 63), (1 << 64) - 1))
        assert low <= value <= high, f"{where}: {value:#x} is outside of {low:#x}..{high:#x}"
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
def test_short_random_sequences_raise_nothing_and_corrupt_nothing(type_name: str, tmp_path: Path) -> None:
    registry = REGISTRY.fork()
    other = Setup(type_name, tmp_path, registry)
    bystander = picture(other)
    done = 0

    @settings(max_examples=-(-EACH // SEQUENCE), deadline=None, database=None, derandomize=True, phases=PHASES)
    @given(st.lists(st.integers(0, (1 << 128) - 1), min_size=SEQUENCE, max_size=SEQUENCE))
    def sequence(numbers: list[int]) -> None:
        nonlocal done
        setup = Setup(type_name, tmp_path, registry)
        for number in numbers:
            access(setup, Dice(number))
            done += 1
        check(setup)
        untouched(setup)
        setup.bench.close()

    sequence()
    assert done >= EACH
    assert picture(other) == bystander, "another bench has changed"
    other.bench.close()


@pytest.mark.parametrize("type_name", TYPES)
def test_one_long_random_sequence_raises_nothing_and_corrupts_nothing(type_name: str, tmp_path: Path) -> None:
    drive(type_name, tmp_path, EACH)


def drive(type_name: str, scratch: Path, count: int, *types: type) -> None:
    registry = REGISTRY.fork()
    setup, other = Setup(type_name, scratch, registry, *types), Setup(type_name, scratch, registry, *types)
    bystander = picture(other)
    dice = Dice(random.Random(type_name))
    for n in range(count):
        access(setup, dice)
        if n % 100 == 0:
            check(setup)
    check(setup)
    untouched(setup)
    assert picture(other) == bystander, "another bench has changed"
    assert bytes(other.ram.view) == bytes(RAM) and other.bench.system.resets == []
    setup.bench.clock.step(1_000_000_000)
    setup.bench.reset()
    check(setup)
    setup.bench.close()
    other.bench.close()
    assert setup.bench.ports.flat_view == []


class Heard:
    """An address space that writes down what is accessed and what is read."""

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, address: int, size: int) -> int:
        value = self.space.read(address, size)
        self.log.append(("read", address, size, value))
        return value

    def write(self, address: int, value: int, size: int) -> None:
        self.log.append(("write", address, size, value))
        self.space.write(address, value, size)


@pytest.mark.parametrize("type_name", TYPES)
def test_declared_state_is_all_there_is(type_name: str, tmp_path: Path) -> None:
    """A fresh device that is given another's saved state, time and RAM answers the same accesses alike."""
    hand_over(type_name, tmp_path)


def hand_over(type_name: str, scratch: Path, *types: type) -> None:
    registry = REGISTRY.fork()
    for seed in range(6):
        old, new = Setup(type_name, scratch, registry, *types), Setup(type_name, scratch, registry, *types)
        generator = random.Random(f"{type_name} {seed}")
        for _ in range(200):
            access(old, Dice(generator))
        new.bench.clock.step(old.bench.clock.now())
        new.ram.view[:] = old.ram.view
        saved = picture(old)
        for found in new.bench.root.walk():
            found.load_state(saved[found.path])
        logs = []
        later = generator.getstate()
        for setup in (old, new):
            ports, memory = Heard(setup.bench.ports), Heard(setup.bench.memory)
            setup.bench.ports, setup.bench.memory = ports, memory  # type: ignore[assignment]
            generator.setstate(later)
            for _ in range(150):
                access(setup, Dice(generator))
            logs.append([*ports.log, *memory.log])
        assert logs[0] == logs[1]
        assert picture(old) == picture(new)


def untouched(setup: Setup) -> None:
    if not any(o.type_name in REACH_RAM for o in setup.bench.root.walk()):
        assert bytes(setup.ram.view) == bytes(RAM), "no device here reaches RAM, yet it has changed"


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
        self.secret = 0  # state that is not declared
        self.isa.map_ports(0x300, Region("bad", 4, self._read, self._write, (1, 4)))

    def save_state(self) -> dict[str, Any]:
        saved = super().save_state()
        return {**saved, "count": self.shared[0]} if self.how == "shared" else saved

    def load_state(self, saved: dict[str, Any]) -> None:
        if self.how != "shared":
            super().load_state(saved)

    def _read(self, offset: int, size: int) -> int:
        if self.how == "hidden":
            return self.secret
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
        elif self.how == "hidden":
            self.secret = value
        elif self.how == "shared":
            self.shared[0] = value & 0xFF


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("", None, ""),
        ("raise", DeviceFault, "write to bad at offset"),
        ("grow", AssertionError, "is outside of"),
        ("type", AssertionError, "count: .* where 0 was declared"),
        ("append", AssertionError, "bytes where 8 were declared"),
        ("memory", AssertionError, "yet it has changed"),
        ("shared", AssertionError, "another bench has changed"),
    ],
)
def test_a_device_with_a_bug_is_noticed(
    how: str, error: type[Exception] | None, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BadDevice, "how", how)
    with pytest.raises(error, match=text) if error is not None else nullcontext():
        drive("bad-device", tmp_path, 1000, BadDevice)


@pytest.mark.parametrize(("how", "error"), [("", None), ("hidden", AssertionError)])
def test_undeclared_state_is_noticed(
    how: str, error: type[Exception] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BadDevice, "how", how)
    with pytest.raises(error) if error is not None else nullcontext():
        hand_over("bad-device", tmp_path, BadDevice)
