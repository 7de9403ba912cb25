"""Runs a metal image (tests/guests/metal) on an accelerator's three handles, with RAM, ROM and two debug ports.

No machine: the processor starts at the reset vector of a 64 KiB ROM at FFFF0000h, that is also seen at F0000h; RAM from 0 to
A0000h and from 100000h to 1000000h; writes to port 402h are the program's report, a write to port 501h ends it.  Reads of
anything else give ones.  Programs that need interrupt controllers or timers run under a whole machine instead.
"""

import mmap
import threading
from pathlib import Path

import attrs

from accel._kvmabi import lib
from accel.handles import SystemHandle, VcpuHandle, VmHandle, address_of
from accel.report import describe_exit, registers_text
from accel.x86_state import load_power_up

METAL = Path(__file__).with_name("metal")
DEBUG_PORT, DEBUG_EXIT = 0x402, 0x501
ROM_SIZE, ROM_TOP, ROM_LOW = 0x10000, 0xFFFF0000, 0xF0000
RAM_SIZE, RAM_HOLE, RAM_HIGH = 0x1000000, 0xA0000, 0x100000


@attrs.frozen
class Outcome:
    """How a metal program ended."""

    text: str  # what it wrote to the debug port
    status: int | None  # what it wrote to the exit port; None when it never did
    ending: str  # "exit", or why it went no further
    registers: str  # for the report when it failed
    exits: int

    @property
    def passed(self) -> bool:
        """It said so on both ports."""
        return self.ending == "exit" and self.status == 0 and self.text.startswith("PASS ")

    def report(self) -> str:
        """What to show when it did not pass."""
        return f"{self.text.strip() or '(no report)'}\nended by {self.ending}, status {self.status}\n{self.registers}"


class Bare:
    """A VM of one vCPU, RAM and ROM; a context manager that gives everything back."""

    def __init__(self, system: SystemHandle, image: bytes) -> None:
        """Put `image`, 64 KiB, at the reset vector of a fresh VM on `system`."""
        if len(image) != ROM_SIZE:
            raise ValueError(f"a metal image has {ROM_SIZE} bytes, this one {len(image)}")
        self.ram = mmap.mmap(-1, RAM_SIZE)
        self.rom = mmap.mmap(-1, ROM_SIZE)
        self.rom[:] = image
        self.vm: VmHandle = system.create_vm()
        ram, rom = address_of(self.ram), address_of(self.rom)
        readonly = lib.KVM_MEM_READONLY if self.vm.check_extension("KVM_CAP_READONLY_MEM") else 0
        if self.vm.check_extension("KVM_CAP_SET_TSS_ADDR"):
            self.vm.set_tss_addr(0xFFFBD000)
        self.vm.set_user_memory_region(0, 0, RAM_HOLE, ram)
        self.vm.set_user_memory_region(1, RAM_HIGH, RAM_SIZE - RAM_HIGH, ram + RAM_HIGH)
        self.vm.set_user_memory_region(2, ROM_LOW, ROM_SIZE, rom, readonly)
        self.vm.set_user_memory_region(3, ROM_TOP, ROM_SIZE, rom, readonly)
        self.vcpu: VcpuHandle = self.vm.create_vcpu(0)
        self.vcpu.set_cpuid(system.supported_cpuid())
        load_power_up(self.vcpu, bootstrap=True, listed_msrs=frozenset(system.msr_index_list()))
        self.vcpu.attach_thread()
        self.output = bytearray()
        self.status: int | None = None

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *exc: object) -> None:
        self.vm.close()

    def run(self, seconds: float) -> Outcome:
        """Run until the program exits, the accelerator can go no further, or `seconds` of host time are over."""
        watchdog = threading.Timer(seconds, self.vcpu.kick)
        watchdog.start()
        try:
            ending, exits = self._loop(seconds)
        finally:
            watchdog.cancel()
            watchdog.join()
        text = self.output.decode("ascii", "replace")
        return Outcome(text, self.status, ending, registers_text(self.vcpu.registers()), exits)

    def _loop(self, seconds: float) -> tuple[str, int]:
        value = exits = 0
        while True:
            word = self.vcpu.run(value)
            exits += 1
            reason = word & lib.ABI_REASON_MASK
            if reason == lib.KVM_EXIT_IO:
                value = self._io(word)
                if self.status is not None:
                    return "exit", exits
            elif reason == lib.KVM_EXIT_MMIO:
                value = (1 << 64) - 1
            elif reason == lib.KVM_EXIT_SET_TPR:
                value = 0  # there is no APIC that it could matter to
            elif reason == lib.ABI_EXIT_INTERRUPTED and self.vcpu.fault_loop() is not None:
                continue  # only told of: the program means to fault so often
            elif reason == lib.ABI_EXIT_INTERRUPTED:
                return f"the time limit of {seconds} s", exits
            elif reason == lib.KVM_EXIT_HLT:
                return "HLT without an exit", exits
            else:
                return describe_exit(self.vcpu, word), exits

    def _io(self, word: int) -> int:
        port = word >> lib.ABI_PORT_SHIFT & 0xFFFF
        if not word & lib.ABI_WRITE or word & lib.ABI_STRING:
            return (1 << 64) - 1
        data = int(self.vcpu.c.data)
        if port == DEBUG_PORT:
            self.output.append(data & 0xFF)
        elif port == DEBUG_EXIT:
            self.status = data
        return 0


def open_accelerator(name: str) -> SystemHandle:
    """Open the handle of "kvm" or "simulated"; AccelError says why it cannot be."""
    if name == "kvm":
        from accel.kvm.handles import KvmSystem

        return KvmSystem()
    from accel.simulated.handles import SimulatedSystem

    return SimulatedSystem()


def run_metal(system: SystemHandle, image: bytes, seconds: float = 30.0) -> Outcome:
    """Run one image to its end."""
    with Bare(system, image) as bare:
        return bare.run(seconds)


def run_on_machine(accelerator: str, image: Path, seconds: float) -> Outcome:
    """Run a metal image as the firmware of a whole PC."""
    from qom.cli.options import CommandLine
    from qom.cli.system import machine

    arguments = ["-M", "pc", "-accel", accelerator, "-m", "16", "-bios", str(image), "-nodefaults", "-no-reboot"]
    arguments += ["-chardev", "ringbuf,id=report,size=65536", "-device", "isa-debugcon,iobase=0x402,chardev=report"]
    arguments += ["-device", "isa-debug-exit,iobase=0x501,iosize=2"]
    with machine(CommandLine().parse(arguments).builder.finish(), "runner") as vm:
        vm.start_loop()
        vm.cont()
        ended = vm.wait(seconds)
        text = vm.root.resolve("/chardevs/report").take().decode("ascii", "replace")
        if vm.failure is not None:
            return Outcome(text, None, "a failure of the machine", str(vm.failure), 0)
        if not ended:
            return Outcome(text, None, f"the time limit of {seconds} s", "", 0)
        return Outcome(text, vm.exit_status >> 1, "exit", "", 0)


def main() -> int:
    """Run the named metal programs (all without names): runner.py kvm|simulated [name ...]."""
    import sys

    failed = 0
    with open_accelerator(sys.argv[1]) as system:
        for name in sys.argv[2:] or sorted(
            path.stem for path in METAL.glob("*.bin") if path.stem not in ("irq", "a20")
        ):
            outcome = run_metal(system, (METAL / f"{name}.bin").read_bytes())
            failed += not outcome.passed
            print(outcome.text.strip() if outcome.passed else f"{name}: {outcome.report()}")
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
