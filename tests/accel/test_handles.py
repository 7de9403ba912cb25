"""KVM's three handles: the same calls, on the kernel and on the simulated core."""

import errno
import mmap
import threading
from pathlib import Path

import pytest
from accel_guest import Guest

from accel._kvmabi import ffi, lib
from accel.errors import HandleError, MissingExtension
from accel.handles import CpuidEntry, SystemHandle, address_of
from accel.kvm.handles import KvmSystem
from qom.errors import AccelError

IO, MMIO, HLT = lib.KVM_EXIT_IO, lib.KVM_EXIT_MMIO, lib.KVM_EXIT_HLT
HLT_CODE = b"\xf4"


def reason(word: int) -> int:
    return word & lib.ABI_REASON_MASK


def need(handle: object, capability: str) -> None:
    if not handle.check_extension(capability):  # type: ignore[attr-defined]
        pytest.skip(f"{handle.where}: {capability} is absent")  # type: ignore[attr-defined]


# -- system


def test_api_version_and_run_page_size(system: SystemHandle) -> None:
    assert system.api_version() == 12
    assert system.vcpu_mmap_size() >= ffi.sizeof("struct kvm_run")
    assert system.vcpu_mmap_size() % mmap.PAGESIZE == 0


def test_extensions_are_probed(system: SystemHandle) -> None:
    for capability in ("KVM_CAP_USER_MEMORY", "KVM_CAP_IMMEDIATE_EXIT", "KVM_CAP_READONLY_MEM", "KVM_CAP_EXT_CPUID"):
        assert system.check_extension(capability) > 0, capability
    assert system.check_extension("KVM_CAP_NO_SUCH_THING") == 0


def test_msr_index_list_has_the_tsc_and_sysenter(system: SystemHandle) -> None:
    assert {0x10, 0x174, 0x175, 0x176} <= set(system.msr_index_list())


def test_supported_cpuid_names_a_vendor(system: SystemHandle) -> None:
    leaf0 = next(e for e in system.supported_cpuid() if e.function == 0)
    assert len(b"".join(r.to_bytes(4, "little") for r in (leaf0.ebx, leaf0.edx, leaf0.ecx)).decode("ascii")) == 12
    leaf1 = next(e for e in system.supported_cpuid() if e.function == 1)
    assert leaf1.edx & (1 << 4), "no TSC"


def test_unknown_call_is_enotty(system: SystemHandle) -> None:
    assert system.ioctl(lib.KVM_RUN, 0) in (-errno.ENOTTY, -errno.EINVAL)
    vm = system.create_vm()
    assert vm.ioctl(0xAEFF, 0) == -errno.ENOTTY


def test_missing_device_says_which(tmp_path: Path) -> None:
    with pytest.raises(AccelError, match=r"^kvm: cannot open /nonexistent/kvm: No such file or directory$"):
        KvmSystem("/nonexistent/kvm")
    other = tmp_path / "file"
    other.write_bytes(b"")
    with pytest.raises(AccelError, match=rf"^kvm: {other} is not a KVM device$"):
        KvmSystem(str(other))


def test_close_takes_children_along_and_may_repeat(system: SystemHandle) -> None:
    vm = system.create_vm()
    vcpu = vm.create_vcpu(0)
    vm.close()
    assert vcpu.closed and vm.closed
    vm.close()
    vcpu.close()


# -- vm


def test_bad_slot_names_the_slot(system: SystemHandle) -> None:
    vm = system.create_vm()
    memory = mmap.mmap(-1, 0x2000)
    with pytest.raises(HandleError) as caught:
        vm.set_user_memory_region(3, 0x123, 0x1000, address_of(memory))
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value).startswith(
        f"{vm.where}: slot 3 at 0x123, 0x1000 bytes, flags 0x0: KVM_SET_USER_MEMORY_REGION failed: "
        "EINVAL (Invalid argument): slot number, address or size is not valid"
    )


def test_overlapping_slots_are_refused(system: SystemHandle) -> None:
    vm = system.create_vm()
    memory = mmap.mmap(-1, 0x4000)
    vm.set_user_memory_region(0, 0, 0x2000, address_of(memory))
    with pytest.raises(HandleError) as caught:
        vm.set_user_memory_region(1, 0x1000, 0x2000, address_of(memory))
    assert caught.value.errno == errno.EEXIST
    vm.set_user_memory_region(0, 0, 0, 0)
    vm.set_user_memory_region(1, 0x1000, 0x2000, address_of(memory))


