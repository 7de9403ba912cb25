"""ACPI tables: put in place as firmware does it, read back, and read by Intel's disassembler."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from table_loader import Placed

from plugins.firmware import acpi, aml
from plugins.firmware.aml import AmlError
from plugins.firmware.fw_cfg import system_states
from qom import records
from qom.hw.bench import IsaBench

CONFIG = acpi.AcpiConfig(
    apic_ids=(0, 1, 4, 5),
    pci_hole=(0xC000_0000, 0xFEBF_FFFF),
    pci_hole64=(0x1_8000_0000, 0x1_FFFF_FFFF),
    serials=((0x3F8, 4), (0x2F8, 3)),
    parallels=((0x378, 7),),
    floppy=acpi.FloppyFacts(0x3F0, 6, 2, (acpi.FloppyDrive(4, 80, 2, 18), None)),
    hpet=acpi.HpetFacts(0xFED0_0000, 0x8086_A201),
    pvpanic_port=0x505,
    generation=acpi.GenerationFacts(bytes(40) + bytes(range(16)) + bytes(4040), 40),
    numa=(
        acpi.NumaNode(apic_ids=(0, 1), memory=((0, 0xC000_0000), (0x1_0000_0000, 0x4000_0000))),
        acpi.NumaNode(apic_ids=(4, 5), memory=((0x1_4000_0000, 0x4000_0000),)),
    ),
    distances=((10, 21), (21, 10)),
    s3=True,
    s4_type=2,
)
HOT = acpi.AcpiConfig(
    apic_ids=(0, 4),
    possible_apic_ids=(0, 1, 4, 5),
    pci_hole=(0xC000_0000, 0xFEBF_FFFF),
    gpe0=(0x60C, 4),
    cpu_hotplug=0xAF00,
    pci_hotplug=0xAE00,
    pci_slots=range(2, 32),
    numa=(acpi.NumaNode(apic_ids=(0, 1, 4, 5), memory=((0, 0xC000_0000),)),),
)
PLAIN = acpi.AcpiConfig(apic_ids=(0,), pci_hole=(0x8000_0000, 0xFEBF_FFFF))


def place(config: acpi.AcpiConfig) -> dict[str, bytes]:
    return placed(config).tables()


def placed(config: acpi.AcpiConfig) -> Placed:
    files = acpi.build(config)
    return Placed({acpi.TABLES_FILE: files.tables, acpi.RSDP_FILE: files.rsdp, **files.others}, files.loader)


@pytest.fixture(scope="module")
def tables() -> dict[str, bytes]:
    return place(CONFIG)


@pytest.fixture(scope="module")
def listings(tables: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every table as `iasl -d` shows it."""
    if shutil.which("iasl") is None:
        pytest.skip("iasl is not installed (Debian: acpica-tools)")
    folder = tmp_path_factory.mktemp("acpi")
    out = {}
    for name, data in tables.items():
        (folder / f"{name}.aml").write_bytes(data)
        done = subprocess.run(["iasl", "-d", f"{name}.aml"], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "rror" not in done.stderr, done.stderr
        out[name] = (folder / f"{name}.dsl").read_text()
        assert not re.search(r"Invalid|Incorrect|Unknown", out[name]), name
    return out


# --- the chain


def test_every_table_is_reached(tables: dict[str, bytes]) -> None:
    assert list(tables) == ["RSDT", "XSDT", "FACP", "APIC", "HPET", "SRAT", "SLIT", "SSDT", "FACS", "DSDT"]
    assert list(place(PLAIN)) == ["RSDT", "XSDT", "FACP", "APIC", "FACS", "DSDT"]


def test_files_are_offered_under_qemus_names() -> None:
    bench = IsaBench()
    fw_cfg = bench.add("fw_cfg_io")
    files = acpi.build(PLAIN)
    files.install(fw_cfg)
    assert fw_cfg.file("etc/acpi/tables") == files.tables
    assert fw_cfg.file("etc/acpi/rsdp") == files.rsdp
    assert fw_cfg.file("etc/table-loader") == files.loader
    assert files.table("APIC")[:4] == b"APIC"


def test_oem_id(tables: dict[str, bytes]) -> None:
    for name, table in tables.items():
        if name != "FACS":
            assert table[10:24] == b"QOM   QOMPC   ", name


# --- fixed tables, as the disassembler reads them


def field(listing: str, label: str) -> list[str]:
    found = re.findall(rf"^(?:\[.*\])?\s*{re.escape(label)} : (.*)$", listing, re.MULTILINE)
    assert found, label
    return [value.strip() for value in found]


def test_floppy_controller_and_its_drives(listings: dict[str, str]) -> None:
    """What is there (_FDE) and what it is (_FDI): drive, type, last cylinder, sectors, last head, and the BIOS's table."""
    dsdt = listings["DSDT"]
    body = dsdt[dsdt.index("Device (FDC0)") :]
    assert "FLPB" not in dsdt
    assert "0x03F2,             // Range Minimum" in body and "0x03F7,             // Range Minimum" in body
    assert re.search(r"IRQNoFlags \(\)\s*\{6\}\s*DMA \(Compatibility, NotBusMaster, Transfer8, \)\s*\{2\}", body)
    assert "0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00" in body
    info = re.search(r"Name \(_FDI, Package \(0x10\)[^{]*\{([^}]*)\}", body)
    assert info is not None
    named = {"Zero": 0, "One": 1}
    numbers = [named[word] if word in named else int(word, 16) for word in re.findall(r"\w+", info[1])]
    assert numbers == [0, 4, 79, 18, 1, 0xAF, 2, 0x25, 2, 18, 0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 8]


def test_fadt(listings: dict[str, str]) -> None:
    fadt = listings["FACP"]
    for label, value in (
        ("SCI Interrupt", "0009"),
        ("SMI Command Port", "000000B2"),
        ("ACPI Enable Value", "F1"),
        ("ACPI Disable Value", "F0"),
        ("PM1A Event Block Address", "00000600"),
        ("PM1A Control Block Address", "00000604"),
        ("PM Timer Block Address", "00000608"),
        ("GPE0 Block Address", "00000000"),
        ("PM1 Event Block Length", "04"),
        ("PM1 Control Block Length", "02"),
        ("PM Timer Block Length", "04"),
        ("RTC Century Index", "32"),
        ("Value to cause reset", "06"),
        ("8042 Present on ports 60/64 (V2)", "1"),
        ("Reset Register Supported (V2)", "1"),
        ("Control Method Power Button (V1)", "0"),
        ("PM Timer Block Length", "04"),
    ):
        assert value in field(fadt, label), label
    assert "0000000000000CF9" in fadt
    assert field(fadt, "PM1A Event Block")[0].endswith("[Generic Address Structure]")


def test_madt(listings: dict[str, str]) -> None:
    madt = listings["APIC"]
    assert field(madt, "Local Apic ID") == ["00", "01", "04", "05"]
    assert field(madt, "I/O Apic ID") == ["00"]
    assert field(madt, "Source") == ["00", "05", "09", "0A", "0B"]
    assert field(madt, "Interrupt")[-5:] == ["00000002", "00000005", "00000009", "0000000A", "0000000B"]
    assert field(madt, "PC-AT Compatibility") == ["1"]


def test_hpet(listings: dict[str, str]) -> None:
    hpet = listings["HPET"]
    assert field(hpet, "Hardware Block ID") == ["8086A201"]
    assert field(hpet, "Address") == ["00000000FED00000"]
    assert "Device (HPET)" in listings["DSDT"]
    assert b"HPET" not in acpi.dsdt_body(PLAIN)


def test_many_processors_become_x2apic_entries() -> None:
    madt = place(acpi.AcpiConfig(apic_ids=range(250, 260), pci_hole=(0xC000_0000, 0xFEBF_FFFF)))["APIC"][44:]
    kinds = []
    while madt:
        kinds.append((madt[0], struct.unpack_from("<I", madt, 4)[0]) if madt[0] == 9 else (madt[0], madt[3]))
        madt = madt[madt[1] :]
    assert kinds[:10] == [(0, n) for n in range(250, 255)] + [(9, n) for n in range(255, 260)]


def test_srat_and_slit(listings: dict[str, str]) -> None:
    srat = listings["SRAT"]
    assert field(srat, "Apic ID") == ["00", "01", "04", "05"]
    assert field(srat, "Proximity Domain Low(8)") == ["00", "00", "01", "01"]
    assert field(srat, "Base Address") == ["0000000000000000", "0000000100000000", "0000000140000000"]
    assert field(srat, "Address Length") == ["00000000C0000000", "0000000040000000", "0000000040000000"]
    assert re.findall(r": 0A 15|: 15 0A", listings["SLIT"]) == [": 0A 15", ": 15 0A"]


# --- the DSDT


def test_dsdt_names(listings: dict[str, str]) -> None:
    dsdt = listings["DSDT"]
    for name in (
        "PCI0",
        "ISA",
        "LNKA",
        "LNKB",
        "LNKC",
        "LNKD",
        "LNKS",
        "COM1",
        "COM2",
        "LPT1",
        "FDC0",
        "FLPA",
        "KBD",
        "RTC",
        "FWCF",
    ):
        assert f"Device ({name})" in dsdt, name
    assert re.findall(r"Processor \((\w+), (\w+),", dsdt) == [(f"C00{n}", f"0x0{n}") for n in range(4)]


def test_sleep_states(listings: dict[str, str]) -> None:
    """Sleep types for both control registers; a state that there is not has no package."""
    found = re.findall(
        r"Name \(\\(_S\d), Package \(0x04\)[^{]*\{\s*(\w+),\s*(\w+),\s*Zero,\s*Zero\s*\}", listings["DSDT"]
    )
    assert found == [("_S3", "One", "One"), ("_S4", "0x02", "0x02"), ("_S5", "Zero", "Zero")]
    plain = acpi.build(PLAIN).table("DSDT")
    assert [name in plain for name in (b"_S3_", b"_S4_", b"_S5_")] == [False, False, True]


def test_sleep_states_for_firmware() -> None:
    assert system_states(2, s3=True, s4=True) == bytes((128, 0, 0, 129, 130, 128))
    assert system_states(5, s3=False, s4=False) == bytes((128, 0, 0, 1, 5, 128))


def test_dsdt_pvpanic(listings: dict[str, str]) -> None:
    """The port, and the methods that docs/specs/pvpanic.txt asks for."""
    body = listings["DSDT"].partition("Device (PEVT)")[2]
    assert 'Name (_HID, "QEMU0001")' in body
    assert re.search(r"OperationRegion \(PEOR, SystemIO, 0x0505, One\)", body)
    assert re.search(r"Method \(RDPT, 0, NotSerialized\)\s*\{\s*Return \(PEPT\)", body)
    assert re.search(r"Method \(WRPT, 1, NotSerialized\)\s*\{\s*PEPT = Arg0", body)


def test_generation_id(listings: dict[str, str]) -> None:
    """The identity's address is in VGIA, given by ADDR, and told to us; event 5 notifies the device."""
    made = placed(CONFIG)
    address = made.address[acpi.GENERATION_FILE] + 40
    assert made.address[acpi.GENERATION_FILE] & 0xFFF == 0
    assert made.told == {(acpi.GENERATION_ADDRESS_FILE, 0): address.to_bytes(8, "little")}
    ssdt = listings["SSDT"]
    assert f"Name (VGIA, 0x{address:08X})" in ssdt
    for line in ('"QEMUVGID"', '"VM_Gen_Counter"', "Local0 [Zero] = VGIA", "Notify (\\_SB.VGEN, 0x80)"):
        assert line in ssdt, line
    assert "Method (\\_GPE._E05, 0, NotSerialized)" in ssdt


def test_dsdt_routing(listings: dict[str, str]) -> None:
    """Pin p of slot s goes to link (s + p - 1) mod 4, and the SCI to its own."""
    found = re.findall(
        r"Package \(0x04\)\s*\{\s*(0x[0-9A-F]+|Zero|One),\s*(0x[0-9A-F]+|Zero|One),\s*\\?_?S?B?_?\.?(LNK\w),\s*Zero\s*\}",
        listings["DSDT"],
    )
    number = {"Zero": 0, "One": 1}
    routes = {(number.get(a, int(a, 16) if a[0] == "0" else 0) >> 16, number.get(p, int(p, 16) if p[0] == "0" else 0)): link
              for a, p, link in found}  # fmt: skip
    assert len(found) == len(routes) == 128
    expected = {(s, p): f"LNK{'ABCD'[(s + p - 1) % 4]}" for s in range(32) for p in range(4)}
    expected[1, 0] = "LNKS"
    assert routes == expected


def test_dsdt_windows(listings: dict[str, str]) -> None:
    dsdt = listings["DSDT"]
    for low, high, kind in (
        ("0xC0000000", "0xFEBFFFFF", "DWordMemory"),
        ("0x000A0000", "0x000BFFFF", "DWordMemory"),
        ("0x0000000180000000", "0x00000001FFFFFFFF", "QWordMemory"),
        ("0x0D00", "0xFFFF", "WordIO"),
        ("0x0000", "0x00FF", "WordBusNumber"),
    ):
        assert re.search(rf"{kind} \([^)]*{low},[^)]*{high},", dsdt, re.DOTALL), (kind, low)


@pytest.mark.parametrize(
    "config", [CONFIG, PLAIN, HOT, acpi.AcpiConfig(apic_ids=range(255), pci_hole=(1 << 31, 0xFEBF_FFFF))]
)
def test_dsdt_compiles_again_without_an_error(config: acpi.AcpiConfig, tmp_path: Path) -> None:
    if shutil.which("iasl") is None:
        pytest.skip("iasl is not installed (Debian: acpica-tools)")
    (tmp_path / "d.aml").write_bytes(place(config)["DSDT"])
    subprocess.run(["iasl", "-d", "d.aml"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    done = subprocess.run(["iasl", "-p", "again", "d.dsl"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "Compilation successful. 0 Errors" in done.stdout, done.stdout


# --- hotplug


def test_places_that_processors_may_come_to_are_there_and_disabled() -> None:
    tables = place(HOT)
    madt = tables["APIC"][44:]
    assert [madt[n * 8 : n * 8 + 8] for n in range(4)] == [
        struct.pack("<BBBBI", 0, 8, number, apic_id, there)
        for number, (apic_id, there) in enumerate(((0, 1), (1, 0), (4, 1), (5, 0)))
    ]
    assert [tables["SRAT"].count(struct.pack("<BBBBI", 0, 16, 0, n, 1)) for n in HOT.possible_apic_ids] == [1, 1, 1, 1]


def test_tables_have_one_size_whichever_processors_there_are() -> None:
    other = acpi.build(records.evolve(HOT, apic_ids=(0, 1, 5)))
    assert len(other.tables) == len(acpi.build(HOT).tables)
    assert other.loader == acpi.build(HOT).loader


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The DSDT as `iasl -d` shows it."""
    if shutil.which("iasl") is None:
        pytest.skip("iasl is not installed (Debian: acpica-tools)")
    folder = tmp_path_factory.mktemp("hot")
    (folder / "d.aml").write_bytes(place(HOT)["DSDT"])
    subprocess.run(["iasl", "-d", "d.aml"], cwd=folder, capture_output=True, timeout=60, check=True)
    return (folder / "d.dsl").read_text()


def block(listing: str, start: str) -> str:
    """The object that begins so, to its closing brace."""
    at = listing.index(start)
    indent = " " * (at - listing.rindex("\n", 0, at) - 1)
    return listing[at : listing.index(f"\n{indent}}}", at)]


def test_processors_can_be_asked_for(hot: str) -> None:
    first, third = block(hot, "Processor (C000"), block(hot, "Processor (C002")
    assert "_EJ0" not in first, "the one that starts the machine stays"
    for method in ("_STA", "_EJ0", "_OST"):
        assert f"Method ({method}," in third
    assert re.search(r"Name \(_MAT, Buffer.*\n\s*{\n\s*0x00, 0x08, 0x02, 0x04, 0x01, 0x00, 0x00, 0x00", third)
    event = block(hot, "Method (\\_GPE._E02")
    assert "CPNT (\\_SB.CPDT, One)" in event and "CPNT (\\_SB.CPDT, 0x03)" in event


def test_slots_can_be_asked_for(hot: str) -> None:
    assert re.findall(r"Device \(SL(\w\w)\)", hot) == [f"{slot:02X}" for slot in range(2, 32)]
    last = block(hot, "Device (SL1F)")
    assert "Name (_ADR, 0x001F0000)" in last and "Name (_SUN, 0x1F)" in last and "PCEJ (0x1F)" in last
    event = block(hot, "Method (\\_GPE._E01")
    for bit, name in ((0x04, "SL02"), (0x80000000, "SL1F")):
        for local, notification in (("Local0", "One"), ("Local1", "0x03")):
            text = rf"If \(\({local} & 0x{bit:02X}\)\)\s*{{\s*Notify \(\\_SB\.PCI0\.{name}, {notification}\)"
            assert re.search(text, event), (name, local)


def test_the_controllers_ports_are_nobody_elses(hot: str) -> None:
    board = block(hot, "Device (BRD)")
    assert "0xAE00,             // Range Minimum" in board and "0xAF00,             // Range Minimum" in board


# --- the writer


@pytest.mark.parametrize(
    ("length", "encoded"),
    [
        (0, "01"),
        (62, "3f"),
        (63, "4104"),
        (0xFFD, "4fff"),
        (0xFFE, "810001"),
        (0xFFFFC, "8fffff"),
        (0xFFFFD, "c1000001"),
    ],
)
def test_package_lengths(length: int, encoded: str) -> None:
    assert aml.package_length(length).hex() == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (2, "0a02"),
        (0xFF, "0aff"),
        (0x100, "0b0001"),
        (0xFFFFF, "0cffff0f00"),
        (1 << 32, "0e0000000001000000"),
    ],
)
def test_integers(value: int, encoded: str) -> None:
    assert aml.integer(value).hex() == encoded


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("\\", b"\\\0"),
        ("FOO", b"FOO_"),
        ("^^A", b"^^A___"),
        ("\\_SB.PCI0", b"\\\x2e_SB_PCI0"),
        ("A.B.C", b"\x2f\x03A___B___C___"),
    ],
)
def test_names(text: str, encoded: bytes) -> None:
    assert aml.path(text) == encoded


def test_eisa_ids() -> None:
    assert aml.eisa_id("PNP0A03").hex() == "0c41d00a03"


def test_what_has_no_encoding() -> None:
    for action, message in (
        (
            lambda: aml.segment("lower"),
            "'lower' is no AML name segment: expected 1 to 4 of A-Z, 0-9, _, not starting with a digit",
        ),
        (lambda: aml.integer(1 << 64), "18446744073709551616 is no AML integer: expected 0 to 2^64 - 1"),
        (lambda: aml.eisa_id("PNP"), "'PNP' is no EISA id: expected three capitals and four hexadecimal digits"),
        (lambda: aml.package(*[aml.ZERO] * 256), "an AML package takes 255 elements, not 256"),
    ):
        with pytest.raises(AmlError) as caught:
            action()
        assert str(caught.value) == message


# --- beside QEMU's tables


def test_beside_qemu(qemu: Callable[..., Any]) -> None:
    """Our reading of the script also places QEMU's tables, and the MADT says the same."""
    machine = qemu("-M", "pc", "-nodefaults", "-m", "64", "-smp", "2,maxcpus=4")
    machine.commands(["outw 0x510 0x19"])
    count = int.from_bytes(bytes(machine.commands(["inb 0x511"] * 4)), "big")
    files = {}
    entries = [bytes(machine.commands(["inb 0x511"] * 64)) for _ in range(count)]
    for entry in entries:
        size, key = struct.unpack(">IH", entry[:6])
        name = entry[8:].rstrip(b"\0").decode()
        if name in ("etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"):
            machine.commands([f"outw 0x510 {key:#x}"])
            files[name] = bytes(machine.commands(["inb 0x511"] * size))
    placed = Placed(files, files["etc/table-loader"]).tables()
    ours = place(acpi.AcpiConfig(apic_ids=(0, 1), possible_apic_ids=(0, 1, 2, 3), pci_hole=(0x0400_0000, 0xFEBF_FFFF)))
    assert placed["APIC"][36:] == ours["APIC"][36:]
    # Not the PM block's address: QEMU's is where firmware, which never ran, would have put it.
    same = {"SCI": (46, 2), "SMI": (48, 4), "enable": (52, 2), "lengths": (88, 4)}
    for what, (start, length) in same.items():
        theirs = placed["FACP"][start : start + length]
        assert theirs == ours["FACP"][start : start + length], what
