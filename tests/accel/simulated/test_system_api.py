"""The simulated accelerator's three handles at the level of KVM's API: errors, register state, exits and their order.

Every expected errno and the reset state were measured on a real /dev/kvm.  Guest code is a few bytes each, the assembly
beside it; real mode unless a test says otherwise.
"""

import errno
import threading
from collections.abc import Iterator
from typing import Any

import pytest

_core: Any = pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import Guest, abi, ffi, sim  # noqa: E402

CODE = 0x1000
RAM, ROM = 0x80000, 0x90000  # RAM up to 512 KiB, a slot at ROM, nothing between or above


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest({0: RAM, ROM: 0x1000})
    yield guest
    guest.close()


def start(guest: Guest, code: str, **regs: int) -> None:
    """Real mode, all segments 0, SP = 0x8000, at CODE."""
    assert guest.ioctl(abi.KVM_GET_SREGS, guest.sregs) == 0
    guest.sregs.cs.base, guest.sregs.cs.selector = 0, 0
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.write(CODE, bytes.fromhex(code))
    guest.set_regs(**{"rip": CODE, "rsp": 0x8000, "rflags": 2} | regs)


def region(guest: Guest, slot: int, base: int, size: int, host: int, flags: int = 0) -> int:
    """KVM_SET_USER_MEMORY_REGION; 0 or -errno."""
    r = ffi.new("struct kvm_userspace_memory_region *")
    r.slot, r.guest_phys_addr, r.memory_size, r.userspace_addr, r.flags = slot, base, size, host, flags
    return int(sim.sim_vm_ioctl(guest.vm, abi.KVM_SET_USER_MEMORY_REGION, guest.address(r)))


def host_of(guest: Guest, base: int) -> int:
    return int(ffi.cast("uintptr_t", ffi.from_buffer(guest.memory[base])))


def io_data(guest: Guest) -> Any:
    run = guest.run_page
    return ffi.buffer(ffi.cast("char *", run) + run.io.data_offset, run.io.size * run.io.count)


def variable(kind: str, element: str, count: int) -> Any:
    """A structure with a flexible array of `count` elements at its end."""
    memory = ffi.new("char[]", ffi.sizeof(f"struct {kind}") + count * ffi.sizeof(element))
    KEEP.append(memory)
    return ffi.cast(f"struct {kind} *", memory)


KEEP: list[Any] = []  # cffi frees what nothing holds


def ivt(guest: Guest, vector: int, offset: int) -> None:
    guest.write(4 * vector, offset.to_bytes(4, "little"))


# ---- handles and errors ---------------------------------------------------------------------------------------------


def test_system_handle(guest: Guest) -> None:
    call = sim.sim_system_ioctl
    assert call(guest.system, abi.KVM_GET_API_VERSION, 0) == 12
    assert call(guest.system, abi.KVM_GET_API_VERSION, 1) == -errno.EINVAL
    assert call(guest.system, abi.KVM_GET_VCPU_MMAP_SIZE, 0) == 12288
    assert call(guest.system, abi.KVM_CHECK_EXTENSION, abi.KVM_CAP_USER_MEMORY) == 1
    assert call(guest.system, abi.KVM_CHECK_EXTENSION, abi.KVM_CAP_IRQCHIP) == 0
    assert call(guest.system, 0xAEFF, 0) == -errno.EINVAL
    assert sim.sim_vm_ioctl(guest.vm, 0xAEFF, 0) == -errno.ENOTTY
    assert guest.ioctl(0xAEFF) == -errno.EINVAL
    assert guest.ioctl(abi.KVM_RUN, 1) == -errno.EINVAL
    assert guest.ioctl(abi.KVM_GET_REGS, 0) == -errno.EFAULT


def test_create_vcpu_errors(guest: Guest) -> None:
    error = _core.ffi.new("int *")
    assert sim.sim_create_vcpu(guest.vm, 0, error) == _core.ffi.NULL
    assert error[0] == errno.EEXIST
    assert sim.sim_create_vcpu(guest.vm, 1 << 20, error) == _core.ffi.NULL
    assert error[0] == errno.EINVAL


def test_supported_cpuid(guest: Guest) -> None:
    cpuid = variable("kvm_cpuid2", "struct kvm_cpuid_entry2", 1)
    cpuid.nent = 1
    assert sim.sim_system_ioctl(guest.system, abi.KVM_GET_SUPPORTED_CPUID, guest.address(cpuid)) == -errno.E2BIG
    cpuid = variable("kvm_cpuid2", "struct kvm_cpuid_entry2", 100)
    cpuid.nent = 100
    assert sim.sim_system_ioctl(guest.system, abi.KVM_GET_SUPPORTED_CPUID, guest.address(cpuid)) == 0
    leaf1 = next(e for e in cpuid.entries[0 : cpuid.nent] if e.function == 1)
    assert leaf1.edx & 1 and leaf1.edx & 1 << 4 and leaf1.edx & 1 << 15  # FPU, TSC, CMOV
    assert guest.ioctl(abi.KVM_SET_CPUID2, cpuid) == 0
    back = variable("kvm_cpuid2", "struct kvm_cpuid_entry2", 2)
    back.nent = 2
    assert guest.ioctl(abi.KVM_GET_CPUID2, back) == -errno.E2BIG


