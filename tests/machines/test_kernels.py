"""Kernels of each kind on whole machines: with SeaBIOS, by the boot ROMs, and without firmware."""

from __future__ import annotations

import struct
from pathlib import Path

import attrs
import pytest
from pcs import GUESTS, Pc, need, need_seabios, pc

from machines import pc_firmware
from qom.cli.main import main as qom_main
from qom.errors import QomError
from qom.hw import Reset, reset_tree

KERNEL = GUESTS / "kernel32.bin"
LOADED = 0x100000
KEPT = LOADED + 0x40
ENTRY = 0x100000
MIB = 1 << 20
WAYS = [("qomfw.bin", "simulated"), ("seabios", "simulated"), ("none", "simulated"), ("none", "kvm")]


def elf_with_note(folder: Path, *, name: bytes = b"Xen\0", kind: int = 18, machine: int = 3) -> Path:
    """An ELF file around the guest: one segment to load, and the note."""
    code = KERNEL.read_bytes()
    note = (
        struct.pack("<III", len(name), 4, kind) + name.ljust(-(-len(name) // 4) * 4, b"\0") + struct.pack("<I", ENTRY)
    )
    headers = 52 + 2 * 32
    code_at = headers + len(note)
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0xC0100000, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    load = struct.pack("<IIIIIIII", 1, code_at, 0xC0100000, LOADED, len(code), 0x1000, 7, 1)
    noted = struct.pack("<IIIIIIII", 4, headers, 0, 0, len(note), len(note), 4, 4)
    broken = code.replace(struct.pack("<I", 0x1BADB002), bytes(4))  # else it is a multiboot kernel
    path = folder / "kernel.elf"
    path.write_bytes(header + load + noted + note + broken)
    return path


@attrs.frozen
class State:
    """What the guest kept of its start."""

    eax: int
    ebx: int
    cr0: int
    cs: int
    ds: int
    ss: int
    eflags: int
    bss: int


def started(machine: Pc) -> State:
    machine.start()
    machine.serial.wait_for("kernel32 started")
    return State(*struct.unpack("<8I", machine.vm.memory.read_bytes(KEPT, 32)))


def text_at(machine: Pc, address: int) -> str:
    return machine.vm.memory.read_bytes(address, 200).split(b"\0")[0].decode()


def numbers(machine: Pc, address: int, form: str) -> tuple[int, ...]:
    return struct.unpack(form, machine.vm.memory.read_bytes(address, struct.calcsize(form)))


def bios(way: str) -> str:
    return need_seabios() if way == "seabios" else way


@pytest.fixture
def modules(tmp_path: Path) -> tuple[Path, Path]:
    one, two = tmp_path / "one", tmp_path / "t,wo"
    one.write_bytes(b"1" * 5000)
    two.write_bytes(b"2" * 3)
    return one, two


@pytest.mark.parametrize(("way", "accel"), WAYS)
def test_multiboot(way: str, accel: str, modules: tuple[Path, Path]) -> None:
    one, two = modules
    initrd = f"{one} first module,{str(two).replace(',', ',,')}"
    words = ("-accel", need(accel), "-m", "64", "-kernel", str(KERNEL), "-initrd", initrd, "-append", "root=none")
    with pc(*words, bios=bios(way)) as machine:
        state = started(machine)
        assert (state.eax, state.bss) == (0x2BADB002, 0)
        assert state.cr0 & 0x80000001 == 1  # protected mode, no paging
        assert state.eflags & 0x20200 == 0  # no interrupts, no virtual-8086 mode
        flags, lower, upper, _, cmdline, count, listed = numbers(machine, state.ebx, "<7I")
        assert flags == 0x24D  # memory, command line, modules, map, loader
        assert text_at(machine, cmdline) == f"{KERNEL} root=none"
        entries = [numbers(machine, listed + 16 * n, "<4I") for n in range(count)]
        found = [(machine.vm.memory.read_bytes(a, b - a), text_at(machine, text)) for a, b, text, _ in entries]
        assert found == [(b"1" * 5000, f"{one} first module"), (b"222", str(two))]
        assert all(start % 4096 == 0 for start, *_ in entries)
        length, table = numbers(machine, state.ebx + 44, "<2I")
        ram = _ranges([numbers(machine, table + 24 * n, "<IQQI")[1:] for n in range(length // 24)])
        assert (lower, upper) == (ram[0] >> 10, ram[MIB] >> 10)
        assert 63 * MIB - MIB <= ram[MIB] <= 63 * MIB
        assert text_at(machine, *numbers(machine, state.ebx + 64, "<I")) == "qom"


@pytest.mark.parametrize(("way", "accel"), WAYS)
def test_pvh(way: str, accel: str, modules: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("-kernel", str(elf_with_note(tmp_path)), "-initrd", str(modules[0]), "-append", "root=none")
    with pc("-accel", need(accel), "-m", "5G", *words, bios=bios(way)) as machine:
        state = started(machine)
        assert state.bss == 0
        assert state.cr0 & 0x80000001 == 1
        fields = numbers(machine, state.ebx, "<IIIIQQQQII")
        magic, version, flags, count, listed, cmdline, rsdp, table, entries, _ = fields
        assert (magic, version, flags, count) == (0x336EC578, 1, 0, 1)
        assert text_at(machine, cmdline) == "root=none"
        address, size, _, _ = numbers(machine, listed, "<QQQQ")
        assert machine.vm.memory.read_bytes(address, size) == b"1" * 5000
        if way == "qomfw.bin":
            assert rsdp == 0  # our own firmware makes no ACPI tables
        else:
            assert machine.vm.memory.read_bytes(rsdp, 8) == b"RSD PTR "
        ram = _ranges([numbers(machine, table + 24 * n, "<QQI") for n in range(entries)])
        assert ram[4 << 30] == 2 << 30
        assert 3 * (1 << 30) - 2 * MIB <= ram[MIB] <= 3 * (1 << 30) - MIB


def _ranges(entries: list[tuple[int, ...]]) -> dict[int, int]:
    """The size of each range of RAM of a map, by its start."""
    return {start: size for start, size, kind in entries if kind == 1}


def test_without_firmware_a_reset_starts_the_kernel_anew() -> None:
    with pc("-m", "64", "-kernel", str(KERNEL), bios="none") as machine:
        started(machine)
        machine.vm.memory.write_bytes(KEPT, bytes(range(32)))
        machine.vm.memory.write_bytes(LOADED + 0x200, b"\xff" * 16)
        machine.serial.output = b""
        machine.vm.reset()
        machine.serial.wait_for("kernel32 started")
        assert machine.vm.memory.read(KEPT, 4) == 0x2BADB002
        assert machine.vm.memory.read_bytes(LOADED + 0x200, 16) == bytes(16)


def test_without_firmware_a_woken_guest_goes_on_at_its_waking_vector() -> None:
    """Whatever it wrote there: of an address that real mode cannot reach, the upper bits are lost."""
    with pc("-m", "16", "-kernel", str(KERNEL), bios="none") as machine:
        vm = machine.vm
        facs = pc_firmware.place_tables(vm.machine).facs  # where they are already
        assert vm.memory.read_bytes(facs, 4) == b"FACS"
        for vector, selector, rip in (
            (0x9A010, 0x9A01, 0), (0x12345, 0x1234, 5), (0x12345678, 0x4567, 8), (0xFFFF_FFFF, 0xFFFF, 0xF),
        ):  # fmt: skip
            with vm.lock:
                vm.memory.write_bytes(facs + 12, struct.pack("<I", vector))
                reset_tree(vm.machine, Reset.WAKE)
            registers = vm.cpus[0].registers.read()
            assert (registers["cs"], registers["cs.base"], registers["rip"]) == (selector, selector << 4, rip)
            assert registers["cr0"] & 1 == 0


def test_without_firmware_and_without_kernel_there_is_nothing_to_run() -> None:
    with pytest.raises(QomError) as caught, pc(bios="none"):
        pass
    assert str(caught.value) == "-bios none: there is nothing to start without firmware: expected a kernel (-kernel)"


def test_what_does_not_fit_is_said_before_anything_runs(tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(bytes(8 * MIB))
    with pytest.raises(QomError) as caught, pc("-m", "4", "-kernel", str(KERNEL), "-initrd", str(initrd), bios="none"):
        pass
    assert str(caught.value) == (
        f"-initrd {initrd}: initrd '{initrd}' does not fit: it has 8388608 bytes, and between the kernel's end at"
        " 0x101000 and 0x400000 there are 3141632: expected more memory (-m)"
    )


@pytest.mark.parametrize("bios", ["none", "qomfw.bin"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("-initrd", "/no/such", "initrd '/no/such' cannot be read: No such file or directory"),
        ("-append", "x" * 20000, f"kernel '{KERNEL}' has a command line of {len(str(KERNEL)) + 20001} characters:"
         " expected 16384"),
    ],
)  # fmt: skip
def test_what_is_wrong_beside_the_kernel_is_said_at_its_own_place(
    option: str, value: str, message: str, bios: str
) -> None:
    with pytest.raises(QomError) as caught, pc("-m", "8", "-kernel", str(KERNEL), option, value, bios=bios):
        pass
    assert str(caught.value) == f"{option} {value}: {message}"


def test_check_finds_what_is_wrong_with_a_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none, wrong = tmp_path / "none.toml", tmp_path / "wrong.toml"
    none.write_text('firmware = "none"\n')
    (tmp_path / "vmlinuz").write_bytes(b"compressed")
    wrong.write_text(f'kernel = "{tmp_path}/vmlinuz"\n')
    modules = tmp_path / "modules.toml"
    modules.write_text(f'kernel = "{KERNEL}"\ninitrd = "{wrong} text,{tmp_path}/no file"\n')
    assert [qom_main(["check", str(file)]) for file in (none, wrong, modules)] == [1, 1, 1]
    assert capsys.readouterr().out.splitlines() == [
        f"{none}:1:1: firmware: there is nothing to start without firmware: expected a kernel (-kernel)",
        f"{wrong}:1:1: kernel: kernel '{tmp_path}/vmlinuz' is of no known kind: expected a Linux bzImage, a multiboot image"
        " or an ELF file with a PVH note",
        f"{modules}:2:1: initrd: initrd '{tmp_path}/no' cannot be read: No such file or directory",
    ]
