"""The file format as a JSON Schema (2020-12), made from a registry: what an editor completes and checks files by.

Everything a machine file may hold is in it: each section, and in `device`, `object`, `chardev`, `machine` and `accel` the
properties of every type there is, in the box or not, with type, range, values, default and description.  Keys that
nobody knows are refused.  It judges a file alone, as it stands on the page: what comes from variables, repetition or an
included file it lets pass, and what only shows when a machine is built (a port taken twice, an id that is not there) it
does not know.
"""

from __future__ import annotations

import re
from typing import Final

from qom.config.blockdev import PROTOCOLS
from qom.config.builder import TABLE_LISTS
from qom.config.model import FORMAT_PREFIX, LOG_CATEGORIES, VGA_KINDS
from qom.config.schema_parts import entry_schemas
from qom.config.schema_values import (
    DEFS,
    DIALECT,
    Schema,
    add_other_names,
    concrete,
    declared_schema,
    number,
    one_of,
    one_or_several,
    settable,
    table,
    table_or,
)
from qom.config.tables import TABLES, Key
from qom.errors import ConfigError
from qom.registry import Type, TypeRegistry

__all__ = ["file_schema", "type_schema"]

_DEFAULT_MACHINE: Final = "pc-i440fx"


def file_schema(registry: TypeRegistry) -> Schema:
    """The schema of machine files, for the types there are in `registry`."""
    made = _Maker(registry)
    properties = made.top()
    return {
        "$schema": DIALECT,
        "title": "Machine file of qom",
        "description": "A machine as a TOML, JSON or YAML file",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "allOf": made.completeness(),
        "$defs": {**DEFS, **dict(sorted(made.defs.items()))},
    }


def type_schema(registry: TypeRegistry, name: str) -> Schema:
    """The schema of the entry that makes one object of the type `name`: its properties and what goes with them.

    Raises:
        ConfigError: there is no such type, or a file cannot name it.
    """
    made = _Maker(registry)
    found = registry.find_any((name, f"{name}-machine", f"chardev-{name}", f"{name}-accel"))
    if found is None:
        known = [n for section in made.kinds for n in made.all_names(section)]
        raise ConfigError(f"unknown type {name!r}{registry.suggest(name, known)}")
    for section, types in made.kinds.items():
        if found.name in types:
            return {
                "$schema": DIALECT,
                "title": f"{section}: {found.name}",
                "$ref": made.define(section, found),
                "required": made.required(section, found),
                "$defs": {**DEFS, **made.defs},
            }
    sections = ", ".join(made.kinds)
    raise ConfigError(f"type {found.name!r} is not one that a file names: expected one of a section {sections}")


# Sections that no type has a say in


_REPEAT: Final = {"repeat": {"$ref": "#/$defs/repeat"}}
_TEXT: Final = {"$ref": "#/$defs/text"}
_SWITCH: Final = {"$ref": "#/$defs/switch"}
_MEBIBYTES: Final = {"$ref": "#/$defs/mebibytes"}
_ID: Final = {"$ref": "#/$defs/id"}

MAIN_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "machine": ("type",),
    "accel": ("accel", "name"),
    "object": ("qom-type", "type", "driver"),
    "chardev": ("backend",),
    "device": ("driver",),
}
"""By section, the keys under which an entry names its type."""

ENTRY_KEYS: Final[dict[str, dict[str, Schema]]] = {
    "machine": {
        "board": {**_TEXT, "description": "A board file beside this one, in place of a type"},
        "accel": {"type": ["string", "array"], "description": "Accelerators to try, in order, as in kvm:simulated"},
        "memory": {**_MEBIBYTES, "description": "Guest memory"},
        "kernel-irqchip": {"type": "string", "description": "Passed on to the accelerator kvm"},
        "kernel_irqchip": {"type": "string", "description": "The same as kernel-irqchip", "deprecated": True},
    },
    "accel": {**_REPEAT},
    "object": {"id": _ID, **_REPEAT},
    "chardev": {
        "id": _ID,
        "nowait": {"description": "wait = false"},
        "noserver": {"description": "server = false"},
        **_REPEAT,
    },
    "device": {
        "id": _ID,
        "bus": {**_TEXT, "description": "Name or path of the bus; the first that fits without it"},
        **_REPEAT,
    },
}
"""By section, what an entry takes besides properties of its type."""

