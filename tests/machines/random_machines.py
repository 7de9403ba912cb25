"""Hypothesis builds machines: whatever the registry has, put together by the rules a person would have to keep.

A `Shop` is a registry with a few types from outside, a folder for files, and what there is to know of each machine type
before anything is added (its buses, found by building it bare).  `configs(shop)` draws a configuration: any machine type,
accelerator, processor model and features, topology, memory, NUMA, back ends, drives, user objects, and devices of any type
that can be added, on any bus that takes them, with values that their properties take.

Rules that the registry does not tell are kept by construction: ports are dealt out once, a back end or a drive serves one
front end, a cable has two places.  What is left may be refused when it is built, by a QomError; see `OWN_CHECKS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from hypothesis import strategies as st

from plugins.cpu.features import FEATURES
from qom import Object, QomError, TypeRegistry, UserCreatable, alias, child, default_registry, link, prop, type_init
from qom.config import ConfigBuilder, DeviceEntry, MachineConfig, ObjectEntry
from qom.config.probe import Probe
from qom.hw import Bus, Device, IsaDevice, PciDevice, Region
from qom.properties import INT_RANGES, Property
from qom.registry import Type
from qom.vm.chardev import Chardev
from qom.vm.image import ImageFile
from qom.vm.vm import VirtualMachine

SECTOR = 512
NAMES = st.sampled_from(["dev", "x", "y"])  # a device, a back end and an object may have the same id
WHERE = "tests"


# Types from outside


@type_init("tests-shelf-bus")
class ShelfBus(Bus):
    """A bus with room for three."""

    max_devices = 3


@type_init("tests-book")
class Book(Object):
    """A part with a property of its own."""

    pages: int = prop(10, "How long it is", type="uint16", min=1)


@type_init("tests-shelf")
class Shelf(PciDevice):
    """A PCI device with memory, an interrupt, and two buses of the same kind."""

    vendor_id, device_id, interrupt_pin, hotpluggable = 0x1234, 0x5678, 1, True
    depth: int = prop(1, "How deep it is", type="uint8", among=(1, 2, 4))
    book: Book = child("tests-book", "The book on top", pages=20)
    pages = alias("book", "pages", "Length of the book on top")

    def instance_init(self) -> None:
        for name in ("upper", "lower"):
            self.new_bus("tests-shelf-bus", name)

    def realize(self) -> None:
        self.register_bar(
            0, Region("tests-shelf", 256, lambda offset, size: 0, lambda offset, value, size: None, (1, 4))
        )


@type_init("tests-vase")
class Vase(IsaDevice):
    """An ISA device with a property of every kind."""

    hotpluggable = True
    iobase: int = prop(0x7000, "First port", type="uint16", max=0xFFF0, base=16)
    irq: int | None = prop(None, "Interrupt line", type="uint8", max=15)
    volume: int = prop(1 << 10, "What it holds", type="size", max=1 << 20)
    glaze: str = prop("", "Its glaze", among=("", "blue", "celadon"))
    cracks: list[int] = prop([], "Its cracks", type="list<int16>")
    labels: dict[str, str] = prop({}, "Its labels", type="dict<str>")
    chardev: Chardev | None = link("chardev", "Where it sounds")

    def realize(self) -> None:
        self.isa.map_ports(self.iobase, Region("tests-vase", 4, lambda offset, size: 0, lambda *_: None, (1, 1)))
        if self.irq is not None:
            self.isa.irq(self.irq)
        self.gpio_out("cracked")
        self.clock.timer(lambda: None)
        if self.chardev is not None:
            self.chardev.set_frontend(owner=self.path)
            self.on_unrealize(self.chardev.unset_frontend)


@type_init("block-tests-offset")
class OffsetImage(ImageFile):
    """A format of disk images: the disk begins some sectors into the file."""

    first: int = prop(1, "The first sector", type="uint16", max=63)

    def opened(self) -> int:
        return self.file_size // SECTOR - self.first

    def read_sectors(self, lba: int, count: int) -> bytes:
        return self.read_at((lba + self.first) * SECTOR, count * SECTOR)

    def write_sectors(self, lba: int, data: bytes) -> None:
        self.write_at((lba + self.first) * SECTOR, data)


@type_init("tests-tome")
class Tome(IsaDevice):
    """What stands on a shelf, and may refer to another thing there."""

    bus_type = "tests-shelf-bus"
    hotpluggable = True
    next_one: Any = link("tests-tome", "The one beside it")
    title: str = prop("untitled", "Its title")

    def realize(self) -> None:
        """Nothing to take."""


@type_init("tests-memo")
class Memo(Object, UserCreatable):
    """A user object."""

    text: str = prop("", "What it says", mutable=True)
    tome: Any = link("tests-memo", "Another one")


# What may be refused


OWN_CHECKS = {
    ("mc146818rtc", "base"): st.sampled_from(["2024-02-29T12:00:00", "1999-12-31T23:59:59"]),
    ("ide-hd", "serial"): st.text("ABC012", max_size=20),
    ("ide-hd", "model"): st.text("ABC 012", max_size=40).map(str.strip),
    ("ide-hd", "ver"): st.text("ABC.12", max_size=8),
    ("trace", "what"): st.lists(st.sampled_from(["ports", "memory", "exits", "lines", "lifecycle"]), min_size=1, unique=True),
    ("pci-testdev", "membar"): st.sampled_from([0, 16, "64k"]),
    ("vmgenid", "guid"): st.sampled_from(["auto", "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"]),
    ("VGA", "vgamem-mb"): st.sampled_from([1, 8, 16]),
    ("pc-i440fx-0.1-machine", "rtc-base"): st.sampled_from(["", "2024-02-29T12:00:00"]),
}  # fmt: skip
"""Properties that check more than their declaration says, by type and name: what they take."""

LEFT_ALONE = {
    ("qtest", "chardev"), ("qtest", "log"), ("fault-injector", "last"), ("trace", "last"), ("fault-injector", "fault"),
    ("chardev-file", "input-path"), ("trace", "file"), ("trace", "chardev"), ("chardev-socket", "host"),
    ("chardev-socket", "port"), ("chardev-socket", "path"), ("chardev-socket", "server"), ("chardev-socket", "wait"),
    ("chardev-socket", "reconnect"), ("chardev-socket", "nodelay"), ("fault-injector", "what"), ("ide-hd", "cyls"),
    ("ide-hd", "heads"), ("ide-hd", "secs"), ("isa-i8259", "slave"), ("isa-i8259", "master"), ("isa-serial", "index"),
    ("VGA", "romfile"),
}  # fmt: skip
"""Properties that are only of use together, or with something else that is there: set below, or not at all."""


ONCE = {"vmgenid", "ib700"}
"""Devices of which a machine takes one."""


# The shop


@attrs.frozen
class Bare:
    """What a machine type has before anything is added: its buses by path, and the types of its parts."""

    buses: dict[str, str]
    parts: frozenset[str]
    boards: bool  # serial ports, drives, a debug port
    offers: frozenset[str]  # what devices may need of a board


@attrs.define
class Shop:
    """What machines are made from."""

    types: TypeRegistry
    folder: Path
    bare: dict[str, Bare] = attrs.field(factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Shop:
        """With all that is installed, and some more."""
        types = default_registry()
        for made in (ShelfBus, Book, Shelf, Vase, OffsetImage, Tome, Memo):
            types.register(made, "tests")
        shop = cls(types, folder)
        for found in types.types("machine", abstract=False):
            build = ConfigBuilder()
            build.machine({"type": found.name}, WHERE)
            build.accel({"accel": "qtest"}, WHERE)
            build.memory({"size": "1M"}, WHERE)
            build.plain("nodefaults", True, WHERE)
            with VirtualMachine(build.finish(), types) as vm:
                vm.build()
                parts = frozenset(o.type_name for o in vm.machine.children().values())
                buses = {b.path: b.type_name for b in vm.buses()}
                shop.bare[found.name] = Bare(buses, parts, len(parts) > 3, vm.machine.offers)
        return shop

    def user_devices(self) -> list[Type]:
        """The device types that a person may add."""
        found = self.types.types("device", abstract=False)
        return [t for t in found if t.cls.user_creatable and not t.is_a("machine")]


@attrs.define
class Order:
    """One configuration while it is drawn."""

    shop: Shop
    draw: Any
    build: ConfigBuilder
    files: Iterator[Path]
    ports: Iterator[int]
    buses: dict[str, tuple[str, int]] = attrs.field(factory=dict)  # by name: type and room
    free_chardevs: list[str] = attrs.field(factory=list)
    free_drives: list[str] = attrs.field(factory=list)
    made: dict[str, str] = attrs.field(factory=dict)  # ids and types of devices
    objects: dict[str, str] = attrs.field(factory=dict)
    slots: list[int] = attrs.field(factory=lambda: list(range(8, 28)))

    def some(self, most: int) -> int:
        return int(self.draw(st.integers(0, most)))

    def chance(self) -> bool:
        return bool(self.draw(st.booleans()))

    # Values

    def value(self, owner: Type, found: Property) -> st.SearchStrategy[Any] | None:
        """What a property takes; None to leave it alone."""
        key = (owner.name, found.name)
        if key in OWN_CHECKS:
            return OWN_CHECKS[key]
        if key in LEFT_ALONE or (found.volatile and found.kind != "alias") or found.name == "bus":
            return None
        kind = found.kind
        if (
            owner.is_a("isa-device")
            and found.base == 16
            and kind in INT_RANGES
            and found.max != 0xFF
            and found.high > 0xFF
        ):
            return st.just(next(self.ports))
        if kind == "alias":
            return st.integers(1, 100)
        if found.choices is not None:
            return st.sampled_from(found.choices)
        if kind in INT_RANGES or kind == "size":
            low, high = found.limits()
            return st.integers(low, min(high, low + (1 << 20))) | st.sampled_from([low, high])
        if kind == "bool":
            return st.booleans() | st.sampled_from(["on", "off"])
        if kind == "str":
            return st.sampled_from(["", "a", "two words", "x=1,,y", "${z}", "ü"])
        if kind == "list":
            return st.lists(st.integers(-5, 5) if found.item != "str" else st.just("a"), max_size=3)
        if kind == "dict":
            return st.dictionaries(st.sampled_from("abc"), st.text("xy", max_size=2), max_size=2)
        return None

    def link(self, found: Property) -> str | None:
        """The id of something a link takes and nobody uses, or None."""
        if found.target in ("chardev", "drive", "block-backend"):
            pool = self.free_chardevs if found.target == "chardev" else self.free_drives
            return pool.pop() if pool else None
        places = {"/machine/peripheral/": self.made, "/objects/": self.objects}
        made = [
            place + id  # the path: an id may be that of a back end too
            for place, held in places.items()
            for id, name in held.items()
            if self.shop.types.is_a(name, found.target)
        ]
        return str(self.draw(st.sampled_from(made))) if made else None

    def props(self, owner: Type, most: int = 3) -> dict[str, Any] | None:
        """Values for what it requires and for a few more properties; None when something it requires is not there."""
        out: dict[str, Any] = {}
        declared = [p for p in owner.properties.values() if p.kind != "child" and (p.get is None or p.set is not None)]
        places = [p for p in declared if owner.is_a("isa-device") and p.base == 16 and p.high > 0xFF]
        chosen = (
            self.draw(st.lists(st.sampled_from(declared), max_size=most, unique_by=lambda p: p.name))
            if declared
            else []
        )
        for found in dict.fromkeys([*places, *(p for p in declared if p.required), *chosen]):
            if found.kind == "link":
                if (owner.name, found.name) in LEFT_ALONE or found.name == "bus":
                    continue
                target = self.link(found)
                if target is None and found.required:
                    return None
                if target is not None:
                    out[found.name] = target
            elif (values := self.value(owner, found)) is not None:
                out[found.name] = self.draw(values)
        return out


@st.composite
def configs(draw: st.DrawFn, shop: Shop) -> MachineConfig:
    """A machine that should build."""
    files = (shop.folder / f"file{n}" for n in range(10000))
    order = Order(shop, draw, ConfigBuilder(), files, iter(range(0x1000, 0xF000, 0x20)))
    build = order.build
    kinds = sorted(shop.bare, key=lambda name: (not shop.bare[name].boards, name))
    machine = shop.types.get(
        draw(st.sampled_from([*kinds, *(name for name in kinds if shop.bare[name].boards)] * 2 + kinds))
    )
    bare = shop.bare[machine.name]
    build.plain("nodefaults", True, WHERE)
    props = order.props(machine) or {}
    own = ("ram-size", "cpu-type", "firmware", "smp-")
    props = {n: v for n, v in props.items() if not n.startswith(own)}
    build.machine({"type": draw(st.sampled_from(_names(shop, machine))), **props}, WHERE)
    build.accel({"accel": draw(st.sampled_from(["simulated", "qtest"]))}, WHERE)
    _processors(order, machine.cls)
    _backends(order, bare)
    for path, kind in bare.buses.items():
        order.buses[path] = (kind, shop.types.get(kind).cls.max_devices or 99)
    if bare.boards:
        _ports_and_drives(order)
    for n in range(order.some(3)):
        found = draw(st.sampled_from([t for t in shop.types.types("user-creatable", abstract=False)]))
        given = _NEEDS.get(found.name, lambda _, given: given)(order, order.props(found))
        if given is not None:
            id = f"{draw(NAMES)}{n}"
            build.object({"qom-type": found.name, "id": id, **given}, WHERE)
            order.objects[id] = found.name
    for n in range(order.some(8)):
        _device(order, bare, n)
    if bare.boards:
        _board(order)
    if order.chance():
        build.config.devices[:] = draw(st.permutations(build.config.devices))
    for name in ("name", "uuid"):
        if order.chance():
            build.plain(name, str(draw(st.uuids())), WHERE)
    if order.chance():
        build.boot({"order": draw(st.sampled_from(["c", "dc", "n"])), "menu": order.chance()}, WHERE)
    if order.chance():
        build.global_(
            {"driver": "tests-vase", "property": "volume", "value": draw(st.sampled_from(["4k", 512]))}, WHERE
        )
    return build.finish()


def _names(shop: Shop, machine: Type) -> list[str]:
    names = [machine.name, *shop.types.aliases(machine.name)]
    return [*names, *(n.removesuffix("-machine") for n in names)]


def _processors(order: Order, machine: Any) -> None:
    draw, build = order.draw, order.build
    if machine.default_cpu_type is None:
        build.smp({"cpus": 1}, WHERE)
        return
    sockets, cores, threads = (draw(st.integers(1, 2)) for _ in range(3))
    maxcpus = sockets * cores * threads
    cpus = draw(st.integers(1, min(maxcpus, 3)))
    build.smp({"cpus": cpus, "sockets": sockets, "cores": cores, "threads": threads, "maxcpus": maxcpus}, WHERE)
    if order.chance():
        names = [t.name.removesuffix("-x86_64-cpu") for t in order.shop.types.types("x86_64-cpu", abstract=False)]
        names.remove("host")  # only KVM has it
        build.cpu(draw(st.sampled_from(names)), WHERE)
        features = draw(st.dictionaries(st.sampled_from(sorted(FEATURES)), st.booleans(), max_size=3))
        assert build.config.cpu is not None
        build.config.cpu.features.update(features)
    nodes, share = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    for n in range(nodes):
        build.numa({"nodeid": n, "mem": f"{share}M"}, WHERE)
    if not nodes:
        build.memory({"size": f"{draw(st.sampled_from([1, 2, 5]))}M"}, WHERE)
    elif nodes == 2 and order.chance():
        build.numa({"type": "dist", "src": 0, "dst": 1, "val": draw(st.integers(11, 255))}, WHERE)


def _backends(order: Order, bare: Bare) -> None:
    draw, shop = order.draw, order.shop
    kinds = [t for t in shop.types.types("chardev", abstract=False) if t.name != "chardev-stdio"]
    for n in range(order.some(3)):
        found = draw(st.sampled_from(kinds))
        given = order.props(found, 2) or {}
        if found.name == "chardev-file":
            given["path"] = str(next(order.files))
        if found.name == "chardev-socket":
            given = {"path": f"{next(order.files)}.sock", "server": True, "wait": False}
        if found.name == "chardev-udp":
            given = {"host": "127.0.0.1", "port": "9", "localaddr": "127.0.0.1"}
        if found.name == "chardev-pipe":
            given = {"path": f"{next(order.files)}.fifo"}  # a name that no other kind of file has, of another example
            if not os.path.exists(given["path"]):
                os.mkfifo(given["path"])
        if found.name == "chardev-mux" and "chardev" not in given:
            if not order.free_chardevs:
                continue
            given["chardev"] = order.free_chardevs.pop()
        given.pop("size", None)
        if "logfile" in given:
            given["logfile"] = str(next(order.files))
        id = f"{draw(NAMES)}{n}"
        order.build.chardev({"backend": found.name.removeprefix("chardev-"), "id": id, **given}, WHERE)
        order.free_chardevs.append(id)
    for n in range(order.some(2)):
        file = next(order.files)
        file.write_bytes(bytes(SECTOR * 64))
        id = f"{draw(NAMES)}{n}"
        said = {"file": str(file), "if": "none", "id": id, "snapshot": order.chance(), **_format(order)}
        order.build.drive(said, WHERE)
        order.free_drives.append(f"/drives/{id}")


def _ports_and_drives(order: Order) -> None:
    """What the board's own ports are given."""
    for n in range(order.some(2)):
        taken = order.free_chardevs.pop() if order.free_chardevs and order.chance() else None
        text = (
            f"chardev:{taken}" if taken else order.draw(st.sampled_from(["null", "none", f"file:{next(order.files)}"]))
        )
        order.build.serial(text, WHERE)
        del n
    if order.chance():
        order.build.debugcon(order.draw(st.sampled_from(["null", f"file:{next(order.files)}"])), WHERE)
    for n in order.draw(st.lists(st.integers(0, 3), max_size=2, unique=True)):
        file = next(order.files)
        file.write_bytes(bytes(SECTOR * 64))
        order.build.drive({"file": str(file), "index": n, "snapshot": order.chance(), **_format(order)}, WHERE)
        path = f"/machine/ide/ide.{n // 2}"
        if path in order.buses:
            kind, room = order.buses[path]
            order.buses[path] = (kind, room - 1)


