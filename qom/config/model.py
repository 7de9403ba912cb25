"""The model: everything that can be said about a machine before it is built, as typed records.

Every entry carries its `origin` ("vm.toml:12", "-device isa-serial,id=x") for errors.
"""

from __future__ import annotations

from qom import records
from qom.errors import ConfigError, did_you_mean
from qom.options import Options, at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.registry import Type, TypeRegistry

FORMAT_PREFIX = "block-"
"""With the name of an image format after it: the type that reads and writes such images."""

FDSETS = "/dev/fdset/"
"""With a number after it: the name of a file that stands for a descriptor of a set (`-add-fd`)."""

LOG_CATEGORIES = {
    "guest_errors": "what the guest did wrong",
    "unimp": "what the guest used and is not modelled",
    "int": "interrupt lines",
    "exits": "exits from the guest to user space",
    "cpu_reset": "triple faults, which reset the processor",
    "io": "port accesses",
    "reset": "machine and device resets",
}
"""Names that `-d` takes, and what each logs."""

TRACE_EVENTS = {
    "ports": "port accesses",
    "memory": "accesses to the memory of devices",
    "exits": "exits from the guest to user space",
    "lines": "interrupt lines and others",
    "lifecycle": "steps in the life of objects and of the machine",
}
"""What `-trace` can write down (the object `trace`)."""

VGA_KINDS = ("std", "none")
"""Display adapters that a board may be asked for."""


@records.define
class Entry:
    """The machine type and its properties; `board` is the path of a board file that is the type instead."""

    type: str
    props: Options = records.field(factory=dict)
    origin: str = ""
    board: str | None = None


@records.define
class AccelChoice:
    """One accelerator to try, with its options."""

    name: str
    options: Options = records.field(factory=dict)
    origin: str = ""


@records.define
class CpuChoice:
    """A processor model and the features switched on or off (or set to a value) on top of it."""

    model: str
    features: dict[str, bool | int | str] = records.field(factory=dict)
    origin: str = ""


@records.define
class Smp:
    """Processors at start and the topology of all that there may be: sockets * cores * threads = maxcpus."""

    cpus: int = 1
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    maxcpus: int = 1
    origin: str = ""


@records.define
class NumaNode:
    """One NUMA node: its processors by index and its memory in bytes (None: an equal share)."""

    nodeid: int
    cpus: list[int] = records.field(factory=list)
    mem: int | None = None
    origin: str = ""


@records.define
class NumaDistance:
    """How far node `dst` is from node `src`; 10 is a node from itself."""

    src: int
    dst: int
    val: int
    origin: str = ""


@records.define
class DeviceEntry:
    """A device to add: `bus` is a bus's name or path, None for the first that fits."""

    driver: str
    id: str | None = None
    bus: str | None = None
    props: Options = records.field(factory=dict)
    origin: str = ""


@records.define
class ObjectEntry:
    """A user object to add under /objects."""

    driver: str
    id: str
    props: Options = records.field(factory=dict)
    origin: str = ""


@records.define
class ChardevEntry:
    """A character back end to add under /chardevs, of type `chardev-<backend>`."""

    backend: str
    id: str
    props: Options = records.field(factory=dict)
    origin: str = ""


@records.define
class MonitorEntry:
    """A monitor on the character back end `chardev`: mode "control" speaks QMP, "readline" is for people.

    pretty: QMP over several lines.
    """

    chardev: str
    mode: str = "readline"
    pretty: bool = False
    origin: str = ""


@records.define
class DriveEntry:
    """A disk image, of type `block-<format>`.

    interface: "ide" or "floppy" (the board puts it on its controller) or "none" (a device refers to it).  props: what
    the format takes beside file, readonly and snapshot.  node: of a block node (`-blockdev`, blockdev-add) the driver that was
    named; "" for a drive.  over: the node of driver "file" that it lies over, whose lock it relies on.  within: the node in
    whose options it was said, and with which it goes.
    """

    id: str
    file: str
    format: str = "raw"
    interface: str = "ide"
    index: int | None = None
    bus: int | None = None
    unit: int | None = None
    media: str = "disk"
    readonly: bool = False
    snapshot: bool = False
    origin: str = ""
    props: Options = records.field(factory=dict)
    node: str = ""
    over: str = ""
    within: str = ""

    @property
    def own_id(self) -> str:
        """The id that follows from its place on a controller of the board."""
        if self.interface == "floppy":
            return f"floppy{self.index}"
        return f"ide{self.bus}-{'cd' if self.media == 'cdrom' else 'hd'}{self.unit}"

    def format_type(self, registry: TypeRegistry) -> Type:
        """The type of its format.

        Raises:
            ConfigError: there is no such format; names those there are.
        """
        known = sorted(
            name.removeprefix(FORMAT_PREFIX)
            for name in registry.names("block-backend")
            if name.startswith(FORMAT_PREFIX) and not registry.get(name).abstract
        )
        if self.format not in known:
            words = ", ".join(repr(name) for name in known) or "none, as no plugin brings one"
            what, key = ("blockdev", "driver") if self.node else ("drive", "format")
            text = (
                f"{what}: '{key}' cannot be {self.format!r}: expected one of {words}{did_you_mean(self.format, known)}"
            )
            raise ConfigError(text, at(self.origin, key))
        return registry.get(FORMAT_PREFIX + self.format)

    @property
    def given(self) -> Options:
        """What is said of the image itself, by property."""
        switches = {"readonly": self.readonly, "snapshot": self.snapshot}
        lock = {"locking": False} if self.over else {}
        return {"file": self.file, **{name: True for name, on in switches.items() if on}, **self.props, **lock}


