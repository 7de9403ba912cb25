"""PCs for tests: built from command-line words, with consoles that a test can wait on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plugins.firmware import EMBEDDED, find_seabios
from qom import TypeRegistry, default_registry, type_init
from qom.cli.options import CommandLine
from qom.vm.chardev import Chardev
from qom.vm.vm import VirtualMachine

GUESTS = Path(__file__).parents[1] / "guests"
ACCELERATORS = ("simulated", "kvm")
PATIENCE = 120.0  # seconds of host time before a test gives a guest up


@type_init("chardev-waiting")
class Console(Chardev):
    """A back end whose output a test waits for; anybody's thread."""

    def instance_init(self) -> None:
        self.output = b""
        self.grown = threading.Condition()

    def write(self, data: bytes) -> int:
        with self.grown:
            self.output += data
            self.grown.notify_all()
        return len(data)

    def wait_for(self, text: str, seconds: float = PATIENCE) -> None:
        """Return when `text` has been written; fail the test when it is not in time."""
        with self.grown:
            if not self.grown.wait_for(lambda: text.encode() in self.output, seconds):
                pytest.fail(f"no {text!r} within {seconds:.0f} s; the console has:\n{self.text()}")

    def text(self) -> str:
        return self.output.decode("ascii", "replace").replace("\r", "")

    def feed(self, data: bytes) -> None:
        """Be the person who types `data`."""
        self.on_read(data)


def registry() -> TypeRegistry:
    found = default_registry()
    found.register(Console, "tests")
    return found


def need(accel: str) -> str:
    """The accelerator's name, or skip where it cannot be used."""
    if accel == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no /dev/kvm here that may be opened")
    return accel


def need_seabios() -> str:
    """The path of the installed SeaBIOS, or skip."""
    found = find_seabios()
    if found is None:
        pytest.skip("SeaBIOS is not installed (Debian's package: seabios)")
    return str(found)


def image(tmp_path: Path, name: str, sectors: int = 2048) -> Path:
    """A disk image that begins with the guest program `name` of tests/guests."""
    disk = tmp_path / f"{name}.img"
    code = (GUESTS / f"{name}.bin").read_bytes()
    disk.write_bytes(code.ljust(sectors * 512, b"\0"))
    return disk


class Pc:
    """A virtual machine with its two consoles: `serial` (COM1) and `debug` (port 402h)."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.vm = vm
        self.serial: Console = vm.root.resolve("/chardevs/serial")
        self.debug: Console = vm.root.resolve("/chardevs/debug")

    def start(self) -> None:
        self.vm.start_loop()
        self.vm.cont()

    def wait_for_end(self, seconds: float = PATIENCE) -> int:
        """Wait until the machine has ended; its exit status."""
        if not self.vm.wait(seconds):
            pytest.fail(
                f"still running after {seconds:.0f} s; serial:\n{self.serial.text()}\ndebug:\n{self.debug.text()}"
            )
        assert self.vm.failure is None, self.vm.failure
        return self.vm.exit_status

    def part(self, name: str) -> Any:
        return self.vm.machine.child(name)


@contextmanager
def pc(*words: str, bios: str | None = None, types: TypeRegistry | None = None) -> Iterator[Pc]:
    """A built PC, not started; `words` are added to the command line."""
    line = CommandLine().parse(_words(words, bios))
    vm = VirtualMachine(line.builder.finish(), types if types is not None else registry())
    try:
        vm.build()
        yield Pc(vm)
    finally:
        vm.close()


def _words(words: Sequence[str], bios: str | None) -> list[str]:
    return [
        "-nodefaults", "-bios", bios or str(EMBEDDED), "-d", "guest_errors,unimp", "-D", os.devnull,
        "-chardev", "waiting,id=serial", "-serial", "chardev:serial",
        "-chardev", "waiting,id=debug", "-device", "isa-debugcon,iobase=0x402,chardev=debug",
        "-device", "isa-debug-exit,iobase=0x501,iosize=2",
        *words,
    ]  # fmt: skip


def disk_words(path: Path) -> tuple[str, str]:
    return "-drive", f"file={path},format=raw,if=ide,snapshot=on"
