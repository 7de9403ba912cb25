"""Code that changes under the processor: by itself, by REP MOVS, by user space, by another vCPU, by a replaced slot."""

import struct
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import HANDLERS, Guest, _core, abi, ffi, sim

CODE, DATA = 0x10000, 0x20000


@pytest.fixture
def guest() -> Iterator[Guest]:
    g = Guest({0: 0x40000})
    g.flat32()
    yield g
    g.close()


def run_to_halt(guest: Guest, code: bytes, at: int = CODE, **regs: int) -> None:
    guest.write(at, code)
    guest.set_regs(rip=at, rflags=2, rsp=0x30000, **regs)
    assert guest.run() == abi.KVM_EXIT_HLT


def test_store_to_the_next_instruction(guest: Guest) -> None:
    # mov byte [next+1], 0x77 ; next: mov al, 0x11 ; hlt   -- both in one block
    code = b"\xc6\x05" + struct.pack("<I", CODE + 8) + b"\x77" + b"\xb0\x11" + b"\xf4"
    run_to_halt(guest, code, rax=0)
    assert guest.get_regs().rax == 0x77


def test_loop_that_patches_itself(guest: Guest) -> None:
    # ecx = 1000: add eax, imm8 (patched to cl each time) ; dec ecx ; jnz
    loop = b"\x88\x0d" + struct.pack("<I", CODE + 8) + b"\x83\xc0\x00" + b"\x49" + b"\x75\xf4" + b"\xf4"
    run_to_halt(guest, loop, rax=0, rcx=100)
    assert guest.get_regs().rax == sum(range(1, 101))


def test_called_function_is_rewritten(guest: Guest) -> None:
    # call f through a register; then rewrite f; call again.  The jump cache must not keep the dead block.
    function = CODE + 0x40
    code = (
        b"\xbb" + struct.pack("<I", function) + b"\xff\xd3\x89\xc2"  # mov ebx,f ; call ebx ; mov edx,eax
        b"\xc7\x05"
        + struct.pack("<I", function + 1)
        + struct.pack("<I", 222)  # mov dword [f+1],222
        + b"\xff\xd3\xff\xd3\xf4"
    )
    guest.write(function, b"\xb8" + struct.pack("<I", 111) + b"\xc3")
    run_to_halt(guest, code)
    regs = guest.get_regs()
    assert (regs.rdx, regs.rax) == (111, 222)


def test_rep_movs_over_itself(guest: Guest) -> None:
    # rep movsb copies a new tail over the code behind it, then runs it
    code = b"\xf3\xa4" + b"\xb8\x01\x00\x00\x00\xf4"
    guest.write(DATA, b"\xb8\x02\x00\x00\x00\xf4")
    run_to_halt(guest, code, rsi=DATA, rdi=CODE + 2, rcx=6)
    assert guest.get_regs().rax == 2


def test_rep_stos_over_its_own_instruction(guest: Guest) -> None:
    # the repetition goes on although its own bytes change (the copy of the processor is used until it is done)
    code = b"\xf3\xaa" + b"\xcc" * 30
    run_to_halt(guest, code, rax=0xF4, rdi=CODE, rcx=16)
    regs = guest.get_regs()
    assert (regs.rcx, regs.rip) == (0, CODE + 3)


def test_data_beside_code(guest: Guest) -> None:
    # a counter in the same page, in other 64 bytes and in the same 64 bytes
    for distance in (0x100, 0x20):
        counter = CODE + distance
        code = b"\xff\x05" + struct.pack("<I", counter) + b"\x49\x75\xf7\xf4"
        guest.write(counter, bytes(4))
        run_to_halt(guest, code, rcx=100000)
        assert struct.unpack("<I", guest.read(counter, 4)) == (100000,)


def test_user_space_rewrites_code_between_runs(guest: Guest) -> None:
    run_to_halt(guest, b"\xb8\x01\x00\x00\x00\xf4")
    assert guest.get_regs().rax == 1
    run_to_halt(guest, b"\xb8\x02\x00\x00\x00\xf4")
    assert guest.get_regs().rax == 2


def test_user_space_makes_an_undefined_opcode_defined(guest: Guest) -> None:
    # 0F BA /0 is none, 0F BA /7 is BTC: only the ModRM byte changes
    run_to_halt(guest, b"\x0f\xba\xc0\x03\xf4", rax=0)
    assert guest.get_regs().rip == HANDLERS + 16 * 6 + 1
    run_to_halt(guest, b"\x0f\xba\xf8\x03\xf4", rax=0)
    assert (guest.get_regs().rax, guest.get_regs().rip) == (8, CODE + 5)


def test_user_space_rewrites_code_during_an_exit(guest: Guest) -> None:
    # out 0x10, al ; mov eax, 1 ; hlt: the tail is replaced while user space serves the port
    guest.write(CODE, b"\xe6\x10\xb8\x01\x00\x00\x00\xf4")
    guest.set_regs(rip=CODE, rflags=2)
    assert guest.run() == abi.KVM_EXIT_IO
    guest.write(CODE + 3, b"\x05")
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == 5