_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "machine": (),
    "accel": (),
    "object": ("id",),
    "chardev": ("backend", "id"),
    "device": ("driver",),
    "drive": ("file",),
    "blockdev": ("driver", "node-name"),
}
"""By section, the keys no entry can do without."""

VARIABLES: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "additionalProperties": {
        "if": {"type": "object"},
        "then": table({"required": _SWITCH, "desc": _TEXT, "default": {}}),
    },
    "description": "Variables with their defaults, or { required = true, desc = ... }; set by --var, used as ${name}",
}

SMP: Final[Schema] = {
    **table_or(
        number(1, 4096),
        {
            "cpus": {**number(1, 4096), "description": "Processors at start"},
            "sockets": {**number(1, 4096), "description": "Sockets"},
            "cores": {**number(1, 4096), "description": "Cores in a socket"},
            "threads": {**number(1, 4096), "description": "Threads of a core"},
            "maxcpus": {**number(1, 4096), "description": "Processors there may be"},
            **{name: number(1, 1) for name in ("dies", "clusters", "books", "drawers", "modules")},
        },
    ),
    "description": "Number of processors, or the topology: what is left out follows from the rest",
}

_CPUS: Final[Schema] = {
    "type": ["string", "integer", "array"],
    "items": {"type": ["string", "integer"]},
    "minimum": 0,
    "maximum": 4095,
    "description": "Processors by index: 3, 0-3, 0-1,4-5 or a list",
}
NUMA: Final[Schema] = {
    "type": "object",
    "properties": {"type": one_of(("node", "dist", "cpu"))},
    "if": {"properties": {"type": {"const": "dist"}}, "required": ["type"]},
    "then": table(
        {"type": {}, "src": number(0, 127), "dst": number(0, 127), "val": number(10, 255), **_REPEAT},
        ("src", "dst", "val"),
    ),
    "else": {
        "if": {"properties": {"type": {"const": "cpu"}}, "required": ["type"]},
        "then": table(
            {
                "type": {},
                **{f"{n}-id": number(0, 4095) for n in ("node", "socket", "core", "thread")},
                "nodeid": number(0, 127),
                **_REPEAT,
            }
        ),
        "else": table(
            {
                "type": {},
                "nodeid": number(0, 127),
                "cpus": _CPUS,
                "mem": {"anyOf": [{"const": 0}, _MEBIBYTES]},
                **_REPEAT,
            }
        ),
    },
}

_LETTERS: Final[Schema] = {
    "anyOf": [{"type": "string", "pattern": r"^(?!.*(.).*\1)[acdn]+$"}, {"$ref": "#/$defs/filled"}],
    "description": "Letters out of a, c, d, n, each once",
}
MONITOR: Final[Schema] = table(
    {
        "chardev": {**DEFS["text"], "description": "Id of the character back end"},
        "backend": {"$ref": "#/$defs/port", "description": "A back end to make for it; none: no monitor"},
        "mode": {**one_of(("readline", "control")), "description": "readline: for people; control: QMP"},
        "pretty": {"$ref": "#/$defs/yes", "description": "QMP over several lines"},
    },
    description="A monitor",
)
BOOT: Final[Schema] = {
    **table_or(
        _LETTERS,
        {
            "order": _LETTERS,
            "once": _LETTERS,
            "menu": _SWITCH,
            "strict": _SWITCH,
            "splash": {**_TEXT, "description": "Picture that is shown behind the menu"},
            "reboot-timeout": {
                **number(0, 65535),
                "description": "Milliseconds until it tries again when nothing boots",
            },
            "splash-time": {**number(0, 65535), "description": "Milliseconds that the menu is shown"},
        },
    ),
    "description": "Boot order",
}


