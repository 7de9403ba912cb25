"""Machine code on two vCPUs: what LOCK and XCHG promise, code that the other vCPU writes, code that writes itself."""

import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import Guest, _core, abi, ffi, sim
from test_engine_translate import CODE, DATA, NAMES, STACK, long_mode

# 1: lock inc dword [rsi]; lock add qword [rsi+8], 3; mov edx, 5; lock sub [rsi+10h], rdx; lock dec dword [rsi+3Dh]
#    mov edx, 7; lock xadd [rsi+7Ch], rdx; mov rax, [rsi+C0h]                 (3Dh and 7Ch: over a line of the cache)
# 2: lea rdx, [rax+1]; lock cmpxchg [rsi+C0h], rdx; jne 2b
# 3: mov edx, 1; xchg [rsi+100h], edx; test edx, edx; jz 5f; 4: pause; cmp dword [rsi+100h], 0; jne 4b; jmp 3b
# 5: inc qword [rsi+180h]; mov dword [rsi+100h], 0; dec ecx; jnz 1b; hlt
COUNTERS = bytes.fromhex(
    "f0ff06f04883460803ba05000000f048295610f0ff4e3dba07000000f0480fc1567c488b86c0000000488d5001f0480fb196c000000075f1"
    "ba0100000087960001000085d2740df39083be000100000075f5ebe448ff8680010000c7860001000000000000ffc97597f4"
)
# 1: mov eax, 11111111h; mov [rsi], eax; cmp dword [rsi+80h], 0; je 1b; hlt
READER = bytes.fromhex("b811111111890683be800000000074f0f4")
# 1: mov [rdi+1], ecx; 2: cmp [rsi], ecx; je 3f; pause; jmp 2b; 3: add ebx, ecx; mov [rip+4f+1], ecx; jmp 4f
# 4: mov edx, 22222222h; cmp edx, ecx; jne 9f; dec ecx; jnz 1b; mov dword [rsi+80h], 1; 9: hlt
WRITER = bytes.fromhex("894f01390e7404f390ebf801cb890d03000000eb00ba2222222239ca750effc975dec7868000000001000000f4")


class Second(Guest):
    """Another vCPU of a guest, in the same state."""

    def __init__(self, first: Guest) -> None:
        self.memory, self.sregs = first.memory, first.sregs
        error = _core.ffi.new("int *")
        self.vcpu = sim.sim_create_vcpu(first.vm, 1, error)
        assert self.vcpu != _core.ffi.NULL, error[0]
        self.run_page = ffi.cast("struct kvm_run *", int(_core.ffi.cast("uintptr_t", sim.sim_vcpu_run_page(self.vcpu))))
        self.regs = ffi.new("struct kvm_regs *")
        assert self.ioctl(abi.KVM_SET_SREGS, self.sregs) == 0


@pytest.fixture(params=[1, 50], ids=["at once", "when hot"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Guest, Guest]]:
    first = long_mode(request.param)
    second = Second(first)
    yield first, second
    sim.sim_vcpu_close(second.vcpu)
    first.close()


def together(pair: tuple[Guest, Guest], first: dict[str, int], second: dict[str, int]) -> None:
    ends: list[int] = []
    threads = []
    for n, (guest, values) in enumerate(zip(pair, (first, second), strict=True)):
        guest.set_regs(**{name: 0 for name in NAMES} | {"rflags": 2, "rsp": STACK - 0x1000 * n, "rsi": DATA} | values)
        threads.append(threading.Thread(target=lambda guest=guest: ends.append(guest.run())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        if thread.is_alive():
            for guest in pair:
                sim.sim_vcpu_kick(guest.vcpu)
            thread.join()
    assert ends == [abi.KVM_EXIT_HLT] * 2


def test_locked_counters_and_a_spin_lock(pair: tuple[Guest, Guest]) -> None:
    rounds = 20_000
    pair[0].write(CODE, COUNTERS)
    together(pair, {"rip": CODE, "rcx": rounds}, {"rip": CODE, "rcx": rounds})

    def counter(offset: int, size: int = 8) -> int:
        return int.from_bytes(pair[0].read(DATA + offset, size), "little", signed=True)

    counts = [counter(0, 4), counter(8), counter(16), counter(0x3D, 4), counter(0x7C), counter(0xC0), counter(0x180)]
    assert counts == [2 * rounds * n for n in (1, 3, -5, -1, 7, 1, 1)]


def test_the_other_writes_the_code_that_runs(pair: tuple[Guest, Guest]) -> None:
    rounds = 500
    pair[0].write(CODE, READER)
    pair[0].write(CODE + 0x4000, WRITER)
    together(pair, {"rip": CODE}, {"rip": CODE + 0x4000, "rcx": rounds, "rdi": CODE})
    assert pair[1].get_regs().rbx == sum(range(rounds + 1))