def test_memory_region_errors(guest: Guest) -> None:
    host = host_of(guest, 0)
    assert region(guest, 2, 0, 0x1000, host) == -errno.EEXIST  # overlaps slot 0
    assert region(guest, 2, 0x100000, 0x1001, host) == -errno.EINVAL
    assert region(guest, 2, 0x100001, 0x1000, host) == -errno.EINVAL
    assert region(guest, 2, 0x100000, 0, host) == -errno.EINVAL  # no such slot to delete
    assert region(guest, 0, 0, 0x1000, host) == -errno.EINVAL  # the size of a slot cannot change
    assert region(guest, 0, 0, RAM, host, abi.KVM_MEM_READONLY) == -errno.EINVAL
    assert region(guest, 0, 0, RAM, host, 8) == -errno.EINVAL
    assert region(guest, 0, 0, RAM, host) == 0
    assert region(guest, 2, (1 << 64) - 0x1000, 0x2000, host) == -errno.EINVAL
    log = ffi.new("struct kvm_dirty_log *")
    bitmap = ffi.new("uint64_t[]", 8)
    log.slot, log.dirty_bitmap = 0, bitmap
    assert sim.sim_vm_ioctl(guest.vm, abi.KVM_GET_DIRTY_LOG, guest.address(log)) == -errno.ENOENT


def test_reset_state(guest: Guest) -> None:
    r = guest.get_regs()
    assert (r.rip, r.rflags, r.rdx, r.rax, r.rsp) == (0xFFF0, 2, 0x600, 0, 0)
    assert guest.ioctl(abi.KVM_GET_SREGS, guest.sregs) == 0
    s = guest.sregs
    assert (s.cs.base, s.cs.selector, s.cs.limit, s.cs.type) == (0xFFFF0000, 0xF000, 0xFFFF, 11)
    assert (s.ss.base, s.ss.limit, s.ss.type, s.ss.present, s.ss.s) == (0, 0xFFFF, 3, 1, 1)
    assert (s.tr.type, s.tr.limit, s.tr.s) == (11, 0xFFFF, 0) and (s.ldt.type, s.ldt.limit) == (2, 0xFFFF)
    assert (s.cr0, s.cr3, s.cr4, s.efer, s.apic_base) == (0x60000010, 0, 0, 0, 0xFEE00900)
    assert (s.gdt.limit, s.idt.limit, s.idt.base) == (0xFFFF, 0xFFFF, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("cr4", 1 << 40), ("cr0", 0x80000010), ("cr0", 0x20000010), ("efer", 0x400), ("cr0", 1 << 40), ("apic_base", 1)],
)
def test_sregs_refused(guest: Guest, field: str, value: int) -> None:
    assert guest.ioctl(abi.KVM_GET_SREGS, guest.sregs) == 0
    setattr(guest.sregs, field, value)
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == -errno.EINVAL


LONG = {"cr0": 0x80000011, "cr3": 0x10000, "cr4": 0x20, "efer": 0x500}


@pytest.mark.parametrize(
    "change",
    [
        {"efer": 0x100},  # LME and paging, but no LMA
        {"cr4": 0},  # no PAE
        {"cr3": 1 << 52},  # an address that no processor has
        {"cr0": 0x11},  # LMA without paging
        {"efer": 0x502},  # a bit that EFER does not have
    ],
)
def test_long_mode_sregs_refused(guest: Guest, change: dict[str, int]) -> None:
    assert guest.ioctl(abi.KVM_GET_SREGS, guest.sregs) == 0
    for name, value in (LONG | change).items():
        setattr(guest.sregs, name, value)
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == -errno.EINVAL


def test_long_mode_from_user_space(guest: Guest) -> None:
    """64-bit code straight after KVM_SET_SREGS, above 4 GiB of linear addresses, and back into them."""
    start(guest, "48ffc0 f4")  # inc rax; hlt
    for level in (0x10000, 0x11000):
        guest.write(level, (level + 0x1003).to_bytes(8, "little"))
        guest.write(level + 0x100 * 8, (level + 0x1003).to_bytes(8, "little"))
    guest.write(0x12000, (0x83).to_bytes(8, "little"))  # 2 MiB
    for name, value in LONG.items():
        setattr(guest.sregs, name, value)
    cs = guest.sregs.cs
    cs.selector, cs.type, cs.s, cs.l, cs.db, cs.present = 8, 11, 1, 1, 0, 1
    guest.sregs.gs.base = 0xFFFF_8000_0000_0000
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    high = 0xFFFF_8000_0000_0000
    guest.set_regs(rip=high + CODE, rax=0xFFFF_FFFF, r15=1 << 63)
    assert guest.run() == abi.KVM_EXIT_HLT
    regs = guest.get_regs()
    assert (regs.rip, regs.rax, regs.r15) == (high + CODE + 4, 1 << 32, 1 << 63)
    assert guest.ioctl(abi.KVM_GET_SREGS, guest.sregs) == 0
    assert {name: getattr(guest.sregs, name) for name in LONG} == LONG
    assert (guest.sregs.cs.l, guest.sregs.gs.base) == (1, high)


