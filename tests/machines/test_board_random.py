"""Random accesses at a whole PC, from its processors' point of view: nothing raises, and the PC beside it does not change."""

from __future__ import annotations

import random
from typing import Any

from pcs import Pc, pc

from qom.hw import Reset

ACCESSES = 40_000
CHIPS = (
    0x00, 0x08, 0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xA0, 0xB2, 0xC0, 0xD0, 0x1F0, 0x1F7,
    0x3F6, 0x3F8, 0x402, 0x4D0, 0x501, 0x510, 0x511, 0x514, 0x600, 0xCF8, 0xCF9, 0xCFC, 0xC000,
)  # fmt: skip
MEMORY = (0xA0000, 0xC0000, 0xF0000, 0xFEC00000, 0xFED00000, 0xFEE00000, 0xFEE00300, 0xFFFC0000, 0xE0000000, 0x7FFFFF8)


def picture(machine: Pc) -> dict[str, Any]:
    return {found.path: found.save_state() for found in machine.vm.root.walk()}


def test_random_accesses_at_a_whole_pc_raise_nothing_and_stay_in_it(tmp_path: Any) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(512 * 2048))
    words = ("-accel", "simulated", "-smp", "2", "-m", "128M", "-drive", f"file={disk},format=raw,if=ide,snapshot=on")
    with pc(*words) as one, pc(*words) as two, one.vm.lock:
        bystander = picture(two)
        host = [0]
        clock: Any = one.vm.clock
        clock._host = lambda: host[0]  # the test owns time
        clock.start()
        rng = random.Random("a whole pc")
        cpus: list[Any] = one.vm.machine.cpus
        for n in range(ACCESSES):
            cpu = rng.choice(cpus)
            if rng.random() < 0.6:
                space, size = cpu.io, rng.choice((1, 1, 1, 2, 4))
                address = rng.choice(CHIPS) + rng.randrange(8) if rng.random() < 0.9 else rng.randrange(0x10000)
            else:
                space, size = cpu.memory, rng.choice((1, 2, 4, 4, 8))
                address = rng.choice(MEMORY) + rng.randrange(0x400) if rng.random() < 0.9 else rng.getrandbits(36)
            if rng.random() < 0.7:
                address &= -size
            if rng.random() < 0.5:
                got = space.read(address, size)
                assert isinstance(got, int) and 0 <= got < 1 << 8 * size, (hex(address), size, got)
            else:
                space.write(address, rng.getrandbits(rng.choice((1, 4, 8, 32, 64))), size)
            if rng.random() < 0.05:
                host[0] += rng.choice((100, 10_000, 1_000_000))
                clock.run_due()
            if n % 10_000 == 9_999:
                for found in one.vm.root.walk():
                    saved = found.save_state()
                    found.load_state(saved)
                    assert found.save_state() == saved, found.path
        assert one.vm.failure is None
        one.vm._reset_devices(Reset.COLD)
        assert picture(two) == bystander
    assert disk.read_bytes() == bytes(512 * 2048), "a snapshot drive's file stays as it is"