def _format(order: Order) -> dict[str, Any]:
    """A drive's format, and a property of it."""
    said: dict[str, Any] = order.draw(
        st.sampled_from([{}, {"format": "raw"}, {"format": "tests-offset"}, {"format": "tests-offset", "first": 9}])
    )
    return said


def _board(order: Order) -> None:
    """Parts, wires and regions of the board taken out, changed and added."""
    for name in order.draw(st.lists(st.sampled_from(["pm", "port92", "fw_cfg"]), max_size=1)):
        order.build.part({"name": name, "remove": True}, WHERE)
    if order.chance():
        order.build.part({"name": "rtc", "props": {"extended": order.chance()}}, WHERE)
    if order.chance():
        said = {"name": "vase", "type": "tests-vase", "bus": "piix3.isa.0", "props": {"iobase": next(order.ports)}}
        order.build.part(said, WHERE)
        if order.chance():
            order.build.wire({"from": "vase.cracked", "to": f"gsi.board[{order.draw(st.integers(3, 7))}]"}, WHERE)
    if order.chance():
        order.build.wire({"from": "i8042.a20", "to": "a20.i8042", "remove": True}, WHERE)
    if order.chance():
        order.build.region({"name": "ledge", "kind": "ram", "size": "8k", "in": "memory", "at": "0xE8000000"}, WHERE)
        if order.chance():
            seen = {
                "name": "seen",
                "kind": "alias",
                "of": "ledge",
                "size": "4k",
                "offset": "4k",
                "readonly": order.chance(),
            }
            order.build.region({**seen, "in": "memory", "at": "0xE8010000"}, WHERE)


