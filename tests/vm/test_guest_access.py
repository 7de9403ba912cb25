"""Memory, ports and registers of a guest, from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qom import LifecycleError, QomError, VirtualMachine, open_machine

# in real mode at 0000:1000: mov eax, 12345678h; inc word [2000h]; jmp to the inc
LOOP = bytes.fromhex("66 b8 78 56 34 12  ff 06 00 20  eb fa")


@pytest.fixture
def vm() -> Iterator[VirtualMachine]:
    with open_machine(accel="simulated", memory=16, firmware="qomfw.bin") as made:
        yield made


@pytest.fixture
def still() -> Iterator[VirtualMachine]:
    with open_machine(accel="qtest", memory=16) as made:
        yield made


def test_memory_is_read_and_written_as_numbers_and_as_bytes(still: VirtualMachine) -> None:
    memory = still.memory
    memory.write(0x5000, 0x1122334455667788, 8)
    assert memory.read(0x5000, 4) == 0x55667788
    assert memory[0x5000] == 0x88
    assert memory[0x5002:0x5004] == b"\x66\x55"
    memory[0x5000:0x5003] = b"abc"
    memory[0x5003] = 0x64
    assert memory.read_bytes(0x5000, 5) == b"abcd\x44"
    memory.write_bytes(0x6000, memoryview(b"xyz"))
    assert memory[0x6000:0x6003] == b"xyz"
    assert repr(memory) == "<GuestMemory: 0x10000000000000000 bytes>"


def test_ports_are_devices(still: VirtualMachine) -> None:
    still.ports.write(0x70, 0x0D)
    assert still.ports.read(0x71) == 0x80
    still.ports.write(0xCF8, 0x80000000, 4)
    assert still.ports.read(0xCFC, 4) == 0x12378086
    assert repr(still.ports) == "<GuestPorts: 0x10000 bytes>"


def test_what_cannot_be_accessed_is_said(still: VirtualMachine) -> None:
    memory, ports = still.memory, still.ports
    for act, text in (
        (lambda: ports.read(0x70, 3), "port 0x70: size cannot be 3: expected one of 1, 2, 4 bytes"),
        (lambda: ports.read(0x70, 8), "port 0x70: size cannot be 8: expected one of 1, 2, 4 bytes"),
        (lambda: ports.read(0x10000), "port 0x10000, 1 bytes: expected addresses from 0 to 0xffff"),
        (lambda: ports.write(0x70, 0x100), "port 0x70: 0x100 does not fit into 1 bytes"),
        (lambda: memory.read(-1), "address -0x1, 1 bytes: expected addresses from 0 to 0xffffffffffffffff"),
        (lambda: memory[0x10:], "a range of memory needs both its ends and no step: expected memory[first:end]"),
        (lambda: memory.__setitem__(slice(0, 4), b"abc"), "address 0x0: 3 bytes do not fit a range of 4"),
        (lambda: memory.__setitem__(slice(0, 4), 5), "a range of memory cannot be 5: expected bytes"),
        (lambda: memory.__setitem__(4, b"a"), "address 0x4: cannot be b'a': expected a number from 0 to 255"),
    ):
        with pytest.raises(QomError) as caught:
            act()  # type: ignore[no-untyped-call]
        assert str(caught.value) == text


def test_registers_have_their_names(still: VirtualMachine) -> None:
    regs = still.cpus[0].registers
    assert (regs["rip"], regs["cs"], regs["cs.base"], regs["cr0"]) == (0xFFF0, 0xF000, 0xFFFF0000, 0x60000010)
    assert {"rax", "r15", "rflags", "gs.limit", "gdt.base", "efer"} < set(regs)
    assert len(regs) == len(list(regs))
    regs["ebx"] = 0xFFFFFFFF
    regs.set(rcx=5, eip=0x1000)
    regs.set({"cs": 0, "cs.base": 0, "cr3": 0x3000})
    assert (regs["rbx"], regs["ecx"], regs["rip"]) == (0xFFFFFFFF, 5, 0x1000)
    assert (regs["cs"], regs["cs.base"], regs["cr3"]) == (0, 0, 0x3000)
    assert "   rip=0000000000001000" in repr(regs)


def test_wrong_registers_are_said(still: VirtualMachine) -> None:
    regs = still.cpus[0].registers
    before = regs.read()
    for act, text in (
        (lambda: regs["rflag"], "/machine/cpu0: no register 'rflag'; did you mean 'rflags' or 'eflags'?"),
        (lambda: regs.set(rax=1, exx=2), "/machine/cpu0: no register 'exx'; did you mean 'edx' or 'ecx' or 'ebx'?"),
        (lambda: regs.set(cs=0x10000), "/machine/cpu0: register 'cs' cannot be 0x10000: expected 16 bits"),
        (lambda: regs.set(eax=1 << 32), "/machine/cpu0: register 'eax' cannot be 0x100000000: expected 32 bits"),
        (lambda: regs.pop("rax"), "/machine/cpu0: register 'rax' cannot be deleted"),
    ):
        with pytest.raises(QomError) as caught:
            act()  # type: ignore[no-untyped-call]
        assert str(caught.value) == text
    assert regs.read() == before


def test_a_running_guest_is_seen_and_steered(vm: VirtualMachine) -> None:
    vm.start()
    vm.console().read_until("No bootable device.")  # it halts, and would for ever
    vm.stop()
    vm.memory[0x1000 : 0x1000 + len(LOOP)] = LOOP
    vm.memory.write(0x2000, 0, 2)
    regs = vm.cpus[0].registers
    regs.set({"cs": 0, "cs.base": 0, "rip": 0x1000, "ds": 0, "ds.base": 0, "rflags": 2})
    vm.cpus[0].halted = False
    vm.start()
    seen = vm.memory.read(0x2000, 2)
    while vm.memory.read(0x2000, 2) == seen:
        pass
    assert regs["eax"] == 0x12345678
    assert regs["rip"] in (0x1006, 0x100A)
    regs["rip"] = 0x1000  # while it runs
    assert 0x1000 <= regs["rip"] < 0x100C


def test_a_closed_machine_has_no_registers() -> None:
    with open_machine(accel="qtest") as vm:
        cpu = vm.cpus[0]
    with pytest.raises(LifecycleError) as caught:
        cpu.registers.read()
    assert "has no registers: its vCPU has ended" in str(caught.value)
