"""Who is measured: our two accelerators, QEMU's TCG and Bochs, each running the same bare-metal image or disk.

A peer runs a 64 KiB ROM from the reset vector to its PASS and tells the processor time it took, start-up included: the harness
takes differences of runs, so that what is constant cancels.  Processor time, not time on the wall, because it does not count
what else the host does.  `why_not` tells why a peer cannot be measured here.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import attrs

from benchmarks.device import BenchmarkPort
from plugins.firmware import find_seabios
from qom.cli.options import CommandLine
from qom.errors import QomError
from qom.vm.vm import VirtualMachine
from tests.guests.runner import Bare, open_accelerator

BYTECODE = Path(tempfile.gettempdir()) / f"qom-benchmarks-bytecode-{os.getuid()}"
SECONDS = 240.0  # for one run
HELD = ["-M", "pc", "-m", "64", "-S", "-nodefaults"]
INSTALLED = [sys.executable, "-c", "import sys; from qom.cli.entry import system; sys.exit(system())"]
"""What the installed command `qom-system-x86_64` does."""
QEMU_SUCCESS = 1  # isa-debug-exit: (0 << 1) | 1


class BenchmarkError(Exception):
    """A run that did not come to its end; the message names the peer and what it said."""


@attrs.frozen
class Time:
    """What a run took, in seconds."""

    wall: float
    processor: float  # user and system, of all threads


class Stopwatch:
    """Measures this process from its making to `read`."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> Time:
        return Time(time.perf_counter() - self._wall, time.process_time() - self._processor)


class Peer(ABC):
    """Something that runs guests."""

    name: str
    summary: str
    stretch = 1.0  # how much longer its runs must be, for the noise of its start-up

    @abstractmethod
    def why_not(self) -> str | None:
        """Why it cannot be measured here, or None."""

    @abstractmethod
    def run_rom(self, image: bytes) -> Time:
        """Run a metal image to its PASS."""

    def run_ports(self, image: bytes) -> Time:
        """As `run_rom`, with a device at port 240h."""
        return self.run_rom(image)

    def run_several(self, processors: int, image: bytes) -> Time:
        """As `run_rom`, in a whole machine with several processors.

        Raises:
            BenchmarkError: it has no such machine.
        """
        raise BenchmarkError(f"{self.name}: measured with one processor only")

    @abstractmethod
    def boot(self, disk: Path) -> Time:
        """From the start of the process to the end of a boot sector that SeaBIOS has loaded."""

    def linux(self, kernel: Path, initrd: Path, command_line: str, end: str) -> Time:
        """Start a Linux kernel; its last words on the serial port must have `end` in them.

        Raises:
            BenchmarkError: it cannot, or they have not.
        """
        raise BenchmarkError(f"{self.name}: starts no kernel by itself")

    def holding(self, devices: Path) -> tuple[list[str], bytes, bytes, bytes] | None:
        """How a process holds a machine with the devices of a `-readconfig` file, which does not run.

        Returns:
            The command; what it must be told; what it writes when the machine is built; what ends it, beside the end
            of its input.  None when it reads no such file.
        """
        return None

    def monitored(self, path: Path) -> list[str] | None:
        """The command of a process with a pc that stands still and serves QMP on a unix socket; None without QMP."""
        return None


