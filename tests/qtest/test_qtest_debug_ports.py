"""The debug console (`isa-debugcon`) and the exit port (`isa-debug-exit`): inventions of emulators, with no data sheet."""

from __future__ import annotations

from pathlib import Path

import pytest

from qom.testing import QTest

QEMU = "qemu-system-x86_64"


def test_debugcon_answers_with_its_read_back_value_and_writes_to_its_back_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with QTest(
        f"-M pc -m 16 -chardev file,id=d,path={out} -device isa-debugcon,chardev=d,iobase=0x402,readback=0x5a"
    ) as q:
        assert q.inb(0x402) == 0x5A
        for byte in b"firmware\n":
            q.outb(0x402, byte)
        q.outw(0x402, 0x2041)  # the second byte goes to port 403h, where nobody is
        assert q.inb(0x403) == 0xFF
        q.system_reset()
        assert q.inb(0x402) == 0x5A
    assert out.read_bytes() == b"firmware\nA"


@pytest.mark.parametrize("program", [None, QEMU], ids=["qom", "qemu"])
def test_debugcon_is_found_where_it_was_put(program: str | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _started(f"-M pc -m 16 -chardev file,id=d,path={out} -device isa-debugcon,chardev=d", program) as q:
        assert q.inb(0xE9) == 0xE9
        q.outb(0xE9, 0x41)
    assert out.read_bytes() == b"A"


@pytest.mark.parametrize("program", [None, QEMU], ids=["qom", "qemu"])
@pytest.mark.parametrize("write, value, status", [("outb", 0x10, 0x21), ("outb", 0, 1), ("outl", 0x31, 0x63)])
def test_the_exit_port_ends_the_machine(program: str | None, write: str, value: int, status: int) -> None:
    with _started("-M pc -m 16 -device isa-debug-exit,iobase=0xf4,iosize=4", program) as q:
        assert q.inb(0xF4) == 0 and q.inl(0xF4) == 0
        q.send(f"{write} 0xf4 {value}") if program is None else _last(q, f"{write} 0xf4 {value}")
        assert q.wait() == status


def test_the_exit_port_takes_as_many_ports_as_it_is_told() -> None:
    with QTest("-M pc -m 16 -device isa-debug-exit,iobase=0x500,iosize=2") as q:
        assert (q.inb(0x500), q.inb(0x501), q.inb(0x502)) == (0, 0, 0xFF)
        q.outb(0x502, 1)
        assert not q.vm.wait(0)
        q.outb(0x501, 1)
        assert q.wait() == 3


def _started(args: str, program: str | None) -> QTest:
    import shutil

    if program is not None and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return QTest(args, program=program)


def _last(q: QTest, line: str) -> None:
    """A line at which the program ends."""
    from qom.testing import QTestError

    with pytest.raises(QTestError, match="has ended"):
        q.send(line)