def test_a_vcpu_id_is_used_once(system: SystemHandle) -> None:
    vm = system.create_vm()
    vm.create_vcpu(0)
    with pytest.raises(HandleError, match="KVM_CREATE_VCPU failed: EEXIST"):
        vm.create_vcpu(0)


def test_dirty_log_shows_written_pages_once(system: SystemHandle) -> None:
    code = bytes.fromhex("b80120 8ed8 b001 a20000 a20020 f4".replace(" ", ""))  # mov ds,2001h; [0]=[2000h]=1; hlt
    guest = Guest(system, code, 0x40000)
    guest.vm.set_user_memory_region(0, 0, 0x40000, address_of(guest.memory), lib.KVM_MEM_LOG_DIRTY_PAGES)
    guest.vm.dirty_log(0, 0x40000)
    assert reason(guest.run()) == HLT
    log = int.from_bytes(guest.vm.dirty_log(0, 0x40000), "little")
    assert {n for n in range(64) if log >> n & 1} == {0x20, 0x22}
    assert not any(guest.vm.dirty_log(0, 0x40000))


def test_dirty_log_of_a_slot_without_log_fails(guest: Guest) -> None:
    with pytest.raises(HandleError, match="KVM_GET_DIRTY_LOG failed: ENOENT"):
        guest.vm.dirty_log(0, 0x10000)


def test_write_to_readonly_memory_is_an_mmio_exit_and_reads_are_not(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("a00020 fec0 a20120 f4".replace(" ", "")))  # al=[2000h]; inc al; [2001h]=al
    rom = mmap.mmap(-1, 0x1000)
    rom[0] = 0x41
    whole, memory = guest.memory, address_of(guest.memory)
    guest.vm.set_user_memory_region(0, 0, 0, 0)
    guest.vm.set_user_memory_region(0, 0, 0x2000, memory)
    guest.vm.set_user_memory_region(1, 0x2000, 0x1000, address_of(rom), lib.KVM_MEM_READONLY)
    assert whole[0x1000] == 0xA0
    word = guest.run()
    assert (reason(word), bool(word & lib.ABI_WRITE), guest.vcpu.c.address, guest.vcpu.c.data) == (
        MMIO,
        True,
        0x2001,
        0x42,
    )
    assert reason(guest.run()) == HLT
    assert rom[1] == 0


# -- running


@pytest.mark.parametrize(
    ("code", "port", "size", "value"),
    [
        ("b05ae680", 0x80, 1, 0x5A),  # mov al,5ah; out 80h,al
        ("b83412ba0010ef", 0x1000, 2, 0x1234),  # mov ax,1234h; mov dx,1000h; out dx,ax
        ("66b878563412baf80366ef", 0x3F8, 4, 0x12345678),  # mov eax,12345678h; mov dx,3f8h; out dx,eax
    ],
)
def test_port_output(system: SystemHandle, code: str, port: int, size: int, value: int) -> None:
    guest = Guest(system, bytes.fromhex(code) + HLT_CODE)
    word = guest.run()
    assert word == IO | size << lib.ABI_SIZE_SHIFT | lib.ABI_WRITE | port << lib.ABI_PORT_SHIFT
    assert guest.vcpu.c.data == value
    assert reason(guest.run()) == HLT


@pytest.mark.parametrize(
    ("code", "size", "value", "rax"),
    [("e460", 1, 0xA5, 0xFFFFFFA5), ("e560", 2, 0xBEEF, 0xFFFFBEEF), ("66e560", 4, 0xDEADBEEF, 0xDEADBEEF)],
)
def test_port_input(system: SystemHandle, code: str, size: int, value: int, rax: int) -> None:
    guest = Guest(system, bytes.fromhex(code) + HLT_CODE)
    guest.set(rax=0xFFFFFFFF)
    assert guest.run() == IO | size << lib.ABI_SIZE_SHIFT | 0x60 << lib.ABI_PORT_SHIFT
    assert reason(guest.run(value)) == HLT
    assert guest.get("rax") == rax