class Ours(Peer):
    """One of our accelerators, in this process."""

    def __init__(self, accelerator: str) -> None:
        self.name, self.accelerator = f"qom {accelerator}", accelerator
        self.summary = f"this tree, -accel {accelerator}"

    def why_not(self) -> str | None:
        try:
            open_accelerator(self.accelerator).close()
        except QomError as error:
            return str(error)
        return None

    def run_rom(self, image: bytes) -> Time:
        with open_accelerator(self.accelerator) as system, Bare(system, image) as bare:
            watch = Stopwatch()
            outcome = bare.run(SECONDS)
            took = watch.read()
        if not outcome.passed:
            raise BenchmarkError(f"{self.name}: {outcome.report()}")
        return took

    def count(self, image: bytes) -> int:
        """Instructions of the whole image, where the accelerator counts them; BenchmarkError when it does not pass."""
        with open_accelerator(self.accelerator) as system, Bare(system, image) as bare:
            outcome = bare.run(SECONDS)
            if not outcome.passed:
                raise BenchmarkError(f"{self.name}: {outcome.report()}")
            return bare.vcpu.instruction_count() or 0

    def run_ports(self, image: bytes) -> Time:
        return self._run_machine(image, ["-device", "benchmark-port"])

    def run_several(self, processors: int, image: bytes) -> Time:
        return self._run_machine(image, ["-smp", str(processors)])

    def _run_machine(self, image: bytes, more: list[str]) -> Time:
        with tempfile.TemporaryDirectory() as folder:
            rom = Path(folder, "rom.bin")
            rom.write_bytes(image)
            words = ["-bios", str(rom), *more, "-chardev", "ringbuf,id=report,size=4096"]
            words += ["-device", "isa-debugcon,iobase=0x402,chardev=report"]
            with self._machine(words) as vm:
                return self._finish(vm, "report", "PASS")

    def hand_over(self, disk: Path) -> Time:
        """From `cont` to the boot sector's end, in a machine that is already built."""
        with self._machine(self._disk_words(disk)) as vm:
            return self._finish(vm, "report", "Hello")

    def boot(self, disk: Path) -> Time:
        words = [*self._disk_words(disk), "-device", "isa-debug-exit,iobase=0x501,iosize=2", "-accel", self.accelerator]
        return _process(self.name, [*INSTALLED, *words, "-nodefaults", "-no-reboot", "-m", "64"])

    def linux(self, kernel: Path, initrd: Path, command_line: str, end: str) -> Time:
        command = [*INSTALLED, "-accel", self.accelerator]
        return _linux(self.name, command, kernel, initrd, command_line, end)

    def holding(self, devices: Path) -> tuple[list[str], bytes, bytes, bytes]:
        words = [*HELD, "-accel", self.accelerator, "-readconfig", str(devices)]
        return [sys.executable, "-m", "benchmarks.devices", *words], b"", b"built\n", b""

    def monitored(self, path: Path) -> list[str]:
        words = ["-M", "pc", "-S", "-display", "none", "-qmp", f"unix:{path},server=on,wait=off"]
        return [*INSTALLED, *words, "-accel", self.accelerator]

    def _disk_words(self, disk: Path) -> list[str]:
        words = ["-bios", str(find_seabios()), "-drive", f"file={disk},format=raw,if=ide,snapshot=on"]
        return [*words, "-chardev", "ringbuf,id=report,size=4096", "-serial", "chardev:report"]

    @contextlib.contextmanager
    def _machine(self, words: list[str]) -> Iterator[VirtualMachine]:
        from qom.cli.system import registry

        line = ["-accel", self.accelerator, "-m", "64", "-nodefaults", "-no-reboot", *words]
        line += ["-device", "isa-debug-exit,iobase=0x501,iosize=2"]
        types = registry()
        types.register(BenchmarkPort)
        vm = VirtualMachine(CommandLine().parse(line).builder.finish(), types)
        try:
            vm.build()
            vm.start_loop()
            yield vm
        finally:
            vm.close()

    def _finish(self, vm: VirtualMachine, chardev: str, wanted: str) -> Time:
        watch = Stopwatch()
        vm.cont()
        ended = vm.wait(SECONDS)
        took = watch.read()
        text = vm.root.resolve(f"/chardevs/{chardev}").take().decode("ascii", "replace")
        if not ended or wanted not in text or vm.failure is not None:
            raise BenchmarkError(f"{self.name}: {vm.failure or text or 'nothing was written'}")
        return took


