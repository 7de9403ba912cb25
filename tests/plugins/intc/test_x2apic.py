"""x2APIC mode, the TSC-deadline timer and level-triggered local pins, with stand-ins for the processors."""

from __future__ import annotations

import pytest
from test_apic import BASE, CURRENT, EOI, ID, INITIAL, LDR, LINT0, LINT1, SVR, TIMER, TPR, Machine

X2 = 0xC00
MSR_ID, MSR_VERSION, MSR_TPR, MSR_PPR, MSR_EOI, MSR_LDR, MSR_SVR = 0x802, 0x803, 0x808, 0x80A, 0x80B, 0x80D, 0x80F
MSR_ESR, MSR_ICR, MSR_TIMER, MSR_INITIAL, MSR_SELF, DEADLINE = 0x828, 0x830, 0x832, 0x838, 0x83F, 0x6E0
ENABLED = 0x1FF
DEADLINE_MODE, PERIODIC = 2 << 17, 1 << 17
LOGICAL, NMI, OTHERS = 1 << 11, 4 << 8, 3 << 18


def x2(board: Machine) -> Machine:
    for apic in board.apics:
        apic.set_base(BASE | X2)
    return board


@pytest.fixture
def board() -> Machine:
    return x2(Machine(4))


def test_mode_is_entered_and_left_as_the_manual_allows(board: Machine) -> None:
    apic = board.apics[1]
    assert board.spaces[1].read(BASE + ID, 4) == 0xFFFFFFFF  # the page is gone
    assert [apic.read_msr(m) for m in (MSR_ID, MSR_VERSION, MSR_LDR, MSR_SVR)] == [1, 0x50014, 2, ENABLED]
    apic.set_base(BASE)  # off: what it held is forgotten
    assert apic.read_msr(MSR_ID) is None and not apic.write_msr(MSR_TPR, 0)
    apic.set_base(BASE | 0x800)
    assert board.get(1, SVR) == 0xFF
    assert board.get(1, ID) == 1 << 24
    assert apic.read_msr(MSR_ID) is None


def test_what_raises_gp(board: Machine) -> None:
    apic = board.apics[0]
    for unreadable in (0x80B, 0x80E, 0x831, 0x83F, 0x800, 0x8FF, 0x83C):
        assert apic.read_msr(unreadable) is None, hex(unreadable)
    for index, value in ((MSR_ID, 0), (MSR_LDR, 1), (0x80E, 0), (0x831, 0), (MSR_EOI, 1), (MSR_ESR, 1),
                         (MSR_TPR, 0x100), (MSR_SVR, 0x200), (MSR_ICR, 1 << 12), (MSR_SELF, 0x100), (MSR_TIMER, 1 << 20),
                         (MSR_INITIAL, 1 << 32), (0x839, 0), (0x820, 0)):  # fmt: skip
        assert not apic.write_msr(index, value), hex(index)
    assert apic.write_msr(MSR_EOI, 0) and apic.write_msr(MSR_ESR, 0)
    assert apic.read_msr(DEADLINE) is None and not apic.write_msr(DEADLINE, 1)  # no TSC was given


def test_commands_have_32_bit_destinations() -> None:
    board = Machine(3)
    for n, apic in enumerate(board.apics):
        apic.apic_id = (0, 0x12, 0x123)[n]
    x2(board)
    sender = board.apics[0]
    assert sender.write_msr(MSR_ICR, 0x123 << 32 | 0x41)
    assert board.pending() == [False, False, True]
    assert sender.read_msr(MSR_ICR) == 0x123 << 32 | 0x41
    assert board.apics[2].read_msr(MSR_LDR) == 0x12 << 16 | 1 << 3
    sender.write_msr(MSR_ICR, (1 << 16 | 0b101) << 32 | LOGICAL | 0x42)  # cluster 1, members 0 and 2
    assert board.pending() == [False, True, True]
    assert board.apics[1].get_interrupt() == 0x42
    sender.write_msr(MSR_ICR, 0xFF << 32 | 0x43)  # nobody's; not a broadcast here
    assert board.pending() == [False, False, True]
    sender.write_msr(MSR_ICR, 0xFFFFFFFF << 32 | NMI)
    assert [cpu.events for cpu in board.cpus] == [["nmi"]] * 3
    sender.write_msr(MSR_ICR, OTHERS | NMI)
    assert [len(cpu.events) for cpu in board.cpus] == [1, 2, 2]


def test_self_ipi_priority_and_eoi(board: Machine) -> None:
    apic = board.apics[2]
    assert apic.write_msr(MSR_SELF, 0x61)
    assert board.pending() == [False, False, True, False]
    assert apic.get_interrupt() == 0x61
    assert apic.read_msr(MSR_PPR) == 0x60 and apic.read_msr(0x813) == 1 << 1
    apic.write_msr(MSR_EOI, 0)
    assert apic.read_msr(MSR_PPR) == 0
    apic.write_msr(MSR_SELF, 3)
    apic.write_msr(MSR_ESR, 0)
    assert apic.read_msr(MSR_ESR) == 0x20