def test_string_output_arrives_whole_and_in_order(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("f36ef4"))  # rep outsb; hlt
    guest.load(0x3000, b"hello")
    guest.set(rsi=0x3000, rcx=5, rdx=0x402)
    text = b""
    while reason(word := guest.run()) == IO:
        io = guest.vcpu.run_page.io
        start = io.data_offset
        text += bytes(ffi.buffer(guest.vcpu.run_page, 4096 * 3)[start : start + io.size * io.count])
        assert io.port == 0x402
    assert reason(word) == HLT
    assert text == b"hello"
    assert (guest.get("rcx"), guest.get("rsi")) == (0, 0x3005)


def test_string_input(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("f36df4"))  # rep insw; hlt
    guest.set(rdi=0x3000, rcx=4, rdx=0x1F0)
    given = 0
    while reason(word := guest.run(given if given else 0)) == IO:
        io = guest.vcpu.run_page.io
        if word & lib.ABI_STRING:
            area = ffi.cast("uint16_t *", ffi.cast("char *", guest.vcpu.run_page) + io.data_offset)
            for n in range(io.count):
                given += 1
                area[n] = given
        else:
            given += 1
    assert reason(word) == HLT
    assert guest.memory[0x3000:0x3008] == b"\x01\x00\x02\x00\x03\x00\x04\x00"


def test_mmio_read_and_write(system: SystemHandle) -> None:
    # mov ax,0f000h; mov ds,ax; mov ax,[10h]; inc ax; mov [20h],ax; hlt
    guest = Guest(system, bytes.fromhex("b800f08ed8a1100040a32000f4"))
    word = guest.run()
    assert word == MMIO | 2 << lib.ABI_SIZE_SHIFT
    assert guest.vcpu.c.address == 0xF0010
    word = guest.run(0x1233)
    assert word == MMIO | 2 << lib.ABI_SIZE_SHIFT | lib.ABI_WRITE
    assert (guest.vcpu.c.address, guest.vcpu.c.data) == (0xF0020, 0x1234)
    assert reason(guest.run()) == HLT


def test_an_instruction_with_two_device_reads_gets_both(system: SystemHandle) -> None:
    # mov ax,0f000h; mov ds,ax; mov es,ax; cmpsb; hlt
    guest = Guest(system, bytes.fromhex("b800f08ed88ec0a6f4"))
    guest.set(rsi=0x10, rdi=0x20)
    seen = []
    value = 0
    while reason(guest.run(value)) == MMIO:
        seen.append(guest.vcpu.c.address)
        value = 7
    assert sorted(seen) == [0xF0010, 0xF0020]
    assert guest.get("rflags") & 0x40, "equal bytes set ZF"


def test_hlt_leaves_rip_behind_it(system: SystemHandle) -> None:
    guest = Guest(system, HLT_CODE)
    assert reason(guest.run()) == HLT
    assert guest.get("rip") == guest.START + 1


def test_exits_are_counted_per_reason(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("e680e680e680") + HLT_CODE)
    for _ in range(4):
        guest.run()
    assert guest.vcpu.exit_counts() == {"KVM_EXIT_IO": 3, "KVM_EXIT_HLT": 1}


def test_the_inner_half_counts_too(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("31c0 0fa2 e680".replace(" ", "")) + HLT_CODE)  # xor ax,ax; cpuid; out 80h,al
    guest.vcpu.set_cpuid(system.supported_cpuid())
    while reason(guest.run()) != HLT:
        pass
    counts = guest.vcpu.inner_exit_counts()
    if system.where == "kvm":
        assert guest.vcpu.stats()["exits"], counts
        assert "exits" in counts
        return
    assert counts["CPUID"] == 1
    assert counts["IO_INSTRUCTION"] == 1
    assert guest.vcpu.inner_exit_counts_to_user() == {  # type: ignore[attr-defined]
        "IO_INSTRUCTION": 1,
        "HLT": 1,
    }


def test_triple_fault_is_a_shutdown(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("0f0b"))  # ud2 in flat protected mode, with an interrupt table of limit 0
    sregs = guest.vcpu.get_sregs()
    sregs.idt.limit = 0
    sregs.cr0 |= 1
    for name, kind in (("cs", 11), ("ds", 3), ("es", 3), ("ss", 3)):
        segment = getattr(sregs, name)
        segment.base, segment.limit, segment.type, segment.s = 0, 0xFFFFFFFF, kind, 1
        segment.present, segment.dpl, segment.db, segment.g, segment.selector = 1, 0, 1, 1, 8
    guest.vcpu.set_sregs(sregs)
    assert reason(guest.run()) == lib.KVM_EXIT_SHUTDOWN


