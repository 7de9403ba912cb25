"""Exits counted per reason, processor and device: the numbers, the table, the pane of a terminal, the picture."""

from __future__ import annotations

import io
import os
import xml.dom.minidom
from pathlib import Path
from typing import Any

import pytest

from qom import VirtualMachine, open_machine
from qom.cli.exit_options import ExitsAsked
from qom.cli.exits import _Pane, _size, watching_exits
from qom.cli.main import main
from qom.cli.system import main as system_main
from qom.cli.system import parse
from qom.show import exits_svg, exits_text
from qom.vm.exits import DeviceExits, ExitSample, ExitWatch

# mov cx, 20; mov dx, 402h; again: out dx, al; loop again; in al, 60h; mov dx, 501h; out dx, al; hlt
GUEST = bytes.fromhex("b91400 ba0204 ee e2fd e460 ba0105 ee f4")
DEVICES = ["isa-debugcon,id=debug,iobase=0x402,chardev=d", "isa-debug-exit,id=end,iobase=0x501"]


def small() -> VirtualMachine:
    made = open_machine(
        machine="pc", accel="simulated", memory="8M", devices=DEVICES, chardevs=["null,id=d"], name="tiny"
    )
    made.memory.write_bytes(0x2000, GUEST)
    made.cpus[0].registers.set({"cs": 0, "cs.base": 0, "rip": 0x2000})
    return made


def test_devices_and_reasons_are_counted() -> None:
    with small() as vm:
        watch = ExitWatch(vm)
        vm.run()
        sample = watch.sample()
        watch.close()
    rows = {row.path: (row.reads, row.writes, row.category) for row in sample.devices}
    assert rows["/machine/peripheral/debug"][:2] == (0, 20)
    assert rows["/machine/i8042"] == (1, 0, "input")
    assert rows["/machine/peripheral/end"][:2] == (0, 1)
    assert sample.devices[0].path == "/machine/peripheral/debug"
    assert sample.user["KVM_EXIT_IO"] == {"0": 22}
    assert sample.inner["IO_INSTRUCTION"] == {"0": 22}
    assert sample.cpus == ["0"] and sample.total >= 22
    assert watch.samples == [sample]


def test_what_is_closed_counts_no_more() -> None:
    with small() as vm:
        watch = ExitWatch(vm)
        watch.close()
        vm.run()
        assert watch.sample().devices == ()


SERIAL = DeviceExits("/machine/serial0", "serial", "char", 10, 1200)
PIT = DeviceExits("/machine/pit", "", "timer", 5, 0)
FIRST = ExitSample(
    1.0,
    {"HLT": {"0": 1}},
    {"KVM_EXIT_IO": {"0": 1000, "1": 15}},
    (DeviceExits("/machine/serial0", "serial", "char", 10, 1000),),
)
SECOND = ExitSample(
    3.0, {"HLT": {"0": 5, "1": 2}}, {"KVM_EXIT_IO": {"0": 1200, "1": 15}, "KVM_EXIT_HLT": {"1": 2}}, (SERIAL, PIT)
)


def test_the_table() -> None:
    assert exits_text(SECOND, FIRST) == [
        "exits after 3.0 s: 1,217 to user space, 101/s",
        "inside the accelerator                         cpu 0       cpu 1  per second",
        "  HLT                                              5           2           3",
        "to user space                                  cpu 0       cpu 1  per second",
        "  IO                                           1,200          15         100",
        "  HLT                                              0           2           1",
        "by device                                      reads      writes  per second",
        "  /machine/serial0 serial                         10       1,200         100",
        "  /machine/pit                                     5           0           2",
    ]
    assert exits_text(FIRST)[:3] == [
        "exits after 1.0 s: 1,015 to user space",
        "inside the accelerator                         cpu 0       cpu 1",
        "  HLT                                              1           0",
    ]


def test_a_narrow_or_low_place() -> None:
    lines = exits_text(SECOND, FIRST, width=50, height=8)
    assert lines[1:3] == [
        "inside t…lerator    all cpus  per second",
        "  HLT                      7           3",
    ]
    assert len(lines) <= 9 and all(len(line) <= 50 for line in lines)
    assert "  … and 1 more" in lines
    assert len(exits_text(SECOND, FIRST, height=9)) == 9