class Qemu(Peer):
    """QEMU's own translator."""

    name, program = "QEMU TCG", "qemu-system-x86_64"
    stretch = 3.0

    def __init__(self) -> None:
        self.summary = _first_line([self.program, "--version"]) if shutil.which(self.program) else "not installed"

    def why_not(self) -> str | None:
        return None if shutil.which(self.program) else f"{self.program} is not installed"

    def run_several(self, processors: int, image: bytes) -> Time:
        return self._run_image(image, ["-smp", str(processors)])

    def run_rom(self, image: bytes) -> Time:
        return self._run_image(image, [])

    def _run_image(self, image: bytes, more: list[str]) -> Time:
        with tempfile.TemporaryDirectory() as folder:
            rom = Path(folder, "rom.bin")
            rom.write_bytes(image)
            # The device at the measured port is a debug console that goes nowhere.
            words = ["-bios", str(rom), "-chardev", "null,id=none", "-device", "isa-debugcon,iobase=0x240,chardev=none"]
            return self._run([*words, *more, "-net", "none"])

    def boot(self, disk: Path) -> Time:
        words = ["-drive", f"file={disk},format=raw,if=ide,snapshot=on", "-serial", "null"]
        return self._run([*words, "-bios", str(find_seabios())])

    def linux(self, kernel: Path, initrd: Path, command_line: str, end: str) -> Time:
        return _linux(self.name, [self.program, "-accel", "tcg"], kernel, initrd, command_line, end)

    def holding(self, devices: Path) -> tuple[list[str], bytes, bytes, bytes]:
        words = [*HELD, "-display", "none", "-accel", "tcg", "-qmp", "stdio", "-readconfig", str(devices)]
        return [self.program, *words], b'{"execute": "qmp_capabilities"}\n', b'{"return"', b'{"execute": "quit"}\n'

    def monitored(self, path: Path) -> list[str]:
        words = ["-M", "pc", "-S", "-display", "none", "-qmp", f"unix:{path},server=on,wait=off"]
        return [self.program, *words, "-accel", "tcg"]

    def _run(self, words: list[str]) -> Time:
        common = ["-accel", "tcg", "-M", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"]
        common += ["-device", "isa-debug-exit,iobase=0x501,iosize=2"]
        return _process(self.name, [self.program, *common, *words])


class Bochs(Peer):
    """Bochs, an interpreter."""

    name, program = "Bochs", "bochs"
    stretch = 8.0

    def __init__(self) -> None:
        self.summary = "not installed"
        if shutil.which(self.program):
            done = subprocess.run([self.program, "--help"], capture_output=True, text=True, check=False)
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "Emulator" in line]
            self.summary = lines[0] if lines else "Bochs"

    def why_not(self) -> str | None:
        if not shutil.which(self.program):
            return "bochs is not installed"
        try:
            self.run_rom((Path(__file__).parents[1] / "tests/guests/metal/selfcheck.bin").read_bytes())
        except BenchmarkError as error:
            return str(error)
        return None

    def run_rom(self, image: bytes) -> Time:
        with tempfile.TemporaryDirectory() as folder:
            rom = Path(folder, "rom.bin")
            rom.write_bytes(image)
            return self._run(Path(folder), [f"romimage: file={rom}, address=0xffff0000, options=none"], "PASS")

    def boot(self, disk: Path) -> Time:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder, "disk.img")  # Bochs wants whole cylinders
            image.write_bytes(disk.read_bytes().ljust(20 * 16 * 63 * 512, b"\0"))
            lines = [
                f"romimage: file={find_seabios()}, options=none",
                "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
                f"ata0-master: type=disk, path={image}, mode=flat, cylinders=20, heads=16, spt=63",
                "com1: enabled=1, mode=null",
            ]
            return self._run(Path(folder), lines, "shutdown requested")

    def _run(self, folder: Path, lines: list[str], wanted: str) -> Time:
        log, script = folder / "log", folder / "rc"
        settings = [
            *("config_interface: textconfig", "display_library: term", "megs: 64", "boot: disk", f"log: {log}"),
            *("cpu: model=core2_penryn_t9600, count=1, ips=50000000", "clock: sync=none", "speaker: enabled=0"),
            *("sound: waveoutdrv=dummy", "panic: action=fatal", "error: action=report", "info: action=report"),
        ]
        script.write_text("\n".join([*settings, *lines]) + "\n", encoding="ascii")
        text, took = _in_terminal([self.program, "-q", "-f", str(script)])
        report = log.read_text(errors="replace") if log.exists() else ""
        if wanted not in report:
            raise BenchmarkError(f"{self.name}: {text.strip().splitlines()[-1] if text.strip() else 'no output'}")
        return took


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0]


def environment() -> dict[str, str]:
    """As an installed program finds it: Python's bytecode is kept from one run to the next."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(BYTECODE)}


def _linux(name: str, command: list[str], kernel: Path, initrd: Path, command_line: str, end: str) -> Time:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "serial")
        words = ["-M", "pc", "-m", "512", "-display", "none", "-nodefaults", "-no-reboot", "-serial", f"file:{log}"]
        words += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", command_line]
        took = _process(name, [*command, *words], 0)
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if not any(end in line for line in said[-5:]):
        raise BenchmarkError(f"{name}: the kernel's last words are: {' / '.join(said[-3:]) or 'none'}")
    return took


def _process(name: str, command: list[str], success: int = QEMU_SUCCESS) -> Time:
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment()
        )
        watchdog = threading.Timer(SECONDS, child.kill)
        watchdog.start()
        _, status, usage = os.wait4(child.pid, 0)
        watchdog.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    if child.returncode == -signal.SIGKILL:
        raise BenchmarkError(f"{name}: no end within {SECONDS} s")
    if child.returncode != success:
        raise BenchmarkError(f"{name}: exit status {child.returncode}: {said}")
    return Time(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime)


def _in_terminal(command: list[str]) -> tuple[str, Time]:
    """Run `command` in a terminal of its own and tell its debugger to continue; what it wrote, and what it took."""
    begin = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    written = bytearray()
    os.write(terminal, b"c\nq\n")
    limit = time.monotonic() + SECONDS
    with contextlib.suppress(OSError):  # the end of a terminal reads as an error
        while time.monotonic() < limit:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            chunk = os.read(terminal, 65536)
            if not chunk:
                break
            written += chunk
    os.close(terminal)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, _, usage = os.wait4(child, 0)
    took = Time(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime)
    return written.decode("utf-8", "replace"), took