def test_internal_error_carries_the_instruction(system: SystemHandle) -> None:
    if system.where != "kvm" or "pvm" not in _modules():
        pytest.skip("needs a KVM that emulates in software, and an instruction it lacks (KVM on PVM)")
    guest = Guest(system, bytes.fromhex("d9e8") + HLT_CODE)  # fld1
    assert reason(guest.run()) == lib.KVM_EXIT_INTERNAL_ERROR
    failure = guest.vcpu.run_page.emulation_failure
    assert failure.suberror == lib.KVM_INTERNAL_ERROR_EMULATION
    assert bytes(failure.insn_bytes[0:2]) == b"\xd9\xe8"


def _modules() -> str:
    """Names of loaded kernel modules and built-in parameters' owners."""
    return " ".join(p.name for p in Path("/sys/module").iterdir())


# -- kicks


SPIN = bytes.fromhex("ebfe")  # jmp $


def test_a_kick_before_run_is_not_lost(system: SystemHandle) -> None:
    guest = Guest(system, SPIN)
    guest.vcpu.kick()
    assert reason(guest.run()) == lib.ABI_EXIT_INTERRUPTED
    assert reason(guest.run()) == lib.ABI_EXIT_INTERRUPTED, "it holds until rearm()"
    guest.vcpu.rearm()
    assert guest.vcpu.exit_counts() == {"KVM_EXIT_INTR": 2}


def test_a_kick_completes_pending_io(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("e460ebfe"))  # in al,60h; jmp $
    assert reason(guest.run()) == IO
    guest.vcpu.kick()
    assert reason(guest.run(0x77)) == lib.ABI_EXIT_INTERRUPTED
    assert guest.get("rax") & 0xFF == 0x77
    assert guest.get("rip") == guest.START + 2


def test_a_kick_from_another_thread_stops_a_busy_guest_every_time(system: SystemHandle) -> None:
    guest = Guest(system, SPIN)
    rounds = 2000
    turn = threading.Semaphore(0)
    done = threading.Semaphore(0)

    def run() -> None:
        guest.vcpu.attach_thread()
        for _ in range(rounds):
            turn.release()
            while reason(guest.run()) != lib.ABI_EXIT_INTERRUPTED:
                pass
            guest.vcpu.rearm()
            done.release()

    thread = threading.Thread(target=run)
    thread.start()
    for number in range(rounds):
        turn.acquire()
        guest.vcpu.kick()
        assert done.acquire(timeout=10), f"kick {number} was lost"
    thread.join()
    assert guest.get("rip") == guest.START


# -- interrupts


def test_interrupt_is_delivered_through_the_table(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("fb90ebfd"))  # sti; nop; jmp to the nop
    guest.vector(0x21, 0x2000)
    guest.load(0x2000, bytes.fromhex("b021e680cf"))  # mov al,21h; out 80h,al; iret
    guest.set(rflags=0x202)
    guest.vcpu.kick()
    guest.run()
    guest.vcpu.rearm()
    assert guest.vcpu.run_page.ready_for_interrupt_injection
    guest.vcpu.interrupt(0x21)
    word = guest.run()
    assert reason(word) == IO and guest.vcpu.c.data == 0x21
    frame = guest.memory[guest.STACK - 6 : guest.STACK]
    assert int.from_bytes(frame[2:4], "little") == 0 and int.from_bytes(frame[4:6], "little") & 0x200


def test_interrupt_window(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("e680fb9090ebfe"))  # out 80h,al; sti; nop; nop; jmp $
    guest.vector(0x30, 0x2000)
    guest.load(0x2000, bytes.fromhex("e681cf"))  # out 81h,al; iret
    assert reason(guest.run()) == IO
    assert not guest.vcpu.run_page.ready_for_interrupt_injection
    assert not guest.vcpu.run_page.if_flag
    guest.vcpu.run_page.request_interrupt_window = 1
    assert reason(guest.run()) == lib.KVM_EXIT_IRQ_WINDOW_OPEN
    assert guest.vcpu.run_page.ready_for_interrupt_injection
    assert guest.vcpu.run_page.if_flag
    guest.vcpu.run_page.request_interrupt_window = 0
    guest.vcpu.interrupt(0x30)
    word = guest.run()
    assert (reason(word), word >> lib.ABI_PORT_SHIFT) == (IO, 0x81)
    returned = int.from_bytes(guest.memory[guest.STACK - 6 : guest.STACK - 4], "little")
    assert returned >= guest.START + 4, "the window opens one instruction after STI, not before"


