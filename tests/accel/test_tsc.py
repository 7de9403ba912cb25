"""The time-stamp counter and the MSRs that user space serves, on every accelerator that has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accel_board import Board
from accel_guest import TRANSPORTS, Guest

from accel._kvmabi import lib
from accel.errors import HandleError
from qom.errors import AccelError

RDTSC = bytes.fromhex("0f31f4")
RDMSR = bytes.fromhex("0f32f4")
WRMSR = bytes.fromhex("0f30f4")
SECOND = 1_000_000_000
TSC_ADJUST, APIC_BASE, DEADLINE = 0x3B, 0x1B, 0x6E0


@pytest.fixture(params=sorted(TRANSPORTS))
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    try:
        system = TRANSPORTS[request.param]()
    except AccelError as error:
        pytest.skip(str(error))
    yield Guest(system)
    system.close()


def tsc_by(guest: Guest, code: bytes = RDTSC, **registers: int) -> int:
    guest.load(0x1000, code)
    guest.set(rip=0x1000, **registers)
    guest.run_until(lib.KVM_EXIT_HLT)
    return guest.get("rdx") << 32 | guest.get("rax") & 0xFFFFFFFF


def test_the_guest_and_user_space_see_one_counter(guest: Guest) -> None:
    before = guest.vcpu.read_tsc()
    by_instruction, by_msr = tsc_by(guest), tsc_by(guest, RDMSR, rcx=0x10)
    assert before < by_instruction < by_msr < guest.vcpu.read_tsc()


def test_an_offset_moves_it(guest: Guest) -> None:
    vcpu = guest.vcpu
    if not vcpu.has_tsc_offset():
        pytest.skip(f"{vcpu.where}: no attribute for the TSC's offset")
    wanted = (vcpu.tsc_offset() - vcpu.read_tsc()) % (1 << 64)
    vcpu.set_tsc_offset(wanted)
    if vcpu.tsc_offset() != wanted:  # KVM on PVM: the guest runs on the host's counter
        pytest.skip(f"{vcpu.where}: takes an offset for the TSC and ignores it")
    small = tsc_by(guest)
    assert small < 100 * SECOND  # it began at 0 a moment ago
    vcpu.set_tsc_offset(vcpu.tsc_offset() + (1 << 62))
    assert tsc_by(guest) >> 62 == 1


def test_simulated_frequency_is_fixed_and_can_be_set() -> None:
    with TRANSPORTS["simulated"]() as system:
        vcpu = Guest(system).vcpu
        assert vcpu.tsc_khz() == 1_000_000
        before = vcpu.read_tsc()
        vcpu.set_tsc_khz(2_500_000)
        assert vcpu.tsc_khz() == 2_500_000
        assert before <= vcpu.read_tsc() < before + 100 * SECOND  # it goes on from where it was
        with pytest.raises(HandleError, match="KVM_SET_TSC_KHZ failed: EINVAL"):
            vcpu.set_tsc_khz(200_000_000)
        vcpu.set_tsc_khz(0)
        assert vcpu.tsc_khz() == 1_000_000


def test_tsc_adjust_follows_and_moves_the_counter() -> None:
    with TRANSPORTS["simulated"]() as system:
        guest = Guest(system)
        guest.vcpu.set_tsc_offset(0)
        start = guest.vcpu.tsc_offset()
        tsc_by(guest, WRMSR, rcx=TSC_ADJUST, rax=0x1000, rdx=0x10)
        assert guest.vcpu.tsc_offset() - start == 0x10_0000_1000
        tsc_by(guest, WRMSR, rcx=TSC_ADJUST, rax=0x3000, rdx=0x10)
        assert guest.vcpu.tsc_offset() - start == 0x10_0000_3000
        tsc_by(guest, WRMSR, rcx=0x10, rax=0, rdx=0)
        moved = guest.vcpu.tsc_offset() - start
        assert guest.vcpu.get_msrs([TSC_ADJUST])[TSC_ADJUST] == moved % (1 << 64)
        guest.vcpu.set_msrs({TSC_ADJUST: 0})  # from outside it is only the register
        assert guest.vcpu.tsc_offset() - start == moved


def test_msrs_come_to_user_space(guest: Guest) -> None:
    if not guest.vm.serve_msrs([DEADLINE]):
        pytest.skip(f"{guest.vm.where}: no exits for MSRs")
    guest.load(0x1000, bytes.fromhex("0f30 0f32 0f32 f4".replace(" ", "")))  # wrmsr; rdmsr; rdmsr; hlt
    guest.vector(13, 0x2000)
    guest.load(0x2000, bytes.fromhex("e6e1f4"))  # out e1h,al; hlt
    guest.set(rcx=DEADLINE, rdx=0x11, rax=0x22)
    c_vcpu = guest.vcpu.c
    assert guest.run() == lib.KVM_EXIT_X86_WRMSR | lib.ABI_WRITE
    assert (c_vcpu.address, c_vcpu.data) == (DEADLINE, 0x11_0000_0022)
    assert guest.run() == lib.KVM_EXIT_X86_RDMSR
    assert c_vcpu.address == DEADLINE
    assert guest.run(0x33_0000_0044) == lib.KVM_EXIT_X86_RDMSR
    assert (guest.get("rdx"), guest.get("rax")) == (0x33, 0x44)
    guest.vcpu.run_page.msr.error = 1  # the second one raises #GP
    word = guest.run()
    assert word & lib.ABI_REASON_MASK == lib.KVM_EXIT_IO and word >> lib.ABI_PORT_SHIFT == 0xE1


def test_without_being_asked_an_unknown_msr_raises_gp_inside() -> None:
    with TRANSPORTS["simulated"]() as system:
        guest = Guest(system, RDMSR)
        guest.vector(13, 0x2000)
        guest.load(0x2000, b"\xf4")
        guest.set(rcx=DEADLINE)
        assert guest.run() == lib.KVM_EXIT_HLT
        assert guest.get("rip") == 0x2001


def test_apic_base_takes_only_the_ways_there_are() -> None:
    """SDM volume 3, figure 11-27: x2APIC comes after xAPIC, and is left only for "off"."""
    with TRANSPORTS["simulated"]() as system:
        guest = Guest(system)
        guest.vcpu.set_cpuid(system.supported_cpuid())
        guest.vector(13, 0x2000)
        guest.load(0x2000, b"\x40\xf4")  # inc ax; hlt

        def write(value: int) -> bool:
            tsc_by(guest, WRMSR, rcx=APIC_BASE, rax=value, rdx=0, rsp=0x8000)
            return guest.get("rip") == 0x1003

        on, x2, base = 0x800, 0xC00, 0xFEE00100
        assert write(base | x2) and not write(base | on) and write(base)
        assert not write(base | x2) and write(base | on) and not write(base | 0x400) and not write(base | on | 1)


def test_stopping_stops_the_tsc_too() -> None:
    board = Board("simulated", b"\xf4", cpus=2)
    try:
        first, second = (cpu.vcpu for cpu in board.cpus)
        assert first.tsc_offset() == second.tsc_offset()
        board.accel.time_starts()
        board.accel.time_stops()
        stopped_at = first.read_tsc()
        first.set_tsc_offset(first.tsc_offset() + 1000 * SECOND)  # a long stop
        second.set_tsc_offset(second.tsc_offset() + 1000 * SECOND)
        board.accel.time_starts()
        assert stopped_at - 100 * SECOND < first.read_tsc() < stopped_at + 100 * SECOND
        assert first.tsc_offset() == second.tsc_offset()
    finally:
        board.close()
