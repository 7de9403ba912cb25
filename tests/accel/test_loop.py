"""The vCPU loop, vCPU threads and memory slots, on every accelerator."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from accel_board import TIMEOUT, Board

from accel import loop
from accel._kvmabi import lib
from qom.hw.memory import Region
from qom.hw.reset import Reset
from qom.vm import vcpu as vcpu_module

MakeBoard = Callable[..., Board]

OUT_HLT = bytes.fromhex("b04be6e0f4")  # mov al,4bh; out e0h,al; hlt


@pytest.fixture(params=["kvm", "simulated"])
def board(request: pytest.FixtureRequest) -> Iterator[MakeBoard]:
    made: list[Board] = []

    def make(code: bytes = b"", **options: object) -> Board:
        built = Board(request.param, code, **options)  # type: ignore[arg-type]
        made.append(built)
        return built

    yield make
    for built in made:
        built.close()


def finish(built: Board, offset: int = 0) -> None:
    """Start, and wait until port E0h + offset was written."""
    event = built.until(offset)
    built.cont()
    assert event.wait(TIMEOUT), f"{built.system.events} {built.accel.exit_counts()}"


def until_halted(built: Board) -> None:
    """The guest has executed HLT (a port it writes just before tells less)."""
    while not built.cpus[0].halted:
        time.sleep(0)


# -- ports and memory


def test_a_new_vcpu_stands_still_until_it_is_started(board: MakeBoard) -> None:
    built = board(OUT_HLT)
    cpu = built.cpus[0]
    assert cpu.stopped and cpu.thread is not None and cpu.thread.is_alive()
    assert cpu.vcpu.exit_counts() == {}
    finish(built)
    assert built.written == [(0xE0, 0x4B)]


def test_port_reads_reach_the_device_and_come_back(board: MakeBoard) -> None:
    built = board(
        bytes.fromhex("e4e3e6e0 66b878563412 66e7e4 f4".replace(" ", ""))
    )  # in al,e3h; out e0h,al; out e4h,eax
    finish(built, 4)
    assert built.written == [(0xE0, 0x43), (0xE4, 0x12345678)]


def test_unassigned_ports_read_all_ones(board: MakeBoard) -> None:
    built = board(bytes.fromhex("ba3412edba00e0e7e0f4"))  # in ax,dx (1234h); out e0h,ax
    finish(built)
    assert built.written == [(0xE0, 0xFFFF)]


def test_a_changed_port_map_is_seen_at_the_next_access(board: MakeBoard) -> None:
    built = board(bytes.fromhex("e480 e6e0 e480 e6e1 f4".replace(" ", "")))
    first = Region("first", 1, lambda at, size: 1, None)
    second = Region("second", 1, lambda at, size: 2, None)
    built.bus.io.add(0x80, first)

    def swap(value: int) -> None:
        built.bus.io.remove(first)
        built.bus.io.add(0x80, second)

    built.watch[0] = swap
    finish(built, 1)
    assert built.written == [(0xE0, 1), (0xE1, 2)]


def test_string_io_both_ways(board: MakeBoard) -> None:
    # mov si,7e00h; mov cx,5; mov dx,e0h; rep outsb; mov di,7e10h; mov cx,3; mov dx,e1h; rep insb; out e2h,al; hlt
    built = board(bytes.fromhex("be007eb90500bae000f36e bf107eb90300bae100f36c e6e2f4".replace(" ", "")))
    built.load(0x7E00, b"abcde")
    finish(built, 2)
    assert [value for port, value in built.written if port == 0xE0] == list(b"abcde")
    assert bytes(built.memory[0x7E10:0x7E13]) == b"\x41\x41\x41"


def test_mmio_reaches_a_memory_region(board: MakeBoard) -> None:
    # mov ax,a000h; mov ds,ax; mov ax,[4]; inc ax; mov [8],ax; out e0h,al; hlt
    built = board(bytes.fromhex("b800a08ed8a1040040a30800e6e0f4"))
    seen: list[tuple[int, int, int]] = []
    window = Region("window", 0x100, lambda at, size: 0x1110 + at, lambda at, v, size: seen.append((at, v, size)))
    built.bus.memory.add(0xA0000, window, 1)
    finish(built)
    assert seen == [(8, 0x1115, 2)]


def test_memory_slots_follow_the_address_space(board: MakeBoard) -> None:
    # mov ax,c000h; mov ds,ax; l: mov al,[0]; out e0h,al; in al,e1h; jmp l
    built = board(bytes.fromhex("b800c08ed8a00000e6e0e4e1ebf7"))
    shadow = Region.ram("shadow", 0x1000)
    assert shadow.ram_block is not None
    shadow.ram_block.view[0] = 0x99
    built.load(0xC0000, b"\x11")
    slots = built.accel.slots
    assert slots is not None
    seen = threading.Semaphore(0)
    built.watch[0] = lambda value: seen.release()
    built.cont()
    assert seen.acquire(timeout=TIMEOUT)
    before = len(slots.slots)
    with built.lock:
        built.bus.memory.add(0xC0000, shadow, 1)
        assert len(slots.slots) == before + 2  # RAM is cut in three
        count = len(built.written)
    while len(built.written) < count + 3:
        assert seen.acquire(timeout=TIMEOUT)
    with built.lock:
        built.bus.memory.remove(shadow)
        assert len(slots.slots) == before
        again = len(built.written)
    while len(built.written) < again + 3:
        assert seen.acquire(timeout=TIMEOUT)
    built.stop()
    values = [value for _, value in built.written]
    assert set(values[:count]) == {0x11} and values[count + 1] == 0x99 and values[-1] == 0x11


def test_rom_cannot_be_written(board: MakeBoard) -> None:
    built = board(bytes.fromhex("b800c08ed8c606000077a00000e6e0f4"))  # [c000:0]=77h; al=[c000:0]; out e0h,al
    built.bus.memory.add(0xC0000, Region.rom("rom", b"\x55", 0x1000), 1)
    finish(built)
    assert built.written == [(0xE0, 0x55)]
    assert built.bus.memory_space.dropped_writes == 1


def test_dirty_pages_reach_the_ram_block(board: MakeBoard) -> None:
    # mov ax,2000h; mov ds,ax; mov [0],al; mov [3000h],al; out e0h,al; hlt
    built = board(bytes.fromhex("b800208ed8a20000a20030e6e0f4"))
    with built.lock:
        built.ram.dirty_log("test", True)
    finish(built)
    built.stop()
    assert {0x20, 0x23} <= set(built.ram.take_dirty("test"))
    assert built.ram.take_dirty("test") == []


# -- interrupts and halt


class Pic:
    """An interrupt controller of one vector, level-triggered until acknowledged."""

    def __init__(self, built: Board, vector: int = 0x20) -> None:
        self.cpu = built.cpus[0]
        self.vector = vector
        self.pending = 0
        self.acknowledged = 0
        self.cpu.interrupt_controller = self

    def request(self) -> None:
        self.pending += 1
        self.cpu.raise_interrupt()

    def get_interrupt(self) -> int:
        if not self.pending:
            return -1
        self.pending -= 1
        self.acknowledged += 1
        if not self.pending:
            self.cpu.lower_interrupt()
        return self.vector

    def has_interrupt(self) -> bool:
        return self.pending > 0


HANDLER = bytes.fromhex("e6e1cf")  # out e1h,al; iret


def with_vector(built: Board, vector: int = 0x20) -> Board:
    built.load(vector * 4, bytes.fromhex("00060000"))
    built.load(0x600, HANDLER)
    return built


SETUP = "31c08ed0bc007c"  # xor ax,ax; mov ss,ax; mov sp,7c00h


def test_an_interrupt_wakes_a_halted_processor(board: MakeBoard) -> None:
    built = with_vector(board(bytes.fromhex(SETUP + "e6e0fbf4e6e2f4")))  # out e0h; sti; hlt; out e2h; hlt
    pic = Pic(built)
    finish(built)
    done = built.until(2)
    with built.lock:
        pic.request()
    assert done.wait(TIMEOUT), built.accel.exit_counts()
    assert [port for port, _ in built.written] == [0xE0, 0xE1, 0xE2]
    assert pic.acknowledged == 1


def test_an_interrupt_waits_for_the_window(board: MakeBoard) -> None:
    # out e0h; (request comes here) mov cx,100; loop $; out e2h; sti; mov cx,4096; loop $; cli;
    # out e3h; hlt (the long window is for KVM on PVM, which looks for it only every few instructions)
    built = with_vector(board(bytes.fromhex(SETUP + "e6e0b96400e2fee6e2fbb90010e2fefae6e3f4")))
    pic = Pic(built)
    built.watch[0] = lambda value: pic.request()
    finish(built, 3)
    assert [port for port, _ in built.written] == [0xE0, 0xE2, 0xE1, 0xE3]


def test_many_interrupts_in_a_busy_loop_are_all_taken(board: MakeBoard) -> None:
    built = with_vector(board(bytes.fromhex(SETUP + "fbe6e0ebfe")))  # sti; out e0h; jmp $
    pic = Pic(built)
    finish(built)
    taken = threading.Semaphore(0)
    built.watch[1] = lambda value: taken.release()
    for _ in range(300):
        with built.lock:
            pic.request()
        assert taken.acquire(timeout=TIMEOUT), built.accel.exit_counts()
    assert pic.acknowledged == 300


def test_a_withdrawn_interrupt_is_not_delivered(board: MakeBoard) -> None:
    # out e0h (request), out e1h (withdrawn), sti, nop, nop, out e2h, hlt
    built = board(bytes.fromhex(SETUP + "e6e0e6e1fb9090e6e2f4"))
    pic = Pic(built)
    built.watch[0] = lambda value: pic.request()

    def withdraw(value: int) -> None:
        pic.pending = 0
        pic.cpu.lower_interrupt()

    built.watch[1] = withdraw
    finish(built, 2)
    assert pic.acknowledged == 0


def test_nmi_line(board: MakeBoard) -> None:
    built = with_vector(board(bytes.fromhex(SETUP + "e6e0f4e6e2f4")), 2)  # out e0h; hlt (IF=0); out e2h; hlt
    finish(built)
    until_halted(built)
    done = built.until(2)
    with built.lock:
        built.cpus[0].line_in("nmi").raise_()
    assert done.wait(TIMEOUT)
    assert [port for port, _ in built.written] == [0xE0, 0xE1, 0xE2]


# -- several processors


def test_application_processor_waits_for_its_startup_ipi(board: MakeBoard) -> None:
    built = board(OUT_HLT, cpus=2)
    built.load(0x9000, bytes.fromhex("8cc8e7e2f4"))  # mov ax,cs; out e2h,ax; hlt
    finish(built)
    second = built.cpus[1]
    assert second.waits_for_sipi and second.halted
    with built.lock:
        second.request_sipi(0x55)  # without INIT it still waits since reset
        assert second.sipi_request == 0x55
        second.sipi_request = None
        done = built.until(2)
        second.request_init()
        second.request_sipi(9)
    assert done.wait(TIMEOUT)
    assert built.written[-1] == (0xE2, 0x900)
    assert not second.waits_for_sipi


def test_init_of_the_bootstrap_processor_restarts_it(board: MakeBoard) -> None:
    built = board(bytes.fromhex("e6e0ebfe"))
    finish(built)
    again = built.until(0)
    with built.lock:
        built.cpus[0].request_init()
    assert again.wait(TIMEOUT)


def test_two_busy_processors_share_the_devices(board: MakeBoard) -> None:
    # l: in al,e0h; out e1h,al; dec cx; jnz l; out e2h; hlt -- and the same for the other
    code = "b90008e4e0e6e149 75f9 e6{} f4"
    built = board(bytes.fromhex(code.format("e2").replace(" ", "")), cpus=2)
    built.load(0x9000, bytes.fromhex(code.format("e3").replace(" ", "")))
    first, second = built.until(2), built.until(3)
    built.cont()
    with built.lock:
        built.cpus[1].request_init()
        built.cpus[1].request_sipi(9)
    assert first.wait(TIMEOUT) and second.wait(TIMEOUT), built.accel.exit_counts()
    assert sum(1 for port, _ in built.written if port == 0xE1) == 2 * 0x800


# -- stop, cont, reset, run_on


@pytest.mark.parametrize("code", ["ebfe", "e4e0ebfc"], ids=["busy", "exiting"])  # jmp $ / l: in al,e0h; jmp l
def test_stop_and_cont_ten_thousand_times(board: MakeBoard, code: str) -> None:
    built = board(bytes.fromhex(code))
    cpu = built.cpus[0]
    c_vcpu = cpu.vcpu.c
    for number in range(10_000):
        before = c_vcpu.exits[lib.KVM_EXIT_IO]
        built.cont()
        while number % 10 and not (c_vcpu.running or c_vcpu.exits[lib.KVM_EXIT_IO] != before):
            time.sleep(0)  # one time in ten stop it before it has begun
        built.stop()
        assert cpu.stopped and not c_vcpu.running
    counts = cpu.vcpu.exit_counts()
    assert counts["KVM_EXIT_INTR"] >= 9_000, counts
    # and it still runs
    built.load(0x7C00, OUT_HLT)
    with built.lock:
        cpu.reset_hold(Reset.COLD)
    finish(built)


def test_a_stopped_processor_has_finished_its_io(board: MakeBoard) -> None:
    built = board(bytes.fromhex("e4e5 e4e5 ebfe".replace(" ", "")))
    stopper = threading.Event()

    def read(at: int, size: int) -> int:
        vcpu_module.stop_all_vcpus_soon(built.cpus)
        stopper.set()
        return 0x77

    built.bus.io.add(0xE5, Region("stopper", 1, read), 1)
    built.cont()
    assert stopper.wait(TIMEOUT)
    built.stop()
    regs = built.cpus[0].vcpu.get_regs()
    assert (regs.rip, regs.rax & 0xFF) == (0x7C02, 0x77)


def test_a_halted_processor_stops_and_continues(board: MakeBoard) -> None:
    built = with_vector(board(bytes.fromhex(SETUP + "fbe6e0f4e6e2f4")))
    pic = Pic(built)
    finish(built)
    until_halted(built)
    for _ in range(200):
        built.stop()
        built.cont()
    built.stop()
    with built.lock:
        pic.request()
    assert built.written == [(0xE0, 0)]
    finish(built, 2)


def test_reset_starts_over(board: MakeBoard) -> None:
    built = board(OUT_HLT)
    finish(built)
    for number in range(2, 20):
        built.stop()
        with built.lock:
            built.cpus[0].reset_hold(Reset.COLD)
        finish(built)
        assert built.written == [(0xE0, 0x4B)] * number


def test_power_up_registers(board: MakeBoard) -> None:
    built = board(bytes.fromhex("b8ffff8ec00f22d8e6e0f4"))  # spoil ax, es, cr3; out; hlt
    finish(built)
    built.stop()
    with built.lock:
        built.cpus[0].reset_hold(Reset.COLD)
    values = built.cpus[0].vcpu.registers()
    assert values["rip"] == 0xFFF0 and values["cs"] == 0xF000 and values["cs.base"] == 0xFFFF0000
    assert values["cr0"] == 0x60000010 and values["cr3"] == 0 and values["es"] == 0 and values["rflags"] == 2
    assert values["rax"] == values["rbx"] == values["rsp"] == 0
    assert values["apic_base"] == 0xFEE00900
    assert values["gdt.limit"] == values["idt.limit"] == 0xFFFF


def test_run_on_runs_on_the_processors_thread(board: MakeBoard) -> None:
    built = board(bytes.fromhex("ebfe"))
    cpu = built.cpus[0]
    assert cpu.run_on(threading.current_thread) is cpu.thread
    built.cont()
    for _ in range(50):
        assert cpu.run_on(lambda: cpu.vcpu.get_regs().rip) in (0xFFF0, 0x7C00)
    with pytest.raises(ZeroDivisionError):
        cpu.run_on(lambda: 1 // 0)


def test_pause_from_a_device_does_not_wait_for_itself(board: MakeBoard) -> None:
    built = board(bytes.fromhex("e6e0e6e1f4"))
    paused = threading.Event()

    def pause(value: int) -> None:
        built.stop()
        paused.set()

    built.watch[0] = pause
    built.cont()
    assert paused.wait(TIMEOUT)
    with built.lock:
        assert built.cpus[0].stopped
    assert built.written == [(0xE0, 0)]
    finish(built, 1)


# -- life


def test_the_chain_from_realized_to_run(board: MakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect
    import sys

    import accel_board

    chain: list[str] = []
    inside: list[str] = []
    real_init = vcpu_module.init_vcpu

    def init_vcpu(cpu: object) -> None:
        chain.extend(frame.function for frame in reversed(inspect.stack()[1:]))
        real_init(cpu)  # type: ignore[arg-type]

    monkeypatch.setattr(accel_board, "init_vcpu", init_vcpu)
    built = board(bytes.fromhex("e6e0e6e1f4"))
    wanted = ["set", "object_property_set", "property_set_bool", "device_set_realized", "realize"]
    assert [name for name in chain if name in wanted][-5:] == wanted

    def trace(value: int) -> None:
        frame = sys._getframe()
        while frame is not None:
            inside.append(frame.f_code.co_name)
            frame = frame.f_back  # type: ignore[assignment]

    built.watch[0] = trace
    finish(built, 1)
    order = [name for name in reversed(inside) if name in ("vcpu_thread_fn", "cpu_exec")]
    assert order == ["vcpu_thread_fn", "cpu_exec", "cpu_exec"]  # the accelerator's method, the loop


def test_unrealize_ends_the_thread_and_the_id_can_be_used_again(board: MakeBoard) -> None:
    built = board(OUT_HLT)
    finish(built)
    built.stop()
    cpu = built.cpus.pop()
    thread = cpu.thread
    with built.lock:
        cpu.set("realized", False)
        assert thread is not None and not thread.is_alive() and cpu.thread is None and cpu.vcpu is None
        cpu.unparent()
        built.add_cpu(0)
    finish(built)
    assert built.written == [(0xE0, 0x4B)] * 2


def test_a_vcpu_that_cannot_be_made_is_an_error_of_realize(board: MakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    from qom.errors import AccelError

    built = board(OUT_HLT)

    def refuse(cpu: object) -> None:
        raise AccelError("no more vCPUs")

    monkeypatch.setattr(built.accel, "create_vcpu", refuse)
    before = threading.active_count()
    with built.lock, pytest.raises(AccelError, match=r"^no more vCPUs$"):
        built.add_cpu(1)
    assert threading.active_count() == before


# -- exits that are not served


def test_triple_fault_requests_a_reset_and_logs_the_registers(board: MakeBoard) -> None:
    # lgdt [7c40h]; lidt [7c46h]; mov eax,1; mov cr0,eax; jmp 8:7c20h; ... ; ud2
    built = board(bytes.fromhex("0f0116407c 0f011e467c 66b801000000 0f22c0 ea207c0800".replace(" ", "")))
    built.load(0x7C20, bytes.fromhex("0f0b"))
    built.load(0x7C40, bytes.fromhex("1700507c0000" + "000000000000"))  # gdt; idt of limit 0
    built.load(0x7C50, bytes(8) + bytes.fromhex("ffff0000009bcf00") + bytes.fromhex("ffff00000093cf00"))
    built.cont()
    assert built.system.wait() == ("reset", "guest-triple-fault")
    category, text = built.system.logged[0]
    assert category == "cpu_reset"
    assert "triple fault, at 0008:7c20" in text and "code at 0008:7c20: 0f 0b" in text


def test_a_device_that_raises_stops_its_machine_with_a_report(board: MakeBoard) -> None:
    built = board(bytes.fromhex("b07be690f4"))

    def broken(offset: int, value: int, size: int) -> None:
        raise ValueError("wrong")

    built.bus.io.add(0x90, Region("broken", 1, None, broken))
    built.cont()
    what, text = built.system.wait()
    assert what == "failed"
    first = text.splitlines()[0]
    assert first.startswith(
        "/machine/cpu[0]: broken: 1-byte write to broken at offset 0x0 (address 0x90) raised ValueError: wrong, at "
    )
    assert "rax=0000007b" in text
    built.stop()


def test_what_kvm_cannot_emulate_is_reported_with_the_bytes(board: MakeBoard) -> None:
    built = board(bytes.fromhex("d9e8e6e0f4"))  # fld1; out e0h,al; hlt
    if built.accel.vm is None or built.accel.vm.where != "kvm VM":
        pytest.skip("only KVM on PVM cannot emulate x87 instructions")
    built.watch[0] = lambda value: built.system.request_shutdown("x87 works")
    built.cont()
    what, text = built.system.wait()
    if what == "shutdown":
        pytest.skip("this KVM runs x87 instructions")
    assert what == "failed"
    assert "KVM_EXIT_INTERNAL_ERROR: an instruction the accelerator cannot emulate (d9 e8" in text
    assert "code at 0000:7c00: d9 e8 e6 e0 f4" in text


def test_every_exit_reason_is_served_or_reported() -> None:
    table = loop.exit_table()
    assert table["KVM_EXIT_IO"] == "handle_io"
    assert table["KVM_EXIT_INTERNAL_ERROR"] == "handle_unserved"
    assert set(table) >= {"KVM_EXIT_FAIL_ENTRY", "KVM_EXIT_SHUTDOWN", "KVM_EXIT_X86_RDMSR", "KVM_EXIT_DEBUG"}
    assert loop.served(lib.KVM_EXIT_MMIO) and not loop.served(lib.KVM_EXIT_UNKNOWN)


def test_exit_counts_are_readable_while_the_guest_runs(board: MakeBoard) -> None:
    built = board(bytes.fromhex("e4e0ebfc"))  # l: in al,e0h; jmp l
    built.cont()
    last = 0
    for _ in range(1000):
        now = built.accel.exit_counts()["0"]["user"].get("KVM_EXIT_IO", 0)
        assert now >= last
        last = now
        if last > 1000:
            break
        threading.Event().wait(0.01)
    assert last > 1000
    assert built.accel.exit_counts()["0"]["inner"]