def test_nmi_uses_vector_2_even_with_interrupts_off(system: SystemHandle) -> None:
    guest = Guest(system, SPIN)
    need(guest.vcpu, "KVM_CAP_USER_NMI")
    guest.vector(2, 0x2000)
    guest.load(0x2000, bytes.fromhex("e682cf"))
    guest.vcpu.nmi()
    word = guest.run()
    assert (reason(word), word >> lib.ABI_PORT_SHIFT) == (IO, 0x82)


# -- state


def test_general_registers_come_back(guest: Guest) -> None:
    names = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"]
    guest.set(**{name: 0x11111111 * (n + 1) for n, name in enumerate(names)})
    regs = guest.vcpu.get_regs()
    assert [getattr(regs, name) for name in names] == [0x11111111 * (n + 1) for n in range(7)]


def test_special_registers_come_back(guest: Guest) -> None:
    sregs = guest.vcpu.get_sregs()
    sregs.gdt.base, sregs.gdt.limit = 0x5000, 0x27
    sregs.ds.base, sregs.ds.selector = 0x12340, 0x1234
    sregs.cr2 = 0xDEAD000
    guest.vcpu.set_sregs(sregs)
    again = guest.vcpu.get_sregs()
    assert (again.gdt.base, again.gdt.limit) == (0x5000, 0x27)
    assert (again.ds.base, again.ds.selector) == (0x12340, 0x1234)
    assert again.cr2 == 0xDEAD000


def test_power_up_state_is_the_manuals(system: SystemHandle) -> None:
    vcpu = system.create_vm().create_vcpu(0)
    registers = vcpu.registers()
    assert (registers["rip"], registers["cs"], registers["cs.base"]) == (0xFFF0, 0xF000, 0xFFFF0000)
    assert registers["cr0"] == 0x60000010
    assert registers["rflags"] == 2


def test_impossible_control_register_is_refused(guest: Guest) -> None:
    sregs = guest.vcpu.get_sregs()
    sregs.cr4 |= 1 << 31
    with pytest.raises(HandleError, match="KVM_SET_SREGS failed: EINVAL"):
        guest.vcpu.set_sregs(sregs)


def test_msrs_come_back_and_a_refused_one_is_named(guest: Guest) -> None:
    guest.vcpu.set_msrs({0x174: 0x8, 0x175: 0x7000, 0x176: 0x6000})
    assert guest.vcpu.get_msrs([0x176, 0x174]) == {0x176: 0x6000, 0x174: 0x8}
    with pytest.raises(HandleError) as caught:
        guest.vcpu.set_msrs({0x174: 0x10, 0x7FFFFFFF: 1})
    assert str(caught.value) == (
        f"{guest.vcpu.where}: KVM_SET_MSRS failed: EINVAL (Invalid argument): "
        "MSR 7fffffffh refuses 0x1 (1 of 2 were set)"
    )
    with pytest.raises(HandleError, match=r"MSR 7fffffffh cannot be read \(0 of 1 were\)$"):
        guest.vcpu.get_msrs([0x7FFFFFFF])


def test_every_listed_msr_can_be_read_and_written_back_where_it_takes_it(guest: Guest) -> None:
    refused = []
    for index in guest.system.msr_index_list():
        try:
            value = guest.vcpu.get_msrs([index])
        except HandleError:
            refused.append(index)
            continue
        try:
            guest.vcpu.set_msrs(value)
        except HandleError:
            refused.append(index)
    assert 0x174 not in refused
    assert len(refused) < 20, [hex(n) for n in refused]


