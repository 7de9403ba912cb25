"""Configuration files: what the keys of TOML, JSON and YAML files mean, and which reader a file name asks for.

    [machine]
    type = "pc-i440fx"
    accel = "kvm:simulated"

    [[device]]
    driver = "isa-stopwatch"
    irq = 5

The three formats are spellings of one document (`qom.config.document`); `.cfg`, `.ini` and `.conf` are QEMU's
`-readconfig` format (`qom.config.ini`).  Names of images and kernels are relative to where the program runs, as on a
command line; names in `include` are relative to the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qom.config.builder import SECTIONS, TABLE_LISTS, ConfigBuilder
from qom.config.compose import compose
from qom.config.document import SUFFIXES, Document, Node, unreadable
from qom.config.model import MachineConfig
from qom.errors import ConfigError, did_you_mean
from qom.options import Taker

__all__ = ["INI_SUFFIXES", "KEYS", "load", "read_document_into", "read_file"]

_PLAIN = {
    "name": "name",
    "uuid": "uuid",
    "firmware": "firmware",
    "bios": "firmware",
    "kernel": "kernel",
    "initrd": "initrd",
    "append": "append",
    "pidfile": "pidfile",
    "vga": "vga",
}
_SWITCHES = {
    "paused": "paused",
    "preconfig": "preconfig",
    "nographic": "nographic",
    "nodefaults": "nodefaults",
    "daemonize": "daemonize",
}
_TEXTS = {"debugcon": ConfigBuilder.debugcon, "qtest": ConfigBuilder.qtest, "qtest-log": ConfigBuilder.qtest_log}
_ACTION_SWITCHES = {
    "no-reboot": ("reboot", "reset", "shutdown"),
    "no-shutdown": ("shutdown", "poweroff", "pause"),
}
"""Short spellings of an action: which, and what off and on mean."""
_LISTS = frozenset(
    {
        "device",
        "object",
        "chardev",
        "drive",
        "blockdev",
        "numa",
        "accel",
        "part",
        "wire",
        "region",
        "monitor",
        "trace",
        *TABLE_LISTS,
    }
)
_TABLES_ONLY = frozenset({"device", "object", "chardev", "blockdev", "numa"})
_OF_THE_FILE = ("include", "remove", "variables")
_BESIDE_THE_MACHINE = ("kernel", "initrd", "append", "bios")
_OTHER = ("cpu", "serial", "parallel", *_TEXTS, "global", "log", "snapshot", "data-dir", "echr", "set")
KEYS = (*_PLAIN, *_SWITCHES, *_ACTION_SWITCHES, *SECTIONS, *_OTHER, *_OF_THE_FILE)
"""What the top level of a configuration file may hold."""

INI_SUFFIXES = (".cfg", ".ini", ".conf")


def load(path: str | Path, variables: Mapping[str, Any] | None = None) -> MachineConfig:
    """The configuration in a file.

    Args:
        path: the file; its suffix says its format.
        variables: values for the variables that it declares: text, or what a file could hold.

    Raises:
        ConfigError: the first thing wrong, with "file:line:column".
    """
    builder = ConfigBuilder()
    read_file(builder, path, variables)
    return builder.finish()


def read_file(builder: ConfigBuilder, path: str | Path, variables: Mapping[str, Any] | None = None) -> bool:
    """Tell `builder` what the file at `path` says; arguments and errors as for `load`.

    A builder whose `report` does not raise is told of every error, and False comes back when nothing could be read.
    """
    suffix = Path(path).suffix.lower()
    if suffix in INI_SUFFIXES:
        for name, value in (variables or {}).items():
            text = f"{path} can declare no variables: it is a -readconfig file"
            builder.report(ConfigError(text, f"--var {name}={value}"))
        from qom.config.ini import read_ini

        try:
            read_ini(builder, path)
        except ConfigError as error:
            builder.report(error)
            return False
        return True
    if suffix not in SUFFIXES:
        known = ", ".join((*SUFFIXES, *INI_SUFFIXES))
        if unread := unreadable(Path(path)):
            builder.report(ConfigError(unread, str(path)))
            return False
        builder.report(ConfigError(f"what format this is in is not known: expected a name in {known}", str(path)))
        return False
    document = compose(path, variables, builder.report)
    if document is None:
        return False
    builder.complete = builder.complete and document.complete
    read_document_into(builder, document)
    return True


def read_document_into(builder: ConfigBuilder, document: Document) -> None:
    """Tell `builder` what a document says, key by key."""
    _check_actions(builder, document.root.value)
    for key, node in sorted(document.root.value.items(), key=lambda item: item[0] != "set"):
        if key not in _OF_THE_FILE:
            with builder.gathering():
                _key(builder, key, node)


def _check_actions(builder: ConfigBuilder, top: Mapping[str, Node]) -> None:
    """An action is said by its switch or in the table, not by both."""
    table = top["action"].value if "action" in top else {}
    for switch, (action, *_) in _ACTION_SWITCHES.items():
        if switch in top and isinstance(table, dict) and action in table:
            text = f"'{action}' and '{switch}' say the same thing: expected one of them"
            builder.report(table[action].error(text))


def _key(builder: ConfigBuilder, key: str, node: Node) -> None:
    value = node.plain()
    if key in _PLAIN and not (key == "name" and isinstance(value, dict)):
        if not isinstance(value, str):
            raise node.error(f"'{key}' cannot be {value!r}: expected a string")
        builder.plain(_PLAIN[key], value, node.origin)
    elif key in _SWITCHES:
        builder.plain(_SWITCHES[key], _switch(key, node), node.origin)
    elif key in _ACTION_SWITCHES:
        action, *meaning = _ACTION_SWITCHES[key]
        builder.table("action", {action: meaning[_switch(key, node)]}, node.origin)
    elif key == "snapshot":
        if _switch(key, node):
            builder.snapshot()
    elif key in SECTIONS:
        _section(builder, key, node)
    elif key == "cpu":
        _cpu(builder, node)
    elif key == "serial":
        for inner in _strings(node, key):
            builder.serial(inner.value, inner.origin)
    elif key == "parallel":
        for inner in _strings(node, key):
            builder.parallel(inner.value, inner.origin)
    elif key in _TEXTS:
        if not isinstance(value, str):
            raise node.error(f"'{key}' cannot be {value!r}: expected a string")
        _TEXTS[key](builder, value, node.origin)
    elif key == "global":
        for entry in node.value if isinstance(node.value, list) else [node]:
            with builder.gathering():
                if not isinstance(entry.value, dict):
                    raise entry.error(f"'global' cannot be {entry.plain()!r}: expected a [[global]] table")
                builder.global_(entry.plain(), entry.origin)
    elif key == "log":
        _log(builder, node)
    elif key == "set":
        for inner in _strings(node, key):
            builder.set_option(inner.value, inner.origin)
    elif key == "data-dir":
        for inner in _strings(node, key):
            builder.data_dir(inner.value)
    elif key == "echr":
        builder.escape(value, node.origin)
    elif key == "board" and isinstance(node.value, dict):
        raise node.error('this is a board, not a machine: expected a file with [machine] board = "NAME.toml"')
    else:
        raise node.error(f"unknown key '{key}'{did_you_mean(key, KEYS)}")


def _section(builder: ConfigBuilder, key: str, node: Node) -> None:
    section, first = SECTIONS[key]
    entries = [node]
    if isinstance(node.value, list) and key in _LISTS and (key in ("option-rom", "trace") or not _names(node)):
        entries = node.value
    for entry in entries:
        with builder.gathering():
            for inner in _BESIDE_THE_MACHINE if key == "machine" and isinstance(entry.value, dict) else ():
                if inner in entry.value:
                    text = (
                        f"'{inner}' is no property of a machine: expected it at the top of the file, beside 'machine'"
                    )
                    raise entry.value[inner].error(text)
            if isinstance(entry.value, dict):
                section(builder, entry.plain(), entry.origin)
            elif first is not None and key not in _TABLES_ONLY:
                section(builder, {first: entry.plain()}, entry.origin)
            else:
                raise entry.error(f"'{key}' cannot be {entry.plain()!r}: expected a [[{key}]] table")


def _cpu(builder: ConfigBuilder, node: Node) -> None:
    value: Any = node.plain()
    if isinstance(value, str):
        builder.cpu(value, node.origin)
        return
    if not isinstance(value, dict):
        raise node.error(f"'cpu' cannot be {value!r}: expected MODEL[,+feature] or a table")
    take = Taker(value, "cpu", node.origin, builder.report)
    model, features = take.needed("model"), take.raw("features") or {}
    take.done()
    if not isinstance(features, dict) or not all(isinstance(f, bool | int | str) for f in features.values()):
        text = f"'features' cannot be {features!r}: expected a table of feature = true or false, or of property = value"
        raise take.error(text, "features")
    builder.cpu(model, node.origin)
    assert builder.config.cpu is not None
    builder.config.cpu.features.update(features)


def _log(builder: ConfigBuilder, node: Node) -> None:
    if not isinstance(node.value, dict):
        raise node.error(f"'log' cannot be {node.plain()!r}: expected a [log] table")
    take = Taker(node.plain(), "log", node.origin, builder.report)
    file = take.text("file")
    take.raw("categories")
    take.done()
    if file is not None:
        builder.log_file(file, node.origin)
    if (categories := node.value.get("categories")) is not None:
        for inner in _strings(categories, "categories"):
            builder.log_categories(inner.value, inner.origin)


def _names(node: Node) -> bool:
    return bool(node.value) and all(isinstance(inner.value, str) for inner in node.value)


def _strings(node: Node, key: str) -> list[Node]:
    inner = [node] if isinstance(node.value, str) else node.value
    if not isinstance(inner, list) or not all(isinstance(part.value, str) for part in inner):
        raise node.error(f"'{key}' cannot be {node.plain()!r}: expected a string or a list of strings")
    return inner


def _switch(key: str, node: Node) -> bool:
    """True or false; the text of a variable may say on or off."""
    if isinstance(node.value, bool):
        return node.value
    found = {"on": True, "off": False}.get(node.value) if isinstance(node.value, str) else None
    if found is None:
        raise node.error(f"'{key}' cannot be {node.plain()!r}: expected true or false")
    return found
