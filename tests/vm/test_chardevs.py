"""Back ends that come, go and change while a machine is there; the spellings of a command line for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qom import QomError, VirtualMachine, default_registry
from qom.cli.options import CommandLine
from qom.config import ChardevEntry, MachineConfig, load
from qom.config.write import dumps
from qom.vm import chardevs

COM1 = 0x3F8


def config(line: str) -> MachineConfig:
    return CommandLine().parse(shlex.split(line)).builder.finish()


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[VirtualMachine]:
    line = f"-M pc -accel qtest -m 16 -nodefaults -chardev file,id=a,path={tmp_path}/a -serial chardev:a"
    with VirtualMachine(config(line), default_registry(load_external=False)).build() as made:
        yield made


def put(vm: VirtualMachine, text: bytes) -> None:
    for byte in text:
        vm.ports.write(COM1, byte)


def test_a_serial_port_goes_on_with_another(vm: VirtualMachine, tmp_path: Path) -> None:
    put(vm, b"one")
    new = chardevs.change(vm, "a", "file", {"path": str(tmp_path / "b")})
    assert new.path == "/chardevs/a" and list(vm.root.container("/chardevs").children()) == ["a"]
    put(vm, b"two")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"one", b"two")
    assert vm.dump().chardevs[0].props["path"] == str(tmp_path / "b")
    with pytest.raises(QomError):
        chardevs.change(vm, "a", "file", {"path": "/no/such"})
    put(vm, b"!")
    assert (tmp_path / "b").read_bytes() == b"two!", "the old one is still there"


def test_they_come_and_go(vm: VirtualMachine) -> None:
    fds = vm.fdsets  # made first: what is counted below are back ends
    assert fds.query() == []
    plain = chardevs.add(vm, "n", "null", {})
    mux = chardevs.add(vm, "m", "ringbuf", {"mux": "on", "size": "4k"})
    assert list(vm.root.container("/chardevs").children()) == ["a", "n", "m-base", "m"]
    mux.set_frontend(owner="somebody")
    with pytest.raises(QomError, match=r"^Chardev 'm' is busy: somebody uses it$"):
        chardevs.remove(vm, "m")
    mux.unset_frontend("somebody")
    for id in ("n", "m"):
        chardevs.remove(vm, id)
    assert list(vm.root.container("/chardevs").children()) == ["a"] and plain.poller is None and mux.poller is None


def test_a_break_reaches_the_guest(vm: VirtualMachine) -> None:
    chardevs.send_break(vm, "a")
    assert vm.ports.read(COM1 + 5) & 0x10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vm: chardevs.add(vm, "a", "null", {}), "Chardev with id 'a' already exists"),
        (lambda vm: chardevs.add(vm, "b", "nul", {}), "unknown character device 'nul'; did you mean 'null'?"),
        (lambda vm: chardevs.add(vm, "b", "zyx", {}), "unknown character device 'zyx'; no plugin that is loaded brings it"
         " (`qom plugins` lists them)"),
        (lambda vm: chardevs.add(vm, "-", "null", {}), "id '-' is not legal: expected a letter, then letters, digits, '-',"
         " '.', '_'"),
        (lambda vm: chardevs.remove(vm, "b"), "Chardev 'b' not found"),
        (lambda vm: chardevs.remove(vm, "a"), "Chardev 'a' is busy: /machine/serial0 uses it"),
        (lambda vm: chardevs.send_break(vm, "aa"), "Chardev 'aa' not found; did you mean 'a'?"),
        (lambda vm: chardevs.change(vm, "a", "null", {"mux": "on"}), "Chardev multiplexers cannot be exchanged: expected one"
         " that is not shared"),
    ],
)  # fmt: skip
def test_what_cannot_be_leaves_all_as_it_is(call: Any, message: str, vm: VirtualMachine) -> None:
    with pytest.raises(QomError) as error:
        call(vm)
    assert str(error.value) == message
    assert list(vm.root.container("/chardevs").children()) == ["a"]


@pytest.mark.parametrize(
    ("text", "backend", "props"),
    [
        ("pipe:/p", "pipe", {"path": "/p"}),
        ("telnet:localhost:23,server,nowait", "socket", {"host": "localhost", "port": "23", "server": "on", "wait": "off",
         "telnet": "on"}),
        ("udp:h:1@:2", "udp", {"host": "h", "port": "1", "localport": "2"}),
        ("udp::1", "udp", {"port": "1"}),
        ("tcp::4444,server=on,wait=off,logfile=l", "socket", {"host": "", "port": "4444", "server": "on", "wait": "off",
         "logfile": "l"}),
    ],
)  # fmt: skip
def test_short_spellings(text: str, backend: str, props: dict[str, str]) -> None:
    made = config(f"-nodefaults -serial {text}")
    assert made.chardevs == [ChardevEntry(backend, "serial0", props, f"-serial {text}")]


def test_mux_is_short_for_two(tmp_path: Path) -> None:
    line = "-M none -accel qtest -nodefaults -echr 20 -chardev ringbuf,id=c,size=4k,mux=on,logfile=/dev/null"
    made = config(line)
    assert [(c.backend, c.id, c.props) for c in made.chardevs] == [
        ("ringbuf", "c-base", {"size": "4k", "logfile": "/dev/null"}), ("mux", "c", {"chardev": "c-base", "escape": 20})
    ]  # fmt: skip
    with VirtualMachine(made, default_registry(load_external=False)).build() as vm:
        mux = vm.root.resolve("/chardevs/c")
        assert mux.backend is vm.root.resolve("/chardevs/c-base") and mux.escape == 20
        (tmp_path / "vm.toml").write_text(dumps(vm.dump()))
    again = load(tmp_path / "vm.toml")
    assert [c.id for c in again.chardevs] == ["c-base", "c"] and again.chardevs[1].props == {
        "chardev": "c-base",
        "escape": 20,
    }


def test_ctrl_a_x_ends_the_machine() -> None:
    line = "-M pc -accel qtest -m 16 -nodefaults -chardev ringbuf,id=c,mux=on -serial chardev:c"
    with VirtualMachine(config(line), default_registry(load_external=False)).build() as vm:
        told: list[dict[str, Any]] = []
        vm.events.append(lambda name, data: told.append(data) if name == "SHUTDOWN" else None)
        vm.start()
        with vm.lock:
            vm.root.resolve("/chardevs/c-base").feed(b"\x01x")
        assert vm.wait(30)
        assert (told[0]["guest"], told[0]["reason"], vm.exit_status) == (False, "host-ui", 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-serial vc", "-serial vc: character device 'vc': a display is not modelled: expected null, or another"),
        ("-serial websocket:h:1", "-serial websocket:h:1: character device 'websocket:h:1': websocket framing is not modelled:"
         " expected tcp:"),
        ("-serial udp:1", "-serial udp:1: character device 'udp:1': expected udp:[HOST]:PORT"),
        ("-chardev null,id=c,mux=perhaps", "-chardev null,id=c,mux=perhaps: chardev: 'mux' cannot be 'perhaps': expected on or"
         " off"),
        ("-chardev null,id=c,mux=on -mon c,mode=control", "-mon c,mode=control: monitor: 'c' is multiplexed: a QMP monitor"
         " wants a back end of its own"),
        ("-echr x", "-echr x: echr: 'echr' cannot be 'x': expected an integer in 0..255"),
        ("-set device.x.y=1", "-set device.x.y=1: set: there is no device 'x'"),
        ("-set devise.x.y=1", "-set devise.x.y=1: set: no section 'devise': expected device, drive, chardev, object; did you"
         " mean 'device'?"),
        ("-set foo", "-set foo: set: 'foo': expected SECTION.ID.OPTION=VALUE, such as device.nic0.addr=5"),
        ("-machine dumpdtb=x", "-machine dumpdtb=x: machine: 'dumpdtb': a PC has no device tree"),
        ("-cdrom x.iso", "-cdrom: CD-ROM drives (ATAPI) are not modelled: expected a disk (-hda, -drive)"),
        ("-sandbox on", "-sandbox: there is no system call filter in this program: start it under one"),
        ("-frobnicat", "-frobnicat: invalid option"),
        ("-smbioss", "-smbioss: invalid option; did you mean 'smbios' or 'bios'?"),
        ("-name a,foo=b", "-name a,foo=b: name: unknown option 'foo': expected guest, process, debug-threads"),
        ("-msg foo=on", "-msg foo=on: msg: unknown option 'foo': expected timestamp, guest-name"),
        ("-action reboot=x", "-action reboot=x: action: 'reboot' cannot be 'x': expected one of 'reset', 'shutdown'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(line: str, message: str) -> None:
    with pytest.raises(QomError) as error:
        config(line)
    assert str(error.value) == message


def test_order_does_not_matter_and_set_is_last() -> None:
    one = config("-set device.s.index=1 -device isa-serial,chardev=c,id=s -chardev null,id=c -nodefaults")
    other = config("-chardev null,id=c -device isa-serial,chardev=c,index=0,id=s -set device.s.index=1 -nodefaults")
    assert one.devices[0].props == other.devices[0].props == {"chardev": "c", "index": "1"}
    with pytest.raises(QomError) as error:
        VirtualMachine(
            config("-M pc -accel qtest -nodefaults -device isa-serial,id=s -set device.s.index=9"),
            default_registry(load_external=False),
        ).build()
    assert str(error.value).startswith("-set device.s.index=9: ")
