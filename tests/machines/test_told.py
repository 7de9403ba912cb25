"""What a user has a PC's firmware told: SMBIOS fields, fw_cfg items, ACPI tables, option ROMs, boot order, the clock's date."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plugins.firmware import acpi
from qom import QomError, VirtualMachine, default_registry
from qom.cli.options import CommandLine
from qom.config.tables import TABLES

UUID = "6f2a1c9e-5d3b-4b7a-9c0e-8d1f2a3b4c5d"


@contextmanager
def pc(line: str) -> Iterator[VirtualMachine]:
    config = CommandLine().parse([*shlex.split(f"-M pc -accel qtest -m 16 -nodefaults {line}")]).builder.finish()
    with VirtualMachine(config, default_registry(load_external=False)).build() as vm:
        yield vm


def fw_file(vm: VirtualMachine, name: str) -> bytes:
    data: bytes = vm.machine.chip("fw_cfg", "fw_cfg_io").file(name)
    return data


def structures(vm: VirtualMachine) -> dict[int, list[tuple[bytes, list[str]]]]:
    """By type, the fields and strings of each structure, read as an operating system does."""
    data, found = fw_file(vm, "etc/smbios/smbios-tables"), {}
    while data:
        end = data.index(b"\0\0", data[1])
        strings = [s.decode() for s in data[data[1] : end].split(b"\0") if s]
        found.setdefault(data[0], []).append((data[: data[1]], strings))
        data = data[end + 2 :]
    return found


def test_smbios_says_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("from a file")
    (tmp_path / "whole").write_bytes(bytes((128, 6, 9, 9, 0xAB, 1)) + b"own\0\0")
    said = (
        f"-uuid {UUID} -smbios type=0,vendor=V,version=1.2,date=01/02/2003,release=3.4,uefi=on"
        " -smbios type=1,manufacturer=M,product=P,version=X,serial=S,sku=K,family=F"
        " -smbios type=2,product=Board,asset=A,location=L -smbios type=3,manufacturer=C,serial=CS,asset=CA,sku=CK"
        " -smbios type=4,sock_pfx=Sock,max-speed=4000,current-speed=3000,serial=PS,part=PP"
        " -smbios type=8,internal_reference=int,external_reference=ext,connector_type=11,port_type=16"
        f" -smbios type=11,value=one,value=two,path={tmp_path}/text"
        f" -smbios type=17,loc_pfx=Slot,bank=B,manufacturer=DM,speed=3200 -smbios file={tmp_path}/whole"
    )
    with pc(said) as vm:
        found = structures(vm)
    bios, strings = found[0][0]
    assert strings == ["V", "1.2", "01/02/2003"] and bios[20:22] == bytes((3, 4)) and bios[19] & 0x08
    system, strings = found[1][0]
    assert strings == ["M", "P", "X", "S", "K", "F"]
    assert system[8:24].hex() == "9e1c2a6f3b5d7a4b9c0e8d1f2a3b4c5d"
    board, strings = found[2][0]
    assert strings == ["QOM", "Board", "pc-i440fx", "A", "L"] and struct.unpack_from("<H", board, 11) == (0x300,)
    assert found[3][0][1] == ["C", "pc-i440fx", "CS", "CA", "CK"]
    processor, strings = found[4][0]
    assert strings[0] == "Sock0" and strings[-2:] == ["PS", "PP"]
    assert struct.unpack_from("<HH", processor, 20) == (4000, 3000)
    assert found[8][0] == (bytes((8, 9, 0, 8, 1, 0, 2, 11, 16)), ["int", "ext"])
    assert found[11][0] == (bytes((11, 5, 0, 11, 3)), ["one", "two", "from a file"])
    dimm, strings = found[17][0]
    assert strings == ["Slot0", "B", "DM"] and struct.unpack_from("<H", dimm, 21) == (3200,)
    assert found[128][0] == (bytes((128, 6, 0, 128, 0xAB, 1)), ["own"])


def test_items_roms_tables_and_pictures_are_in_fw_cfg(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"AML")
    (tmp_path / "more").write_bytes(b"!")
    (tmp_path / "whole").write_bytes(acpi.HEADER.pack(b"OEM1", 38, 3, 7, b"MAKER", b"TABLE", 5, b"ASL ", 6) + b"xy")
    (tmp_path / "card.rom").write_bytes(b"\x55\xaa" + bytes(700))
    (tmp_path / "pic.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    said = (
        f"-fw_cfg opt/a,string=text -fw_cfg name=opt/b,file={tmp_path}/body"
        f" -acpitable sig=SSDT,oem_id=ME,data={tmp_path}/body:{tmp_path}/more -acpitable rev=9,file={tmp_path}/whole"
        f" -option-rom {tmp_path}/card.rom,bootindex=1"
        f" -boot order=d,splash={tmp_path}/pic.jpg,splash-time=2000,reboot-timeout=5000,menu=on,strict=on"
    )
    with pc(said) as vm:
        assert fw_file(vm, "opt/a") == b"text" and fw_file(vm, "opt/b") == b"AML"
        assert fw_file(vm, "genroms/card.rom") == b"\x55\xaa" + bytes(1022)
        assert fw_file(vm, "bootorder") == b"/rom@genroms/card.rom\nHALT\n\0"
        assert fw_file(vm, "bootsplash.jpg") == b"\xff\xd8\xff\xe0"
        assert fw_file(vm, "etc/boot-menu-wait") == b"\xd0\x07" and fw_file(vm, "etc/boot-fail-wait") == b"\x88\x13\0\0"
        tables = fw_file(vm, "etc/acpi/tables")
        start = tables.index(b"SSDT")
        assert acpi.HEADER.unpack_from(tables, start) == (
            b"SSDT",
            40,
            1,
            0,
            b"ME\0\0\0\0",
            b"QOMPC\0\0\0",
            1,
            b"QOM ",
            1,
        )
        assert tables[start + 36 : start + 40] == b"AML!"
        start = tables.index(b"OEM1")
        assert acpi.HEADER.unpack_from(tables, start)[1:5] == (38, 9, 0, b"MAKER\0")
        assert struct.pack("<I", start) in tables[tables.index(b"RSDT") :], "listed in the RSDT, as an offset yet"


def test_no_acpi_no_tables() -> None:
    with pc("-no-acpi -no-hpet -no-fd-bootchk") as vm:
        assert "etc/acpi/tables" not in vm.machine.chip("fw_cfg", "fw_cfg_io").files
        assert "hpet0" not in vm.machine.children()
        assert vm.machine.chip("rtc", "mc146818rtc").get_cmos(0x38) & 1 == 1


def test_once_is_once() -> None:
    with pc("-boot order=c,once=nd") as vm:
        rtc = vm.machine.chip("rtc", "mc146818rtc")
        assert (rtc.get_cmos(0x3D), rtc.get_cmos(0x38)) == (0x34, 0)
        vm.reset()
        assert (rtc.get_cmos(0x3D), rtc.get_cmos(0x38)) == (0x02, 0), "the order of every other start"
        rtc.set_cmos(0x3D, 0x55)
        vm.reset()
        assert rtc.get_cmos(0x3D) == 0x55, "and from then on nobody writes it"


@pytest.mark.parametrize(
    ("said", "date"),
    [("2006-06-17T16:01:21", "2006-06-17T16:01:21"), ("2006-06-17", "2006-06-17T00:00:00")],
)
def test_the_clock_starts_where_it_is_told(said: str, date: str) -> None:
    with pc(f"-rtc base={said}") as vm:
        rtc = vm.machine.chip("rtc", "mc146818rtc")
        assert rtc.base == date
        assert [rtc.get_cmos(n) for n in (9, 8, 7)] == [0x06, 0x06, 0x17]


def test_a_clock_of_the_hosts_goes_on_while_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10**18]
    monkeypatch.setattr("machines.pc_clock.time.time_ns", lambda: now[0])
    with pc("-rtc base=2006-06-17T16:00:00,clock=host") as vm:
        rtc = vm.machine.chip("rtc", "mc146818rtc")
        vm.cont()
        assert rtc.get_cmos(2) == 0
        vm.stop()
        now[0] += 5 * 60 * 10**9
        assert rtc.get_cmos(2) == 0
        vm.cont()
        assert rtc.get_cmos(2) == 5
        vm.stop()


@pytest.mark.parametrize(
    ("accel", "said", "follows"),
    [
        ("simulated", "", True),  # as in QEMU
        ("simulated", "-rtc base=localtime", True),
        ("simulated", "-rtc clock=vm", False),
        ("simulated", "-rtc base=2006-06-17", False),  # a date that is given is for a run that can be repeated
        ("qtest", "", False),  # time that is stepped, too
        ("qtest", "-rtc clock=host", True),
    ],
)
def test_whose_clock_holds_when_nothing_is_said(
    accel: str, said: str, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10**18]
    monkeypatch.setattr("machines.pc_clock.time.time_ns", lambda: now[0])
    words = ["-accel", accel, "-m", "16", "-nodefaults", *said.split()]
    with VirtualMachine(
        CommandLine().parse(words).builder.finish(), default_registry(load_external=False)
    ).build() as vm:
        rtc = vm.machine.chip("rtc", "mc146818rtc")
        before = rtc.epoch
        vm.cont()
        vm.stop()
        now[0] += 5 * 60 * 10**9
        vm.cont()
        vm.stop()
        minutes = round((rtc.epoch - before) / (60 * 10**9))
        assert minutes == (5 if follows else 0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("-smbios type=9", "smbios: 'type' cannot be '9': expected one of '0', '1', '2', '3', '4', '8', '11', '17'"),
        ("-smbios type=1,vendor=x", "smbios: 'vendor' cannot be said of a structure of type 1: expected manufacturer, product,"
         " version, serial, uuid, sku, family"),
        ("-smbios foo=1", f"smbios: unknown option 'foo': expected {', '.join(TABLES['smbios'])}"),
        ("-smbios product=x", "smbios: expected type=TYPE with its fields, or file=FILE alone"),
        ("-smbios type=1,uuid=x", "smbios: 'uuid' cannot be 'x': expected 8-4-4-4-12 hexadecimal digits"),
        ("-smbios type=0,release=300.1", "smbios: 'release' cannot be '300.1': expected numbers of at most 255"),
        ("-smbios file=/no/such", "smbios: 'file': '/no/such' cannot be read: No such file or directory"),
        ("-smbios file=/etc/hostname", "smbios: '/etc/hostname' is no SMBIOS structure: expected a header, fields, strings, and"
         " two zero bytes"),
        ("-fw_cfg opt/x", "fw_cfg: expected either file=FILE or string=TEXT beside the name"),
        ("-fw_cfg opt/x,string=", "fw_cfg: 'string' is empty: expected either file=FILE or string=TEXT beside the name"),
        ("-fw_cfg opt/x,file=", "fw_cfg: 'file' is empty: expected either file=FILE or string=TEXT beside the name"),
        ("-fw_cfg string=x", "fw_cfg: 'name' is required"),
        ("-fw_cfg opt/x,gen_id=y", "fw_cfg: 'gen_id': no object here makes such content: expected file= or string="),
        ("-fw_cfg opt/x,file=/no/such", "fw_cfg: 'file': '/no/such' cannot be read: No such file or directory"),
        ("-fw_cfg opt/x,string=1 -fw_cfg opt/x,string=2", "/machine/fw_cfg: file 'opt/x' is there already"),
        ("-acpitable sig=XX,data=/dev/null", "acpitable: 'sig' cannot be 'XX': expected 4 characters"),
        ("-acpitable sig=SSDT", "acpitable: expected either data=FILE (without a header) or file=FILE (with one)"),
        ("-acpitable data=/dev/null", "acpitable: 'sig' is required with 'data': expected 4 characters, such as SSDT"),
        ("-acpitable file=/dev/null", "acpitable: '/dev/null' has 0 bytes: expected a header of 36, and what follows"),
        ("-option-rom /no/such", "option-rom: 'file': '/no/such' cannot be read: No such file or directory"),
        ("-boot splash=/dev/null", "boot: 'splash': '/dev/null' is no picture that firmware shows: expected JPEG, or BMP of 24"
         " bits a pixel"),
        ("-boot splash-time=70000", "boot: 'splash-time' cannot be '70000': expected an integer in 0..65535"),
        ("-rtc base=utcc", "rtc: 'base' cannot be 'utcc': expected utc, localtime or a date such as 2006-06-17T16:01:21 or"
         " 2006-06-17; did you mean 'utc'?"),
        ("-rtc clock=x", "rtc: 'clock' cannot be 'x': expected one of 'vm', 'host', 'rt'"),
        ("-rtc driftfix=slew", "rtc: 'driftfix': interrupts that the guest missed are not repeated: expected none"),
        ("-bios x.bin -L /no/a -L /no/b", "firmware image 'x.bin' not found (looked in ., /no/a, /no/b, /usr/share/seabios,"
         " /usr/share/qemu)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_option(said: str, message: str) -> None:
    with pytest.raises(QomError) as error, pc(said):
        pass
    options = said.split(" -")
    assert str(error.value) in {f"{'-' * (n > 0)}{option}: {message}" for n, option in enumerate(options)}


def test_l_is_looked_in_first(tmp_path: Path) -> None:
    image = bytes(65535) + b"\xea"
    (tmp_path / "bios-256k.bin").write_bytes(image)
    (tmp_path / "mine.bin").write_bytes(image[::-1])
    for said, wanted in (("", image), ("-bios mine.bin", image[::-1])):
        with pc(f"-L /no/such -L {tmp_path} {said}") as vm:
            assert vm.memory.read_bytes(0xFFFF0000, 65536) == wanted