@records.define
class GlobalEntry:
    """A default for a property of every object of a type."""

    driver: str
    property: str
    value: Any
    origin: str = ""


@records.define
class Log:
    """What to log (`LOG_CATEGORIES`) and where; no file: standard error."""

    file: str | None = None
    categories: list[str] = records.field(factory=list)
    origin: str = ""


@records.define
class PartEntry:
    """A part of a board, or what a file changes of one; what is None is not said.

    bus: the place of its bus.  props: properties.  links: the parts, regions or accelerator it is handed, by property.
    values: properties whose value is an expression over the board's values.  when: the condition under which it is there.
    use: what the configuration must ask for, for it to be there (`serial[0]`, `drive[1]`, `floppy[0]`, `vga`).
    remove: take the board's part of that name out.
    """

    name: str
    type: str | None = None
    bus: str | None = None
    props: Options = records.field(factory=dict)
    links: dict[str, str] = records.field(factory=dict)
    values: dict[str, str] = records.field(factory=dict)
    when: str | None = None
    use: str | None = None
    remove: bool = False
    origin: str = ""


@records.define
class WireEntry:
    """A wire from an output to an input of a board, or (remove) one to take out."""

    source: str
    target: str
    when: str | None = None
    remove: bool = False
    origin: str = ""


@records.define
class RegionEntry:
    """A piece of a board's memory map, or what a file changes of one; `props` is what is said of it, by name."""

    name: str
    props: Options = records.field(factory=dict)
    remove: bool = False
    origin: str = ""


@records.define
class TableEntry:
    """An entry of a list of tables of plain facts (`smbios`, `add-fd`): what is said, by key (qom/config/tables.py)."""

    said: Options = records.field(factory=dict)
    origin: str = ""


@records.define
class MachineConfig:
    """Everything that can be said about a machine before it is built.

    memory: bytes; None for the board's default.  firmware, kernel, initrd: file names.  serials: for each serial port
    the id of its character back end, None for a port that is not there.  parallels: the same for parallel ports.
    debugcon: the id of the debug port's back end.  preconfig: wait for x-exit-preconfig before the board is built.
    vga: the board's display adapter, one of `VGA_KINDS`; None when nothing is said.
    parts, wires, regions: what differs from the machine type's board.
    boot, rtc, action, msg: what is said of each, by key; smbios, fw_cfg, acpi_tables, option_roms, fds: likewise, each time.
    data_dirs: folders in which firmware is looked for first.  pidfile: a file that holds the process's number while it runs.
    daemonize: go on in the background once the machine is there.  process: what the process is called.
    debug_threads: its threads have names.  escape: number of the letter that is a command after Ctrl (1 is A).
    origins: where the plain values above were said, by name.
    """

    machine: Entry = records.field(factory=lambda: Entry("pc-i440fx"))
    accelerators: list[AccelChoice] = records.field(factory=list)
    cpu: CpuChoice | None = None
    smp: Smp = records.field(factory=Smp)
    memory: int | None = None
    numa: list[NumaNode] = records.field(factory=list)
    numa_distances: list[NumaDistance] = records.field(factory=list)
    firmware: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    devices: list[DeviceEntry] = records.field(factory=list)
    objects: list[ObjectEntry] = records.field(factory=list)
    chardevs: list[ChardevEntry] = records.field(factory=list)
    drives: list[DriveEntry] = records.field(factory=list)
    serials: list[str | None] = records.field(factory=list)
    parallels: list[str | None] = records.field(factory=list)
    debugcon: str | None = None
    monitors: list[MonitorEntry] = records.field(factory=list)
    vga: str | None = None
    globals: list[GlobalEntry] = records.field(factory=list)
    parts: list[PartEntry] = records.field(factory=list)
    wires: list[WireEntry] = records.field(factory=list)
    regions: list[RegionEntry] = records.field(factory=list)
    boot: Options = records.field(factory=dict)
    paused: bool = False
    preconfig: bool = False
    nographic: bool = False
    nodefaults: bool = False
    log: Log = records.field(factory=Log)
    name: str | None = None
    uuid: str | None = None
    rtc: Options = records.field(factory=dict)
    smbios: list[TableEntry] = records.field(factory=list)
    fw_cfg: list[TableEntry] = records.field(factory=list)
    acpi_tables: list[TableEntry] = records.field(factory=list)
    option_roms: list[TableEntry] = records.field(factory=list)
    fds: list[TableEntry] = records.field(factory=list)
    action: Options = records.field(factory=dict)
    msg: Options = records.field(factory=dict)
    data_dirs: list[str] = records.field(factory=list)
    pidfile: str | None = None
    daemonize: bool = False
    process: str | None = None
    debug_threads: bool = False
    escape: int | None = None
    origins: dict[str, str] = records.field(factory=dict)

    @property
    def brings_serial(self) -> bool:
        """Whether it has serial ports among its devices, so that there is none by default."""
        return any(device.driver == "isa-serial" for device in self.devices)

    def origin_of(self, name: str) -> str:
        """Where the plain value `name` ("memory", "firmware") was said; "" when nowhere."""
        return self.origins.get(name, "")
