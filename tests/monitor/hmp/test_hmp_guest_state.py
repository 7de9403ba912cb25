"""One guest puts two machines into one state, ours and QEMU's: the monitors show the same of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hmp_machine import made
from qemu_monitor import QemuMonitor
from state_guest import kernel

from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import hmp_table

P, W, U, LARGE, GLOBAL, NX = 1, 2, 4, 0x80, 0x100, 1 << 63
PSE, PAE, LA57, LME, NXE = 1 << 4, 1 << 5, 1 << 12, 1 << 8, 1 << 11
TOP, NEXT, PD, PT, ROOM = 0x200000, 0x201000, 0x202000, 0x203000, 0x204000
TRIES = 3000


def entries(table: int, size: int, rows: dict[int, int]) -> list[tuple[int, int]]:
    """The writes that make a page table: `rows` by index."""
    writes: list[tuple[int, int]] = []
    for index, entry in rows.items():
        for part in range(size // 4):
            writes.append((table + index * size + part * 4, entry >> 32 * part & 0xFFFFFFFF))
    return writes


LEAVES = {
    0: 0x100000 | P | W | U,
    1: 0x101000 | P | W,
    2: 0x5000 | P | U,
    3: 0x6000 | P | GLOBAL,
    5: 0x7000 | P | W | U | 0x18,
}
TABLES = {
    "32-bit": (
        entries(TOP, 4, {0: 0 | P | W | LARGE, 1: PT | P | W | U, 768: 0x400000 | P | W | U | LARGE, 1023: PT | P})
        + entries(PT, 4, LEAVES),
        {"cr3": TOP, "cr4": PSE},
    ),
    "pae": (
        entries(TOP, 8, {0: PD | P, 3: NEXT | P})
        + entries(PD, 8, {0: 0 | P | W | LARGE, 1: PT | P | W | U})
        + entries(NEXT, 8, {511: PT | P | W, 5: 0x600000 | P | LARGE | U | NX})
        + entries(PT, 8, {**LEAVES, 9: 0x8000 | P | W | NX}),
        {"cr3": TOP, "cr4": PAE, "efer": NXE},
    ),
    "4 levels": (
        entries(TOP, 8, {0: NEXT | P | W | U, 511: NEXT | P | W, 256: NEXT | P | U})
        + entries(NEXT, 8, {0: PD | P | W | U, 2: 0x40000000 | P | W | LARGE})
        + entries(PD, 8, {0: 0 | P | W | LARGE, 1: PT | P | W | U})
        + entries(PT, 8, {**LEAVES, 9: 0x8000 | P | W | NX}),
        {"cr3": TOP, "cr4": PAE, "efer": LME | NXE},
    ),
    "5 levels": (
        entries(ROOM, 8, {0: TOP | P | W | U, 256: TOP | P | W})
        + entries(TOP, 8, {0: NEXT | P | W | U, 511: NEXT | P | W})
        + entries(NEXT, 8, {0: PD | P | W | U})
        + entries(PD, 8, {0: 0 | P | W | LARGE, 1: PT | P | W | U})
        + entries(PT, 8, LEAVES),
        {"cr3": ROOM, "cr4": PAE | LA57, "efer": LME},
    ),
}  # fmt: skip
ADDRESSES = (0x400000, 0x400123, 0x401000, 0x402FFF, 0x404000, 0xC0000123, 0xFFFFF800, 0xFFFF800000400000, 0x100040)


def write_guest(path: Path, kind: str) -> list[str]:
    writes, registers = TABLES[kind]
    path.write_bytes(kernel(writes, **registers))
    return ["-m", "64", "-cpu", "max", "-kernel", str(path)]


def shown_by_qemu(words: list[str], lines: list[str]) -> dict[str, str]:
    with QemuMonitor("-M", "pc", *words) as qemu:
        for _ in range(TRIES):
            if "HLT=1" in (found := qemu.ask("info registers")) and "CS =0008" in found:
                break
        else:
            raise AssertionError(found)
        qemu.execute("stop")
        return qemu.all(lines)


def shown_by_us(words: list[str], lines: list[str]) -> dict[str, str]:
    with made("-accel", "simulated", *words) as vm:
        vm.start()
        for _ in range(TRIES):
            found = vm.cpus[0].registers.read()
            if found["cs"] in (8, 0x10) and vm.cpus[0].halted:
                break
        else:
            raise AssertionError(found)
        vm.stop()
        hmp = Hmp(vm, hmp_table(vm))
        with vm.lock:
            return {line: hmp.table.run(line, hmp) for line in lines}


LINES = ["info mem", "info tlb", *(f"gva2gpa {address:#x}" for address in ADDRESSES), "x/4xw 0x400000"]


def placed_in_ours(kind: str) -> dict[str, str]:
    """The same tables put into a machine that stands still, and looked at as by a processor with these registers."""
    writes, wanted = TABLES[kind]
    with made("-accel", "simulated", "-m", "64", "-S") as vm:
        for address, value in writes:
            vm.memory.write(address, value, 4)
        registers = {"cr0": 1 << 31, "efer": 0, **wanted}
        registers["efer"] |= 1 << 10 if registers["efer"] & LME else 0
        hmp = Hmp(vm, hmp_table(vm))
        hmp.registers = lambda: registers  # type: ignore[method-assign]
        with vm.lock:
            return {line: hmp.table.run(line, hmp) for line in LINES if not line.startswith("x/")}


def known_to_differ(kind: str, shown: dict[str, str]) -> dict[str, str]:
    """QEMU's answers, but that with PAE its addresses have the no-execute bit in them, and no marks of a walk."""
    if kind == "pae":
        shown["info tlb"] = shown["info tlb"].replace(": 8", ": 0")
    shown["info tlb"] = "".join(
        f"{line[:36]}{line[36:].replace('A', '-')}\n" for line in shown["info tlb"].splitlines()
    )
    return shown


