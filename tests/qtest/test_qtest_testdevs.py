"""The test devices pc-testdev and pci-testdev by the qtest protocol, access by access beside QEMU's."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from qom.errors import QomError
from qom.testing.qtest import QTest

QEMU = "qemu-system-x86_64"
WIDTHS = {"b": 1, "w": 2, "l": 4}
MEMORY, PORTS, NOTHING = 0xFEB0_0000, 0xC000, 0xFE00_0000  # where BARs 0, 1 and 2 of pci-testdev are put
PCI = "-device pci-testdev,addr=4,membar=64K"


def need_qemu() -> str:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed: no oracle to compare with")
    return QEMU


def number(answer: str) -> int:
    """What an access answered; 0 for a write."""
    word, *value = answer.split()
    assert word == "OK", answer
    return int(value[0], 0) if value else 0


def compare(ours: QTest, theirs: QTest, lines: Iterable[str]) -> None:
    """Every answer must be QEMU's."""
    before: list[str] = []
    for line in lines:
        before.append(line)
        our, their = number(ours.send(line)), number(theirs.send(line))
        assert our == their, f"{line}: we say {our:#x}, QEMU {their:#x}, after {before[-12:]}"


def place(q: QTest) -> None:
    """Put the BARs of pci-testdev where they can be reached."""
    for offset, value in ((0x10, MEMORY), (0x14, PORTS), (0x18, NOTHING), (0x1C, 0)):
        q.config_write("04.0", offset, value)
    q.config_write("04.0", 0x04, 3, 2)


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[QTest, QTest]]:
    with QTest(request.param) as ours, QTest(request.param, program=need_qemu()) as theirs:
        yield ours, theirs


@pytest.mark.parametrize("pair", ["-device pc-testdev"], indirect=True)
def test_the_isa_device_answers_as_qemus(pair: tuple[QTest, QTest]) -> None:
    def accesses() -> Iterator[str]:
        words = random.Random(0xE0)
        for _ in range(1500):
            width = words.choice("bwl")
            value = words.getrandbits(8 * WIDTHS[width])
            port = words.randrange(0xE0, 0xEB)
            address = 0xFF00_0000 + words.choice((words.randrange(32), 0x10000 - WIDTHS[width] - words.randrange(8)))
            yield words.choice((f"out{width} {port:#x} {value:#x}", f"write{width} {address:#x} {value:#x}"))
            yield words.choice(
                (f"in{width} {port:#x}", f"read{width} {address:#x}", f"inb {0x2000 + words.randrange(24):#x}")
            )

    compare(*pair, accesses())


@pytest.mark.parametrize("pair", ["-device pc-testdev"], indirect=True)
def test_the_isa_device_sets_the_lines_as_qemus(pair: tuple[QTest, QTest]) -> None:
    levels = []
    for q in pair:
        q.irq_intercept_in("ioapic")
        seen = []
        for port, value in ((5, 1), (11, 0x80), (5, 0), (11, 0), (7, 255), (7, 1), (10, 1)):
            q.outb(0x2000 + port, value)
            seen.append([q.get_irq(n) for n in range(24)])
        levels.append(seen)
    assert levels[0] == levels[1]


def test_a_reset_of_the_isa_device_releases_the_lines_and_keeps_the_rest() -> None:
    with QTest("-device pc-testdev") as q:
        q.irq_intercept_in("ioapic")
        q.outb(0x2005, 1)
        q.outl(0xE0, 0x12345678)
        q.writel(0xFF00_0000, 0x9ABCDEF0)
        assert q.get_irq(5)
        q.system_reset()
        q.clock_step(0)  # what lines do is told with the next answer
        assert not q.get_irq(5)
        assert (q.inl(0xE8), q.readl(0xFF00_0000)) == (0x12345678, 0x9ABCDEF0)


