"""Commands that add and remove devices, objects and back ends, and show which there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from qom.monitor.hmp.arguments import Expression, Rest, Word
from qom.monitor.hmp.declare import CommandError, Hmp, hmp_command
from qom.options import parse_options

UNMAPPED = (1 << 64) - 1


def creatable(hmp: Hmp) -> dict[str, Any]:
    """The device types that a user may add, by name."""
    types = hmp.vm.registry.types("device", abstract=False)
    return {found.name: found for found in types if found.cls.user_creatable and not found.is_a("machine")}


def _driver_and_properties(hmp: Hmp, begun: str) -> Iterable[str]:
    """What can stand next in driver,prop=value,..."""
    head, comma, _ = begun.rpartition(",")
    types = creatable(hmp)
    if not comma:
        return types
    found = types.get(head.partition(",")[0].removeprefix("driver="))
    if found is None:
        return ()
    return [f"{head},{name}=" for name in ("id", "bus", *_settable(found))]


def _settable(found: Any) -> list[str]:
    return [
        name for name, held in found.properties.items() if held.kind not in ("child", "alias") and name != "realized"
    ]


def _object_and_properties(hmp: Hmp, begun: str) -> Iterable[str]:
    head, comma, _ = begun.rpartition(",")
    if not comma:
        return hmp.vm.registry.names("user-creatable")
    name = head.partition(",")[0].removeprefix("qom-type=")
    if name not in hmp.vm.registry.names("user-creatable"):
        return ()
    return [f"{head},{name}=" for name in ("id", *_settable(hmp.vm.registry.get(name)))]


def _peripherals(hmp: Hmp, begun: str) -> Iterable[str]:
    return hmp.vm.root.container("/machine/peripheral").children()


def _objects(hmp: Hmp, begun: str) -> Iterable[str]:
    return hmp.vm.root.container("/objects").children()


def _chardevs(hmp: Hmp, begun: str) -> Iterable[str]:
    return hmp.vm.root.container("/chardevs").children()


def _backends(hmp: Hmp, begun: str) -> Iterable[str]:
    return [name.removeprefix("chardev-") for name in hmp.vm.registry.names("chardev")]


def _needs_id(options: dict[str, Any], what: str) -> None:
    if not options.get("id"):
        raise CommandError(f"{what}: expected id=NAME")


@hmp_command("device_add", preconfig=True, usage="driver[,prop=value][,...]")
def device_add(hmp: Hmp, device: Annotated[str, Rest(complete=_driver_and_properties)]) -> None:
    """add device, like -device on the command line"""
    hmp.call("device_add", dict(parse_options(device, "driver")))


@hmp_command("device_del", preconfig=True)
def device_del(hmp: Hmp, device: Annotated[str, Word(complete=_peripherals)]) -> None:
    """remove device"""
    hmp.call("device_del", {"id": device})


@hmp_command("object_add", preconfig=True, usage="[qom-type=]type,id=str[,prop=value][,...]")
def object_add(hmp: Hmp, object: Annotated[str, Rest(complete=_object_and_properties)]) -> None:
    """create QOM object"""
    options = dict(parse_options(object, "qom-type"))
    _needs_id(options, "object_add")
    hmp.call("object-add", options)


@hmp_command("object_del", preconfig=True)
def object_del(hmp: Hmp, id: Annotated[str, Word(complete=_objects)]) -> None:
    """destroy QOM object"""
    hmp.call("object-del", {"id": id})


@hmp_command("chardev-add")
def chardev_add(hmp: Hmp, args: Annotated[str, Rest(complete=_backends)]) -> str:
    """add chardev, like -chardev on the command line"""
    from qom.config.builder import ConfigBuilder

    origin = f"chardev-add {args}"
    builder = ConfigBuilder()
    builder.chardev(parse_options(args, "backend", origin), origin)
    entry = builder.config.chardevs[0]
    told: list[str] = []
    hmp.vm.add_chardev(f"chardev-{entry.backend}", entry.id, entry.props, entry.origin, tell=told.append)
    return "\n".join(told)


@hmp_command("chardev-remove")
def chardev_remove(hmp: Hmp, id: Annotated[str, Word(complete=_chardevs)]) -> None:
    """remove chardev"""
    found: Any = hmp.vm.root.container("/chardevs").children().get(id)
    if found is None:
        raise CommandError(f"Error: Chardev '{id}' not found")
    if found.frontend:
        raise CommandError(f"Error: Chardev '{id}' is busy: it is used by {found.frontend}")
    found.close()
    found.unparent()


@hmp_command("info chardev")
def info_chardev(hmp: Hmp) -> str:
    """show the character devices"""
    chardevs: dict[str, Any] = hmp.vm.root.container("/chardevs").children()
    return "\n".join(f"{name}: filename={chardevs[name].filename()}" for name in sorted(chardevs))


@hmp_command("ringbuf_read")
def ringbuf_read(
    hmp: Hmp, device: Annotated[str, Word(complete=_chardevs)], size: Annotated[int, Expression(bits=32)]
) -> str:
    """read from a ring buffer character device"""
    shown = str(hmp.qmp("ringbuf-read", device=device, size=size))
    return "".join(letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}" for letter in shown)


@hmp_command("ringbuf_write")
def ringbuf_write(hmp: Hmp, device: Annotated[str, Word(complete=_chardevs)], data: Annotated[str, Word()]) -> None:
    """write to a ring buffer character device"""
    hmp.qmp("ringbuf-write", device=device, data=data)


@hmp_command("info qdm")
def info_qdm(hmp: Hmp) -> str:
    """show the device types that a user can add"""
    groups: dict[str, list[str]] = {}
    for name, found in sorted(creatable(hmp).items()):
        bus = f", bus {found.cls.bus_type}" if found.cls.bus_type else ""
        groups.setdefault(found.cls.category, []).append(f'name "{name}"{bus}, desc "{found.cls.desc}"')
    return "\n\n".join("\n".join([f"{group} devices:", *lines]) for group, lines in sorted(groups.items()))


@hmp_command("info pci")
def info_pci(hmp: Hmp) -> str:
    """show PCI info"""
    buses = hmp.call("query-pci")
    return "\n".join(line for bus in buses for device in bus["devices"] for line in _pci_lines(device))


def _pci_lines(device: dict[str, Any]) -> list[str]:
    ids, what = device["id"], device["class_info"]
    kind = what.get("desc") or f"Class {what['class']:04d}"
    lines = [
        f"  Bus {device['bus']:2d}, device {device['slot']:3d}, function {device['function']}:",
        f"    {kind}: PCI device {ids['vendor']:04x}:{ids['device']:04x}",
    ]
    if "subsystem" in ids:
        lines.append(f"      PCI subsystem {ids['subsystem-vendor']:04x}:{ids['subsystem']:04x}")
    if device["irq_pin"]:
        lines.append(f"      IRQ {device['irq']}, pin {chr(ord('A') + device['irq_pin'] - 1)}")
    for region in device["regions"]:
        first = region["address"] & UNMAPPED
        last = first + region["size"] - 1 & UNMAPPED
        if region["type"] == "io":
            text = f"I/O at 0x{first:04x} [0x{last:04x}]."
        else:
            wide = "64 bit" if region["mem_type_64"] else "32 bit"
            fetch = " prefetchable" if region["prefetch"] else ""
            text = f"{wide}{fetch} memory at 0x{first:08x} [0x{last:08x}]."
        lines.append(f"      BAR{region['bar']}: {text}")
    return [*lines, f'      id "{device["qdev_id"]}"']


@hmp_command("info hotpluggable-cpus")
def info_hotpluggable_cpus(hmp: Hmp) -> str:
    """show the processors that are there or can be added"""
    lines = ["Hotpluggable CPUs:"]
    for found in hmp.call("query-hotpluggable-cpus"):
        lines += [f'  type: "{found["type"]}"', f'  vcpus_count: "{found["vcpus-count"]}"']
        if "qom-path" in found:
            lines.append(f'  qom_path: "{found["qom-path"]}"')
        lines.append("  CPUInstance Properties:")
        lines += [f'    {name}: "{value}"' for name, value in found["props"].items()]
    return "\n".join(lines)


@hmp_command("info memdev")
def info_memdev(hmp: Hmp) -> str:
    """show memory backends"""
    lines: list[str] = []
    for found in hmp.call("query-memdev"):
        lines.append(f"memory backend: {found.get('id', '')}")
        lines += [f"  {name}:  {_word(value)}" for name, value in found.items() if name != "id"]
        lines.append("")
    return "\n".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(each) for each in value) if isinstance(value, list) else str(value)


@hmp_command("info iothreads")
def info_iothreads(hmp: Hmp) -> str:
    """show iothreads"""
    found = hmp.call("query-iothreads")
    return "\n".join(f"{each['id']}: thread_id={each['thread-id']}" for each in found)


@hmp_command("info vm-generation-id")
def info_vm_generation_id(hmp: Hmp) -> str:
    """show the virtual machine generation ID"""
    return str(hmp.call("query-vm-generation-id")["guid"])
