"""Real firmware and boot sectors on whole machines, on both accelerators."""

from __future__ import annotations

import time
import traceback
import uuid
from pathlib import Path
from typing import Any

import pytest
from pcs import ACCELERATORS, PATIENCE, disk_words, image, need, need_seabios, pc

import qom.vm.vcpu
from plugins.firmware import DEMO_DISK
from qom.hw.address_space import AddressSpace

HELLO = "Hello"
REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip", "rflags")
LOG_PORTS = (0x402, 0x80)
Write = tuple[int, int, int]  # port, size in bytes, value


@pytest.mark.slow
@pytest.mark.parametrize("smp", [1, 4])
@pytest.mark.parametrize("accel", ACCELERATORS)
def test_seabios_without_a_disk(accel: str, smp: int) -> None:
    with pc("-accel", need(accel), "-smp", str(smp), bios=need_seabios()) as machine:
        machine.start()
        machine.debug.wait_for("No bootable device.")
        text = machine.debug.text()
        assert "SeaBIOS (version 1.16" in text
        assert f"Found {smp} cpu(s) max supported {smp} cpu(s)" in text
        assert not [line for line in text.splitlines() if "WARNING" in line or "Unable" in line]


def test_seabios_puts_the_generation_id_into_memory() -> None:
    guid = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
    with pc("-device", f"vmgenid,id=generation,guid={guid}", bios=need_seabios()) as machine:
        machine.start()
        machine.debug.wait_for("No bootable device.")
        address = machine.vm.root.resolve("/machine/peripheral/generation").address
        assert address & 0xFFF == 40
        assert machine.vm.memory.read_bytes(address, 16) == uuid.UUID(guid).bytes_le


@pytest.mark.slow
@pytest.mark.parametrize("smp", [1, 4])
@pytest.mark.parametrize("accel", ACCELERATORS)
def test_seabios_boots_a_disk(accel: str, smp: int, tmp_path: Path) -> None:
    disk = image(tmp_path, "hello_serial")
    with pc("-accel", need(accel), "-smp", str(smp), *disk_words(disk), bios=need_seabios()) as machine:
        machine.start()
        machine.serial.wait_for(HELLO)
        assert "Booting from Hard Disk..." in machine.debug.text()


@pytest.mark.parametrize("kib", [160, 360, 720, 1200, 1440, 2880])
def test_seabios_boots_a_floppy(kib: int, tmp_path: Path) -> None:
    floppy = image(tmp_path, "hello_serial", kib * 2)
    with pc("-accel", "simulated", "-fda", str(floppy), bios=need_seabios()) as machine:
        machine.start()
        machine.serial.wait_for(HELLO)
        assert "Booting from Floppy..." in machine.debug.text()


@pytest.mark.parametrize(("order", "device"), [("a", "Floppy"), ("c", "Hard Disk")])
def test_the_boot_order_chooses_between_floppy_and_disk(order: str, device: str, tmp_path: Path) -> None:
    floppy, disk = image(tmp_path, "hello_serial", 2880), tmp_path / "disk.img"
    disk.write_bytes(floppy.read_bytes())
    words = ("-fda", str(floppy), "-boot", order, *disk_words(disk))
    with pc("-accel", "simulated", *words, bios=need_seabios()) as machine:
        machine.start()
        machine.serial.wait_for(HELLO)
        assert f"Booting from {device}..." in machine.debug.text()


def test_seabios_passes_over_an_empty_floppy_drive(tmp_path: Path) -> None:
    disk = image(tmp_path, "hello_serial")
    words = ("-device", "floppy,unit=0,bus=floppy-bus.0", "-boot", "ac", *disk_words(disk))
    with pc("-accel", "simulated", *words, bios=need_seabios()) as machine:
        machine.start()
        machine.serial.wait_for(HELLO)
        text = machine.debug.text()
        assert "Booting from Floppy..." in text and "Booting from Hard Disk..." in text


@pytest.mark.parametrize("smp", [1, 4])
@pytest.mark.parametrize("accel", ACCELERATORS)
def test_the_embedded_firmware_boots_a_disk(accel: str, smp: int, tmp_path: Path) -> None:
    with pc(
        "-accel", need(accel), "-smp", str(smp), "-m", "96", *disk_words(image(tmp_path, "hello_serial"))
    ) as machine:
        machine.start()
        machine.serial.wait_for(HELLO)
        text = machine.serial.text()
        assert "memory: 96 MiB" in text
        assert f"processors: {smp} started" in text


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_the_embedded_firmware_says_when_there_is_no_disk(accel: str) -> None:
    with pc("-accel", need(accel)) as machine:
        machine.start()
        machine.serial.wait_for("No bootable device.")


