"""A fault in the middle of a repeated compare: registers as of the iterations done, flags as before the instruction."""

import struct
from collections.abc import Iterator

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import HANDLERS, Guest, abi

CODE, DATA, STACK, ARITH = 0x10000, 0x20000, 0x30000, 0x8D5


@pytest.fixture
def guest() -> Iterator[Guest]:
    g = Guest({0: 0x40000})
    g.flat32()
    yield g
    g.close()


@pytest.mark.parametrize("code", [b"\xf2\xae", b"\xf3\xa6"], ids=["repne scasb", "repe cmpsb"])
@pytest.mark.parametrize("flags", [0x8D5, 0x000])
def test_flags_come_back(guest: Guest, code: bytes, flags: int) -> None:
    guest.sregs.es.limit, guest.sregs.es.g = DATA + 2, 0  # the fourth byte is out of bounds
    assert guest.ioctl(abi.KVM_SET_SREGS, guest.sregs) == 0
    guest.write(CODE, code + b"\xf4")
    guest.write(DATA, b"AAAAAAAA")
    guest.set_regs(rip=CODE, rflags=2 | flags, rsp=STACK, rax=0x42, rcx=8, rsi=DATA, rdi=DATA)
    assert guest.run() == abi.KVM_EXIT_HLT
    regs = guest.get_regs()
    assert regs.rip == HANDLERS + 16 * 13 + 1
    error, eip, _cs, pushed = struct.unpack("<4I", guest.read(STACK - 16, 16))
    assert (error, eip, pushed & ARITH) == (0, CODE, flags)
    assert (regs.rcx, regs.rdi) == (5, DATA + 3)