def test_cpuid_answers_what_was_set(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("66b8000000400fa2f4"))  # mov eax,40000000h; cpuid; hlt
    leaves = [e for e in system.supported_cpuid() if e.function < 0x40000000 or e.function >= 0x80000000]
    leaves.append(CpuidEntry(0x40000000, 0, 0, 0x40000001, 0x11223344, 0x55667788, 0x0BADF00D))
    guest.vcpu.set_cpuid(leaves)
    assert CpuidEntry(0x40000000, 0, 0, 0x40000001, 0x11223344, 0x55667788, 0x0BADF00D) in guest.vcpu.get_cpuid()
    assert reason(guest.run()) == HLT
    regs = guest.vcpu.get_regs()
    assert (regs.rax, regs.rbx, regs.rcx, regs.rdx) == (0x40000001, 0x11223344, 0x55667788, 0x0BADF00D)


def test_fpu_state_comes_back(guest: Guest) -> None:
    fpu = guest.vcpu.get_fpu()
    assert fpu.fcw in (0x37F, 0x40)
    fpu.fcw = 0x27F  # MXCSR is left out: KVM_GET_FPU does not fill it
    fpu.fpr[3][0] = 0x5A
    guest.vcpu.set_fpu(fpu)
    again = guest.vcpu.get_fpu()
    assert (again.fcw, again.fpr[3][0]) == (0x27F, 0x5A)


def test_xsave_and_xcrs(guest: Guest) -> None:
    need(guest.vcpu, "KVM_CAP_XSAVE")
    need(guest.vcpu, "KVM_CAP_XCRS")
    area = guest.vcpu.get_xsave()
    guest.vcpu.set_xsave(area)
    assert bytes(ffi.buffer(guest.vcpu.get_xsave())) == bytes(ffi.buffer(area))
    xcrs = guest.vcpu.get_xcrs()
    assert xcrs.nr_xcrs >= 1 and xcrs.xcrs[0].value & 1
    guest.vcpu.set_xcrs(xcrs)


def test_missing_extension_is_said_not_tried(guest: Guest) -> None:
    if guest.vcpu.check_extension("KVM_CAP_X86_SMM"):
        pytest.skip("this accelerator has system-management mode")
    text = f"{guest.vcpu.where}: KVM_SMI needs KVM_CAP_X86_SMM, which this accelerator does not have"
    with pytest.raises(MissingExtension) as caught:
        guest.vcpu.smi()
    assert str(caught.value) == text


def test_debug_registers_come_back(guest: Guest) -> None:
    need(guest.vcpu, "KVM_CAP_DEBUGREGS")
    registers = guest.vcpu.get_debugregs()
    registers.db[0], registers.db[3] = 0x1234, 0x5678
    guest.vcpu.set_debugregs(registers)
    again = guest.vcpu.get_debugregs()
    assert (again.db[0], again.db[3]) == (0x1234, 0x5678)


def test_events_show_a_queued_interrupt(guest: Guest) -> None:
    need(guest.vcpu, "KVM_CAP_VCPU_EVENTS")
    guest.vcpu.interrupt(0x44)
    events = guest.vcpu.get_vcpu_events()
    assert (events.interrupt.injected, events.interrupt.nr, events.interrupt.soft) == (1, 0x44, 0)
    events.interrupt.injected = 0
    events.flags = lib.KVM_VCPUEVENT_VALID_SHADOW
    events.interrupt.shadow = lib.KVM_X86_SHADOW_INT_STI
    guest.vcpu.set_vcpu_events(events)
    again = guest.vcpu.get_vcpu_events()
    assert (again.interrupt.injected, again.interrupt.shadow) == (0, lib.KVM_X86_SHADOW_INT_STI)


def test_mp_state(guest: Guest) -> None:
    assert guest.vcpu.get_mp_state() == lib.KVM_MP_STATE_RUNNABLE
    guest.vcpu.set_mp_state(lib.KVM_MP_STATE_RUNNABLE)
    with pytest.raises(HandleError, match="KVM_SET_MP_STATE failed: EINVAL"):
        guest.vcpu.set_mp_state(77)


def test_single_step(system: SystemHandle) -> None:
    guest = Guest(system, bytes.fromhex("9090f4"))
    need(guest.vcpu, "KVM_CAP_SET_GUEST_DEBUG")
    guest.vcpu.set_guest_debug(lib.KVM_GUESTDBG_ENABLE | lib.KVM_GUESTDBG_SINGLESTEP)
    for step in (1, 2):
        assert reason(guest.run()) == lib.KVM_EXIT_DEBUG
        assert guest.get("rip") == guest.START + step