def test_lowering_cr8_leaves_the_guest(guest: Guest) -> None:
    """Whoever has the local APIC may let an interrupt through that waited: KVM_EXIT_SET_TPR."""
    start(guest, "44 0f22c0 44 0f22c3 f4")  # mov cr8, rax; mov cr8, rbx; hlt
    for level in (0x10000, 0x11000):
        guest.write(level, (level + 0x1003).to_bytes(8, "little"))
    guest.write(0x12000, (0x83).to_bytes(8, "little"))
    for name, value in LONG.items():
        setattr(guest.sregs, name, value)
    guest.sregs.cs.l, guest.sregs.cs.db, guest.sregs.cs.selector = 1, 0, 8
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.set_regs(rax=9, rbx=3)
    assert guest.run() == abi.KVM_EXIT_SET_TPR
    assert (guest.run_page.cr8, guest.get_regs().rip) == (3, CODE + 8)
    assert guest.run() == abi.KVM_EXIT_HLT


def test_msrs(guest: Guest) -> None:
    index = variable("kvm_msr_list", "uint32_t", 1)
    index.nmsrs = 1
    assert sim.sim_system_ioctl(guest.system, abi.KVM_GET_MSR_INDEX_LIST, guest.address(index)) == -errno.E2BIG
    count = index.nmsrs
    index = variable("kvm_msr_list", "uint32_t", count)
    index.nmsrs = count
    assert sim.sim_system_ioctl(guest.system, abi.KVM_GET_MSR_INDEX_LIST, guest.address(index)) == 0
    msrs = variable("kvm_msrs", "struct kvm_msr_entry", count)
    msrs.nmsrs = count
    for n in range(count):
        msrs.entries[n].index = index.indices[n]
    assert guest.ioctl(abi.KVM_GET_MSRS, msrs) == count  # all that is listed can be read and written back
    assert guest.ioctl(abi.KVM_SET_MSRS, msrs) == count
    msrs.nmsrs = 3
    msrs.entries[0].index, msrs.entries[1].index, msrs.entries[2].index = 0x174, 0x12345678, 0x175
    assert guest.ioctl(abi.KVM_GET_MSRS, msrs) == 1
    assert guest.ioctl(abi.KVM_SET_MSRS, msrs) == 1


def test_other_state_errors(guest: Guest) -> None:
    mp = ffi.new("struct kvm_mp_state *")
    assert guest.ioctl(abi.KVM_GET_MP_STATE, mp) == 0 and mp.mp_state == abi.KVM_MP_STATE_RUNNABLE
    mp.mp_state = abi.KVM_MP_STATE_HALTED
    assert guest.ioctl(abi.KVM_SET_MP_STATE, mp) == -errno.EINVAL
    irq = ffi.new("struct kvm_interrupt *")
    irq.irq = 300
    assert guest.ioctl(abi.KVM_INTERRUPT, irq) == -errno.EINVAL
    events = ffi.new("struct kvm_vcpu_events *")
    assert guest.ioctl(abi.KVM_GET_VCPU_EVENTS, events) == 0
    events.flags = 1 << 20
    assert guest.ioctl(abi.KVM_SET_VCPU_EVENTS, events) == -errno.EINVAL
    events.flags, events.exception.injected, events.exception.nr = 0, 1, 40
    assert guest.ioctl(abi.KVM_SET_VCPU_EVENTS, events) == -errno.EINVAL
    debug = ffi.new("struct kvm_debugregs *")
    assert guest.ioctl(abi.KVM_GET_DEBUGREGS, debug) == 0
    assert (debug.dr6, debug.dr7) == (0xFFFF0FF0, 0x400)
    debug.dr7 = 1 << 33
    assert guest.ioctl(abi.KVM_SET_DEBUGREGS, debug) == -errno.EINVAL


# ---- exits ----------------------------------------------------------------------------------------------------------


def test_halt(guest: Guest) -> None:
    start(guest, "b8 34 12 f4")  # mov ax, 1234h; hlt
    assert guest.run() == abi.KVM_EXIT_HLT
    assert (guest.get_regs().rax, guest.regs.rip) == (0x1234, CODE + 4)
    assert sim.sim_vcpu_exit_count(guest.vcpu, 12) == sim.sim_vcpu_exit_count_user(guest.vcpu, 12) == 1
    assert sim.sim_vcpu_instructions(guest.vcpu) == 2


