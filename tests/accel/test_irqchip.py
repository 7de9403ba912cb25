"""Interrupt controllers in the kernel: `kernel-irqchip=on` and `split`, and the devices that stand for them."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from accel_board import TIMEOUT, Board

from accel._kvmabi import lib
from qom.errors import RealizeError
from qom.hw.reset import Reset

MakeBoard = Callable[..., Board]

# xor ax,ax; mov ss,ax; mov sp,7c00h; PIC: icw1 11h, icw2 08h, icw3 04h, icw4 01h, ocw1 00h
PIC_SETUP = "31c08ed0bc007c b011e620 b008e621 b004e621 b001e621 b000e621"


@pytest.fixture
def board() -> Iterator[MakeBoard]:
    made: list[Board] = []

    def make(code: str, irqchip: str, **options: int) -> Board:
        built = Board("kvm", bytes.fromhex(code.replace(" ", "")), **{"kernel-irqchip": irqchip}, **options)  # type: ignore[arg-type]
        made.append(built)
        return built

    yield make
    for built in made:
        built.close()


def vector(built: Board, number: int, code: str) -> None:
    built.load(number * 4, bytes.fromhex("00060000"))
    built.load(0x600, bytes.fromhex(code.replace(" ", "")))


def start(built: Board, offset: int = 0) -> None:
    event = built.until(offset)
    built.cont()
    assert event.wait(TIMEOUT), f"{built.system.events} {built.accel.exit_counts()}"


EOI_PIC = "e6e1 50 b020e620 58 cf"  # out e1h,al; push ax; mov al,20h; out 20h,al; pop ax; iret


def test_chip_types(board: MakeBoard) -> None:
    assert board("f4", "off").accel.chip_types() == {"pic": "isa-i8259", "ioapic": "ioapic", "apic": "apic"}
    assert board("f4", "split").accel.chip_types() == {"pic": "isa-i8259", "ioapic": "ioapic", "apic": "kvm-apic"}
    assert board("f4", "on").accel.chip_types() == {"pic": "kvm-i8259", "ioapic": "kvm-ioapic", "apic": "kvm-apic"}


def test_a_line_of_the_kernels_pic_wakes_a_halted_guest(board: MakeBoard) -> None:
    built = board(PIC_SETUP + "fb e6e0 f4 ebfd", "on")  # sti; out e0h; l: hlt; jmp l
    pic = built.add_chip("kvm-i8259", accel=built.accel)
    vector(built, 9, EOI_PIC)
    start(built)
    assert "KVM_EXIT_HLT" not in built.accel.exit_counts()["0"]["user"]
    for count in range(1, 50):
        taken = built.until(1)
        with built.lock:
            pic.line_in(None, 1).raise_()
            pic.line_in(None, 1).lower()
        assert taken.wait(TIMEOUT)
        assert [port for port, _ in built.written].count(0xE1) == count


def test_a_guest_halted_in_the_kernel_stops_and_continues(board: MakeBoard) -> None:
    built = board(PIC_SETUP + "fb e6e0 f4 ebfd", "on")
    pic = built.add_chip("kvm-i8259", accel=built.accel)
    vector(built, 9, EOI_PIC)
    start(built)
    for _ in range(300):
        built.stop()
        built.cont()
    taken = built.until(1)
    with built.lock:
        pic.line_in(None, 1).pulse()
    assert taken.wait(TIMEOUT)


def test_reset_and_state_of_the_kernels_chips(board: MakeBoard) -> None:
    built = board(PIC_SETUP + "e6e0 f4", "on")
    pic = built.add_chip("kvm-i8259", accel=built.accel)
    ioapic = built.add_chip("kvm-ioapic", accel=built.accel)
    apic = built.add_chip("kvm-apic", accel=built.accel)
    apic.cpu = built.cpus[0]
    start(built)
    built.stop()
    saved = pic.save_state()
    assert bytes.fromhex(saved["master"])[5] == 8  # irq_base
    pic.reset_hold(Reset.COLD)
    assert bytes.fromhex(pic.save_state()["master"])[5] == 0
    pic.load_state(saved)
    assert pic.save_state() == saved
    fresh = ioapic.save_state()
    assert bytes.fromhex(fresh["chip"])[24:32] == (1 << 16).to_bytes(8, "little")  # entry 0 is masked
    ioapic.load_state(fresh)
    page = bytearray.fromhex(apic.save_state()["page"])
    assert page[0x350:0x352] == b"\x00\x07" and page[0xF0] == 0xFF  # LINT0 is ExtINT, software-disabled
    page[0x80] = 0x30
    apic.load_state({"page": page.hex()})
    assert bytes.fromhex(apic.save_state()["page"])[0x80] == 0x30
    with built.lock:
        built.cpus[0].reset_hold(Reset.COLD)
    assert bytes.fromhex(apic.save_state()["page"])[0x80] == 0


def test_application_processors_wait_in_the_kernel(board: MakeBoard) -> None:
    built = board("e6e0 f4", "on", cpus=2)
    start(built)
    built.stop()
    first, second = built.cpus
    assert first.vcpu.get_mp_state() != lib.KVM_MP_STATE_UNINITIALIZED
    assert second.vcpu.get_mp_state() == lib.KVM_MP_STATE_UNINITIALIZED
    assert not second.halted, "waiting is the kernel's business"


def test_devices_need_the_mode_they_stand_for(board: MakeBoard) -> None:
    built = board("f4", "off")
    for name, mode in (("kvm-i8259", "on"), ("kvm-ioapic", "on"), ("kvm-apic", "on")):
        text = f"'{name}' needs an accelerator with kernel-irqchip={mode}$"
        with pytest.raises(RealizeError, match=text):
            built.add_chip(name, accel=built.accel)


class SplitBus:
    """What kvm-apic needs of an APIC bus."""

    def __init__(self) -> None:
        self.message_sink: Callable[[int, int], None] | None = None
        self.ended: list[int] = []
        self.told = threading.Event()

    def end_of_interrupt(self, vector: int) -> None:
        self.ended.append(vector)
        self.told.set()


def prepare_apic(built: Board) -> None:
    """Enable the local APIC, and let DS reach all of memory, as the guest itself would after a while."""
    vcpu = built.cpus[0].vcpu
    page = bytearray(vcpu.get_lapic())
    page[0xF0:0xF2] = b"\xff\x01"
    vcpu.set_lapic(bytes(page))
    sregs = vcpu.get_sregs()
    sregs.ds.limit, sregs.ds.g = 0xFFFFFFFF, 1
    vcpu.set_sregs(sregs)


# out e1h,al; mov dword [fee000b0h],0 (end of interrupt); iret
EOI_APIC = "e6e1 67 66 c705 b000e0fe 00000000 cf"


def test_split_messages_and_their_end(board: MakeBoard) -> None:
    built = board("31c08ed0bc007c fb e6e0 f4 ebfd", "split")
    bus = SplitBus()
    with built.lock:
        apic = built.machine.registry.new("kvm-apic")
        built.machine.add_child("lapic", apic)
        apic.cpu, apic.apic_bus = built.cpus[0], bus
        apic.plug(built.bus)
        apic.set("realized", True)
    assert bus.message_sink is not None
    prepare_apic(built)
    vector(built, 0x41, EOI_APIC)
    start(built)
    for data, level in ((0x41, False), (0xC041, True), (0xC041, True)):
        taken = built.until(1)
        bus.told.clear()
        with built.lock:
            bus.message_sink(0xFEE00000, data)
        assert taken.wait(TIMEOUT), built.accel.exit_counts()
        if level:
            assert bus.told.wait(TIMEOUT), built.accel.exit_counts()
    assert bus.ended == [0x41, 0x41]
    assert built.accel.exit_counts()["0"]["user"]["KVM_EXIT_IOAPIC_EOI"] == 2


def test_split_takes_the_pics_interrupts_from_outside(board: MakeBoard) -> None:
    built = board("31c08ed0bc007c fb e6e0 f4 ebfd", "split")
    vector(built, 0x20, "e6e1 cf")
    pending = [0]

    def get_interrupt() -> int:
        pending[0] -= 1
        if not pending[0]:
            built.cpus[0].lower_interrupt()
        return 0x20

    cpu = built.cpus[0]
    cpu.interrupt_controller = SimpleNamespace(get_interrupt=get_interrupt, has_interrupt=lambda: pending[0] > 0)
    start(built)
    for _ in range(50):
        taken = built.until(1)
        with built.lock:
            pending[0] += 1
            cpu.raise_interrupt()
        assert taken.wait(TIMEOUT), built.accel.exit_counts()