def _trace_to(order: Order, given: dict[str, Any] | None) -> dict[str, Any]:
    return {**(given or {}), "file": str(next(order.files))}


def _qtest_on(order: Order, given: dict[str, Any] | None) -> dict[str, Any]:
    id = next(order.files).name
    order.build.chardev({"backend": "null", "id": f"for-{id}"}, WHERE)
    return {
        **(given or {}),
        "chardev": f"for-{id}",
        "log": order.draw(st.sampled_from(["none", str(next(order.files))])),
    }


_NEEDS = {"trace": _trace_to, "qtest": _qtest_on}
"""Objects that are refused without something: what gives it to them."""


def _device(order: Order, bare: Bare, n: int) -> None:
    """One device, if there is a bus for the type that was drawn."""
    draw, types = order.draw, order.shop.types
    fitting = {
        t.name: t
        for t in order.shop.user_devices()
        if _buses_for(order, t) and t.cls.needs_of_board in ("", *bare.offers)
    }
    fixed = {
        name
        for name, t in fitting.items()
        if name in bare.parts and not any(p.base == 16 for p in t.properties.values())
    }
    fixed -= {name for name, t in fitting.items() if t.is_a("pci-device")}
    fixed |= ONCE & {entry.driver for entry in order.build.config.devices}
    if order.build._debugcon is not None:
        fixed.add("pc-testdev")  # which has ports around that one
    if not fitting.keys() - fixed:
        return
    rare = [name for name in ("tests-tome",) if name in fitting]  # needs a shelf first
    found = fitting[draw(st.sampled_from([*sorted(fitting.keys() - fixed, reverse=True), *rare * 4]))]
    given = order.props(found)
    if given is None:
        return
    bus = draw(st.sampled_from(_buses_for(order, found)))
    kind, room = order.buses[bus]
    order.buses[bus] = (kind, room - 1)
    if found.is_a("ide-device"):
        given.pop("unit", None)
    if found.is_a("pci-device"):
        given.pop("addr", None)
        if order.chance():
            given["addr"] = f"{order.slots.pop():02x}.0"
    brings = Probe(types).buses(found.name)
    id = f"{draw(NAMES)}{n}" if brings or order.chance() else None
    only = [b for b, (k, _) in order.buses.items() if k == kind] == [bus]
    said = {"driver": found.name, "id": id, "bus": None if only and order.chance() else bus, **given}
    order.build.device({key: value for key, value in said.items() if value is not None}, WHERE)
    if id is not None:
        order.made[id] = found.name
        for name, kind in brings.items():
            order.buses[f"{id}.{name}"] = (kind, types.get(kind).cls.max_devices or 99)


