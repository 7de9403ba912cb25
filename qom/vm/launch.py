"""A machine as an object of a program: `open_machine`.

    with open_machine("vm.toml", memory="64M") as vm:
        vm.start()
        vm.console().read_until("login:")

The machine is the one that `qom run vm.toml` builds, with one difference: a program's own standard input and output are
its own, so what would be `stdio` is a console in memory (`vm.console("serial0")`), and so is the first serial port that
nobody said anything about.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qom.config import ConfigBuilder, read_file
from qom.config.compose import compose, laid_over
from qom.config.document import SUFFIXES, Document, Node
from qom.config.files import read_document_into
from qom.config.model import MachineConfig
from qom.errors import ConfigError
from qom.options import Options, Origin, parse_options
from qom.plugins import default_registry
from qom.registry import GlobalProperty, TypeRegistry
from qom.vm.vm import VirtualMachine

__all__ = ["open_machine"]

Entry = str | Mapping[str, Any]
"""What a file says in a table: as a mapping, or as the option string a command line would have."""


def open_machine(
    file: str | os.PathLike[str] | None = None,
    *,
    machine: Entry | None = None,
    accel: Entry | Sequence[Entry] | None = None,
    cpu: str | None = None,
    smp: int | Entry | None = None,
    memory: int | Entry | None = None,
    firmware: str | os.PathLike[str] | None = None,
    kernel: str | os.PathLike[str] | None = None,
    initrd: str | os.PathLike[str] | None = None,
    append: str | None = None,
    name: str | None = None,
    devices: Iterable[Entry] = (),
    objects: Iterable[Entry] = (),
    chardevs: Iterable[Entry] = (),
    drives: Iterable[Entry] = (),
    serials: Iterable[str] = (),
    debugcon: str | None = None,
    globals: Mapping[str, Any] | None = None,
    nodefaults: bool = False,
    no_reboot: bool = False,
    settings: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    types: Iterable[type] = (),
    registry: TypeRegistry | None = None,
) -> VirtualMachine:
    """Build the machine that a file describes, or keywords, or both; it stands still until `start`.

    Keywords say what the file's keys of that name say, in the same units, and come after the file.

    Args:
        file: a configuration file.
        machine: the machine type, with properties ("pc", "pc,a20-gate=off", {"type": "pc", "a20-gate": False}).
        accel: the accelerator ("simulated", "kvm:simulated", "qtest"), or several to try.
        cpu: the processor model ("qemu64,-sse2").
        smp: how many processors, or their topology.
        memory: guest memory: "64M", or a number of MiB.
        firmware, kernel, initrd: file names.
        append: the kernel's command line.
        name: the machine's name, in messages.
        devices, objects, chardevs, drives: what to add.
        serials: a back end for each serial port, as `-serial` takes it ("console", "file:PATH", "chardev:ID", "none").
        debugcon: a back end for the debug port E9h, likewise.
        globals: defaults of properties: {"isa-stopwatch.tick-ns": 5}.
        nodefaults: do not add the serial port that nobody asked for.
        no_reboot: end the machine where it would reset.
        settings: any other top-level keys of a file ({"boot": {"menu": True}, "numa": [...], "part": [...]}).
        variables: values of the file's variables.
        types: classes marked by `type_init` that this machine knows besides: a device that is being written.
        registry: the types to build from; by default everything installed.

    Returns:
        The built machine; close it, or use it in a `with`.

    Raises:
        QomError: something is wrong in the file or a keyword (named by place), or cannot be built; nothing is left.
    """
    said = _Keywords()
    for key, one in (("machine", machine), ("smp", smp), ("memory", memory)):
        if one is not None:
            said.add(key, _table(one, _FIRST[key], f"{key}="))
    if cpu is not None:
        said.add("cpu", cpu)
    if accel is not None:
        choices = [accel] if isinstance(accel, str | Mapping) else accel
        said.add("accel", said.entries(choices, "accel", "accel=" if choices == [accel] else None))
    plain = {"firmware": firmware, "kernel": kernel, "initrd": initrd, "append": append, "name": name}
    for key, text in plain.items():
        if text is not None:
            said.add(key, os.fspath(text))
    for key, switch in (("nodefaults", nodefaults), ("no-reboot", no_reboot)):
        if switch:
            said.add(key, True)
    for key, entries in (("object", objects), ("chardev", chardevs), ("drive", drives), ("device", devices)):
        if made := said.entries(entries, key):
            said.add(key, made)
    if ports := [_Said.at(text, f"serials[{n}]") for n, text in enumerate(serials)]:
        said.add("serial", ports)
    if debugcon is not None:
        said.add("debugcon", debugcon)
    if globals:
        said.add("global", [_global(what, value) for what, value in globals.items()])
    for key, value in (settings or {}).items():
        said.add(key, value, f"settings[{key!r}]")
    builder = ConfigBuilder()
    _tell(builder, file, variables, said.table())
    known = registry.fork() if registry is not None else default_registry()
    for cls in types:
        known.register(cls, "types=")
    return build(builder.finish(), known)


def build(config: MachineConfig, registry: TypeRegistry) -> VirtualMachine:
    """The machine of a configuration, for a program: `stdio` is a console in memory."""
    for chardev in config.chardevs:
        if chardev.backend == "stdio":
            chardev.backend, chardev.props = "console", {}
    for entry in config.globals:
        registry.check_global(GlobalProperty(entry.driver, entry.property, entry.value, entry.origin))
    vm = VirtualMachine(config, registry)
    vm.announce = vm.redirected = vm.log_lines.append
    return vm.build()


def _tell(
    builder: ConfigBuilder, file: str | os.PathLike[str] | None, variables: Mapping[str, Any] | None, over: Node
) -> None:
    """Tell `builder` what the file says, with the keywords over it."""
    nothing = over.with_value({})
    if file is None:
        if variables:
            raise ConfigError("there is no file that could use variables", "variables=")
        read_document_into(builder, laid_over(Document("", nothing), over))
    elif Path(file).suffix.lower() in SUFFIXES and (document := compose(Path(file), variables)) is not None:
        read_document_into(builder, laid_over(document, over))
    else:
        read_file(builder, Path(file), variables)
        builder.on_top()
        read_document_into(builder, Document("", over))


_FIRST = {
    "machine": "type", "accel": "accel", "smp": "cpus", "memory": "size",
    "object": "qom-type", "chardev": "backend", "drive": "file", "device": "driver",
}  # fmt: skip
"""What the bare first part of an option string is, by the file's key."""


