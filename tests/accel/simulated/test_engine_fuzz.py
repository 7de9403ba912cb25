"""Random bytes as guest code, in every mode: the core survives (best under sanitizers), and each run ends in a known way."""

import random
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import Guest, abi, sim

SIZE = 0x40000
ENDINGS = ("IO", "MMIO", "HLT", "SHUTDOWN", "INTERNAL_ERROR", "IRQ_WINDOW_OPEN", "FAIL_ENTRY")


@pytest.fixture
def guest() -> Iterator[Guest]:
    g = Guest({0: SIZE})
    yield g
    g.close()


def paging(guest: Guest) -> None:
    """Identity map with user rights everywhere, at 30000h."""
    guest.write(0x30000, (0x31007).to_bytes(4, "little") + bytes(4092))
    guest.write(0x31000, b"".join((page << 12 | 7).to_bytes(4, "little") for page in range(1024)))


def start(guest: Guest, kind: str, r: random.Random) -> None:
    guest.flat32()
    s = guest.sregs
    assert guest.ioctl(abi.KVM_GET_SREGS, s) == 0
    flags = 2 | r.getrandbits(12) & 0xED5
    if kind == "real":
        s.cr0 = 0x10
        for name in ("cs", "ds", "es", "fs", "gs", "ss"):
            segment = getattr(s, name)
            segment.selector = r.choice((0, 0x1000, 0x2000))
            segment.base, segment.limit, segment.g, segment.db = segment.selector << 4, 0xFFFF, 0, 0
        s.idt.base, s.idt.limit = 0, 0x3FF
    elif kind == "protected16":
        s.cs.db = s.ss.db = 0
    elif kind == "paged":
        paging(guest)
        s.cr3, s.cr0 = 0x30000, 0x80010011
    elif kind == "user":
        paging(guest)
        s.cr3, s.cr0 = 0x30000, 0x80010011
        for name in ("cs", "ds", "es", "ss"):
            segment = getattr(s, name)
            segment.dpl, segment.selector = 3, segment.selector | 3
    elif kind == "v86":
        flags |= 0x20000 | 0x3000
        for name in ("cs", "ds", "es", "fs", "gs", "ss"):
            segment = getattr(s, name)
            segment.selector = r.choice((0, 0x1000, 0x2000))
            segment.base, segment.limit, segment.g, segment.db = segment.selector << 4, 0xFFFF, 0, 0
            segment.type, segment.dpl = 3, 3
    if guest.ioctl(abi.KVM_SET_SREGS, s) != 0:
        pytest.fail(f"{kind}: the core refuses the state")
    values = {
        name: r.getrandbits(r.choice((8, 16, 18, 32))) for name in ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi")
    }
    guest.set_regs(rip=r.randrange(0x1000, 0xF000), rsp=r.randrange(0x8000, 0xFFF0), rflags=flags, **values)


@pytest.mark.parametrize("kind", ["real", "protected16", "protected32", "paged", "user", "v86"])
def test_random_code(guest: Guest, kind: str) -> None:
    r = random.Random(f"fuzz {kind}")
    endings = {getattr(abi, f"KVM_EXIT_{name}") for name in ENDINGS}
    seen = set()
    timer: threading.Timer | None = None
    for _ in range(120):
        guest.write(0, r.randbytes(SIZE))
        start(guest, kind, r)
        timer = threading.Timer(0.05, sim.sim_vcpu_kick, [guest.vcpu])
        timer.start()
        for _ in range(200):
            ending = guest.run()
            seen.add(ending)
            if ending < 0:
                break  # kicked out of an endless loop
            assert ending in endings, ending
            if ending not in (abi.KVM_EXIT_IO, abi.KVM_EXIT_MMIO, abi.KVM_EXIT_HLT):
                break
        timer.cancel()
        timer.join()
    assert len(seen) > 1
