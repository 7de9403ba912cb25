"""The configuration model: option strings, topology, NUMA, drives, ports, and where errors point."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom import records
from qom.cli.options import CommandLine
from qom.config import (
    AccelChoice,
    ChardevEntry,
    CpuChoice,
    DeviceEntry,
    DriveEntry,
    GlobalEntry,
    MachineConfig,
    NumaDistance,
    Smp,
)
from qom.errors import ConfigError
from qom.options import format_options, parse_options

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def config(*argv: str) -> MachineConfig:
    return CommandLine().parse(argv).builder.finish()


def refused(*argv: str) -> str:
    with pytest.raises(ConfigError) as error:
        config(*argv)
    return str(error.value)


def test_option_strings() -> None:
    assert parse_options("isa-serial,id=a,flag,path=x,,y", "driver") == {
        "driver": "isa-serial",
        "id": "a",
        "flag": "on",
        "path": "x,y",
    }
    assert parse_options("id=a,driver=x", "driver") == {"id": "a", "driver": "x"}
    assert parse_options("a=b=c") == {"a": "b=c"}
    assert parse_options("") == {}
    with pytest.raises(ConfigError, match=r"^-x: '=3' where key=value was expected in 'a=1,=3'$"):
        parse_options("a=1,=3", origin="-x")


@STEADY
@given(st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True), st.text(max_size=20), min_size=1))
def test_option_strings_survive_formatting(options: dict[str, str]) -> None:
    assert parse_options(format_options(options)) == options


def test_everything_at_once_in_any_order() -> None:
    argv = [
        ["-M", "pc,kernel-irqchip=off,fast=on"],
        ["-accel", "kvm:simulated,trace=on"],
        ["-cpu", "qemu64,+sse4.1,-apic,level=4,x2apic=off"],
        ["-smp", "4,sockets=2"],
        ["-m", "1.5G"],
        ["-bios", "bios.bin"],
        ["-device", "isa-serial,id=s1,bus=isa.0,iobase=0x2f8"],
        ["-chardev", "socket,id=c0,path=/tmp/s,server,nowait"],
        ["-drive", "file=a,,b.img,if=none,id=d0,readonly=on"],
        ["-hda", "disk.img"],
        ["-serial", "chardev:c0"],
        ["-debugcon", "file:debug.log"],
        ["-global", "isa-serial.irq=3"],
        ["-kernel", "k", "-initrd", "i", "-append", "console=ttyS0 a,b"],
        ["-S", "-no-reboot", "-nographic", "-nodefaults", "-no-shutdown"],
        ["-D", "log", "-d", "guest_errors,int"],
        ["-name", "guest=vm1"],
    ]
    for order in (argv, argv[::-1]):
        made = config(*(word for words in order for word in words))
        assert made.machine.type == "pc" and made.machine.props == {"fast": "on"}
        assert made.accelerators == [
            AccelChoice("kvm", {"trace": "on", "kernel-irqchip": "off"}, "-accel kvm:simulated,trace=on"),
            AccelChoice("simulated", {"trace": "on"}, "-accel kvm:simulated,trace=on"),
        ]
        assert made.cpu == CpuChoice(
            "qemu64",
            {"sse4.1": True, "apic": False, "level": "4", "x2apic": False},
            "-cpu qemu64,+sse4.1,-apic,level=4,x2apic=off",
        )
        assert made.smp == Smp(4, 2, 2, 1, 4, "-smp 4,sockets=2")
        assert made.memory == 3 << 29 and made.origin_of("memory") == "-m 1.5G"
        assert made.firmware == "bios.bin"
        assert made.devices == [
            DeviceEntry(
                "isa-serial",
                "s1",
                "isa.0",
                {"iobase": "0x2f8"},
                "-device isa-serial,id=s1,bus=isa.0,iobase=0x2f8",
            )
        ]
        assert sorted(made.chardevs, key=lambda c: c.id) == [
            ChardevEntry(
                "socket",
                "c0",
                {"path": "/tmp/s", "server": "on", "wait": "off"},
                "-chardev socket,id=c0,path=/tmp/s,server,nowait",
            ),
            ChardevEntry("file", "debugcon", {"path": "debug.log"}, "-debugcon file:debug.log"),
        ]
        assert sorted(made.drives, key=lambda d: d.id) == [
            DriveEntry("d0", "a,b.img", interface="none", readonly=True,
                       origin="-drive file=a,,b.img,if=none,id=d0,readonly=on"),
            DriveEntry("ide0-hd0", "disk.img", index=0, bus=0, unit=0, origin="-hda disk.img"),
        ]  # fmt: skip
        assert made.serials == ["c0"] and made.debugcon == "debugcon"
        assert made.globals == [GlobalEntry("isa-serial", "irq", "3", "-global isa-serial.irq=3")]
        assert (made.kernel, made.initrd, made.append) == ("k", "i", "console=ttyS0 a,b")
        assert made.paused and made.nographic and made.nodefaults
        assert made.action == {"reboot": "shutdown", "shutdown": "pause"}
        assert made.log.file == "log" and made.log.categories == ["guest_errors", "int"]
        assert made.name == "vm1"


@pytest.mark.parametrize(
    ("text", "topology"),
    [
        ("1", (1, 1, 1, 1, 1)),
        ("4", (4, 1, 4, 1, 4)),
        ("cpus=8,sockets=2", (8, 2, 4, 1, 8)),
        ("sockets=2,cores=2,threads=2", (8, 2, 2, 2, 8)),
        ("cpus=2,maxcpus=4", (2, 1, 4, 1, 4)),
        ("4,cores=2", (4, 2, 2, 1, 4)),
        ("4,cores=2,threads=2", (4, 1, 2, 2, 4)),
        ("4,sockets=1,cores=2", (4, 1, 2, 2, 4)),
        ("maxcpus=2", (2, 1, 2, 1, 2)),
        ("cores=3", (3, 1, 3, 1, 3)),
    ],
)
def test_smp_completes_itself_as_qemu_does(text: str, topology: tuple[int, ...]) -> None:
    made = config("-smp", text).smp
    assert (made.cpus, made.sockets, made.cores, made.threads, made.maxcpus) == topology


@STEADY
@given(
    st.fixed_dictionaries(
        {}, optional={name: st.integers(1, 64) for name in ("cpus", "sockets", "cores", "threads", "maxcpus")}
    )
)
def test_smp_is_consistent_or_refused(given_: dict[str, int]) -> None:
    from qom.config import parse_smp

    try:
        made = parse_smp(dict(given_))
    except ConfigError:
        return
    assert made.sockets * made.cores * made.threads == made.maxcpus >= made.cpus >= 1
    assert all(getattr(made, name) == value for name, value in given_.items())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-smp", "4,cores=3"], "-smp 4,cores=3: smp: sockets (1) * cores (3) * threads (1) is 3: expected 4,"
         " the number of cpus"),
        (["-smp", "4,maxcpus=2"], "-smp 4,maxcpus=2: smp: cpus (4) cannot be more than maxcpus (2)"),
        (["-smp", "0"], "-smp 0: smp: 'cpus' cannot be '0': expected an integer in 1..4096"),
        (["-smp", "two"], "-smp two: smp: 'cpus' cannot be 'two': expected an integer in 1..4096"),
        (["-smp", "2,core=2"], "-smp 2,core=2: smp: unknown option 'core'; did you mean 'cores'?"),
        (["-smp", "2,dies=2"],
         "-smp 2,dies=2: smp: 'dies' must be 1: this processor topology has sockets, cores and threads"),
        (["-m", "lots"], "-m lots: memory: 'size' cannot be 'lots': expected a size, such as 512M or 1.5G"),
        (["-m", "0"], "-m 0: memory: 'size' cannot be '0': expected a size, such as 512M or 1.5G"),
        (["-m"], "-m: an argument is missing: expected [size=]SIZE"),
        (["-cpu", ",+sse"],
         "-cpu ,+sse: cpu: no model in ',+sse': expected MODEL[,+feature][,-feature][,feature=value]"),
        (["-cpu", "max,+sse=on2"], "-cpu max,+sse=on2: cpu: '+sse' cannot have a value: expected +feature or -feature"),
        (["-accel", "kvm:"],
         "-accel kvm:: accelerator: cannot be 'kvm:': expected NAME or NAME:NAME, such as kvm:simulated"),
        (["-M", "pc,kernel-irqchip=off"], "-M pc,kernel-irqchip=off: machine: 'kernel-irqchip' is only of use with"
         " the accelerator kvm"),
        (["-device", "id=a"], "-device id=a: device: 'driver' is required"),
        (["-device", "isa-serial,id=9"], "-device isa-serial,id=9: device: id '9' is not legal: expected a letter,"
         " then letters, digits, '-', '.', '_'"),
        (["-device", "a,id=x", "-device", "b,id=x"],
         "-device b,id=x: device: the id 'x' is given twice, first by -device a,id=x"),
        (["-device", "{"], "-device {: not JSON: Expecting property name enclosed in double quotes at character 1"),
        (["-object", "rng"], "-object rng: object: 'id' is required"),
        (["-chardev", "stdio"], "-chardev stdio: chardev: 'id' is required"),
        (["-serial", "modem"], "-serial modem: unknown character device 'modem': expected stdio, null, none, pty, ringbuf,"
         " console, file:PATH, pipe:PATH, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT, udp:HOST:PORT or chardev:ID"),
        (["-serial", "chardev:c"], "-serial chardev:c: no character device 'c'"),
        (["-serial", "tcp:1234"], "-serial tcp:1234: character device 'tcp:1234': expected tcp:[HOST]:PORT"),
        (["-drive", "if=ide"], "-drive if=ide: drive: 'file' is required"),
        (["-drive", "id=x,if=foo"],
         "-drive id=x,if=foo: drive: 'if' cannot be 'foo': expected one of 'ide', 'floppy', 'none'"),
        (["-drive", "file=x,if=scsi"],
         "-drive file=x,if=scsi: drive: 'if' cannot be 'scsi': expected one of 'ide', 'floppy', 'none'"),
        (["-drive", "file=x,if=none"],
         "-drive file=x,if=none: drive: 'id' is required with if=none, for a device to refer to"),
        (["-drive", "file=x,readonly=maybe"],
         "-drive file=x,readonly=maybe: drive: 'readonly' cannot be 'maybe': expected on or off"),
        (["-drive", "file=x,index=4"],
         "-drive file=x,index=4: drive: 'index' cannot be '4': expected an integer in 0..3"),
        (["-hda", "a", "-drive", "file=b,index=0"],
         "-drive file=b,index=0: drive: index 0 is taken already, by -hda a"),
        (["-global", "isa-serial"], "-global isa-serial: global: 'isa-serial': expected DRIVER.PROPERTY=VALUE"),
        (["-d", "everything"], "-d everything: unknown log category 'everything': expected some of guest_errors, unimp, int,"
         " exits, cpu_reset, io, reset"),
        (["-append", "x"], "-append x: 'append' is only of use with a kernel: expected -kernel too"),
        (["-uuid", "1"], "-uuid 1: uuid cannot be '1': expected 8-4-4-4-12 hexadecimal digits"),
        (["-boot", "order=cc"],
         "-boot order=cc: boot: 'order' cannot be 'cc': expected letters out of a, c, d, n, each once"),
        (["-action", "panic=run"], "-action panic=run: action: 'panic' cannot be 'run': expected one of 'shutdown', 'pause',"
         " 'exit-failure', 'none'"),
        (["-action", "restart=reset"], "-action restart=reset: action: unknown option 'restart': expected reboot, shutdown,"
         " panic, watchdog"),
        (["-watchdog-action", "rest"], "-watchdog-action rest: action: 'watchdog' cannot be 'rest': expected one of"
         " 'reset', 'shutdown', 'poweroff', 'pause', 'debug', 'none', 'inject-nmi'; did you mean 'reset'?"),
        (["-vga", "qxl"], "-vga qxl: the display adapter 'qxl' is not modelled: expected std or none"),
        (["-vga", "sdt"], "-vga sdt: vga cannot be 'sdt': expected std or none; did you mean 'std'?"),
        (["-display", "gtk"], "-display gtk: a display is not modelled: expected 'none'"),
        (["-machin", "pc"], "-machin: invalid option; did you mean 'machine' or 'action'?"),
        (["-readconfig", "/no/such"], "/no/such: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(argv: list[str], message: str) -> None:
    assert refused(*argv) == message


def test_numa() -> None:
    made = config(
        "-smp", "4", "-m", "1G", "-numa", "node,cpus=0-1,mem=512M", "-numa", "node,cpus=2-3,mem=512",
        "-numa", "dist,src=0,dst=1,val=20",
    )  # fmt: skip
    assert [(n.nodeid, n.cpus, n.mem) for n in made.numa] == [(0, [0, 1], 512 << 20), (1, [2, 3], 512 << 20)]
    assert made.numa_distances == [NumaDistance(0, 1, 20, "-numa dist,src=0,dst=1,val=20")]
    made = config("-numa", "node", "-numa", "node,nodeid=5", "-smp", "3")
    assert [(n.nodeid, n.cpus, n.mem) for n in made.numa] == [(0, [0, 2], None), (5, [1], None)]
    made = config("-numa", "node,mem=1G", "-numa", "cpu,node-id=0,socket-id=0")
    assert made.memory == 1 << 30 and made.numa[0].cpus == [0]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-numa", "node,cpus=0-1"], "-numa node,cpus=0-1: numa: no processor 1: there are 1"),
        (["-smp", "2", "-numa", "node,cpus=0-1", "-numa", "node,cpus=1"],
         "-numa node,cpus=1: numa: processor 1 is in node 0 already"),
        (["-smp", "2", "-numa", "node,cpus=0"], "-numa node,cpus=0: numa: processor 1 is in no node"),
        (["-numa", "node,cpus=1-0"], "-numa node,cpus=1-0: numa: 'cpus' cannot be '1-0': expected FIRST or FIRST-LAST"),
        (["-numa", "node,nodeid=1", "-numa", "node,nodeid=1"], "-numa node,nodeid=1: numa: 'nodeid' 1 is given twice"),
        (["-m", "1G", "-numa", "node,mem=1M"], "-numa node,mem=1M: numa: the nodes have 1048576 bytes of memory:"
         " expected 1073741824, as of the machine"),
        (["-numa", "node,mem=1M", "-numa", "node,nodeid=3"],
         "-numa node,nodeid=3: numa: node 3 has no 'mem', others have"),
        (["-numa", "dist,src=0,dst=1,val=20"],
         "-numa dist,src=0,dst=1,val=20: numa: dist needs nodes: expected -numa node too"),
        (["-numa", "node", "-numa", "dist,src=0,dst=1,val=20"], "-numa dist,src=0,dst=1,val=20: numa: dist: no node 1"),
        (["-numa", "dist,src=0,dst=0,val=20"], "-numa dist,src=0,dst=0,val=20: numa: dist: 'val' cannot be 20: expected 10"
         " from a node to itself, else 11..255"),
        (["-numa", "cpu,node-id=4"],
         "-numa cpu,node-id=4: numa: cpu: no node 4: expected node-id=NODE of one given by -numa node"),
    ],
)  # fmt: skip
def test_numa_errors(argv: list[str], message: str) -> None:
    assert refused(*argv) == message


def test_drives_find_their_places() -> None:
    made = config("a.img", "-drive", "file=b", "-drive", "file=c,media=cdrom", "-drive", "file=d,bus=1,unit=1")
    assert [(d.id, d.bus, d.unit, d.readonly) for d in made.drives] == [
        ("ide0-hd0", 0, 0, False),
        ("ide0-hd1", 0, 1, False),
        ("ide1-cd0", 1, 0, True),
        ("ide1-hd1", 1, 1, False),
    ]
    assert all(d.snapshot for d in config("-snapshot", "-hda", "x").drives)
    assert refused(*(word for n in range(5) for word in ("-drive", f"file={n}"))).endswith(
        "the IDE controller has room for 4 drives"
    )


def test_ports() -> None:
    assert [(c.backend, c.id) for c in config().chardevs] == [("stdio", "serial0")]
    assert config("-nodefaults").serials == []
    assert config("-serial", "none", "-serial", "null").serials == [None, "serial1"]
    assert config("-chardev", "stdio,id=x").serials == []  # stdio is in use already
    assert config("-device", "isa-serial").serials == []  # which takes the first place, as in QEMU
    assert config("-device", "isa-serial", "-serial", "null").serials == ["serial0"]
    made = config("-serial", "unix:/tmp/a,server=on,wait=off", "-serial", "tcp:[::1]:44", "-serial", "pty")
    assert [(c.backend, c.props) for c in made.chardevs] == [
        ("socket", {"path": "/tmp/a", "server": "on", "wait": "off"}),
        ("socket", {"host": "::1", "port": "44"}),
        ("pty", {}),
    ]


def test_json_devices() -> None:
    made: Any = config("-device", '{"driver": "isa-serial", "iobase": 760}').devices[0]
    assert made.props == {"iobase": 760}


def test_a_kernel_may_be_said_as_a_property_of_the_machine() -> None:
    made = config("-M", "pc,kernel=k,initrd=i,append=a,,b,firmware=none")
    assert (made.kernel, made.initrd, made.append, made.firmware) == ("k", "i", "a,b", "none")
    assert made.machine.props == {}
    assert made.origins["initrd"] == "-M pc,kernel=k,initrd=i,append=a,,b,firmware=none"


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("-drive file=a,cache=none,aio=native,discard=unmap,detect-zeroes=on,werror=report,rerror=auto", "-drive file=a"),
        ("-drive file.filename=a,driver=raw,read-only=on,if=none,id=d,file.locking=off,cache.direct=on",
         "-drive file=a,format=raw,readonly=on,if=none,id=d,locking=off"),
        ("-drive file=a,copy-on-read=off,cache.writeback=on,file.locking=auto", "-drive file=a"),
        ("-M pc,usb=off,vmport=off,smm=off,dump-guest-core=on,mem-merge=off,nvdimm=off", "-M pc"),
    ],
)  # fmt: skip
def test_words_of_qemus_that_say_what_is_so_anyway(said: str, same: str) -> None:
    def bare(text: str) -> Any:
        config = CommandLine().parse(text.split()).builder.finish()
        drives = [records.evolve(drive, origin="") for drive in config.drives]
        return drives, config.machine.type, config.machine.props

    assert bare(said) == bare(same)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("-drive file=a,cache=writethrough",
         "drive: 'cache': writes reach the disk when the guest flushes: expected writeback, none, unsafe"),
        ("-drive file=a,cache=non", "drive: 'cache' cannot be 'non': expected one of 'writeback', 'none', 'unsafe',"
         " 'writethrough', 'directsync'; did you mean 'none'?"),
        ("-drive file=a,werror=stop", "drive: 'werror': the guest is told of errors: expected report"),
        ("-drive file=a,copy-on-read=on", "drive: 'copy-on-read': there are no backing files to copy from: expected off"),
        ("-drive file=a,readonly=on,read-only=on",
         "drive: 'readonly' and 'read-only' say the same thing: expected one of them"),
        ("-machine pc,usb=on", "machine: 'usb': USB is not modelled: expected off"),
        ("-machine pc,dump-guest-core=off",
         "machine: 'dump-guest-core': guest memory is in this process's core dumps: expected on"),
        ("-machine pc,smm=maybe", "machine: 'smm' cannot be 'maybe': expected on or off"),
        ("-machine pc,memory-backend=m", "machine: 'memory-backend': memory back ends are not modelled: expected the guest's"
         " memory by -m SIZE"),
        ("-object memory-backend-ram,id=m,size=16M", "object type 'memory-backend-ram': memory back ends are not modelled:"
         " expected the guest's memory by -m SIZE"),
        ('-object {"qom-type":"memory-backend-memfd","id":"m","size":1024}', "object type 'memory-backend-memfd': memory back"
         " ends are not modelled: expected the guest's memory by -m SIZE"),
    ],
)  # fmt: skip
def test_words_of_qemus_that_ask_for_what_is_not_there(said: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        CommandLine().parse(said.split()).builder.finish()
    assert raised.value.message == message