def test_told_writes_are_all_that_is_looked_for(guest: Guest) -> None:
    _core.lib.sim_vm_writes_are_told(guest.vm)
    loop = b"\xb0\x11\xe6\x80\xeb\xfa"  # mov al, 11h ; out 80h, al ; jmp back
    guest.write(CODE, loop)
    guest.set_regs(rip=CODE, rflags=2, rsp=0x30000, rax=0)
    for _ in range(3):
        assert guest.run() == abi.KVM_EXIT_IO
    guest.write(CODE, loop.replace(b"\x11", b"\x22"))
    assert guest.run() == abi.KVM_EXIT_IO and guest.get_regs().rax == 0x11
    _core.lib.sim_vm_memory_written(guest.vm, DATA, 0x1000)  # no code is there
    assert guest.run() == abi.KVM_EXIT_IO and guest.get_regs().rax == 0x11
    _core.lib.sim_vm_memory_written(guest.vm, CODE + 1, 1)
    assert guest.run() == abi.KVM_EXIT_IO and guest.get_regs().rax == 0x22


def test_instruction_over_a_page_boundary(guest: Guest) -> None:
    # mov eax, imm32 with its last two bytes on the next page, which the guest then writes
    at = CODE + 0x1000 - 3
    guest.write(at, b"\xb8\x01\x00\x00\x00\xc3")
    code = (
        b"\xbb"
        + struct.pack("<I", at)
        + b"\xff\xd3\x89\xc2\xc6\x05"
        + struct.pack("<I", CODE + 0x1000)
        + b"\x09\xff\xd3\xf4"
    )
    run_to_halt(guest, code)
    regs = guest.get_regs()
    assert (regs.rdx, regs.rax) == (1, 0x00090001)


def test_code_reached_under_two_addresses(guest: Guest) -> None:
    """Paging maps one page twice; a write through one address changes what runs at the other."""
    directory, table = 0x5000, 0x6000
    guest.write(directory, struct.pack("<I", table | 3))
    guest.write(table, b"".join(struct.pack("<I", page << 12 | 3) for page in range(0x40)))
    guest.write(table + 4 * 0x38, struct.pack("<I", CODE | 3))  # 38000h is CODE as well
    guest.ioctl(abi.KVM_GET_SREGS, guest.sregs)
    guest.sregs.cr3, guest.sregs.cr0 = directory, 0x80000011
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    function = CODE + 0x80
    guest.write(function, b"\xb8\x01\x00\x00\x00\xc3")
    code = (
        b"\xbb" + struct.pack("<I", function) + b"\xff\xd3\x89\xc2"
        b"\xc6\x05" + struct.pack("<I", 0x38081) + b"\x07" + b"\xff\xd3\xf4"
    )
    run_to_halt(guest, code)
    regs = guest.get_regs()
    assert (regs.rdx, regs.rax) == (1, 7)


def test_slot_is_replaced(guest: Guest) -> None:
    run_to_halt(guest, b"\xb8\x01\x00\x00\x00\xf4")
    other = Guest({0: 0x40000})  # only for its memory
    other.write(0, guest.read(0, 0x40000))
    other.write(CODE, b"\xb8\x03\x00\x00\x00\xf4")
    region = ffi.new("struct kvm_userspace_memory_region *")
    assert sim.sim_vm_ioctl(guest.vm, abi.KVM_SET_USER_MEMORY_REGION, guest.address(region)) == 0  # size 0: delete
    region.memory_size = 0x40000
    region.userspace_addr = int(ffi.cast("uintptr_t", ffi.from_buffer(other.memory[0])))
    assert sim.sim_vm_ioctl(guest.vm, abi.KVM_SET_USER_MEMORY_REGION, guest.address(region)) == 0
    guest.set_regs(rip=CODE, rflags=2)
    assert guest.run() == abi.KVM_EXIT_HLT
    assert guest.get_regs().rax == 3
    other.close()


def test_another_vcpu_rewrites_a_running_loop(guest: Guest) -> None:
    error = _core.ffi.new("int *")
    second = sim.sim_create_vcpu(guest.vm, 1, error)
    assert second != _core.ffi.NULL
    results: list[int] = []
    try:
        # the second vCPU spins in a loop of its own until its first byte becomes HLT
        guest.write(CODE + 0x800, b"\x40\xeb\xfd")
        for request in ((abi.KVM_GET_SREGS, abi.KVM_SET_SREGS),):
            assert guest.ioctl(request[0], guest.sregs) == 0
            assert sim.sim_vcpu_ioctl(second, request[1], guest.address(guest.sregs)) == 0
        state = ffi.new("struct kvm_mp_state *")
        state.mp_state = abi.KVM_MP_STATE_RUNNABLE
        sim.sim_vcpu_ioctl(second, abi.KVM_SET_MP_STATE, guest.address(state))
        regs = ffi.new("struct kvm_regs *")
        regs.rip, regs.rflags = CODE + 0x800, 2
        assert sim.sim_vcpu_ioctl(second, abi.KVM_SET_REGS, guest.address(regs)) == 0
        thread = threading.Thread(target=lambda: results.append(sim.sim_vcpu_ioctl(second, abi.KVM_RUN, 0)))
        thread.start()
        # wait till it is well under way, by its own count of instructions
        while sim.sim_vcpu_instructions(second) < 100000 and thread.is_alive():
            pass
        # the first vCPU writes the byte
        run_to_halt(guest, b"\xc6\x05" + struct.pack("<I", CODE + 0x800) + b"\xf4\xf4")
        thread.join(10)
        stuck = thread.is_alive()
        sim.sim_vcpu_kick(second)
        thread.join()
        assert not stuck
        page = ffi.cast("struct kvm_run *", int(_core.ffi.cast("uintptr_t", sim.sim_vcpu_run_page(second))))
        assert (results, page.exit_reason) == ([0], abi.KVM_EXIT_HLT)
    finally:
        sim.sim_vcpu_close(second)