@pytest.mark.parametrize(
    ("code", "size", "rax"),
    [("e4 71 f4", 1, 0x11223344556677AA), ("e5 71 f4", 2, 0x112233445566CCAA), ("66 e5 71 f4", 4, 0x00000000EEDDCCAA)],
)
def test_port_read(guest: Guest, code: str, size: int, rax: int) -> None:
    start(guest, code, rax=0x1122334455667788)  # in al/ax/eax, 71h; hlt
    assert guest.run() == abi.KVM_EXIT_IO
    io = guest.run_page.io
    assert (io.direction, io.port, io.size, io.count) == (abi.KVM_EXIT_IO_IN, 0x71, size, 1)
    assert guest.get_regs().rip == CODE  # completes on the next KVM_RUN
    io_data(guest)[:] = b"\xaa\xcc\xdd\xee"[:size]
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == rax


def test_port_write_then_immediate_exit(guest: Guest) -> None:
    start(guest, "e6 80 e4 71 f4", rax=0x5A)  # out 80h, al; in al, 71h; hlt
    assert guest.run() == abi.KVM_EXIT_IO
    assert bytes(io_data(guest)) == b"\x5a"
    guest.run_page.immediate_exit = 1
    assert guest.run() == -errno.EINTR  # the OUT is complete, nothing more was executed
    assert guest.run_page.exit_reason == abi.KVM_EXIT_INTR
    assert guest.get_regs().rip == CODE + 2
    guest.run_page.immediate_exit = 0
    assert guest.run() == abi.KVM_EXIT_IO
    io_data(guest)[:] = b"\x77"
    guest.run_page.immediate_exit = 1
    assert guest.run() == -errno.EINTR
    assert (guest.get_regs().rip, guest.regs.rax) == (CODE + 4, 0x77)


def test_string_ports(guest: Guest) -> None:
    # mov cx, 10; mov si, 2000h; mov dx, 402h; rep outsb; mov cx, 3; mov di, 3000h; rep insw; hlt
    start(guest, "b9 0a 00 be 00 20 ba 02 04 f3 6e b9 03 00 bf 00 30 f3 6d f4")
    guest.write(0x2000, b"0123456789")
    out = b""
    while guest.run() == abi.KVM_EXIT_IO and guest.run_page.io.direction == abi.KVM_EXIT_IO_OUT:
        out += bytes(io_data(guest))
    assert out == b"0123456789"
    words = 0
    while guest.run_page.exit_reason == abi.KVM_EXIT_IO:
        data = io_data(guest)
        for n in range(guest.run_page.io.count):
            data[2 * n : 2 * n + 2] = (0x4141 + words).to_bytes(2, "little")
            words += 1
        assert guest.run() >= 0
    assert guest.run_page.exit_reason == abi.KVM_EXIT_HLT
    assert guest.read(0x3000, 8) == b"AABACA\0\0"
    assert (guest.get_regs().rcx, guest.regs.rsi, guest.regs.rdi) == (0, 0x200A, 0x3006)


def test_mmio_read_modify_write(guest: Guest) -> None:
    start(guest, "65 fe 07 f4", rbx=0)  # inc byte [gs:bx]; hlt
    guest.sregs.gs.base, guest.sregs.gs.selector = 0xA0000, 0xA000
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    assert guest.run() == abi.KVM_EXIT_MMIO
    mmio = guest.run_page.mmio
    assert (mmio.phys_addr, mmio.len, mmio.is_write) == (0xA0000, 1, 0)
    mmio.data[0] = 0x41
    assert guest.run() == abi.KVM_EXIT_MMIO
    assert (mmio.phys_addr, mmio.len, mmio.is_write, mmio.data[0]) == (0xA0000, 1, 1, 0x42)
    assert guest.get_regs().rip == CODE
    guest.run_page.immediate_exit = 1
    assert guest.run() == -errno.EINTR  # the instruction that was under way is complete
    assert guest.get_regs().rip == CODE + 3
    guest.run_page.immediate_exit = 0
    assert guest.run() == abi.KVM_EXIT_HLT
    assert sim.sim_vcpu_exit_count(guest.vcpu, 48) == 2


def test_mmio_across_the_end_of_memory(guest: Guest) -> None:
    start(guest, "66 65 a1 fe 0f f4")  # mov eax, [gs:0FFEh]; hlt
    guest.sregs.gs.base, guest.sregs.gs.selector = RAM - 0x1000, (RAM - 0x1000) >> 4
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.write(RAM - 2, b"\x34\x12")
    assert guest.run() == abi.KVM_EXIT_MMIO
    assert (guest.run_page.mmio.phys_addr, guest.run_page.mmio.len) == (RAM, 2)
    guest.run_page.mmio.data[0:2] = [0x78, 0x56]
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == 0x56781234


