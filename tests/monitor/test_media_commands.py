"""Floppy drives by QMP: eject, change, insert and remove, and what query-block and a dump say of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qom import open_machine
from qom.config import write
from qom.errors import QomError
from qom.vm import VirtualMachine

CHANGED = 0x80


def refused(vm: VirtualMachine, name: str, /, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(QomError) as error:
        vm.monitor_command(name, **arguments)
    return str(error.value), getattr(error.value, "error_class", "GenericError")


def floppy(path: Path, kib: int = 1440, fill: int = 0) -> str:
    path.write_bytes(bytes((fill,)) * kib * 1024)
    return str(path)


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[VirtualMachine]:
    drives = [f"if=floppy,index=0,file={floppy(tmp_path / 'a.img')}", f"id=hd,file={floppy(tmp_path / 'hd.img', 64)}"]
    with open_machine(accel="qtest", memory="16M", drives=drives) as made:
        yield made


def block(vm: VirtualMachine, name: str = "floppy0") -> dict[str, Any]:
    found: dict[str, Any] = next(b for b in vm.monitor_command("query-block") if b["device"] == name)
    return found


def file_of(vm: VirtualMachine) -> str | None:
    inserted = block(vm).get("inserted")
    return None if inserted is None else inserted["file"]


def changed(vm: VirtualMachine) -> bool:
    """What the guest sees of it: DIR, with drive A selected."""
    vm.ports.write(0x3F2, 0x1C)
    return bool(vm.ports.read(0x3F7) & CHANGED)


def step(vm: VirtualMachine) -> None:
    for value in (0x0F, 0, 5, 0x0F, 0, 6):
        vm.ports.write(0x3F5, value)


def test_eject_and_change(vm: VirtualMachine, tmp_path: Path) -> None:
    assert block(vm)["removable"] and block(vm)["qdev"] == "/machine/floppy0"
    assert not block(vm, "hd")["removable"]
    vm.ports.write(0x3F2, 0x1C)
    step(vm)
    assert not changed(vm)
    for _ in range(2):
        vm.monitor_command("eject", device="floppy0")
        assert (file_of(vm), changed(vm)) == (None, True)
    assert "floppy0" not in vm.root.container("/drives").children()
    other = floppy(tmp_path / "b.img", 720)
    vm.monitor_command("blockdev-change-medium", device="floppy0", filename=other, format="raw")
    assert (file_of(vm), changed(vm)) == (other, True)
    step(vm)
    assert not changed(vm)
    vm.monitor_command("blockdev-change-medium", id="/machine/floppy0", filename=other, read_only_mode="read-only")
    assert block(vm)["inserted"]["ro"] and changed(vm)
    vm.monitor_command("blockdev-change-medium", device="floppy0", filename=other)
    assert block(vm)["inserted"]["ro"]  # retained
    vm.monitor_command("blockdev-change-medium", device="floppy0", filename=other, read_only_mode="read-write")
    assert not block(vm)["inserted"]["ro"]


def test_what_cannot_be_put_in_leaves_the_medium(vm: VirtualMachine, tmp_path: Path) -> None:
    before, wide = file_of(vm), floppy(tmp_path / "wide.img", 1200)
    vm.ports.write(0x3F2, 0x1C)
    step(vm)
    for filename, format, text in (
        ("/nowhere", "raw", "cannot open image '/nowhere': No such file or directory"),
        (wide, "raw", "a floppy drive of type 144 takes no image of 1200K"),
        (wide, "qcow2", "'format' cannot be 'qcow2'"),
    ):
        said, _ = refused(vm, "blockdev-change-medium", device="floppy0", filename=filename, format=format)
        assert text in said
        assert (file_of(vm), changed(vm)) == (before, False)


def test_a_medium_of_blockdev_add(vm: VirtualMachine, tmp_path: Path) -> None:
    path = "/machine/floppy0"
    node = floppy(tmp_path / "node.img")
    vm.monitor_command("blockdev-add", driver="file", node_name="n", filename=node)
    assert refused(vm, "blockdev-insert-medium", id=path, node_name="n")[0] == "There already is a medium in the device"
    vm.monitor_command("blockdev-open-tray", id=path)
    vm.monitor_command("blockdev-remove-medium", id=path)
    vm.monitor_command("blockdev-remove-medium", id=path)
    assert refused(vm, "blockdev-insert-medium", id=path, node_name="m")[0].startswith("Node 'm' not found")
    assert refused(vm, "blockdev-insert-medium", id=path, node_name="hd")[0].startswith("Node 'hd' is already in use")
    vm.monitor_command("blockdev-insert-medium", id=path, node_name="n")
    vm.monitor_command("blockdev-close-tray", device="floppy0")
    assert file_of(vm) == node
    assert refused(vm, "blockdev-del", node_name="n")[0].startswith("Node 'n' is busy")
    dumped = next(d for d in vm.dump().drives if d.id == "n")
    assert (dumped.interface, dumped.index, dumped.file) == ("floppy", 0, node)
    vm.monitor_command("eject", id=path)
    vm.monitor_command("blockdev-del", node_name="n")  # it was only taken out


def test_drives_that_are_not_there(vm: VirtualMachine) -> None:
    assert refused(vm, "eject") == ("Need exactly one of 'device' and 'id'", "GenericError")
    assert refused(vm, "eject", device="flopy0") == (
        "Device 'flopy0' not found; did you mean 'floppy0'?", "DeviceNotFound",
    )  # fmt: skip
    assert refused(vm, "eject", id="x") == ("Device 'x' not found", "DeviceNotFound")
    assert refused(vm, "eject", device="hd") == ("Device 'hd' is not removable", "GenericError")
    assert refused(vm, "eject", id="/machine/fdc") == ("Device '/machine/fdc' is not removable", "GenericError")


def test_a_drive_of_ones_own_is_in_the_place_of_the_empty_one(tmp_path: Path) -> None:
    drives = [f"if=none,id=fd,file={floppy(tmp_path / 'a.img')}"]
    with open_machine(accel="qtest", memory="16M", drives=drives, devices=["floppy,id=a,drive=fd,unit=0"]) as vm:
        for command in ("query-block", "query-blockstats"):
            assert [b["qdev"] for b in vm.monitor_command(command)] == ["a"]
        vm.monitor_command("eject", id="a")
        other = floppy(tmp_path / "b.img")
        vm.monitor_command("blockdev-change-medium", id="a", filename=other)
        assert file_of(vm) == other


def test_an_empty_drive_is_shown_and_filled(tmp_path: Path) -> None:
    with open_machine(accel="qtest", memory="16M") as vm:
        assert block(vm) == {
            "device": "floppy0", "qdev": "/machine/floppy0", "type": "unknown", "removable": True, "locked": False,
        }  # fmt: skip
        filename = floppy(tmp_path / "late.img", 2880)
        vm.monitor_command("blockdev-change-medium", device="floppy0", filename=filename)
        text = write.dumps(vm.dump(), "toml", vm.registry)
        assert f'file = "{filename}"\nif = "floppy"\nindex = 0' in text
