"""Memory to files, cores, statistics, PCI, images, descriptors, actions, NUMA: commands on a machine in this process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import QmpMachine, qmp_machine

from qom.errors import QomError
from qom.vm import VirtualMachine


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpMachine]:
    with qmp_machine(tmp_path_factory.mktemp("state"), "-m", "16", "-smp", "2") as made:
        made.vm.memory[0x5000:0x5008] = b"\1\2\3\4\5\6\7\x08"
        yield made


@pytest.fixture
def machine(one_machine: QmpMachine) -> Iterator[QmpMachine]:
    """The machine of this file, with clients that are this test's."""
    with QmpMachine(one_machine.vm, one_machine.paths) as made:
        yield made


def refused(vm: VirtualMachine, name: str, /, **arguments: Any) -> str:
    with pytest.raises(QomError) as error:
        vm.monitor_command(name, **arguments)
    return str(error.value)


def test_pmemsave_and_memsave(machine: QmpMachine, tmp_path: Path) -> None:
    vm, path = machine.vm, str(tmp_path / "out")
    vm.monitor_command("pmemsave", val=0x4FFE, size=0x10000, filename=path)
    saved = Path(path).read_bytes()
    assert (len(saved), saved[:12]) == (0x10000, b"\0\0\1\2\3\4\5\6\7\x08\0\0")
    vm.monitor_command("pmemsave", val=0xE000_0000, size=4, filename=path)
    assert Path(path).read_bytes() == b"\xff" * 4
    vm.monitor_command("memsave", val=0x5000, size=4, filename=path, cpu_index=1)
    assert Path(path).read_bytes() == b"\1\2\3\4"
    assert refused(vm, "memsave", val=0, size=1, filename=path, cpu_index=2) == (
        "Parameter 'cpu-index' expects a CPU number: 0 to 1, got 2"
    )
    assert (
        refused(vm, "pmemsave", val=-1, size=1, filename=path) == "Parameter 'val' expects a number from 0 on, got -1"
    )
    assert refused(vm, "pmemsave", val=1, size=1, filename="/nowhere/x") == "/nowhere/x: No such file or directory"


def test_a_core_is_what_readelf_and_gdb_read(machine: QmpMachine, tmp_path: Path) -> None:
    vm, path = machine.vm, tmp_path / "core"
    vm.monitor_command("dump-guest-memory", paging=False, protocol=f"file:{path}")
    core = path.read_bytes()
    kind, arch, _, _, phoff, _, _, _, _, phnum = struct.unpack_from("<HHIQQQIHHH", core, 16)
    assert (kind, arch) == (4, 62)
    loads = {}
    for n in range(phnum):
        type_, _, offset, _, paddr, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", core, phoff + 56 * n)
        if type_ == 1:
            assert filesz == memsz
            loads[paddr] = (offset, filesz)
    start = max(at for at in loads if at <= 0x5000)
    offset = loads[start][0]
    assert core[offset + 0x5000 - start :][:8] == bytes(range(1, 9))
    assert sum(size for _, size in loads.values()) <= 17 << 20
    state = vm.monitor_command("query-dump")
    assert state == {"status": "completed", "completed": state["total"], "total": state["total"]}
    readelf = shutil.which("readelf")
    assert readelf, "binutils is among what CI installs"
    notes = subprocess.run([readelf, "-n", path], capture_output=True, text=True, check=True).stdout
    assert notes.count("NT_PRSTATUS") == 2
    gdb = shutil.which("gdb")
    if gdb:
        command = [gdb, "-batch", "-nx", "-ex", "info registers rip", "-ex", "info threads", "-c", str(path)]
        shown = subprocess.run(command, capture_output=True, text=True).stdout
        assert f"{vm.cpus[0].registers['rip']:#x}" in shown


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"format": "kdump-lzo"}, "format 'kdump-lzo' is not modelled: expected elf or kdump-zlib"),
        ({"format": "win-dmp"}, "format 'win-dmp' is not modelled: expected elf or kdump-zlib"),
        (
            {"format": "kdump-zlib", "paging": True},
            "format kdump-zlib has all memory at physical addresses: expected no 'paging', 'begin', 'length'",
        ),
        (
            {"format": "kdump-zlib", "begin": 0, "length": 4096},
            "format kdump-zlib has all memory at physical addresses: expected no 'paging', 'begin', 'length'",
        ),
        ({"begin": 0}, "Parameter 'length' is missing: begin and length go together"),
        ({"protocol": "x"}, "Parameter 'protocol' cannot be 'x': expected file:PATH or fd:NAME"),
        ({"begin": 0xE000_0000, "length": 4}, "there is no guest RAM at begin=0xe0000000, length=0x4"),
        ({"protocol": "fd:nobody"}, "there is no fd named 'nobody'"),
    ],
)
def test_dumps_that_are_refused(machine: QmpMachine, arguments: dict[str, Any], error: str) -> None:
    found = refused(machine.vm, "dump-guest-memory", **{"paging": False, "protocol": "file:/dev/null", **arguments})
    assert found.startswith(error)


