"""The local APIC's register page and the messages between APICs: Intel SDM Vol. 3A, chapter 11 (2023).

Not compared with QEMU: its register page answers only while one of its processors executes, so not to its own protocol.
"""

from __future__ import annotations

import pytest

from qom.testing import QTest

ARGS = "-smp 2"
BASE = 0xFEE00000
ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT = {"timer": 0x320, "thermal": 0x330, "perf": 0x340, "lint0": 0x350, "lint1": 0x360, "error": 0x370}
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x380, 0x390, 0x3E0
MASKED, PERIODIC = 1 << 16, 1 << 17
WRITABLE = {"timer": 0x700FF, "thermal": 0x107FF, "perf": 0x107FF, "lint0": 0x1A7FF, "lint1": 0x1A7FF, "error": 0x100FF}
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18


def get(q: QTest, register: int) -> int:
    return q.readl(BASE + register)


def put(q: QTest, register: int, value: int) -> None:
    q.writel(BASE + register, value)


def requested(q: QTest, vector: int) -> bool:
    return bool(get(q, IRR + 16 * (vector // 32)) >> vector % 32 & 1)


def taken(q: QTest, n: int = 0) -> int:
    """What processor `n` takes: the vector, -1 for nothing."""
    with q.vm.lock:
        return int(q.vm.cpus[n].interrupt_controller.get_interrupt())


def enabled(q: QTest) -> QTest:
    put(q, SVR, 0x1FF)
    return q


def test_reset_values(own: QTest) -> None:
    """11.4.7.1, of the bootstrap processor; its LINT0 passes the 8259 on, as firmware of a PC expects."""
    assert {r: get(own, r) for r in (ID, TPR, PPR, LDR, DFR, SVR, ESR, ICR_LOW, ICR_HIGH, DIVIDE, INITIAL_COUNT)} == {
        ID: 0, TPR: 0, PPR: 0, LDR: 0, DFR: 0xFFFFFFFF, SVR: 0xFF, ESR: 0, ICR_LOW: 0, ICR_HIGH: 0, DIVIDE: 0, INITIAL_COUNT: 0,
    }  # fmt: skip
    assert get(own, VERSION) == 0x50014
    assert [get(own, LVT[name]) for name in ("timer", "thermal", "perf", "lint1", "error")] == [MASKED] * 5
    assert get(own, LVT["lint0"]) & ~0x1000 == 0x700
    assert [get(own, first + 16 * n) for first in (ISR, TMR, IRR) for n in range(8)] == [0] * 24


@pytest.mark.parametrize("register, mask", [(TPR, 0xFF), (LDR, 0xFF000000), (ICR_HIGH, 0xFF000000), (DIVIDE, 0x0B)])
def test_what_is_written_reads_back(own: QTest, register: int, mask: int) -> None:
    for value in (0xFFFFFFFF, 0x5A5A5A5A, 0):
        put(own, register, value)
        assert get(own, register) == value & mask


@pytest.mark.parametrize("name", LVT)
def test_lvt_entries_read_back(own: QTest, name: str) -> None:
    """Figure 11-8; while the APIC is off by SVR the masks are stuck (11.4.7.2)."""
    put(own, LVT[name], 0)
    assert get(own, LVT[name]) & MASKED
    enabled(own)
    put(own, LVT[name], 0xFFFFFFFF)
    assert get(own, LVT[name]) == WRITABLE[name]
    put(own, LVT[name], 0x31)
    assert get(own, LVT[name]) == 0x31
    put(own, SVR, 0xFF)
    assert get(own, LVT[name]) == 0x31 | MASKED


def test_read_only_registers_cannot_be_written(own: QTest) -> None:
    for register in (VERSION, PPR, ISR, TMR, IRR, CURRENT_COUNT):
        before = get(own, register)
        put(own, register, 0x5A5A5A5A)
        assert get(own, register) == before


def test_an_interrupt_for_itself(own: QTest) -> None:
    """11.6.1, self shorthand: requested, taken, in service, over by EOI; the priority follows (11.8.3.1)."""
    enabled(own)
    put(own, ICR_LOW, SELF | 0x52)
    assert requested(own, 0x52)
    assert taken(own) == 0x52
    assert not requested(own, 0x52)
    assert get(own, ISR + 16 * (0x52 // 32)) == 1 << 0x52 % 32
    assert get(own, PPR) == 0x50
    put(own, ICR_LOW, SELF | 0x41)
    assert taken(own) == -1  # a lower class waits
    put(own, EOI, 0)
    assert taken(own) == 0x41
    put(own, EOI, 0)
    assert get(own, PPR) == 0


def test_the_task_priority_holds_interrupts_back(own: QTest) -> None:
    enabled(own)
    put(own, TPR, 0x50)
    put(own, ICR_LOW, SELF | 0x5F)
    assert taken(own) == -1
    put(own, TPR, 0x4F)
    assert taken(own) == 0x5F


def test_an_interrupt_for_another(own: QTest) -> None:
    enabled(own)
    other = own.vm.cpus[1].interrupt_controller
    with own.vm.lock:
        own.vm.cpus[1].memory.write(BASE + SVR, 0x1FF, 4)
    put(own, ICR_HIGH, 1 << 24)
    put(own, ICR_LOW, 0x61)
    assert not requested(own, 0x61)
    assert taken(own, 1) == 0x61
    put(own, ICR_LOW, OTHERS | 0x62)
    assert (taken(own, 0), taken(own, 1)) == (-1, -1)  # 61h is in service there
    with own.vm.lock:
        own.vm.cpus[1].memory.write(BASE + EOI, 0, 4)
        assert other.get_interrupt() == 0x62
    put(own, ICR_LOW, ALL | 0x73)
    assert (taken(own, 0), taken(own, 1)) == (0x73, 0x73)


def test_init_and_start_up_reach_the_processor(own: QTest) -> None:
    put(own, ICR_HIGH, 1 << 24)
    put(own, ICR_LOW, 0x4500)
    assert own.vm.cpus[1].init_request
    put(own, ICR_LOW, 0x4609)
    assert own.vm.cpus[1].sipi_request == 9


def test_illegal_vectors_are_errors(own: QTest) -> None:
    """11.5.3: ESR is latched by writing it; the error interrupt comes once for each kind."""
    enabled(own)
    put(own, LVT["error"], 0x7E)
    put(own, ICR_LOW, SELF | 0x05)
    assert requested(own, 0x7E)
    assert get(own, ESR) == 0
    put(own, ESR, 0)
    assert get(own, ESR) == 0x20
    put(own, ESR, 0)
    assert get(own, ESR) == 0


def test_a_register_there_is_not_is_an_error(own: QTest) -> None:
    enabled(own)
    for offset in (0x40, 0x3F0):
        assert get(own, offset) == 0
        put(own, ESR, 0)
        assert get(own, ESR) == 0x80
    put(own, 0x00, 1)
    put(own, ESR, 0)
    assert get(own, ESR) == 0x80


def test_the_timer_counts_down_once(own: QTest) -> None:
    """11.5.4; the bus clock is 1 GHz here, and DIVIDE 1011b divides by 1."""
    enabled(own)
    put(own, DIVIDE, 0x0B)
    put(own, LVT["timer"], 0x44)
    put(own, INITIAL_COUNT, 1000)
    own.clock_step(400)
    assert get(own, CURRENT_COUNT) == 600
    own.clock_step(599)
    assert not requested(own, 0x44)
    own.clock_step(1)
    assert requested(own, 0x44) and get(own, CURRENT_COUNT) == 0
    assert taken(own) == 0x44
    put(own, EOI, 0)
    own.clock_step(5000)
    assert not requested(own, 0x44)


def test_the_timer_goes_on_in_periodic_mode(own: QTest) -> None:
    enabled(own)
    put(own, DIVIDE, 0x00)  # by 2
    put(own, LVT["timer"], PERIODIC | 0x45)
    put(own, INITIAL_COUNT, 500)
    for _ in range(3):
        own.clock_step(1000)
        assert taken(own) == 0x45
        put(own, EOI, 0)
    put(own, INITIAL_COUNT, 0)
    own.clock_step(5000)
    assert taken(own) == -1


def test_a_masked_timer_counts_and_says_nothing(own: QTest) -> None:
    enabled(own)
    put(own, DIVIDE, 0x0B)
    put(own, LVT["timer"], MASKED | 0x46)
    put(own, INITIAL_COUNT, 100)
    own.clock_step(200)
    assert get(own, CURRENT_COUNT) == 0 and not requested(own, 0x46)


def test_lint1_is_what_its_entry_says(own: QTest) -> None:
    enabled(own)
    put(own, LVT["lint1"], 0x48)
    own.set_irq_in("cpu0/lapic", "lint1", 0, 1)
    assert requested(own, 0x48)
    own.set_irq_in("cpu0/lapic", "lint1", 0, 0)
    put(own, LVT["lint1"], 0x400)
    own.set_irq_in("cpu0/lapic", "lint1", 0, 1)
    assert own.vm.cpus[0].nmi_request
    own.set_irq_in("cpu0/lapic", "lint1", 0, 0)


def test_a_message_that_a_device_writes_is_delivered(own: QTest) -> None:
    """11.11: the address names the destination, the data vector and mode (`apic-bus`)."""
    enabled(own)
    with own.vm.lock:
        own.vm.machine.system_bus.memory_space.write(BASE, 0x59, 4)
    assert requested(own, 0x59)
    assert not get(own, TMR + 16 * (0x59 // 32))


def test_the_8259_comes_through_lint0(own: QTest) -> None:
    """Virtual wire by the local APIC; the bus's input is the 8259's INTR."""
    own.set_irq_in("apic-bus", "pic", 0, 1)
    enabled(own)
    put(own, LVT["lint0"], 0x4A)
    own.set_irq_in("apic-bus", "pic", 0, 0)
    own.set_irq_in("apic-bus", "pic", 0, 1)
    assert requested(own, 0x4A)
    own.set_irq_in("apic-bus", "pic", 0, 0)


def test_reset_forgets_what_was_requested(own: QTest) -> None:
    enabled(own)
    put(own, TPR, 0x80)
    put(own, ICR_LOW, SELF | 0x52)
    own.system_reset()
    assert (get(own, TPR), get(own, SVR), requested(own, 0x52)) == (0, 0xFF, False)


def test_registers_are_32_bits_at_16_bytes(own: QTest) -> None:
    """11.4.1: other accesses are undefined; here they change nothing."""
    own.writeb(BASE + TPR, 0x55)
    own.writew(BASE + TPR, 0x55)
    assert own.readl(BASE + VERSION + 4) == 0
    own.writel(BASE + TPR + 4, 0xFF)
    assert get(own, TPR) == 0