def test_mmio_read_modify_write_across_the_end_of_memory(guest: Guest) -> None:
    """The half in RAM is what it was until the device has all of its half: the instruction starts again each time."""
    start(guest, "66 65 ff 06 fe 0f f4")  # inc dword [gs:0FFEh]; hlt
    guest.sregs.gs.base, guest.sregs.gs.selector = RAM - 0x1000, (RAM - 0x1000) >> 4
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.write(RAM - 2, b"\xff\xff")
    mmio = guest.run_page.mmio
    assert guest.run() == abi.KVM_EXIT_MMIO
    assert (mmio.phys_addr, mmio.len, mmio.is_write) == (RAM, 2, 0)
    mmio.data[0:2] = [0x78, 0x56]
    assert guest.run() == abi.KVM_EXIT_MMIO
    assert (mmio.phys_addr, mmio.len, mmio.is_write, bytes(mmio.data[0:2])) == (RAM, 2, 1, b"\x79\x56")
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.read(RAM - 2, 2) == b"\0\0"


def test_readonly_slot(guest: Guest) -> None:
    host = host_of(guest, ROM)
    assert region(guest, 1, ROM, 0, host) == 0
    assert region(guest, 1, ROM, 0x1000, host, abi.KVM_MEM_READONLY) == 0
    guest.write(ROM, b"\x99")
    start(guest, "65 8a 07 65 88 27 f4", rax=0x5500)  # mov al, [gs:bx]; mov [gs:bx], ah; hlt
    guest.sregs.gs.base, guest.sregs.gs.selector = ROM, ROM >> 4
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    assert guest.run() == abi.KVM_EXIT_MMIO
    mmio = guest.run_page.mmio
    assert (mmio.phys_addr, mmio.is_write, mmio.len, mmio.data[0]) == (ROM, 1, 1, 0x55)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == 0x5599
    assert guest.read(ROM, 1) == b"\x99"


def test_triple_fault(guest: Guest) -> None:
    start(guest, "0f 0b")  # ud2
    guest.sregs.idt.limit = 0
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    assert guest.run() == abi.KVM_EXIT_SHUTDOWN
    assert sim.sim_vcpu_exit_count_user(guest.vcpu, 2) == 1


def test_code_where_there_is_no_memory(guest: Guest) -> None:
    start(guest, "ea 00 00 00 a0")  # jmp A000:0000
    assert guest.run() == abi.KVM_EXIT_INTERNAL_ERROR
    assert guest.run_page.internal.suberror == abi.KVM_INTERNAL_ERROR_EMULATION


def test_served_inside(guest: Guest) -> None:
    # mov ecx, 174h; mov eax, 8; xor edx, edx; wrmsr; xor eax, eax; rdmsr; hlt
    start(guest, "66 b9 74 01 00 00 66 b8 08 00 00 00 66 31 d2 0f 30 66 31 c0 0f 32 f4")
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == 8
    for reason, name in ((31, b"MSR_READ"), (32, b"MSR_WRITE")):
        assert _core.ffi.string(sim.sim_exit_reason_name(reason)) == name
        assert sim.sim_vcpu_exit_count(guest.vcpu, reason) == 1
        assert sim.sim_vcpu_exit_count_user(guest.vcpu, reason) == 0


@pytest.mark.parametrize(
    ("vendor", "taken"), [(b"AuthenticAMD", (0, (1 << 64) - 1, ~(1 << 10))), (b"GenuineIntel", (0, (1 << 64) - 1))]
)
def test_machine_check_controls(guest: Guest, vendor: bytes, taken: tuple[int, ...]) -> None:
    """Linux clears one bit of AMD's fourth bank; Intel's have no bits of their own."""
    ebx, edx, ecx = (int.from_bytes(vendor[n : n + 4], "little") for n in (0, 4, 8))
    cpuid = variable("kvm_cpuid2", "struct kvm_cpuid_entry2", 1)
    cpuid.nent = 1
    cpuid.entries[0].ebx, cpuid.entries[0].edx, cpuid.entries[0].ecx = ebx, edx, ecx
    assert guest.ioctl(abi.KVM_SET_CPUID2, cpuid) == 0
    msrs = variable("kvm_msrs", "struct kvm_msr_entry", 1)
    msrs.nmsrs, msrs.entries[0].index = 1, 0x410
    for value in (0, (1 << 64) - 1, ~(1 << 10)):
        msrs.entries[0].data = value & (1 << 64) - 1
        assert guest.ioctl(abi.KVM_SET_MSRS, msrs) == (value in taken), hex(value)