def test_a_detached_dump_tells_when_it_is_done(machine: QmpMachine, tmp_path: Path) -> None:
    client = machine.client()
    arguments = {"paging": False, "protocol": f"file:{tmp_path}/part", "detach": True, "begin": 0x5000, "length": 16}
    client.do("dump-guest-memory", **arguments)
    told = client.event("DUMP_COMPLETED")["data"]["result"]
    assert told == {"status": "completed", "completed": 16, "total": 16}
    assert (tmp_path / "part").read_bytes()[-16:] == b"\1\2\3\4\5\6\7\x08" + bytes(8)


def test_statistics_are_the_exits(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-smp", "2") as made:
        client = made.client()
        client.do("cont")
        while not any(row["stats"] for row in client.do("query-stats", target="vm")):
            pass
        client.do("stop")
        whole = client.do("query-stats", target="vm")
        each = client.do("query-stats", target="vcpu")
        assert [row["provider"] for row in whole] == ["user", "inner"]
        for row in whole:
            sums: dict[str, int] = {}
            for part in each:
                if part["provider"] == row["provider"]:
                    for one in part["stats"]:
                        sums[one["name"]] = sums.get(one["name"], 0) + one["value"]
            assert {one["name"]: one["value"] for one in row["stats"]} == sums
        reason = whole[0]["stats"][0]["name"]
        path = made.vm.cpus[0].path
        asked = {"target": "vcpu", "vcpus": [path], "providers": [{"provider": "user", "names": [reason]}]}
        (one,) = client.do("query-stats", **asked)
        assert one["qom-path"] == path
        assert [s["name"] for s in one["stats"]] in ([], [reason])
        schemas = client.do("query-stats-schemas", provider="user")
        assert {s["target"] for s in schemas} == {"vm", "vcpu"}
        assert reason in [s["name"] for s in schemas[0]["stats"]]
        assert client.error("query-stats", target="vcpu", vcpus=["/x"]).startswith(
            "GenericError: Parameter 'vcpus' cannot be '/x'"
        )


def test_query_pci_agrees_with_configuration_space(machine: QmpMachine) -> None:
    (bus,) = machine.vm.monitor_command("query-pci")
    found = {(d["slot"], d["function"]): d for d in bus["devices"]}
    assert found[0, 0]["id"]["vendor"] == 0x8086
    assert found[0, 0]["class_info"] == {"class": 0x600, "desc": "Host bridge"}
    assert found[1, 1]["class_info"]["desc"] == "IDE controller"
    (bar,) = found[1, 1]["regions"]
    assert (bar["bar"], bar["type"], bar["address"], bar["size"]) == (4, "io", -1, 16)
    machine.vm.ports.write(0xCF8, 0x8000_0920, 4)
    machine.vm.ports.write(0xCFC, 0xC001, 4)
    machine.vm.ports.write(0xCF8, 0x8000_0904, 4)
    machine.vm.ports.write(0xCFC, 1, 2)
    (bus,) = machine.vm.monitor_command("query-pci")
    (bar,) = next(d for d in bus["devices"] if (d["slot"], d["function"]) == (1, 1))["regions"]
    assert bar["address"] == 0xC000


def test_images_by_node_name(machine: QmpMachine, tmp_path: Path) -> None:
    vm, image = machine.vm, tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    vm.monitor_command("blockdev-add", driver="file", node_name="stor", filename=str(image))
    vm.monitor_command("blockdev-add", driver="raw", node_name="fmt", file="stor", read_only=True)
    nodes = {n["node-name"]: n for n in vm.monitor_command("query-named-block-nodes")}
    assert (nodes["fmt"]["drv"], nodes["fmt"]["ro"], nodes["fmt"]["image"]["virtual-size"]) == ("raw", True, 1 << 20)
    assert nodes["stor"]["drv"] == "file"
    assert vm.monitor_command("query-block") == []  # nodes alone are no drives, as in QEMU
    assert refused(vm, "blockdev-del", node_name="stor") == "Node 'stor' is busy: it is used by /drives/fmt"
    vm.monitor_command("blockdev-del", node_name="fmt")
    assert refused(vm, "block_resize", node_name="stor", size=100).startswith(
        "Parameter 'size' expects a multiple of 512"
    )
    vm.monitor_command("block_resize", node_name="stor", size=2 << 20)
    assert image.stat().st_size == 2 << 20
    vm.monitor_command("blockdev-del", node_name="stor")
    assert vm.monitor_command("query-named-block-nodes") == []
    nested = {"driver": "file", "filename": str(image)}
    vm.monitor_command("blockdev-add", driver="raw", node_name="one", file=nested)
    assert (
        refused(vm, "blockdev-add", driver="raw", node_name="one", file=nested)
        == "Duplicate nodes with node-name='one'"
    )
    vm.monitor_command("blockdev-del", node_name="one")
    assert "another user has it locked" not in image.name
    for arguments, error in (
        (
            {"driver": "qcow2", "node_name": "a", "file": nested},
            "blockdev: 'driver' cannot be 'qcow2': expected one of 'raw'",
        ),
        ({"driver": "raw", "node_name": "a"}, "blockdev: 'file' is required: the name of a file node, or its"),
        ({"driver": "file", "node_name": "a"}, "blockdev: 'filename' is required"),
        ({"driver": "raw", "node_name": "a", "file": "nobody"}, "Cannot find device='' nor node-name='nobody'"),
        ({"driver": "file", "node_name": "a", "filename": "/nowhere"}, "/drives/a: cannot open image '/nowhere'"),
        ({"driver": "file", "node_name": "1/2", "filename": str(image)}, "blockdev: id '1/2' is not legal"),
        (
            {"driver": "file", "node_name": "a", "filename": str(image), "frob": 1},
            "blockdev: unknown option 'frob'",
        ),
    ):
        assert refused(vm, "blockdev-add", **arguments).startswith(error), arguments
    assert vm.monitor_command("query-named-block-nodes") == []


def test_descriptors_come_with_commands(machine: QmpMachine, tmp_path: Path) -> None:
    client = machine.client()
    if not hasattr(client, "socket") or not hasattr(machine.vm.root.resolve("/chardevs/compat_monitor0"), "take_fds"):
        pytest.skip("the socket back end takes no descriptors yet")
    path = tmp_path / "passed"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDWR)
    request = json.dumps({"execute": "add-fd", "arguments": {"opaque": "rw:passed"}}).encode() + b"\n"
    socket.send_fds(client.socket, [request], [fd])
    os.close(fd)
    made = client.answer()["return"]
    assert client.do("query-fdsets") == [
        {"fdset-id": made["fdset-id"], "fds": [{"fd": made["fd"], "opaque": "rw:passed"}]}
    ]
    target = f"/dev/fdset/{made['fdset-id']}"
    client.do("remove-fd", fdset_id=made["fdset-id"])
    assert client.error("remove-fd", fdset_id=made["fdset-id"]).startswith("GenericError: there is no fdset")
    assert target
    assert client.error("add-fd") == "GenericError: No file descriptor supplied via SCM_RIGHTS"
    assert client.error("closefd", fdname="x") == "GenericError: there is no fd named 'x'"