def _buses_for(order: Order, found: Type) -> list[str]:
    wanted = found.cls.bus_type
    return [
        name
        for name, (kind, room) in order.buses.items()
        if room > 0 and wanted and order.shop.types.is_a(kind, wanted)
    ]


def changes() -> st.SearchStrategy[list[tuple[str, int]]]:
    """What happens to a machine after it was built, for `change`."""
    return st.lists(
        st.tuples(st.sampled_from(["plug", "unplug", "set", "back end", "object"]), st.integers(0, 5)), max_size=5
    )


def change(vm: VirtualMachine, wanted: list[tuple[str, int]]) -> None:
    """Change a machine that was built; what does not apply to it is passed over."""
    for what, n in wanted:
        if what == "plug" and any(bus.is_a("PCI") for bus in vm.buses()):
            vm.add_device(DeviceEntry("tests-shelf", f"late{n}" if f"late{n}" not in _names_of(vm) else None))
        elif what == "unplug" and (going := [d for d in vm.added() if d.hotpluggable and _may_go(d)]):
            going[n % len(going)].unplug()
        elif what == "set":
            for memo in (o for o in vm.root.container("/objects").children().values() if o.is_a("tests-memo")):
                memo.set("text", f"changed {n}")
        elif what == "back end" and f"late{n}" not in vm.root.container("/chardevs").children():
            vm.add_chardev("chardev-null", f"late{n}", {})
        elif what == "object" and f"late{n}" not in vm.root.container("/objects").children():
            vm.add_object(ObjectEntry("tests-memo", f"late{n}", {"text": str(n)}))


def _names_of(vm: VirtualMachine) -> set[str | None]:
    return {device.name for device in vm.added()}


def _may_go(device: Device) -> bool:
    """Whether the device can leave: its bus lets it, and an equal one is not told from it by its number alone."""
    numbered = device.place() is None and device.name is not None and device.name.startswith(device.type_name)
    return device.bus is not None and device.bus.hotplug and not numbered


def built(config: MachineConfig, types: TypeRegistry) -> VirtualMachine | None:
    """The machine, or None when it is refused, as it may be, by a QomError."""
    vm = VirtualMachine(config, types)
    try:
        return vm.build()
    except QomError:
        return None
