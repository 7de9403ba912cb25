"""Driving an IDE channel by its ports, the same way on a bench and on QEMU."""

from __future__ import annotations

import struct
from typing import Any, Protocol

COMMAND, CONTROL, MASTER = 0x1F0, 0x3F6, 0xC000
DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(COMMAND, COMMAND + 8)
ERR, DRQ, DF, DRDY, BSY = 0x01, 0x08, 0x20, 0x40, 0x80
READY = 0x50
NIEN, SRST, HOB = 0x02, 0x04, 0x80
BMIC, BMIS, BMIDTP = MASTER, MASTER + 2, MASTER + 4
START, TO_MEMORY = 0x01, 0x08
ACTIVE, FAILED, INTERRUPT = 0x01, 0x02, 0x04
TABLE, BUFFER = 0x10000, 0x20000  # where descriptors and data lie in guest memory


class Machine(Protocol):
    """What a test needs of either machine."""

    def inb(self, port: int) -> int: ...
    def outb(self, port: int, value: int) -> None: ...
    def inw(self, port: int) -> int: ...
    def outw(self, port: int, value: int) -> None: ...
    def outl(self, port: int, value: int) -> None: ...
    def words_in(self, port: int, count: int) -> bytes: ...
    def words_out(self, port: int, data: bytes) -> None: ...
    def load(self, address: int, length: int) -> bytes: ...
    def store(self, address: int, data: bytes) -> None: ...


class BenchMachine:
    """A bench as a `Machine`."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.inb, self.inw, self.outb, self.outw, self.outl = (
            bench.inb,
            bench.inw,
            bench.outb,
            bench.outw,
            bench.outl,
        )

    def words_in(self, port: int, count: int) -> bytes:
        return struct.pack(f"<{count}H", *(self.inw(port) for _ in range(count)))

    def words_out(self, port: int, data: bytes) -> None:
        for (word,) in struct.iter_unpack("<H", data):
            self.outw(port, word)

    def load(self, address: int, length: int) -> bytes:
        return bytes(self.bench.memory.read_bytes(address, length))

    def store(self, address: int, data: bytes) -> None:
        self.bench.memory.write_bytes(address, data)


class QemuMachine:
    """QEMU's test protocol as a `Machine`."""

    def __init__(self, qemu: Any) -> None:
        self.qemu = qemu

    def one(self, command: str) -> int:
        return int(self.qemu.commands([command])[0])

    def inb(self, port: int) -> int:
        return self.one(f"inb {port:#x}")

    def inw(self, port: int) -> int:
        return self.one(f"inw {port:#x}")

    def outb(self, port: int, value: int) -> None:
        self.one(f"outb {port:#x} {value:#x}")

    def outw(self, port: int, value: int) -> None:
        self.one(f"outw {port:#x} {value:#x}")

    def outl(self, port: int, value: int) -> None:
        self.one(f"outl {port:#x} {value:#x}")

    def words_in(self, port: int, count: int) -> bytes:
        return struct.pack(f"<{count}H", *self.qemu.commands([f"inw {port:#x}"] * count))

    def words_out(self, port: int, data: bytes) -> None:
        self.qemu.commands([f"outw {port:#x} {word:#x}" for (word,) in struct.iter_unpack("<H", data)])

    def load(self, address: int, length: int) -> bytes:
        commands = [f"readl {address + n:#x}" for n in range(0, length, 4)]
        return struct.pack(f"<{len(commands)}I", *self.qemu.commands(commands))[:length]

    def store(self, address: int, data: bytes) -> None:
        padded = data + bytes(-len(data) % 4)
        words = struct.unpack(f"<{len(padded) // 4}I", padded)
        self.qemu.commands([f"writel {address + 4 * n:#x} {word:#x}" for n, word in enumerate(words)])


