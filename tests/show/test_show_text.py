"""A machine as text: everything is there once, with its address and its lines."""

from __future__ import annotations

import os
import re

import pytest

from plugins.firmware import EMBEDDED
from qom import Device
from qom.cli.options import CommandLine
from qom.cli.system import machine
from qom.hw import Bus, Route, SharedLine
from qom.hw.bench import IsaBench, PciBench
from qom.show import bus_text, memory_text, tree_text, wires, wiring_text
from qom.vm.vm import VirtualMachine


def test_the_tree_has_every_object_once(pc: VirtualMachine) -> None:
    lines = tree_text(pc.root).splitlines()
    shown = [(len(line) - len(line.lstrip()), line.split()[0]) for line in lines]
    paths, stack = [], []
    for indent, name in shown:
        del stack[indent // 2 :]
        stack.append(name.strip("/"))
        paths.append("/" + "/".join(stack[1:]))
    assert paths == [o.path for o in pc.root.walk()]
    assert "  /machine (pc-i440fx-0.1-machine)" in lines


def test_a_part_of_the_tree_with_properties(pc: VirtualMachine) -> None:
    lines = tree_text(pc.machine.child("rtc"), properties=True).splitlines()
    assert lines[0] == "/machine/rtc (mc146818rtc)"
    assert "    iobase = 0x70" in lines and "    bus = /machine/piix3/isa.0" in lines


def test_every_bus_and_device_once_with_its_address(pc: VirtualMachine) -> None:
    text = bus_text(pc)
    for obj in pc.root.walk():
        if isinstance(obj, Bus) or (isinstance(obj, Device) and obj is not pc.machine):
            assert len(re.findall(rf"(?<![\w/]){re.escape(obj.path)} \(", text)) == 1, obj.path
    lines = [line.strip() for line in text.splitlines()]
    assert "ports 3f8-3ff, irq 4: /machine/serial0 (isa-serial)" in lines
    assert "ports 60, 64, irq 1, 12: /machine/i8042 (i8042)" in lines
    assert "01.1: /machine/ide (piix3-ide)" in lines
    assert "/machine/ide/ide.0 (ide-bus, 1 of 2 places taken)" in lines
    assert "unit 0: /machine/ide0-hd0 (ide-hd)" in lines
    assert "memory fec00000-fec00fff: /machine/ioapic (ioapic)" in lines


def test_memory_as_tree_and_flat(pc: VirtualMachine) -> None:
    tree, flat = memory_text(pc), memory_text(pc, flat=True)
    assert tree.count("address-space:") == flat.count("FlatView:") == 2
    assert "alias ram-above-4g @pc.ram 00000000c0000000-000000013fffffff" in tree
    assert "(prio 0, i/o): serial owner:/machine/serial0" in flat


def test_wires_of_the_pc(pc: VirtualMachine) -> None:
    lines = wiring_text(pc).splitlines()
    assert "  ioapic[0-23] -> /machine/ioapic [0-23]" in lines
    assert "  line[0-3] -> /machine/piix3 pirq[0-3]" in lines
    assert "  pic[0] -> /machine/cpu3/lapic (LINT0)" in lines
    assert (
        "  /machine/rtc irq[8] > /machine/piix3/isa.0 irq[8] > /machine/gsi [8] > /machine/pic2 [0], /machine/ioapic [8]"
    ) in lines
    assert "  /machine/pit [0] > /machine/gsi board[0] > /machine/pic [0], /machine/ioapic [2]" in lines


def test_a_wire_is_what_a_level_really_takes(pc: VirtualMachine) -> None:
    """Every pin that `wires` says drives an input does: set it, and the input has the level."""
    checked = 0
    for wire in wires(pc):
        source, target = wire.source.object, wire.target.object
        if wire.kind == "line" and isinstance(source, Device) and isinstance(target, Device):
            assert wire.source.n is not None and wire.target.n is not None
            pin = source.pin_out(wire.source.name, wire.source.n)
            line = target.line_in(wire.target.name, wire.target.n)
            assert pin.line is line
            checked += 1
    assert checked > 40


def test_a_piix3_route_follows_its_register(pc: VirtualMachine) -> None:
    piix3 = pc.machine.child("piix3")

    def inside() -> list[tuple[str, str]]:
        return [(w.source.text, w.target.text) for w in wires(pc) if w.source.object is piix3 and w.kind == "inside"]

    assert inside() == []
    piix3.config_write(0x60, 0x0B, 1)
    try:
        assert inside() == [("pirq[0]", "irq[11]")]
        want = (
            "/machine/pm INTA# > /machine/pcihost/pci.0 line[0] > /machine/piix3 pirq[0] > /machine/piix3/isa.0 irq[11]"
        )
        assert want in wiring_text(pc)
    finally:
        piix3.config_write(0x60, 0x80, 1)


def test_the_empty_machine(none: VirtualMachine) -> None:
    assert wiring_text(none) == "This machine has no interrupt wiring."
    assert bus_text(none) == "/machine/system-bus (system-bus)"
    assert wires(none) == []


def test_a_bus_says_where_a_device_sits() -> None:
    with IsaBench() as bench:
        serial = bench.add("isa-serial")
        assert bench.isa.where(serial) == "ports 3f8-3ff, irq 4"
        assert [d for line in bench.isa.irq_lines for d in line.sources.values()] == [serial]
        serial.set("realized", False)
        assert bench.isa.where(serial) == ""
        assert not any(line.sources for line in bench.isa.irq_lines)
    with PciBench() as bench:
        assert len(bench.pci.irq_lines) == 4


def test_a_shared_line_knows_its_sources_and_its_output() -> None:
    shared = SharedLine(None, "x")
    line = shared.new_input("a")
    assert shared.output is None and shared.sources == {}
    shared.release(line)
    assert shared.inputs == {}
    assert Route(None, line).note == ""


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is not usable here")
def test_controllers_in_the_kernel_are_told_not_wired() -> None:
    words = ["-accel", "kvm,kernel-irqchip=on", "-bios", str(EMBEDDED), "-smp", "2", "-serial", "null"]
    with machine(CommandLine().parse(words).builder.finish(), "test") as vm:
        lines = wiring_text(vm).splitlines()
        assert "  * -> /machine/accel (in the kernel)" in lines and "  * -> /machine/cpu1 (interrupts)" in lines
        assert "  pic[0-15] -> /machine/pic [0-15]" in lines