def test_messages_and_the_io_apic_reach_it(board: Machine) -> None:
    board.bus.message(0xFEE02000, 0x55)
    assert board.pending() == [False, False, True, False]
    board.bus.deliver(0xFF, False, 0, 0x56, level=False)
    assert board.pending() == [True] * 4
    board.bus.deliver(0b1000, True, 4, 0, level=False)
    assert [cpu.events for cpu in board.cpus] == [[], [], [], ["nmi"]]


# -- TSC deadline


def with_tsc(board: Machine, khz: int = 2_000_000) -> Machine:
    """A TSC that was 1000 when guest time was 0."""
    board.apics[0].read_tsc = lambda: (1000 + board.clock.now() * khz // 1_000_000, khz)
    return board


def test_deadline_fires_when_the_tsc_reaches_it() -> None:
    board = with_tsc(Machine())
    apic = board.apics[0]
    board.set(0, TIMER, 0x40 | DEADLINE_MODE)
    apic.write_msr(DEADLINE, 1000 + 2 * 5000)
    assert apic.read_msr(DEADLINE) == 11000
    assert board.get(0, CURRENT) == 0
    board.clock.step(4999)
    assert not apic.has_interrupt()
    board.clock.step(1)
    assert apic.get_interrupt() == 0x40
    assert apic.read_msr(DEADLINE) == 0  # disarmed
    board.set(0, EOI, 0)
    apic.write_msr(DEADLINE, 500)  # past: at once
    assert apic.get_interrupt() == 0x40 and apic.read_msr(DEADLINE) == 0


def test_deadline_belongs_to_its_mode() -> None:
    board = with_tsc(Machine())
    apic = board.apics[0]
    apic.write_msr(DEADLINE, 1 << 60)  # one-shot mode: ignored
    assert apic.read_msr(DEADLINE) == 0 and board.clock.next_deadline() is None
    board.set(0, INITIAL, 1000)
    board.set(0, TIMER, 0x40 | DEADLINE_MODE)
    assert board.clock.next_deadline() is None  # the change disarms
    board.set(0, INITIAL, 1000)  # ignored
    assert board.get(0, INITIAL) == 0 and board.clock.next_deadline() is None
    apic.write_msr(DEADLINE, 9000)
    assert board.clock.next_deadline() == 4000
    board.set(0, TIMER, 0x40 | PERIODIC)
    assert board.clock.next_deadline() is None and apic.read_msr(DEADLINE) == 0
    board.set(0, TIMER, 0x40 | DEADLINE_MODE)
    apic.write_msr(DEADLINE, 9000)
    apic.write_msr(DEADLINE, 0)
    assert board.clock.next_deadline() is None


def test_deadline_survives_saving(board: Machine) -> None:
    with_tsc(board)
    apic = board.apics[0]
    apic.write_msr(MSR_TIMER, 0x40 | DEADLINE_MODE)
    apic.write_msr(DEADLINE, 11000)
    saved = apic.save_state()
    apic.write_msr(DEADLINE, 0)
    apic.load_state(saved)
    board.clock.step(5000)
    assert apic.get_interrupt() == 0x40


# -- pins and CR8


@pytest.mark.parametrize("entry, line", [(LINT0, "pic"), (LINT1, "lint1")])
def test_a_level_triggered_pin_waits_for_its_eoi(entry: int, line: str) -> None:
    board = Machine(1)
    apic = board.apics[0]
    pin = board.bus.line_in("pic") if line == "pic" else apic.line_in("lint1")
    board.set(0, entry, 0x8000 | 0x45)
    pin.set(1)
    assert apic.get_interrupt() == 0x45
    assert board.get(0, entry) == 0xC045  # remote IRR
    assert not apic.has_interrupt()
    board.set(0, EOI, 0)
    assert apic.get_interrupt() == 0x45  # still asserted
    pin.set(0)
    board.set(0, EOI, 0)
    assert board.get(0, entry) == 0x8045 and not apic.has_interrupt()


def test_task_priority_is_carried_to_and_from_cr8() -> None:
    board = Machine(1)
    apic = board.apics[0]
    seen: list[int] = []
    apic.sync = lambda: seen.append(apic.tpr)
    board.set(0, TPR, 0x30)
    board.get(0, TPR)
    assert seen == [0, 0x30, 0x30]
    apic.cr8 = 3
    assert board.get(0, TPR) == 0x30  # the same class: the rest stays
    apic.cr8 = 5
    assert board.get(0, TPR) == 0x50


def test_ldr_belongs_to_xapic_mode() -> None:
    board = Machine(1)
    board.set(0, LDR, 0x40 << 24)
    board.apics[0].set_base(BASE | X2)
    assert board.apics[0].read_msr(MSR_LDR) == 1