def test_interrupt_controllers_inside_or_not(system: SystemHandle) -> None:
    vm = system.create_vm()
    if not vm.check_extension("KVM_CAP_IRQCHIP"):
        with pytest.raises(MissingExtension):
            vm.create_irqchip()
        return
    vm.create_irqchip()
    with pytest.raises(HandleError, match="KVM_CREATE_IRQCHIP failed: EEXIST"):
        vm.create_irqchip()
    pic = bytearray(vm.get_irqchip(lib.KVM_IRQCHIP_PIC_MASTER))
    pic[5] = 0x08  # irq_base
    vm.set_irqchip(lib.KVM_IRQCHIP_PIC_MASTER, bytes(pic))
    assert vm.get_irqchip(lib.KVM_IRQCHIP_PIC_MASTER)[5] == 0x08
    vcpu = vm.create_vcpu(0)
    lapic = bytearray(vcpu.get_lapic())
    lapic[0x80] = 0x20  # task priority
    vcpu.set_lapic(bytes(lapic))
    assert vcpu.get_lapic()[0x80] == 0x20
    with pytest.raises(HandleError, match="KVM_INTERRUPT failed: ENXIO"):
        vcpu.interrupt(0x20)
    vm.set_gsi_routing([(n, lib.KVM_IRQCHIP_PIC_MASTER, n) for n in range(8)], [(24, 0xFEE00000, 0x4041)])
    vm.irq_line(1, 1)
    assert vm.get_irqchip(lib.KVM_IRQCHIP_PIC_MASTER)[1] & 2, "line 1 is requested"


def test_an_in_kernel_controller_interrupts_the_guest(system: SystemHandle) -> None:
    vm = system.create_vm()
    if not vm.check_extension("KVM_CAP_IRQCHIP"):
        pytest.skip(f"{system.where}: KVM_CAP_IRQCHIP is absent")
    vm.create_irqchip()
    memory = mmap.mmap(-1, 0x10000)
    # icw1..4 to the master at vector 8, unmask all; lapic lint0 is extint at reset on the boot processor; sti; hlt
    code = bytes.fromhex("b011e620b008e621b004e621b001e621b000e621fbf4ebfd")
    memory[0x1000 : 0x1000 + len(code)] = code
    memory[9 * 4 : 9 * 4 + 4] = (0x2000).to_bytes(4, "little")
    memory[0x2000:0x2003] = bytes.fromhex("e681cf")
    vm.set_user_memory_region(0, 0, 0x10000, address_of(memory))
    vcpu = vm.create_vcpu(0)
    sregs = vcpu.get_sregs()
    sregs.cs.base = sregs.cs.selector = 0
    vcpu.set_sregs(sregs)
    regs = vcpu.get_regs()
    regs.rip, regs.rsp = 0x1000, 0x8000
    vcpu.set_regs(regs)
    vcpu.attach_thread()
    timer = threading.Timer(0.05, lambda: vm.irq_line(1, 1))
    timer.start()
    word = vcpu.run(0)  # HLT waits inside
    timer.join()
    assert (reason(word), word >> lib.ABI_PORT_SHIFT) == (IO, 0x81)


def test_split_controllers(system: SystemHandle) -> None:
    vm = system.create_vm()
    if not vm.check_extension("KVM_CAP_SPLIT_IRQCHIP"):
        with pytest.raises(MissingExtension):
            vm.split_irqchip()
        return
    vm.split_irqchip(24)
    vcpu = vm.create_vcpu(0)
    assert len(vcpu.get_lapic()) == lib.KVM_APIC_REG_SIZE
    lapic = bytearray(vcpu.get_lapic())
    lapic[0xF0:0xF2] = b"\xff\x01"  # spurious vector register: enable
    vcpu.set_lapic(bytes(lapic))
    assert vm.signal_msi(0xFEE00000, 0x41) > 0
    assert vcpu.get_lapic()[0x220] & 2, "vector 41h is in IRR"


def test_translate_in_real_mode_is_the_identity(guest: Guest) -> None:
    if guest.vcpu.ioctl(lib.KVM_TRANSLATE, int(ffi.cast("uintptr_t", ffi.new("struct kvm_translation *")))) < 0:
        pytest.skip(f"{guest.system.where}: KVM_TRANSLATE is absent")
    assert guest.vcpu.translate(0x1234) == 0x1234