def test_unknown_msr_faults(guest: Guest) -> None:
    start(guest, "66 b9 78 56 34 12 0f 32 90")  # mov ecx, 12345678h; rdmsr
    ivt(guest, 13, 0x2000)
    guest.write(0x2000, b"\xf4")
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rip == 0x2001
    assert guest.read(guest.regs.rsp, 2) == (CODE + 6).to_bytes(2, "little")  # pushed IP: the RDMSR


# ---- interrupts -----------------------------------------------------------------------------------------------------


def interrupt(guest: Guest, vector: int) -> None:
    irq = ffi.new("struct kvm_interrupt *")
    irq.irq = vector
    assert guest.ioctl(abi.KVM_INTERRUPT, irq) == 0


def test_interrupt_window(guest: Guest) -> None:
    start(guest, "90 fb 90 90 f4")  # nop; sti; nop; nop; hlt
    ivt(guest, 0x21, 0x2000)
    guest.write(0x2000, bytes.fromhex("b1 77 cf"))  # mov cl, 77h; iret
    guest.run_page.request_interrupt_window = 1
    assert guest.run() == abi.KVM_EXIT_IRQ_WINDOW_OPEN
    assert guest.get_regs().rip == CODE + 3  # one instruction after STI
    assert guest.run_page.if_flag == 1 and guest.run_page.ready_for_interrupt_injection == 1
    guest.run_page.request_interrupt_window = 0
    interrupt(guest, 0x21)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert (guest.get_regs().rcx, guest.regs.rip, guest.regs.rsp) == (0x77, CODE + 5, 0x8000)


def test_mov_ss_holds_interrupts_off(guest: Guest) -> None:
    # push ax; popf (IF on): open at once; mov ss, cx; mov sp, 9000h; hlt
    start(guest, "50 9d 8e d1 bc 00 90 f4", rax=0x202)
    guest.run_page.request_interrupt_window = 1
    assert guest.run() == abi.KVM_EXIT_IRQ_WINDOW_OPEN
    assert guest.get_regs().rip == CODE + 2
    start(guest, "fb 8e d1 bc 00 90 90 f4")  # sti; mov ss, cx; mov sp, 9000h; nop; hlt
    assert guest.run() == abi.KVM_EXIT_IRQ_WINDOW_OPEN
    assert (guest.get_regs().rip, guest.regs.rsp) == (CODE + 6, 0x9000)  # both shadows are over only here


def test_interrupt_waits_while_off(guest: Guest) -> None:
    start(guest, "90 90 f4")
    interrupt(guest, 0x21)
    assert guest.run() == abi.KVM_EXIT_HLT  # IF = 0
    events = ffi.new("struct kvm_vcpu_events *")
    assert guest.ioctl(abi.KVM_GET_VCPU_EVENTS, events) == 0
    assert (events.interrupt.injected, events.interrupt.nr) == (1, 0x21)
    assert guest.run_page.ready_for_interrupt_injection == 0


def test_nmi_is_masked_until_iret(guest: Guest) -> None:
    start(guest, "90 f4 f4")  # nop; hlt; hlt
    ivt(guest, 2, 0x2000)
    guest.write(0x2000, bytes.fromhex("fe c1 f4 cf"))  # inc cl; hlt; iret
    assert guest.ioctl(abi.KVM_NMI) == 0
    assert guest.run() == abi.KVM_EXIT_HLT
    assert (guest.get_regs().rip, guest.regs.rcx) == (0x2003, 1)
    assert guest.ioctl(abi.KVM_NMI) == 0  # stays pending inside the handler
    assert guest.run() == abi.KVM_EXIT_HLT  # IRET, and at once the second NMI
    assert (guest.get_regs().rip, guest.regs.rcx) == (0x2003, 2)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rip == CODE + 2


# ---- kick ----------------------------------------------------------------------------------------------------------


def test_kick_before_run_is_kept(guest: Guest) -> None:
    start(guest, "eb fe")  # jmp $
    sim.sim_vcpu_kick(guest.vcpu)
    assert guest.run() == -errno.EINTR
    assert guest.run_page.exit_reason == abi.KVM_EXIT_INTR
    assert sim.sim_vcpu_instructions(guest.vcpu) == 0


def test_kick_a_busy_guest(guest: Guest) -> None:
    start(guest, "eb fe")
    for _ in range(200):
        results: list[int] = []
        thread = threading.Thread(target=lambda box: box.append(guest.run()), args=(results,))
        thread.start()
        sim.sim_vcpu_kick(guest.vcpu)
        thread.join(20)
        assert results == [-errno.EINTR]
        assert guest.get_regs().rip == CODE


# ---- memory that changes ---------------------------------------------------------------------------------------------