def test_the_picture_is_well_formed_and_has_all() -> None:
    third = ExitSample(4.0, SECOND.inner, {"KVM_EXIT_IO": {"0": 9000}}, SECOND.devices)
    text = str(exits_svg([FIRST, SECOND, third]))
    xml.dom.minidom.parseString(text)
    for name in ("HLT", "/machine/serial0 serial", "1,210", "9,000", "per second, over time"):
        assert name in text
    with pytest.raises(ValueError, match="no samples"):
        exits_svg([])


class Terminal(io.StringIO):
    """Says it is one."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no number")


def test_on_a_terminal_the_table_stays_above() -> None:
    out = Terminal()
    pane = _Pane(out)
    pane.draw(SECOND, FIRST)
    pane.draw(SECOND, FIRST)
    text = out.getvalue()
    assert text.count("\x1b[21;40r") == 1  # the lower half scrolls
    assert text.count("\x1b[1;1H\x1b[2Kexits after 3.0 s") == 2
    pane.close()
    assert out.getvalue().endswith("\x1b[r\x1b[40;1H\n")


def test_a_terminal_that_does_not_know_its_size_is_a_common_one() -> None:
    ours, theirs = os.openpty()  # 0 columns, 0 lines
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w") as out:
        assert os.get_terminal_size(out.fileno()) == (0, 0)
        assert _size(out) == (120, 40)


@pytest.mark.parametrize("option", ["--exits-svg", "--dump"])
def test_a_folder_that_is_not_there_is_told_before_the_machine_is_built(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "nosuch.toml", option, "/no/such/file"]) == 1
    assert capsys.readouterr().err == f"qom: {option} /no/such/file: cannot be written: '/no/such' is no folder\n"


def test_around_a_run(tmp_path: Path) -> None:
    out = Terminal()
    picture = tmp_path / "exits.svg"
    with small() as vm:
        with watching_exits(vm, table=True, picture=str(picture), out=out):
            vm.run()
        assert "  /machine/peripheral/debug" in out.getvalue().splitlines()[-3:][0] or "debug" in out.getvalue()
    assert "Why the processors of tiny left the guest" in picture.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-exits-svg", "/no/such/file"], "-exits-svg /no/such/file: cannot be written: '/no/such' is no folder"),
        (["--exits-svg"], "--exits-svg: an argument is missing: expected FILE"),
        (["-exits-svg", "a", "-exits-svg", "b"], "-exits-svg: is given twice"),
    ],
)
def test_wrong_options(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert system_main(argv) == 1
    assert capsys.readouterr().err == f"qom-system-x86_64: {message}\n"


def test_what_follows_an_option_is_none() -> None:
    line, exits = parse(["-exits", "-append", "-exits-svg", "-kernel", "k", "-name", "--exits"])
    assert (line.builder.finish().append, line.builder.finish().name) == ("-exits-svg", "--exits")
    assert exits == ExitsAsked(table=True)


@pytest.mark.parametrize("program", ["qom", "qom-system-x86_64"])
def test_the_command(program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boot = tmp_path / "end.bin"
    code = bytes.fromhex("ba0105 b003 ee f4")  # mov dx, 501h; mov al, 3; out dx, al; hlt
    boot.write_bytes(code.ljust(0xFFF0, b"\0") + bytes.fromhex("ea000000f0").ljust(16, b"\0"))
    file, picture = tmp_path / "vm.toml", tmp_path / "exits.svg"
    file.write_text(
        f"machine = 'pc'\naccel = 'simulated'\nmemory = '8M'\nfirmware = '{boot}'\nserial = ['null']\n"
        "[[device]]\ndriver = 'isa-debug-exit'\nid = 'end'\niobase = 0x501\n"
    )
    if program == "qom":
        assert main(["run", str(file), "--exits", "--exits-svg", str(picture)]) == 7
    else:
        assert system_main(["-readconfig", str(file), "-exits", "-exits-svg", str(picture)]) == 7
    told: Any = capsys.readouterr()
    assert "by device" in told.err and "  /machine/peripheral/end" in told.err
    xml.dom.minidom.parse(str(picture))
