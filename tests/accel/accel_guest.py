"""Tiny guests on a bare vCPU handle, the same on every accelerator."""

import mmap

from accel._kvmabi import lib
from accel.handles import SystemHandle, VcpuHandle, VmHandle, address_of
from accel.kvm.handles import KvmSystem
from accel.simulated.handles import SimulatedSystem

TRANSPORTS: dict[str, type[SystemHandle]] = {"kvm": KvmSystem, "simulated": SimulatedSystem}


class Guest:
    """A VM of one vCPU: `size` bytes of RAM from 0, real mode, all segments 0, starting at `START`."""

    START = 0x1000
    STACK = 0x8000

    def __init__(self, system: SystemHandle, code: bytes = b"", size: int = 0x10000) -> None:
        self.system = system
        self.vm: VmHandle = system.create_vm()
        self.memory = mmap.mmap(-1, size)
        self.vm.set_user_memory_region(0, 0, size, address_of(self.memory))
        self.vcpu: VcpuHandle = self.vm.create_vcpu(0)
        self.load(self.START, code)
        sregs = self.vcpu.get_sregs()
        for name in ("cs", "ds", "es", "fs", "gs", "ss"):
            segment = getattr(sregs, name)
            segment.base, segment.selector = 0, 0
        self.vcpu.set_sregs(sregs)
        self.set(rip=self.START, rsp=self.STACK, rflags=2)
        self.vcpu.attach_thread()

    def load(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def set(self, **registers: int) -> None:
        regs = self.vcpu.get_regs()
        for name, value in registers.items():
            setattr(regs, name, value)
        self.vcpu.set_regs(regs)

    def get(self, name: str) -> int:
        return int(getattr(self.vcpu.get_regs(), name))

    def vector(self, number: int, address: int) -> None:
        """Point an entry of the real-mode interrupt table at 0000:address."""
        self.load(number * 4, address.to_bytes(4, "little"))

    def run(self, value: int = 0) -> int:
        return self.vcpu.run(value)

    def run_until(self, reason: int, limit: int = 1000) -> int:
        """Run, ignoring other exits, until one of `reason`."""
        for _ in range(limit):
            word = self.run()
            if word & lib.ABI_REASON_MASK == reason:
                return word
        raise AssertionError(f"no exit {reason} among {limit}: {self.vcpu.exit_counts()}")
