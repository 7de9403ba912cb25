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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qom.config import SECTIONS, ConfigBuilder
from qom.config.files import read_file
from qom.config.model import MachineConfig
from qom.errors import ConfigError
from qom.options import Options, parse_options
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
    variables: Mapping[str, Any] | None = None,
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
        variables: values of the file's variables.
        registry: the types to build from; by default everything installed.

    Returns:
        The built machine; close it, or use it in a `with`.

    Raises:
        QomError: something is wrong in the file or a keyword (named by place), or cannot be built; nothing is left.
    """
    builder = ConfigBuilder()
    if file is not None:
        _read(builder, file, variables)
    elif variables:
        raise ConfigError("there is no file that could use variables", "variables=")
    plain = {"firmware": firmware, "kernel": kernel, "initrd": initrd, "append": append, "name": name}
    for key, text in plain.items():
        if text is not None:
            builder.plain(key, os.fspath(text), f"{key}=")
    for key, switch in (("nodefaults", nodefaults), ("no_reboot", no_reboot)):
        if switch:
            builder.plain(key, True, f"{key}=")
    if accel is not None:
        builder.config.accelerators.clear()
    single = isinstance(accel, str | Mapping) or accel is None
    lists: tuple[tuple[str, str, Iterable[Any]], ...] = (
        ("machine", "machine", () if machine is None else (machine,)),
        ("accel", "accel", () if accel is None else (accel,) if single else accel),
        ("smp", "smp", () if smp is None else (smp,)),
        ("memory", "memory", () if memory is None else (memory,)),
        ("object", "objects", objects),
        ("chardev", "chardevs", chardevs),
        ("drive", "drives", drives),
        ("device", "devices", devices),
    )
    for section, keyword, entries in lists:
        for n, entry in enumerate(entries):
            where = f"{keyword}[{n}]" if len(keyword) > len(section) else f"{keyword}="
            take, first = SECTIONS[section]
            take(builder, _options(entry, first, where), where)
    if cpu is not None:
        builder.cpu(cpu, "cpu=")
    for n, text in enumerate(serials):
        builder.serial(text, f"serials[{n}]")
    if debugcon is not None:
        builder.debugcon(debugcon, "debugcon=")
    for what, value in (globals or {}).items():
        driver, dot, property = what.rpartition(".")
        if not dot:
            raise ConfigError(f"{what!r}: expected TYPE.PROPERTY", "globals=")
        builder.global_({"driver": driver, "property": property, "value": value}, f"globals[{what!r}]")
    return build(builder.finish(), registry if registry is not None else default_registry())


def build(config: MachineConfig, registry: TypeRegistry) -> VirtualMachine:
    """The machine of a configuration, for a program: `stdio` is a console in memory."""
    for chardev in config.chardevs:
        if chardev.backend == "stdio":
            chardev.backend, chardev.props = "console", {}
    for entry in config.globals:
        registry.check_global(GlobalProperty(entry.driver, entry.property, entry.value, entry.origin))
    vm = VirtualMachine(config, registry)
    vm.announce = vm.log_lines.append
    return vm.build()


def _read(builder: ConfigBuilder, file: str | os.PathLike[str], variables: Mapping[str, Any] | None) -> None:
    read_file(builder, Path(file), variables)
    builder.on_top()


def _options(entry: int | Entry, first: str | None, where: str) -> Options:
    if isinstance(entry, Mapping):
        return dict(entry)
    if isinstance(entry, str):
        return parse_options(entry, first, origin=where)
    if first is None or isinstance(entry, bool) or not isinstance(entry, int):
        raise ConfigError(f"cannot be {entry!r}: expected a mapping or an option string", where)
    return {first: entry}
