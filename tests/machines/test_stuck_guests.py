"""Guests that cannot go on: each ends, resets or loops as on hardware, with a report that names the cause."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from accel.report import Repeats
from qom import VirtualMachine, open_machine

AT = 0x2000


def guest(code: str, **more: Any) -> VirtualMachine:
    """A PC whose processor begins with `code`, in real mode at 0:2000h."""
    made = open_machine(machine="pc", accel="simulated", memory="8M", **more)
    made.memory.write_bytes(AT, bytes.fromhex(code))
    registers = {"cs": 0, "cs.base": 0, "ss": 0, "ss.base": 0, "ds": 0, "ds.base": 0, "rip": AT, "rsp": 0x1F00}
    made.cpus[0].registers.set(registers)
    return made


def warnings(vm: VirtualMachine) -> list[str]:
    return [line.removeprefix("warning: ") for line in vm.log_lines if line.startswith("warning: ")]


def test_a_triple_fault_names_the_faults_and_the_interrupt_table() -> None:
    # lidt [2010h] (limit 0); ud2
    with guest("0f011e1020 0f0b" + "00" * 16, settings={"no-reboot": True}) as vm:
        assert vm.run() == 0
        assert vm.shutdown_reason == "guest-triple-fault"
        (text,) = warnings(vm)
    head = text.splitlines()[0]
    assert head == (
        "/machine/cpu0: triple fault: #UD (invalid opcode), then #GP (general protection), then #GP (general protection);"
        " the interrupt table at 0x0 ends at 0x0, before the entry of #DF; the machine is reset, at 0000:2005"
    )
    assert "code at 0000:2005: 0f 0b" in text


def test_a_triple_fault_for_want_of_a_stack() -> None:
    """Protected mode with a table, and a stack where there is no memory."""
    # lgdt [2040h]; mov eax, cr0; or al, 1; mov cr0, eax; mov ax, 10h; mov ss, ax; mov esp, E0000000h; push eax (32-bit)
    code = "0f01164020 0f20c0 0c01 0f22c0 b81000 8ed0 66bc000000e0 6650"
    with guest(code.replace(" ", ""), settings={"no-reboot": True}) as vm:
        vm.memory.write_bytes(0x2040, bytes.fromhex("1700 50200000"))
        vm.memory.write_bytes(0x2058, bytes.fromhex("ffff0000009bcf00 ffff00000093cf00"))
        vm.memory.write_bytes(0, bytes(0x100))
        vm.memory.write_bytes(0x2000 + len(bytes.fromhex(code)), bytes.fromhex("0f0b"))
        vm.run()
        (text,) = warnings(vm)
    assert "triple fault: " in text and "the stack at 0xdffffffc is not in mapped memory" in text


def test_a_jump_to_where_nothing_is() -> None:
    with guest("ea000000a0") as vm:  # jmp A000h:0, where a PC without a display has nothing
        assert vm.run() == 1
        assert vm.failure is not None
        head = vm.failure.splitlines()[0]
    assert head.startswith(
        "/machine/cpu0: the guest jumped to guest-physical 0xa0000, where 'smram-pci' is, no memory ("
    )
    assert head.endswith(", at a000:0")


def test_a_jump_to_where_nothing_was_ever_has_no_bytes_to_tell() -> None:
    # lgdt [2040h]; mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:50000000h
    code = "0f01164020 0f20c0 0c01 0f22c0 66ea000000500800"
    with guest(code.replace(" ", "")) as vm:
        vm.memory.write_bytes(0x2040, bytes.fromhex("1700 50200000"))
        vm.memory.write_bytes(0x2058, bytes.fromhex("ffff0000009bcf00 ffff00000093cf00"))
        assert vm.run() == 1
        assert vm.failure is not None
        head = vm.failure.splitlines()[0]
    assert head == (
        "/machine/cpu0: the guest jumped to guest-physical 0x50000000, where there is nothing (KVM_EXIT_INTERNAL_ERROR: "
        "an instruction the accelerator cannot emulate), at 0008:50000000"
    )


def test_a_guest_that_only_faults_is_told_and_can_be_ended() -> None:
    """The handler of #UD returns to where the fault was: a processor would do that for ever."""
    told = threading.Event()
    with guest("0f0b cf") as vm:  # ud2; iret
        vm.memory.write_bytes(4 * 6, (AT + 2).to_bytes(4, "little"))
        before = vm.log
        vm.log = lambda category, text: (before(category, text), told.set() if category == "warning" else None)[0]  # type: ignore[method-assign]
        vm.start()
        assert told.wait(30)
        vm.stop()
        (text,) = warnings(vm)
    assert text.splitlines()[0] == (
        "/machine/cpu0: endless fault loop: nothing but #UD (invalid opcode); the guest goes on so, at 0000:2002"
    )


def test_each_triple_fault_is_told(tmp_path: Path) -> None:
    """RAM outlives a reset: the guest counts its starts, and faults elsewhere each time."""
    # inc byte [500h]; lidt [20h]; cmp byte [500h], 1; jne 1f; ud2; 1: cmp byte [500h], 2; jne 2f; ud2; 2: mov dx, 501h;
    # mov al, 0; out dx, al; hlt
    code = "fe060005 0f011e2000 803e000501 7502 0f0b 803e000502 7502 0f0b ba0105 b000 ee f4"
    image = tmp_path / "faults.bin"
    image.write_bytes(bytes.fromhex(code).ljust(0xFFF0, b"\0") + bytes.fromhex("ea000000f0").ljust(16, b"\0"))
    end = ["isa-debug-exit,iobase=0x501"]
    with open_machine(machine="pc", accel="simulated", memory="8M", firmware=str(image), devices=end) as vm:
        assert vm.run() == 1
        heads = [text.splitlines()[0] for text in warnings(vm)]
    assert [head.rpartition("; the machine is reset")[2] for head in heads] == [
        ", at f000:10",
        " (2 times in a row), at f000:19",
    ]


def test_a_row_is_told_by_its_count() -> None:
    second = 1_000_000_000
    repeats = Repeats()
    told = [n for n in range(1, 1201) if repeats.tell(n * 9 * second)]
    assert told == [1, 2, 3, 10, 100, 1000] and repeats.count == 1200
    assert repeats.tell((1200 * 9 + 10) * second) and repeats.count == 1


def test_a_reset_loop_is_told_by_its_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Firmware that triple-faults at once resets for ever."""
    rom = bytes.fromhex("0f01162000 0f0b".replace("0116", "011e")).ljust(0xFFF0, b"\0")  # lidt [20h]; ud2
    image = tmp_path / "stuck.bin"
    image.write_bytes(rom + bytes.fromhex("ea000000f0").ljust(16, b"\0"))
    resets = []
    enough = threading.Event()

    def event(name: str, data: dict[str, Any]) -> None:
        if name == "RESET":
            resets.append(data)
            if len(resets) == 12:
                enough.set()

    with open_machine(machine="pc", accel="simulated", memory="8M", firmware=str(image)) as vm:
        vm.events.append(event)
        vm.start()
        assert enough.wait(30)
        vm.stop()
        told = warnings(vm)
    assert len(told) >= 4 and "reset, at" in told[0] and "reset (2 times in a row), at" in told[1]
    assert "reset (10 times in a row), at" in told[3]
    assert capsys.readouterr().err.count("triple fault") == len(told)
