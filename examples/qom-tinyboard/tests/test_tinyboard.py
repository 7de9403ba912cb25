"""tinyboard from its reset vector to its exit port, on the simulated accelerator; everything is said in files."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import qom_tinyboard

from qom import ConfigError, default_registry, open_machine
from qom.board import read_board, register_board

BOARD = Path(qom_tinyboard.__file__).with_name("tinyboard.toml")
FILE = """
debugcon = "file:{out}"
serial = "none"

[machine]
type = "tinyboard"
"""


def types():
    """What is in the box and tinyboard, from a checkout as well as installed."""
    registry = default_registry(load_external=False)
    registry.register(qom_tinyboard.TinyIsaBridge, origin="qom-tinyboard")
    register_board(registry, read_board(BOARD), "qom-tinyboard")
    return registry


@contextmanager
def machine(tmp_path, more=""):
    """The machine of a file that asks for a tinyboard, and `more`."""
    (tmp_path / "vm.toml").write_text(more + FILE.format(out=tmp_path / "out"))
    with open_machine(tmp_path / "vm.toml", registry=types()) as vm:
        yield vm


def test_the_rom_greets_and_ends_the_machine(tmp_path):
    with machine(tmp_path) as vm:
        assert vm.run() == 1
    assert (tmp_path / "out").read_text() == "tinyboard\n"


def test_its_parts_have_stable_names(tmp_path):
    with machine(tmp_path) as vm:
        paths = [obj.path for obj in vm.root.walk()]
    for path in ("/machine/cpu", "/machine/bridge/isa.0", "/machine/pic", "/machine/exit", "/machine/debugcon"):
        assert path in paths


def test_a_serial_port_reaches_the_pic_without_a_guest(qom_machine):
    port = {"driver": "isa-serial", "iobase": 0x2F8, "irq": 3, "chardev": "line"}
    board = qom_machine(
        machine="tinyboard",
        accel="qtest",
        serials=["none"],
        chardevs=["console,id=line"],
        devices=[port],
        registry=types(),
    )
    irq = board.irq("pic", 3)
    board.outb(0x2FC, 0x08)  # OUT2: the port's interrupt reaches the bus
    board.outb(0x2F9, 0x02)  # an interrupt whenever there is room to send
    assert (irq.raised, irq.level) == (1, 1)
    assert board.inb(0x2FA) == 0x02  # that was it; reading this register ends it
    assert irq.lowered == 1


def test_another_rom(tmp_path):
    rom = bytearray(b"\xf4" * 4096)
    code = b"\xb0\x21\xba\x01\x05\xee"  # mov $0x21,%al; mov $0x501,%dx; out %al,%dx
    rom[0xFF0 : 0xFF0 + len(code)] = code
    (tmp_path / "rom").write_bytes(rom)
    with machine(tmp_path, f'firmware = "{tmp_path / "rom"}"\n') as vm:
        assert vm.run() == 0x43


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ('memory = "1M"', "vm.toml:1:1: /machine: ram-size is 1048576 bytes: expected 4k to 512k"),
        (
            'cpu = "max"',
            "vm.toml:1:1: the processor of tinyboard-machine cannot be changed: expected no processor model",
        ),
        ('drive = [{ file = "vm.toml" }]', "vm.toml:1:10: drive 'ide0-hd0': tinyboard-machine has no disk controller"),
        ('kernel = "vm.toml"', "vm.toml:1:1: tinyboard-machine cannot start a kernel by itself"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, monkeypatch, more, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught, machine(Path(), more + "\n"):
        pass
    assert str(caught.value) == text