class Channel:
    """The primary channel of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.m = machine

    def start_master(self, function: str = "1.1") -> None:
        """Put the bus-master registers where `MASTER` says and let the function master the bus."""
        slot, number = (int(part, 16) for part in function.split("."))
        where = 0x8000_0000 | slot << 11 | number << 8
        for offset, value in ((0x20, MASTER), (0x04, 5)):
            self.m.outl(0xCF8, where | offset)
            self.m.outl(0xCFC, value)

    def wait(self) -> int:
        """Alternate status, once the device is not busy (which it never is on a bench)."""
        for _ in range(10000):
            status = self.m.inb(CONTROL)
            if not status & BSY:
                return status
        raise AssertionError("busy for ever")

    def address(self, lba: int, count: int, *, ext: bool = False, unit: int = 0) -> None:
        """Write the task file with an LBA address."""
        m = self.m
        if ext:
            m.outb(DEVICE, 0x40 | unit << 4)
            for port, value in ((COUNT, count >> 8), (LOW, lba >> 24), (MID, lba >> 32), (HIGH, lba >> 40)):
                m.outb(port, value & 0xFF)
        else:
            m.outb(DEVICE, 0xE0 | unit << 4 | lba >> 24 & 0x0F)
        for port, value in ((COUNT, count), (LOW, lba), (MID, lba >> 8), (HIGH, lba >> 16)):
            m.outb(port, value & 0xFF)

    def chs(self, cylinder: int, head: int, sector: int, count: int) -> None:
        """Write the task file with a CHS address."""
        self.m.outb(DEVICE, 0xA0 | head)
        for port, value in ((COUNT, count), (LOW, sector), (MID, cylinder & 0xFF), (HIGH, cylinder >> 8)):
            self.m.outb(port, value)

    def task_file(self) -> tuple[int, ...]:
        """Count, address and device registers."""
        return tuple(self.m.inb(port) for port in (COUNT, LOW, MID, HIGH, DEVICE))

    def history(self) -> tuple[int, ...]:
        """The previous content of count and address registers."""
        self.m.outb(CONTROL, HOB)
        return tuple(self.m.inb(port) for port in (COUNT, LOW, MID, HIGH))

    def command(self, code: int) -> int:
        """Write a command; status once it is not busy."""
        self.m.outb(STATUS, code)
        return self.wait()

    def data_in(self, blocks: list[int]) -> bytes:
        """Read DRQ blocks of so many sectors."""
        data = b""
        for sectors in blocks:
            assert self.wait() & (DRQ | ERR) == DRQ
            data += self.m.words_in(DATA, sectors * 256)
        return data

    def data_out(self, data: bytes, blocks: list[int]) -> None:
        """Write DRQ blocks of so many sectors."""
        for sectors in blocks:
            assert self.wait() & (DRQ | ERR) == DRQ
            self.m.words_out(DATA, data[: sectors * 512])
            data = data[sectors * 512 :]

    def descriptors(self, *parts: tuple[int, int]) -> None:
        """Write a descriptor table: (address, bytes) of each part, the last one marked."""
        table = b"".join(struct.pack("<II", address, length & 0xFFFF) for address, length in parts)
        self.m.store(TABLE, table[:-1] + b"\x80")
        self.m.outl(BMIDTP, TABLE)

    def run_master(self, to_memory: bool) -> int:
        """Start the engine; bus-master status once an interrupt or the end of the transfer has come."""
        self.m.outb(BMIS, INTERRUPT | FAILED)
        self.m.outb(BMIC, TO_MEMORY if to_memory else 0)
        self.m.outb(BMIC, START | (TO_MEMORY if to_memory else 0))
        self.wait()
        for _ in range(10000):
            status = self.m.inb(BMIS)
            if status & INTERRUPT or not status & ACTIVE:
                break
        self.m.outb(BMIC, 0)
        return status


def blocks_of(count: int, size: int) -> list[int]:
    """Sectors of each DRQ block of a transfer."""
    return [min(size, count - n) for n in range(0, count, size)]