class _Said(Node):
    """A value that a keyword gave; its place is that of the keyword, or of the entry in its list."""

    @classmethod
    def at(cls, value: Any, place: str) -> _Said:
        """`value` (a dict or list with values in it, too) as said at `place`."""
        if isinstance(value, Mapping):
            value = {str(key): cls.at(inner, place) for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            value = [inner if isinstance(inner, Node) else cls.at(inner, place) for inner in value]
        return cls(value, "", 0, 0, place)

    def with_value(self, value: Any, lost: Collection[str] = ()) -> _Said:
        return _Said(value, "", 0, 0, self.path)

    @property
    def origin(self) -> Origin:
        members = self.value.items() if isinstance(self.value, dict) else ()
        return Origin(self.path, {key: node.origin for key, node in members}, self.path)


class _Keywords:
    """The keywords as a file's top table."""

    def __init__(self) -> None:
        self._held: dict[str, Node] = {}

    def add(self, key: str, value: Any, place: str = "") -> None:
        """Say the file's key `key`.

        Raises:
            ConfigError: it was said already, under another keyword.
        """
        place = place or f"{key.replace('-', '_')}="
        if key in self._held:
            raise ConfigError(f"'{key}' is said by '{self._held[key].path}', too", place)
        self._held[key] = _Said.at(value, place)

    def entries(self, given: Iterable[Entry], key: str, place: str | None = None) -> list[Node]:
        """The entries of a list section."""
        places = ((entry, place or f"{_PLURAL.get(key, key)}[{n}]") for n, entry in enumerate(given))
        return [_Said.at(_table(entry, _FIRST[key], where), where) for entry, where in places]

    def table(self) -> Node:
        """All of them."""
        return _Said(self._held, "", 0, 0, "")


_PLURAL = {"object": "objects", "chardev": "chardevs", "drive": "drives", "device": "devices"}


def _global(what: str, value: Any) -> Node:
    driver, dot, property = what.rpartition(".")
    if not dot:
        raise ConfigError(f"{what!r}: expected TYPE.PROPERTY", "globals=")
    return _Said.at({"driver": driver, "property": property, "value": value}, f"globals[{what!r}]")


def _table(entry: int | Entry, first: str, where: str) -> Options:
    if isinstance(entry, Mapping):
        return dict(entry)
    if isinstance(entry, str):
        return parse_options(entry, first, origin=where)
    if isinstance(entry, bool) or not isinstance(entry, int):
        raise ConfigError(f"cannot be {entry!r}: expected a mapping or an option string", where)
    return {first: entry}