@pytest.mark.parametrize("kind", ["32-bit", "pae", "4 levels"])
def test_page_tables_are_shown_as_by_qemu(kind: str, tmp_path: Path) -> None:
    words = write_guest(tmp_path / "kernel", kind)
    ours, theirs = shown_by_us(words, LINES), shown_by_qemu(words, LINES)
    assert len(ours["info mem"].splitlines()) > 3
    assert known_to_differ("", ours) == known_to_differ(kind, theirs)


def test_five_levels_are_shown_as_by_qemu(tmp_path: Path) -> None:
    """The simulated processor has none, so there the tables only lie in memory; QEMU's info mem shows nothing of them."""
    words = write_guest(tmp_path / "kernel", "5 levels")
    ours, theirs = placed_in_ours("5 levels"), shown_by_qemu(words, LINES[1:-1])
    assert len(ours.pop("info mem").splitlines()) > 3
    assert known_to_differ("", ours) == known_to_differ("5 levels", theirs)


def shape(text: str) -> str:
    """Registers with every digit the same; the loaders have the code segment accessed, or not yet."""
    digits = str.maketrans("0123456789abcdef", "0" * 16)
    return "\n".join(line.translate(digits).replace("[-R-]", "[-RA]") for line in text.splitlines())


@pytest.mark.parametrize("kind", ["32-bit", "4 levels"])
def test_registers_in_protected_and_long_mode_are_laid_out_as_by_qemu(kind: str, tmp_path: Path) -> None:
    words = write_guest(tmp_path / "kernel", kind)
    ours, theirs = shown_by_us(words, ["info registers"]), shown_by_qemu(words, ["info registers"])
    assert shape(ours["info registers"]) == shape(theirs["info registers"])


def test_interrupt_controllers_are_shown_as_by_qemu(tmp_path: Path) -> None:
    ioapic = [(0xFEC00000, register) for register in (0x1A, 0x1B, 0x1C, 0x1D)]
    values = [(0xFEC00010, value) for value in (0x0000A931, 0x03000000, 0x00018442, 0x01000000)]
    lapic = [
        (0xFEE000F0, 0x1FF), (0xFEE00350, 0x8700), (0xFEE00360, 0x400), (0xFEE00320, 0x20031), (0xFEE003E0, 0xB),
        (0xFEE00370, 0x10044), (0xFEE000D0, 0x02000000), (0xFEE00080, 0x20), (0xFEE00310, 0x03000000),
        (0xFEE00300, 0x00004841),
    ]  # fmt: skip
    writes = [pair for both in zip(ioapic, values, strict=True) for pair in both]
    (tmp_path / "kernel").write_bytes(kernel([*writes, *lapic]))
    words = ["-m", "64", "-kernel", str(tmp_path / "kernel")]
    lines = ["info pic", "info lapic"]
    ours, theirs = shown_by_us(words, lines), shown_by_qemu(words, lines)

    def pins(text: str) -> list[str]:  # what the firmware leaves in the 8259s, and versions, are no matter here
        return [line for line in text.splitlines() if not line.startswith(("ioapic0", "pic"))]

    assert pins(ours["info pic"]) == pins(theirs["info pic"])
    # The manual has arbitration priority follow the task's; QEMU leaves it at 0.
    assert ours["info lapic"].replace("APR 0x20", "APR 0x00") == theirs["info lapic"]
