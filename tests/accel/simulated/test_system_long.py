"""Long mode by single instructions, where the metal programs cannot put the state: bases that 64-bit code does not use,
a STAR that no kernel writes."""

from collections.abc import Iterator
from threading import Thread

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import Guest, abi, ffi, sim

CODE, DATA, TABLES = 0x10000, 0x20000, 0x30000
STAR, LSTAR, FMASK = 0xC0000081, 0xC0000082, 0xC0000084


@pytest.fixture
def guest() -> Iterator[Guest]:
    """64-bit code at ring 0, the first 2 MiB mapped to themselves, everything announced."""
    made = Guest({0: 0x40000})
    memory = ffi.new("char[]", ffi.sizeof("struct kvm_cpuid2") + 64 * ffi.sizeof("struct kvm_cpuid_entry2"))
    cpuid = ffi.cast("struct kvm_cpuid2 *", memory)
    cpuid.nent = 64
    assert sim.sim_system_ioctl(made.system, abi.KVM_GET_SUPPORTED_CPUID, made.address(cpuid)) == 0
    assert made.ioctl(abi.KVM_SET_CPUID2, cpuid) == 0
    for n, entry in enumerate((TABLES + 0x1003, TABLES + 0x2003, 0x83)):
        made.write(TABLES + 0x1000 * n, entry.to_bytes(8, "little"))
    made.flat32()
    sregs = made.sregs
    sregs.cs.l, sregs.cs.db = 1, 0
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = 0x80000011, TABLES, 0x20, 0x501
    assert made.ioctl(abi.KVM_SET_SREGS, sregs) == 0
    yield made
    made.close()


def test_cmpxchg16b_is_aligned_by_the_address_not_by_the_base_of_ds(guest: Guest) -> None:
    guest.sregs.ds.base = 8
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.write(CODE, bytes.fromhex("f0480fc70ef4"))  # lock cmpxchg16b [rsi]; hlt
    guest.write(DATA, (5).to_bytes(8, "little") + (6).to_bytes(8, "little"))
    guest.set_regs(rip=CODE, rflags=2, rsi=DATA, rax=5, rdx=6, rbx=7, rcx=8)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rip == CODE + 6
    assert guest.read(DATA, 16) == (7).to_bytes(8, "little") + (8).to_bytes(8, "little")


def test_syscall_clears_the_low_bits_of_cs_and_keeps_those_of_ss(guest: Guest) -> None:
    memory = ffi.new("char[]", ffi.sizeof("struct kvm_msrs") + 3 * ffi.sizeof("struct kvm_msr_entry"))
    msrs = ffi.cast("struct kvm_msrs *", memory)
    msrs.nmsrs = 3
    for n, (index, value) in enumerate(((STAR, 0x13 << 32), (LSTAR, DATA), (FMASK, 0))):
        msrs.entries[n].index, msrs.entries[n].data = index, value
    assert guest.ioctl(abi.KVM_SET_MSRS, msrs) == 3
    guest.write(CODE, bytes.fromhex("0f05"))
    guest.write(DATA, b"\xf4")
    guest.set_regs(rip=CODE, rflags=2)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.ioctl(abi.KVM_GET_SREGS, guest.sregs) == 0
    assert (guest.get_regs().rip, guest.sregs.cs.selector, guest.sregs.ss.selector) == (DATA + 1, 0x10, 0x1B)


def test_popfq_leaves_vif_and_vip_alone(guest: Guest) -> None:
    guest.write(CODE, bytes.fromhex("509df4"))  # push rax; popfq; hlt
    guest.set_regs(rip=CODE, rflags=0x180002, rsp=DATA, rax=0x2)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rflags == 0x180002


def test_mwait_waits_until_the_monitored_line_changes(guest: Guest) -> None:
    # monitor; mov dword [rsi], 1 (another line); mwait; hlt
    guest.write(CODE, bytes.fromhex("0f01c8 c70601000000 0f01c9 f4"))
    guest.set_regs(rip=CODE, rflags=2, rax=DATA + 5, rsi=DATA + 64)
    done = Thread(target=guest.run)
    done.start()
    while guest.read(DATA + 64, 1) == b"\0":
        pass
    assert done.is_alive()
    guest.write(DATA + 63, b"\1")
    done.join(20)
    assert not done.is_alive()
    assert guest.get_regs().rip == CODE + 13


def test_mwait_without_monitor_and_after_a_store_does_not_wait(guest: Guest) -> None:
    # mwait; monitor; mov dword [rax], 1; mwait; hlt
    guest.write(CODE, bytes.fromhex("0f01c9 0f01c8 c70001000000 0f01c9 f4"))
    guest.set_regs(rip=CODE, rflags=2, rax=DATA)
    assert guest.run() == abi.KVM_EXIT_HLT


def test_a_kick_ends_mwait(guest: Guest) -> None:
    guest.write(CODE, bytes.fromhex("0f01c8 c70601000000 0f01c9 f4"))
    guest.set_regs(rip=CODE, rflags=2, rax=DATA, rsi=DATA + 64)
    done = Thread(target=guest.run)
    done.start()
    while guest.read(DATA + 64, 1) == b"\0":
        pass
    sim.sim_vcpu_kick(guest.vcpu)
    done.join(20)
    assert not done.is_alive()
    assert guest.get_regs().rip == CODE + 12  # MWAIT is done, HLT is not


@pytest.mark.parametrize(
    ("code", "vector"),
    [("0f01c8", 13), ("0f01c9", 13)],
    ids=["monitor", "mwait"],
)
def test_unknown_hints_of_monitor_and_mwait_are_gp(guest: Guest, code: str, vector: int) -> None:
    gate = CODE + 0x100  # where every vector leads
    low = (gate & 0xFFFF) | 8 << 16 | 0x8E00 << 32 | (gate >> 16) << 48
    guest.write(DATA + 0x1000 + 16 * vector, low.to_bytes(16, "little"))
    guest.write(DATA + 0x2008, bytes.fromhex("ffff0000009bcf00").replace(b"\xcf", b"\xaf"))
    guest.write(gate, b"\xf4")
    guest.write(CODE, bytes.fromhex(code))
    guest.sregs.idt.base, guest.sregs.idt.limit = DATA + 0x1000, 0xFFF
    guest.sregs.gdt.base, guest.sregs.gdt.limit = DATA + 0x2000, 0xF
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.set_regs(rip=CODE, rflags=2, rax=DATA, rcx=2, rsp=DATA + 0x8000)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rip == gate + 1