def _of_table(name: str) -> Schema:
    """A table of plain facts."""
    keys = {key: {**_of_key(said), "description": said.desc} for key, said in TABLES[name].items()}
    return table({**keys, **_REPEAT} if name in TABLE_LISTS else keys)


def _of_key(said: Key) -> Schema:
    if said.kind == "switch":
        return _SWITCH
    if said.kind == "number":
        return number(said.low, said.high)
    if said.kind == "choice":
        among = [*said.among, *(int(word) for word in said.among if word.isdecimal())]
        return {"anyOf": [{"enum": among}, {"$ref": "#/$defs/filled"}]}
    return {"$ref": "#/$defs/names"} if said.kind == "words" else _TEXT


TRACE_KEYS: Final[dict[str, Schema]] = {
    "enable": {**_TEXT, "description": "Pattern of names of events"},
    "events": {**_TEXT, "description": "File with a pattern a line"},
    "file": {**_TEXT, "description": "Where they are written; standard error without it"},
    **_REPEAT,
}

_ROM: Final[Schema] = {"if": {"type": "string"}, "then": {}, "else": _of_table("option-rom")}

TABLE_SCHEMAS: Final[dict[str, Schema]] = {
    "rtc": {**_of_table("rtc"), "description": "The clock that keeps the date"},
    "action": {**_of_table("action"), "description": "What is done when the guest resets, shuts down, panics or is stuck"},
    "msg": {**_of_table("msg"), "description": "What messages begin with"},
    "smbios": {**one_or_several(_of_table("smbios")), "description": "What SMBIOS tables say"},
    "fw_cfg": {**one_or_several(_of_table("fw_cfg")), "description": "Items for the guest in fw_cfg"},
    "acpitable": {**one_or_several(_of_table("acpitable")), "description": "ACPI tables besides the machine's own"},
    "option-rom": {**one_or_several(_ROM), "description": "Option ROMs that the firmware runs"},
    "add-fd": {**one_or_several(_of_table("add-fd")), "description": "Descriptors that the process was started with"},
}  # fmt: skip
"""What the tables of plain facts take."""

DRIVE_KEYS: Final[dict[str, Schema]] = {
    "id": _ID,
    "file": {**_TEXT, "description": "Name of the image"},
    "if": {
        **one_of(("ide", "floppy", "none")),
        "description": "ide, floppy: on the board's controller; none: for a device",
    },
    "index": {**number(0, 3), "description": "Place on the board's controller: 2 * bus + unit"},
    "bus": number(0, 1),
    "unit": number(0, 1),
    "media": one_of(("disk", "cdrom")),
    "readonly": _SWITCH,
    "snapshot": {**_SWITCH, "description": "Keep what is written in memory only"},
    **_REPEAT,
}
"""What a drive takes besides its format, and besides properties of its format."""


_FILE_NODE: Final[dict[str, Schema]] = {
    "filename": {**_TEXT, "description": "Name of the file"},
    "locking": {
        "anyOf": [one_of(("auto", "on", "off")), _SWITCH],
        "description": "Lock the file against other writers",
    },
}
"""What a node of driver file takes."""

_NODE_KEYS: Final[dict[str, Schema]] = {
    "node-name": _ID,
    "read-only": _SWITCH,
    "auto-read-only": _SWITCH,
    "force-share": _SWITCH,
    "cache": table({"direct": _SWITCH, "no-flush": _SWITCH}),
    "cache.direct": _SWITCH,
    "cache.no-flush": _SWITCH,
    "discard": one_of(("ignore", "unmap")),
    "detect-zeroes": one_of(("off", "on", "unmap")),
    "aio": one_of(("threads", "native", "io_uring")),
    **_REPEAT,
}
"""What every block node takes; what is beside its name and read-only changes nothing."""