def test_the_demonstration_guest_switches_the_machine_off() -> None:
    with pc("-accel", "simulated", "-smp", "2", *disk_words(DEMO_DISK)) as machine:
        machine.start()
        assert machine.wait_for_end() == 0
        assert machine.vm.shutdown_reason == "acpi-soft-off"
        text = machine.serial.text()
        assert "10 ticks, 10 halts" in text
        assert "1229, the largest is 9973" in text


CHAIN = [
    "pc_init1",
    "pc_cpus_init",
    "pc_new_cpu",
    "object_property_set",
    "property_set_bool",
    "device_set_realized",
    "x86_cpu_realizefn",
    "init_vcpu",
]
THREAD_CHAIN = ["vcpu_thread_fn", "vcpu_init", "create_vcpu"]


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_the_chain_to_a_vcpu_is_the_seeds(accel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED.md rows 7 and 8: a backtrace where the vCPU is initialised shows the stages in order."""
    main: list[list[str]] = []
    thread: list[list[str]] = []
    start = qom.vm.vcpu.start_vcpu

    def noted_start(cpu: Any) -> None:
        main.append([frame.name for frame in traceback.extract_stack()])
        create = cpu.accel.create_vcpu

        def create_vcpu(cpu: Any) -> Any:
            thread.append([frame.name for frame in traceback.extract_stack()])
            return create(cpu)

        monkeypatch.setattr(cpu.accel, "create_vcpu", create_vcpu)
        start(cpu)

    monkeypatch.setattr(qom.vm.vcpu, "start_vcpu", noted_start)
    with pc("-accel", need(accel)):
        pass
    assert _in_order(CHAIN, main[0]), main[0]
    assert _in_order(THREAD_CHAIN, thread[0]), thread[0]


def _in_order(wanted: list[str], stack: list[str]) -> bool:
    rest = iter(stack)
    return all(name in rest for name in wanted)


def _run_portlog(accel: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Write], dict[str, int]]:
    """The processor's writes to the ports that the guest logs to, in order, and the registers at the end."""
    writes: list[Write] = []
    make = AddressSpace._make_writer

    def noting(space: AddressSpace, port: int, size: int) -> Any:
        write = make(space, port, size)
        if space.name != "I/O":
            return write

        def noted(value: int) -> None:
            if port in LOG_PORTS:  # the others are the firmware's, which answers timer interrupts as they come
                writes.append((port, size, value & (1 << 8 * size) - 1))
            write(value)

        return noted

    monkeypatch.setattr(AddressSpace, "_make_writer", noting)
    with pc("-accel", accel, *disk_words(disk)) as machine:
        machine.start()
        cpu = machine.vm.cpus[0]
        deadline = time.monotonic() + PATIENCE
        with machine.vm.lock:
            while not cpu.halted or cpu.interrupts_enabled:  # it ends in HLT with IF=0
                assert time.monotonic() < deadline, machine.debug.text()
                machine.vm.cpu_cond.wait(0.02)
        machine.vm.stop()
        regs = cpu.vcpu.get_regs()
        return writes, {name: int(getattr(regs, name)) for name in REGISTERS}


def test_the_same_boot_sector_does_the_same_on_both_accelerators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's own port writes, and its registers at the end, are the same."""
    need("kvm")
    disk = image(tmp_path, "portlog")
    runs = []
    for accel in ACCELERATORS:
        with monkeypatch.context() as patch:
            runs.append(_run_portlog(accel, disk, patch))
    one, two = runs
    assert len(one[0]) > 100
    assert one[0] == two[0]
    assert one[1] == two[1]
    assert one[1]["rax"] == 0x600DF00D


def test_two_machines_in_one_process_boot_at_the_same_time(tmp_path: Path) -> None:
    need("kvm")
    bios = need_seabios()
    disk = image(tmp_path, "hello_serial")
    with (
        pc("-accel", "simulated", *disk_words(disk), bios=bios) as one,
        pc("-accel", "kvm", "-m", "64", *disk_words(disk), bios=bios) as two,
    ):
        one.start()
        two.start()
        for machine in (two, one):
            machine.serial.wait_for(HELLO)
        assert one.vm.root.resolve("/machine/pic") is not two.vm.root.resolve("/machine/pic")
        assert one.vm.machine.accel.type_name == "simulated-accel"  # type: ignore[union-attr]
        assert two.vm.machine.accel.type_name == "kvm-accel"  # type: ignore[union-attr]


@pytest.mark.parametrize("smp", [1, 2])
@pytest.mark.parametrize("irqchip", ["off", "on", "split"])
def test_the_demonstration_runs_with_the_controllers_anywhere(irqchip: str, smp: int) -> None:
    """Timer interrupts and start-up IPIs arrive whether the interrupt controllers are in the kernel or not."""
    need("kvm")
    words = ("-accel", f"kvm,kernel-irqchip={irqchip}", "-smp", str(smp), *disk_words(DEMO_DISK))
    with pc(*words) as machine:
        machine.start()
        machine.serial.wait_for("10 ticks, 10 halts")
        assert f"processors: {smp} started" in machine.serial.text()
