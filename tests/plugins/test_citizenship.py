"""Parts from outside are parts like any other: image formats, character back ends, buses of their own and what sits there.

outsider.py is the plugin, loaded by its path; everything here is said in files.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from plugins.firmware import EMBEDDED
from qom import ConfigError, QomError, RealizeError, TypeRegistry, VirtualMachine, default_registry, open_machine
from qom.config import load
from qom.config.check import check
from qom.config.schema import file_schema
from qom.config.write import dumps

OUTSIDER = Path(__file__).with_name("outsider.py")
GUESTS = Path(__file__).parents[1] / "guests"
SECTOR = 512
BAR, TABLE, MAILBOX = 0xFEB00000, 0xFEB10000, 0x2000
PATIENCE = 120.0  # seconds of host time before a test gives a guest up

Open = Callable[..., VirtualMachine]


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    found = default_registry(load_external=False, paths=[str(OUTSIDER)])
    (row,) = [row for row in found.plugins if row.name == "outsider"]
    assert row.status == "loaded", row.reason
    return found


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.chdir(tmp_path)

    def make(text: str, name: str = "vm.toml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return make


@pytest.fixture
def opened(write: Callable[[str], Path], registry: TypeRegistry) -> Iterator[Open]:
    """Build the machine of a file with this text; closed in the end."""
    machines = []

    def make(text: str, **more: Any) -> VirtualMachine:
        vm = open_machine(write(text), registry=registry, **more)
        machines.append(vm)
        return vm

    yield make
    for vm in machines:
        vm.close()


def test_it_uses_only_what_is_public() -> None:
    import qom
    import qom.hw
    import qom.vm

    public = {module.__name__: set(module.__all__) for module in (qom, qom.hw, qom.vm)}
    for node in ast.walk(ast.parse(OUTSIDER.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("qom", "accel", "plugins", "machines")):
            assert node.module in public
            assert {alias.name for alias in node.names} <= public[node.module]


# -- image formats


def masked(content: bytes, key: int) -> bytes:
    return b"MASKED\0\1".ljust(SECTOR, b"\0") + bytes(byte ^ key for byte in content)


def test_a_guest_boots_from_an_image_in_their_format(opened: Open, tmp_path: Path) -> None:
    content = (GUESTS / "hello_serial.bin").read_bytes().ljust(64 * SECTOR, b"\0")
    (tmp_path / "disk.masked").write_bytes(masked(content, 0xC3))
    vm = opened(
        f"""
        nodefaults = true
        bios = "{EMBEDDED}"
        serial = "console"

        [[drive]]
        file = "disk.masked"
        format = "masked"
        key = 0xC3
        """
    )
    assert vm.root.resolve("/drives/ide0-hd0").type_name == "block-masked"
    vm.start()
    vm.console("serial0").read_until("Hello", PATIENCE)


def test_what_the_disk_writes_goes_through_the_format(opened: Open, tmp_path: Path) -> None:
    image = tmp_path / "disk.masked"
    image.write_bytes(masked(bytes(8 * SECTOR), 0x5A))
    vm = opened('[[drive]]\nfile = "disk.masked"\nformat = "masked"\n', accel="qtest")
    before = image.read_bytes()
    ports = vm.ports
    for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, 5), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x30)):
        ports.write(port, value)  # WRITE SECTORS: one, at 5
    for n in range(256):
        ports.write(0x1F0, n, 2)
    assert ports.read(0x1F7) & 0x89 == 0, "neither busy nor an error"
    vm.close()
    sector = b"".join(n.to_bytes(2, "little") for n in range(256))
    assert image.read_bytes() == before[: 6 * SECTOR] + bytes(b ^ 0x5A for b in sector) + before[7 * SECTOR :]


def test_a_format_that_is_only_read_takes_a_snapshot(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "many").write_text("1000")
    drive = '[[drive]]\nid = "d"\nif = "none"\nfile = "many"\nformat = "counting"\n'
    image: Any = opened(drive).root.resolve("/drives/d")
    assert (image.sectors, image.writable) == (1000, False)
    assert image.read(999, 1) == (999).to_bytes(4, "little") * 128
    with pytest.raises(QomError, match="/drives/d: image 'many' is read-only"):
        image.write(0, bytes(SECTOR))
    image = opened(drive + "snapshot = true\n").root.resolve("/drives/d")
    image.write(300, b"\xee" * SECTOR)
    numbers = [299, 301]
    assert image.read(299, 3) == b"".join(
        (numbers[0].to_bytes(4, "little") * 128, b"\xee" * SECTOR, numbers[1].to_bytes(4, "little") * 128)
    )
    assert (tmp_path / "many").read_text() == "1000"


def test_a_format_that_raises_is_an_error_of_the_disk_and_not_of_the_machine(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "many").write_text("1000")
    text = '[[drive]]\nfile = "many"\nformat = "counting"\nsnapshot = true\nfail-at = 7\n'
    vm = opened(text, accel="qtest")
    for sector, failed in ((6, 0), (7, 1), (8, 0)):
        for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, sector), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x20)):
            vm.ports.write(port, value)
        assert vm.ports.read(0x1F7) & 1 == failed
        assert failed or vm.ports.read(0x1F0, 4) == sector
    assert vm.failure is None
    drive: Any = vm.root.resolve("/drives/ide0-hd0")
    with pytest.raises(QomError) as error:
        drive.read(5, 4)
    assert str(error.value) == (
        "/drives/ide0-hd0: image 'many' cannot be read at sector 5: ZeroDivisionError: of sectors"
    )


WRONG_DRIVES = [
    ('format = "maskd"', "3:10", "drive: 'format' cannot be 'maskd': expected one of 'counting', 'masked', 'raw';"
     " did you mean 'masked'?"),
    ('format = "masked"\nkez = 1', "4:1", "'block-masked' has no property 'kez'; did you mean 'key'?"),
    ('format = "masked"\nkey = 256', "4:7", "property 'key' cannot be 256: expected an integer in 0..255"),
    ("kez = 1", "3:1", "drive: unknown option 'kez'"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "place", "message"), WRONG_DRIVES)
def test_wrong_drives(
    opened: Open, write: Any, registry: TypeRegistry, tmp_path: Path, said: str, place: str, message: str
) -> None:
    (tmp_path / "disk").write_bytes(masked(bytes(SECTOR), 0x5A))
    text = f'[[drive]]\nfile = "disk"\n{said}\n'
    with pytest.raises(ConfigError) as error:
        opened(text)
    line = place.partition(":")[0]
    assert error.value.origin.startswith(f"{tmp_path}/vm.toml:{line}:")
    assert message in str(error.value)
    (problem,) = check(write(text), registry)
    assert problem.line == int(line)
    assert message in problem.message


def test_an_editor_knows_their_formats_and_what_these_take(registry: TypeRegistry) -> None:
    judge = Draft202012Validator(file_schema(registry))

    def wrong(said: str) -> list[str]:
        found = judge.iter_errors(tomllib.loads(f'[[drive]]\nfile = "x"\n{said}\n'))
        return sorted({"/".join(map(str, error.absolute_path)) for error in found})

    for right in (
        "",
        'format = "raw"\nlocking = false',
        'format = "masked"\nkey = 0x11',
        'format = "counting"\nfail_at = 3',
    ):
        assert wrong(right) == []
    assert wrong('format = "maskd"') == ["drive/0/format"]
    assert wrong("key = 1") == ["drive/0"]
    assert wrong('format = "masked"\nkey = 256') == ["drive/0/key"]
    assert wrong('format = "counting"\nkey = 1') == ["drive/0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"raw".ljust(SECTOR), r"image 'disk' has no header: expected b'MASKED\x00\x01' at byte 0"),
        (masked(b"12345", 1), "image 'disk' is not in the format of 'block-masked': ValueError: 5 bytes beyond the last"
         " sector"),
        (b"", "image 'disk' is empty: expected at least 512 bytes"),
    ],
)  # fmt: skip
def test_images_that_are_none(opened: Open, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "disk").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        opened('[[drive]]\nfile = "disk"\nformat = "masked"\n')
    assert f": /drives/ide0-hd0: {message}" in str(error.value)
    assert not any(
        str(tmp_path / "disk") in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()
    )


# -- character back ends


def test_a_serial_port_on_their_back_end(opened: Open) -> None:
    vm = opened(
        """
        nodefaults = true
        serial = "chardev:peer"

        [[chardev]]
        backend = "shout"
        id = "peer"
        greeting = "!"
        """,
        accel="qtest",
    )
    vm.ports.write(0x3FA, 0x01)  # FIFO on
    for letter in b"hello":
        vm.ports.write(0x3F8, letter)
    vm.clock.step(10_000_000)  # type: ignore[attr-defined]
    said = bytearray()
    while vm.ports.read(0x3FD) & 1:
        said.append(vm.ports.read(0x3F8))
        vm.clock.step(1_000_000)  # type: ignore[attr-defined]
    assert said == b"!HELLO"
    assert vm.root.resolve("/chardevs/peer").heard == b"hello"


def test_wrong_back_ends(opened: Open) -> None:
    message = r":4:1: /chardevs/x: 'chardev-shout' has no property 'greting'; did you mean 'greeting'\?$"
    with pytest.raises(ConfigError, match=message):
        opened('[[chardev]]\nbackend = "shout"\nid = "x"\ngreting = "x"\n')


# -- a bus of their own

WIRED = """
nodefaults = true

