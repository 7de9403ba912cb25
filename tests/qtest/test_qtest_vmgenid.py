"""vmgenid by the qtest protocol: what firmware is given, what it tells, what a machine without firmware has in memory."""

from __future__ import annotations

import shutil
import struct
import uuid
from pathlib import Path
from typing import Any

import pytest

from qom import open_machine
from qom.config.write import dumps
from qom.errors import QomError
from qom.monitor import CommandError
from qom.testing.qtest import QTest

GUID = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
VMGENID = f"-device vmgenid,id=generation,guid={GUID}"
KERNEL = Path(__file__).parents[1] / "guests" / "kernel32.bin"
SELECTOR, DATA, DMA = 0x510, 0x511, 0x514
DIRECTORY, SELECT, WRITE, ERROR = 0x19, 0x08, 0x10, 0x01
ACCESS, BUFFER = 0x1000, 0x2000  # in the guest's memory


def files(q: QTest) -> dict[str, tuple[int, int]]:
    """Size and number of each file in fw_cfg."""
    q.outw(SELECTOR, DIRECTORY)
    (count,) = struct.unpack(">I", bytes(q.inb(DATA) for _ in range(4)))
    found = {}
    for _ in range(count):
        entry = bytes(q.inb(DATA) for _ in range(64))
        size, key = struct.unpack(">IH", entry[:6])
        found[entry[8:].rstrip(b"\0").decode()] = (size, key)
    return found


def content(q: QTest, name: str, length: int | None = None) -> bytes:
    size, key = files(q)[name]
    q.outw(SELECTOR, key)
    return bytes(q.inb(DATA) for _ in range(size if length is None else length))


def tell(q: QTest, address: int) -> None:
    """Do as firmware does: write the address of the identity into `etc/vmgenid_addr` by DMA."""
    size, key = files(q)["etc/vmgenid_addr"]
    q.write(BUFFER, address.to_bytes(8, "little"))
    q.write(ACCESS, struct.pack(">IIQ", key << 16 | SELECT | WRITE, size, BUFFER))
    q.outl(DMA, 0)
    q.outl(DMA + 4, int.from_bytes(ACCESS.to_bytes(4, "big"), "little"))
    assert q.read(ACCESS, 4) == bytes(4)  # no error


def generation(q: QTest) -> Any:
    return q.vm.root.resolve("/machine/peripheral/generation")


def test_firmware_is_given_what_qemus_is_given() -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed: no oracle to compare with")
    with QTest(VMGENID) as ours, QTest(VMGENID, program="qemu-system-x86_64") as theirs:
        seen = []
        for q in (ours, theirs):
            sizes = {name: size for name, (size, _) in files(q).items() if "vmgenid" in name}
            seen.append([sizes, content(q, "etc/vmgenid_guid", 64), content(q, "etc/vmgenid_addr")])
        assert seen[0] == seen[1]
        assert seen[0][1][40:56] == uuid.UUID(GUID).bytes_le


def test_firmware_tells_the_address_and_a_reset_forgets_it() -> None:
    with QTest(VMGENID) as q:
        tell(q, 0x7FF_E028)
        assert generation(q).address == 0x7FF_E028
        assert content(q, "etc/vmgenid_addr") == (0x7FF_E028).to_bytes(8, "little")
        q.system_reset()
        assert generation(q).address == 0
        assert content(q, "etc/vmgenid_addr") == bytes(8)


def test_a_guest_that_comes_from_elsewhere_is_shown_this_identity() -> None:
    with QTest(VMGENID) as q:
        tell(q, 0x8028)
        saved = generation(q).save_state()
    other = "00112233-4455-6677-8899-aabbccddeeff"
    with QTest(VMGENID.replace(GUID, other)) as q:
        pm: Any = q.vm.root.resolve("/machine/pm")
        generation(q).load_state(saved)
        assert q.read(0x8028, 16) == uuid.UUID(other).bytes_le
        assert pm.registers[0x0C] == 1 << 5  # the general-purpose event of \\_GPE._E05
        pm.registers[0x0C] = 0
        generation(q).load_state(generation(q).save_state())  # the same machine's: nothing has changed
        assert pm.registers[0x0C] == 0


def test_a_machine_without_firmware_has_it_in_memory() -> None:
    with QTest(f"-bios none -kernel {KERNEL} {VMGENID}") as q:
        for _ in range(2):
            address = generation(q).address
            assert 0xE0000 <= address <= 0xFFFFF and address & 0xFFF == 40
            assert q.read(address, 16) == uuid.UUID(GUID).bytes_le
            memory = q.read(0xE0000, 0x20000)
            at = memory.index(b"SSDT")
            table = memory[at : at + struct.unpack_from("<I", memory, at + 4)[0]]
            assert sum(table) & 0xFF == 0
            assert table[36:46] == b"\x08VGIA\x0c" + address.to_bytes(4, "little")
            assert b"QEMUVGID\0" in table and b"VM_Gen_Counter\0" in table
            q.system_reset()


def test_a_new_identity_by_chance_is_told_and_written_back() -> None:
    with QTest("-device vmgenid,id=generation") as q, QTest("-device vmgenid") as other:
        guid = generation(q).guid
        assert str(uuid.UUID(guid)) == guid
        assert q.vm.monitor_command("query-vm-generation-id") == {"guid": guid}
        assert other.vm.monitor_command("query-vm-generation-id") != {"guid": guid}
        assert f'guid = "{guid}"\n' in dumps(q.vm.dump())


def test_what_is_wrong() -> None:
    with pytest.raises(QomError) as caught:
        QTest("-device vmgenid -device vmgenid,id=second")
    assert str(caught.value) == (
        "-device vmgenid,id=second: /machine/peripheral/second: at most one vmgenid device is permitted"
    )
    with pytest.raises(QomError) as caught:
        QTest("-device vmgenid,guid=12")
    assert str(caught.value).endswith("property 'guid' cannot be '12': expected auto or 8-4-4-4-12 hexadecimal digits")
    with QTest() as q, pytest.raises(CommandError) as refused:
        q.vm.monitor_command("query-vm-generation-id")
    assert str(refused.value) == "VM Generation ID device not found"


def test_without_acpi_there_is_nothing_to_tell() -> None:
    with QTest(f"-M pc,acpi=off {VMGENID}") as q:
        assert not [name for name in files(q) if "vmgenid" in name]


def test_a_machine_that_cannot_show_it_refuses_it() -> None:
    with pytest.raises(QomError) as raised:
        open_machine(machine="none", accel="qtest", devices=["vmgenid"])
    assert "'vmgenid' needs fw_cfg, which the machine 'none' has not" in str(raised.value)
