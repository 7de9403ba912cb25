"""Descriptors that a machine is handed: sets for `/dev/fdset/N`, names for `fd=`, and every place that opens files."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from qom import QomError, VirtualMachine, default_registry
from qom.cli.options import CommandLine
from qom.vm.fdsets import FdSetError, FdSets


@pytest.fixture
def sets() -> Iterator[FdSets]:
    made = FdSets()
    yield made
    made.close()


def inherited(path: Path, flags: int) -> int:
    """A descriptor as one has that a process was started with."""
    fd = os.open(path, flags | os.O_CREAT, 0o600)
    os.set_inheritable(fd, True)
    return fd


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def open_fds() -> set[int]:
    return set(filter(is_open, range(256)))


def test_a_set_gives_a_duplicate_that_fits(sets: FdSets, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    reading = sets.add(os.open(tmp_path / "a", os.O_RDONLY), 3, "ro")
    writing = sets.add(os.open(tmp_path / "a", os.O_WRONLY), 3, "wo")
    fd = sets.open("/dev/fdset/3", os.O_RDONLY | os.O_CLOEXEC)
    assert fd not in (reading.fd, writing.fd) and os.read(fd, 3) == b"con" and not os.get_inheritable(fd)
    with pytest.raises(FdSetError, match=r"^fdset 3 has no descriptor that was opened for reading and writing$"):
        sets.open("/dev/fdset/3", os.O_RDWR)
    assert [(one.id, [(info.fd, info.opaque) for info in one.fds]) for one in sets.query()] == [
        (3, [(reading.fd, "ro"), (writing.fd, "wo")])
    ]
    assert sets.set_of(sets.add(os.open(tmp_path / "a", os.O_RDONLY))) == 0, "the first number that is free"
    os.close(fd)


def test_what_is_removed_is_closed_when_nothing_of_it_is_open(sets: FdSets, tmp_path: Path) -> None:
    info = sets.add(os.open(tmp_path, os.O_RDONLY), 1)
    used = sets.open("/dev/fdset/1", os.O_RDONLY)
    sets.remove(1)
    assert is_open(info.fd) and sets.query() == []
    with pytest.raises(FdSetError, match=r"^there is no fdset 1: expected one of none$"):
        sets.open("/dev/fdset/1", os.O_RDONLY)
    os.close(used)
    sets.release_unused()
    assert not is_open(info.fd)
    info = sets.add(os.open(tmp_path, os.O_RDONLY), 1)
    sets.remove(1, info.fd)
    assert not is_open(info.fd)
    info = sets.add(os.open(tmp_path, os.O_RDONLY), 1)
    with pytest.raises(FdSetError, match=f"^fdset 1 has no fd 999: expected one of its own: {info.fd}$"):
        sets.remove(1, 999)
    sets.release_unused()
    assert not is_open(info.fd) and sets.query() == []


def test_a_name_stands_for_one(sets: FdSets, tmp_path: Path) -> None:
    first, second = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    sets.give("x", first)
    sets.give("x", second)
    assert not is_open(first) and sets.take("x") == second
    with pytest.raises(
        FdSetError, match=r"^there is no fd named 'x': expected a number, or a name that a monitor gave one$"
    ):
        sets.take("x")
    sets.give("y", second)
    sets.forget("y")
    assert not is_open(second)
    with pytest.raises(FdSetError, match=r"^there is no fd named 'y'$"):
        sets.forget("y")
    with pytest.raises(FdSetError, match=r"^fd name '5' is not legal: expected a letter first, not a number$"):
        sets.give("5", os.open(tmp_path, os.O_RDONLY))
    with pytest.raises(FdSetError, match=r"^fd 9999 is not open: expected one that this program was started with$"):
        sets.take("9999")


def test_every_place_that_opens_files_takes_them(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(512) * 4)
    (tmp_path / "bios").write_bytes(bytes(65535) + b"\xea")
    (tmp_path / "item").write_bytes(b"item")
    files = {"disk": os.O_RDWR, "bios": os.O_RDONLY, "item": os.O_RDONLY, "port": os.O_WRONLY, "log": os.O_WRONLY}
    fds = {name: inherited(tmp_path / name, flags) for name, flags in files.items()}
    line = " ".join(f"-add-fd fd={fd},set={n},opaque={name}" for n, (name, fd) in enumerate(fds.items()))
    line += (
        " -M pc -accel qtest -m 16 -nodefaults -drive file=/dev/fdset/0,if=none,id=d -device ide-hd,drive=d,bus=ide.0"
    )
    line += " -bios /dev/fdset/1 -fw_cfg opt/i,file=/dev/fdset/2 -serial file:/dev/fdset/3 -D /dev/fdset/4"
    for name in files:
        (tmp_path / name).chmod(0)
    before = open_fds()
    config = CommandLine().parse(shlex.split(line)).builder.finish()
    with VirtualMachine(config, default_registry(load_external=False)).build() as vm:
        assert not any(is_open(fd) and os.get_inheritable(fd) for fd in fds.values()), "the originals are nobody's now"
        assert [info.opaque for one in vm.fdsets.query() for info in one.fds] == list(files)
        assert vm.memory.read_bytes(0xFFFFFFFF, 1) == b"\xea"
        assert vm.machine.chip("fw_cfg", "fw_cfg_io").file("opt/i") == b"item"
        vm.root.resolve("/drives/d").write(1, b"x" * 512)
        vm.root.resolve("/chardevs/serial0").write(b"out")
        vm.log("warning", "noted")
    assert open_fds() == before - set(fds.values())
    for name in files:
        (tmp_path / name).chmod(stat.S_IRUSR)
    assert (tmp_path / "disk").read_bytes()[512:1024] == b"x" * 512
    assert (tmp_path / "port").read_bytes() == b"out" and (tmp_path / "log").read_bytes() == b"warning: noted\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("-add-fd fd=1,set=0", "-add-fd fd=1,set=0: add-fd: 'fd' cannot be 1: that is a standard stream: expected 3 or more"),
        ("-add-fd set=0", "-add-fd set=0: add-fd: 'fd' is required"),
        ("-add-fd fd=5,set=-1", "-add-fd fd=5,set=-1: add-fd: 'set' cannot be '-1': expected an integer in 0..2147483647"),
        ("-add-fd fd=999,set=0", "-add-fd fd=999,set=0: fd 999 is not open, or is this program's own: expected one that it was"
         " started with"),
        ("-drive file=/dev/fdset/7,if=none,id=d", "-drive file=/dev/fdset/7,if=none,id=d: there is no fdset 7: expected one of"
         " none"),
        ("-serial file:/dev/fdset/x", "-serial file:/dev/fdset/x: '/dev/fdset/x' names no set of descriptors: expected"
         " /dev/fdset/NUMBER"),
        ("-bios /dev/fdset/7", "-bios /dev/fdset/7: there is no fdset 7: expected one of none"),
    ],
)  # fmt: skip
def test_bad_descriptors_are_said_at_their_option(said: str, message: str) -> None:
    with pytest.raises(QomError) as error:
        config = CommandLine().parse(shlex.split(f"-M pc -accel qtest -m 16 -nodefaults {said}")).builder.finish()
        VirtualMachine(config, default_registry(load_external=False)).build()
    assert str(error.value) == message
