"""A vCPU of the C core with memory, for tests: raw ioctls, no accelerator object around it."""

import mmap
from typing import Any

from accel import _kvmabi
from accel.simulated import _core

ffi, abi = _kvmabi.ffi, _kvmabi.lib
sim = _core.lib

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
IDT_BASE, HANDLERS, GDT_BASE = 0x1000, 0x2000, 0x800


class Guest:
    """One VM, one vCPU, memory slots at the addresses given as {guest address: bytes}."""

    def __init__(self, memory: dict[int, int]) -> None:
        self.system = sim.sim_open()
        error = _core.ffi.new("int *")
        self.vm = sim.sim_create_vm(self.system, error)
        assert self.vm != _core.ffi.NULL, error[0]
        self.memory: dict[int, mmap.mmap] = {}
        for slot, (base, size) in enumerate(memory.items()):
            block = mmap.mmap(-1, size)
            region = ffi.new("struct kvm_userspace_memory_region *")
            region.slot, region.guest_phys_addr, region.memory_size = slot, base, size
            region.userspace_addr = int(ffi.cast("uintptr_t", ffi.from_buffer(block)))
            self.memory[base] = block
            assert sim.sim_vm_ioctl(self.vm, abi.KVM_SET_USER_MEMORY_REGION, self.address(region)) == 0
        self.vcpu = sim.sim_create_vcpu(self.vm, 0, error)
        assert self.vcpu != _core.ffi.NULL, error[0]
        self.run_page = ffi.cast("struct kvm_run *", int(_core.ffi.cast("uintptr_t", sim.sim_vcpu_run_page(self.vcpu))))
        self.regs = ffi.new("struct kvm_regs *")
        self.sregs = ffi.new("struct kvm_sregs *")

    @staticmethod
    def address(pointer: Any) -> int:
        return int(ffi.cast("uintptr_t", pointer))

    def ioctl(self, request: int, pointer: Any = 0) -> int:
        argument = pointer if isinstance(pointer, int) else self.address(pointer)
        return int(sim.sim_vcpu_ioctl(self.vcpu, request, argument))

    def close(self) -> None:
        sim.sim_vcpu_close(self.vcpu)
        sim.sim_vm_close(self.vm)
        sim.sim_system_close(self.system)

    def write(self, address: int, data: bytes) -> None:
        for base, block in self.memory.items():
            if base <= address < base + len(block):
                block[address - base : address - base + len(data)] = data
                return
        raise AssertionError(f"no memory at {address:#x}")

    def read(self, address: int, size: int) -> bytes:
        for base, block in self.memory.items():
            if base <= address < base + len(block):
                return block[address - base : address - base + size]
        raise AssertionError(f"no memory at {address:#x}")

    def get_regs(self) -> Any:
        assert self.ioctl(abi.KVM_GET_REGS, self.regs) == 0
        return self.regs

    def set_regs(self, **values: int) -> None:
        self.get_regs()
        for name, value in values.items():
            setattr(self.regs, name, value)
        assert self.ioctl(abi.KVM_SET_REGS, self.regs) == 0

    def run(self) -> int:
        """KVM_RUN once; the exit reason, or -errno."""
        result = self.ioctl(abi.KVM_RUN)
        return result if result < 0 else int(self.run_page.exit_reason)

    def flat32(self) -> None:
        """Protected mode, ring 0, flat 4 GiB segments, interrupts off; every exception v halts at HANDLERS + 16 v."""
        assert self.ioctl(abi.KVM_GET_SREGS, self.sregs) == 0
        s = self.sregs
        for name in ("ds", "es", "fs", "gs", "ss", "cs"):
            segment = getattr(s, name)
            segment.base, segment.limit, segment.selector = 0, 0xFFFFFFFF, 8 if name == "cs" else 16
            segment.type, segment.present, segment.dpl, segment.db = (11 if name == "cs" else 3), 1, 0, 1
            segment.s, segment.l, segment.g, segment.avl, segment.unusable = 1, 0, 1, 0, 0
        s.cr0 = 0x11
        s.gdt.base, s.gdt.limit = GDT_BASE, 0x17
        s.idt.base, s.idt.limit = IDT_BASE, 32 * 8 - 1
        assert self.ioctl(abi.KVM_SET_SREGS, s) == 0
        self.write(GDT_BASE + 8, bytes.fromhex("ffff0000009bcf00ffff00000093cf00"))
        for vector in range(32):
            target = HANDLERS + 16 * vector
            gate = (target & 0xFFFF) | 8 << 16 | 0x8E00 << 32 | (target >> 16) << 48
            self.write(IDT_BASE + 8 * vector, gate.to_bytes(8, "little"))
            self.write(target, b"\xf4")
