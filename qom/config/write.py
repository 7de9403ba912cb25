"""Writing the model out: a `MachineConfig` as the text of a file in TOML, JSON or YAML.

`as_data` says everything in the file's own keys, as plain data; `dumps` spells that.  What a reader would fill in by
itself is left out: defaults, the topology that follows from a number of processors, places and ids of drives, back ends
that a port makes.  Numbers stay numbers and text stays text, so that reading the file gives an equal model (origins
aside).  A property declared with base 16 is spelled in hexadecimal where the format can (TOML, YAML).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from qom.config.blockdev import as_said
from qom.config.builder import TABLE_LISTS, parse_chardev_shorthand, parse_smp
from qom.config.model import (
    AccelChoice,
    ChardevEntry,
    DriveEntry,
    MachineConfig,
    NumaDistance,
    NumaNode,
    PartEntry,
    Smp,
)
from qom.errors import ConfigError, did_you_mean
from qom.options import Options
from qom.properties import format_size

if TYPE_CHECKING:
    from qom.registry import TypeRegistry

__all__ = ["FORMATS", "as_data", "dumps", "format_of"]

FORMATS: Final = ("toml", "json", "yaml")
"""The formats that can be written."""

WIDTH: Final = 100  # columns; a longer list is written one element a line
_SUFFIXES: Final = {".toml": "toml", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


class Hex(int):
    """An integer that is spelled in hexadecimal where the format can."""


def format_of(path: str, default: str = "toml") -> str:
    """The format that a file's name asks for by its suffix.

    Raises:
        ConfigError: the suffix is that of no format that can be written.
    """
    match = re.search(r"\.[^./]*$", path)
    if match is None:
        return default
    found = _SUFFIXES.get(match[0].lower())
    if found is None:
        raise ConfigError(f"cannot be written: expected a name that ends in {', '.join(_SUFFIXES)}", path)
    return found


def dumps(config: MachineConfig, format: str = "toml", registry: TypeRegistry | None = None) -> str:
    """The text of a file that says what `config` says.

    Args:
        config: complete, as `ConfigBuilder.finish` and `load` give it.
        format: one of `FORMATS`.
        registry: where to look up which numbers are to be hexadecimal; None: none are.

    Raises:
        ConfigError: an unknown format, or a value no file can hold (None, a date).
    """
    if format not in FORMATS:
        raise ConfigError(
            f"unknown format {format!r}: expected one of {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}"
        )
    data = as_data(config, registry)
    if format == "json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    return _toml(data) if format == "toml" else _yaml(data)


# What is said, in the order in which it is written


def as_data(config: MachineConfig, registry: TypeRegistry | None = None) -> dict[str, Any]:
    """What a file has to hold to say what `config` says: plain data by the file's keys, without what goes without saying.

    Raises:
        ConfigError: a value no file can hold.
    """
    shown = _Shown(registry)
    serials, parallels, debugcon, made = _ports(config)
    data: dict[str, Any] = {
        "name": _name(config),
        "uuid": config.uuid,
        "machine": {**_machine_type(config), **shown.machine(config.machine.type, config.machine.props)},
        "accel": _accelerators(config.accelerators),
        "cpu": _cpu(config),
        "smp": _smp(config.smp),
        "memory": None if config.memory is None else _size(config.memory),
        "numa": [*map(_numa_node, config.numa), *map(_numa_distance, config.numa_distances)],
        "firmware": config.firmware,
        "kernel": config.kernel,
        "initrd": config.initrd,
        "append": config.append,
        "boot": dict(config.boot) or None,
        "rtc": dict(config.rtc) or None,
        "action": dict(config.action) or None,
        "msg": dict(config.msg) or None,
        "pidfile": config.pidfile,
        "daemonize": config.daemonize or None,
        "data-dir": list(config.data_dirs),
        "echr": config.escape,
        "serial": serials,
        "parallel": parallels,
        "debugcon": debugcon,
        "vga": config.vga,
        "paused": config.paused or None,
        "preconfig": config.preconfig or None,
        "monitor": [
            _said(chardev=m.chardev, mode=m.mode if m.mode != "readline" else None, pretty=m.pretty or None)
            for m in config.monitors
        ]
        or ([{"backend": "none"}] if config.nographic and not config.nodefaults else []),
        "nographic": config.nographic or None,
        "nodefaults": config.nodefaults or None,
        "object": [{"qom-type": o.driver, "id": o.id, **shown.props(o.driver, o.props)} for o in config.objects],
        "chardev": [
            {"backend": c.backend, "id": c.id, **shown.props(f"chardev-{c.backend}", c.props)}
            for c in config.chardevs
            if c.id not in made
        ],
        "drive": [_drive(d) for d in config.drives if not d.node],
        "blockdev": [as_said(d, config.drives) for d in config.drives if d.node and not d.within],
        "device": [
            {**_said(driver=d.driver, id=d.id, bus=d.bus), **shown.props(d.driver, d.props)} for d in config.devices
        ],
        **{key: [dict(entry.said) for entry in getattr(config, field)] for key, field in TABLE_LISTS.items()},
        "part": [_part(p) for p in config.parts],
        "wire": [
            _said(**{"from": w.source, "to": w.target, "when": w.when, "remove": w.remove or None})
            for w in config.wires
        ],
        "region": [{"name": r.name, **r.props, **_said(remove=r.remove or None)} for r in config.regions],
        "global": [
            {"driver": g.driver, "property": g.property, "value": shown.value(g.driver, g.property, g.value)}
            for g in config.globals
        ],
        "log": _said(file=config.log.file, categories=config.log.categories or None) or None,
    }
    return {key: _plain(value, key) for key, value in data.items() if value is not None and value != []}


def _name(config: MachineConfig) -> str | dict[str, Any] | None:
    """The name alone, or what the process is called, too."""
    more = _said(process=config.process, **{"debug-threads": config.debug_threads or None})
    return {**_said(guest=config.name), **more} if more else config.name


def _machine_type(config: MachineConfig) -> dict[str, str]:
    """The key that says what machine it is."""
    if config.machine.board is not None:
        return {"board": config.machine.board}
    return {"type": config.machine.type}


def _part(part: PartEntry) -> dict[str, Any]:
    facts = {"name": part.name, "type": part.type, "bus": part.bus, "when": part.when, "for": part.use}
    tables = {"props": part.props, "links": part.links, "values": part.values}
    return {
        **_said(**facts),
        **{key: table for key, table in tables.items() if table},
        **_said(remove=part.remove or None),
    }


def _said(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def _plain(value: Any, where: str) -> Any:
    """`value` as a file holds it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, where) for v in value]
    if isinstance(value, str):
        return value.replace("${", "$${")  # plain text, no variable
    if not isinstance(value, bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(
            f"{where}: {value!r} cannot be written into a file: expected text, a number, true or false, a list or a table"
        )
    return value


class _Shown:
    """How the values of properties are shown: what the registry says is read in hexadecimal is marked so."""

    def __init__(self, registry: TypeRegistry | None) -> None:
        self._registry = registry

    def machine(self, name: str, props: Options) -> Options:
        """Of a machine, by its name as a user gives it."""
        found = self._registry.find_any((f"{name}-machine", name)) if self._registry is not None else None
        return self.props(found.name if found is not None else name, props)

    def props(self, type_name: str, props: Options) -> Options:
        return {name: self.value(type_name, name, value) for name, value in props.items()}

    def value(self, type_name: str, name: str, value: Any) -> Any:
        if self._registry is None or type(value) is not int or value < 0 or type_name not in self._registry:
            return value
        declared = self._registry.get(type_name).properties
        found = declared.get(name) or declared.get(name.replace("_", "-"))
        return Hex(value) if found is not None and found.base == 16 else value


def _accelerators(choices: Sequence[AccelChoice]) -> Any:
    if all(not c.options for c in choices):
        return ":".join(c.name for c in choices) or None
    return [{"accel": c.name, **c.options} for c in choices]


def _cpu(config: MachineConfig) -> Any:
    cpu = config.cpu
    if cpu is None or not cpu.features:
        return cpu.model if cpu is not None else None
    return {"model": cpu.model, "features": dict(cpu.features)}


def _smp(smp: Smp) -> dict[str, int] | None:
    """The fewest numbers from which the same topology follows."""
    wanted = attrs.evolve(smp, origin="")
    if wanted == Smp():
        return None
    said = {"cpus": smp.cpus} if smp.cpus == smp.maxcpus else {"cpus": smp.cpus, "maxcpus": smp.maxcpus}
    for name in ("sockets", "cores", "threads"):
        with contextlib.suppress(ConfigError):
            if parse_smp(dict(said)) == wanted:
                break
        said[name] = getattr(smp, name)
    return said


def _size(number: int) -> str:
    text = format_size(number)
    return f"{text}B" if text.isdigit() else text  # a bare number would count MiB


def _numa_node(node: NumaNode) -> dict[str, Any]:
    return _said(
        nodeid=node.nodeid,
        cpus=_runs(node.cpus) if node.cpus else None,
        mem=None if node.mem is None else _size(node.mem),
    )


def _numa_distance(distance: NumaDistance) -> dict[str, Any]:
    return {"type": "dist", "src": distance.src, "dst": distance.dst, "val": distance.val}


def _runs(numbers: Sequence[int]) -> str:
    """Processors as text: [0, 1, 2, 5] is "0-2,5"; the order is kept."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _drive(drive: DriveEntry) -> dict[str, Any]:
    on_board = drive.interface != "none"
    placed = drive.index is not None
    return _said(
        id=None if on_board and drive.id in ("", drive.own_id) else drive.id,
        file=drive.file,
        format=None if drive.format == "raw" else drive.format,
        **{"if": None if drive.interface == "ide" else drive.interface},
        index=drive.index,
        bus=None if placed else drive.bus,
        unit=None if placed else drive.unit,
        media=None if drive.media == "disk" else drive.media,
        readonly=True if drive.readonly and drive.media != "cdrom" else None,
        snapshot=drive.snapshot or None,
        **drive.props,
    )


def _ports(config: MachineConfig) -> tuple[list[str], list[str], str | None, set[str]]:
    """What `serial`, `parallel` and `debugcon` say, and the ids of the back ends that they make by saying it.

    A back end of a port is said at its port when the reader would make it there under the same id and at the same place
    among the back ends; otherwise it has a section of its own, and the port refers to it.
    """
    ports = [("debugcon", config.debugcon)]
    ports += ((f"serial{n}", id) for n, id in enumerate(config.serials))
    ports += ((f"parallel{n}", id) for n, id in enumerate(config.parallels))
    used = [id for _, id in ports]
    by_id = {c.id: c for c in config.chardevs}
    short = {
        id: text
        for id, wanted in ports
        if wanted == id and used.count(id) == 1 and id in by_id and (text := _shorthand(by_id[id])) is not None
    }
    rest = [c.id for c in config.chardevs if c.id not in short]
    if [c.id for c in config.chardevs] != rest + [id for id, _ in ports if id in short]:
        short = {}

    def spelled(ids: list[str | None]) -> list[str]:
        return ["none" if id is None else short.get(id) or f"chardev:{id}" for id in ids]

    said = spelled(config.serials)
    others_use_stdio = any(c.backend == "stdio" and c.id != "serial0" for c in config.chardevs)
    default = "null" if config.daemonize and not config.nographic else "stdio"
    if said == [default] and not (config.nodefaults or others_use_stdio or config.brings_serial):
        said = []  # what a reader adds by itself
    debugcon = None if config.debugcon is None else short.get("debugcon") or f"chardev:{config.debugcon}"
    return said, spelled(config.parallels), debugcon, set(short)


def _shorthand(entry: ChardevEntry) -> str | None:
    """The text by which a port makes such a back end; None when there is none."""
    text = f"file:{entry.props['path']}" if entry.backend == "file" and "path" in entry.props else entry.backend
    try:
        made = parse_chardev_shorthand(text, entry.id)
    except ConfigError:
        return None
    return text if made == attrs.evolve(entry, origin="") else None


# TOML


def _toml(data: dict[str, Any]) -> str:
    """Plain values first, as TOML wants it, then a table or an array of tables for each section."""
    head = {k: v for k, v in data.items() if not _is_section(v)}
    blocks = [_toml_lines(head)] if head else []
    for key, value in data.items():
        if _is_section(value):
            several = isinstance(value, list)
            title = f"[[{_toml_key(key)}]]" if several else f"[{_toml_key(key)}]"
            blocks += [[title, *_toml_lines(entry)] for entry in (value if several else [value])]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _toml_lines(table: Mapping[str, Any]) -> list[str]:
    return [line for key, value in table.items() for line in _toml_line(_toml_key(key), value)]


def _toml_line(key: str, value: Any) -> list[str]:
    line = f"{key} = {_toml_value(value)}"
    if isinstance(value, list) and len(line) > WIDTH:
        return [f"{key} = [", *(f"    {_toml_value(v)}," for v in value), "]"]
    return [line]


def _toml_key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _toml_text(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Hex):
        return f"{value:#x}"
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return repr(value)


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# YAML


def _yaml(data: dict[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """As safe_dump, with entries of lists indented and hexadecimal where it is wanted."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        # What is not printable is escaped (PyYAML folds unusual line ends away otherwise); what might be a number to
        # one reader of YAML and text to another is quoted.
        plain = value.isprintable() and value[:1] not in "0123456789+-."
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    Dumper.add_representer(Hex, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:int", f"{value:#x}"))
    return str(yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=WIDTH))
