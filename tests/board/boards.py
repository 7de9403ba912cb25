"""Boards for tests: written to a folder, and machines built from them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qom import TypeRegistry, default_registry
from qom.board import check_board
from qom.cli.options import CommandLine
from qom.vm.vm import VirtualMachine

# One processor, RAM, a ROM and an exit port: the least that can run a program and say how it went.
TINY = """
[board]
name = "tiny"
desc = "A test's board"
default-cpu = "qemu32"
default-memory = "64k"
max-cpus = 1

[[region]]
name = "ram"
kind = "ram"
at = 0
size = "ram-size"

[[region]]
name = "rom"
kind = "rom"
property = "firmware"
at = "4G - size"

[cpus]
name = "cpu"

[[part]]
name = "bridge"
type = "isabus-bridge"

[[part]]
name = "exit"
type = "isa-debug-exit"
bus = "bridge.isa.0"
props = { iobase = 0x501 }

[[part]]
name = "debugcon"
type = "isa-debugcon"
bus = "bridge.isa.0"
props = { iobase = 0xE9 }
for = "debugcon"
"""


@functools.cache
def in_box() -> TypeRegistry:
    """The types of the box, read once; forked for whoever changes something."""
    return default_registry(load_external=False)


def types() -> TypeRegistry:
    return in_box().fork()


def rom(code: bytes, size: int = 4096) -> bytes:
    """An image whose reset vector leads to `code` at its beginning."""
    image = bytearray(code.ljust(size, b"\xf4"))
    image[-16:-13] = b"\xe9" + (-(size - 16 + 3) & 0xFFFF).to_bytes(2, "little")
    return bytes(image)


def exiting_with(value: int) -> bytes:
    """A program that writes `value` to the exit port 501h: the status is 2 * value + 1."""
    return bytes((0xB0, value, 0xBA, 0x01, 0x05, 0xEE, 0xF4))


def write(folder: Path, text: str, name: str = "board.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(folder: Path, text: str, name: str = "board.toml") -> list[str]:
    """Everything wrong with a board, without the folder's name in front."""
    path = write(folder, text, name)
    return [str(error).replace(f"{folder}/", "") for error in check_board(path, types())]


@contextmanager
def machine(*words: str, registry: TypeRegistry | None = None) -> Iterator[VirtualMachine]:
    """A built machine, not started; on the simulated accelerator."""
    line = CommandLine().parse(["-accel", "simulated", "-nodefaults", *words])
    with VirtualMachine(line.builder.finish(), registry or types()) as vm:
        vm.build()
        yield vm


@contextmanager
def board(folder: Path, text: str, *words: str, image: bytes | None = None) -> Iterator[VirtualMachine]:
    """A machine of the board `text`, with `image` as its firmware if given."""
    path = write(folder, text)
    more: Sequence[str] = ()
    if image is not None:
        (folder / "image.rom").write_bytes(image)
        more = ("-bios", str(folder / "image.rom"))
    with machine("-M", f"board={path}", *more, *words) as vm:
        yield vm


def paths(vm: VirtualMachine) -> set[str]:
    return {found.path for found in vm.root.walk()}


def memory_map(vm: VirtualMachine) -> list[tuple[int, int, str]]:
    """(first, last, region) of what is seen in memory."""
    return [(r.start, r.end - 1, r.region.name) for r in vm.machine.system_bus.memory_space.flat_view]