class _Maker:
    """Collects the definitions of types while the sections are made."""

    def __init__(self, registry: TypeRegistry) -> None:
        self.registry = registry
        self.defs: dict[str, Schema] = {}
        machines = concrete(self.registry, "machine")
        devices = [t for t in concrete(self.registry, "device") if t not in machines and t.cls.user_creatable]
        self.kinds: dict[str, dict[str, Type]] = {
            "machine": {t.name: t for t in machines},
            "accel": {t.name: t for t in concrete(self.registry, "accel")},
            "object": {t.name: t for t in concrete(self.registry, "user-creatable")},
            "chardev": {t.name: t for t in concrete(self.registry, "chardev")},
            "device": {t.name: t for t in devices},
        }
        """By section, the types that its entries name."""

    # Names

    def names(self, section: str, found: Type) -> list[str]:
        """What a file may call a type: its name and aliases, without what the section says already."""
        full = [found.name, *self.registry.aliases(found.name)]
        if section == "machine":
            return list(dict.fromkeys([*(n.removesuffix("-machine") for n in full), *full]))
        if section == "accel":
            return [n.removesuffix("-accel") for n in full]
        if section == "chardev":
            return [n.removeprefix("chardev-") for n in full]
        return full

    def all_names(self, section: str) -> list[str]:
        """What a section's entries may be called."""
        return [name for found in self.kinds[section].values() for name in self.names(section, found)]

    # Types

    def define(self, section: str, found: Type) -> str:
        """The reference to the definition of an entry for `found`; it is made when first asked for."""
        name = f"{section}.{found.name}"
        if name not in self.defs:
            props = settable(found)
            own = {**{n: declared_schema(self.registry, found, p) for n, p in props.items()}, **ENTRY_KEYS[section]}
            if section in MAIN_KEYS:
                main = one_of(self.names(section, found))
                own.update({key: {**main, "description": found.desc} for key in MAIN_KEYS[section]})
            add_other_names(own, name, props)
            self.defs[name] = table(own, description=found.desc)
        return f"#/$defs/{name}"

    def required(self, section: str, found: Type) -> list[str]:
        """The keys that an entry for `found` cannot do without."""
        return [*_REQUIRED[section], *(p.name for p in found.properties.values() if p.required)]

    def chosen(self, section: str) -> list[Schema]:
        """For each type of a section: when an entry names it, its definition holds."""
        types = self.kinds[section].values()
        return [{"if": self._named(section, t), "then": {"$ref": self.define(section, t)}} for t in types]

    def chosen_required(self, section: str) -> list[Schema]:
        """For each type of a section that requires properties: when an entry names it, they are there."""
        out: list[Schema] = []
        for found in self.kinds[section].values():
            wanted = [{"required": [p.name]} for p in found.properties.values() if p.required]
            either = [
                {"anyOf": [w, {"required": [w["required"][0].replace("-", "_")]}]} if "-" in w["required"][0] else w
                for w in wanted
            ]
            if either:
                out.append({"if": self._named(section, found), "then": {"allOf": either}})
        return out

    def _named(self, section: str, found: Type) -> Schema:
        """Whether an entry names the type, under one of the keys that can."""
        names = self.names(section, found)
        named: list[Schema] = [{"properties": {k: {"enum": names}}, "required": [k]} for k in MAIN_KEYS[section]]
        return named[0] if len(named) == 1 else {"anyOf": named}

    # Sections

    def top(self) -> dict[str, Schema]:
        """The top level of a file."""
        path = {"type": "string"}
        switches = {
            "paused": "Do not start the processors",
            "no-reboot": "End instead of rebooting: action.reboot",
            "no-shutdown": "Stop instead of ending when the guest shuts down: action.shutdown",
            "preconfig": "Wait for x-exit-preconfig before the board is built",
            "nographic": "No display; the first serial port and a monitor share standard input and output",
            "nodefaults": "No devices that were not asked for",
            "daemonize": "Go on in the background once the machine is there",
            "snapshot": "Keep what is written to any drive in memory only",
        }
        return {
            "include": {"$ref": "#/$defs/names", "description": "Files beside this one to take in first; this one wins"},
            "remove": {"$ref": "#/$defs/names", "description": "Ids of entries of included files to leave out"},
            "variables": VARIABLES,
            "name": {
                "if": {"type": "object"},
                "then": _of_table("name"),
                "else": path,
                "description": "Name of the machine, or that, and what the process is called",
            },
            "uuid": {
                "anyOf": [
                    {"type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
                    {"$ref": "#/$defs/filled"},
                ],
                "description": "Identity of the machine",
            },
            "machine": self._machine(),
            "accel": self._accel(),
            "cpu": self._cpu(),
            "smp": SMP,
            "memory": {**table_or(_MEBIBYTES, {"size": _MEBIBYTES}), "description": "Guest memory"},
            "numa": {**one_or_several(NUMA), "description": "NUMA nodes and distances"},
            "firmware": {**path, "description": "Firmware image; none: a kernel starts without firmware"},
            "bios": {**path, "description": "The same as firmware"},
            "kernel": {**path, "description": "Kernel: a Linux bzImage, an ELF file with a PVH note, a multiboot image"},
            "initrd": {**path, "description": "Initial RAM disk of the kernel, or its modules"},
            "append": {**path, "description": "Command line of the kernel"},
            "boot": BOOT,
            **TABLE_SCHEMAS,
            "trace": {
                **one_or_several({"if": {"type": "string"}, "then": {}, "else": table(TRACE_KEYS)}),
                "description": "Events that are written down",
            },
            "pidfile": {**path, "description": "File that holds the number of the process while the machine runs"},
            "data-dir": {"$ref": "#/$defs/names", "description": "Folders in which firmware is looked for first"},
            "echr": {**number(0, 255), "description": "Number of the letter that is a command after Ctrl (1 is A)"},
            "set": {"$ref": "#/$defs/names", "description": "Options of entries, as SECTION.ID.OPTION=VALUE"},
            "serial": {
                "anyOf": [{"$ref": "#/$defs/port"}, {"type": "array", "items": {"$ref": "#/$defs/port"}}],
                "description": "Back ends of the serial ports, in order",
            },
            "parallel": {
                "anyOf": [{"$ref": "#/$defs/port"}, {"type": "array", "items": {"$ref": "#/$defs/port"}}],
                "description": "Back ends of the parallel ports, in order",
            },
            "debugcon": {"$ref": "#/$defs/port", "description": "Back end of the debug port"},
            "qtest": {"$ref": "#/$defs/port", "description": "Back end on which a client of the qtest protocol is"},
            "qtest-log": {**path, "description": "File that what is said there is written to; none: nowhere"},
            "vga": {
                "anyOf": [{"enum": list(VGA_KINDS)}, {"$ref": "#/$defs/filled"}],
                "description": "Display adapter of the board",
            },
            **{name: {"$ref": "#/$defs/yes", "description": text} for name, text in switches.items()},
            "monitor": {**one_or_several(MONITOR), "description": "Monitors: QMP and the one for people"},
            "object": {**one_or_several(self._entry("object")), "description": "Objects under /objects"},
            "chardev": {**one_or_several(self._entry("chardev")), "description": "Character back ends"},
            "drive": {**one_or_several(self._drive()), "description": "Disk images"},
            "blockdev": {**one_or_several(self._blockdev()), "description": "Block nodes, as blockdev-add makes them"},
            "device": {**one_or_several(self._entry("device")), "description": "Devices to add"},
            "global": {**one_or_several(self._global()), "description": "Defaults for properties of every object of a type"},
            **{name: one_or_several(entry) for name, entry in self._board().items()},
            "log": table(
                {
                    "file": {**DEFS["text"], "description": "Where the log goes; standard error without it"},
                    "categories": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "array", "items": one_of(LOG_CATEGORIES)},
                        ],
                        "description": "What to log: " + "; ".join(f"{n}: {what}" for n, what in LOG_CATEGORIES.items()),
                    },
                },
                description="The log",
            ),
        }  # fmt: skip

    def completeness(self) -> list[Schema]:
        """What has to be said in a file that includes none, where nothing could be said elsewhere."""
        alone = {section: one_or_several({"required": list(keys)}) for section, keys in _REQUIRED.items() if keys}
        props = {
            section: one_or_several({"allOf": conditions})
            for section in ("device", "object", "chardev")
            if (conditions := self.chosen_required(section))
        }
        return [
            *self._unnamed_machine(),
            {"if": {"required": ["include"]}, "else": {"properties": alone}},
            {"if": {"anyOf": [{"required": ["include"]}, {"required": ["global"]}]}, "else": {"properties": props}},
        ]

    def _entry(self, section: str) -> Schema:
        """An entry of a list of objects, each named by its type."""
        keys = MAIN_KEYS[section]
        names = self.all_names(section)
        main = {**one_of(names), "description": f"Type of the {section}"}
        return {
            "type": "object",
            "properties": {**ENTRY_KEYS[section], **dict.fromkeys(keys, main)},
            "allOf": self.chosen(section),
        }

    def _board(self) -> dict[str, Schema]:
        """What changes the machine's board."""
        entries, defs = entry_schemas(self.registry)
        self.defs.update(defs)
        return entries

    def _drive(self) -> Schema:
        """A disk image: its format says what it takes."""
        formats = {
            t.name.removeprefix(FORMAT_PREFIX): t
            for t in concrete(self.registry, "block-backend")
            if t.name.startswith(FORMAT_PREFIX)
        }
        main = {**one_of(formats), "description": "Format of the image", "default": "raw"}
        chosen: list[Schema] = []
        for name, found in formats.items():
            props = {p.name: p for p in settable(found).values() if p.name not in DRIVE_KEYS}
            keys = {
                **DRIVE_KEYS,
                "format": {**main, "description": found.desc},
                **{n: declared_schema(self.registry, found, p) for n, p in props.items()},
            }
            add_other_names(keys, f"drive.{name}", props)
            self.defs[f"drive.{name}"] = table(keys, description=found.desc)
            named: Schema = {"properties": {"format": {"const": name}}}
            if name != "raw":
                named["required"] = ["format"]
            chosen.append({"if": named, "then": {"$ref": f"#/$defs/drive.{name}"}})
        return {"type": "object", "properties": {**DRIVE_KEYS, "format": main}, "allOf": chosen}

    def _blockdev(self) -> Schema:
        """A block node: its driver says what it takes."""
        formats = {
            t.name.removeprefix(FORMAT_PREFIX): t
            for t in concrete(self.registry, "block-backend")
            if t.name.startswith(FORMAT_PREFIX)
        }
        main = {**one_of((*PROTOCOLS, *formats)), "description": "file, or the format of what is in a file"}
        inner = {"driver": one_of(PROTOCOLS), **{k: v for k, v in _NODE_KEYS.items() if k != "repeat"}, **_FILE_NODE}
        below = {
            "if": {"type": "object"},
            "then": table(inner),
            "else": _TEXT,
            "description": "The file node below: its name, or what it is",
        }
        dotted = {f"file.{name}": said for name, said in inner.items()}
        chosen: list[Schema] = []
        for name in (*PROTOCOLS, *formats):
            keys = {**_NODE_KEYS, "driver": main}
            if name in PROTOCOLS:
                keys |= _FILE_NODE
            else:
                keys |= {"file": below, **dotted}
            if name in formats and name != "raw":
                found = formats[name]
                props = {p.name: p for p in settable(found).values() if p.name not in (*DRIVE_KEYS, *keys)}
                keys |= {n: declared_schema(self.registry, found, p) for n, p in props.items()}
                add_other_names(keys, f"blockdev.{name}", props)
            self.defs[f"blockdev.{name}"] = table(keys)
            named = {"properties": {"driver": {"const": name}}, "required": ["driver"]}
            chosen.append({"if": named, "then": {"$ref": f"#/$defs/blockdev.{name}"}})
        return {"type": "object", "properties": {**_NODE_KEYS, "driver": main}, "allOf": chosen}

    def _machine(self) -> Schema:
        main = {**one_of(self.all_names("machine")), "description": "Machine type"}
        return {
            "if": {"type": "object"},
            "then": {
                "properties": {**ENTRY_KEYS["machine"], "type": main},
                "allOf": self.chosen("machine"),
            },
            "else": main,
            "description": "The board: its type, and the properties that type has",
        }

    def _unnamed_machine(self) -> list[Schema]:
        """A table of a machine that does not say its type: that is the default one, or one an included file names."""
        default = self.registry.find_any((f"{_DEFAULT_MACHINE}-machine",))
        if default is None:
            return []
        nameless = {"type": "object", "not": {"anyOf": [{"required": ["type"]}, {"required": ["board"]}]}}
        machine = {"if": nameless, "then": {"$ref": self.define("machine", default)}}
        return [{"if": {"required": ["include"]}, "else": {"properties": {"machine": machine}}}]

    def _accel(self) -> Schema:
        names = self.all_names("accel")
        one = "|".join(map(re.escape, names))
        text = {
            "anyOf": [
                {"type": "string", "pattern": f"^({one})(:({one}))*$"},
                {"$ref": "#/$defs/filled"},
            ]
        }
        choice: Schema = {"anyOf": [text, {"type": "array", "items": one_of(names), "minItems": 1}]}
        keys = {"accel": choice, "name": choice}
        entry = {
            "type": "object",
            "properties": keys,
            "oneOf": [{"required": ["accel"]}, {"required": ["name"]}],
            "allOf": self.chosen("accel"),
        }
        plain = {"if": {"type": "string"}, "then": text, "else": entry}
        return {
            "if": {"type": "array"},
            "then": {"type": "array", "items": plain},
            "else": plain,
            "description": f"Accelerators to try, in order: {', '.join(names)}",
        }

    def _cpu(self) -> Schema:
        models: list[str] = []
        for found in concrete(self.registry, "cpu"):
            above = [t.name for t in found.lineage()[1:] if t.abstract and found.name.endswith(f"-{t.name}")]
            models.append(found.name.removesuffix(f"-{above[0]}") if above else found.name)
        name: Schema = {
            "anyOf": [
                {"enum": models},
                {"type": "string", "pattern": f"^({'|'.join(map(re.escape, models))}),[\\s\\S]*$"},
                {"$ref": "#/$defs/filled"},
            ]
        }
        features = {
            "type": "object",
            "additionalProperties": {"type": ["boolean", "integer", "string"]},
            "description": "Features switched on or off, and other properties of the model",
        }
        return {**table_or(name, {"model": name, "features": features}), "description": "Processor model and features"}

    def _global(self) -> Schema:
        types = {
            "driver": {**one_of([*(t.name for t in self.registry), *self.registry.aliases()]), "description": "Type"},
            "property": {**DEFS["text"], "description": "Name of the property"},
            "value": {
                "type": ["string", "integer", "number", "boolean", "array", "object"],
                "description": "The default",
            },
            "repeat": {"$ref": "#/$defs/repeat"},
        }
        return table(types, ("driver", "property", "value"))