def test_lines_that_there_are_not_are_the_guests_fault() -> None:
    with QTest("-device pc-testdev") as q:
        for port in (0x2010, 0x2017):
            q.outb(port, 1)
        lines = [line for line in q.vm.log_lines if "no ISA line" in line]
        assert len(lines) == 1
        assert lines[0].endswith("there is no ISA line 16: expected 0..15")


def test_the_state_of_the_isa_device_drives_the_lines() -> None:
    with QTest("-device pc-testdev,id=test") as q:
        device: Any = q.vm.root.resolve("/machine/peripheral/test")
        q.irq_intercept_in("ioapic")
        q.outb(0x2005, 1)
        saved = device.save_state()
        q.outb(0x2005, 0)
        assert not q.get_irq(5)
        device.load_state(saved)
        q.clock_step(0)  # what lines do is told with the next answer
        assert q.get_irq(5)


@pytest.mark.parametrize("pair", [PCI], indirect=True)
def test_the_pci_device_is_qemus(pair: tuple[QTest, QTest]) -> None:
    seen = []
    for q in pair:
        identity = [q.config_read("04.0", offset) for offset in (0x00, 0x08, 0x2C, 0x3C)]
        for offset in range(0x10, 0x28, 4):
            q.config_write("04.0", offset, 0xFFFF_FFFF)
        seen.append(identity + [q.config_read("04.0", offset) for offset in range(0x10, 0x28, 4)])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("pair", [PCI], indirect=True)
def test_the_pci_device_answers_as_qemus(pair: tuple[QTest, QTest]) -> None:
    def accesses() -> Iterator[str]:
        words = random.Random(0x1B36)
        for bar, write, read in ((MEMORY, "write", "read"), (PORTS, "out", "in")):
            for test in (0, 1, 2, 3, 255):
                yield f"{write}b {bar:#x} {test:#x}"
                yield from (f"{read}b {bar + at:#x}" for at in range(48))
        for _ in range(1500):
            if words.random() < 0.1:
                start = words.randrange(4) if words.random() < 0.9 else words.getrandbits(8)
                yield words.choice((f"writeb {MEMORY:#x} {start:#x}", f"outb {PORTS:#x} {start:#x}"))
            width = words.choice("bbwl")
            value = int.from_bytes(
                bytes(words.choice((0xFA, 0xFA, 0xCE, 0, 1)) for _ in range(WIDTHS[width])), "little"
            )
            at = words.randrange(0x7FD, 0x807)
            port = words.randrange(0x7D, 0x8A)
            yield words.choice(
                (f"write{width} {MEMORY + at:#x} {value:#x}", f"out{width} {PORTS + port:#x} {value:#x}",
                 f"read{width} {NOTHING + at:#x}", f"write{width} {NOTHING + at:#x} {value:#x}")
            )  # fmt: skip
            yield f"readl {MEMORY + 12:#x}"
            yield f"in{width} {PORTS + words.randrange(32):#x}"

    for q in pair:
        place(q)
    compare(*pair, accesses())


def test_what_a_notifier_takes_is_counted_apart() -> None:
    with QTest(PCI + ",id=test") as q:
        place(q)
        device: Any = q.vm.root.resolve("/machine/peripheral/test")
        q.writeb(MEMORY, 1)
        for _ in range(3):
            q.writeb(MEMORY + q.readl(MEMORY + 4), q.readb(MEMORY + 8))
        assert (device.count, device.notified) == (0, 3)
        q.system_reset()
        place(q)
        assert (device.count, device.notified, q.readl(MEMORY)) == (0, 0, 0)


@pytest.mark.parametrize(("size", "shown"), [("3000", "3000"), ("8", "8"), ("48K", "48k")])
def test_the_size_of_the_empty_bar_is_checked(size: str, shown: str) -> None:
    with pytest.raises(QomError) as caught:
        QTest(f"-device pci-testdev,addr=4,membar={size}")
    assert str(caught.value).endswith(f"membar is {shown}: expected a power of two from 16 on")
