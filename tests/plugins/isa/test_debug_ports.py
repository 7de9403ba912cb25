"""The debug console and the exit port, by their ports."""

from __future__ import annotations

from typing import Any

from plugins.isa.debugcon import KEPT_MAX
from qom.hw.bench import IsaBench


def console(**props: Any) -> tuple[IsaBench, Any, Any]:
    bench = IsaBench()
    peer = bench.new("chardev-ringbuf")
    peer.open()
    return bench, peer, bench.add("isa-debugcon", chardev=peer, **props)


def test_debugcon_prints_and_answers() -> None:
    bench, peer, _ = console()
    for letter in b"hello":
        bench.outb(0xE9, letter)
    assert (peer.take(), bench.inb(0xE9)) == (b"hello", 0xE9)


def test_debugcon_elsewhere() -> None:
    bench, peer, _ = console(iobase=0x402, readback=0x42)
    bench.outb(0x402, 0x21)
    assert (peer.take(), bench.inb(0x402), bench.inb(0xE9)) == (b"!", 0x42, 0xFF)


def test_debugcon_without_back_end() -> None:
    bench = IsaBench()
    bench.add("isa-debugcon")
    bench.outb(0xE9, 1)
    assert bench.inb(0xE9) == 0xE9


def test_debugcon_keeps_order_for_a_slow_peer_and_counts_what_is_lost() -> None:
    bench, peer, device = console()
    take, peer.write = peer.write, lambda data: 0
    for n in range(KEPT_MAX + 3):
        bench.outb(0xE9, n & 0xFF)
    assert device.lost == 3
    peer.write = lambda data: take(data[:1000])
    peer.on_writable()
    got = peer.take()
    bench.outb(0xE9, 0x55)  # must not overtake what is kept
    peer.write = take
    peer.on_writable()
    assert got + peer.take() == bytes(range(256)) * (KEPT_MAX // 256) + b"\x55"


def test_debug_exit_ends_the_machine_with_an_odd_status() -> None:
    bench = IsaBench()
    bench.add("isa-debug-exit")
    bench.outb(0x501, 0)
    bench.outb(0x501, 0x10)
    bench.outw(0x501, 0x1234)
    assert bench.inb(0x501) == 0
    assert bench.system.shutdowns == [("isa-debug-exit", 1), ("isa-debug-exit", 0x21), ("isa-debug-exit", 0x2469)]


def test_debug_exit_size() -> None:
    bench = IsaBench()
    bench.add("isa-debug-exit", iobase=0xF4, iosize=4)
    bench.outl(0xF4, 3)
    assert bench.system.shutdowns == [("isa-debug-exit", 7)]
