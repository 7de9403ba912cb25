"""fw_cfg, by its ports and its DMA interface; and beside QEMU's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.firmware import fw_cfg as cfg
from plugins.firmware.fw_cfg import FwCfgError, e820, numa_item
from qom.hw.bench import IsaBench

SELECT, DATA, DMA_HIGH, DMA_LOW = 0x510, 0x511, 0x514, 0x518
ACCESS, BUFFER = 0x1000, 0x2000


def swap(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")


class FwCfgBench(IsaBench):
    def __init__(self, **props: Any) -> None:
        super().__init__()
        self.ram(0, 1 << 20)
        self.fw = self.new("fw_cfg_io", **props)
        self.insert(self.fw)

    def select(self, key: int) -> None:
        self.outw(SELECT, key)

    def take(self, count: int) -> bytes:
        return bytes(self.inb(DATA) for _ in range(count))

    def item(self, key: int, count: int) -> bytes:
        self.select(key)
        return self.take(count)

    def dma(self, control: int, length: int, address: int = BUFFER) -> int:
        """One DMA access; returns the control word left behind."""
        self.memory.write_bytes(ACCESS, struct.pack(">IIQ", control, length, address))
        self.outl(DMA_HIGH, 0)
        self.outl(DMA_LOW, swap(ACCESS))
        return int.from_bytes(self.memory.read_bytes(ACCESS, 4), "big")


@pytest.fixture
def bench() -> FwCfgBench:
    return FwCfgBench()


def test_signature_and_id(bench: FwCfgBench) -> None:
    assert bench.item(cfg.SIGNATURE, 6) == b"QEMU\0\0"
    assert bench.item(cfg.ID, 4) == b"\3\0\0\0"
    assert (swap(bench.inl(DMA_HIGH)), swap(bench.inl(DMA_LOW))) == (0x51454D55, 0x20434647)


def test_without_dma() -> None:
    bench = FwCfgBench(dma_enabled=False)
    assert bench.item(cfg.ID, 4) == b"\1\0\0\0"
    assert bench.inl(DMA_HIGH) == 0xFFFFFFFF


def test_numbers_and_texts(bench: FwCfgBench) -> None:
    bench.fw.add_i16(cfg.NB_CPUS, 4)
    bench.fw.add_i32(cfg.BOOT_MENU, 0x12345678)
    bench.fw.add_i64(cfg.RAM_SIZE, 6 << 30)
    bench.fw.add_string(cfg.KERNEL_CMDLINE, "quiet")
    bench.fw.add_bytes(cfg.UUID, bytes(range(16)))
    assert bench.item(cfg.NB_CPUS, 3) == b"\4\0\0"
    assert bench.item(cfg.BOOT_MENU, 4) == b"\x78\x56\x34\x12"
    assert bench.item(cfg.RAM_SIZE, 8) == (6 << 30).to_bytes(8, "little")
    assert bench.item(cfg.KERNEL_CMDLINE, 7) == b"quiet\0\0"
    assert bench.item(cfg.UUID, 17) == bytes(range(16)) + b"\0"


def test_directory_is_sorted_and_keys_work(bench: FwCfgBench) -> None:
    content = {"etc/zeta": b"last", "bootorder": b"/pci@i0cf8\0", "etc/alpha": bytes(300)}
    for name, data in content.items():
        bench.fw.add_file(name, data)
    (count,) = struct.unpack(">I", bench.item(cfg.FILE_DIR, 4))
    entries = [struct.unpack(">IHH56s", bench.take(64)) for _ in range(count)]
    names = [name.rstrip(b"\0").decode() for *_, name in entries]
    assert names == ["bootorder", "etc/alpha", "etc/zeta"]
    for (size, key, reserved, _), name in zip(entries, names, strict=True):
        assert reserved == 0
        assert bench.item(key, size) == content[name]


def test_unknown_item_reads_as_zeros(bench: FwCfgBench) -> None:
    assert bench.item(0x1234, 3) == b"\0\0\0"
    bench.select(cfg.SIGNATURE | cfg.WRITE_CHANNEL)
    assert bench.take(4) == b"QEMU", "the write channel bit has no meaning any more"


def test_selector_needs_a_word_and_data_a_byte(bench: FwCfgBench) -> None:
    bench.select(cfg.SIGNATURE)
    bench.outb(SELECT, 5)
    bench.outb(DATA, 0xFF)
    assert bench.inw(SELECT) == 0
    assert bench.take(4) == b"QEMU"


def test_dma_reads(bench: FwCfgBench) -> None:
    key = bench.fw.add_file("etc/x", bytes(range(100)))
    bench.memory.write_bytes(BUFFER, b"\xff" * 300)
    assert bench.dma(key << 16 | cfg.DMA_SELECT | cfg.DMA_READ, 10) == 0
    assert bench.memory.read_bytes(BUFFER, 12) == bytes(range(10)) + b"\xff\xff"
    assert bench.dma(cfg.DMA_SKIP, 5) == 0
    assert bench.dma(cfg.DMA_READ, 200) == 0
    assert bench.memory.read_bytes(BUFFER, 201) == bytes(range(15, 100)) + bytes(115) + b"\xff"
    assert bench.dma(5 << 16 | cfg.DMA_SELECT, 0) == 0
    assert bench.dma(key << 16 | cfg.DMA_SELECT | cfg.DMA_SKIP, 98) == 0
    assert bench.take(3) == b"bc\0", "the data port goes on where DMA stopped"


def test_dma_address_above_4g(bench: FwCfgBench) -> None:
    bench.ram(1 << 32, 1 << 16)
    bench.memory.write_bytes(1 << 32, struct.pack(">IIQ", cfg.DMA_SELECT | cfg.DMA_READ, 4, (1 << 32) + 0x100))
    bench.outl(DMA_HIGH, swap(1))
    bench.outl(DMA_LOW, 0)
    assert bench.memory.read_bytes((1 << 32) + 0x100, 4) == b"QEMU"
    assert bench.fw.dma_high == 0


def test_dma_write_only_where_allowed(bench: FwCfgBench) -> None:
    written: list[tuple[int, bytes]] = []
    fixed = bench.fw.add_file("etc/fixed", b"fixed")
    open_ = bench.fw.add_file("etc/open", b"........", on_write=lambda at, data: written.append((at, data)))
    bench.memory.write_bytes(BUFFER, b"abcd")
    assert bench.dma(fixed << 16 | cfg.DMA_SELECT | cfg.DMA_WRITE, 4) == cfg.DMA_ERROR
    bench.dma(open_ << 16 | cfg.DMA_SELECT | cfg.DMA_SKIP, 2)
    assert bench.dma(cfg.DMA_WRITE, 4) == 0
    assert bench.dma(cfg.DMA_WRITE, 4) == cfg.DMA_ERROR, "only two bytes are left"
    assert bench.inb(DATA) == 0, "the position moves on all the same"
    assert written == [(2, b"abcd")]
    assert (bench.item(open_, 8), bench.item(fixed, 5)) == (b"..abcd..", b"fixed")


def test_huge_read_into_nowhere_ends(bench: FwCfgBench) -> None:
    assert bench.dma(cfg.DMA_SELECT | cfg.DMA_READ, 0xFFFFFFFF, 0xFFF00) == 0
    assert bench.memory.read_bytes(0xFFF00, 6) == b"QEMU\0\0"


def test_content_made_on_demand_is_made_anew_after_reset(bench: FwCfgBench) -> None:
    made: list[int] = []

    def content() -> bytes:
        made.append(1)
        return bytes((len(made),))

    key = bench.fw.add_file("etc/made", content)
    assert bench.item(key, 1) == bench.item(key, 1) == b"\1"
    bench.reset()
    assert bench.item(key, 1) == b"\2"


def test_what_cannot_be_added(bench: FwCfgBench) -> None:
    where = bench.fw.path
    bench.fw.add_file("etc/x", b"")
    for name, message in (
        ("etc/x", "file 'etc/x' is there already"),
        ("n" * 56, f"file name '{'n' * 56}' must have 1 to 55 characters"),
        ("", "file name '' must have 1 to 55 characters"),
    ):
        with pytest.raises(FwCfgError) as caught:
            bench.fw.add_file(name, b"")
        assert str(caught.value) == f"{where}: {message}"
    with pytest.raises(FwCfgError) as caught:
        bench.fw.add_i16(cfg.SIGNATURE, 1)
    assert str(caught.value) == f"{where}: item 0x0 is there already"
    for n in range(31):
        bench.fw.add_file(f"f{n}", b"")
    with pytest.raises(FwCfgError) as caught:
        bench.fw.add_file("one more", b"")
    assert str(caught.value) == f"{where}: no slot for file 'one more': 'x-file-slots' is 32"


def test_e820_and_numa() -> None:
    assert e820([(0, 0xA0000, cfg.E820_RAM)]) == bytes(8) + (0xA0000).to_bytes(8, "little") + b"\1\0\0\0"
    item = numa_item(3, {0: 0, 1: 1, 2: 1}, [1 << 20, 2 << 20])
    assert struct.unpack("<6Q", item) == (2, 0, 1, 1, 1 << 20, 2 << 20)


def test_beside_qemu(qemu: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(bytes(range(50)))
    machine = qemu("-M", "pc", "-nodefaults", "-m", "64", "-fw_cfg", f"name=opt/x/blob,file={tmp_path / 'blob'}")
    bench = FwCfgBench()
    bench.fw.add_file("opt/x/blob", bytes(range(50)))

    def both(command: str, *rest: int) -> tuple[int, int]:
        theirs = machine.commands([" ".join([command, *(f"{n:#x}" for n in rest)])])[0]
        how = getattr(bench, command, None)
        if command == "readl":
            return bench.read(rest[0], 4), theirs
        if command == "writel":
            return bench.write(rest[0], rest[1], 4) or 0, theirs
        assert how is not None
        return how(*rest) or 0, theirs

    def same(command: str, *rest: int) -> int:
        ours, theirs = both(command, *rest)
        assert ours == theirs, (command, rest)
        return ours

    # The number of the file differs: find it in QEMU's directory, by DMA, and give ours the same name.
    machine.commands(["outw 0x510 0x19"])
    raw = bytes(machine.commands(["inb 0x511"] * 4))
    entries = [bytes(machine.commands(["inb 0x511"] * 64)) for _ in range(int.from_bytes(raw, "big"))]
    assert [e[8:] for e in entries] == sorted(e[8:] for e in entries), "QEMU sorts, too"
    key = next(struct.unpack(">IH", e[:6])[1] for e in entries if e[8:].startswith(b"opt/x/blob\0"))
    item = bench.fw.items.pop(bench.fw.files["opt/x/blob"])
    bench.fw.items[key] = item
    bench.fw.files["opt/x/blob"] = key

    for word in (0, 1, key, 0x7777, key | 0x4000):
        same("outw", SELECT, word)
        for _ in range(8):
            same("inb", DATA)
    same("inw", SELECT)
    for port in (DMA_HIGH, DMA_LOW):
        same("inl", port)
    for control, length in (
        (key << 16 | cfg.DMA_SELECT | cfg.DMA_READ, 20),
        (cfg.DMA_SKIP, 3),
        (cfg.DMA_READ, 60),
        (key << 16 | cfg.DMA_SELECT | cfg.DMA_WRITE, 4),
        (cfg.DMA_READ, 8),
        (0x7777 << 16 | cfg.DMA_SELECT | cfg.DMA_READ, 8),
        (0, 8),
        (key << 16 | cfg.DMA_SELECT | cfg.DMA_READ | cfg.DMA_WRITE | cfg.DMA_SKIP, 12),
    ):
        for n in range(24):
            same("writel", BUFFER + 4 * n, 0xEEEEEEEE)
        for n, word in enumerate((control, length, 0, BUFFER)):
            same("writel", ACCESS + 4 * n, swap(word))
        same("outl", DMA_HIGH, 0)
        same("outl", DMA_LOW, swap(ACCESS))
        for n in range(24):
            same("readl", BUFFER + 4 * n)
        same("readl", ACCESS)
        same("inb", DATA)