def test_actions_change_while_the_machine_is_there(machine: QmpMachine) -> None:
    vm = machine.vm
    vm.monitor_command("set-action", reboot="shutdown", watchdog="none")
    assert (vm.actions.reboot, vm.actions.watchdog) == ("shutdown", "none")
    assert refused(vm, "set-action", panic="pnaic").startswith(
        "Parameter 'panic' does not accept value 'pnaic': expected one of"
    )
    vm.monitor_command("set-action", reboot="reset", watchdog="reset")
    assert refused(vm, "system_wakeup")


def test_numa_nodes_before_the_board_is_built(tmp_path: Path) -> None:
    import threading

    with qmp_machine(tmp_path, "-preconfig", "-m", "64", "-smp", "4,sockets=2,cores=2") as made:
        builder = threading.Thread(target=made.vm.build)
        builder.start()
        while made.vm.run_state.value != "preconfig":
            pass
        client = made.client()
        client.do("set-numa-node", type="node", nodeid=0, mem=32 << 20)
        client.do("set-numa-node", type="node", nodeid=1, mem=16 << 20)
        client.do("set-numa-node", **{"type": "cpu", "node_id": 0, "socket_id": 0})
        client.do("set-numa-node", **{"type": "cpu", "node_id": 1, "socket_id": 1})
        client.do("set-numa-node", type="dist", src=0, dst=1, val=20)
        for arguments, error in (
            ({"type": "node", "nodeid": 1}, "Duplicate NUMA nodeid: 1"),
            ({"type": "cpu", "node_id": 1, "socket_id": 0}, "CPU 0 is in node 0 already"),
            ({"type": "cpu", "node_id": 1, "socket_id": 5}, "no CPU has that place: expected socket-id below 2"),
            (
                {"type": "dist", "src": 0, "dst": 7, "val": 20},
                "Parameter 'dst' expects a node that exists: 0, 1; got 7",
            ),
            (
                {"type": "dist", "src": 0, "dst": 1, "val": 10},
                "Parameter 'val' expects 10 for a node's distance to itself",
            ),
            ({"type": "hmat"}, "Parameter 'type' does not accept value 'hmat'"),
        ):
            assert client.error("set-numa-node", **arguments).startswith(f"GenericError: {error}"), arguments
        assert client.error("x-exit-preconfig").startswith(
            "GenericError: set-numa-node: numa: the nodes have 50331648 bytes"
        )
        made.vm.config.numa[1].mem = 32 << 20
        client.do("x-exit-preconfig")
        builder.join(60)
        made.vm.start_loop()
        assert client.do("query-status")["status"] == "prelaunch"
        assert [sorted(n.cpus) for n in made.vm.config.numa] == [[0, 1], [2, 3]]
        assert "GenericError: The command 'set-numa-node' is permitted only before" in client.error(
            "set-numa-node", type="node"
        )