def test_dirty_log(guest: Guest) -> None:
    host = host_of(guest, 0)
    assert region(guest, 0, 0, RAM, host, abi.KVM_MEM_LOG_DIRTY_PAGES) == 0
    log, bitmap = ffi.new("struct kvm_dirty_log *"), ffi.new("uint64_t[]", RAM // 4096 // 64)
    log.slot, log.dirty_bitmap = 0, bitmap

    def fetch() -> set[int]:
        assert sim.sim_vm_ioctl(guest.vm, abi.KVM_GET_DIRTY_LOG, guest.address(log)) == 0
        return {n for n in range(RAM // 4096) if bitmap[n // 64] >> (n % 64) & 1}

    start(guest, "a2 00 50 f4 a2 01 50 a2 00 70 f4 f4")  # mov [5000h], al; hlt; mov [5001h], al; mov [7000h], al; hlt
    assert guest.run() == abi.KVM_EXIT_HLT
    assert fetch() == {5}
    assert fetch() == set()
    assert guest.run() == abi.KVM_EXIT_HLT  # the page is written by the fast path by now: must be logged again
    assert fetch() == {5, 7}
    assert guest.run() == abi.KVM_EXIT_HLT
    assert fetch() == set()


def test_slot_taken_away_while_the_guest_runs(guest: Guest) -> None:
    start(guest, "65 a1 00 00 eb fa")  # again: mov ax, [gs:0]; jmp again
    guest.sregs.gs.base, guest.sregs.gs.selector = ROM, ROM >> 4
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(guest.run()))
    thread.start()
    while sim.sim_vcpu_instructions(guest.vcpu) < 1000:
        pass
    assert region(guest, 1, ROM, 0, 0) == 0
    thread.join(20)
    assert results == [abi.KVM_EXIT_MMIO]
    assert guest.run_page.mmio.phys_addr == ROM


def test_user_space_changes_code_between_runs(guest: Guest) -> None:
    start(guest, "b0 01 f4")  # mov al, 1; hlt
    assert guest.run() == abi.KVM_EXIT_HLT
    guest.write(CODE + 1, b"\x02")
    guest.set_regs(rip=CODE)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == 2


# ---- debugging -------------------------------------------------------------------------------------------------------


def guest_debug(guest: Guest, control: int, **registers: int) -> None:
    debug = ffi.new("struct kvm_guest_debug *")
    debug.control = control | abi.KVM_GUESTDBG_ENABLE if control else 0
    for name, value in registers.items():
        debug.arch.debugreg[int(name[2:])] = value
    assert guest.ioctl(abi.KVM_SET_GUEST_DEBUG, debug) == 0


def test_single_step(guest: Guest) -> None:
    start(guest, "90 b0 01 e6 80 f4")  # nop; mov al, 1; out 80h, al; hlt
    guest_debug(guest, abi.KVM_GUESTDBG_SINGLESTEP)
    for rip in (CODE + 1, CODE + 3):
        assert guest.run() == abi.KVM_EXIT_DEBUG
        assert guest.get_regs().rip == guest.run_page.debug.arch.pc == rip
        assert guest.run_page.debug.arch.exception == 1 and guest.run_page.debug.arch.dr6 & 0x4000
    assert guest.run() == abi.KVM_EXIT_IO
    assert guest.run() == abi.KVM_EXIT_DEBUG
    assert guest.get_regs().rip == CODE + 5
    guest_debug(guest, 0)
    assert guest.run() == abi.KVM_EXIT_HLT


def test_breakpoints_of_user_space(guest: Guest) -> None:
    start(guest, "90 90 a2 00 50 90 cc f4")  # nop; nop; mov [5000h], al; nop; int3; hlt
    guest_debug(
        guest, abi.KVM_GUESTDBG_USE_HW_BP | abi.KVM_GUESTDBG_USE_SW_BP, dr0=CODE + 1, dr1=0x5000, dr7=0x00100600 | 2 | 8
    )
    assert guest.run() == abi.KVM_EXIT_DEBUG
    assert (guest.get_regs().rip, guest.run_page.debug.arch.dr6 & 15) == (CODE + 1, 1)
    guest_debug(guest, abi.KVM_GUESTDBG_USE_HW_BP | abi.KVM_GUESTDBG_USE_SW_BP, dr1=0x5000, dr7=0x00100600 | 8)
    assert guest.run() == abi.KVM_EXIT_DEBUG
    assert (guest.get_regs().rip, guest.run_page.debug.arch.dr6 & 15) == (CODE + 5, 2)
    assert guest.run() == abi.KVM_EXIT_DEBUG
    assert (guest.get_regs().rip, guest.run_page.debug.arch.exception) == (CODE + 6, 3)


def test_trap_flag(guest: Guest) -> None:
    start(guest, "90 90 f4", rflags=0x102)
    ivt(guest, 1, 0x2000)
    guest.write(0x2000, bytes.fromhex("fe c1 cf"))  # inc cl; iret
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rcx == 2  # after each NOP; HLT left for user space first
    debug = ffi.new("struct kvm_debugregs *")
    assert guest.ioctl(abi.KVM_GET_DEBUGREGS, debug) == 0
    assert debug.dr6 == 0xFFFF4FF0


def test_guest_data_breakpoint(guest: Guest) -> None:
    start(guest, "a2 00 50 b1 05 f4")  # mov [5000h], al; mov cl, 5; hlt
    ivt(guest, 1, 0x2000)
    guest.write(0x2000, b"\xf4")
    debug = ffi.new("struct kvm_debugregs *")
    debug.db[2], debug.dr6, debug.dr7 = 0x5000, 0xFFFF0FF0, 0x01000400 | 0x20
    assert guest.ioctl(abi.KVM_SET_DEBUGREGS, debug) == 0
    assert guest.run() == abi.KVM_EXIT_HLT
    assert (guest.get_regs().rip, guest.regs.rcx) == (0x2001, 0)
    assert guest.read(guest.regs.rsp, 2) == (CODE + 3).to_bytes(2, "little")
    assert guest.ioctl(abi.KVM_GET_DEBUGREGS, debug) == 0
    assert debug.dr6 & 15 == 4


# ---- several vCPUs ------------------------------------------------------------------------------------------------------


class Second:
    """Another vCPU in the same VM."""

    def __init__(self, guest: Guest, ident: int) -> None:
        error = _core.ffi.new("int *")
        self.vcpu = sim.sim_create_vcpu(guest.vm, ident, error)
        assert error[0] == 0
        page = int(_core.ffi.cast("uintptr_t", sim.sim_vcpu_run_page(self.vcpu)))
        self.run_page = ffi.cast("struct kvm_run *", page)

    def ioctl(self, request: int, pointer: Any = 0) -> int:
        return int(
            sim.sim_vcpu_ioctl(self.vcpu, request, pointer if isinstance(pointer, int) else Guest.address(pointer))
        )

    def start(self, guest: Guest, address: int, code: str) -> None:
        sregs, regs = ffi.new("struct kvm_sregs *"), ffi.new("struct kvm_regs *")
        assert self.ioctl(abi.KVM_GET_SREGS, sregs) == 0
        sregs.cs.base, sregs.cs.selector = 0, 0
        assert self.ioctl(abi.KVM_SET_SREGS, sregs) == 0
        regs.rip, regs.rsp, regs.rflags = address, 0x9000, 2
        assert self.ioctl(abi.KVM_SET_REGS, regs) == 0
        guest.write(address, bytes.fromhex(code))

    def run(self) -> int:
        result = self.ioctl(abi.KVM_RUN)
        return result if result < 0 else int(self.run_page.exit_reason)


def test_locked_increments(guest: Guest) -> None:
    # mov ecx, 200000; again: lock inc dword [5000h]; dec ecx; jnz again; hlt
    loop = "66 b9 40 0d 03 00 f0 66 ff 06 00 50 66 49 75 f6 f4"
    second = Second(guest, 1)
    start(guest, loop)
    second.start(guest, 0x1800, loop)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(second.run()))
    thread.start()
    assert guest.run() == abi.KVM_EXIT_HLT
    thread.join(30)
    assert results == [abi.KVM_EXIT_HLT]
    assert int.from_bytes(guest.read(0x5000, 4), "little") == 400000
    sim.sim_vcpu_close(second.vcpu)


def test_code_changed_by_another_vcpu(guest: Guest) -> None:
    second = Second(guest, 1)
    # spin: mov al, 0 (changed to 1 by the other); test al, al; jz spin; hlt
    start(guest, "b0 00 84 c0 74 fa f4")
    # mov cx, 20000; again: dec cx; jnz again; mov byte [1001h], 1; hlt
    second.start(guest, 0x1800, "b9 20 4e 49 75 fd c6 06 01 10 01 f4")
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(guest.run()))
    thread.start()
    while sim.sim_vcpu_instructions(guest.vcpu) < 1000:
        pass
    assert second.run() == abi.KVM_EXIT_HLT
    thread.join(20)
    assert results == [abi.KVM_EXIT_HLT]
    assert guest.get_regs().rip == CODE + 7
    sim.sim_vcpu_close(second.vcpu)


def test_vcpus_share_one_time(guest: Guest) -> None:
    second = Second(guest, 1)
    start(guest, "0f 31 f4")  # rdtsc; hlt
    second.start(guest, 0x1800, "0f 31 f4")
    times = []
    for _ in range(50):
        guest.set_regs(rip=CODE)
        assert guest.run() == abi.KVM_EXIT_HLT
        regs = ffi.new("struct kvm_regs *")
        times.append(guest.get_regs().rdx << 32 | guest.regs.rax)
        second.start(guest, 0x1800, "0f 31 f4")
        assert second.run() == abi.KVM_EXIT_HLT
        assert second.ioctl(abi.KVM_GET_REGS, regs) == 0
        times.append(regs.rdx << 32 | regs.rax)
    assert times == sorted(times)
    sim.sim_vcpu_close(second.vcpu)