[[device]]
driver = "wire-recorder"
id = "recorder"
bus = "bridge0.wire.0"
address = 5
base = 0x3000

[[device]]
driver = "pci-wire-bridge"
id = "bridge0"
addr = "06.0"
note = "notes"

[[device]]
driver = "wire-lamp"
repeat = 3
id = "lamp{n}"
bus = "bridge0.wire.0"
address = "{n}"
colour = "green"

[[device]]
driver = "pci-wire-bridge"
id = "bridge1"
addr = "07.0"

[[device]]
driver = "wire-lamp"
bus = "/machine/peripheral/bridge1/wire.0"
address = 7

[[chardev]]
backend = "shout"
id = "notes"
"""


def config(vm: VirtualMachine, slot: int, offset: int, value: int | None = None) -> int:
    vm.ports.write(0xCF8, 0x80000000 | slot << 11 | offset & 0xFC, 4)
    if value is not None:
        vm.ports.write(0xCFC, value, 4)
    return vm.ports.read(0xCFC, 4)


def start(vm: VirtualMachine, slot: int = 6) -> None:
    """Give the bridge its addresses, the bus, and MSI-X message 0 to a place in RAM."""
    config(vm, slot, 0x10, BAR)
    config(vm, slot, 0x14, TABLE)
    config(vm, slot, 0x04, 6)
    for at, value in ((0, MAILBOX), (4, 0), (8, 0x1234), (12, 0)):
        vm.memory.write(TABLE + at, value, 4)
    bridge: Any = vm.root.resolve("/machine/peripheral/bridge0")
    config(vm, slot, bridge.msix.offset, 0x8000 << 16)


def test_devices_sit_where_the_file_says_whatever_its_order(opened: Open, registry: TypeRegistry, write: Any) -> None:
    vm = opened(WIRED, accel="qtest")
    bus: Any = vm.find_bus("bridge0.wire.0")
    assert {n: device.name for n, device in bus.placed.items()} == {5: "recorder", 0: "lamp0", 1: "lamp1", 2: "lamp2"}
    assert vm.find_bus("bridge1.wire.0").devices[0].path == "/machine/peripheral-anon/wire-lamp@7"
    assert vm.root.resolve("/machine/peripheral/lamp1").get("bus") is bus
    with pytest.raises(ConfigError) as error:
        vm.find_bus("wire.0")
    assert str(error.value) == ("bus 'wire.0' is the name of several: expected one of bridge0.wire.0, bridge1.wire.0")
    with pytest.raises(ConfigError, match=r"bus 'bridge0.wire.1' not found; did you mean 'bridge0.wire.0'"):
        vm.find_bus("bridge0.wire.1")
    assert check(write(WIRED), registry) == []


def test_registers_dma_time_and_interrupt_through_their_bus(opened: Open) -> None:
    vm = opened(WIRED, accel="qtest")
    start(vm)
    vm.memory.write(BAR + 4, 0x77, 4)
    assert vm.memory.read(BAR + 4, 4) == 0x77
    assert vm.memory.read(BAR, 4) == 0
    assert vm.memory.read(BAR + 4 * 6, 4) == 0xFF, "nobody is at 6"
    vm.memory.write(BAR + 4 * 5, 0x42, 4)
    vm.clock.step(99)  # type: ignore[attr-defined]
    assert (vm.memory.read(0x3000, 1), vm.memory.read(MAILBOX, 4)) == (0, 0)
    vm.clock.step(1)  # type: ignore[attr-defined]
    assert (vm.memory.read(0x3000, 1), vm.memory.read(MAILBOX, 4)) == (0x42, 0x1234)
    assert vm.memory.read(BAR + 4 * 5, 4) == 1
    assert vm.root.resolve("/chardevs/notes").heard == b"w1=77 r1=77 r0=00 r6=ff w5=42 r5=01 "
    config(vm, 6, 0x04, 2)  # no bus master any more: neither its own message, nor what sits on its bus
    vm.memory.write(MAILBOX, 0, 4)
    vm.memory.write(BAR + 4 * 5, 0x43, 4)
    vm.clock.step(1000)  # type: ignore[attr-defined]
    assert (vm.memory.read(0x3001, 1), vm.memory.read(MAILBOX, 4)) == (0, 0)


def test_their_state_survives_and_their_reset_clears_it(opened: Open) -> None:
    vm = opened(WIRED, accel="qtest")
    start(vm)
    vm.memory.write(BAR + 4, 0x77, 4)
    vm.memory.write(BAR + 4 * 5, 0x42, 4)
    vm.clock.step(40)  # type: ignore[attr-defined]
    places = [f"/machine/peripheral/{name}" for name in ("lamp1", "recorder", "bridge0")]
    saved = {place: vm.root.resolve(place).save_state() for place in places}
    vm.reset()
    assert vm.root.resolve("/machine/peripheral/lamp1").bright == 0
    vm.clock.step(1000)  # type: ignore[attr-defined]
    assert vm.memory.read(0x3000, 1) == 0, "a reset forgets the byte under way"
    vm.close()
    again = opened(WIRED, accel="qtest")
    for place, held in saved.items():
        again.root.resolve(place).load_state(held)
    assert again.memory.read(BAR + 4, 4) == 0x77
    now = again.clock.now()
    again.clock.step(saved[places[1]]["ends"] - now)  # type: ignore[attr-defined]
    assert (again.memory.read(0x3000, 1), again.memory.read(MAILBOX, 4)) == (0x42, 0x1234)


def test_a_dump_builds_its_like(opened: Open, registry: TypeRegistry, write: Any) -> None:
    vm = opened(WIRED, accel="qtest")
    text = dumps(vm.dump(), "toml", registry)
    again = VirtualMachine(load(write(text, "dump.toml")), registry)
    try:
        again.build()
        there = {
            name: (d.type_name, d.bus.path) for name, d in vm.root.resolve("/machine/peripheral").children().items()
        }
        assert {
            name: (d.type_name, d.bus.path) for name, d in again.root.resolve("/machine/peripheral").children().items()
        } == there
        assert dumps(again.dump(), "toml", registry) == text
    finally:
        again.close()


def test_the_bridge_goes_with_all_that_sits_on_its_bus(opened: Open) -> None:
    vm = opened(WIRED, accel="qtest")
    start(vm)
    recorder: Any = vm.root.resolve("/machine/peripheral/recorder")
    lamp: Any = vm.root.resolve("/machine/peripheral/lamp0")
    vm.memory.write(BAR + 4 * 5, 0x42, 4)
    before = len(vm.buses())
    with vm.lock:
        lamp.unplug()
        assert vm.memory.read(BAR, 4) == 0xFF
        vm.root.resolve("/machine/peripheral/bridge0").unplug()
    assert not recorder.realized and recorder.get("bus") is None
    assert len(vm.buses()) == before - 1
    assert vm.memory.read(BAR, 4) == 0xFFFFFFFF and config(vm, 6, 0) == 0xFFFFFFFF
    vm.clock.step(1000)  # type: ignore[attr-defined]
    assert vm.memory.read(0x3000, 1) == 0, "its timer went with it"
    assert vm.root.resolve("/chardevs/notes").frontend == ""


def test_a_lamp_comes_while_the_machine_is_there(opened: Open) -> None:
    vm = opened(WIRED, accel="qtest")
    start(vm)
    device = vm.add_device(load_device("wire-lamp", id="late", bus="bridge0.wire.0", address=6))
    assert vm.memory.read(BAR + 4 * 6, 4) == 0
    assert device.path == "/machine/peripheral/late"
    with pytest.raises(RealizeError) as error:
        vm.find_bus("bridge0.wire.0").attach(device)
    assert str(error.value) == (
        f"{device.path}: address 6 on /machine/peripheral/bridge0/wire.0 is taken by {device.path}"
    )


def load_device(driver: str, id: str, bus: str, **props: Any) -> Any:
    from qom import DeviceEntry

    return DeviceEntry(driver, id, bus, props, "")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('bus = "bridge0.wire.0"\naddress = 5', "address 5 on /machine/peripheral/bridge0/wire.0 is taken by"),
        ('bus = "bridge0.wire.0"\naddress = 9', "property 'address' cannot be 9: expected an integer in 0..7"),
        ('bus = "pci.0"\naddress = 4', "(PCI)"),
        ('bus = "bridge2.wire.0"\naddress = 4', "bus 'bridge2.wire.0' not found"),
    ],
)
def test_wrong_places(opened: Open, tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        opened(f'{WIRED}\n[[device]]\ndriver = "wire-lamp"\nid = "wrong"\n{lines}\n', accel="qtest")
    assert message in str(error.value)
    number = f"{WIRED}\n".count("\n") + 1
    assert any(error.value.origin.startswith(f"{tmp_path}/vm.toml:{number + n}:") for n in range(5))
