"""Block nodes by `-blockdev`, in a file and by blockdev-add: one model; and what was done with images (query-blockstats)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from asked import ask, refusal
from qmp_machine import qmp_machine

from qom import open_machine
from qom.cli.options import CommandLine
from qom.config.blockdev import as_said, block_nodes
from qom.config.files import load
from qom.config.model import MachineConfig
from qom.errors import ConfigError
from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import hmp_table
from qom.plugins import default_registry
from qom.vm import BlockError, VirtualMachine


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


def said(text: str) -> MachineConfig:
    return CommandLine().parse(shlex.split(text)).builder.finish()


def machine(text: str) -> Any:
    line = CommandLine().parse(["-accel", "qtest", "-nodefaults", "-m", "16", *shlex.split(text)])
    return VirtualMachine(line.builder.finish(), default_registry(load_external=False))


def nodes(config: MachineConfig) -> list[tuple[Any, ...]]:
    return [(d.id, d.node, d.file, d.over, d.within, d.readonly, d.given) for d in config.drives]


SPELLINGS = [
    "-blockdev driver=file,node-name=f,filename=a.img -blockdev driver=raw,node-name=d,file=f",
    "-blockdev raw,file=f,node-name=d -blockdev file,filename=a.img,node-name=f",  # whichever comes first
    """-blockdev '{"driver": "file", "node-name": "f", "filename": "a.img"}'"""
    """ -blockdev '{"driver": "raw", "node-name": "d", "file": "f"}'""",
    "-blockdev driver=host_device,node-name=f,filename=a.img,cache.direct=on,cache.no-flush=off,discard=unmap,aio=native"
    " -blockdev driver=raw,node-name=d,file=f,auto-read-only=on,detect-zeroes=on,force-share=off",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_spellings_of_two_nodes(text: str, tmp_path: Path) -> None:
    first, second = nodes(said(text))
    assert first == ("f", "host_device" if "host" in text else "file", "a.img", "", "", False, {"file": "a.img"})
    assert second == ("d", "raw", "a.img", "f", "", False, {"file": "a.img", "locking": False})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("raw,node-name=d,file.driver=file,file.filename=a", [("d", "raw", "a", "", "", False, {"file": "a"})]),
        ('{"driver": "raw", "node-name": "d", "file": {"driver": "file", "filename": "a", "locking": "off"}}',
         [("d", "raw", "a", "", "", False, {"file": "a", "locking": False})]),
        ("raw,node-name=d,read-only=on,file.filename=a,file.node-name=i",
         [("i", "file", "a", "", "d", True, {"file": "a", "readonly": True}),
          ("d", "raw", "a", "i", "", True, {"file": "a", "readonly": True, "locking": False})]),
    ],
)  # fmt: skip
def test_the_file_in_place(text: str, wanted: list[Any], tmp_path: Path) -> None:
    config = CommandLine().parse(["-blockdev", text]).builder.finish()
    assert nodes(config) == wanted
    again = [one for e in config.drives if not e.within for one in block_nodes(as_said(e, config.drives))]
    assert [(e.id, e.node, e.readonly, e.within, e.props) for e in again] == [
        (e.id, e.node, e.readonly, e.within, e.props) for e in config.drives
    ]


def test_a_file_says_it_too(tmp_path: Path) -> None:
    path = tmp_path / "vm.toml"
    path.write_text(
        '[[blockdev]]\ndriver = "raw"\nnode-name = "d"\nfile = "f"\n'
        '[[blockdev]]\ndriver = "file"\nnode-name = "f"\nfilename = "a.img"\n'
    )
    assert nodes(load(path)) == nodes(said(SPELLINGS[0]))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("driver=file,node-name=f", "'filename' is required"),
        ("driver=raw,node-name=d", "'file' is required: the name of a file node, or its options"),
        ("driver=raw", "'node-name' is required"),
        ("driver=null-co,node-name=n",
         "driver 'null-co' is not modelled: expected 'file', 'host_device', or a format over one of them, such as 'raw'"),
        ("node-name=d", "'driver' is required"),
        ("driver=file,node-name=f,filename=a,read-onyl=on", "unknown option 'read-onyl'; did you mean 'read-only'"),
        ("driver=file,node-name=a/b,filename=a",
         "id 'a/b' is not legal: expected a letter, then letters, digits, '-', '.', '_'"),
        ("driver=file,node-name=f,filename=a,locking=of",
         "'locking' cannot be 'of': expected one of 'auto', 'on', 'off'; did you mean 'off'?"),
        ("driver=file,node-name=f,filename=a,discard=umap",
         "'discard' cannot be 'umap': expected one of 'ignore', 'unmap'; did you mean 'unmap'?"),
        ("driver=file,node-name=f,filename=a,cache=none", "'cache' cannot be 'none': expected 'direct' and 'no-flush' of it"),
        ("driver=file,node-name=f,filename=a,cache.drect=on", "cache: unknown option 'drect'; did you mean 'direct'?"),
        ("driver=raw,node-name=d,file=f,file.filename=a",
         "'file' and 'file.filename' contradict each other: expected one of them"),
        ("driver=raw,node-name=d,file.driver=nbd,file.filename=a",
         "'driver' cannot be 'nbd': expected one of 'file', 'host_device'"),
        ("driver=raw,node-name=d,file.filename=a,file.read-only=on",
         "this is read-only, and what lies over it is not: expected read-only=on for both"),
    ],
)  # fmt: skip
def test_what_is_wrong(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        CommandLine().parse(["-blockdev", text]).builder.finish()
    assert str(raised.value).startswith(f"-blockdev {text}: blockdev")
    assert raised.value.message.endswith(f": {error}") or raised.value.message.startswith(f"blockdev: {error}")


FILE = "-blockdev driver=file,node-name=f,filename=a.img"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("-blockdev driver=raw,node-name=d,file=ff", "blockdev 'd': there is no node 'ff'; did you mean 'f'?"),
        ("-blockdev driver=raw,node-name=d,file=f -blockdev driver=raw,node-name=e,file=d",
         "blockdev 'e': 'd' is no node of driver 'file': expected one for 'file'"),
        ("-drive if=none,id=x,file=b.img -blockdev driver=raw,node-name=d,file=x",
         "blockdev 'd': 'x' is no node of driver 'file': expected one for 'file'"),
        ("-drive if=none,id=f,file=b.img",
         "drive: the id 'f' is given twice, first by -blockdev driver=file,node-name=f,filename=a.img"),
    ],
)  # fmt: skip
def test_what_is_wrong_of_several(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        said(f"{FILE} {text}")
    assert raised.value.message == error
    with pytest.raises(ConfigError) as raised:
        said(f"{FILE},read-only=on -blockdev driver=raw,node-name=d,file=f")
    assert raised.value.message == (
        "blockdev 'd': file 'f' is read-only, and what lies over it is not: expected read-only=on for both"
    )


def test_a_device_before_its_node(image: Path) -> None:
    text = f"-M pc -device ide-hd,id=hd,drive=d -blockdev raw,node-name=d,file=f -blockdev file,node-name=f,filename={image}"
    with machine(text).build() as vm:
        (drive,) = ask(vm, "query-block")
        assert (drive["device"], drive["qdev"], drive["inserted"]["node-name"]) == ("", "hd", "d")
        assert [(n["node-name"], n["drv"]) for n in ask(vm, "query-named-block-nodes")] == [("f", "file"), ("d", "raw")]
        assert refusal(vm, "blockdev-del", node_name="d") == (
            "GenericError: Node 'd' is busy: it is used by /machine/peripheral/hd"
        )
        assert refusal(vm, "blockdev-del", node_name="f") == "GenericError: Node 'f' is busy: it is used by /drives/d"
        assert refusal(vm, "blockdev-add", driver="raw", node_name="e", file="f", read_only=True) == (
            "GenericError: /drives/f: already used by /drives/d, so /drives/e cannot use it too"
        )
        assert [n["node-name"] for n in ask(vm, "query-named-block-nodes")] == ["f", "d"]
        table = hmp_table(vm)
        assert table.run("info block", Hmp(vm, table)) == (
            f"d: {image} (raw)\n    Attached to:      hd\n    Cache mode:       writeback\n"
        )


def test_what_was_added_is_written_back(image: Path, tmp_path: Path) -> None:
    disk, other = f"raw,node-name=d,file.filename={image},file.node-name=inner", tmp_path / "other.img"
    other.write_bytes(bytes(512))
    with machine(f"-M pc -blockdev {disk} -device ide-hd,id=hd,drive=d").build() as vm:
        ask(vm, "blockdev-add", driver="file", node_name="added", filename=str(other), read_only=True)
        ask(vm, "blockdev-add", driver="raw", node_name="over", file="added", read_only=True)
        written = tmp_path / "again.toml"
        written.write_text(ask(vm, "x-query-machine-file", format="toml")["text"])
        named = {each["node-name"]: each for each in ask(vm, "query-named-block-nodes")}
    with VirtualMachine(load(written), default_registry(load_external=False)).build() as vm:
        assert {each["node-name"]: each for each in ask(vm, "query-named-block-nodes")} == named
        assert list(named) == ["inner", "d", "added", "over"]
        assert [d["qdev"] for d in ask(vm, "query-block")] == ["hd"]


def test_a_node_in_place_goes_with_what_lies_over_it(image: Path) -> None:
    with machine("-M none").build() as vm:
        below = {"driver": "file", "node-name": "inner", "filename": str(image)}
        ask(vm, "blockdev-add", driver="raw", node_name="d", file=below)
        assert refusal(vm, "blockdev-del", node_name="inner").endswith("Node 'inner' is busy: it is used by /drives/d")
        ask(vm, "blockdev-del", node_name="d")
        assert ask(vm, "query-named-block-nodes") == []
        assert refusal(vm, "blockdev-del", node_name="inner") == (
            "GenericError: Failed to find node with node-name='inner'"
        )
        assert vm.config.drives == []


def test_a_file_node_is_free_when_what_lay_over_it_is_gone(image: Path) -> None:
    with machine("-M none").build() as vm:
        ask(vm, "blockdev-add", driver="file", node_name="f", filename=str(image))
        for name in ("one", "two"):
            ask(vm, "blockdev-add", driver="raw", node_name=name, file="f")
            ask(vm, "blockdev-del", node_name=name)
        ask(vm, "blockdev-del", node_name="f")
        assert ask(vm, "query-named-block-nodes") == []


def test_half_of_two_nodes_is_none(image: Path) -> None:
    """What lies over the file cannot be opened: the file node, which could, goes again."""
    with machine("-M none").build() as vm:
        below = {"driver": "file", "node-name": "inner", "filename": str(image)}
        assert refusal(vm, "blockdev-add", driver="qcow2", node_name="d", file=below).startswith(
            "GenericError: blockdev: 'driver' cannot be 'qcow2'"
        )
        assert ask(vm, "query-named-block-nodes") == []


def test_before_the_machine_is_built(image: Path, tmp_path: Path) -> None:
    import threading

    words = ["-accel", "qtest", "-M", "pc", "-preconfig", "-blockdev", f"file,node-name=f,filename={image}"]
    with qmp_machine(tmp_path, *words) as made:
        builder = threading.Thread(target=made.vm.build)
        builder.start()
        client = made.client_when_there()
        client.do("blockdev-add", driver="raw", node_name="d", file="f")
        client.do("device_add", driver="ide-hd", id="hd", drive="d")
        assert [n["node-name"] for n in client.do("query-named-block-nodes")] == ["f", "d"]
        client.do("x-exit-preconfig")
        builder.join(60)
        made.vm.start_loop()
        assert [d["qdev"] for d in client.do("query-block")] == ["hd"]


# -- figures

COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DRIVE, COMMAND, DATA = 0x1F2, 0x1F3, 0x1F4, 0x1F5, 0x1F6, 0x1F7, 0x1F0
READ, WRITE, FLUSH = 0x20, 0x30, 0xE7


def command(vm: Any, code: int, lba: int = 0, count: int = 0) -> None:
    for port, value in ((DRIVE, 0xE0), (COUNT, count), (LBA_LOW, lba), (LBA_MID, 0), (LBA_HIGH, 0), (COMMAND, code)):
        vm.ports.write(port, value, 1)


def test_figures_are_what_the_guest_did(image: Path) -> None:
    with open_machine(machine="pc", accel="qtest", memory="16M", drives=[{"file": str(image), "id": "x"}]) as vm:
        zero = next(d for d in ask(vm, "query-blockstats") if d["device"] == "x")
        assert not any(value for name, value in zero["stats"].items() if name != "account_failed")
        assert "idle_time_ns" not in zero["stats"]
        command(vm, READ, lba=4, count=3)
        for _ in range(3 * 256):
            vm.ports.read(DATA, 2)
        command(vm, WRITE, lba=10, count=2)
        for _ in range(2 * 256):
            vm.ports.write(DATA, 0xAA55, 2)
        command(vm, FLUSH)
        (told,) = [d for d in ask(vm, "query-blockstats") if d["device"] == "x"]
        stats = told["stats"]
        assert (stats["rd_bytes"], stats["wr_bytes"], stats["wr_highest_offset"]) == (3 * 512, 2 * 512, 12 * 512)
        assert stats["rd_operations"] >= 1 and stats["wr_operations"] >= 1 and stats["flush_operations"] == 1
        for name in ("rd", "wr", "flush"):
            assert stats[f"{name}_total_time_ns"] > 0 and stats[f"failed_{name}_operations"] == 0
        assert stats["idle_time_ns"] > 0
        assert image.read_bytes()[10 * 512 : 12 * 512] == b"\x55\xaa" * 512
        command(vm, WRITE, lba=2, count=1)
        for _ in range(256):
            vm.ports.write(DATA, 0, 2)
        (told,) = [d for d in ask(vm, "query-blockstats") if d["device"] == "x"]
        assert told["stats"]["wr_highest_offset"] == 12 * 512  # it stays
        table = hmp_table(vm)
        (line,) = [li for li in table.run("info blockstats", Hmp(vm, table)).splitlines() if li.startswith("x: ")]
        assert line.startswith(f"x: rd_bytes=1536 wr_bytes=1536 rd_operations={stats['rd_operations']} ")


def test_what_failed_and_what_was_wrong_is_counted_apart(image: Path) -> None:
    text = f"-M none -blockdev file,node-name=f,filename={image} -blockdev raw,node-name=d,file=f"
    with machine(text).build() as vm:
        drive: Any = vm.root.resolve("/drives/d")
        with pytest.raises(BlockError):
            drive.read(4000, 1)
        with pytest.raises(BlockError):
            drive.write(0, b"1")
        drive.read(0, 8)
        drive.read_sectors = lambda lba, count: b""  # a file that ends before its time
        with pytest.raises(BlockError):
            drive.read(0, 1)
        for told in ask(vm, "query-blockstats", query_nodes=True):  # the node below is read through the one over it
            stats = told["stats"]
            assert (stats["rd_operations"], stats["rd_bytes"]) == (1, 8 * 512), told["node-name"]
            assert (stats["failed_rd_operations"], stats["invalid_rd_operations"]) == (1, 1)
            assert (stats["wr_operations"], stats["invalid_wr_operations"]) == (0, 1)
        assert ask(vm, "query-blockstats") == []  # no disk uses them


def test_an_empty_floppy_drive_has_figures_too() -> None:
    with open_machine(machine="pc", accel="qtest", memory="16M") as vm:
        (floppy,) = ask(vm, "query-blockstats")
        assert (floppy["device"], floppy["stats"]["rd_bytes"]) == ("floppy0", 0) and "node-name" not in floppy


def test_a_node_is_resized_by_people(image: Path) -> None:
    with machine(f"-M none -blockdev file,node-name=f,filename={image}").build() as vm:
        table = hmp_table(vm)
        assert table.run("block_resize f 3", Hmp(vm, table)) == ""
        assert image.stat().st_size == 3 << 20  # a bare number is in MiB
        assert table.run("block_resize f 512k", Hmp(vm, table)) == ""
        assert image.stat().st_size == 512 << 10
        assert table.run("block_resize g 1", Hmp(vm, table)) == "Error: Cannot find device='' nor node-name='g'\n"


IDENTIFY = 0xEC


def sectors_told(vm: Any) -> int:
    """The number of sectors that the first disk tells its host."""
    command(vm, IDENTIFY)
    words = [vm.ports.read(DATA, 2) for _ in range(256)]
    return int(words[100] | words[101] << 16)


def test_a_disk_is_resized_while_it_is_used(image: Path) -> None:
    nodes = f"-blockdev file,node-name=f,filename={image} -blockdev raw,node-name=d,file=f"
    with machine(f"-M pc {nodes} -device ide-hd,id=hd,drive=d,bus=ide.0").build() as vm:
        assert sectors_told(vm) == 2048
        ask(vm, "block_resize", node_name="d", size=3 << 20)
        assert sectors_told(vm) == 6144 and image.stat().st_size == 3 << 20
        assert {n["image"]["virtual-size"] for n in ask(vm, "query-named-block-nodes")} == {3 << 20}
        command(vm, WRITE, lba=255, count=1)
        for _ in range(256):
            vm.ports.write(DATA, 0x1234, 2)
        ask(vm, "block_resize", node_name="d", size=64 << 10)
        assert sectors_told(vm) == 128
        command(vm, READ, lba=128, count=1)  # beyond its end now
        assert vm.ports.read(COMMAND, 1) & 1
        assert refusal(vm, "block_resize", node_name="f", size=512) == (
            "GenericError: Node 'f' is used by /drives/d, which cannot change its size"
        )
